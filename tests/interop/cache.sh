#!/usr/bin/env bash
# Caches travel between cooper and BuildKit (in Debian's dockerd, see tools/peer): whatever one has exported, the other
# finds every step in.
#
#   tests/interop/cache.sh COOPER [SUITE]
#
# Needs root, a registry program, and a Debian mirror the first time. Everything runs in a network namespace with
# loopback only. Without the peer the test is skipped, and says so.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cooper=$(realpath "$1") suite=${2:-sid}
peer=$here/../../tools/peer
base=${COOPER_BASE_IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/cooper/base-images}/busybox.tar
if [ "$(id -u)" -ne 0 ] || ! command -v docker-registry >/dev/null; then
    echo "cache of BuildKit: SKIPPED, it needs root and docker-registry"
    exit 0
fi
if [ "${INTEROP_NETWORK:-}" != own ]; then
    "$peer/fetch.sh" "$suite" >/dev/null || { echo "cache of BuildKit: SKIPPED, there is no peer"; exit 0; }
    INTEROP_NETWORK=own exec unshare --net "$0" "$@"
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
"$cooper" --root "$work/one" load -q -i "$base" >/dev/null
"$cooper" --root "$work/one" tag busybox "$address/busybox:1"
"$cooper" --root "$work/one" push -q "$address/busybox:1" >/dev/null

context=$work/context
mkdir -p "$context/g"
echo hello >"$context/f"
echo x >"$context/g/x"
tar -C "$context" -cf "$context/t.tar" g
dockerfile() { # a word that makes its steps its own
    cat >"$context/Dockerfile" <<END
FROM $address/busybox:1 AS base
RUN --network=none echo $1 > /base
FROM base AS a
WORKDIR /w
COPY f g/ /w/
COPY --chown=3:4 --chmod=0640 g /owned
RUN --network=none cat /w/f > /a
FROM base AS heredocs
COPY <<one <<two /h/
1
one
2
two
RUN --network=none <<END_OF_SCRIPT
echo a > /s
echo b >> /s
END_OF_SCRIPT
FROM base
ARG VERSION=3
ENV X=1 PATH=/opt:\$PATH
SHELL ["/bin/sh", "-ec"]
COPY --from=a /a /a
COPY --link --from=heredocs /h /h
ADD --chown=1:2 f /added
ADD t.tar /unpacked
RUN --network=none --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --mount=type=bind,from=a,source=/w,target=/m cat /a /m/f > /ab
RUN --network=none --mount=type=bind,target=/ctx,rw cat /ctx/g/x > /x
USER 5
RUN --network=none echo \$X \$VERSION
END
}
failed=0
all_cached() { # what, log: every step that is not internal was found
    local missed
    missed=$(awk '/^#[0-9]+ \[/ && !/\[internal\]/ && !/ FROM / { name[$1] = $0 } /^#[0-9]+ CACHED/ { hit[$1] = 1 }
        END { for (n in name) if (!(n in hit)) print name[n] }' "$2")
    if [ -z "$missed" ] && grep -q ' CACHED' "$2"; then
        echo "ok $1"
    else
        echo "FAILED $1"
        sed 's/^/    /' "$2"
        failed=1
    fi
}
buildx() { "$peer/run.sh" buildx --state "$work/peer" build --provenance=false --progress=plain "$@" "$context"; }

for form in mode=max mode=max,image-manifest=false mode=max,compression=zstd; do
    name=${form//[=,]/-}
    dockerfile "ours-$name"
    "$cooper" --root "$work/one" build -q --cache-to "type=registry,ref=$address/cache:$name,$form" -o type=cacheonly "$context"
    buildx --cache-from "type=registry,ref=$address/cache:$name" >"$work/log" 2>&1 || true
    all_cached "BuildKit finds cooper's registry cache ($form)" "$work/log"

    dockerfile "theirs-$name"
    buildx --cache-to "type=registry,ref=$address/theirs:$name,$form" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    "$cooper" --root "$work/$name" build --progress=plain --cache-from "$address/theirs:$name" -o "$work/out" "$context" \
        >"$work/log" 2>&1 || failed=1
    all_cached "cooper finds BuildKit's registry cache ($form)" "$work/log"
done

dockerfile ours-local
"$cooper" --root "$work/one" build -q --cache-to "type=local,dest=$work/local,mode=max" -o type=cacheonly "$context"
buildx --cache-from "type=local,src=$work/local" >"$work/log" 2>&1 || true
all_cached "BuildKit finds cooper's local cache" "$work/log"

dockerfile theirs-local
buildx --cache-to "type=local,dest=$work/theirs,mode=max" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"$cooper" --root "$work/two" build --progress=plain --cache-from "type=local,src=$work/theirs" -o "$work/out" "$context" \
    >"$work/log" 2>&1 || failed=1
all_cached "cooper finds BuildKit's local cache" "$work/log"

# An inline cache has the steps of the last stage, so the Dockerfile gets one stage.
inline() {
    dockerfile "$1"
    sed -i -e '/^FROM base AS a/,/^FROM base$/d' -e '/--from=/d' -e 's/,from=a,source=\/w//; /m\/f/d' "$context/Dockerfile"
}
inline ours-inline
"$cooper" --root "$work/one" build -q --cache-to inline -t "$address/image:ours" --push "$context" >/dev/null
buildx --cache-from "$address/image:ours" >"$work/log" 2>&1 || true
all_cached "BuildKit finds cooper's inline cache" "$work/log"

inline theirs-inline
buildx --cache-to type=inline -t "$address/image:theirs" --push >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"$cooper" --root "$work/three" build --progress=plain --cache-from "$address/image:theirs" -o "$work/out" "$context" \
    >"$work/log" 2>&1 || failed=1
all_cached "cooper finds BuildKit's inline cache" "$work/log"
exit $failed
