#!/usr/bin/env bash
# Installs the Debian 12 packages that building, testing and the demo need. Does nothing when all are there.
#
#   tools/install_packages.sh [build] [test] [demo]      (default: build test)
set -euo pipefail

build=(g++ cmake ninja-build ccache pkg-config git ca-certificates
    libfmt-dev libssl-dev libzstd-dev libisal-dev libdeflate-dev libsqlite3-dev libbz2-dev liblzma-dev zlib1g-dev
    libcurl4-openssl-dev nlohmann-json3-dev libcli11-dev libtomlplusplus-dev
    libre2-dev libgrpc++-dev protobuf-compiler-grpc protobuf-compiler libprotobuf-dev
    lld libcurl4 crun iproute2 nftables iptables passt slirp4netns uidmap openssh-client python3)
test=(libgtest-dev googletest libbenchmark-dev busybox-static mmdebstrap docker-registry skopeo umoci
    openssh-server zstd curl procps systemd binutils)
# npm comes with node where that is not Debian's own.
command -v npm >/dev/null || test+=(nodejs npm)

demo=(busybox-static mmdebstrap curl procps python3)

wanted=()
for group in "${@:-build test}"; do
    for one in $group; do
        declare -n list=$one
        wanted+=("${list[@]}")
    done
done

missing=()
for package in "${wanted[@]}"; do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "please install as root: ${missing[*]}" >&2; exit 1; }
    sudo=sudo
fi
echo "installing: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
