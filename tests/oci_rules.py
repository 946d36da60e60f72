#!/usr/bin/env python3
"""Checks an OCI image layout against the image specification (image-spec 1.1): what the documents must have, of which
type and shape, and that sizes, digests and diff ids are those of the bytes. Prints what is wrong; exit status 1 then.

    oci_rules.py DIRECTORY
"""
import gzip
import hashlib
import json
import re
import subprocess
import sys

DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$")
MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")
OCI = "application/vnd.oci.image."
LAYERS = {OCI + "layer.v1.tar", OCI + "layer.v1.tar+gzip", OCI + "layer.v1.tar+zstd"}
wrong = []


def check(holds, *what):
    if not holds:
        wrong.append(" ".join(str(word) for word in what))
    return holds


def field(document, where, name, kind, required=False):
    value = document.get(name)
    if value is None:
        check(not required and name not in document, where, "has no", name)
        return None
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    return value if check(fits, where, name, "is", value) else None


def texts(document, where, name):
    """A map of texts."""
    for key, value in (field(document, where, name, dict) or {}).items():
        check(key and isinstance(value, str), where, name, key, "is", value)


def list_of_texts(document, where, name):
    for value in field(document, where, name, list) or []:
        check(isinstance(value, str), where, name, "has", value)


def descriptor(value, where):
    if not check(isinstance(value, dict), where, "is no descriptor"):
        return None
    media_type = field(value, where, "mediaType", str, True) or ""
    check(MEDIA_TYPE.match(media_type), where, "mediaType is", media_type)
    digest = field(value, where, "digest", str, True) or ""
    check(DIGEST.match(digest), where, "digest is", digest)
    size = field(value, where, "size", int, True)
    check(size is not None and 0 <= size < 1 << 63, where, "size is", size)
    texts(value, where, "annotations")
    platform = field(value, where, "platform", dict)
    if platform is not None:
        field(platform, where, "os", str, True)
        field(platform, where, "architecture", str, True)
        field(platform, where, "variant", str)
        list_of_texts(platform, where, "os.features")
    try:
        data = open(f"{sys.argv[1]}/blobs/{digest.replace(':', '/')}", "rb").read()
    except OSError as error:
        check(False, where, error)
        return None
    check(len(data) == size, where, "has", len(data), "bytes, not", size)
    check("sha256:" + hashlib.sha256(data).hexdigest() == digest, where, "has another digest than", digest)
    return data


def document(data, where):
    try:
        value = json.loads(data)
    except ValueError as error:
        check(False, where, error)
        return {}
    return value if check(isinstance(value, dict), where, "is no object") else {}


def plain(data, media_type, where):
    if data is None:
        return b""
    if media_type.endswith("+gzip"):
        check(data[:2] == b"\x1f\x8b", where, "is no gzip")
        return gzip.decompress(data)
    if media_type.endswith("+zstd"):
        check(data[:4] == b"\x28\xb5\x2f\xfd", where, "is no zstd")
        return subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout
    return data


def config(data, layers, platform, where):
    value = document(data, where)
    for name in ("architecture", "os"):
        check(field(value, where, name, str, True), where, name, "is empty")
    if platform is not None:
        for name in ("architecture", "os", "variant"):
            check(platform.get(name) == value.get(name), where, name, "is", value.get(name), "and not", platform.get(name))
    created = field(value, where, "created", str)
    check(created is None or TIME.match(created), where, "created is", created)
    field(value, where, "author", str)
    inner = field(value, where, "config", dict) or {}
    for name in ("User", "WorkingDir", "StopSignal"):
        field(inner, where, name, str)
    for name in ("Env", "Entrypoint", "Cmd"):
        list_of_texts(inner, where, name)
    for name in ("ExposedPorts", "Volumes"):
        for key, one in (field(inner, where, name, dict) or {}).items():
            check(one == {}, where, name, key, "is", one)
    for port in inner.get("ExposedPorts") or {}:
        check(re.match(r"\d+(/(tcp|udp|sctp))?$", port), where, "exposes", port)
    for variable in inner.get("Env") or []:
        check("=" in variable, where, "Env has", variable)
    texts(inner, where, "Labels")
    rootfs = field(value, where, "rootfs", dict, True) or {}
    check(rootfs.get("type") == "layers", where, "rootfs.type is", rootfs.get("type"))
    check(rootfs.get("diff_ids") == layers, where, "diff_ids are", rootfs.get("diff_ids"), "and not", layers)
    kept = 0
    for entry in field(value, where, "history", list) or []:
        for name in ("created", "author", "created_by", "comment"):
            field(entry, where + " history", name, str)
        check("created" not in entry or TIME.match(entry["created"]), where, "history created is", entry.get("created"))
        empty = field(entry, where + " history", "empty_layer", bool)
        kept += 0 if empty else 1
    check("history" not in value or kept == len(layers), where, "history names", kept, "layers of", len(layers))


def manifest(value, platform, where):
    check(value.get("schemaVersion") == 2, where, "schemaVersion is", value.get("schemaVersion"))
    check(value.get("mediaType") == OCI + "manifest.v1+json", where, "mediaType is", value.get("mediaType"))
    check("manifests" not in value, where, "is an index as well")
    texts(value, where, "annotations")
    data = descriptor(value.get("config"), where + " config")
    layers = []
    for number, layer in enumerate(field(value, where, "layers", list, True) or []):
        name = f"{where} layer {number}"
        bytes = descriptor(layer, name)
        if value.get("config", {}).get("mediaType") == OCI + "config.v1+json" and "artifactType" not in value:
            if layer.get("mediaType") != "application/vnd.in-toto+json":
                check(layer.get("mediaType") in LAYERS, name, "mediaType is", layer.get("mediaType"))
        layers.append("sha256:" + hashlib.sha256(plain(bytes, layer.get("mediaType", ""), name)).hexdigest())
    check(layers or "artifactType" in value, where, "has no layers")
    if data is not None and value["config"]["mediaType"] == OCI + "config.v1+json":
        config(data, layers, platform if platform != {"os": "unknown", "architecture": "unknown"} else None, where + " config")


def index(value, where, depth=0):
    check(value.get("schemaVersion") == 2, where, "schemaVersion is", value.get("schemaVersion"))
    check(value.get("mediaType") in (None, OCI + "index.v1+json"), where, "mediaType is", value.get("mediaType"))
    check("layers" not in value and "config" not in value, where, "is a manifest as well")
    texts(value, where, "annotations")
    for number, entry in enumerate(field(value, where, "manifests", list, True) or []):
        name = f"{where}/{number}"
        data = descriptor(entry, name)
        if data is None:
            continue
        if entry["mediaType"] == OCI + "index.v1+json":
            check(depth < 4, name, "is nested too deep")
            index(document(data, name), name, depth + 1)
        else:
            check(entry["mediaType"] == OCI + "manifest.v1+json", name, "mediaType is", entry["mediaType"])
            manifest(document(data, name), entry.get("platform"), name)


layout = document(open(sys.argv[1] + "/oci-layout").read(), "oci-layout")
check(layout.get("imageLayoutVersion") == "1.0.0", "oci-layout says", layout)
index(document(open(sys.argv[1] + "/index.json").read(), "index.json"), "index.json")
for one in wrong:
    print(one)
sys.exit(1 if wrong else 0)
