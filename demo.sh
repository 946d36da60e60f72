#!/usr/bin/env bash
# Installs what is missing, builds cooper, makes stand-in base images from Debian's packages, and shows
# the main job: a Flask application built in one stage and in two, run, and built again from the cache.
# For a fresh Debian 12, as root.
set -euo pipefail
cd "$(dirname "$0")"
say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

say "installing what is missing"
tools/install_packages.sh build demo

say "building cooper (release)"
cmake --preset release >/dev/null
cmake --build --preset release --target cooper
cooper=$PWD/build/release/bin/cooper
export COOPER_ROOT=${COOPER_ROOT:-$PWD/build/demo-state}

say "base images from Debian packages"
images=$(tools/base_images/make.sh busybox python)
for image in busybox python; do "$cooper" load -i "$images/$image.tar"; done

say "a package index on loopback (wheels from Debian's python3-flask)"
packages=$(tools/packages/make.sh)
work=$(mktemp -d)
pids=()
cleanup() {
    # The container's pid 1, a Python program, would not hear a SIGTERM.
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT
# A fixed port keeps the build argument, and with it the cache, the same from run to run.
port=8765
python3 - "$packages" "$port" "$work/port" >/dev/null 2>&1 <<'PY' &
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
try:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), handler)
except OSError:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
open(sys.argv[3], "w").write(str(server.server_address[1]))
server.serve_forever()
PY
pids+=($!)
disown
for _ in $(seq 100); do [ -s "$work/port" ] && break; sleep 0.05; done
common=(--network=host --allow network.host --build-arg "PIP_INDEX_URL=http://127.0.0.1:$(cat "$work/port")/simple")

say "cooper build: one stage"
"$cooper" build -t flask:single "${common[@]}" -f examples/flask/Dockerfile.single examples/flask
say "cooper build: two stages"
"$cooper" build -t flask:multi "${common[@]}" examples/flask
say "cooper build again: every step from the cache"
"$cooper" build --progress=plain -t flask:multi "${common[@]}" examples/flask

say "cooper run -p: the page it serves"
web=$((20000 + RANDOM % 20000))
"$cooper" run --rm -p "127.0.0.1:$web:5000" flask:multi >"$work/flask.log" 2>&1 &
pids+=($!)
disown
for _ in $(seq 200); do curl -sf -m 2 "http://127.0.0.1:$web/" >"$work/page" && break; sleep 0.1; done
cat "$work/page" && echo
grep -q "Hello, Docker!" "$work/page" || { cat "$work/flask.log"; exit 1; }

say "sizes side by side"
"$cooper" images flask
