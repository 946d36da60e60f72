#!/usr/bin/env bash
# Fetches the validators of Kubernetes' types (the npm package kubernetes-models, made from its OpenAPI description)
# and a reader of YAML; nothing is installed. tests/manifests.mjs checks deploy/kubernetes with them.
#
#   tools/kubernetes_models/fetch.sh      prints the folder
#
# The folder is ${COOPER_KUBERNETES_MODELS:-~/.cache/cooper/kubernetes-models} and is kept between runs. Needs npm.
set -euo pipefail
folder=${COOPER_KUBERNETES_MODELS:-${XDG_CACHE_HOME:-$HOME/.cache}/cooper/kubernetes-models}
packages=(kubernetes-models@5.1.0 js-yaml@4)
mkdir -p "$folder"
exec 9>"$folder/.lock"
flock 9
if [ "$(cat "$folder/.made" 2>/dev/null)" != "${packages[*]}" ]; then
    rm -rf "$folder/node_modules"
    echo '{"private": true}' >"$folder/package.json"
    npm install --prefix "$folder" --silent --no-audit --no-fund --ignore-scripts "${packages[@]}" >&2
    echo "${packages[*]}" >"$folder/.made"
fi
echo "$folder"
