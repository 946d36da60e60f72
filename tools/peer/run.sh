#!/usr/bin/env bash
# Runs the peer's dockerd (see fetch.sh) in mount and process namespaces of its own, below one state directory.
#
#   tools/peer/run.sh start [--suite SUITE] [--state DIR] [--net own|here] [--images containerd|layers]
#                                                                             prints the socket's address for DOCKER_HOST
#   tools/peer/run.sh stop [--state DIR]                                      ends it; the state is kept
#   tools/peer/run.sh docker|buildx|nsenter [--state DIR] [ARGS…]             its clients; a program in its network
#
# --state defaults to $COOPER_PEER/state (~/.cache/cooper/peer/state). With --net=own (the default) it has a network
# namespace of its own, with loopback and its bridge. With --net=here it stays in the caller's and makes no bridge, so
# that steps need --network=none or host. --images says where it keeps them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
peer=${COOPER_PEER:-${XDG_CACHE_HOME:-$HOME/.cache}/cooper/peer}
suite=trixie
state=$peer/state
net=own
images=containerd
command=${1:-}
[ $# -eq 0 ] || shift
while [ $# -gt 0 ]; do
    case $1 in
        --suite) suite=$2; shift 2 ;;
        --state) state=$2; shift 2 ;;
        --net) net=$2; shift 2 ;;
        --images) images=$2; shift 2 ;;
        *) break ;;
    esac
done
pid_file=$state/pid
running() { [ -s "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }

# Inside the new namespaces: a root made of the unpacked packages, the kernel's file systems, and the state.
inside() {
    local root=$1
    mount --make-rprivate /
    [ "$net" = here ] || ip link set lo up
    mount --bind "$root" "$root"
    cd "$root"
    mount -t proc proc proc
    mount --rbind /sys sys
    mount --rbind /dev dev
    mount -t tmpfs tmpfs tmp
    mount -t tmpfs tmpfs run
    mkdir -p run/peer
    mount --bind "$state" run/peer
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp /usr/sbin/chroot "$root" \
        /usr/sbin/dockerd --config-file /run/peer/daemon.json
}

start() {
    local root
    if running; then echo "run.sh: it runs already in $state" >&2; exit 1; fi
    root=$("$here/fetch.sh" "$suite")
    mkdir -p "$state/data"
    rm -f "$state/docker.sock"
    echo "$root" >"$state/root"
    cat >"$state/daemon.json" <<JSON
{
    "hosts": ["unix:///run/peer/docker.sock"],
    "data-root": "/run/peer/data",
    "exec-root": "/run/docker",
    "pidfile": "/run/docker.pid",
$([ "$net" = own ] || echo '    "bridge": "none",')
    "iptables": false,
    "ip6tables": false,
    "ip-forward": false,
    "features": {"containerd-snapshotter": $([ "$images" = containerd ] && echo true || echo false)}
}
JSON
    local flags=(--mount --pid --fork --kill-child)
    [ "$net" = here ] || flags+=(--net)
    setsid unshare "${flags[@]}" "$0" inside --state "$state" --net "$net" "$root" \
        >"$state/log" 2>&1 9>&- </dev/null &
    echo $! >"$pid_file"
    for _ in $(seq 300); do
        if [ -S "$state/docker.sock" ] && curl -sf --unix-socket "$state/docker.sock" -o /dev/null http://d/_ping; then
            echo "unix://$state/docker.sock"
            return
        fi
        running || break
        sleep 0.1
    done
    tail -n 20 "$state/log" >&2
    stop
    echo "run.sh: dockerd does not start; its log is $state/log" >&2
    exit 1
}

stop() {
    running || { rm -f "$pid_file"; return; }
    local pid
    pid=$(cat "$pid_file")
    kill "$(cat /proc/"$pid"/task/"$pid"/children)" 2>/dev/null || true
    for _ in $(seq 100); do running || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
    rm -f "$pid_file" "$state/docker.sock"
}

client() {
    local root
    root=$(cat "$state/root")
    export DOCKER_HOST=unix://$state/docker.sock DOCKER_CONFIG=$state/client
    exec "$root/$1" "${@:2}"
}

case $command in
    start) start ;;
    stop) stop ;;
    docker) client usr/bin/docker "$@" ;;
    buildx) client usr/libexec/docker/cli-plugins/docker-buildx "$@" ;;
    nsenter) exec nsenter --net --target "$(cat "$pid_file")" -- "$@" ;;
    inside) inside "$@" ;;
    *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac
