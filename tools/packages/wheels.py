#!/usr/bin/env python3
"""Repacks installed Python packages (a tree with usr/lib/python3/dist-packages) as wheels with an index.

usage: wheels.py TREE OUT      OUT/<name>/index.html and the wheels beside it (PEP 503)
"""
import base64
import csv
import email.parser
import hashlib
import io
import re
import sys
import zipfile
from pathlib import Path


# Debian's packages leave out of the metadata what apt already knows.
REQUIRES = {"flask": ["Werkzeug", "Jinja2", "itsdangerous", "click"], "jinja2": ["MarkupSafe"],
            "werkzeug": ["MarkupSafe"], "gunicorn": ["setuptools"],
            "pytest": ["attrs", "iniconfig", "packaging", "pluggy", "py"]}


def top_level_of(info, site):
    """Files and folders that belong to a distribution."""
    listed = info / "top_level.txt"
    names = listed.read_text().split() if listed.exists() else [re.split(r"-\d", info.name)[0].lower()]
    found = [p for name in names for p in (site / name, *site.glob(name + ".py"), *site.glob(name + ".*.so")) if p.exists()]
    if info.name.lower().startswith(("attrs-",)):
        found += [p for p in (site / "attr", site / "attrs") if p.exists()]
    if info.name.lower().startswith("setuptools-"):
        found += [p for p in (site / "pkg_resources", site / "_distutils_hack", *site.glob("distutils-precedence.pth"))]
    if info.name.lower().startswith("pytest-"):
        found += [p for p in (site / "_pytest", site / "pytest", *site.glob("py.py"))]
    return sorted(set(found))


def files_of(path):
    return [path] if path.is_file() else [f for f in sorted(path.rglob("*")) if f.is_file() and "__pycache__" not in f.parts]


def make_wheel(info, site, out):
    metadata_file = info / "METADATA" if info.is_dir() and (info / "METADATA").exists() else info / "PKG-INFO"
    if info.is_file():
        metadata_file = info
    text = metadata_file.read_text(encoding="utf-8")
    metadata = email.parser.Parser().parsestr(text)
    name, version = metadata["Name"], metadata["Version"]
    if "Requires-Dist" not in metadata and name.lower() in REQUIRES:
        head, _, body = text.partition("\n\n")
        text = head + "\n" + "".join(f"Requires-Dist: {want}\n" for want in REQUIRES[name.lower()]) + "\n" + body
    contents = [f for top in top_level_of(info, site) for f in files_of(top)]
    native = any(f.suffix == ".so" for f in contents)
    tag = "cp311-cp311-linux_x86_64" if native else "py3-none-any"
    stem = f"{name.replace('-', '_')}-{version}"
    members = [(f.relative_to(site).as_posix(), f.read_bytes()) for f in contents]
    members.append((f"{stem}.dist-info/METADATA", text.encode()))
    members.append((f"{stem}.dist-info/WHEEL",
                    f"Wheel-Version: 1.0\nGenerator: cooper\nRoot-Is-Purelib: {str(not native).lower()}\nTag: {tag}\n".encode()))
    entry_points = info / "entry_points.txt"
    if info.is_dir() and entry_points.exists():
        members.append((f"{stem}.dist-info/entry_points.txt", entry_points.read_bytes()))
    record = io.StringIO()
    writer = csv.writer(record, lineterminator="\n")
    for path, data in members:
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        writer.writerow([path, f"sha256={digest}", len(data)])
    writer.writerow([f"{stem}.dist-info/RECORD", "", ""])
    members.append((f"{stem}.dist-info/RECORD", record.getvalue().encode()))
    folder = out / re.sub(r"[-_.]+", "-", name).lower()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in members:
            archive.writestr(zipfile.ZipInfo(path, (2024, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    (folder / "index.html").write_text("".join(f'<a href="{w.name}">{w.name}</a>\n' for w in sorted(folder.glob("*.whl"))))
    return folder.name


def main():
    site, out = Path(sys.argv[1]) / "usr/lib/python3/dist-packages", Path(sys.argv[2])
    made = {make_wheel(info, site, out) for info in [*site.glob("*.dist-info"), *site.glob("*.egg-info")]}
    (out / "index.html").write_text("".join(f'<a href="{name}/">{name}</a>\n' for name in sorted(made)))


if __name__ == "__main__":
    main()
