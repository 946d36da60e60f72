#!/usr/bin/env python3
"""The tables of docs/dockerfile.md are what the scenarios show: this checks that, or writes them.

usage: language_table.py            says what differs, exits 1 when anything does
       language_table.py --write    brings the tables up to date

A row is one behaviour: the `# what:` of a scenario and a link to it. Its section is that of `# about:`, else of the
first words of the file's name, else of the folder. Text outside of the tables is written by hand; scenarios of other
folders may be linked there.
"""
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "dockerfile.md"
FOLDERS = ["dockerfile", "copy", "run", "checks", "context"]

# Section: (folder, beginnings of file names). The longest beginning decides; "" takes the rest of a folder.
SECTIONS = {
    "reading": [("dockerfile", "continuation comment directive escape line bom byte_order syntax keyword json_form flag "
                               "empty_file crlf blank")],
    "from": [("dockerfile", "from scratch stage stages target unused platform circular")],
    "arg": [("dockerfile", "arg build_arg predefined automatic global source_date_epoch")],
    "env": [("dockerfile", "env")],
    "expansion": [("dockerfile", "expansion variable word")],
    "label": [("dockerfile", "label")],
    "run": [("run", ""), ("dockerfile", "run")],
    "mounts": [("run", "bind cache mount secret ssh tmpfs read_only unknown_mount")],
    "network": [("run", "network security insecure device loopback proxy hosts")],
    "copy": [("copy", ""), ("dockerfile", "copy")],
    "add": [("copy", "add"), ("dockerfile", "add")],
    "heredoc": [("dockerfile", "heredoc")],
    "cmd": [("dockerfile", "cmd entrypoint shell")],
    "workdir": [("dockerfile", "workdir user")],
    "config": [("dockerfile", "expose volume stopsignal healthcheck maintainer")],
    "onbuild": [("dockerfile", "onbuild")],
    "history": [("dockerfile", "history config image step")],
    "context": [("context", "")],
    "ignore": [("dockerfile", "dockerignore dockerignored ignore"), ("context", "dockerignore ignore")],
    "checks": [("checks", "")],
    "tools": [("dockerfile", "parse fmt")],
    "errors": [("dockerfile", "error unknown several_errors mistake hostile bad_input huge")],
    "rest": [("dockerfile", "")],
}

BEGIN = re.compile(r"^<!-- rows: (\w+) -->$")
END = "<!-- end of rows -->"
HEAD = ["| behaviour | shown by |", "| --- | --- |"]


def escape(text):
    """Fit for a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


class Scenarios:
    def __init__(self, folder):
        self.rows = {}  # section -> {path: row}
        self.where = {}  # path -> section
        self.mistakes = []
        for name in FOLDERS:
            for path in sorted((folder / name).rglob("*.scn")):
                self.add(folder, name, path)

    def add(self, folder, room, path):
        what = about = ""
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line.startswith("# what:"):
                what = line[7:].strip()
            elif line.startswith("# about:"):
                about = line[8:].strip()
            elif line.startswith("-- "):
                break
        link = "../tests/scenarios/" + path.relative_to(folder).as_posix()
        if not what:
            self.mistakes.append(f"{path.relative_to(HERE.parent)}: no '# what:'; say in one line what it shows")
            return
        if about and about not in SECTIONS:
            self.mistakes.append(f"{path.relative_to(HERE.parent)}: no section {about}; there are {', '.join(SECTIONS)}")
            return
        section = about or self.section_of(room, path.stem)
        self.where[link] = section
        self.rows.setdefault(section, {})[link] = f"| {escape(what)} | [{path.stem}]({link}) |"

    @staticmethod
    def section_of(room, stem):
        best, section = -1, "rest"
        for name, rules in SECTIONS.items():
            for folder, beginnings in rules:
                for word in beginnings.split() or [""]:
                    if folder == room and (stem + "_").startswith(word + "_" if word else "") and len(word) > best:
                        best, section = len(word), name
        return section


def tables(text):
    """Yields (section, first line of rows, line of END) by index."""
    lines = text.split("\n")
    start = None
    for number, line in enumerate(lines):
        if match := BEGIN.match(line):
            start = (match[1], number + 1)
        elif line == END and start:
            yield start[0], start[1], number
            start = None


def write(scenarios):
    text = PAGE.read_text(encoding="utf-8")
    lines = text.split("\n")
    for section, first, end in reversed(list(tables(text))):
        rows = [row for _, row in sorted(scenarios.rows.get(section, {}).items())]
        lines[first:end] = ["", *HEAD, *rows, ""] if rows else []
    PAGE.write_text("\n".join(lines), encoding="utf-8")


def check(scenarios):
    """The order of rows does not count, so that a merge of two tables is a table."""
    text = PAGE.read_text(encoding="utf-8")
    lines = text.split("\n")
    mistakes = list(scenarios.mistakes)
    seen = set()
    for section, first, end in tables(text):
        seen.add(section)
        wanted = set(scenarios.rows.get(section, {}).values())
        found = [line for line in lines[first:end] if line and line not in HEAD]
        for row in found:
            if row not in wanted:
                mistakes.append(f"section {section}: no scenario says {row}")
        for row in sorted(wanted - set(found)):
            mistakes.append(f"section {section}: missing {row}")
        if len(found) != len(set(found)):
            mistakes.append(f"section {section}: a row is there twice")
    for section in sorted(set(SECTIONS) - seen):
        mistakes.append(f"no '<!-- rows: {section} -->' in {PAGE.name}")
    for target in re.findall(r"\]\(([^)#\s]+)\)", text):
        if "://" not in target and not (PAGE.parent / target).exists():
            mistakes.append(f"{PAGE.name} links {target}, which is not there")
    return mistakes


def main():
    scenarios = Scenarios(HERE / "scenarios")
    if sys.argv[1:] == ["--write"]:
        write(scenarios)
    elif sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    mistakes = check(scenarios)
    for mistake in mistakes[:20]:
        print(mistake, file=sys.stderr)
    if len(mistakes) > 20:
        print(f"and {len(mistakes) - 20} more", file=sys.stderr)
    if mistakes:
        print("bring the tables up to date with tests/language_table.py --write", file=sys.stderr)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
