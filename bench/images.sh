#!/usr/bin/env bash
# Images moved and packed, beside the tools of the field, in one run:
#
#   bench/images.sh [build/release/bin/cooper] [RUNS] [MB]   (as root; docker-registry, skopeo, umoci, gzip, zstd)
#
# Names never change: pull_200mb, export_gzip, export_zstd. The files are of /usr: libraries, programs, texts. Prints
# medians in ms with the floor's, and sizes where bytes are packed. Nothing is left behind.
set -euo pipefail
cooper=$(realpath "${1:-build/release/bin/cooper}")
runs=${2:-3}
megabytes=${3:-500}  # of files: the layer that is packed, and the image that is pulled
work=$(mktemp -d /var/tmp/cooper-images.XXXXXX)
registry=
trap '[ -z "$registry" ] || kill "$registry"; rm -rf "$work"' EXIT
unset COOPER_ROOT
export COOPER_ROOT=$work/state

median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
# Milliseconds of `$1`, the median of the runs; `$2` is run before each and not counted.
measure() {
    for _ in $(seq "$runs"); do
        eval "$2"
        local start=$(date +%s%N)
        eval "$1" > /dev/null 2>&1 || { echo "failed: $1" >&2; exit 1; }
        echo $((($(date +%s%N) - start) / 1000000))
    done | median
}
report() { awk -v n="$1" -v a="$2" -v b="$3" 'BEGIN {printf "%-14s %7d ms   floor %7d ms   %.2fx\n", n, a, b, b / a}'; }

# About $1 MB of files in $2.
take_files() {
    mkdir -p "$2"
    (cd /usr && find lib bin share -xdev -type f -size -20M -printf '%s %p\n' 2> /dev/null | sort -k2 |
        awk -v most="$1" '{sum += $1; if (sum <= most * 1000000) print substr($0, index($0, " ") + 1)}' |
        tar -cf - -T -) | tar -xf - -C "$2"
}

# One layer, packed anew each time.
mkdir "$work/context"
take_files "$megabytes" "$work/context/files"
printf 'FROM scratch\nCOPY files /\n' > "$work/context/Dockerfile"
build() { "$cooper" build --progress=quiet "$@" "$work/context"; }
build -o type=oci,compression=uncompressed,dest="$work/plain.tar"
plain=$(tar -tvf "$work/plain.tar" | sort -k3 -n | tail -1 | awk '{print $NF}')
tar -xOf "$work/plain.tar" "$plain" > "$work/layer.tar"
rm "$work/plain.tar"
pack() { # name, compression, floor's command
    # Another state each time, so that nothing packed before is found; the layer itself is made outside the measurement.
    measure "build -o type=oci,compression=$2,dest=$work/out.tar" \
        "rm -rf $work/state; build -o type=cacheonly >/dev/null 2>&1; cat $work/layer.tar > /dev/null" > "$work/ours"
    measure "$3 < $work/layer.tar > $work/floor" "cat $work/layer.tar > /dev/null" > "$work/theirs"
    report "$1" "$(cat "$work/ours")" "$(cat "$work/theirs")"
    awk -v a="$(stat -c %s "$work/out.tar")" -v b="$(stat -c %s "$work/floor")" \
        'BEGIN {printf "%-14s %7.1f MB   floor %7.1f MB   %+.1f%%\n", "", a / 1e6, b / 1e6, 100 * (a - b) / b}'
}
pack export_gzip gzip "gzip -6"
pack export_zstd zstd "zstd -q -3 -T2"

# An image of four gzip layers (200 MB together, of 500 MB of files), pulled from a registry on loopback and unpacked.
rm -rf "$work/context/files" "$work/layer.tar" "$work/floor" "$work/out.tar"
for part in 1 2 3 4; do
    take_files "$megabytes" "$work/all"
    mkdir -p "$work/context/$part"
    (cd "$work/all" && find . -type f | sort | awk -v part=$part 'NR % 4 == part - 1' | tar -cf - -T -) |
        tar -xf - -C "$work/context/$part"
    rm -rf "$work/all"
done
printf 'FROM scratch\nCOPY 1 /\nCOPY 2 /\nCOPY 3 /\nCOPY 4 /\n' > "$work/context/Dockerfile"
port=$((20000 + RANDOM % 20000))
cat > "$work/registry.yml" <<END
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: 127.0.0.1:$port}
END
docker-registry serve "$work/registry.yml" > "$work/registry.log" 2>&1 &
registry=$!
for _ in $(seq 50); do (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null && break || sleep 0.1; done
name=127.0.0.1:$port/image:1
build -o type=registry,name="$name"
du -sm "$work/registry" | awk '{print "the image has " $1 " MB at the registry"}'
measure "$cooper --root $work/pulled pull -q $name" "rm -rf $work/pulled" > "$work/ours"
du -sm "$work/pulled/blobs" | awk '{print "of its bytes " $1 " MB are kept beside the files"}'
rm -rf "$work/pulled"
measure "skopeo copy -q --src-tls-verify=false docker://$name oci:$work/layout:x &&
    umoci unpack --image $work/layout:x $work/bundle" "rm -rf $work/layout $work/bundle" > "$work/theirs"
report pull_200mb "$(cat "$work/ours")" "$(cat "$work/theirs")"
