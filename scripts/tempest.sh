#!/bin/bash
# Tempest, pinned, against a cloud of this tree.
#
#   scripts/tempest.sh [SUITE...]        runs the tests of tests/tempest/pass.txt; each must pass
#   scripts/tempest.sh --all [SUITE...]  runs every test of the suites, and names those of not-yet.txt that pass
#   ... --all --update                   moves these to pass.txt, and what fails to not-yet.txt with what it said
#   scripts/tempest.sh --check           only looks whether the two lists are what they should be
#
# A SUITE is a prefix of test names (tempest.api.image.v2.test_images); without one, all that are claimed. Both lists are
# sorted, have nothing in common, and together are the tests that Tempest has in the claimed suites: nothing is left out
# without a reason. A line of not-yet.txt is `TEST  # reason`.
#
#   UMBEL_TEST_CEPH_CONF      the cloud's pools are in this cluster (images and vms as image stores, volumes and vms as
#                             volume back ends); without it, local ones of the same names
#   UMBEL_TEST_GUEST_IMAGE    what tests boot; without it, a disk that does not
#   UMBEL                     the program; without it, target/debug/umbel is built
#   UMBEL_TEMPEST_CLOUD       directory of a cloud that runs already, instead of new ones; LENIENT tests are left out
#   UMBEL_TEMPEST_WORKERS     tests at a time, 2
#   UMBEL_TEMPEST_SET         SECTION.OPTION=VALUE ... over what tests/tempest/prepare.py writes, to look at one test
#   UMBEL_TEMPEST_KEEP        keeps the scratch directory (logs, tempest.conf) and says where it is
set -euo pipefail
cd "$(dirname "$0")/.."
ROOT=$PWD
HOME_DIR=$ROOT/tests/tempest
PASS=$HOME_DIR/pass.txt
NOT_YET=$HOME_DIR/not-yet.txt
CLAIMED=(tempest.api.identity tempest.api.image tempest.api.volume)
# Tests that upload what is not what its format says, or want images left without hashes: they run against a cloud of
# their own, whose image service does not look into what it is given (write_config says how).
FORMATS=tempest.api.image.v2.test_images_formats.ImagesFormatTest
LENIENT=(
    tempest.api.image.v2.test_images.ListUserImagesTest
    tempest.api.image.v2.test_images.LocationImportTest.test_add_location_with_do_secure_hash_false
    tempest.api.image.v2.test_images.MultistoreLocationImportTest.test_add_location_with_do_secure_hash_false
    $FORMATS.test_compute_rejects_format_mismatch
    $FORMATS.test_compute_rejects_invalid
)
VENV=$ROOT/.venv-tempest
PYTHON=/usr/bin/python3
[ -x $PYTHON ] || PYTHON=python3
# Comparisons are of bytes, wherever this runs.
export LC_ALL=C

ALL= UPDATE= CHECK= SUITES=()
for word in "$@"; do
    case $word in
        --all) ALL=1 ;;
        --update) UPDATE=1 ;;
        --check) CHECK=1 ;;
        -*) echo "use: scripts/tempest.sh [--check | [--all [--update]] [SUITE...]]" >&2; exit 2 ;;
        *) SUITES+=("$word") ;;
    esac
done
[ ${#SUITES[@]} -gt 0 ] || SUITES=("${CLAIMED[@]}")

say() { echo "tempest: $*" >&2; }
die() { say "$@"; exit 1; }

WORK=
PIDS=()

# What was started, and nothing else.
stop() {
    local pid
    for pid in "${PIDS[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
    PIDS=()
}

tear_down() {
    local code=$?
    trap - EXIT INT TERM
    stop
    if [ -n "${UMBEL_TEMPEST_KEEP:-}" ]; then
        say "kept: $WORK"
    elif [ -n "$WORK" ]; then
        rm -rf "$WORK"
    fi
    exit $code
}
trap tear_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- Tempest --------------------------------------------------------------------------------------------------------

made_from() { { $PYTHON --version; cat "$HOME_DIR/requirements.txt"; } | sha256sum | cut -d' ' -f1; }

# As scripts/osc-venv.sh: one that was made from this very list is used again.
make_venv() {
    [ "$(cat "$VENV/made-from" 2>/dev/null)" = "$(made_from)" ] && [ -x "$VENV/bin/stestr" ] && return
    $PYTHON -c 'import ensurepip, venv' 2>/dev/null || die "$PYTHON has no venv module. Run: scripts/deps.sh test"
    rm -rf "$VENV"
    $PYTHON -m venv "$VENV" >&2
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$HOME_DIR/requirements.txt" >&2
    "$VENV/bin/pip" check >&2
    made_from >"$VENV/made-from"
}

stestr() {
    (cd "$WORK" && TEMPEST_CONFIG_DIR=$WORK "$VENV/bin/stestr" --config "$WORK/stestr.conf" "$@")
}

# list_tests FILE: names with the attributes that Tempest puts behind them, `test[id-…,smoke]`: what stestr wants.
list_tests() {
    local packages
    packages=$("$VENV/bin/python" -c 'import os, tempest; print(os.path.dirname(os.path.dirname(tempest.__file__)))')
    printf '[DEFAULT]\ntest_path=%s\ntop_dir=%s\ngroup_regex=([^\\.]*\\.)*\n' \
        "$packages/tempest/test_discover" "$packages" >"$WORK/stestr.conf"
    [ -d "$WORK/.stestr" ] || stestr init >&2
    stestr list 'tempest\.api\.(identity|image|volume|compute)\.' >"$1"
    [ -s "$1" ] || die "Tempest lists no tests"
}

plain() { sed 's/\[.*//'; }

# of SUITE...: the lines that begin with one of them.
of() { grep -E "$(named "$@")" || true; }

# except SUITE...: the others.
except() { grep -vE "$(named "$@")" || true; }

named() {
    local expression
    expression=$(printf '|%s' "${@//./\\.}")
    echo "^(${expression:1})([.[ ]|$)"
}

# ---- lists ----------------------------------------------------------------------------------------------------------

names_of_not_yet() { sed 's/ .*//' "$NOT_YET"; }

sorted_once() {
    sort --check=quiet --unique "$1" || { say "$1 is not sorted, or has a line twice"; return 1; }
}

# complain TEXT: prints it with the lines of the standard input, if there are any.
complain() {
    local lines
    lines=$(cat)
    [ -z "$lines" ] && return
    say "$1"
    printf '%s\n' "$lines" | sed 's/^/    /' >&2
    return 1
}

check_lists() {
    local code=0
    sorted_once "$PASS" || code=1
    sorted_once "$NOT_YET" || code=1
    { grep -vE '^[A-Za-z0-9_.]+  # .*[^ ]$' "$NOT_YET" || true; } | complain "not-yet.txt has lines without a reason:" || code=1
    names_of_not_yet | sort >"$WORK/not-yet"
    comm -12 "$PASS" "$WORK/not-yet" | complain "in both lists:" || code=1
    sort -u "$PASS" "$WORK/not-yet" >"$WORK/known"
    plain <"$WORK/listed" | of "${CLAIMED[@]}" | sort -u >"$WORK/claimed"
    comm -13 "$WORK/known" "$WORK/claimed" | complain "in neither list:" || code=1
    comm -23 "$WORK/known" "$WORK/claimed" | complain "in a list, but no test of a claimed suite:" || code=1
    return $code
}

# ---- the cloud ------------------------------------------------------------------------------------------------------

# write_config KIND: of a `strict` cloud, or of a `lenient` one, which believes what it is told of images.
write_config() {
    local pool
    echo '[image]'
    echo 'stores = ["vms"]'
    printf '[image.options]\nweb_store = "web"\nshow_multiple_locations = true\n'
    if [ "$1" = lenient ]; then
        printf 'require_image_format_match = false\ndo_secure_hash = false\n'
    fi
    # Imports are downloaded from this machine.
    printf '[image.options.web_download]\nallowed_hosts = ["127.0.0.1"]\nallowed_ports = []\n'
    # Other than the order of names, so that a test can tell.
    printf '[image.options.store_weights]\nvms = 100\n'
    # The duration is prepare.py's too: long enough to be met by a test on a busy machine.
    printf '[identity.security_compliance]\nlockout_failure_attempts = 2\nlockout_duration = 15\n'
    printf 'unique_last_password_count = 2\n'
    printf '[volume]\npools = ["volumes", "vms"]\n'
    for pool in images vms volumes; do
        printf '[[pools]]\nname = "%s"\n' $pool
        if [ -n "${UMBEL_TEST_CEPH_CONF:-}" ]; then
            printf 'driver = "rbd"\nconf = "%s"\nuser = "umbel"\n' "$UMBEL_TEST_CEPH_CONF"
        else
            printf 'driver = "local"\n'
        fi
    done
}

await_line() {
    local pattern=$1 file=$2 pid=$3 round
    for round in $(seq 1800); do
        grep -qs "$pattern" "$file" && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    tail -20 "$file" >&2
    die "no '$pattern' in $file after $((round / 10)) s"
}

# start_cloud KIND: its state is WORK/KIND.
start_cloud() {
    local kind=$1
    if [ -z "${UMBEL:-}" ]; then
        cargo build --quiet --package umbel
        UMBEL=${CARGO_TARGET_DIR:-target}/debug/umbel
    fi
    write_config "$kind" >"$WORK/$kind.toml"
    "$UMBEL" up --config "$WORK/$kind.toml" --dir "$WORK/$kind" --port 0 >"$WORK/$kind.log" 2>&1 &
    PIDS+=($!)
    await_line 'umbel is up at' "$WORK/$kind.log" $!
}

# Serves WORK/web; its port is free and told on its first line.
start_web() {
    mkdir -p "$WORK/web"
    # That of the server before would name a port where nobody listens.
    rm -f "$WORK/web.log"
    "$PYTHON" -u -m http.server --bind 127.0.0.1 --directory "$WORK/web" 0 >"$WORK/web.log" 2>&1 &
    PIDS+=($!)
    await_line 'Serving HTTP' "$WORK/web.log" $!
    WEB=http://127.0.0.1:$(sed -n 's/.* port \([0-9]*\) .*/\1/p' "$WORK/web.log" | head -1)
    export WEB
}

# ---- a run ----------------------------------------------------------------------------------------------------------

with_status() { awk -F'\t' -v status="$1" '$1 == status { print $2 }' "$WORK/outcome" | sort -u; }

# What is to be run, with the attributes: of the suites that were asked for, by the lists.
choose_tests() {
    of "${SUITES[@]}" <"$WORK/listed" | sort >"$WORK/wanted"
    if [ -z "$ALL" ]; then
        awk 'NR == FNR { good[$0] = 1; next } { name = $0; sub(/\[.*/, "", name) } name in good' \
            "$PASS" "$WORK/wanted" >"$WORK/chosen"
        mv "$WORK/chosen" "$WORK/wanted"
    fi
    if [ -n "${UMBEL_TEMPEST_CLOUD:-}" ]; then
        except "${LENIENT[@]}" <"$WORK/wanted" >"$WORK/chosen"
        mv "$WORK/chosen" "$WORK/wanted"
    fi
    [ -s "$WORK/wanted" ] || die "no tests: ${SUITES[*]}"
    plain <"$WORK/wanted" | sort -u >"$WORK/ran"
    : >"$WORK/outcome"
}

# run_against KIND CLOUD: those of the standard input. They are listed again: some have a name for each sample in the
# manifest of images, which is known now.
run_against() {
    local kind=$1 cloud=$2
    plain >"$WORK/$kind.tests"
    [ -s "$WORK/$kind.tests" ] || return 0
    say "$(wc -l <"$WORK/$kind.tests") tests, $kind"
    [ -n "$cloud" ] || start_cloud "$kind"
    start_web
    KIND=$kind "$VENV/bin/python" "$HOME_DIR/prepare.py" "${cloud:-$WORK/$kind}" "$WORK" \
        ${UMBEL_TEST_GUEST_IMAGE:+"$UMBEL_TEST_GUEST_IMAGE"}
    list_tests "$WORK/$kind.listed"
    awk 'NR == FNR { good[$0] = 1; next } { name = $0; sub(/\[.*/, "", name) } name in good' \
        "$WORK/$kind.tests" "$WORK/$kind.listed" >"$WORK/$kind.load"
    # Its own verdict is not asked for: the lists decide.
    stestr run --load-list "$WORK/$kind.load" --concurrency "${UMBEL_TEMPEST_WORKERS:-2}" \
        >"$WORK/$kind.stestr" 2>&1 || true
    stestr last --subunit | "$VENV/bin/python" "$HOME_DIR/results.py" >"$WORK/$kind.outcome"
    [ -s "$WORK/$kind.outcome" ] || { tail -20 "$WORK/$kind.stestr" >&2; die "Tempest ran nothing"; }
    sort -t$'\t' -k2 "$WORK/$kind.outcome" "$WORK/outcome" >"$WORK/both"
    mv "$WORK/both" "$WORK/outcome"
    stop
}

run_tests() {
    choose_tests
    except "${LENIENT[@]}" <"$WORK/wanted" | run_against strict "${UMBEL_TEMPEST_CLOUD:-}"
    of "${LENIENT[@]}" <"$WORK/wanted" | run_against lenient ""
    with_status fail >"$WORK/failed"
    # A test with several samples has passed if none of them failed.
    with_status pass | grep '^tempest\.' | comm -23 - "$WORK/failed" >"$WORK/passed" || true
}

judge() {
    local code=0
    echo "tempest: $(comm -12 "$WORK/ran" "$WORK/passed" | wc -l) passed, $(wc -l <"$WORK/failed") failed," \
        "$(with_status skip | wc -l) skipped"
    awk -F'\t' '$1 == "fail" { print "  " $2 ": " $3 }' "$WORK/outcome"
    comm -12 "$PASS" "$WORK/ran" | comm -23 - "$WORK/passed" | complain "of pass.txt, did not pass:" || code=1
    if [ -n "$ALL" ]; then
        names_of_not_yet | sort | comm -12 - "$WORK/passed" >"$WORK/better"
        complain "of not-yet.txt, pass now:" <"$WORK/better" || true
    fi
    return $code
}

# A test that did not run for its class is given the class's failure.
update_lists() {
    touch "$PASS" "$NOT_YET"
    { comm -23 "$PASS" "$WORK/ran"; comm -12 "$WORK/ran" "$WORK/passed"; } | sort -u >"$WORK/pass.txt"
    comm -23 "$WORK/ran" "$WORK/passed" >"$WORK/others"
    {
        names_of_not_yet | sort | comm -23 - "$WORK/ran" | grep -F -f - "$NOT_YET" || true
        awk -F'\t' '
            NR == FNR { if ($1 != "pass") said[$2] = $3; next }
            { class = $1; sub(/\.[^.]*$/, "", class); whole = "setUpClass (" class ")"
              reason = ($1 in said) ? said[$1] : (whole in said) ? said[whole] : "did not run"
              gsub(/ +$/, "", reason); print $1 "  # " (reason == "" ? "no reason given" : reason) }' \
            "$WORK/outcome" "$WORK/others"
    } | sort -u >"$WORK/not-yet.txt"
    cp "$WORK/pass.txt" "$PASS"
    cp "$WORK/not-yet.txt" "$NOT_YET"
}

WORK=$(mktemp -d "${TMPDIR:-/var/tmp}/umbel-tempest.XXXXXX")
chmod 755 "$WORK"
make_venv
list_tests "$WORK/listed"
if [ -n "$CHECK" ]; then
    check_lists
    exit
fi
[ -n "$UPDATE" ] || check_lists
run_tests
if [ -n "$UPDATE" ]; then
    update_lists
    check_lists
fi
judge
