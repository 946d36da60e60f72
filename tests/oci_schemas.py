#!/usr/bin/env python3
"""Validates the documents of OCI image layouts against the JSON schemas of the image specification. Prints what is
wrong; exit status 1 then. Needs python3-jsonschema.

    oci_schemas.py SCHEMAS LAYOUT…

SCHEMAS is the folder "schema" of the specification (Debian: golang-github-opencontainers-image-spec-dev).
"""
import json
import os
import sys

import jsonschema

OCI = "application/vnd.oci.image."
KINDS = {OCI + "index.v1+json": "image-index", OCI + "manifest.v1+json": "image-manifest", OCI + "config.v1+json": "config"}
schemas, layouts = sys.argv[1], sys.argv[2:]
wrong = []
validated = {}


def schema(name):
    with open(f"{schemas}/{name}") as file:
        return json.load(file)


class Local(jsonschema.RefResolver):
    """The schemas name each other by addresses; here they are files."""

    def resolve_remote(self, uri):
        return schema(os.path.basename(uri))


def validate(document, kind, where):
    text = schema(kind + "-schema.json")
    validator = jsonschema.Draft4Validator(text, resolver=Local("file:///", text))
    for error in validator.iter_errors(document):
        wrong.append(f"{where}: {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}")
    validated[kind] = validated.get(kind, 0) + 1


def follow(layout, descriptor, seen):
    kind = KINDS.get(descriptor["mediaType"])
    if kind is None or descriptor["digest"] in seen:
        return
    seen.add(descriptor["digest"])
    with open(f"{layout}/blobs/{descriptor['digest'].replace(':', '/')}") as file:
        document = json.load(file)
    validate(document, kind, f"{layout} {kind} {descriptor['digest']}")
    for inner in document.get("manifests", []) + ([document["config"]] if kind == "image-manifest" else []):
        follow(layout, inner, seen)


for layout in layouts:
    with open(f"{layout}/oci-layout") as file:
        validate(json.load(file), "image-layout", f"{layout}/oci-layout")
    with open(f"{layout}/index.json") as file:
        index = json.load(file)
    validate(index, "image-index", f"{layout}/index.json")
    for descriptor in index["manifests"]:
        follow(layout, descriptor, set())
print(*wrong, sep="\n", end="\n" if wrong else "")
print("validated", ", ".join(f"{count} {kind}" for kind, count in sorted(validated.items())))
sys.exit(1 if wrong else 0)
