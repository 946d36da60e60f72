#!/usr/bin/env bash
# Unpacks Docker's daemon with BuildKit, and its clients, from Debian's packages into a root of their own; nothing is
# installed. It is the peer that the differential test compares cooper with (tests/differential).
#
#   tools/peer/fetch.sh [SUITE]      (default: trixie)      prints the directory
#
# The root is $COOPER_PEER/SUITE (default: ~/.cache/cooper/peer/SUITE) and is kept between runs; 90 MB are fetched and
# 400 MB unpacked. The mirror is the one of the machine's own apt sources; only its suite is another.
set -euo pipefail
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

# The mirror of the suite that the machine itself runs: that is the main one, not the security one.
own=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
    awk -v s="$own" '$1 == s { print $2; exit }')
[ -n "$mirror" ] || { echo "fetch.sh: apt knows no source of $own; run: apt-get update" >&2; exit 1; }

work=$(mktemp -d "$peer/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 0755 "$work"
mkdir -p "$work"/{lists/partial,archives/partial,parts,root}
: >"$work/status" # nothing is installed there: apt names all that is needed, down to libc
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
cat >"$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "$work/parts";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work";
Dir::Cache::archives "$work/archives";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
CONF
export APT_CONFIG=$work/apt.conf
apt-get -qq update
apt-get -qq install --yes --download-only "${packages[@]}" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
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
