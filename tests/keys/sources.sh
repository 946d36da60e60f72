#!/usr/bin/env bash
# Sources of all kinds, the same on every machine: tests/keys/sources.sh DIRECTORY
# web/ (served by serve.py), repo.git, layout/ (an OCI layout of one image), context/, and in commit and image what to
# ask for.
set -euo pipefail
umask 022
mkdir -p "$1"
cd "$1"
mkdir -p web context/d
echo word >web/word.txt
touch -d @1000000000 web/word.txt
echo x >context/d/x
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.com GIT_AUTHOR_DATE="@1111111111 +0000"
export GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.com GIT_COMMITTER_DATE="@1111111111 +0000"
git init -q -b main work
mkdir work/sub
echo one >work/f
echo s >work/sub/g
git -C work add .
git -C work commit -q -m 1
git -C work tag v1
git -C work rev-parse HEAD >commit
git -C work checkout -q -b side
echo side >work/f
git -C work commit -q -a -m side
git -C work checkout -q main
git -C work tag -a -m two v2 main
git clone -q --bare --mirror work repo.git
git -C repo.git config uploadpack.allowAnySHA1InWant true
python3 - <<'END'
import hashlib, io, json, pathlib, tarfile
blobs = pathlib.Path("layout/blobs/sha256")
blobs.mkdir(parents=True)
def put(data, media_type):
    name = hashlib.sha256(data).hexdigest()
    (blobs / name).write_bytes(data)
    return {"mediaType": media_type, "digest": "sha256:" + name, "size": len(data)}
kind = "application/vnd.oci.image."
text = io.BytesIO()
with tarfile.open(fileobj=text, mode="w", format=tarfile.USTAR_FORMAT) as tar:
    member = tarfile.TarInfo("word")
    member.size = 5
    tar.addfile(member, io.BytesIO(b"word\n"))
layer = put(text.getvalue(), kind + "layer.v1.tar")
config = put(json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                         "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}).encode(), kind + "config.v1+json")
manifest = put(json.dumps({"schemaVersion": 2, "mediaType": kind + "manifest.v1+json", "config": config,
                           "layers": [layer]}).encode(), kind + "manifest.v1+json")
pathlib.Path("layout/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
pathlib.Path("layout/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
pathlib.Path("image").write_text(manifest["digest"])
END
