#!/usr/bin/env bash
# Hands images over to Docker's daemon (tools/peer): what it has is not sent again, and what arrives runs.
#
#   tests/interop/handover.sh COOPER [SUITE]
#
# Needs root and a Debian mirror the first time. Everything runs in a network namespace with loopback only. Without the
# peer the test is skipped, and says so.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cooper=$(realpath "$1") suite=${2:-sid}
peer=$here/../../tools/peer
base=${COOPER_BASE_IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/cooper/base-images}/busybox.tar
if [ "$(id -u)" -ne 0 ]; then
    echo "hand-over: SKIPPED, it needs root"
    exit 0
fi
if [ "${INTEROP_NETWORK:-}" != own ]; then
    "$peer/fetch.sh" "$suite" >/dev/null || { echo "hand-over: SKIPPED, there is no peer"; exit 0; }
    INTEROP_NETWORK=own exec unshare --net "$0" "$@"
fi
ip link set lo up

work=$(mktemp -d)
cleanup() {
    "$peer/run.sh" stop --state "$work/peer" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
failed=0
check() { # WHAT COMMAND…
    if "${@:2}"; then echo "ok $1"; else echo "FAILED $1"; failed=1; fi
}
sent() { sed -nE 's/.* ([0-9]+) bytes sent$/\1/p' <<<"$1"; }
docker() { "$peer/run.sh" docker --state "$work/peer" "$@"; }
api() { docker version --format '{{.Server.APIVersion}}' | cut -d. -f2; }
in_image() { docker run --rm --network none "$@"; }

mkdir "$work/context"
head -c 20000000 /dev/urandom >"$work/context/big"
printf 'FROM busybox\nCOPY big /big\nCOPY small /small\n' >"$work/context/Dockerfile"
export COOPER_ROOT=$work/state
"$cooper" load -q -i "$base"

for store in layers containerd; do
    rm -rf "$work/peer"
    DOCKER_HOST=$("$peer/run.sh" start --suite "$suite" --state "$work/peer" --net here --images "$store")
    export DOCKER_HOST
    echo one >"$work/context/small"
    "$cooper" build -q -t app:1 "$work/context" >/dev/null
    first=$("$cooper" save --docker app:1)
    echo "   $first"
    check "$store: the first time the image is sent" [ "$(sent "$first")" -gt 20000000 ]
    again=$("$cooper" save --docker app:1)
    echo "   $again"
    check "$store: the second time nothing is" [ "$(sent "$again")" = 0 ]
    echo two >"$work/context/small"
    "$cooper" build -q -t app:2 "$work/context" >/dev/null
    changed=$("$cooper" save --docker app:2)
    echo "   $changed"
    if [ "$store" = layers ] || [ "$(api)" -ge 47 ]; then
        check "$store: of a changed image the changed layer is sent" [ "$(sent "$changed")" -lt 40000 ]
    else
        echo "   $store: the daemon's API is older than 1.47, it takes whole images"
    fi
    "$cooper" tag app:2 other:9
    check "$store: for another name nothing is sent" [ "$(sent "$("$cooper" save --docker other:9)")" = 0 ]
    check "$store: the changed image runs" [ "$(in_image app:2 cat /small)" = two ]
    check "$store: the layers that were there are in it" \
        [ "$(in_image other:9 sha256sum /big | cut -c-64)" = "$(sha256sum "$work/context/big" | cut -c-64)" ]
    check "$store: the first one is what it was" [ "$(in_image app:1 cat /small)" = one ]
    if [ "$store" = containerd ]; then
        # The same files packed in another way are layers that the daemon has, and blobs that it does not.
        docker image rm -f app:1 app:2 other:9 >/dev/null
        "$cooper" build -q -o type=oci,dest="$work/gzip.tar",name=app:1,compression=gzip,force-compression=true \
            "$work/context" >/dev/null
        docker load -q <"$work/gzip.tar" >/dev/null
        echo three >"$work/context/small"
        "$cooper" build -q -t app:3 "$work/context" >/dev/null
        "$cooper" save --docker app:3
        check "$store: an image of layers that are packed otherwise is whole" \
            [ "$(docker save app:3 | tar -t | grep -c '^blobs/sha256/.')" -ge 5 ]
        check "$store: it runs" [ "$(in_image app:3 cat /small)" = three ]
    fi
    "$peer/run.sh" stop --state "$work/peer"
done
if "$cooper" save --docker app:1 2>"$work/error"; then failed=1; fi
check "a daemon that is not there is told of" grep -q 'is it running' "$work/error"
exit $failed
