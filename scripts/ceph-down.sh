#!/bin/bash
# Stops the private Ceph that ceph-up.sh started below DIR, and nothing else. Its data stay.
#
#   scripts/ceph-down.sh [DIR]      DIR defaults to ./.umbel/ceph, or to $DIR
set -euo pipefail

DIR=${1:-${DIR:-./.umbel/ceph}}
[ -d "$DIR/run" ] || { echo "No Ceph below $DIR."; exit; }
DIR=$(cd "$DIR" && pwd)

# Ours only if the command line names our file: the pid may have been given to another process since. A process
# that ended but was not reaped yet has no command line, and counts as gone.
ours() { [ -r "/proc/$1/cmdline" ] && tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF -- "$DIR/ceph.conf"; }

stop() {
    local pid deadline=$((SECONDS + 20))
    pid=$(cat "$DIR/run/$1.pid" 2>/dev/null) || return 0
    if ours "$pid"; then
        kill "$pid"
        while ours "$pid"; do
            [ $SECONDS -lt $deadline ] || kill -9 "$pid" 2>/dev/null || true
            sleep 0.05
        done
        STOPPED=1
    fi
    rm -f "$DIR/run/$1.pid"
}

STOPPED=0
# The OSD tells the monitor that it goes, so the monitor goes last.
for daemon in osd mgr mon; do stop "$daemon"; done
if [ $STOPPED = 1 ]; then echo "Ceph below $DIR is stopped; make ceph-up DIR=$DIR starts it again."
else echo "No Ceph ran below $DIR."; fi
