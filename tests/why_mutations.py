#!/usr/bin/env python3
"""Changes one input of a project at a time and looks whether `cooper why` names it.

    tests/why_mutations.py [--cooper PROGRAM] [--count 300] [--seed 1] [--times]

Each change is made to a project that has just been built: project and state directory are put back before the next.
Every step that ran must name the input that was changed, and how. Each fifth change is built in a state directory that
has only the base image, with the cache that the first build has written: its records must name the change as well.
--times prints how long `cooper why` took.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DOCKERFILE = """\
ARG FLAVOUR=plain
FROM base:1 AS deps
ARG LOCK=locks/one
ENV MODE=debug
WORKDIR /work
COPY $LOCK /work/lock
COPY --chmod=0644 config/ /work/config/
FROM deps AS assets
COPY assets /assets
COPY --chown=1:1 icons/*.png /icons/
FROM base:1 AS tools
ARG VERSION=1
COPY tools-$VERSION /tools
FROM base:1
WORKDIR /app
COPY --from=deps /work /work
COPY --from=assets /assets /assets
COPY --from=tools /tools /tools
COPY src /app/src
COPY main.txt notes.txt /app/
"""


class Project:
    def __init__(self, work, cooper):
        self.dir, self.root, self.cooper = work / "project", work / "state", cooper
        self.dir.mkdir()
        self.base = work / "base"
        self.base.mkdir()
        (self.base / "Dockerfile").write_text("FROM scratch\nCOPY mark /mark\n")
        self.reset()

    def reset(self):
        shutil.rmtree(self.dir)
        self.dir.mkdir()
        (self.base / "mark").write_text("1")
        files = {"Dockerfile": DOCKERFILE, "locks/one": "1", "locks/two": "2", "main.txt": "m", "notes.txt": "n",
                 ".dockerignore": "*.tmp\n", "tools-1/hammer": "1", "tools-1/saw": "2", "tools-2/hammer": "3"}
        for i in range(40):
            files[f"src/package{i % 7}/file{i}.py"] = f"print({i})"
        for i in range(6):
            files[f"config/part{i}.toml"] = f"value = {i}"
            files[f"assets/deep/er/asset{i}.css"] = f"a{i}"
            files[f"icons/icon{i}.png"] = f"icon {i}"
        for name, text in files.items():
            path = self.dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o644)
        for path in self.dir.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)

    def run(self, *words):
        return subprocess.run([self.cooper, "--root", self.root, *words], capture_output=True, text=True, check=False)

    def make_base(self):
        done = self.run("build", "-q", "-t", "base:1", str(self.base))
        assert done.returncode == 0, done.stderr

    def build(self, *flags):
        done = self.run("build", "--progress=plain", *flags, str(self.dir))
        assert done.returncode == 0, done.stderr

    def why(self):
        begun = time.perf_counter()
        done = self.run("why", "--format=json")
        took = time.perf_counter() - begun
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), took


def copied_files(project):
    names = [p.relative_to(project.dir) for p in sorted(project.dir.rglob("*")) if p.is_file()]
    return [str(n) for n in names if n.parts[0] in ("src", "config", "assets", "icons", "tools-1", "main.txt", "notes.txt")]


def mutation(project, rng, number):
    """Changes one thing. What was done, the flags of the build, and what the reason must hold."""
    kinds = ["content", "mode", "added", "removed", "content", "mode", "renamed_directory", "link", "argument", "given",
             "variable", "instruction", "new_instruction", "base", "ignored", "chmod", "chown", "destination", "no_cache",
             "epoch", "directory_mode", "source_argument"]
    kind = kinds[number % len(kinds)]
    dockerfile = project.dir / "Dockerfile"
    text = dockerfile.read_text()
    name = rng.choice(copied_files(project))
    path = project.dir / name

    def edit(old, new):
        assert old in text, old
        dockerfile.write_text(text.replace(old, new, 1))

    if kind == "content":
        path.write_text(path.read_text() + str(rng.random()))
        return f"content of {name}", [], {"kind": "file", "what": name, "change": "content"}
    if kind == "mode":
        # --chmod makes those of config/ the same whatever they were.
        name = rng.choice([n for n in copied_files(project) if not n.startswith("config/")])
        path = project.dir / name
        mode = rng.choice([0o600, 0o755, 0o640, 0o444])
        path.chmod(mode)
        return f"mode of {name}", [], {"kind": "file", "what": name, "change": "mode", "before": "0644",
                                       "after": f"{mode:04o}"}
    if kind == "added":
        new = f"{rng.choice(['src/package1', 'config', 'assets/deep', 'tools-1'])}/new{number}.txt"
        (project.dir / new).write_text("new")
        return f"{new} added", [], {"kind": "file", "what": new, "change": "added"}
    if kind == "removed":
        name = rng.choice([n for n in copied_files(project) if "/" in n])
        (project.dir / name).unlink()
        return f"{name} removed", [], {"kind": "file", "what": name, "change": "removed"}
    if kind == "renamed_directory":
        old = f"src/package{rng.randrange(7)}"
        new = f"src/moved{number}"
        (project.dir / old).rename(project.dir / new)
        # The first in the order of paths: what is there now and was not.
        return f"{old} renamed", [], {"kind": "file", "what": {new, old}, "below": True, "change": "added"}
    if kind == "link":
        name = rng.choice([n for n in copied_files(project) if n.startswith(("src/", "config/", "assets/"))])
        path = project.dir / name
        path.unlink()
        path.symlink_to("somewhere")
        return f"{name} is a link", [], {"kind": "file", "what": name, "change": "type", "after": "link"}
    if kind == "argument":
        edit("ARG VERSION=1", "ARG VERSION=2")
        return "default of an ARG", [], {"kind": "arg", "what": "VERSION", "before": "1", "after": "2"}
    if kind == "given":
        return "--build-arg", ["--build-arg", "VERSION=2"], {"kind": "arg", "what": "VERSION", "before": "1", "after": "2"}
    if kind == "source_argument":
        return "--build-arg of a path", ["--build-arg", "LOCK=locks/two"], {"kind": "arg", "what": "LOCK",
                                                                            "before": "locks/one", "after": "locks/two"}
    if kind == "variable":
        edit("COPY src /app/src", f"ENV PLACE=/x{number}\nCOPY src $PLACE")
        return "an instruction that uses a new ENV", [], {"kind": "instruction", "before": "COPY src /app/src"}
    if kind == "instruction":
        edit("COPY main.txt notes.txt /app/", f"COPY main.txt notes.txt /app{number}/")
        return "words of an instruction", [], {"kind": "instruction", "before": "COPY main.txt notes.txt /app/"}
    if kind == "new_instruction":
        edit("COPY src /app/src", f"COPY notes.txt /new{number}\nCOPY src /app/src")
        return "a new instruction", [], {"kind": "instruction", "after": f"COPY notes.txt /new{number}"}
    if kind == "base":
        (project.base / "mark").write_text(f"{number}")
        project.make_base()
        return "another base image", [], {"kind": "base-image", "what": "docker.io/library/base:1"}
    if kind == "ignored":
        name = rng.choice([n for n in copied_files(project) if n.startswith("src/")])
        with open(project.dir / ".dockerignore", "a") as ignore:
            ignore.write(name + "\n")
        return f"{name} is ignored", [], {"kind": "file", "what": name, "change": "removed"}
    if kind == "chmod":
        edit("--chmod=0644", "--chmod=0600")
        return "--chmod", [], {"kind": "instruction", "before": "COPY --chmod=0644 config/ /work/config/"}
    if kind == "chown":
        edit("--chown=1:1", "--chown=2:1")
        return "--chown", [], {"kind": "instruction", "before": "COPY --chown=1:1 icons/*.png /icons/"}
    if kind == "destination":
        edit("WORKDIR /work\n", f"WORKDIR /work{number}\n")
        return "WORKDIR", [], {"kind": "instruction", "before": "WORKDIR /work"}
    if kind == "no_cache":
        return "--no-cache-filter", ["--no-cache-filter", "assets"], {"kind": "no-cache"}
    if kind == "epoch":
        epoch = str(1_000_000_000 + number)
        return "SOURCE_DATE_EPOCH", ["--build-arg", f"SOURCE_DATE_EPOCH={epoch}"], {"kind": "setting",
                                                                                   "what": "SOURCE_DATE_EPOCH"}
    directory = rng.choice(["src/package0", "assets/deep/er", "src/package3"])
    (project.dir / directory).chmod(0o700)
    return f"mode of {directory}", [], {"kind": "file", "what": directory, "change": "mode", "after": "0700"}


def is_right(cause, wanted):
    for key, value in wanted.items():
        if key == "below":
            continue
        have = cause.get(key, "")
        if isinstance(value, set):
            if not any(have == one or have.startswith(one + "/") for one in value):
                return False
        elif have != value:
            return False
    return True


def is_new(cause):
    return cause["kind"] == "instruction" and "before" not in cause


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cooper", default="build/dev/bin/cooper")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    os.umask(0o022)
    wrong, times = 0, []
    with tempfile.TemporaryDirectory(prefix="cooper-why-") as work:
        project = Project(Path(work), Path(options.cooper).resolve())
        project.make_base()
        bare, kept, cache = Path(work) / "bare", Path(work) / "kept", Path(work) / "cache"
        shutil.copytree(project.root, bare, symlinks=True)
        project.build("--cache-to", f"type=local,dest={cache},mode=max")
        shutil.copytree(project.root, kept, symlinks=True)
        travelled = 0
        for number in range(options.count):
            travels = number % 5 == 4
            shutil.rmtree(project.root)
            shutil.copytree(bare if travels else kept, project.root, symlinks=True)
            what, flags, wanted = mutation(project, rng, number)
            if travels:
                travelled += 1
                flags = [*flags, "--cache-from", f"type=local,src={cache}"]
            project.build(*flags)
            misses, took = project.why()
            times.append(took)
            # A base image that is only fetched has not run.
            shown = [m["cause"] for m in misses if not (travels and "] FROM " in m["step"])]
            if travels:
                # What is compared is compared with the cache, and says so.
                own = [m for m in misses if "step" not in m["cause"] and "] FROM " not in m["step"]]
                if any("cache" not in m for m in own if m["cause"]["kind"] != "no-cache" and not is_new(m["cause"])):
                    shown = []
            # Every step that ran did so because of this one input.
            if not shown or not all(is_right(cause, wanted) for cause in shown):
                wrong += 1
                print(f"WRONG {number}: {what}\n  wanted {wanted}")
                for miss in misses:
                    print(f"  {miss['step']}: {miss['cause']}")
            elif options.verbose:
                print(f"{number}: {what}: {misses[0]['text']}")
            project.reset()
    print(f"{options.count - wrong} of {options.count} changes were named, {travelled} of them from a cache alone")
    if options.times:
        times.sort()
        print(f"cooper why: median {statistics.median(times) * 1000:.1f} ms, longest {times[-1] * 1000:.1f} ms")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
