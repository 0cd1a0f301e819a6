#!/bin/bash
# A private one-node Ceph for development and tests: one monitor, one manager, one OSD on a sparse file, all below DIR.
#
#   scripts/ceph-up.sh [DIR]        DIR defaults to ./.umbel/ceph, or to $DIR
#   PORT=13300                      monitor's msgr2 port, msgr1 is the next one; without PORT a free pair is taken
#   ADDR=127.0.0.1                  address the daemons listen on
#   OSD_SIZE_GIB=20                 size of the OSD's file; it is sparse, and stays on the file system it was made on
#   POOLS="images vms volumes"      pools that are made, and that client.umbel may use
#
# A full pool is had with a quota rather than with a small file: `ceph -c DIR/ceph.conf osd pool set-quota vms max_bytes
# 8388608` (0 takes it back; the flag follows within a few seconds).
#
# Running it again says what runs already; after ceph-down.sh it starts the daemons over the same data. The cluster
# has cephx on and two users, client.admin and client.umbel (caps `profile rbd` only, as docs/ceph.md asks of
# production), and both are found through DIR/ceph.conf.
#
# It is no production recipe: one copy of everything, small caches, no scrubs, no admin sockets (their paths may not pass
# 107 bytes, and DIR may be deep; `ceph tell` serves as well).
set -euo pipefail

DIR=${1:-${DIR:-./.umbel/ceph}}
ADDR=${ADDR:-127.0.0.1}
OSD_SIZE_GIB=${OSD_SIZE_GIB:-20}
POOLS=${POOLS:-images vms volumes}
PACKAGES="ceph-mon ceph-mgr ceph-osd ceph-common"

die() { echo "ceph-up: $*" >&2; exit 1; }

require_packages() {
    local tool
    for tool in ceph-mon ceph-mgr ceph-osd ceph ceph-authtool monmaptool rbd; do
        command -v "$tool" >/dev/null && continue
        die "$tool is missing. Run: apt-get update && apt-get install -y --no-install-recommends $PACKAGES"
    done
}

# A pid file may outlive its process and the pid may be another's by now: the command line tells.
runs() {
    local pid
    pid=$(cat "$DIR/run/$1.pid" 2>/dev/null) || return 1
    [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$DIR/ceph.conf"
}

# From the kernel's table, which is always there; `ss` is not.
port_taken() {
    local hex
    hex=$(printf '%04X' "$1")
    awk -v want=":$hex" '$4 == "0A" && substr($2, length($2) - 4) == want { found = 1 } END { exit !found }' \
        /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# Without PORT, a pair at random, so that clusters that start together do not meet; below the range from which the kernel
# gives ports to outgoing connections, none of which is a listener that `port_taken` would see.
choose_port() {
    if [ -n "${PORT:-}" ]; then
        if port_taken "$PORT" || port_taken $((PORT + 1)); then die "port $PORT or $((PORT + 1)) is taken."; fi
        MON_PORT=$PORT
        return
    fi
    while :; do
        MON_PORT=$((10000 + RANDOM % 5000 * 2))
        if ! port_taken $MON_PORT && ! port_taken $((MON_PORT + 1)); then return; fi
    done
}

uuid() { cat /proc/sys/kernel/random/uuid; }

authtool() { ceph-authtool "$@" >/dev/null; }

admin() { timeout 60 ceph -c "$DIR/ceph.conf" "$@"; }

write_conf() {
    cat >"$DIR/ceph.conf" <<CONF
[global]
fsid = $FSID
mon host = [v2:$ADDR:$MON_PORT,v1:$ADDR:$((MON_PORT + 1))]
mon initial members = a
public addr = $ADDR
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = $DIR/ceph.\$name.keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0

[client]
# With two threads librbd 16 may free an image that is opened and closed at once while it still looks at its state, and the
# program (rbd, QEMU) aborts; seen on a busy machine. docs/ceph.md says more.
librados thread count = 1

[mon]
mon data = $DIR/mon
keyring = $DIR/mon/keyring
log file = $DIR/log/mon.log
pid file = $DIR/run/mon.pid
run dir = $DIR/run
crash dir = $DIR/log
admin socket =
# Every snapshot made or removed is a commit of the monitor, and it gathers commits for this long (default: 1 s).
paxos propose interval = 0.05
paxos min wait = 0.01
# Clone v2: a snapshot with clones can be removed without being unprotected or flattened.
mon osd initial require min compat client = mimic
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
mon data avail crit = 1
mon data avail warn = 2
mon memory autotune = false
rocksdb cache size = 33554432
debug mon = 0
debug paxos = 0
debug ms = 0
debug rocksdb = 0

[mgr]
mgr data = $DIR/mgr
keyring = $DIR/mgr/keyring
log file = $DIR/log/mgr.log
pid file = $DIR/run/mgr.pid
run dir = $DIR/run
crash dir = $DIR/log
admin socket =
# The monitor knows how full pools are from what the manager sends it, this often (seconds).
mgr tick period = 1
mgr stats period = 1
debug ms = 0

[osd]
osd data = $DIR/osd\$id
keyring = $DIR/osd\$id/keyring
log file = $DIR/log/osd.log
pid file = $DIR/run/osd.pid
run dir = $DIR/run
crash dir = $DIR/log
admin socket =
bluestore block size = $((OSD_SIZE_GIB * 1073741824))
bluestore cache autotune = false
bluestore cache size = 134217728
osd memory target = 939524096
osd scrub load threshold = 0.001
# A machine that compiles at the same time may leave the OSD without a processor for longer than the default 20 s.
osd heartbeat grace = 60
# How long an OSD may answer reads without having heard from the others, in units of the grace: an hour. Once that has run
# out, a placement group of one copy stays "laggy" until its OSD starts again, and answers nothing (Ceph 16: only another
# copy's word lets it go on). An OSD that is stopped for 48 s, the default, is as good as lost then.
osd pool default read lease ratio = 60
# A client that is killed while its watch of an image is being written down leaves a watch that the OSD does not know to be
# over until it reads the object anew (Ceph 16), and an image that is watched cannot be removed. An OSD keeps 64 objects per
# placement group in mind, which a cluster in use passes through in no time, and a cluster of tests never.
osd pg object context cache count = 0
debug osd = 0
debug bluestore = 0
debug bluefs = 0
debug ms = 0
debug rocksdb = 0
CONF
}

# One name of a pool, or several, as caps name them: "profile rbd pool=a, profile rbd pool=b".
rbd_caps() {
    local pool caps=
    for pool in $POOLS; do caps="$caps${caps:+, }profile rbd pool=$pool"; done
    echo "$caps"
}

# The monitor takes every key it is made with: no user has to be added over the wire later.
make_monitor() {
    local keys=$DIR/mon.keyring caps
    caps=$(rbd_caps)
    authtool --create-keyring "$DIR/ceph.client.admin.keyring" --gen-key -n client.admin \
        --cap mon 'allow *' --cap osd 'allow *' --cap mds 'allow *' --cap mgr 'allow *'
    authtool --create-keyring "$DIR/ceph.client.umbel.keyring" --gen-key -n client.umbel \
        --cap mon 'profile rbd' --cap osd "$caps" --cap mgr "$caps"
    authtool --create-keyring "$DIR/mgr/keyring" --gen-key -n mgr.x \
        --cap mon 'allow profile mgr' --cap osd 'allow *' --cap mds 'allow *'
    authtool --create-keyring "$keys" --gen-key -n mon. --cap mon 'allow *'
    local other
    for other in "$DIR/ceph.client.admin.keyring" "$DIR/ceph.client.umbel.keyring" "$DIR/mgr/keyring"; do
        authtool "$keys" --import-keyring "$other"
    done
    monmaptool --create --clobber --fsid "$FSID" --addv a "[v2:$ADDR:$MON_PORT,v1:$ADDR:$((MON_PORT + 1))]" "$DIR/monmap" >/dev/null
    ceph-mon -c "$DIR/ceph.conf" --mkfs -i a --monmap "$DIR/monmap" --keyring "$keys"
    rm -f "$keys" "$DIR/monmap"
}

make_osd() {
    local id key
    id=$(uuid)
    key=$(ceph-authtool --gen-print-key)
    echo "{\"cephx_secret\": \"$key\"}" | admin osd new "$id" 0 -i - >/dev/null
    authtool --create-keyring "$DIR/osd0/keyring" -n osd.0 --add-key "$key"
    ceph-osd -c "$DIR/ceph.conf" -i 0 --mkfs --osd-uuid "$id" >>"$DIR/log/mkfs.log" 2>&1
}

try_start() { runs "$1" || "ceph-$1" -c "$DIR/ceph.conf" -i "$2" >>"$DIR/log/start.log" 2>&1; }

start() { try_start "$1" "$2" || die "ceph-$1 did not start; see $DIR/log/$1.log"; }

until_true() {
    local what=$1 deadline=$((SECONDS + 90))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || die "waited 90 s for $what; see $DIR/log."
        sleep 0.1
    done
}

osd_is_up() { admin osd stat -f json | grep -q '"num_up_osds":1'; }
capacity_is_known() { admin df -f json | grep -q '"max_avail":[1-9]'; }

# As the user the services run as: proves its caps, and takes the first write's wait for a new map off the first server.
probe() {
    local probe=umbel-probe-$$
    timeout 60 rbd -c "$DIR/ceph.conf" --id umbel -p "$1" create --size 1M "$probe"
    timeout 60 rbd -c "$DIR/ceph.conf" --id umbel -p "$1" rm --no-progress "$probe"
}

make_pools() {
    local pool
    # The shell of `ceph` reads commands line by line: one interpreter for all of them.
    {
        echo "config set mgr mgr/devicehealth/enable_monitoring false"
        for pool in $POOLS; do
            echo "osd pool create $pool 8"
            echo "osd pool application enable $pool rbd"
        done
    } | admin >>"$DIR/log/start.log" 2>&1
    for pool in $POOLS; do admin osd pool ls | grep -qx "$pool" || die "pool $pool was not made; see $DIR/log/start.log."; done
}

# Another program can take the port between the look and the monitor's own: then it is another pair's turn.
start_monitor() {
    local attempt
    for attempt in 1 2 3 4 5; do
        choose_port
        # What an attempt that broke off has left.
        rm -rf "$DIR"/{mon,mgr,osd0,run,log}
        mkdir -p "$DIR"/{mon,mgr,osd0,run,log}
        write_conf
        make_monitor
        if try_start mon a; then return; fi
        [ -z "${PORT:-}" ] || break
    done
    die "ceph-mon did not start; see $DIR/log/mon.log"
}

create() {
    FSID=$(uuid)
    start_monitor
    start mgr x
    make_osd
    start osd 0
    until_true "the OSD" osd_is_up
    make_pools
    local pool
    for pool in $POOLS; do probe "$pool" & done
    for pool in $POOLS; do wait -n || die "client.umbel cannot write to its pools."; done
    until_true "the manager's figures" capacity_is_known
    touch "$DIR/made"
}

restart() {
    local port
    port=$(sed -n 's/^mon host = \[v2:[^:]*:\([0-9]*\),.*/\1/p' "$DIR/ceph.conf")
    runs mon || ! port_taken "$port" || die "port $port of this cluster is taken by another program."
    mkdir -p "$DIR"/{run,log}
    start mon a
    start mgr x
    start osd 0
    until_true "the OSD" osd_is_up
    until_true "the manager's figures" capacity_is_known
}

tell() {
    echo "$1"
    echo "  conf   $DIR/ceph.conf     (users client.admin and client.umbel; pools $(echo $POOLS))"
    echo "  look   ceph -c $DIR/ceph.conf -s"
    echo "  stop   make ceph-down DIR=$DIR     (keeps the data; rm -r $DIR to forget it)"
    echo "CEPH_CONF=$DIR/ceph.conf"
}

require_packages
mkdir -p "$DIR"
DIR=$(cd "$DIR" && pwd)
exec 9>"$DIR/lock"
# Descriptor 9 must not be inherited by the daemons, or the lock would live as long as they do.
flock 9
BEGAN=$(date +%s%N)
took() { awk "BEGIN { printf \"%.1f\", ($(date +%s%N) - $BEGAN) / 1e9 }"; }

if [ -e "$DIR/made" ]; then
    if runs mon && runs mgr && runs osd; then
        tell "Ceph runs already."
        exit
    fi
    restart 9>&-
    tell "Ceph runs again after $(took) s, over the data it had."
    exit
fi
create 9>&-
tell "Ceph is up after $(took) s."
