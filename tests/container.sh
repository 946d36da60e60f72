# To be sourced: runs an image that cooper has built as Docker and Kubernetes run it, with crun and umoci.
#
#   container_context BUILD-DIR FOLDER                           bin/ and libraries/ for building the image, into FOLDER
#   container_unpack LAYOUT[:TAG] BUNDLE [bundle.py's FLAGS…]    from a layout (-o type=oci,tar=false)
#   container_start BUNDLE                                       in the background; its log is BUNDLE/log
#   container_exec BUNDLE COMMAND…                               as `docker exec -i`
#   container_stop BUNDLE                                        SIGTERM; prints the exit status
# Whoever sources this gets a trap that ends the containers with the shell.

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
containers=()

# The programs are linked with this machine's libraries, which may be newer than those of the base image.
container_context() {
    local name library
    mkdir -p "$2/bin" "$2/libraries"
    for name in cooperd cooper-init; do strip -o "$2/bin/$name" "$1/$name"; done
    {
        ldd "$2/bin/cooperd" | awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }'
        dpkg -L libc6 | grep -E '/lib/[^/]*-linux-gnu/[^/]*\.so[^/]*$'
    } | while read -r library; do cp -Lf "$library" "$2/libraries/"; done
}

container_crun() { # BUNDLE ARGS…
    crun --cgroup-manager=disabled --root "$1/crun" "${@:2}"
}

container_end() {
    local bundle
    for bundle in "${containers[@]}"; do
        container_crun "$bundle" kill box KILL 2>/dev/null || true
        wait "$(cat "$bundle/runner")" 2>/dev/null || true
        container_crun "$bundle" delete -f box 2>/dev/null || true
    done
}
trap container_end EXIT

container_unpack() {
    umoci unpack --image "$1" "$2" >/dev/null
    "$tests/bundle.py" "${@:2}"
    # Docker executes further commands as the image's user.
    python3 -c 'import json, sys; u = json.load(open(sys.argv[1]))["process"]["user"]; print(u["uid"], u["gid"], sep=":")' \
        "$2/config.json" >"$2/user"
}

container_start() {
    local bundle=$1
    containers+=("$bundle")
    mkdir -p "$bundle/crun"
    # crun wants no cgroup2 beside the first version's hierarchies; the mount goes away in a namespace of its own.
    unshare --mount bash -c '
        awk "\$5 != \"/sys/fs/cgroup\" && / - cgroup2 / { print \$5 }" /proc/self/mountinfo | xargs -r umount
        exec crun --cgroup-manager=disabled --root "$0/crun" run --bundle "$0" box' "$bundle" \
        >"$bundle/log" 2>&1 </dev/null &
    echo $! >"$bundle/runner"
}

container_exec() {
    container_crun "$1" exec --user "$(cat "$1/user")" box "${@:2}"
}

# The daemon's readiness, asked as the drivers ask for it.
container_ready() {
    local _
    for _ in $(seq 200); do
        ! container_exec "$1" buildctl debug workers >"$1/workers" 2>&1 || return 0
        kill -0 "$(cat "$1/runner")" 2>/dev/null || break
        sleep 0.1
    done
    cat "$1/log" "$1/workers" >&2
    return 1
}

container_stop() {
    local status=0
    container_crun "$1" kill box TERM
    wait "$(cat "$1/runner")" || status=$?
    echo "status $status"
}

# docker_for BUNDLE NAME FOLDER: a `docker` that knows `exec`, for clients that reach a builder through it.
docker_for() {
    mkdir -p "$3"
    cat >"$3/docker" <<END
#!/bin/bash
echo "docker \$*" >>"$3/asked"
while [ "\$1" != "$2" ]; do shift; done
exec crun --cgroup-manager=disabled --root "$1/crun" exec --user "$(cat "$1/user")" box "\${@:2}"
END
    chmod +x "$3/docker"
}
