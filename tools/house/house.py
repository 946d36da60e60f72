#!/usr/bin/env python3
"""The house check: what no reader can keep in his head, and only that.

Prints `file:line: rule, because reason; instead do this` for each breach; exits 1 when there is one.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
HEAVY = re.compile(r'#include [<"](nlohmann/|google/protobuf|grpc|absl/|regex>|spdlog/|CLI/|toml\+\+|.*\.pb\.h)')
CALLS = [
    (re.compile(r"\bthrow\b"), "no throw", "errors are values here", "return fail(...)"),
    (re.compile(r"(?<![\w.:>])fork\("), "no fork()", "the program has threads", "spawn through sys/process.hpp"),
    (re.compile(r"\.detach\(\)"), "no detach()", "nobody would wait for the thread", "keep a std::jthread"),
    (re.compile(r"std::async\b"), "no std::async", "its threads are unbounded", "post to a WorkPool"),
    (re.compile(r"(?<![\w.:>])(std::)?system\("), "no system()", "a shell parses its words", "sys::Child"),
    (re.compile(r"(?<![\w.>])(::)?chdir\("), "no chdir()", "it changes all threads", "use directory descriptors"),
    (re.compile(r"\bco_await\b"), "no coroutines", "g++ 12 destroys captures twice", "block with a Stop"),
]
# Doors to code that throws: the .cpp files that include it may catch.
CATCH = re.compile(r"\bcatch \(")
CHILD_CODE = {"sys/process.cpp", "sys/namespaces.cpp", "sys/mount.cpp"}  # runs in a child or at program start


def read_rooms():
    rooms = {}
    for line in (SRC / "ROOMS").read_text().splitlines():
        if line and not line.startswith("#"):
            name, rank, may = line.split(":")
            rooms[name] = (int(rank), set(may.split()))
    return rooms


def strip_comments(line):
    return re.sub(r"//.*", "", re.sub(r'"(\\.|[^"\\])*"', '""', line))


def check_file(path, rooms, report):
    name = path.relative_to(SRC).as_posix()
    room = name.split("/")[0]
    rank, may = rooms.get(room, (99, set()))
    text = path.read_text(encoding="utf-8")
    is_test = name.endswith("_test.cpp") or "/fake_" in name
    catches_allowed = any(HEAVY.match(line) for line in text.splitlines())
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r'#include "([a-z_]+)/(.+)"', line):
            other, rest = match.groups()
            if other not in rooms:
                continue
            if other not in (room, "base") and other not in may:
                report(name, number, f"{room} may not include {other}", "src/ROOMS does not grant it",
                       "move the code, or change src/ROOMS with a decision record")
            if other not in (room, "base") and rooms[other][0] >= rank:
                report(name, number, f"{other} is not below {room}", "rooms include lower ranks only", "turn the edge")
            if rest.startswith("detail/") and other != room:
                report(name, number, "detail/ is private", "it may change at any time", "use the room's public headers")
        if path.suffix == ".hpp" and HEAVY.match(line) and "/detail/" not in name:
            report(name, number, "heavy header in a header", "every includer pays seconds", "include it in one .cpp")
        if is_test:
            continue
        code = strip_comments(line)
        for pattern, rule, reason, instead in CALLS:
            if name in CHILD_CODE and rule in ("no fork()", "no chdir()"):
                continue
            if name.startswith("apps/cooper_init") or name.startswith("run/init"):
                continue
            if pattern.search(code):
                report(name, number, rule, reason, instead)
        if CATCH.search(code) and not catches_allowed:
            report(name, number, "catch outside a door", "nothing of ours throws",
                   "catch in the .cpp that includes what throws")
        if re.search(r"\b(TODO|FIXME|XXX)\b", line):
            report(name, number, "open end", "it will be forgotten", "do it, or a line in docs/roadmap.md")


def main():
    rooms = read_rooms()
    found = []

    def report(name, number, rule, reason, instead):
        found.append(f"src/{name}:{number}: {rule}, because {reason}; instead: {instead}")

    for path in sorted([*SRC.rglob("*.hpp"), *SRC.rglob("*.cpp")]):
        check_file(path, rooms, report)
    for room in rooms:
        folder = SRC / room
        if folder.is_dir() and any(folder.glob("*.cpp")) and not (folder / "README.md").exists():
            report(room + "/README.md", 1, "no README", "a newcomer needs one page per room", "write it")
    print("\n".join(found) or "house check: clean")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
