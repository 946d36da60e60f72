#!/usr/bin/env bash
# Builds every example with COOPER (first argument, default: cooper on PATH), checks what came out, and
# builds it again fully cached. Prints one line per check and a count.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cooper=$(realpath "${1:-$(command -v cooper)}")
only=${2:-}
work=$(mktemp -d)
export COOPER_ROOT=${COOPER_ROOT:-$work/state}
passed=0 failed=0
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
    wait "${pids[@]}" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

check() { # name, command…
    local name=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        passed=$((passed + 1))
        echo "ok $name"
    else
        failed=$((failed + 1))
        echo "FAILED $name"
        tail -n 40 "$work/out" | sed 's/^/    /'
    fi
}
prints() { # expected text, command…
    local want=$1 got
    shift
    got=$("$@" 2>&1) || { echo "$got"; return 1; }
    [[ $got == *"$want"* ]] || { echo "wanted '$want', got: $got"; return 1; }
}
cached() { # cooper build arguments: every step must be CACHED, nothing may run
    local log
    log=$("$cooper" build --progress=plain "$@" 2>&1) || { echo "$log"; return 1; }
    ! grep -E '^#[0-9]+ [0-9.]+ ' <<<"$log" || { echo "$log"; return 1; }
    grep -q 'CACHED' <<<"$log"
}

# Base images, a package index and a git server, all local.
images=$("$here/../tools/base_images/make.sh")
packages=$("$here/../tools/packages/make.sh" 2>/dev/null)
for image in "$images"/*.tar; do "$cooper" load -q -i "$image" || exit 1; done
python3 - "$packages" "$work/port" <<'PY' >/dev/null 2>&1 &
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
open(sys.argv[2], "w").write(str(server.server_address[1]))
server.serve_forever()
PY
pids+=($!)
for _ in $(seq 100); do [ -s "$work/port" ] && break; sleep 0.05; done
index=http://127.0.0.1:$(cat "$work/port")/simple
common=(--network=host --allow network.host --build-arg "PIP_INDEX_URL=$index")

# npm through this machine's registry: its settings reach the build as secrets.
: >"$work/ca.pem"
ca=${NODE_EXTRA_CA_CERTS:-/etc/ssl/certs/ca-certificates.crt}
[ -r "$ca" ] && head -c 500000 "$ca" >"$work/ca.pem"
{
    command -v npm >/dev/null && echo "registry=$(npm config get registry 2>/dev/null)"
    echo "cafile=/run/secrets/ca.pem"
} >"$work/npmrc"
npm=(--secret "id=npmrc,src=$work/npmrc" --secret "id=ca,src=$work/ca.pem")

build() { # name, folder, further arguments…
    local name=$1 folder=$2
    shift 2
    [ -n "$only" ] && [ "$only" != "$folder" ] && return 1
    check "$name builds" "$cooper" build --progress=plain -t "example/$name" "$@" "$here/$folder"
    check "$name is cached" cached -t "example/$name" "$@" "$here/$folder"
}

if build flask flask "${common[@]}"; then
    build flask-single flask "${common[@]}" -f "$here/flask/Dockerfile.single"
    port=$((20000 + RANDOM % 20000))
    "$cooper" run --rm -p "127.0.0.1:$port:5000" example/flask >"$work/flask.log" 2>&1 &
    pids+=($!)
    for _ in $(seq 100); do curl -sf -m 2 "http://127.0.0.1:$port/" >"$work/page" && break; sleep 0.1; done
    check "flask answers" grep -q "Hello, Docker!" "$work/page"
    # A Python program that is pid 1 ignores SIGTERM, in every container runtime.
    kill -9 $! 2>/dev/null
    wait $! 2>/dev/null
fi
build wheels wheels "${common[@]}" &&
    check "wheels runs" prints "sum: 500500" "$cooper" run --rm example/wheels
build dataset dataset && check "dataset runs" prints "rows: 10 last: 81" "$cooper" run --rm example/dataset
if build conditional-arg conditional-arg; then
    check "conditional-arg default" prints production "$cooper" run --rm example/conditional-arg
    build conditional-dev conditional-arg --build-arg ENV=development
    check "conditional-arg development" prints development "$cooper" run --rm example/conditional-dev
fi
if build tested tested "${common[@]}"; then
    check "tested runs" prints "double: 42" "$cooper" run --rm example/tested
    cp -r "$here/tested" "$work/broken"
    sed -i 's/2 \* n/3 * n/' "$work/broken/main.py"
    check "a failing test stops the build" bash -c '! "$@"' - "$cooper" build -t example/broken "${common[@]}" "$work/broken"
fi
build scratch scratch && check "scratch has one file" prints output.txt \
    bash -c '"$1" build -q -o - "$2" | tar -t' - "$cooper" "$here/scratch"
build parallel parallel "${common[@]}" "${npm[@]}" &&
    check "parallel runs" prints "is-number 7.0.0" "$cooper" run --rm example/parallel
build cache-mounts cache-mounts "${common[@]}" "${npm[@]}" &&
    check "cache-mounts runs" prints node_modules "$cooper" run --rm example/cache-mounts
if build dev-prod dev-prod "${common[@]}"; then
    check "dev-prod runs" prints gunicorn "$cooper" run --rm example/dev-prod
    check "dev is never touched" bash -c '! "$@" 2>&1 | grep "\[dev "' - "$cooper" build --progress=plain --no-cache \
        -t example/dev-prod "${common[@]}" "$here/dev-prod"
fi
if [ -z "$only" ] || [ "$only" = mounts ]; then
    # A git server over SSH that knows one key, which only the agent holds.
    ssh-keygen -q -t ed25519 -N '' -f "$work/user-key"
    ssh-keygen -q -t ed25519 -N '' -f "$work/host-key"
    cp "$work/user-key.pub" "$work/authorized"
    git init -q --bare "$work/private.git"
    git init -q "$work/clone" && (cd "$work/clone" && echo "from a private repository" >README && git add README &&
        git -c user.name=x -c user.email=x@example.com commit -q -m x && git push -q "$work/private.git" HEAD:refs/heads/main)
    git -C "$work/private.git" symbolic-ref HEAD refs/heads/main
    chmod 0755 "$work"
    sshport=$((20000 + RANDOM % 20000))
    mkdir -p /run/sshd
    "$(command -v sshd || echo /usr/sbin/sshd)" -D -f /dev/null -p "$sshport" -o ListenAddress=127.0.0.1 \
        -o "HostKey=$work/host-key" -o "AuthorizedKeysFile=$work/authorized" -o StrictModes=no -o UsePAM=no \
        -o PidFile=none -o PermitRootLogin=yes -o PasswordAuthentication=no >"$work/sshd.log" 2>&1 &
    pids+=($!)
    eval "$(ssh-agent)" >/dev/null
    pids+=("$SSH_AGENT_PID")
    ssh-add -q "$work/user-key"
    for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$sshport") 2>/dev/null && break; sleep 0.05; done
    export GITHUB_TOKEN=example-token
    build mounts mounts "${common[@]}" --ssh default --secret id=github_token,env=GITHUB_TOKEN \
        --build-arg "GIT_HOST=$(id -un)@127.0.0.1:$sshport$work" &&
        check "mounts runs" prints "from a private repository" "$cooper" run --rm example/mounts
    check "no secret in the image" bash -c '! "$1" save example/mounts | grep -a -q example-token' - "$cooper"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
