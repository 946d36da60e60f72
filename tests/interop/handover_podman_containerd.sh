#!/usr/bin/env bash
# Hands images over to Podman and containerd (tools/container_tools): what they have is not sent again, what arrives
# runs, and what was interrupted goes on.
#
#   tests/interop/handover_podman_containerd.sh COOPER
#
# Needs root and a Debian mirror the first time. Everything runs in a network namespace with loopback only. Without the
# tools the test is skipped, and says so.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cooper=$(realpath "$1")
tools=$here/../../tools/container_tools
base=${COOPER_BASE_IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/cooper/base-images}/busybox.tar
if [ "$(id -u)" -ne 0 ]; then
    echo "hand-over to Podman and containerd: SKIPPED, it needs root"
    exit 0
fi
if [ "${INTEROP_NETWORK:-}" != own ]; then
    "$tools/fetch.sh" >/dev/null || { echo "hand-over to Podman and containerd: SKIPPED, there are none"; exit 0; }
    INTEROP_NETWORK=own exec unshare --net "$0" "$@"
fi
ip link set lo up

work=$(mktemp -d /tmp/handover.XXXXXX)
cleanup() {
    "$tools/run.sh" stop --state "$work/tools" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
failed=0
check() { # WHAT COMMAND…
    if "${@:2}"; then echo "ok $1"; else echo "FAILED $1"; failed=1; fi
}
sent() { sed -nE 's/.* ([0-9]+) bytes sent$/\1/p' <<<"$1"; }
tool() { "$tools/run.sh" "$1" --state "$work/tools" "${@:2}"; }
in_podman() { tool podman run --rm --network none "$@"; }
in_containerd() { tool ctr run --rm "docker.io/library/$1" "run$BASHPID-$RANDOM" "${@:2}"; }
digest_of() { sha256sum "$1" | cut -c-64; }

mkdir "$work/context"
head -c 20000000 /dev/urandom >"$work/context/big"
printf 'FROM busybox\nCOPY big /big\nCOPY small /small\n' >"$work/context/Dockerfile"
export COOPER_ROOT=$work/state
"$cooper" load -q -i "$base"
"$tools/run.sh" start --state "$work/tools"
export CONTAINERD_ADDRESS=$work/tools/containerd.sock

# The program `podman`, as cooper finds it.
mkdir "$work/bin"
printf '#!/bin/sh\nexec "%s" podman --state "%s" "$@"\n' "$tools/run.sh" "$work/tools" >"$work/bin/podman"
chmod +x "$work/bin/podman"

for way in service program containerd; do
    engine=podman
    in_image() { in_podman "$@"; }
    case $way in
        service) export CONTAINER_HOST=unix://$work/tools/podman.sock ;;
        program)
            unset CONTAINER_HOST
            export PATH=$work/bin:$PATH
            tool podman rmi --all --force >/dev/null
            ;;
        containerd)
            engine=containerd
            in_image() { in_containerd "$@"; }
            ;;
    esac
    echo one >"$work/context/small"
    "$cooper" build -q -t app:1 "$work/context" >/dev/null
    first=$("$cooper" save --$engine app:1)
    echo "   $first"
    check "$way: the first time the image is sent" [ "$(sent "$first")" -gt 20000000 ]
    check "$way: and nothing twice" [ "$(sent "$first")" -lt 30000000 ]
    again=$("$cooper" save --$engine app:1)
    echo "   $again"
    check "$way: the second time nothing is" [ "$(sent "$again")" = 0 ]
    echo two >"$work/context/small"
    "$cooper" build -q -t app:2 "$work/context" >/dev/null
    changed=$("$cooper" save --$engine app:2)
    echo "   $changed"
    check "$way: of a changed image the changed layer is sent" [ "$(sent "$changed")" -lt 20000 ]
    check "$way: and that is told" grep -q 'app:2: 2 of 3 layers were there' <<<"$changed"
    "$cooper" tag app:2 other:9
    check "$way: for another name nothing is sent" [ "$(sent "$("$cooper" save --$engine other:9)")" = 0 ]
    check "$way: the changed image runs" [ "$(in_image app:2 cat /small)" = two ]
    check "$way: the layers that were there are in it" \
        [ "$(in_image other:9 sha256sum /big | cut -c-64)" = "$(digest_of "$work/context/big")" ]
    check "$way: the first one is what it was" [ "$(in_image app:1 cat /small)" = one ]
    "$cooper" build -q --load=$engine -t loaded:1 "$work/context" >/dev/null
    check "$way: build --load hands over" [ "$(in_image loaded:1 cat /small)" = two ]
    if [ $engine = podman ]; then
        names=$(tool podman images --format '{{.Repository}}:{{.Tag}}')
        check "$way: no name of the passage is left" [ "$(grep -c 127.0.0.1 <<<"$names")" = 0 ]
    fi
done

# What an image refers to is kept by it, and goes with it.
blobs() { tool ctr content ls -q | wc -l; }
tool ctr images rm --sync docker.io/library/other:9 docker.io/library/loaded:1 >/dev/null
check "containerd keeps what its images refer to" [ "$(blobs)" = 8 ]
tool ctr images rm --sync docker.io/library/app:1 >/dev/null
check "and removes what no image does" [ "$(blobs)" = 5 ]
check "and still runs it" [ "$(in_containerd app:2 cat /small)" = two ]
"$cooper" build -q --provenance=mode=max --platform linux/amd64,linux/arm64 -t many:1 -o type=image - <<<'FROM scratch
LABEL a=b' >/dev/null
"$cooper" save --containerd many:1
check "all platforms and attestations are handed over" \
    grep -q 'linux/amd64,linux/arm64' <(tool ctr images ls)
check "another namespace gets the names, and no bytes" \
    [ "$(sent "$("$cooper" save --containerd --namespace k8s.io app:2)")" -lt 20000 ]
check "and the image is there" grep -q 'library/app:2' <(tool ctr -n k8s.io images ls)

# An interrupted transfer goes on where it was.
head -c 300000000 /dev/urandom >"$work/context/big"
"$cooper" build -q -t long:1 "$work/context" >/dev/null
"$cooper" save --containerd long:1 >/dev/null 2>&1 &
running=$!
ingests=$work/tools/containerd/io.containerd.content.v1.content/ingest
for _ in $(seq 1000); do
    [ -z "$(find "$ingests" -name data -size +2000k 2>/dev/null)" ] || break
    sleep 0.01
done
kill -9 $running
wait $running 2>/dev/null || true
rest=$("$cooper" save --containerd long:1)
echo "   $rest"
check "an interrupted transfer goes on where it was" [ "$(sent "$rest")" -lt 300000000 ]
check "and what arrives is whole" \
    [ "$(in_containerd long:1 sha256sum /big | cut -c-64)" = "$(digest_of "$work/context/big")" ]

"$tools/run.sh" stop --state "$work/tools"
for engine in podman containerd; do
    if CONTAINER_HOST=unix://$work/tools/podman.sock "$cooper" save --$engine app:1 2>"$work/error"; then failed=1; fi
    check "$engine that is not there is told of" grep -q 'is it running' "$work/error"
done
exit $failed
