#!/usr/bin/env bash
# Unpacks Docker's command line with buildx and compose from Debian's packages; nothing is installed. Scenarios drive
# cooperd with them (tests/scenarios/daemon).
#
#   tools/docker_cli/fetch.sh [SUITE]      (default: sid, whose buildx knows `history`)      prints the folder
#
# The folder is ${COOPER_DOCKER_CLI:-~/.cache/cooper/docker-cli}/SUITE and is kept between runs; then nothing is fetched.
# It holds `docker` and, in cli-plugins/, `docker-buildx` and `docker-compose`: a $DOCKER_CONFIG whose cli-plugins is a
# link to that folder makes `docker` find them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
suite=${1:-sid}
cache=${COOPER_DOCKER_CLI:-${XDG_CACHE_HOME:-$HOME/.cache}/cooper/docker-cli}
packages=(docker-cli docker-buildx docker-compose)

mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9
folder=$cache/$suite
stamp="1 ${packages[*]}"
if [ "$(head -n 1 "$folder/.made" 2>/dev/null)" = "$stamp" ]; then
    echo "$folder"
    exit 0
fi
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$here/../debian_packages.sh" "$suite" "$work" --alone "${packages[@]}"
mkdir -p "$work/root" "$work/folder/cli-plugins"
for package in "$work"/archives/*.deb; do dpkg-deb --fsys-tarfile "$package" | tar -C "$work/root" -x --exclude='./usr/share/*'; done
cp "$work/root/usr/bin/docker" "$work/folder/"
cp "$work/root/usr/libexec/docker/cli-plugins/"docker-{buildx,compose} "$work/folder/cli-plugins/"
for program in "$work/folder/docker" "$work/folder/cli-plugins/"*; do
    word=version
    [ "${program##*/}" != docker ] || word=--version
    "$program" "$word" >/dev/null || { echo "fetch.sh: ${program##*/} of $suite does not run on this machine" >&2; exit 1; }
done
{
    echo "$stamp"
    for package in "$work"/archives/*.deb; do dpkg-deb -f "$package" Package Version | tr '\n' ' '; echo; done
} >"$work/folder/.made"
rm -rf "$folder"
mv "$work/folder" "$folder"
echo "$folder"
