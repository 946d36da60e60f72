#!/usr/bin/env python3
"""Builds a corpus of Dockerfiles with cooper and with BuildKit, and compares all that they make: see README.md.

usage: run.py --cooper PROGRAM [--suite SUITE] [--jobs N] [--every N] [--keep] [--accept] [--verbose] [CASE…]
       run.py --listed      only checks that each accepted difference has its section in docs/differences.md

A CASE is a file of the corpus or a part of its name; without one all are built.
"""
import argparse
import collections
import concurrent.futures
import contextlib
import functools
import http.server
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
from scenario import KINDS, SECTION, Image  # noqa: E402

PEER = ROOT / "tools/peer/run.sh"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cooper"
PEER_FILES = Path(os.environ.get("COOPER_PEER") or CACHE / "peer")
CORPUS = HERE / "corpus"
NEW = 1_710_000_000  # times after this are those of the test itself; base images are older
CONTEXT_TIME = 1_500_000_000  # of all files of contexts but those to which a script has given an older one


class Case:
    """One file of the corpus: Dockerfile, files of the context, a script for what text cannot say, flags."""

    def __init__(self, path):
        self.path, self.name = path, path.stem
        self.header = {"what": "", "flags": "", "needs": "busybox", "frontend": "", "base": ""}
        self.files, self.script, current = [], "", None
        for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n"):
            if match := SECTION.match(line):
                current = (match[1], dict(word.split("=", 1) for word in match[2].split()), [])
                self.files.append(current)
            elif current:
                current[2].append(line)
            elif match := re.match(r"# (\w+): (.*)", line):
                if match[1] not in self.header:
                    sys.exit(f"{path}: unknown line of the head: {match[1]}")
                self.header[match[1]] = match[2].strip()
        if not self.header["what"] or not any(name == "Dockerfile" for name, _, _ in self.files):
            sys.exit(f"{path}: a case needs '# what:' and '-- Dockerfile --'")

    def context(self, work):
        """BuildKit keeps what it got from a context, and takes another directory of the same name for the same."""
        return work / self.name

    def lay_out(self, work):
        context = self.context(work)
        context.mkdir(parents=True)
        for name, options, lines in self.files:
            text = "\n".join(lines)
            if lines and options.get("newline") != "no":
                text += "\n"
            if name == "setup":
                self.script = text
                continue
            where = context / name.removeprefix("context/") if name.startswith(("Dockerfile", "context/")) else work / name
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_text(text, encoding="utf-8")
            where.chmod(int(options.get("mode", "0644"), 8))
        if self.script:
            done = subprocess.run(["bash", "-euc", self.script], cwd=context, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{self.path}: its setup fails: {done.stderr}")
        for folder, folders, names in os.walk(os.fsencode(work)):
            for name in folders + names:
                where = os.path.join(folder, name)
                if os.lstat(where).st_mtime > CONTEXT_TIME:
                    os.utime(where, (CONTEXT_TIME, CONTEXT_TIME), follow_symlinks=False)

    def flags(self, work, servers):
        replace = {"WORK": str(work), "CONTEXT": str(self.context(work)), **servers}
        return [re.sub(r"\$(WORK|CONTEXT|HTTP|GIT)\b", lambda m: replace[m[1]], w) for w in shlex.split(self.header["flags"])]


class Files(http.server.SimpleHTTPRequestHandler):
    """What ADD fetches: the work folders, on loopback, with a Last-Modified of each file."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(folder):
    """The folder by http and by git; addresses by the names that cases use."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = "9418"  # nobody else is in this network namespace
    git = subprocess.Popen(["git", "daemon", "--export-all", "--listen=127.0.0.1", f"--base-path={folder}",
                            f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield {"HTTP": f"http://127.0.0.1:{server.server_port}", "GIT": f"git://127.0.0.1:{port}"}
    finally:
        git.terminate()
        git.wait()


class Builder:
    """One of the two programs, in its own state."""

    def __init__(self, state):
        self.state = state
        foreign = ("COOPER_", "BUILDKIT_", "DOCKER_", "BUILDX_")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        self.env |= {"COOPER_PEER": str(PEER_FILES), "NO_COLOR": "1", "HOME": str(state / "home")}
        (state / "home").mkdir(parents=True)

    def run(self, *argv, check=True):
        done = subprocess.run([*map(str, argv)], env=self.env, capture_output=True, check=False, timeout=240,
                              stdin=subprocess.DEVNULL)
        if check and done.returncode:
            sys.exit(f"{argv}: {done.stderr.decode(errors='replace')}")
        return done

    def build(self, flags, context, out):
        done = self.run(*self.program, *flags, "--progress=rawjson", "--network=none", "-o", f"type=oci,dest={out}",
                        context, check=False)
        return Outcome(done, out)


class Cooper(Builder):
    def __init__(self, state, program):
        super().__init__(state)
        self.env["COOPER_ROOT"] = str(state / "root")
        self.program = [program, "build"]

    def load(self, archive):
        self.run(self.program[0], "load", "-q", "-i", archive)


class Peer(Builder):
    def __init__(self, state, suite):
        super().__init__(state)
        self.program = [PEER, "buildx", "--state", state, "build", "--provenance=false"]
        self.run(PEER, "start", "--suite", suite, "--state", state, "--net", "here")
        version = self.run(PEER, "docker", "--state", state, "version", "--format", "{{.Server.Version}}").stdout
        self.version = version.decode().strip()

    def load(self, archive):
        self.run(PEER, "docker", "--state", self.state, "load", "-q", "-i", archive)

    def stop(self):
        self.run(PEER, "stop", "--state", self.state, check=False)


class Outcome:
    """What one builder made of one case, in words that can be compared."""

    def __init__(self, done, out):
        self.good = done.returncode == 0
        self.text = done.stderr.decode("utf-8", "replace")
        self.image = Image(out) if self.good else None
        self.names, self.warnings = {}, set()
        for line in self.text.splitlines():
            if not line.startswith('{"'):
                continue
            event = json.loads(line)
            for vertex in event.get("vertexes") or []:
                self.names[vertex["digest"]] = vertex["name"]

    def message(self):
        lines = [line for line in self.text.splitlines() if line and not line.startswith('{"')]
        first = next((n for n, line in enumerate(lines) if re.match(r"(?i)error: ", line)), -1)
        return " / ".join(lines[first:]) if lines else "no message"

    def line(self):
        """The line of the Dockerfile that an error names."""
        found = re.search(r"^[^\s:]*ockerfile[^\s:]*:(\d+)(?::\d+)?$|parse error on line (\d+)", self.text, re.MULTILINE)
        return found and (found[1] or found[2])


def steps(outcome):
    """What is done, without the looking-up before it, which each program shows as it does it."""
    shown = (n for n in outcome.names.values() if not re.match(r"\[internal\]|\[context \S+\] load |exporting |importing ", n))
    return collections.Counter(shown)


def config_lines(outcome):
    """The image configuration, one line for each leaf, without what depends on the time or on the bytes of layers."""
    config = dict(outcome.image.config)
    dated = [config.get("created") is not None, *("created" in entry for entry in config.get("history") or [])]
    config.pop("created", None)
    yield "times", json.dumps(dated)
    ids = config["rootfs"]["diff_ids"]
    config["rootfs"] = {"diff_ids": len(ids or [])}  # an empty list is null in Go
    config["history"] = [{k: v for k, v in entry.items() if k != "created"} for entry in config.get("history") or []]
    for key, value in sorted(config.items()):
        if isinstance(value, dict):
            for inner, leaf in sorted(value.items()):
                yield f"{key}.{inner}", json.dumps(leaf, sort_keys=key != "config")
        elif isinstance(value, list):
            for number, leaf in enumerate(value):
                yield f"{key}.{number}", json.dumps(leaf, sort_keys=True)
        else:
            yield key, json.dumps(value)


def index_lines(outcome):
    descriptor = {k: v for k, v in outcome.image.index["manifests"][0].items() if k not in ("digest", "size")}
    stamps = {**descriptor.pop("annotations", {})}
    stamps.pop("org.opencontainers.image.created", None)  # cooper: when the image was made; BuildKit: the archive
    yield "annotations", json.dumps(stamps)
    yield "index", json.dumps(descriptor, sort_keys=True)
    yield "manifest", json.dumps({k: v for k, v in outcome.image.manifest.items() if k not in ("config", "layers")})
    yield "layers", " ".join(layer["mediaType"] for layer in outcome.image.manifest["layers"] or [])


def tree_lines(outcome):
    groups = {}
    for name, entry in outcome.image.files.items():
        groups.setdefault(id(entry), []).append(name)
    for name, entry in outcome.image.files.items():
        member, content = entry
        words = [KINDS.get(member.type, "?"), f"{stat.S_IMODE(member.mode):04o}", f"{member.uid}:{member.gid}",
                 "mtime=" + ("now" if member.mtime > NEW else str(int(member.mtime)))]
        if member.issym():
            words.append(f"-> {member.linkname}")
        if member.type in (b"3", b"4"):
            words.append(f"device {member.devmajor}:{member.devminor}")
        if member.isreg():
            words.append(f"{len(content)} bytes {json.dumps(content.decode('utf-8', 'backslashreplace')[:300])}")
        words += sorted(f"{k.removeprefix('SCHILY.xattr.')}={v!r}" for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr."))
        if len(groups[id(entry)]) > 1:
            words.append("= " + " ".join(sorted(groups[id(entry)])))
        yield name, " ".join(words)


def layer_lines(outcome):
    for number, names in enumerate(outcome.image.layers):
        if number:  # the first one is the base's, or equal when the rest is
            # How names are removed may differ, that they are is seen in the files.
            yield f"layer {number}", " ".join(sorted(n for n in names if "/.wh." not in n))


def undefined_time(ours, theirs):
    """Adding a name to a directory sets its time in BuildKit. cooper leaves it, so that equal builds have equal layers."""
    return bool(ours and theirs and ours.startswith("dir ") and re.sub(r"mtime=\d+", "mtime=now", ours) == theirs)


def differences(facet, ours, theirs):
    ours, theirs = dict(ours), dict(theirs)
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key) and not undefined_time(ours.get(key), theirs.get(key)):
            yield f"{facet} {key}: {ours.get(key, 'absent')} | {theirs.get(key, 'absent')}"


def compare(ours, theirs):
    """Sentences `what: cooper's | BuildKit's`, none if both made the same."""
    if ours.good != theirs.good:
        word = lambda o: "builds" if o.good else "refuses"
        return [f"result: {word(ours)} | {word(theirs)}"]
    if not ours.good:
        return [] if theirs.line() in (None, ours.line()) else [f"error line: {ours.line()} | {theirs.line()}"]
    found = list(differences("config", config_lines(ours), config_lines(theirs)))
    found += differences("image", index_lines(ours), index_lines(theirs))
    found += differences("file", tree_lines(ours), tree_lines(theirs))
    found += differences("names", layer_lines(ours), layer_lines(theirs))
    mine, other = steps(ours), steps(theirs)
    if mine != other:
        found.append(f"steps: {sorted((mine - other).elements())} | {sorted((other - mine).elements())}")
    return found


class Known:
    """differences.json: the accepted differences of each case, with the section of docs/differences.md that says why."""

    def __init__(self, version):
        self.path = HERE / "differences.json"
        self.all = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.version = ".".join(version.split(".")[:2])
        self.judged = self.version in self.all
        self.cases = self.all.setdefault(self.version, {})

    def accept(self, name, found):
        if found:
            self.cases[name] = {"why": self.cases.get(name, {}).get("why", "?"), "differences": found}
        else:
            self.cases.pop(name, None)

    def save(self):
        self.all[self.version] = dict(sorted(self.cases.items()))
        self.path.write_text(json.dumps(self.all, indent=1, ensure_ascii=False) + "\n")


def base_images(case, work, cooper, peer, lock):
    """`-- base.Dockerfile --` of a case makes a base image, which both builders get as the same archive."""
    recipe = work / "base.Dockerfile"
    if not recipe.exists():
        return
    archive = work / "base.tar"
    done = cooper.run(*cooper.program, "--network=none", "-q", "-f", recipe, "-t", f"local/{case.name}",
                      "-o", f"type=oci,dest={archive}", case.context(work), check=False)
    if done.returncode:
        sys.exit(f"{case.path}: its base image: {done.stderr.decode(errors='replace')}")
    with lock:
        cooper.load(archive)
        peer.load(archive)


def examine(case, shared, cooper, peer, servers, lock):
    work = shared / case.name
    work.mkdir()
    case.lay_out(work)
    base_images(case, work, cooper, peer, lock)
    flags = case.flags(work, servers)
    ours = cooper.build(flags, case.context(work), work / "cooper.tar")
    with lock:  # BuildKit shows a step that several builds have in common under the name it has in the first
        theirs = peer.build(flags, case.context(work), work / "peer.tar")
    return ours, theirs, compare(ours, theirs)


def own_network():
    """Everything runs in a network namespace that has loopback only: a missing image is looked for nowhere."""
    if os.environ.get("DIFFERENTIAL_NETWORK") != "own":
        os.environ["DIFFERENTIAL_NETWORK"] = "own"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def check_list():
    sections = re.findall(r"^### (.+)$", (HERE.parents[1] / "docs/differences.md").read_text(), re.MULTILINE)
    accepted = {case: entry["why"] for cases in Known("").all.values() for case, entry in cases.items()}
    lost = [f"{case}: {why}" for case, why in accepted.items()
            if why not in sections or not (CORPUS / f"{case}.case").exists()]
    stale = [section for section in sections if section not in accepted.values()]
    for one in lost:
        print(f"differences.json: {one}: no such case, or no such section in docs/differences.md")
    for one in stale:
        print(f"docs/differences.md: {one}: no case shows it")
    return 1 if lost or stale else 0


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n\n")[0])
    parser.add_argument("--cooper", type=Path)
    parser.add_argument("--listed", action="store_true")
    parser.add_argument("--suite", default="sid")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--accept", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    if options.listed:
        return check_list()
    if options.cooper is None:
        parser.error("--cooper is missing")
    if os.geteuid():
        print("differential test: SKIPPED, it needs root")
        return 0
    subprocess.run([PEER.parent / "fetch.sh", options.suite], check=True, stdout=subprocess.DEVNULL)
    own_network()

    cases = [Case(path) for path in sorted(CORPUS.glob("*.case"))]
    if options.cases:
        cases = [c for c in cases if any(w in c.name or Path(w).stem == c.name for w in options.cases)]
    cases = cases[:: options.every]
    shared = Path(tempfile.mkdtemp(prefix="differential-"))
    peer = None
    try:
        cooper = Cooper(shared / "state-cooper", options.cooper.resolve())
        peer = Peer(shared / "state-peer", options.suite)
        images = Path(os.environ.get("COOPER_BASE_IMAGES") or CACHE / "base-images")
        for need in sorted({n for case in cases for n in case.header["needs"].split()} - {"none"}):
            cooper.load(images / f"{need}.tar")
            peer.load(images / f"{need}.tar")
        with serving(shared) as servers:
            return judge(options, cases, shared, cooper, peer, servers)
    finally:
        if peer:
            peer.stop()
        if not options.keep:
            shutil.rmtree(shared, ignore_errors=True)
        else:
            print("kept:", shared)


def judge(options, cases, shared, cooper, peer, servers):
    known, lock = Known(peer.version), threading.Lock()
    same = listed = wrong = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        work = [pool.submit(examine, case, shared, cooper, peer, servers, lock) for case in cases]
        for case, future in zip(cases, work, strict=True):
            try:
                ours, theirs, found = future.result()
            except Exception:
                pool.shutdown(wait=False, cancel_futures=True)
                print(f"{case.path}:", file=sys.stderr)
                raise
            expected = known.cases.get(case.name, {}).get("differences", [])
            if options.accept:
                known.accept(case.name, found)
            if found == expected:
                same, listed = same + (not found), listed + bool(found)
                if options.verbose:
                    print(f"{'same' if not found else 'listed'}: {case.name}: {'built' if ours.good else 'refused'}")
                    if not ours.good:
                        print(f"    cooper:   {ours.message()}\n    BuildKit: {theirs.message()}")
                continue
            wrong += 1
            print(f"DIFFERENT: {case.name}: {case.header['what']}")
            for one in found:
                print(f"    {'new ' if one not in expected else 'known '}{one}")
            for one in (one for one in expected if one not in found):
                print(f"    vanished {one}")
    if options.accept:
        known.save()
    print(f"differential test against dockerd {peer.version}: {len(cases)} Dockerfiles, {same} the same, "
          f"{listed} with listed differences, {wrong} different")
    if not known.judged and not options.accept:
        print(f"differences.json knows nothing of dockerd {known.version}: {wrong} differences are shown, NOT JUDGED")
        return 0
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
