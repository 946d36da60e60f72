#!/usr/bin/env bash
# Fetches a server that speaks S3 (the npm package @20minutes/s3rver), in the versions that package-lock.json pins and
# with the digests it names; nothing is installed. Scenarios that need `s3` run tests/s3_server.mjs with it.
#
#   tools/s3_server/fetch.sh      prints the folder
#
# The folder is ${COOPER_S3_SERVER:-~/.cache/cooper/s3-server} and is kept between runs. Needs npm.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${COOPER_S3_SERVER:-${XDG_CACHE_HOME:-$HOME/.cache}/cooper/s3-server}
mkdir -p "$folder"
exec 9>"$folder/.lock"
flock 9
if ! cmp -s "$here/package-lock.json" "$folder/.made"; then
    cp "$here/package.json" "$here/package-lock.json" "$folder/"
    npm ci --prefix "$folder" --silent --no-audit --no-fund --ignore-scripts >&2
    cp "$here/package-lock.json" "$folder/.made"
fi
echo "$folder"
