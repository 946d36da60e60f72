#!/usr/bin/env python3
"""The keys of a build as a text: what its cache says, without what differs from machine to machine.

    tests/keys/keys.py CACHE-DIRECTORY [IMAGE-CACHE-DIRECTORY]

Both are written by --cache-to type=local,mode=max; the second one by a build of the base image and nothing but a
WORKDIR: what it has, too, is of the base image, whose digest is the machine's. Without it all counts. A line for each
record: its digest and those of its inputs.
"""
import hashlib
import json
import sys
from pathlib import Path


def read(directory):
    blob = lambda digest: json.loads((Path(directory) / "blobs" / digest.replace(":", "/")).read_text())
    manifest = blob(json.loads((Path(directory) / "index.json").read_text())["manifests"][0]["digest"])
    entries = manifest.get("manifests") or [manifest["config"]]
    config = next(one for one in entries if one["mediaType"] == "application/vnd.buildkit.cacheconfig.v0")
    return blob(config["digest"])["records"]


def roots(records):
    return {record["digest"] for record in records if not record.get("inputs")}


def lines(records, of_image):
    texts = {}
    # An image has two keys, and a build need not know both.
    for record in records:
        for alternatives in record.get("inputs") or []:
            roots_of = [(one.get("selector"), records[one.get("link", 0)]["digest"]) for one in alternatives
                        if not records[one.get("link", 0)].get("inputs")]
            selectors = {selector for selector, digest in roots_of if digest in of_image}
            of_image = of_image | {digest for selector, digest in roots_of if selector in selectors}

    def text(number):
        if number not in texts:
            record = records[number]
            inputs = []
            for alternatives in record.get("inputs") or []:
                inputs.append(sorted((one.get("selector", ""), name(one.get("link", 0))) for one in alternatives))
            inputs = [sorted(set(one)) for one in inputs]
            digest = "the base image" if not inputs and record["digest"] in of_image else record["digest"]
            texts[number] = json.dumps([digest, inputs])
        return texts[number]

    def name(number):
        return hashlib.sha256(text(number).encode()).hexdigest()[:16]

    return sorted({f"{name(number)} {text(number)}" for number in range(len(records))})


if __name__ == "__main__":
    print("\n".join(lines(read(sys.argv[1]), roots(read(sys.argv[2])) if len(sys.argv) > 2 else set())))
