#!/bin/bash
# Builds the guest that the demo and the tests boot: a raw disk of 40 MiB (see guest/README.md for what is in it).
#
#   scripts/guest-image.sh [OUT]        OUT defaults to ./.umbel/guest.img
#
# Everything comes from Debian packages: from the installed one where it is installed, else downloaded by apt and
# unpacked into a scratch directory, so that the machine is left as it was. Needs no root and no loop device: file
# systems are written as files (mke2fs -d, mtools, syslinux). Does nothing when OUT was made from the same inputs.
# Downloads are kept beside OUT, in guest-debs/.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-./.umbel/guest.img}
case $out in /*) ;; *) out=$PWD/$out ;; esac
debs=$(dirname "$out")/guest-debs

# What goes into the guest, and what only builds it.
TARGET="busybox-static dropbear-bin libtomcrypt1 libtommath1 libgmp10 libcrypt1 zlib1g libc6"
# The guest agent, and what it is linked to.
TARGET="$TARGET qemu-guest-agent libglib2.0-0 libpcre2-8-0 libudev1 libnuma1 liburing2"
TOOLS="syslinux syslinux-common mtools e2fsprogs libext2fs2 libcom-err2 libss2 libblkid1 libuuid1"
# With what they depend on. The first two are in the initramfs, the rest on the root file system.
BOOT_MODULES="virtio_pci virtio_blk"
MODULES="button evdev virtio_console virtio_net virtio_rng ata_piix ata_generic sr_mod isofs vfat nls_cp437 nls_ascii nls_utf8"
# Dropbear's libraries and the agent's, and what loads them.
LIBRARIES="libtomcrypt.so.1 libtommath.so.1 libgmp.so.10 libcrypt.so.1 libz.so.1 libc.so.6 ld-linux-x86-64.so.2"
LIBRARIES="$LIBRARIES libglib-2.0.so.0 libgmodule-2.0.so.0 libpcre2-8.so.0 libudev.so.1 libnuma.so.1 liburing.so.2 libm.so.6"

BOOT_MIB=18
ROOT_MIB=21
# One and the same for every build: two builds from the same inputs differ in inode numbers and times of change only.
EPOCH=1700000000
UUID=756d6265-6c00-4000-8000-67756573746f

say() { echo "guest-image: $*" >&2; }
die() { say "$*"; exit 1; }

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

version() {
    if installed "$1"; then dpkg-query -W -f '${Version}' "$1"; return; fi
    apt-cache policy "$1" | awk '/Candidate:/ && $2 != "(none)" { print $2 }'
}

# The meta package depends on the package of the newest kernel.
kernel_package() {
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
    [ -n "$package" ] || die "no package linux-image-cloud-amd64 is known here; run: apt-get update"
    echo "$package"
}

inputs() {
    local package
    for package in $TARGET $TOOLS "$kernel"; do
        version=$(version "$package")
        [ -n "$version" ] || die "no package $package is known here; run: apt-get update"
        echo "$package $version"
    done
    (cd "$here" && find guest scripts/guest-image.sh -type f ! -name README.md -print0 | sort -z | xargs -0 sha256sum)
}

# provide DIR PACKAGE: the package's files below DIR.
provide() {
    if installed "$2"; then
        # Documentation may have been left out on this machine, hence the test.
        dpkg -L "$2" | while read -r file; do
            if [ ! -d "$file" ] && [ -e "$file" ]; then echo "$file"; fi
        done | tar -cf - --absolute-names -T - | tar -xf - -C "$1" --strip-components=0 --transform='s,^/,,' --absolute-names
        return
    fi
    mkdir -p "$debs"
    local file
    file=$(deb_file "$2")
    if [ -z "$file" ]; then
        say "downloading $2"
        (cd "$debs" && apt-get -q=2 download "$2" 2>"$work/apt.log") ||
            die "apt-get download $2 failed (an old package list? run: apt-get update): $(tail -n 2 "$work/apt.log")"
        file=$(deb_file "$2")
    fi
    dpkg-deb -x "$file" "$1"
}

# The downloaded file of the wanted version, if it is there.
deb_file() {
    local name
    name="$debs/${1}_$(version "$1" | sed 's/:/%3a/')_"
    find "$debs" -path "${name}*.deb" | head -n 1
}

# tool NAME ARGUMENTS: a program of $TOOLS with the libraries that came with it.
tool() {
    local name=$1 dir
    shift
    for dir in usr/bin usr/sbin bin sbin; do
        [ -x "$tools/$dir/$name" ] || continue
        PATH=$tools/usr/bin:$PATH LD_LIBRARY_PATH=$tools/usr/lib/x86_64-linux-gnu:$tools/lib/x86_64-linux-gnu \
            "$tools/$dir/$name" "$@"
        return
    done
    die "$name is in none of the packages: $TOOLS"
}

# copy_modules DIR NAME...: the modules and what they depend on, in the order in which they can be loaded.
copy_modules() {
    local dir=$1 base=$target/lib/modules/$release module line file
    shift
    mkdir -p "$dir/lib/modules/$release"
    for module; do
        line=$(grep -E "(^|/)${module//_/[-_]}\.ko:" "$base/modules.dep") || die "the kernel has no module $module"
        for file in ${line/:/ }; do
            # Debug sections are half of a module.
            install -D -m 644 "$base/$file" "$dir/lib/modules/$release/$file"
            ! command -v strip >/dev/null || strip --strip-debug "$dir/lib/modules/$release/$file"
        done
        echo "$line"
        for file in ${line#*:}; do grep "^$file:" "$base/modules.dep"; done
    done | sort -u >"$dir/lib/modules/$release/modules.dep"
    # virtio-rng.ko calls itself virtio_rng; busybox' modprobe knows that without an index.
    : >"$dir/lib/modules/$release/modules.alias"
    : >"$dir/lib/modules/$release/modules.symbols"
}

# Links for all applets, made by asking the busybox that will answer to them.
copy_busybox() {
    local applet
    mkdir -p "$1/bin"
    install -m 755 "$target/bin/busybox" "$1/bin/busybox"
    for applet in $("$target/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"
    done
}

# All dates the same, for the same bytes each time.
settle() { find "$1" -exec touch -h -d "@$EPOCH" {} +; }

build_initramfs() {
    local dir=$work/initramfs
    mkdir -p "$dir"/{dev,proc,sys,root}
    copy_busybox "$dir"
    copy_modules "$dir" $BOOT_MODULES
    install -m 755 "$here/guest/initramfs/init" "$dir/init"
    settle "$dir"
    (cd "$dir" && find . | sort | "$target/bin/busybox" cpio -o -H newc 2>/dev/null) >"$work/initramfs.cpio"
}

build_root() {
    local dir=$work/root library file
    mkdir -p "$dir"/{dev,proc,sys,run,tmp,mnt,root,sbin,usr/bin,usr/sbin,etc/dropbear,var/lib,lib64,lib/x86_64-linux-gnu}
    chmod 1777 "$dir/tmp"
    chmod 700 "$dir/root"
    copy_busybox "$dir"
    for file in init acpid getty reboot poweroff modprobe; do ln -s ../bin/busybox "$dir/sbin/$file"; done
    copy_modules "$dir" $BOOT_MODULES $MODULES
    install -m 755 "$target/usr/sbin/dropbear" "$dir/usr/sbin/dropbear"
    install -m 755 "$target/usr/sbin/qemu-ga" "$dir/usr/sbin/qemu-ga"
    for library in $LIBRARIES; do
        file=$(find "$target" -name "$library" ! -type d | grep x86_64-linux-gnu | head -n 1)
        [ -n "$file" ] || die "no library $library in: $TARGET"
        cp -L "$file" "$dir/lib/x86_64-linux-gnu/$library"
    done
    ln -s ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$dir/lib64/ld-linux-x86-64.so.2"
    cp -R "$here/guest/rootfs/." "$dir/"
    chmod 600 "$dir/etc/shadow"
    settle "$dir"
    # Without the 64-bit and checksum features the file system can also be read by old boot loaders and tools.
    truncate -s "${ROOT_MIB}M" "$work/root.ext4"
    E2FSPROGS_FAKE_TIME=$EPOCH tool mke2fs -q -t ext4 -O ^64bit,^metadata_csum -J size=1 -m 0 -L umbel-root \
        -U "$UUID" -E "root_owner=0:0,hash_seed=$UUID,lazy_itable_init=0" -d "$dir" "$work/root.ext4"
}

# The last two options save a third of a second of emulated processor: code patching and self tests of ciphers.
build_boot() {
    local image=$work/boot.fat
    cat >"$work/syslinux.cfg" <<END
PROMPT 0
TIMEOUT 0
DEFAULT guest
LABEL guest
  LINUX vmlinuz
  INITRD initrd
  APPEND console=ttyS0 quiet panic=-1 noreplace-smp cryptomgr.notests
END
    cp "$target/boot/vmlinuz-$release" "$work/vmlinuz"
    touch -d "@$EPOCH" "$work"/{syslinux.cfg,vmlinuz,initramfs.cpio}
    truncate -s "${BOOT_MIB}M" "$image"
    # mtools refuses what is no whole number of tracks; the BIOS does not care.
    export MTOOLS_SKIP_CHECK=1 SOURCE_DATE_EPOCH=$EPOCH
    tool mformat -i "$image" -T $((BOOT_MIB * 2048)) -h 64 -s 32 -H 2048 -N 756d626c -v UMBEL-BOOT ::
    tool mcopy -m -i "$image" "$work/syslinux.cfg" ::/syslinux.cfg
    tool mcopy -m -i "$image" "$work/vmlinuz" ::/vmlinuz
    tool mcopy -m -i "$image" "$work/initramfs.cpio" ::/initrd
    tool syslinux --install "$image"
}

# byte VALUE..., little VALUE: what printf needs to write numbers.
byte() { printf '%b' "$(printf '\\x%02x' "$@")"; }
little() { byte $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }

# entry FLAG TYPE START COUNT: 16 bytes of a partition table; the BIOS and Linux read the sector numbers, not the CHS.
entry() { byte "$1" 254 255 255 "$2" 254 255 255; little "$3"; little "$4"; }

build_disk() {
    local disk=$work/disk.img boot=$((BOOT_MIB * 2048)) root=$((ROOT_MIB * 2048))
    truncate -s $((1 + BOOT_MIB + ROOT_MIB))M "$disk"
    {
        head -c 440 "$tools/usr/lib/syslinux/mbr/mbr.bin"
        little 0x6c626d75
        byte 0 0
        entry 0x80 0x0e 2048 "$boot"
        entry 0 0x83 $((2048 + boot)) "$root"
        head -c 32 /dev/zero
        byte 0x55 0xaa
    } | dd of="$disk" conv=notrunc status=none
    dd if="$work/boot.fat" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
    dd if="$work/root.ext4" of="$disk" bs=1M seek=$((1 + BOOT_MIB)) conv=notrunc,sparse status=none
}

for command in dpkg-deb apt-get apt-cache tar sha256sum; do
    command -v $command >/dev/null || die "$command is missing: this script takes its parts from Debian packages"
done
kernel=$(kernel_package)
release=${kernel#linux-image-}
wanted=$(inputs)
if [ -s "$out" ] && [ "$(cat "$out.inputs" 2>/dev/null)" = "$wanted" ]; then
    say "$out is up to date"
    exit
fi

mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$(dirname "$out")/guest-build.XXXXXX")
trap 'rm -rf "$work"' EXIT
target=$work/target tools=$work/tools
mkdir -p "$target" "$tools"
for package in $TARGET "$kernel"; do provide "$target" "$package"; done
for package in $TOOLS; do provide "$tools" "$package"; done
(cd "$target/lib/modules/$release" && "$target/bin/busybox" depmod -b "$target" "$release")
build_initramfs
build_root
build_boot
build_disk
mv "$work/disk.img" "$out"
echo "$wanted" >"$out.inputs"
say "$out: $(stat -c %s "$out" | numfmt --to=iec) with kernel $release"
