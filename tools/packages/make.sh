#!/usr/bin/env bash
# Makes Python wheels from Debian's packages and an index page for them, so that `pip install` works
# where there is no package index:  tools/packages/make.sh  →  prints the folder to serve.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${COOPER_PACKAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/cooper/packages}
packages=(python3-flask python3-werkzeug python3-jinja2 python3-markupsafe python3-itsdangerous python3-click
    python3-pytest python3-iniconfig python3-packaging python3-pluggy python3-attr python3-py python3-gunicorn gunicorn
    python3-setuptools python3-pkg-resources python3-wheel python3-pip)
recipe=$(printf '%s\n' "${packages[@]}" | cat - "$here/wheels.py" | sha256sum)
mkdir -p "$out"
exec 9>"$out/.lock"
flock 9
if [ "$(cat "$out/.made" 2>/dev/null)" != "$recipe" ]; then
    work=$(mktemp -d "$out/work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    chmod 0755 "$work"
    (cd "$work" && apt-get download -q "${packages[@]}" >/dev/null)
    for deb in "$work"/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
    rm -rf "$out/simple"
    python3 "$here/wheels.py" "$work/root" "$out/simple"
    echo "$recipe" >"$out/.made"
fi
echo "$out"
