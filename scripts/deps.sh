#!/bin/bash
# Installs the Debian packages that are missing, and says nothing when none is.
#
#   scripts/deps.sh run       what `make run` needs: a C compiler and QEMU
#   scripts/deps.sh ceph      the same, and a Ceph cluster's daemons
#   scripts/deps.sh test      the same, and what else `make test` needs: PostgreSQL, MariaDB, Python for the openstack client
#
# Rust comes from the user (rustup or Debian), everything else from apt. On another distribution nothing is
# installed: the commands these packages bring are looked for, and what is missing is named.
set -euo pipefail

# gcc links, and compiles the C parts of ring and SQLite. No mold: rustc links with its own lld since 1.90.
# The guest's kernel and programs are not here: scripts/guest-image.sh downloads them and installs nothing.
RUN="gcc libc6-dev qemu-system-x86 qemu-utils"
CEPH="qemu-block-extra ceph-mon ceph-mgr ceph-osd ceph-common librbd1"
TEST="postgresql-15 mariadb-server python3-venv"

RUN_COMMANDS="cc qemu-system-x86_64 qemu-img"
CEPH_COMMANDS="ceph-mon ceph-mgr ceph-osd rbd"
TEST_COMMANDS="mariadbd python3"

say() { echo "deps: $*" >&2; }

case ${1:-} in
    run) PACKAGES=$RUN COMMANDS=$RUN_COMMANDS ;;
    ceph) PACKAGES="$RUN $CEPH" COMMANDS="$RUN_COMMANDS $CEPH_COMMANDS" ;;
    test) PACKAGES="$RUN $CEPH $TEST" COMMANDS="$RUN_COMMANDS $CEPH_COMMANDS $TEST_COMMANDS" ;;
    *) say "use: scripts/deps.sh run|ceph|test"; exit 2 ;;
esac

require_cargo() {
    command -v cargo >/dev/null && return
    say "cargo is missing: install Rust 1.90 or later, for example from https://rustup.rs"
    exit 1
}

# Without apt: only say what is missing.
look_for_commands() {
    local command missing=
    for command in $COMMANDS; do command -v "$command" >/dev/null || missing="$missing $command"; done
    [ -z "$missing" ] && return
    say "this is no Debian, so nothing was installed. Missing commands:$missing"
    exit 1
}

missing_packages() {
    local package
    for package in $PACKAGES; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; return; fi
    command -v sudo >/dev/null || { say "not root and no sudo; run as root: $*"; exit 1; }
    sudo "$@"
}

apt_install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }

# A qemu-utils from backports keeps the release's other QEMU packages out, and apt does not go back by itself.
apt_install_same_qemu() {
    local version
    version=$(apt-cache policy qemu-system-x86 | sed -n 's/^ *Candidate: //p')
    say "apt refused; trying again with every QEMU package at $version"
    apt_install --allow-downgrades "qemu-utils=$version" "$@"
}

install() {
    local log
    log=$(mktemp)
    say "installing: $*"
    {
        as_root apt-get update || say "apt-get update failed; going on with the lists there are"
        apt_install "$@" || apt_install_same_qemu "$@"
    } >"$log" 2>&1 || { tail -30 "$log" >&2; say "installing failed; the whole output is in $log"; exit 1; }
    rm -f "$log"
}

# scripts/guest-image.sh asks apt for packages, so apt must know of them.
know_packages() {
    apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || as_root apt-get -q=2 update ||
        say "apt-get update failed; the guest image needs it"
}

require_cargo
command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || { look_for_commands; exit 0; }
mapfile -t MISSING < <(missing_packages)
# Twice: to make room for one package apt may remove another that was there (again that qemu-utils).
for _ in first second; do
    [ ${#MISSING[@]} = 0 ] && break
    install "${MISSING[@]}"
    mapfile -t MISSING < <(missing_packages)
done
[ ${#MISSING[@]} = 0 ] || { say "still missing after installing: ${MISSING[*]}"; exit 1; }
know_packages
