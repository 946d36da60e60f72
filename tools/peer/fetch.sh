#!/usr/bin/env bash
# Unpacks Docker's daemon with BuildKit, and its clients, from Debian's packages into a root of their own; nothing is
# installed. It is the peer that the differential test compares cooper with (tests/differential).
#
#   tools/peer/fetch.sh [SUITE]      (default: trixie)      prints the directory
#
# The root is $COOPER_PEER/SUITE (default: ~/.cache/cooper/peer/SUITE) and is kept between runs; 90 MB are fetched and
# 400 MB unpacked. The mirror is the one of the machine's own apt sources; only its suite is another.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
suite=${1:-trixie}
peer=${COOPER_PEER:-${XDG_CACHE_HOME:-$HOME/.cache}/cooper/peer}
packages=(docker.io docker-cli docker-buildx xz-utils git dash coreutils sed) # what BuildKit calls for archives and git

mkdir -p "$peer"
exec 9>"$peer/.lock"
flock 9
root=$peer/$suite
stamp="2 ${packages[*]}"
if [ "$(head -n 1 "$root/.made" 2>/dev/null)" = "$stamp" ]; then
    echo "$root"
    exit 0
fi

work=$(mktemp -d "$peer/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$here/../debian_packages.sh" "$suite" "$work" "${packages[@]}"
# base-files makes the links from /bin and /lib to /usr; it is not among what docker.io depends on.
mkdir -p "$work/root"/usr/{bin,sbin,lib,lib64} "$work/root"/{etc,proc,sys,dev,tmp,run,var/lib}
for name in bin sbin lib lib64; do ln -s "usr/$name" "$work/root/$name"; done
for package in "$work"/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -C "$work/root" -x --keep-directory-symlink --exclude='./usr/share/*' \
        --exclude='./lib/systemd/*' --exclude='./usr/lib/systemd/*'
done
rm -f "$work/root"/etc/{passwd,group} 
echo 'root:x:0:0:root:/root:/bin/sh' >"$work/root/etc/passwd"
echo 'root:x:0:' >"$work/root/etc/group"
chroot "$work/root" /usr/sbin/dockerd --version >/dev/null || { echo "fetch.sh: dockerd does not start" >&2; exit 1; }
{
    echo "$stamp"
    for package in "$work"/archives/*.deb; do dpkg-deb -f "$package" Package Version | tr '\n' ' '; echo; done
} >"$work/root/.made"
rm -rf "$root"
mv "$work/root" "$root"
echo "$root"
