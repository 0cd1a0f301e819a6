#!/bin/bash
# Everything that is checked, fast to slow; `make test` and CI run this.
#
#   scripts/test.sh           installs what is missing, checks the source, starts the services, runs every test
#   scripts/test.sh check     the source only: format, layers, tidiness, links, lints
#
# Services are private, on free ports, below one scratch directory that goes at the end, however the run ends. Tests
# find them by environment:
#
#   UMBEL_TEST_POSTGRES_URL, UMBEL_TEST_MARIADB_URL    servers, without a database name       scripts/databases.sh
#   UMBEL_TEST_CEPH_CONF                               ceph.conf of a one-node cluster        scripts/ceph-up.sh
#   UMBEL_TEST_GUEST_IMAGE                             a raw disk that boots                  scripts/guest-image.sh
#   UMBEL_TEST_OPENSTACK                               the `openstack` command                scripts/osc-venv.sh
#   TMPDIR                                             in the scratch directory
#
# A test whose variable is missing fails; nothing is skipped. Tempest's tests of tests/tempest/pass.txt run against a
# cloud of this build (scripts/tempest.sh). What outlives a run on purpose: .venv, .venv-tempest, the guest image and
# cargo's target directory.
#
# The runner is cargo-nextest where it is installed (each test a process of its own), else `cargo test`: building nextest
# would cost every user minutes for the same answers. Either way the last line says how many tests ran.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "test: $*" >&2; }

STATE=
BEGAN=$(date +%s%N)
PHASES=()
TEMPEST_FAILED=
declare -A SERVICE_PIDS=()

# ---- time -----------------------------------------------------------------------------------------------------------

seconds_since() { awk "BEGIN { printf \"%.1f\", ($(date +%s%N) - $1) / 1e9 }"; }

# phase NAME COMMAND...: runs it under a heading and keeps its time.
phase() {
    local name=$1 began
    shift
    echo "== $name" >&2
    began=$(date +%s%N)
    "$@"
    PHASES+=("$(printf '%8s s  %s' "$(seconds_since "$began")" "$name")")
}

print_phases() {
    echo "== time so far" >&2
    printf '%s\n' "${PHASES[@]}" "$(printf '%8s s  together' "$(seconds_since "$BEGAN")")" >&2
}

# ---- services -------------------------------------------------------------------------------------------------------

# Each prints the lines its tests' environment needs to $STATE/env/NAME.
start_databases() { scripts/databases.sh up "$STATE/db"; }
start_ceph() {
    scripts/ceph-up.sh "$STATE/ceph" >&2
    echo "export UMBEL_TEST_CEPH_CONF=$STATE/ceph/ceph.conf"
}
build_guest() {
    scripts/guest-image.sh .umbel/guest.img >&2
    echo "export UMBEL_TEST_GUEST_IMAGE=$PWD/.umbel/guest.img"
}
make_client() { echo "export UMBEL_TEST_OPENSTACK=$(scripts/osc-venv.sh)"; }

start_service() {
    local name=$1
    shift
    "$@" >"$STATE/env/$name" 2>"$STATE/log/$name" &
    SERVICE_PIDS[$name]=$!
}

# Side by side with the compiler, which is what the run waits for anyway.
start_services() {
    # Readable for the databases' users, and short: paths of UNIX sockets below it end after 107 bytes.
    STATE=$(mktemp -d /var/tmp/umbel.XXXXXX)
    chmod 755 "$STATE"
    mkdir "$STATE"/{env,log,t}
    chmod 1777 "$STATE/t"
    # Inherited by every process that this run starts, which is how leftovers are known.
    export UMBEL_TEST_RUN=$STATE
    start_service databases start_databases
    start_service ceph start_ceph
    start_service guest build_guest
    start_service client make_client
}

await_services() {
    local name failed=0
    for name in "${!SERVICE_PIDS[@]}"; do
        if wait "${SERVICE_PIDS[$name]}"; then
            # shellcheck disable=SC1090
            . "$STATE/env/$name"
        else
            say "$name did not come up:"
            tail -20 "$STATE/log/$name" >&2
            failed=1
        fi
        unset "SERVICE_PIDS[$name]"
    done
    export TMPDIR=$STATE/t
    return $failed
}

# Processes that carry this run's mark in their environment, this shell and its children aside.
leftovers() {
    local file pid
    for file in /proc/[0-9]*/environ; do
        pid=${file//[^0-9]/}
        [ "$pid" != $$ ] && [ "$pid" != "$BASHPID" ] || continue
        if grep -qzxF "UMBEL_TEST_RUN=$STATE" "$file" 2>/dev/null; then echo "$pid"; fi
    done
}

# A passed test has stopped what it started; whatever remains is a fault of the product or of the test.
sweep() {
    local pid command found=1
    for pid in $(leftovers); do
        command=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) || continue
        [ -n "$command" ] || continue
        [ "$1" = quiet ] || say "left running by a test: $pid ${command:0:200}"
        kill -9 "$pid" 2>/dev/null || true
        found=0
    done
    return $found
}

tear_down() {
    local code=$? pid
    trap - EXIT INT TERM
    set +e
    [ -n "$STATE" ] || exit $code
    for pid in "${SERVICE_PIDS[@]}"; do wait "$pid"; done
    scripts/ceph-down.sh "$STATE/ceph" >/dev/null
    scripts/databases.sh down "$STATE/db"
    if [ $code = 0 ]; then
        if sweep loud; then code=1; fi
    else
        sweep quiet
    fi
    rm -rf "$STATE"
    exit $code
}

# ---- phases ---------------------------------------------------------------------------------------------------------

check_layout() {
    cargo fmt --all --check
    cargo xtask all
}

lint() { cargo clippy --workspace --all-targets -- --deny warnings; }

has_nextest() { [ -z "${UMBEL_TEST_RUNNER:-}" ] && cargo nextest --version >/dev/null 2>&1; }

build() {
    # Binaries too: the end-to-end tests run the real one.
    cargo build --workspace --all-targets
}

# Their output is a page of zeros: shown when something failed.
doc_tests() {
    cargo test --workspace --doc >"$STATE/log/doc" 2>&1 || { cat "$STATE/log/doc" >&2; return 1; }
}

# Its failure is remembered, and does not hide what the other tests say.
tempest() { UMBEL=${CARGO_TARGET_DIR:-target}/debug/umbel scripts/tempest.sh "$@" || TEMPEST_FAILED=1; }
tempest_on_local_disks() { (unset UMBEL_TEST_CEPH_CONF; tempest "$@"; [ -z "$TEMPEST_FAILED" ]) || TEMPEST_FAILED=1; }

run_tests() {
    if has_nextest; then
        cargo nextest run --workspace --profile ci "$@"
        return
    fi
    say "cargo-nextest is not installed: using cargo test"
    plain_tests "$@"
}

# `cargo test` prints a count per binary; the last line adds them up in nextest's words.
plain_tests() {
    local log=$STATE/log/tests began code=0
    began=$(date +%s%N)
    # One cloud at a time in the second, as in .config/nextest.toml.
    (
        failed=0
        cargo test --workspace --exclude umbel-e2e --lib --bins --tests --no-fail-fast || failed=1
        cargo test --package umbel-e2e --no-fail-fast -- --test-threads 1 || failed=1
        exit $failed
    ) 2>&1 | tee "$log" || code=1
    awk -v seconds="$(seconds_since "$began")" '
        /^test result: / { passed += $4; failed += $6; skipped += $8 }
        END { printf "     Summary [%8ss] %d tests run: %d passed, ", seconds, passed + failed, passed
              if (failed) printf "%d failed, ", failed
              printf "%d skipped\n", skipped }' "$log"
    return $code
}

trap tear_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

case ${1:-} in
    check)
        phase "format, layers, tidiness, links" check_layout
        phase "lints" lint
        print_phases
        ;;
    "")
        phase "packages" scripts/deps.sh test
        phase "format, layers, tidiness, links" check_layout
        start_services
        phase "lints" lint
        phase "build" build
        phase "services" await_services
        phase "tests in documents" doc_tests
        phase "tempest" tempest
        phase "tempest, images and volumes on local disks" tempest_on_local_disks tempest.api.image tempest.api.volume
        # Before the tests, so that the runner's own summary is the last thing on the screen.
        print_phases
        echo "== tests" >&2
        run_tests
        [ -z "$TEMPEST_FAILED" ] || { say "all of these passed, but Tempest did not: see above"; exit 1; }
        ;;
    *)
        say "use: scripts/test.sh [check]"
        exit 2
        ;;
esac
