#!/bin/bash
# The `openstack` command the end-to-end tests drive, in .venv/ at the top of the tree; prints its path.
#
# The versions are those of tests/clients/requirements.txt, all of them pinned. A venv that was made from that very
# file is used as it is; any other is made anew. The mark is written last, so an interrupted run counts as none.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
REQUIREMENTS=$ROOT/tests/clients/requirements.txt
VENV=$ROOT/.venv
# Debian's own: another python3 in PATH may come without ensurepip, or go away under the venv.
PYTHON=/usr/bin/python3
[ -x $PYTHON ] || PYTHON=python3

made_from() { { $PYTHON --version; cat "$REQUIREMENTS"; } | sha256sum | cut -d' ' -f1; }

if [ "$(cat "$VENV/made-from" 2>/dev/null)" = "$(made_from)" ] && [ -x "$VENV/bin/openstack" ]; then
    echo "$VENV/bin/openstack"
    exit
fi

$PYTHON -c 'import ensurepip, venv' 2>/dev/null || {
    echo "osc-venv: $PYTHON has no venv module. Run: scripts/deps.sh test" >&2
    exit 1
}
# Scripts in a venv name its interpreter by path, so it is made where it will stay.
rm -rf "$VENV"
$PYTHON -m venv "$VENV" >&2
"$VENV/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$REQUIREMENTS" >&2
"$VENV/bin/pip" check >&2
made_from >"$VENV/made-from"
echo "$VENV/bin/openstack"
