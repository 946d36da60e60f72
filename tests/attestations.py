#!/usr/bin/env python3
"""Prints what an OCI archive or layout says of its images: attestations.py PATH [WORD] [EXPRESSION]

WORD picks statements by a part of their predicate type. EXPRESSION is Python over `s` (the statement), `p` (its
predicate), `statements` (all of them), `manifest` (that of the attestation), `image` (that of the image) and `index`; its
value is printed. Digests, sizes and references between manifests are checked on the way."""
import hashlib
import json
import os
import sys
import tarfile


def files_of(path):
    if os.path.isdir(path):
        for folder, _, names in os.walk(path):
            for name in names:
                whole = os.path.join(folder, name)
                with open(whole, "rb") as file:
                    yield os.path.relpath(whole, path), file.read()
        return
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isfile():
                yield member.name, tar.extractfile(member).read()


def main():
    path, word = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    files = dict(files_of(path))

    def blob(descriptor):
        data = files["blobs/" + descriptor["digest"].replace(":", "/")]
        assert hashlib.sha256(data).hexdigest() == descriptor["digest"].split(":")[1], descriptor
        assert len(data) == descriptor["size"], descriptor
        return data

    top = json.loads(files["index.json"])["manifests"][0]
    index = json.loads(blob(top))
    images = {entry["digest"]: entry for entry in index.get("manifests", [])}
    found = []
    for entry in images.values():
        note = entry.get("annotations", {})
        if note.get("vnd.docker.reference.type") != "attestation-manifest":
            continue
        assert entry["platform"] == {"architecture": "unknown", "os": "unknown"}, entry
        described = images[note["vnd.docker.reference.digest"]]
        manifest = json.loads(blob(entry))
        if "subject" in manifest:
            assert manifest["subject"]["digest"] == described["digest"]
            assert manifest["artifactType"] == "application/vnd.docker.attestation.manifest.v1+json"
        config = json.loads(blob(manifest["config"]))
        if "rootfs" in config:
            assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
        for layer in manifest["layers"]:
            statement = json.loads(blob(layer))
            assert layer["annotations"]["in-toto.io/predicate-type"] == statement["predicateType"]
            for subject in statement["subject"]:
                # A frontend may speak of something else; scenarios have it use other algorithms then.
                assert "sha256:" + subject["digest"].get("sha256", described["digest"][7:]) == described["digest"]
            if word in statement["predicateType"]:
                found.append((statement, manifest, json.loads(blob(described))))
    if len(sys.argv) < 4:
        print(json.dumps([statement for statement, _, _ in found], indent=2))
        return
    for statement, manifest, image in found:
        names = {"s": statement, "p": statement["predicate"], "manifest": manifest, "image": image, "index": index,
                 "statements": [one for one, _, _ in found]}
        print(eval(sys.argv[3], names))  # pylint: disable=eval-used


main()
