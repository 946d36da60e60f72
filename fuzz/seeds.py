#!/usr/bin/env python3
"""Seeds for the fuzzers of the Dockerfile language, from the project's own tests: what the kept corpus grew from.

  fuzz/seeds.py DIRECTORY

writes DIRECTORY/{dockerfile_text,dockerfile_heredocs,dockerfile_words,pattern_matcher}, one small file per seed, named by
its content.
"""
import hashlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 2000


def sections(path):
    """The files that a scenario or a case of the differential test holds, by name."""
    found = {}
    name = None
    for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True):
        if match := re.fullmatch(r"-- (\S+)( .*)? --\n?", line):
            name = match[1]
            found[name] = ""
        elif name:
            found[name] += line
    return found


def keep(directory, text):
    data = text.encode("utf-8", errors="surrogateescape")
    if 0 < len(data) <= LARGEST:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def main():
    out = Path(sys.argv[1])
    files = [*ROOT.glob("tests/scenarios/**/*.scn"), *ROOT.glob("tests/differential/corpus/*")]
    parts = [sections(path) for path in sorted(files) if path.is_file()]
    texts = [text for part in parts for name, text in part.items() if name.endswith("Dockerfile")]
    texts += [path.read_text(encoding="utf-8") for path in ROOT.glob("examples/**/Dockerfile*")]
    for text in texts:
        keep(out / "dockerfile_text", text)
        for match in re.finditer(r"(?im)^(?:ONBUILD )?(?:RUN|COPY|ADD) (.*<<[\s\S]*)", text):
            keep(out / "dockerfile_heredocs", match[1])
        for word in re.findall(r"\S*\$\S+", text):
            for options in "\0\1\2\4\x08\x10":
                keep(out / "dockerfile_words", f"{options}{word}\na/b.c.d")
    for part in parts:
        for name, text in part.items():
            if name.endswith(".dockerignore"):
                for path in ("a/b", "a/b/c.txt"):
                    keep(out / "pattern_matcher", f"{text}\0{path}")
    for directory in sorted(out.iterdir()):
        print(f"{directory}: {len(list(directory.iterdir()))} seeds")


if __name__ == "__main__":
    sys.exit(main() if len(sys.argv) == 2 else __doc__)
