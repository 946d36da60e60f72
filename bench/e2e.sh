#!/usr/bin/env bash
# Whole-process benchmarks of cooper beside floors of this machine, in one run:
#
#   bench/e2e.sh [build/release/bin/cooper] [RUNS]        (as root; busybox base image made when missing)
#
# Names never change: cached_12_steps, stages_300_cached, run_step_host, run_step_default, copy_50k_cold,
# copy_50k_unchanged, copy_50k_one_edited, copy_10_of_50k. Prints medians in ms with the floor's.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
cooper=$(realpath "${1:-$here/build/release/bin/cooper}")
runs=${2:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export COOPER_ROOT=$work/state
images=$("$here/tools/base_images/make.sh" busybox)
"$cooper" load -q -i "$images/busybox.tar"

ms() { # command: wall time in ms
    local a b
    a=$(date +%s%N)
    "$@" >/dev/null 2>&1
    b=$(date +%s%N)
    echo $(((b - a) / 10000)) | sed 's/..$/.&/'
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
report() { printf '%-22s %10s ms   %s\n' "$1" "$2" "${3:-}"; }

mkdir -p "$work/c12" "$work/c300" "$work/empty" "$work/k50/t"
echo a >"$work/c12/a.txt"
cat >"$work/c12/Dockerfile" <<'EOF'
FROM busybox AS build
WORKDIR /app
COPY a.txt .
RUN echo 1 > 1
RUN echo 2 > 2
RUN echo 3 > 3
RUN echo 4 > 4
FROM busybox
WORKDIR /srv
COPY --from=build /app/1 1
COPY --from=build /app/4 4
RUN echo done > done
EOF
"$cooper" build -q -t bench/12 "$work/c12" >/dev/null
report cached_12_steps "$(for _ in $(seq 20); do ms "$cooper" build -t bench/12 "$work/c12"; done | median)" "target 25"

for w in $(seq 30); do
    previous=scratch
    for d in $(seq 10); do
        printf 'FROM %s AS s%d_%d\nCOPY f /d%d\n' "$previous" "$w" "$d" "$d"
        previous=s${w}_$d
    done
done >"$work/c300/Dockerfile"
{ echo FROM scratch; for w in $(seq 30); do echo "COPY --from=s${w}_10 / /o$w/"; done; } >>"$work/c300/Dockerfile"
echo x >"$work/c300/f"
"$cooper" build -q -t bench/300 "$work/c300" >/dev/null
report stages_300_cached "$(for _ in $(seq 10); do ms "$cooper" build -t bench/300 "$work/c300"; done | median)" "target 40"

{ echo FROM busybox; echo ARG N; for i in $(seq 50); do echo "RUN echo $i >> /f"; done; } >"$work/run50"
for network in host default; do
    total=$(for n in $(seq "$runs"); do
        ms "$cooper" build --build-arg "N=$network$n" --network=$network --allow network.host -f "$work/run50" "$work/empty"
    done | median)
    report "run_step_$network" "$(awk "BEGIN {print $total / 50}")" "per step, target 12 over the bare command"
done

python3 - "$work/k50" <<'EOF'
import os, sys
data = os.urandom(8000)
for d in range(500):
    os.makedirs(f"{sys.argv[1]}/t/d{d}")
    for f in range(100):
        with open(f"{sys.argv[1]}/t/d{d}/f{f}", "wb") as file:
            file.write(data[(d * 7 + f) % 3000:][:1000 + (d * f) % 3000])
EOF
printf 'FROM scratch\nCOPY t /t\n' >"$work/k50/Dockerfile"
printf 'FROM scratch\nCOPY t/d1/f1* /t/\n' >"$work/k50/ten"
sync
sleep 3
floor=$(for _ in $(seq "$runs"); do rm -rf "$work/copy"; sync; ms cp -a "$work/k50/t" "$work/copy"; done | median)
cold=$(for n in $(seq "$runs"); do sync; COOPER_ROOT=$work/cold$n ms "$cooper" build "$work/k50"; rm -rf "$work/cold$n"; done | median)
report copy_50k_cold "$cold" "cp -a $floor, target 1.5x"
"$cooper" build -q "$work/k50" >/dev/null
walk=$(for _ in $(seq 5); do ms find "$work/k50/t" -printf '%s%m'; done | median)
report copy_50k_unchanged "$(for _ in $(seq 5); do ms "$cooper" build "$work/k50"; done | median)" "stat walk $walk, target 2x"
links=$(for _ in $(seq "$runs"); do rm -rf "$work/links"; ms cp -al "$work/copy" "$work/links"; done | median)
edited=$(for n in $(seq "$runs"); do echo "$n" >"$work/k50/t/d$n/f$n"; ms "$cooper" build "$work/k50"; done | median)
report copy_50k_one_edited "$edited" "cp -al $links, target 1x"
report copy_10_of_50k "$(for _ in $(seq 5); do ms "$cooper" build --no-cache -f "$work/k50/ten" "$work/k50"; done | median)" "only those are read"
