#!/usr/bin/env bash
# Installs what is missing, builds, and runs all tests: units, the house check, scenarios, examples, and cooper beside BuildKit.
#
#   ./test.sh [--fast]      --fast leaves BuildKit and the examples out
set -euo pipefail
cd "$(dirname "$0")"
fast=
[ "${1:-}" = --fast ] && fast=1

tools/install_packages.sh build test
cmake --preset dev >/dev/null
cmake --build --preset dev

tools/base_images/make.sh busybox runtime >/dev/null
tools/base_images/make.sh emulators foreign >/dev/null || echo "without emulators: steps of other machines are skipped" >&2
[ -n "$fast" ] || tools/base_images/make.sh debian_arm64 >/dev/null || echo "without Debian for arm64" >&2
tools/docker_cli/fetch.sh >/dev/null || echo "without Docker's clients: the scenarios that need them are skipped" >&2
tools/kubernetes_models/fetch.sh >/dev/null || echo "without Kubernetes' types: its manifests are not checked" >&2
tools/s3_server/fetch.sh >/dev/null || echo "without an S3 server: caches in S3 are not tested" >&2
failed=0
ctest --preset dev -L 'unit|house' -j "$(nproc)" || failed=1
tests/scenario.py --cooper build/dev/bin/cooper tests/scenarios || failed=1
tests/why_mutations.py --cooper build/dev/bin/cooper || failed=1
tests/key_model.py --cooper build/dev/bin/cooper || failed=1
if [ -z "$fast" ]; then
    if tools/peer/fetch.sh sid >/dev/null; then
        tests/differential/run.py --cooper build/dev/bin/cooper || failed=1
        tests/interop/cache.sh build/dev/bin/cooper || failed=1
        tests/interop/handover.sh build/dev/bin/cooper || failed=1
    else
        echo "without Debian's dockerd: not compared with BuildKit" >&2
    fi
    tests/interop/handover_podman_containerd.sh build/dev/bin/cooper || failed=1
    tests/interop/unpack.sh build/dev/bin/cooper || failed=1
    tools/base_images/make.sh debian python node >/dev/null
    examples/run.sh build/dev/bin/cooper || failed=1
fi
exit $failed
