#!/usr/bin/env bash
# Runs podman, buildah and containerd (see fetch.sh) in mount and process namespaces of their own, with one state
# directory below /tmp, which is also what they see of this machine's files.
#
#   tools/container_tools/run.sh start [--suite SUITE] [--state DIR]      containerd and Podman's service:
#                                                   DIR/containerd.sock and DIR/podman.sock
#   tools/container_tools/run.sh stop [--state DIR]                       ends them; the state is kept
#   tools/container_tools/run.sh podman|buildah|ctr|sh [--state DIR] [ARGS…]
#
# They stay in the caller's network namespace; containers need --network=none or host. Layers are kept by overlayfs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
suite=bookworm
state=/tmp/container-tools
command=${1:-}
[ $# -eq 0 ] || shift
while [ $# -gt 0 ]; do
    case $1 in
        --suite) suite=$2; shift 2 ;;
        --state) state=$2; shift 2 ;;
        *) break ;;
    esac
done
pid_file=$state/pid
running() { [ -s "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }

# Inside the new namespaces: a root made of the unpacked packages, the kernel's file systems, and /tmp.
inside() {
    local root=$1
    mount --make-rprivate /
    mount --bind "$root" "$root"
    cd "$root"
    mount -t proc proc proc
    mount --rbind /sys sys
    mount --rbind /dev dev
    mount --rbind /tmp tmp
    mount -t tmpfs tmpfs run
    mount -t tmpfs tmpfs var/tmp
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run CONTAINERS_CONF="$state/containers.conf" \
        CONTAINERS_STORAGE_CONF="$state/storage.conf" CONTAINERS_REGISTRIES_CONF="$state/registries.conf" \
        /usr/sbin/chroot "$root" /bin/sh -c '
        containerd --config "$1/containerd.toml" >"$1/containerd.log" 2>&1 &
        containerd=$!
        podman system service --time=0 "unix://$1/podman.sock" >"$1/podman.log" 2>&1 &
        podman=$!
        trap "kill $containerd $podman; wait; exit 0" TERM
        while kill -0 $containerd && kill -0 $podman; do sleep 0.2; done' sh "$state"
}

start() {
    local root
    if running; then echo "run.sh: it runs already in $state" >&2; exit 1; fi
    case $state in /tmp/*) ;; *) echo "run.sh: --state must be below /tmp" >&2; exit 2 ;; esac
    root=$("$here/fetch.sh" "$suite")
    mkdir -p "$state"
    rm -f "$state"/*.sock
    echo "$root" >"$state/root"
    printf 'version = 2\nroot = "%s"\nstate = "%s"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "%s"\n' \
        "$state/containerd" "$state/containerd-run" "$state/containerd.sock" >"$state/containerd.toml"
    printf '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n[containers]\nnetns = "none"\ncgroups = "enabled"\n' \
        >"$state/containers.conf"
    printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' \
        "$state/storage" "$state/storage-run" >"$state/storage.conf"
    : >"$state/registries.conf"
    setsid unshare --mount --pid --fork --kill-child "$0" inside --state "$state" "$root" \
        >"$state/log" 2>&1 9>&- </dev/null &
    echo $! >"$pid_file"
    for _ in $(seq 300); do
        if [ -S "$state/containerd.sock" ] && [ -S "$state/podman.sock" ] &&
            curl -sf --unix-socket "$state/podman.sock" -o /dev/null http://d/_ping; then
            return
        fi
        running || break
        sleep 0.1
    done
    tail -n 20 "$state"/*log >&2
    stop
    echo "run.sh: they do not start; their logs are $state/*.log" >&2
    exit 1
}

# The first process of the new namespaces.
first() { cat "/proc/$1/task/$1/children"; }

stop() {
    running || { rm -f "$pid_file"; return; }
    local pid
    pid=$(cat "$pid_file")
    kill $(first "$pid") 2>/dev/null || true
    for _ in $(seq 100); do running || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
    rm -f "$pid_file" "$state"/*.sock
}

client() {
    local root first
    root=$(cat "$state/root")
    first=$(first "$(cat "$pid_file")")
    exec nsenter --mount --pid --target ${first% } -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run \
        CONTAINERS_CONF="$state/containers.conf" CONTAINERS_STORAGE_CONF="$state/storage.conf" \
        CONTAINERS_REGISTRIES_CONF="$state/registries.conf" CONTAINERD_ADDRESS="$state/containerd.sock" \
        /usr/sbin/chroot "$root" "$@"
}

case $command in
    start) start ;;
    stop) stop ;;
    podman | buildah | ctr | sh) client "$command" "$@" ;;
    inside) inside "$@" ;;
    *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac
