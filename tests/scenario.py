#!/usr/bin/env python3
"""Runs text scenarios against the cooper program: see tests/README.md for the form.

usage: scenario.py --cooper PROGRAM [--jobs N] [--keep] [--list] FILE-or-FOLDER…
"""
import argparse
import concurrent.futures
import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import cache_servers  # noqa: E402  beside this file
import cooperd  # noqa: E402
BASE_IMAGES = ("busybox", "debian", "python", "node", "runtime", "foreign", "debian_arm64")
SECTION = re.compile(r"^-- (\S+?)((?: \w+=\S+)*) --$")


def kubernetes_models():
    """Where tools/kubernetes_models/fetch.sh puts things."""
    cache = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
    return Path(os.environ.get("COOPER_KUBERNETES_MODELS") or Path(cache) / "cooper/kubernetes-models")


def s3_server():
    """Where tools/s3_server/fetch.sh puts things."""
    cache = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
    return Path(os.environ.get("COOPER_S3_SERVER") or Path(cache) / "cooper/s3-server")


class Failure(Exception):
    pass


class Scenario:
    """The parsed file: a description, needs, files to lay out, steps."""

    def __init__(self, path):
        self.path, self.what, self.needs = path, "", []
        self.files, self.steps = [], []
        current = None
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if match := SECTION.match(line):
                options = dict(word.split("=", 1) for word in match[2].split())
                current = None if match[1] == "steps" else (match[1], options, [])
                if current:
                    self.files.append(current)
                in_steps = match[1] == "steps"
                continue
            if current:
                current[2].append(line)
            elif self.files or "in_steps" in locals():
                if line.strip() and not line.startswith("#"):
                    self.steps.append((number, line))
            elif line.startswith("# what:"):
                self.what = line[7:].strip()
            elif line.startswith("# needs:"):
                self.needs = [need for need in line[8:].replace(",", " ").split() if need != "none"]
        if not self.what or not self.steps:
            raise Failure(f"{path}: a scenario needs '# what:' and '-- steps --'")


class Image:
    """A built OCI archive, flattened."""

    def __init__(self, archive):
        with tarfile.open(archive) as tar:
            members = {m.name.removeprefix("./"): m for m in tar.getmembers()}
            self.blob = lambda digest: tar.extractfile(members["blobs/" + digest.replace(":", "/")]).read()
            index = json.load(tar.extractfile(members["index.json"]))
            self.index = index
            descriptor = index["manifests"][0]
            self.manifest = json.loads(self.blob(descriptor["digest"]))
            if "manifests" in self.manifest:
                descriptor = self.manifest["manifests"][0]
                self.manifest = json.loads(self.blob(descriptor["digest"]))
            self.digest = descriptor["digest"]
            self.config = json.loads(self.blob(self.manifest["config"]["digest"]))
            self.files, self.layers = {}, []
            for layer, diff_id in zip(self.manifest["layers"] or [], self.config["rootfs"]["diff_ids"] or [], strict=True):
                data = self.blob(layer["digest"])
                if "sha256:" + hashlib.sha256(data).hexdigest() != layer["digest"]:
                    raise Failure(f"layer {layer['digest']} has other bytes")
                if data[:2] == b"\x1f\x8b":
                    data = gzip.decompress(data)
                elif data[:4] == b"\x28\xb5\x2f\xfd":
                    data = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
                if "sha256:" + hashlib.sha256(data).hexdigest() != diff_id:
                    raise Failure(f"layer {layer['digest']} does not unpack to {diff_id}")
                self.apply(data)

    def apply(self, data):
        names = []
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                name = os.path.normpath("/" + member.name.strip("/"))
                folder, base = os.path.split(name)
                names.append(name)
                if base == ".wh..wh..opq":
                    self.remove(folder, keep=True)
                elif base.startswith(".wh."):
                    self.remove(os.path.join(folder, base[4:]))
                else:
                    if not member.isdir():
                        self.remove(name)
                    content = tar.extractfile(member).read() if member.isreg() else b""
                    if member.islnk():
                        target = os.path.normpath("/" + member.linkname.strip("/"))
                        self.files[name] = self.files[target]
                    else:
                        self.files[name] = (member, content)
        self.layers.append(names)

    def remove(self, name, keep=False):
        for path in [p for p in self.files if p.startswith(name.rstrip("/") + "/") or (p == name and not keep)]:
            del self.files[path]


KINDS = {tarfile.REGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.FIFOTYPE: "fifo",
         tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block"}


class Registry:
    """One docker-registry on a free loopback port for the whole run, started when first needed."""

    lock = threading.Lock()
    process = None

    @classmethod
    def address(cls, folder):
        with cls.lock:
            if cls.process is None:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    cls.port = probe.getsockname()[1]
                config = folder / "registry.yml"
                config.write_text(
                    "version: 0.1\nlog: {level: error}\nstorage:\n  delete: {enabled: true}\n"
                    f"  filesystem: {{rootdirectory: {folder}/registry}}\nhttp: {{addr: '127.0.0.1:{cls.port}'}}\n")
                with open(folder / "registry.log", "wb") as log:
                    cls.process = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
                for _ in range(200):
                    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", cls.port), 1):
                        break
                    time.sleep(0.05)
        return f"127.0.0.1:{cls.port}"

    @classmethod
    def stop(cls):
        if cls.process:
            cls.process.terminate()
            cls.process.wait()


class Servers:
    """Small servers of one scenario; each prints its port and ends with its standard input."""

    def __init__(self, work):
        self.work, self.processes = work, []

    def start(self, *argv):
        process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=open(self.work / "servers.log", "ab"), text=True)
        self.processes.append(process)
        port = process.stdout.readline().strip()
        if not port:
            raise Failure(f"{argv[1]} did not start:\n{(self.work / 'servers.log').read_text()[-2000:]}")
        return f"127.0.0.1:{port}"

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def offer(self, need, env):
        """What `# needs:` may ask for, told by variables of the scenario."""
        if need == "s3":
            server = self.start("node", HERE / "s3_server.mjs", s3_server(), self.work / "s3")
            env["S3_HOST"] = server
            env["S3"] = ("type=s3,bucket=cache,region=us-east-1,use_path_style=true,"
                         f"access_key_id=S3RVER,secret_access_key=S3RVER,endpoint_url=http://{server}")
        elif need == "azblob":
            server = self.start(sys.executable, HERE / "cache_servers.py", need, self.work / "azblob.log")
            env["AZBLOB"] = (f"type=azblob,account_url=http://{server},account_name=account,"
                             f"secret_access_key={cache_servers.KEY}")
        elif need == "gha":
            server = self.start(sys.executable, HERE / "cache_servers.py", need, self.work / "gha.log")
            env["GHA_URL"] = f"http://{server}/results"
            env["GHA_MAIN"] = cache_servers.token(("refs/heads/main", 3))
            env["GHA_PULL"] = cache_servers.token(("refs/pull/1/merge", 3), ("refs/heads/main", 1))
            env["GHA_READER"] = cache_servers.token(("refs/heads/main", 1))
            env["GHA"] = f"type=gha,url_v2={env['GHA_URL']},token={env['GHA_MAIN']}"
        elif need == "faulty_registry":
            env["FAULTY"] = self.proxy(env["REGISTRY"])
        elif need == "faulty_s3":
            env["FAULTY"] = self.proxy(env["S3_HOST"])
            env["S3"] = env["S3"].replace(env["S3_HOST"], env["FAULTY"])

    def proxy(self, target):
        return self.start(sys.executable, HERE / "faulty_proxy.py", target, self.work / "faults",
                          self.work / "requests.log")


SERVERS = ("s3", "azblob", "gha", "faulty_registry", "faulty_s3")


class Run:
    """One scenario being run in its own folder with its own state."""

    def __init__(self, scenario, program, shared, base_images):
        self.scenario, self.program = scenario, program
        self.work = Path(tempfile.mkdtemp(prefix="scn-", dir=shared))
        self.context, self.image, self.last = self.work / "context", None, None
        self.base_images, self.shared, self.daemon = base_images, shared, None
        self.servers = Servers(self.work)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("COOPER_", "BUILDKIT_"))}
        self.env.update(COOPER=str(program), COOPER_ROOT=str(self.work / "state"), WORK=str(self.work),
                        CONTEXT=str(self.context), NO_COLOR="1", HOME=str(self.work / "home"),
                        DOCKER_CONFIG=str(self.work / "home/.docker"), BASE_IMAGES=str(base_images),
                        SOURCE=str(HERE.parent))
        (self.work / "home").mkdir()
        self.context.mkdir()

    def lay_out(self):
        for name, options, lines in self.scenario.files:
            where = self.context / "Dockerfile" if name == "Dockerfile" else self.work / name
            where.parent.mkdir(parents=True, exist_ok=True)
            text = "\n".join(lines)
            if options.get("newline") == "no":
                text = text.rstrip("\n")
            where.write_text(text, encoding="utf-8")
            where.chmod(int(options.get("mode", "0644"), 8))
        for need in self.scenario.needs:
            if need == "docker_cli":
                folder = cooperd.docker_cli()
                cooperd.docker_config(folder, Path(self.env["DOCKER_CONFIG"]))
                self.env["PATH"] = f"{folder}:{folder}/cli-plugins:{self.env['PATH']}"
            elif need == "kubernetes_models":
                self.env["KUBERNETES_MODELS"] = str(kubernetes_models())
            elif need == "emulators":
                self.env["PATH"] = f"{self.base_images / need}:{self.env['PATH']}"
            elif need == "registry":
                self.env["REGISTRY"] = Registry.address(self.shared)
                self.env["REPO"] = self.env["REGISTRY"] + "/" + self.scenario.path.stem.lower()
            elif need in SERVERS:
                self.servers.offer(need, self.env)
            elif (archive := self.base_images / f"{need}.tar").exists():
                self.command([str(self.program), "load", "-q", "-i", str(archive)], True)

    def command(self, argv, success, shell=False):
        try:
            done = subprocess.run(argv, cwd=self.work, env=self.env, capture_output=True, timeout=240, shell=shell,
                                  executable="/bin/bash" if shell else None, stdin=subprocess.DEVNULL, check=False)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"timed out: {argv}\n{(error.stderr or b'').decode(errors='replace')[-2000:]}") from None
        self.last = done
        if success is not None and (done.returncode == 0) != success:
            raise Failure(f"exit status {done.returncode} of {argv}\n{self.text()}")

    def text(self, which="output"):
        out, err = (s.decode("utf-8", "replace") for s in (self.last.stdout, self.last.stderr))
        return {"stdout": out, "stderr": err, "output": out + err}[which]

    def step(self, line):
        success = True
        word, _, rest = line.strip().partition(" ")
        if word == "fail":
            success = False
            word, _, rest = rest.partition(" ")
        elif word == "any":
            success = None
            word, _, rest = rest.partition(" ")
        action = getattr(self, "do_" + word, None)
        if action is None:
            raise Failure(f"unknown step: {word}")
        if word in ("build", "cooper", "sh", "daemon", "docker", "buildx"):
            action(rest, success)
        else:
            action(rest)

    # Steps

    def do_build(self, rest, success):
        args = self.expand(rest)
        out = self.work / "out.tar"
        chosen = ("-o", "--output", "--push", "--load", "--call", "--check")
        if not any(a.startswith(chosen) for a in args):
            args = ["-o", f"type=oci,dest={out}", *args]
        if not any(a.startswith("--progress") or a in ("-q", "--quiet") for a in args):
            args = ["--progress=plain", *args]
        if "--" in args:  # everything after it is the context
            cut = args.index("--")
            args = args[:cut] + args[cut + 1:]
        else:
            args.append(str(self.context))
        out.unlink(missing_ok=True)
        self.image = None
        self.command([str(self.program), "build", *args], success)

    def do_cooper(self, rest, success):
        self.command([str(self.program), *self.expand(rest)], success)

    def do_daemon(self, rest, success):
        """daemon start [FLAGS], daemon stop, daemon kill"""
        what, *flags = self.expand(rest)
        if self.daemon is None:
            self.daemon = cooperd.Daemon(self.program, self.work, self.env)
        if what == "start":
            said = self.daemon.start(flags)
            self.last = subprocess.CompletedProcess([], 1 if said else 0, b"", (said or "").encode())
            if success is not None and (said is None) != success:
                raise Failure(f"cooperd {'does not start' if said else 'starts'}: {said}")
            if said is None and "docker_cli" in self.scenario.needs and "BUILDX_BUILDER" not in self.env:
                self.command(["docker", "buildx", "create", "--name", "cooper", "--driver", "remote",
                              f"unix://{self.daemon.socket}"], True)
                self.env["BUILDX_BUILDER"] = "cooper"
            self.env["BUILDKIT_HOST"] = f"unix://{self.daemon.socket}"
        elif what == "stop":
            if (status := self.daemon.stop()) != 0:
                raise Failure(f"cooperd ended with {status}\n{self.daemon.text()[-4000:]}")
        elif what == "kill":
            self.daemon.kill()
        else:
            raise Failure(f"unknown: daemon {what}")

    def do_docker(self, rest, success):
        self.command(["docker", *self.expand(rest)], success)

    def do_buildx(self, rest, success):
        self.do_docker("buildx " + rest, success)

    def do_sh(self, rest, success):
        self.image = None
        self.command("set -eo pipefail; " + rest, success, shell=True)

    def expand(self, rest):
        replace = lambda m: self.env.get(m[1], m[0])
        return [re.sub(r"\$([A-Z_][A-Z_0-9]*)", replace, word) for word in shlex.split(rest)]

    def do_write(self, rest):
        name, _, text = rest.partition(" ")
        where = self.work / name
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text.encode().decode("unicode_escape"))

    def do_edit(self, rest):
        name, old, new = shlex.split(rest)
        where = self.context / name if name == "Dockerfile" else self.work / name
        text = where.read_text()
        if old not in text:
            raise Failure(f"{name} does not contain {old!r}")
        where.write_text(text.replace(old, new))

    def do_env(self, rest):
        """env NAME VALUE: of all that is started from here on."""
        name, _, value = rest.partition(" ")
        self.env[name] = re.sub(r"\$([A-Z_][A-Z_0-9]*)", lambda m: self.env.get(m[1], m[0]), value)

    def do_state(self, rest):
        """state NAME: use another state directory from here on."""
        self.env["COOPER_ROOT"] = str(self.work / rest.strip())
        if self.daemon and self.daemon.process:
            self.do_daemon("stop", True)
            self.do_daemon("start", True)
        for need in self.scenario.needs:
            if (archive := self.base_images / f"{need}.tar").exists():
                self.command([str(self.program), "load", "-q", "-i", str(archive)], True)

    def do_expect(self, rest):
        words = shlex.split(rest, posix=True)
        getattr(self, "expect_" + words[0])(words[1:])

    # Expectations

    def expect_output(self, words, which="output"):
        if len(words) != 2:
            raise Failure(f"expect {which} takes one text, in quotes when it has blanks: {words[1:]}")
        text, how, want = self.text(which), words[0], self.expand(shlex.quote(words[1]))[0]
        good = {"contains": lambda: want in text, "lacks": lambda: want not in text,
                "matches": lambda: re.search(want, text, re.MULTILINE), "is": lambda: text.rstrip("\n") == want}[how]()
        if not good:
            raise Failure(f"{which} {how} {want!r}: no. It is:\n{text[-4000:]}")

    def expect_stdout(self, words):
        self.expect_output(words, "stdout")

    def expect_stderr(self, words):
        self.expect_output(words, "stderr")

    def expect_exit(self, words):
        if self.last.returncode != int(words[0]):
            raise Failure(f"exit status {self.last.returncode}, wanted {words[0]}\n{self.text()}")

    def built(self):
        if self.image is None:
            self.image = Image(self.work / "out.tar")
        return self.image

    def expect_file(self, words):
        path, wants = words[0], words[1:]
        found = self.built().files.get(path)
        if found is None:
            raise Failure(f"{path} is not in the image; it has {sorted(self.built().files)[:200]}")
        member, content = found
        actual = {
            "mode": lambda w: (f"{member.mode & 0o7777:04o}", f"{int(w, 8):04o}"),
            "owner": lambda w: (f"{member.uid}:{member.gid}", w),
            "type": lambda w: (KINDS.get(member.type, "?"), w),
            "link": lambda w: (member.linkname, w),
            "size": lambda w: (str(len(content)), w),
            "mtime": lambda w: (str(int(member.mtime)), w),
            "content": lambda w: (content.decode("utf-8", "replace").rstrip("\n"), w.encode().decode("unicode_escape")),
            "contains": lambda w: (w if w in content.decode("utf-8", "replace") else content.decode("utf-8", "replace"), w),
            "sha256": lambda w: (hashlib.sha256(content).hexdigest(), w),
            "xattr": lambda w: (member.pax_headers.get("SCHILY.xattr." + w.split("=")[0], ""), w.split("=", 1)[1]),
        }
        for what, want in zip(wants[::2], wants[1::2], strict=True):
            is_, should = actual[what](want)
            if is_ != should:
                raise Failure(f"{path}: {what} is {is_!r}, wanted {should!r}")

    def expect_no(self, words):
        if words[0] == "file":
            if words[1] in self.built().files:
                raise Failure(f"{words[1]} is in the image")
        elif words[0] == "path":
            if os.path.lexists(self.work / words[1]):
                raise Failure(f"{words[1]} exists")
        else:
            raise Failure(f"unknown expectation: no {words[0]}")

    def expect_path(self, words):
        """A file of the work folder: path NAME [content TEXT] [mode M] [contains TEXT]"""
        where = self.work / words[0]
        if not os.path.lexists(where):
            raise Failure(f"{words[0]} does not exist")
        for what, want in zip(words[1::2], words[2::2], strict=True):
            if what == "content" and where.read_text().rstrip("\n") != want.encode().decode("unicode_escape"):
                raise Failure(f"{words[0]} is {where.read_text()!r}")
            if what == "contains" and want not in where.read_text():
                raise Failure(f"{words[0]} is {where.read_text()!r}")
            if what == "mode" and stat.S_IMODE(where.lstat().st_mode) != int(want, 8):
                raise Failure(f"{words[0]} has mode {stat.S_IMODE(where.lstat().st_mode):04o}")

    def expect_config(self, words):
        """config a.b.c JSON, or: config a.b.c absent"""
        value = self.built().config
        for part in words[0].split("."):
            value = value.get(part) if isinstance(value, dict) else value[int(part)] if value else None
        want = None if words[1] == "absent" else json.loads(words[1])
        if value != want:
            raise Failure(f"config {words[0]} is {json.dumps(value)}, wanted {words[1]}")

    def expect_history(self, words):
        """history N created_by TEXT | empty | kept"""
        entry = self.built().config["history"][int(words[0])]
        if words[1] == "created_by" and entry.get("created_by") != words[2]:
            raise Failure(f"history {words[0]} is {entry.get('created_by')!r}, wanted {words[2]!r}")
        if words[1] in ("empty", "kept") and entry.get("empty_layer", False) != (words[1] == "empty"):
            raise Failure(f"history {words[0]} is {entry}")

    def expect_layers(self, words):
        if len(self.built().layers) != int(words[0]):
            raise Failure(f"{len(self.built().layers)} layers: {self.built().layers}")

    def outcomes(self):
        """Names of the steps of the last build with how they ended."""
        names, ends = {}, {}
        for line in self.text("stderr").splitlines():
            if not (match := re.match(r"#(\d+) (.*)", line)):
                continue
            number, rest = match.groups()
            if re.match(r"(DONE|CACHED|ERROR|CANCELED)\b", rest):
                ends[number] = rest.split()[0].rstrip(":")
            elif number not in names:
                names[number] = rest
        return {names[n]: ends.get(n, "?") for n in names}

    def expect_cached(self, words):
        outcomes = self.outcomes()
        steps = {n: e for n, e in outcomes.items() if n.startswith("[") and not n.startswith("[internal]")}
        chosen = steps if words[0] == "all" else {n: e for n, e in steps.items() if words[0] in n}
        # Finding a base image is a look-up, not work: it may say DONE.
        bad = {n: e for n, e in chosen.items() if e != "CACHED" and " FROM " not in n}
        if not chosen or bad:
            raise Failure(f"not cached: {bad or words[0]}\n{self.text('stderr')[-3000:]}")

    def expect_executed(self, words):
        chosen = {n: e for n, e in self.outcomes().items() if words[0] in n}
        if not chosen or any(e != "DONE" for e in chosen.values()):
            raise Failure(f"not executed: {words[0]}: {chosen}\n{self.text('stderr')[-3000:]}")

    def expect_untouched(self, words):
        if any(words[0] in n for n in self.outcomes()):
            raise Failure(f"was looked at: {words[0]}\n{self.text('stderr')[-3000:]}")


def skipped_because(scenario, base_images):
    for need in scenario.needs:
        if need == "root" and os.geteuid() != 0:
            return "needs root"
        if need == "docker_cli":
            if cooperd.docker_cli() is None:
                return "needs Docker's clients: tools/docker_cli/fetch.sh"
            continue
        if need == "kubernetes_models":
            if not kubernetes_models().is_dir():
                return "needs Kubernetes' types: tools/kubernetes_models/fetch.sh"
            continue
        if need == "s3" and not (s3_server() / ".made").exists():
            return "needs an S3 server: tools/s3_server/fetch.sh"
        if need == "emulators":
            if not (base_images / need).is_dir():
                return "needs emulators: tools/base_images/make.sh emulators"
            continue
        if need == "registry" and not shutil.which("docker-registry"):
            return "needs docker-registry"
        if need in BASE_IMAGES and not (base_images / f"{need}.tar").exists():
            return f"needs the base image {need}: tools/base_images/make.sh {need}"
        if need not in ("root", "registry", "overlay", *SERVERS, *BASE_IMAGES) and not shutil.which(need):
            return f"needs the program {need}"
    return None


def run_one(path, args, shared, base_images):
    run = None
    try:
        scenario = Scenario(path)
        if reason := skipped_because(scenario, base_images):
            return path, "skip", reason
        run = Run(scenario, args.cooper, shared, base_images)
        run.lay_out()
        if args.daemon:
            run.do_daemon("start", True)
        for number, line in scenario.steps:
            try:
                run.step(line)
            except Failure as failure:
                said = run.daemon.text()[-2000:] if run.daemon else ""
                raise Failure(f"{path}:{number}: {line.strip()}\n{failure}" +
                              (f"\ncooperd says:\n{said}" if said else "")) from None
        if run.daemon and (status := run.daemon.stop()) != 0:
            raise Failure(f"{path}: cooperd ended with {status}\n{run.daemon.text()[-2000:]}")
        return path, "pass", scenario.what
    except Failure as failure:
        return path, "FAIL", str(failure)
    except Exception as error:  # a broken scenario is a failed one
        return path, "FAIL", f"{path}: {type(error).__name__}: {error}"
    finally:
        if run and run.daemon:
            run.daemon.kill()
        if run:
            run.servers.stop()
        if run and not args.keep:
            shutil.rmtree(run.work, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cooper", type=lambda p: Path(p).resolve(), required=True)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--keep", action="store_true", help="keep the work folders")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--daemon", action="store_true", help="builds are made by a cooperd of each scenario's own")
    parser.add_argument("paths", nargs="+", type=Path)
    args = parser.parse_args()
    files = sorted(f for p in args.paths for f in ([p] if p.is_file() else p.rglob("*.scn")))
    base_images = Path(os.environ.get("COOPER_BASE_IMAGES",
                                      Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cooper/base-images"))
    counts = {"pass": 0, "FAIL": 0, "skip": 0}
    shared = Path(tempfile.mkdtemp(prefix="cooper-scenarios-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with concurrent.futures.ThreadPoolExecutor(max(args.jobs, 1)) as pool:
            for path, how, text in pool.map(lambda f: run_one(f, args, shared, base_images), files):
                counts[how] += 1
                if how != "pass" or args.verbose:
                    print(f"{how} {path.stem}: {text}", flush=True)
    finally:
        Registry.stop()
        if not args.keep:
            shutil.rmtree(shared, ignore_errors=True)
    print(f"{counts['pass']} passed, {counts['FAIL']} failed, {counts['skip']} skipped")
    return 1 if counts["FAIL"] or not counts["pass"] else 0


if __name__ == "__main__":
    sys.exit(main())
