#!/usr/bin/env bash
# Builds a definition of probe_frontend at $BUILDKIT_HOST, beside serve.py, and keeps its cache.
#
#   tests/keys/build_llb.sh PROGRAMS DEFINITION SOURCES CACHE-DIRECTORY
set -euo pipefail
"$1/probe_frontend" --llb "$2" | "$1/buildctl" build --progress plain --local "context=$3/context" \
    --oci-layout "layout=$3/layout" --export-cache "type=local,dest=$4,mode=max"
