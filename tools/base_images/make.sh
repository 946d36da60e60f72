#!/usr/bin/env bash
# Makes stand-ins for the base images of the examples from Debian's packages, as OCI archives:
#
#   tools/base_images/make.sh [busybox] [debian] [python] [node] [runtime] [emulators] [foreign]
#                             [debian_arm64]      (default: all)
#
# `emulators` are qemu's static ones, a folder. `foreign` is busybox for linux/amd64, arm64 and arm/v7. `debian_arm64`
# is what is essential of Debian for linux/arm64, set up by its own scripts in emulation; it takes some minutes.
# `runtime` is Debian with what the image of cooperd installs (deploy/packages), so that it is built without a network.
# They go to $COOPER_BASE_IMAGES (default: ~/.cache/cooper/base-images) and are kept between runs.
# Needs root, mmdebstrap, busybox-static and python3; packages come from the machine's own apt sources.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${COOPER_BASE_IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/cooper/base-images}
packages=$here/../../deploy/packages
mkdir -p "$out"
work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
exec 9>"$out/.lock"
flock 9

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")

# The machine's configured sources of this suite, one line each.
sources() {
    apt-get indextargets --format 'deb [$(SIGNED_BY)] $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -e 's/^deb \[\]/deb/' -e 's/^deb \[\$(SIGNED_BY)\]/deb/' -e 's/^deb \[\(.*\)\]/deb [signed-by=\1]/' |
        awk -v s="$suite" '{ for (i = 1; i <= NF; i++) if ($i == s || $i == s"-updates" || $i == s"-security") print }' |
        sort -u
}

# rootfs NAME PACKAGES [mmdebstrap options…]: a minimal Debian with these packages, as $work/NAME.tar
rootfs() {
    local name=$1 packages=$2
    shift 2
    sources | mmdebstrap --quiet --variant=minbase --include="$packages" --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --customize-hook='rm -rf "$1"/var/cache/apt/*.bin "$1"/var/log/*.log "$1"/var/log/apt' \
        --customize-hook='rm -f "$1"/etc/resolv.conf "$1"/etc/hostname' \
        "$@" "$suite" "$work/$name.tar"
}

make_busybox() {
    local root=$work/busybox
    mkdir -p "$root"/{bin,etc,home,proc,root,sys,tmp,usr/bin,usr/sbin,sbin,var,dev}
    chmod 1777 "$root/tmp"
    chmod 0700 "$root/root"
    cp "$(command -v busybox)" "$root/bin/busybox"
    "$root/bin/busybox" --list-full | while read -r applet; do
        mkdir -p "$root/$(dirname "$applet")"
        [ -e "$root/$applet" ] || ln -s /bin/busybox "$root/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\ndaemon:x:1:\nusers:x:100:\nnobody:x:65534:\n' >"$root/etc/group"
    tar -C "$root" --sort=name --mtime=@1704067200 --owner=0 --group=0 --numeric-owner -cf "$work/busybox.tar" .
    "$here/oci_archive.py" --out "$out/busybox.tar" --layer "$work/busybox.tar" --cmd sh \
        --name docker.io/library/busybox:latest --name docker.io/library/alpine:latest --name docker.io/library/alpine:3.18
}

make_debian() {
    rootfs debian ca-certificates
    "$here/oci_archive.py" --out "$out/debian.tar" --layer "$work/debian.tar" --cmd bash \
        --name docker.io/library/debian:latest --name "docker.io/library/debian:$suite" \
        --name "docker.io/library/debian:$suite-slim" --name docker.io/library/debian:buster \
        --name docker.io/library/debian:buster-slim
}

# /usr/local is a virtual environment over Debian's Python, so that python, pip and
# /usr/local/lib/python3.11/site-packages are where the official image has them.
make_python() {
    rootfs python ca-certificates,python3,python3-venv,python3-wheel,libpython3-stdlib \
        --customize-hook='chroot "$1" python3 -m venv /usr/local' \
        --customize-hook='cp -r "$1"/usr/lib/python3/dist-packages/wheel* "$1"/usr/local/lib/python3.11/site-packages/' \
        --customize-hook='find "$1/usr/local" -name __pycache__ -prune -exec rm -rf {} +'
    "$here/oci_archive.py" --out "$out/python.tar" --layer "$work/python.tar" --cmd python3 --env LANG=C.UTF-8 \
        --env PYTHON_VERSION=3.11 --name docker.io/library/python:3.11-slim --name docker.io/library/python:3.11 \
        --name docker.io/library/python:3.9-slim-buster --name docker.io/library/python:3-slim
}

make_node() {
    # The official image has git and ssh as well.
    rootfs node ca-certificates,nodejs,npm,git,openssh-client
    "$here/oci_archive.py" --out "$out/node.tar" --layer "$work/node.tar" --cmd node --env NODE_VERSION=18 \
        --name docker.io/library/node:18 --name docker.io/library/node:18-slim
}

make_runtime() {
    rootfs runtime "$(paste -sd, "$packages")"
    "$here/oci_archive.py" --out "$out/runtime.tar" --layer "$work/runtime.tar" --cmd bash \
        --name docker.io/library/runtime:latest
}

# package ARCHITECTURE NAME: the unpacked package of the newest version, as $work/NAME-ARCHITECTURE. Nothing is
# installed, so that it may be of any architecture.
package() {
    local apt=$work/apt-$1
    mkdir -p "$apt"/{lists/partial,cache/archives/partial,dpkg}
    : >"$apt/dpkg/status"
    sources >"$apt/sources.list"
    local options=(-qq -o "APT::Architecture=$1" -o "APT::Architectures=$1" -o "Dir::State=$apt"
        -o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/dpkg/status" -o "Dir::Cache=$apt/cache"
        -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o APT::Sandbox::User=root)
    [ -e "$apt/fresh" ] || apt-get "${options[@]}" update || echo "going on with the lists that could be had" >&2
    touch "$apt/fresh"
    (cd "$work" && apt-get "${options[@]}" download "$2" >/dev/null)
    dpkg -x "$work/$2"_*_"$1".deb "$work/$2-$1"
    rm "$work/$2"_*_"$1".deb
}

make_emulators() {
    package "$(dpkg --print-architecture)" qemu-user-static
    rm -rf "$out/emulators"
    mkdir "$out/emulators"
    for one in aarch64 arm riscv64 s390x ppc64le x86_64; do
        cp "$work/qemu-user-static-"*/usr/bin/qemu-$one-static "$out/emulators/"
    done
}

make_foreign() {
    local layers=() arch root
    for arch in amd64 arm64 armhf; do
        package "$arch" busybox-static
        root=$work/foreign-$arch
        mkdir -p "$root"/{bin,etc,proc,root,sys,tmp,usr,dev}
        chmod 1777 "$root/tmp"
        cp "$work/busybox-static-$arch/bin/busybox" "$root/bin/busybox"
        # Links to /usr/bin/busybox or /bin/busybox, made by the machine's own.
        ln -s ../bin "$root/usr/bin"
        busybox --install -s "$root/bin"
        printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
        tar -C "$root" --sort=name --mtime=@1704067200 --owner=0 --group=0 --numeric-owner -cf "$root.tar" .
    done
    layers+=(--layer "linux/amd64=$work/foreign-amd64.tar" --layer "linux/arm64=$work/foreign-arm64.tar"
        --layer "linux/arm/v7=$work/foreign-armhf.tar")
    "$here/oci_archive.py" --out "$out/foreign.tar" "${layers[@]}" --cmd sh --name docker.io/library/foreign:latest
}

make_debian_arm64() {
    [ -d "$out/emulators" ] || make_emulators
    sources >"$work/sources"
    "$here/with_emulators.py" "$out/emulators" mmdebstrap --quiet --mode=root --skip=check/qemu --architectures=arm64 \
        --variant=essential --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        "$suite" "$work/debian_arm64.tar" - <"$work/sources"
    "$here/oci_archive.py" --out "$out/debian_arm64.tar" --layer "linux/arm64=$work/debian_arm64.tar" --cmd bash \
        --name docker.io/library/debian-arm64:latest
}

for image in "${@:-busybox debian python node runtime emulators foreign debian_arm64}"; do
    for one in $image; do
        # Made anew when its recipe changes.
        recipe=$({ declare -f "make_$one" "$([[ $one == @(emulators|foreign|debian_arm64) ]] && echo package || echo rootfs)"; [ "$one" != runtime ] || cat "$packages"; } | sha256sum)
        [ -s "$out/$one.tar" ] || [ -d "$out/$one" ] && [ "$(cat "$out/$one.made" 2>/dev/null)" = "$recipe" ] && continue
        echo "base image: $one" >&2
        "make_$one"
        rm -f "$work/$one.tar"
        echo "$recipe" >"$out/$one.made"
    done
done
echo "$out"
