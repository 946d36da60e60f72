#!/usr/bin/env bash
# Unpacks podman, buildah and containerd with what they run containers with, and the image specification's schemas, from
# Debian's packages into a root of their own; nothing is installed. Tests hand images over to them, and compare what
# they make of images with what cooper does.
#
#   tools/container_tools/fetch.sh [SUITE]      (default: bookworm)      prints the directory
#
# The root is $COOPER_CONTAINER_TOOLS/SUITE (default: ~/.cache/cooper/container-tools/SUITE) and is kept between runs;
# 90 MB are fetched and 400 MB unpacked. The mirror is the one of the machine's own apt sources.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
suite=${1:-bookworm}
base=${COOPER_CONTAINER_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/cooper/container-tools}
packages=(podman buildah containerd crun runc conmon skopeo golang-github-containers-common golang-github-containers-image
    golang-github-opencontainers-image-spec-dev python3-jsonschema dash coreutils findutils base-passwd)

mkdir -p "$base"
exec 9>"$base/.lock"
flock 9
root=$base/$suite
stamp="1 ${packages[*]}"
if [ "$(head -n 1 "$root/.made" 2>/dev/null)" = "$stamp" ]; then
    echo "$root"
    exit 0
fi

work=$(mktemp -d "$base/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$here/../debian_packages.sh" "$suite" "$work" "${packages[@]}"
mkdir -p "$work/root"/usr/{bin,sbin,lib,lib64} "$work/root"/{etc,proc,sys,dev,tmp,run,var/lib,var/tmp}
for name in bin sbin lib lib64; do ln -s "usr/$name" "$work/root/$name"; done
for package in "$work"/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -C "$work/root" -x --keep-directory-symlink --exclude='./usr/share/doc/*' \
        --exclude='./usr/share/man/*' --exclude='./lib/systemd/*' --exclude='./usr/lib/systemd/*' --exclude='./dev/*'
done
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$work/root/etc/passwd"
printf 'root:x:0:\n' >"$work/root/etc/group"
for program in podman buildah containerd; do
    chroot "$work/root" /usr/bin/$program --version >/dev/null ||
        { echo "fetch.sh: $program does not start" >&2; exit 1; }
done
{
    echo "$stamp"
    for package in "$work"/archives/*.deb; do dpkg-deb -f "$package" Package Version | tr '\n' ' '; echo; done
} >"$work/root/.made"
rm -rf "$root"
mv "$work/root" "$root"
echo "$root"
