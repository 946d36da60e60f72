#!/usr/bin/env bash
# What we write, as others read it: Podman and buildah (tools/container_tools) load, pull, mount and run images of every
# compression, and their files are, one for one, those that cooper itself exports. All documents are valid by the JSON
# schemas of the image specification.
#
#   tests/interop/unpack.sh COOPER
#
# Needs root and a Debian mirror the first time. Everything runs in a network namespace with loopback only. Without the
# tools the test is skipped, and says so.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cooper=$(realpath "$1")
tools=$here/../../tools/container_tools
base=${COOPER_BASE_IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/cooper/base-images}/busybox.tar
if [ "$(id -u)" -ne 0 ]; then
    echo "unpacking by Podman and buildah: SKIPPED, it needs root"
    exit 0
fi
if [ "${INTEROP_NETWORK:-}" != own ]; then
    "$tools/fetch.sh" >/dev/null || { echo "unpacking by Podman and buildah: SKIPPED, there are none"; exit 0; }
    INTEROP_NETWORK=own exec unshare --net "$0" "$@"
fi
ip link set lo up

work=$(mktemp -d /tmp/unpack.XXXXXX)
registry=
cleanup() {
    [ -z "$registry" ] || kill "$registry" 2>/dev/null || true
    "$tools/run.sh" stop --state "$work/tools" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
failed=0
check() { # WHAT COMMAND…
    if "${@:2}"; then echo "ok $1"; else echo "FAILED $1"; failed=1; fi
}
tool() { "$tools/run.sh" "$1" --state "$work/tools" "${@:2}"; }
same() { diff -u "$work/ours" "$1" | head -n 20; cmp -s "$work/ours" "$1"; }

# Files of all kinds: attributes come with a tar, as a step cannot set all of them.
mkdir "$work/context"
cp "$here/../file_tree.py" "$here/../oci_schemas.py" "$work"
python3 - "$work/context/attributes.tar" <<'PYTHON'
import io, sys, tarfile
with tarfile.open(sys.argv[1], "w", format=tarfile.PAX_FORMAT) as tar:
    def add(name, data=b"", **more):
        info = tarfile.TarInfo(name)
        info.mtime = 1500000000
        info.pax_headers = more.pop("pax", {})
        for key, value in more.items():
            setattr(info, key, value)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    add("x/noted", b"n", pax={"SCHILY.xattr.user.note": "of mine"})
    add("x/able", b"#!/bin/sh\n", mode=0o755,
        pax={"SCHILY.xattr.security.capability": "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0"})
    add("x/far", b"f", uid=3000000, gid=3000001)
    add("x/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    add("x/" + "long/" * 30 + "name", b"l")
PYTHON
cat >"$work/context/Dockerfile" <<'DOCKERFILE'
FROM busybox
RUN mkdir -p /d/e && echo 1 > /d/one && ln /d/one /d/two && ln -s ../one /d/e/link && mkfifo /d/pipe && \
    chmod 4711 /d/one && chown 7:8 /d/e && touch -d @1000000000 /d/e /d/one && mkdir -m 1777 /sticky
RUN rm /etc/group && chmod 0700 /d && mv /d/e /d/f && head -c 100000 /dev/urandom > /d/data && : > '/d/ü x'
ADD attributes.tar /
COPY --chown=11:12 --chmod=2750 Dockerfile /copied/here/Dockerfile
RUN rm -r /d/f && mkdir /d/f && echo new > /d/f/new && ln /copied/here/Dockerfile /copied/again
WORKDIR /w
ENV GREETING=hello
LABEL one=two
USER 11:12
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo $GREETING $(id -u):$(id -g) $PWD"]
DOCKERFILE
export COOPER_ROOT=$work/state
"$cooper" load -q -i "$base"
"$tools/run.sh" start --state "$work/tools"

"$cooper" build -q -t app -o "type=local,dest=$work/tree" -o "type=docker,dest=$work/docker.tar" "$work/context" >/dev/null
python3 "$here/../file_tree.py" "$work/tree" >"$work/ours"
check "the export has hard links, attributes and a capability" \
    [ "$(grep -cE 'same as .d/one|same as .copied/again|user.note=|security.capability=|device 1:3|3000000:3000001' "$work/ours")" -ge 8 ]
said="hello 11:12 /w"

# eStargz puts two files of its own into layers.
tree_of() { # DIRECTORY
    tool sh -c "python3 $work/file_tree.py $1" | sed -E "/^'(\.no\.prefetch\.landmark|stargz\.index\.json)' /d" >"$work/theirs"
}
by_podman() { # WHAT ID
    local mounted
    mounted=$(tool podman image mount "$2")
    tree_of "$mounted"
    tool podman image unmount "$2" >/dev/null
    check "$1: Podman has the same files" same "$work/theirs"
    check "$1: Podman runs it" [ "$(tool podman run --rm --network none "$2")" = "$said" ]
}
by_buildah() { # WHAT SOURCE
    local container mounted
    container=$(tool buildah from "$2" 2>/dev/null | tail -n 1)
    mounted=$(tool buildah mount "$container")
    tree_of "$mounted"
    check "$1: buildah has the same files" same "$work/theirs"
    check "$1: buildah runs it" \
        [ "$(tool buildah run --isolation chroot "$container" -- /bin/sh -c 'echo $GREETING $(id -u):$(id -g) $PWD')" = "$said" ]
    tool buildah rm "$container" >/dev/null
}

# Each way of packing, the base image's layers as well.
layouts=()
for kind in gzip zstd estargz uncompressed; do
    "$cooper" build -q -o "type=oci,dest=$work/$kind.tar,compression=$kind,force-compression=true" \
        -o "type=oci,tar=false,dest=$work/$kind,compression=$kind,force-compression=true" "$work/context" >/dev/null
    layouts+=("$work/$kind")
    tool podman rmi --all --force >/dev/null
    by_podman "$kind" "$(tool podman load -q -i "$work/$kind.tar" | sed 's/.*: //')"
    tool podman rmi --all --force >/dev/null
    by_buildah "$kind" "oci-archive:$work/$kind.tar"
done
tool podman rmi --all --force >/dev/null
tool podman load -q -i "$work/docker.tar" >/dev/null
by_podman "a docker archive" docker.io/library/app:latest

# By way of a registry.
if command -v docker-registry >/dev/null; then
    printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:5009"}\n' \
        "$work/registry" >"$work/registry.yml"
    docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
    registry=$!
    for _ in $(seq 100); do curl -sf http://127.0.0.1:5009/v2/ -o /dev/null && break; sleep 0.1; done
    "$cooper" build -q --provenance=mode=max --platform linux/amd64 -t 127.0.0.1:5009/app:1 -o type=registry "$work/context" >/dev/null
    tool podman rmi --all --force >/dev/null
    tool podman pull -q --tls-verify=false 127.0.0.1:5009/app:1 >/dev/null
    by_podman "pulled, with what is attested" 127.0.0.1:5009/app:1
    tool podman rmi --all --force >/dev/null
    "$cooper" build -q -t 127.0.0.1:5009/app:z -o type=registry,compression=zstd,force-compression=true "$work/context" >/dev/null
    tool podman pull -q --tls-verify=false 127.0.0.1:5009/app:z >/dev/null
    by_podman "pulled, packed with zstd" 127.0.0.1:5009/app:z
else
    echo "without docker-registry: SKIPPED, pulling by Podman"
fi

# Every kind of output by the specification's own schemas.
printf 'FROM scratch\nCOPY Dockerfile /\n' >"$work/context/small"
"$cooper" build -q -f "$work/context/small" --platform linux/amd64,linux/arm64,linux/arm/v7 --provenance=mode=max --sbom=true \
    -o "type=oci,tar=false,annotation.a=b,annotation-index.c=d,dest=$work/several" "$work/context" >/dev/null
"$cooper" build -q -f "$work/context/small" -o "type=oci,tar=false,dest=$work/cached" \
    --cache-to "type=local,dest=$work/cache,image-manifest=true" "$work/context" >/dev/null
# Without one that has no layers: the schemas of Debian (1.1.0-rc2) want a layer, the specification since does not.
"$cooper" build -q -f "$work/context/small" -t small "$work/context" >/dev/null
"$cooper" save -o "$work/saved.tar" app small
mkdir "$work/saved" "$work/archive"
tar -xf "$work/saved.tar" -C "$work/saved"
tar -xf "$work/docker.tar" -C "$work/archive"
layouts+=("$work/several" "$work/cached" "$work/saved" "$work/archive")
schemas=/usr/share/gocode/src/github.com/opencontainers/image-spec/schema
valid() { tool sh -c "python3 -W ignore $work/oci_schemas.py $schemas $*"; }
check "all documents are valid by the schemas of the specification" valid "${layouts[@]}"
sed -i 's/"schemaVersion": *2/"schemaVersion": "2"/' "$work/gzip/index.json"
check "and one that is not is found" [ "$(valid "$work/gzip" | grep -c "index.json: schemaVersion: '2' is not")" = 1 ]
exit $failed
