#!/usr/bin/env bash
# The context of the recorded build, the same on every machine: tests/keys/prepare.sh DIRECTORY
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
umask 022
mkdir -p "$1/d/deep"
cp "$here/Dockerfile" "$1/Dockerfile"
echo hello >"$1/f"
echo x >"$1/d/x"
echo md >"$1/d/note.md"
echo deep >"$1/d/deep/y"
chmod 0755 "$1/d/x"
tar -C "$1" --mtime=@1000000000 --owner=1 --group=2 --numeric-owner --sort=name --format=ustar -cf "$1/t.tar" d
