#!/bin/bash
# The figures of the README: starts private clouds, one after the other, and measures each by its public APIs.
#
#   bench/run.sh [OUT]      OUT (default .umbel/bench) gets each bench's table and JSON
#   ONLY="boot list"            only these benches
#   RUNS=10                     servers per size in `boot`, rounds of `volume`
#
#   cloud        hypervisor            disks                measured
#   local        QEMU                  local files          boot, batch of 20, token, volume, storage
#   ceph         QEMU                  a one-node Ceph      boot, batch of 20, volume, storage
#   scale        simulated, 10 hosts   the same Ceph        batch of 200
#   lists        simulated, 10 hosts   simulated            batch of 200, list with 0, 100 and 1,000 servers
#
# To measure another cloud, ours or upstream's, name it in clouds.yaml: `umbel bench boot --cloud NAME`.
set -euo pipefail
cd "$(dirname "$0")/.."

OUT=${1:-.umbel/bench}
ONLY=${ONLY:-boot batch token volume storage list}
RUNS=${RUNS:-10}
UMBEL=${CARGO_TARGET_DIR:-target}/release/umbel
# A disk leaves a running server when its guest lets go of it: `volume` boots this one.
GUEST=.umbel/guest.img
DEADLINE=60

die() { echo "bench: $*" >&2; exit 1; }

wanted() { case " $ONLY " in *" $1 "*) true ;; *) false ;; esac; }

STATE=
CLOUD_PID=

stop_cloud() {
    [ -n "$CLOUD_PID" ] || return 0
    kill "$CLOUD_PID" 2>/dev/null || true
    wait "$CLOUD_PID" || true
    CLOUD_PID=
}

tear_down() {
    local code=$?
    trap - EXIT
    set +e
    stop_cloud
    scripts/ceph-down.sh "$STATE/ceph" >/dev/null
    rm -rf "$STATE"
    exit $code
}

# start_cloud NAME ARGUMENTS...: a cloud of its own directory and port, for the benches that follow.
start_cloud() {
    local name=$1 log=$STATE/$1.log deadline=$((SECONDS + DEADLINE))
    shift
    echo "== $name"
    "$UMBEL" up --dir "$STATE/$name" --port 0 "$@" >"$log" 2>&1 &
    CLOUD_PID=$!
    until grep -q '^umbel is up' "$log"; do
        kill -0 "$CLOUD_PID" 2>/dev/null && [ $SECONDS -lt $deadline ] || { cat "$log" >&2; die "the cloud did not come up."; }
        sleep 0.05
    done
    grep -A 2 '^umbel is up' "$log"
    export OS_CLIENT_CONFIG_FILE=$STATE/$name/clouds.yaml
    CLOUD=$name
}

# measure BENCH ARGUMENTS...
measure() {
    wanted "$1" || return 0
    echo
    echo "-- $*"
    "$UMBEL" bench "$@" --json "$OUT/$CLOUD-$1.json" | tee "$OUT/$CLOUD-$1.txt"
}

simulated() { printf '[agent]\nhypervisor = "simulated"\nsimulated_hosts = 10\n%s' "$1"; }

simulated_pools() {
    local pool
    for pool in images vms volumes; do printf '[[pools]]\nname = "%s"\ndriver = "simulated"\n' $pool; done
}

scripts/deps.sh ceph
! wanted volume || scripts/guest-image.sh "$GUEST"
cargo build --release --package umbel
mkdir -p "$OUT"
STATE=$(mktemp -d /var/tmp/umbel-bench.XXXXXX)
trap tear_down EXIT
trap 'exit 130' INT TERM

start_cloud local
measure boot --runs "$RUNS"
measure batch --count 20
measure token
measure volume --runs "$RUNS" --guest "$GUEST"
measure storage
stop_cloud

if wanted boot || wanted batch || wanted volume || wanted storage; then
    # 200 servers of 2 GiB are promised more than the usual size has, thin as they are.
    OSD_SIZE_GIB=64 scripts/ceph-up.sh "$STATE/ceph" >/dev/null
    start_cloud ceph --ceph "$STATE/ceph/ceph.conf"
    measure boot --runs "$RUNS"
    measure batch --count 20
    measure volume --runs "$RUNS" --guest "$GUEST"
    measure storage --ceph "$STATE/ceph/ceph.conf"
    stop_cloud
fi

if wanted batch; then
    simulated "" >"$STATE/scale.toml"
    start_cloud scale --ceph "$STATE/ceph/ceph.conf" --config "$STATE/scale.toml"
    measure batch --count 200
    stop_cloud
fi

if wanted batch || wanted list; then
    simulated "$(simulated_pools)" >"$STATE/lists.toml"
    start_cloud lists --config "$STATE/lists.toml"
    measure batch --count 200
    measure list
    stop_cloud
fi

echo
echo "Tables and JSON are in $OUT."
