#!/usr/bin/env python3
"""Packs root file system tars into an OCI archive with an image config.

usage: oci_archive.py --out IMAGE.tar --name NAME [--name NAME…] [--env K=V…] [--cmd ARG…]
                      [--workdir DIR] --layer [OS/ARCH[/VARIANT]=]ROOTFS.tar [--layer …]

Layers that name their platform make an index of one image for each.

The result is what `cooper load`, skopeo (oci-archive:) and podman read.
"""
import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"}


class Digests:
    """A file that is written once while its digest is taken."""

    def __init__(self, file):
        self.file, self.hash, self.size = file, hashlib.sha256(), 0

    def write(self, data):
        self.hash.update(data)
        self.size += len(data)
        return self.file.write(data)

    def flush(self):
        self.file.flush()


def add_layer(blobs, path):
    """Compresses a tar into blobs; returns its descriptor and diff id."""
    part = blobs / "part" if hasattr(blobs, "joinpath") else os.path.join(blobs, "part")
    diff_id = hashlib.sha256()
    with open(part, "wb") as out, open(path, "rb") as source:
        digests = Digests(out)
        with gzip.GzipFile(filename="", mode="wb", fileobj=digests, compresslevel=5, mtime=0) as packer:
            while data := source.read(1 << 20):
                diff_id.update(data)
                packer.write(data)
    digest = digests.hash.hexdigest()
    os.rename(part, os.path.join(blobs, digest))
    descriptor = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                  "digest": "sha256:" + digest, "size": digests.size}
    return descriptor, "sha256:" + diff_id.hexdigest()


def add_json(blobs, media_type, value):
    data = json.dumps(value, separators=(",", ":")).encode()
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, digest), "wb") as file:
        file.write(data)
    return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--name", action="append", required=True)
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--cmd", action="append", default=[])
    parser.add_argument("--workdir", default="")
    parser.add_argument("--layer", action="append", required=True)
    args = parser.parse_args()

    layout = args.out + ".layout"
    blobs = os.path.join(layout, "blobs", "sha256")
    os.makedirs(blobs, exist_ok=True)
    images = {}
    for layer in args.layer:
        where, _, path = layer.rpartition("=")
        where = where or "linux/" + ARCHITECTURES.get(platform.machine(), platform.machine())
        images.setdefault(where, []).append(path)
    made = [add_image(blobs, args, where, paths) for where, paths in images.items()]
    target = made[0]
    if len(made) > 1:
        target = add_json(blobs, INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": made})
    target.pop("platform", None)
    write_archive(args, blobs, target)


def add_image(blobs, args, where, paths):
    """The manifest of one platform; returns its descriptor."""
    system, architecture, variant = (where.split("/") + [""])[:3]
    layers = [add_layer(blobs, path) for path in paths]
    created = "2024-01-01T00:00:00Z"
    config = {
        "created": created,
        "architecture": architecture,
        "os": system,
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *args.env]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
        "history": [{"created": created, "created_by": "Debian packages"} for _ in layers],
    }
    if variant:
        config["variant"] = variant
    if args.cmd:
        config["config"]["Cmd"] = args.cmd
    if args.workdir:
        config["config"]["WorkingDir"] = args.workdir
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": add_json(blobs, "application/vnd.oci.image.config.v1+json", config),
        "layers": [descriptor for descriptor, _ in layers],
    }
    place = {"architecture": architecture, "os": system, **({"variant": variant} if variant else {})}
    return {**add_json(blobs, MANIFEST, manifest), "platform": place}


def write_archive(args, blobs, target):
    layout = os.path.dirname(os.path.dirname(blobs))
    index = {"schemaVersion": 2, "manifests": [
        {**target, "annotations": {"io.containerd.image.name": name,
                                   "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1]}}
        for name in args.name]}
    with tarfile.open(args.out + ".part", "w") as tar:
        for name, value in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", index)):
            data = json.dumps(value).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name in sorted(os.listdir(blobs)):
            tar.add(os.path.join(blobs, name), "blobs/sha256/" + name, recursive=False)
    for name in os.listdir(blobs):
        os.unlink(os.path.join(blobs, name))
    os.removedirs(blobs)
    os.rename(args.out + ".part", args.out)


if __name__ == "__main__":
    main()
