#!/usr/bin/env bash
# Records the keys that BuildKit (in Debian's dockerd, see tools/peer) has: for tests/keys/Dockerfile into keys.txt, for
# operations that no Dockerfile asks for, and for sources (probe_frontend --llb), into llb.txt and llb_build.txt.
#
#   tests/keys/record.sh COOPER [SUITE]        beside COOPER are buildctl and probe_frontend
#
# Needs root, git, a registry program, and a Debian mirror the first time. Runs in a network namespace with loopback only.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cooper=$(realpath "$1") suite=${2:-sid}
peer=$here/../../tools/peer
base=${COOPER_BASE_IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/cooper/base-images}/busybox.tar
if [ "${KEYS_NETWORK:-}" != own ]; then
    "$peer/fetch.sh" "$suite" >/dev/null
    KEYS_NETWORK=own exec unshare --net "$0" "$@"
fi
ip link set lo up
work=$(mktemp -d)
registry=
cleanup() {
    "$peer/run.sh" stop --state "$work/peer" >/dev/null 2>&1 || true
    [ -z "$registry" ] || { kill "$registry" 2>/dev/null && wait "$registry" 2>/dev/null; } || true
    rm -rf "$work"
}
trap cleanup EXIT
address=127.0.0.1:5000
cat >"$work/registry.yml" <<END
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: '$address'}
END
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
registry=$!
DOCKER_HOST=$("$peer/run.sh" start --suite "$suite" --state "$work/peer" --net here)
export DOCKER_HOST
"$cooper" --root "$work/state" load -q -i "$base" >/dev/null
"$cooper" --root "$work/state" tag busybox "$address/busybox:1"
"$cooper" --root "$work/state" push -q "$address/busybox:1" >/dev/null
"$here/prepare.sh" "$work/context"
mkdir "$work/image"
printf 'ARG BASE\nFROM $BASE\nWORKDIR /only\n' >"$work/image/Dockerfile"
echo word >"$work/word"
for what in context image; do
    "$peer/run.sh" buildx --state "$work/peer" build --provenance=false --progress=plain --secret "id=word,src=$work/word" \
        --build-arg "BASE=$address/busybox:1" --cache-to "type=local,dest=$work/$what-cache,mode=max" "$work/$what" \
        >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
done
"$here/keys.py" "$work/context-cache" "$work/image-cache" >"$here/keys.txt"
"$here/sources.sh" "$work/sources"
for what in keys keys-of-build; do
    "$here/serve.py" "$work/sources" "$here/hijack.py" "$work/peer/docker.sock" "$work/$what.sock" \
        "$here/build_llb.sh" "$(dirname "$cooper")" "$what" "$work/sources" "$work/$what" >"$work/log" 2>&1 ||
        { cat "$work/log"; exit 1; }
done
"$here/keys.py" "$work/keys" >"$here/llb.txt"
"$here/keys.py" "$work/keys-of-build" >"$here/llb_build.txt"
wc -l "$here"/*.txt
