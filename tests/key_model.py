#!/usr/bin/env python3
"""Changes random projects at random and looks whether what is reused is what a clean build gives.

    tests/key_model.py [--cooper PROGRAM] [--count 40] [--seed 1] [--verbose]

After each change the project is built with the cache of all builds before, and with a state directory that knows the
base images only. Both images must have the same files (content, mode, owner, link target) and the same configuration.
Changes that only look different (times, owners, another checkout …) must run no step at all.
"""
import argparse
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
IMAGES = Path(os.environ.get("COOPER_BASE_IMAGES", Path.home() / ".cache/cooper/base-images"))
WORDS = ["alpha", "beta", "gamma", "delta", "omega"]
EPOCH_FIELDS = {"created", "history", "rootfs"}  # have times, or digests of layers that have times


class Cooper:
    def __init__(self, program, work):
        self.program, self.work = program, work
        self.state, self.template = work / "warm", work / "template"

    def run(self, state, *words, check=True):
        environment = {**os.environ, "HOME": str(self.work), "NO_COLOR": "1", "DOCKER_CONFIG": str(self.work / "docker")}
        done = subprocess.run([self.program, "--root", str(state), *map(str, words)], capture_output=True, text=True,
                              env=environment, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"cooper {words[0]}: {done.stdout}{done.stderr}")
        return done

    def prepare(self):
        self.run(self.template, "load", "-q", "-i", IMAGES / "busybox.tar")
        for number in (1, 2):
            base = self.work / f"base{number}"
            base.mkdir()
            (base / "Dockerfile").write_text(f"FROM busybox\nENV BASE={number}\nRUN echo {number} > /base\n")
            self.run(self.template, "build", "-q", "-t", f"base:{number}", base)
        shutil.copytree(self.template, self.state, symlinks=True)

    def build(self, state, project, *flags, check=True):
        return self.run(state, "build", "--progress=plain", *project.flags, *flags, project.dir, check=check)


class Project:
    """A Dockerfile of a few stages over a context of a few folders."""

    def __init__(self, rng, directory):
        self.rng, self.dir, self.flags = rng, directory, []
        self.args = {}
        self.git_modes = rng.random() < 0.3
        self.dir.mkdir()
        self.folders = rng.sample(["src", "lib", "assets", "conf"], 3)
        for folder in self.folders:
            for i in range(rng.randint(2, 4)):
                deep = rng.choice(["", "", "deep/"])
                self.write(f"{folder}/{deep}{rng.choice(WORDS)}{i}.txt", self.text(), rng.choice([0o644, 0o644, 0o755, 0o600]))
        self.write("top.txt", self.text())
        self.write("skipped.log", self.text())
        self.pack()
        link = self.dir / self.folders[0] / "link"
        link.symlink_to("../top.txt")
        self.ignore = ["*.log"]
        self.base = 1
        self.steps = self.make_steps()
        self.save()

    def text(self):
        return "".join(self.rng.choice(WORDS) + "\n" for _ in range(self.rng.randint(1, 30)))

    def write(self, name, text, mode=0o644):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def pack(self):
        with tarfile.open(self.dir / "pack.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for word in self.rng.sample(WORDS, 2):
                member = tarfile.TarInfo(f"packed/{word}")
                text = self.text().encode()
                member.size, member.mode, member.uid = len(text), self.rng.choice([0o644, 0o600, 0o4755]), self.rng.randrange(3)
                archive.addfile(member, io.BytesIO(text))

    def make_steps(self):
        """Of two stages: lines of the first, then of the last. CHMOD and CHOWN fix what the source says."""
        one, two, three = self.folders
        rng = self.rng
        first = [f"COPY {one} /{one}", "ARG FLAVOUR=plain",
                 rng.choice([f"RUN find /{one} -type f | sort | xargs sha256sum > /sums; echo $FLAVOUR >> /sums",
                             f"RUN ls -lnR /{one} | awk '{{print $1, $3, $4, $9}}' > /modes",
                             f"RUN --mount=type=bind,source={two},target=/mnt find /mnt -type f | sort | xargs cat > /bound"])]
        last = [rng.choice([f"COPY --from=first /{one} /copied", "COPY --from=first / /all"]),
                rng.choice([f"COPY --chmod=0640 {two} /fixed/", f"COPY --chmod=u=rwX,go=rX {two} /fixed/"]),
                f"COPY --chown=5:6 {three} /owned/",
                rng.choice([f"COPY --from=first --chown=8:9 /{one} /given", f"COPY --from=first --chmod=u=rwX,g=u,o= /{one} /given",
                            f"ADD --chown=1:2 pack.tar {two}/*.txt /given/", "ADD --chmod=0600 pack.tar top.txt /given/"]),
                rng.choice([f"COPY {two}/*.txt top.txt /flat/", f"ADD {two}/ /flat/", "COPY top.txt /flat/"]),
                "ARG LABEL=none", "LABEL flavour=$LABEL", rng.choice(["ENV WHERE=/srv", "USER 7", "WORKDIR /srv/app"]),
                rng.choice([f"COPY --exclude=*.log . /whole/", f"COPY --link {one} /linked/", f"COPY --parents {one}/./deep* {three} /tree/"])]
        rng.shuffle(last)
        return first, last

    def dockerfile(self):
        first, last = self.steps
        return "\n".join([f"FROM base:{self.base} AS first", *first, f"FROM base:{self.base}", *last]) + "\n"

    def save(self):
        (self.dir / "Dockerfile").write_text(self.dockerfile())
        (self.dir / ".dockerignore").write_text("".join(f"{one}\n" for one in [*self.ignore, ".git", "Dockerfile", ".dockerignore"]))
        self.flags = ["--context-modes=git"] if self.git_modes else []
        self.flags += [word for name, value in sorted(self.args.items()) for word in ("--build-arg", f"{name}={value}")]

    def files(self):
        return [path for path in sorted(self.dir.rglob("*")) if path.is_file() and not path.is_symlink()
                and path.name not in ("Dockerfile", ".dockerignore") and ".git" not in path.parts]

    def below(self, folder):
        return [path for path in self.files() if path.relative_to(self.dir).parts[0] == folder]

    # Changes that may change the result: what was done.

    def change(self, work):
        rng = self.rng
        path = rng.choice(self.files())
        name = path.relative_to(self.dir)
        kind = rng.choice(["content", "content", "same size", "mode", "rename", "rename folder", "add", "remove", "link",
                           "argument", "label", "ignore", "base", "swap", "chmod", "chown", "folder mode", "empty folder",
                           "hard link", "to folder", "user", "archive", "owner inside"])
        if kind == "content":
            path.write_text(self.text())
        elif kind == "same size":  # within the same times, too
            before = path.stat()
            text = path.read_text()
            path.write_text(text[:-1][::-1] + "\n")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        elif kind == "mode":
            path.chmod(rng.choice([0o600, 0o644, 0o755, 0o444, 0o4755]))
        elif kind == "rename":
            path.rename(path.with_name(f"moved{rng.randrange(100)}.txt"))
        elif kind == "rename folder":
            folder = self.dir / rng.choice(self.folders) / "deep"
            if folder.exists():
                folder.rename(folder.with_name(f"deep{rng.randrange(100)}"))
        elif kind == "add":
            self.write(f"{rng.choice(self.folders)}/new{rng.randrange(100)}.txt", self.text())
        elif kind == "remove":
            if len(self.below(name.parts[0])) > 2:
                path.unlink()
        elif kind == "link":
            link = self.dir / self.folders[0] / "link"
            link.unlink(missing_ok=True)
            link.symlink_to(rng.choice(["../top.txt", "nowhere", "/base"]))
        elif kind == "argument":
            self.args["FLAVOUR"] = rng.choice(WORDS)
        elif kind == "label":
            self.args["LABEL"] = rng.choice(WORDS)
        elif kind == "ignore":
            pattern = f"{rng.choice(self.folders)}/**/{rng.choice(WORDS)}*"
            self.ignore = ["*.log"] if len(self.ignore) > 1 else ["*.log", pattern, f"!{name}"]
        elif kind == "base":
            self.base = 3 - self.base
        elif kind == "swap":  # two files exchange their content
            other = rng.choice(self.files())
            one, two = path.read_text(), other.read_text()
            path.write_text(two)
            other.write_text(one)
        elif kind == "chmod":
            self.steps = tuple([line.replace("--chmod=0640", "--chmod=0604") if "0640" in line
                                else line.replace("--chmod=0604", "--chmod=0640") for line in part] for part in self.steps)
        elif kind == "chown":
            self.steps = tuple([line.replace("--chown=5:6", "--chown=6") if "5:6" in line
                                else line.replace("--chown=6 ", "--chown=5:6 ") for line in part] for part in self.steps)
        elif kind == "folder mode":
            (self.dir / rng.choice(self.folders)).chmod(rng.choice([0o755, 0o700, 0o1777]))
        elif kind == "empty folder":
            (self.dir / rng.choice(self.folders) / f"empty{rng.randrange(3)}").mkdir(exist_ok=True)
        elif kind == "hard link":
            new = path.with_name("same.txt")
            if not new.exists():
                os.link(path, new)
        elif kind == "to folder":
            if name.parts[0] != "top.txt" and len(self.below(name.parts[0])) > 2:
                path.unlink()
                path.mkdir()
                (path / "inside.txt").write_text(self.text())
        elif kind == "archive":
            self.pack()
        elif kind == "owner inside":  # of what a stage has copied
            first, last = self.steps
            first = [line for line in first if not line.startswith("RUN chown")]
            self.steps = [*first, f"RUN chown -R {rng.randrange(1, 9)} /{self.folders[0]}"], last
        elif kind == "user":
            self.steps = tuple([line.replace("USER 7", "USER 8") for line in part] for part in self.steps)
        self.save()
        return f"{kind} ({name})"

    # Changes that only look different: what was done.

    def disguise(self, work):
        rng = self.rng
        if "--context-modes=git" in self.flags:
            # The umask of another checkout: what git records stays.
            for path in [self.dir, *self.dir.rglob("*")]:
                if not path.is_symlink():
                    mask = rng.choice([0o022, 0o002, 0o077, 0o027])
                    path.chmod((0o777 if path.is_dir() or path.stat().st_mode & 0o100 else 0o666) & ~mask)
            return "umask"
        kind = rng.choice(["times", "folder times", "owner", "checkout", "git", "chmod source", "rewrite", "not copied",
                           "order", "ignored", "comment"])
        if kind == "times":
            for path in self.files():
                os.utime(path, (rng.randrange(10**9), rng.randrange(10**9)))
        elif kind == "folder times":
            for folder in self.folders:
                os.utime(self.dir / folder, (1, rng.randrange(10**9)))
        elif kind == "owner":
            if os.getuid() == 0:
                owner = rng.randrange(1000, 2000)
                for path in [self.dir, *self.dir.rglob("*")]:
                    mode = path.lstat().st_mode
                    os.lchown(path, owner, owner)
                    if not path.is_symlink():
                        path.chmod(mode & 0o7777)  # chown takes set-uid bits away
        elif kind == "checkout":
            other = work / f"checkout{rng.randrange(10**9)}"
            shutil.copytree(self.dir, other, symlinks=True)
            shutil.rmtree(self.dir)
            self.dir = other
        elif kind == "git":
            (self.dir / ".git").mkdir(exist_ok=True)
            (self.dir / ".git/HEAD").write_text(self.text())
        elif kind == "chmod source":
            # Only in a folder of which every copy says its own mode.
            users = [line for part in self.steps for line in part if self.folders[1] in line or " . " in line]
            if all("--chmod=" in line for line in users):
                for path in self.below(self.folders[1]):
                    # Two of these are one to u=rwX,go=rX.
                    programs = any("=u=" in line for line in users) and path.stat().st_mode & 0o111
                    path.chmod(rng.choice([0o755, 0o700] if programs else [0o600, 0o644, 0o664, 0o666]))
                (self.dir / self.folders[1]).chmod(rng.choice([0o755, 0o700]))
        elif kind == "rewrite":
            for path in self.files():
                mode = path.stat().st_mode & 0o7777
                text = path.read_text()
                if path.stat().st_nlink == 1:
                    path.unlink()
                path.write_text(text)
                path.chmod(mode)
        elif kind == "not copied":
            self.write("skipped.log", self.text())
        elif kind == "order":  # another target before
            return "order"
        elif kind == "ignored":
            (self.dir / "other.log").write_text(self.text())
        elif kind == "comment":
            text = (self.dir / "Dockerfile").read_text()
            (self.dir / "Dockerfile").write_text(f"# {self.text().split()[0]}\n" + text)
        return kind


def image_of(archive):
    """Files by path, and the configuration: what two builds of one thing have in common."""
    with tarfile.open(archive) as tar:
        read = lambda digest: tar.extractfile("blobs/" + digest.replace(":", "/")).read()
        index = json.load(tar.extractfile("index.json"))
        manifest = json.loads(read(index["manifests"][0]["digest"]))
        config = json.loads(read(manifest["config"]["digest"]))
        files = {}
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=io.BytesIO(read(layer["digest"]))) as content:
                for member in content:
                    apply(files, content, member)
    made = [(step.get("created_by"), step.get("empty_layer", False)) for step in config.get("history", [])]
    return files, {key: value for key, value in config.items() if key not in EPOCH_FIELDS}, made


def apply(files, content, member):
    path = member.name.strip("/")
    folder, name = os.path.split(path)
    if name == ".wh..wh..opq" or name.startswith(".wh."):
        gone = folder if name == ".wh..wh..opq" else os.path.join(folder, name[4:])
        for key in [k for k in files if k.startswith(gone + "/") or (k == gone and name != ".wh..wh..opq")]:
            del files[key]
        return
    if not member.isdir():
        for key in [k for k in files if k.startswith(path + "/")]:
            del files[key]
    digest = ""
    if member.isreg():
        digest = hashlib.sha256(content.extractfile(member).read()).hexdigest()
    elif member.islnk():
        kind, mode, uid, gid, digest, link = files[member.linkname.strip("/")]
        files[path] = (kind, mode, uid, gid, digest, link)
        return
    files[path] = (member.type, member.mode, member.uid, member.gid, digest, member.linkname)


def differences(warm, clean):
    told = []
    for path in sorted(set(warm[0]) | set(clean[0])):
        if warm[0].get(path) != clean[0].get(path):
            told.append(f"/{path}: reused {warm[0].get(path)}, clean {clean[0].get(path)}")
    if warm[1] != clean[1]:
        told.append(f"configuration: reused {warm[1]}, clean {clean[1]}")
    if warm[2] != clean[2]:
        told.append(f"history: reused {warm[2]}, clean {clean[2]}")
    return told


def error_of(done):
    return next((line for line in done.stderr.splitlines() if line.startswith("error:")), "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cooper", default="build/dev/bin/cooper")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    if not (IMAGES / "busybox.tar").exists():
        print("no base image: tools/base_images/make.sh busybox")
        return 1
    os.umask(0o022)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="cooper-keys-") as temporary:
        work = Path(temporary)
        cooper = Cooper(Path(options.cooper).resolve(), work)
        cooper.prepare()
        warm_image, clean_image, clean_state = work / "warm.tar", work / "clean.tar", work / "clean"
        project = None
        for number in range(options.count):
            rng = random.Random(f"{options.seed}/{number}")
            if number % 8 == 0 or project is None:
                project = Project(rng, work / f"project{number}")
                cooper.build(cooper.state, project)
            project.rng = rng
            looks = number % 3 == 2
            os.umask(rng.choice([0o022, 0o077, 0o002]))
            what = project.disguise(work) if looks else project.change(work)
            if what == "order":
                cooper.build(cooper.state, project, "--target", "first")
            flags = ["--expect-cached"] if looks else []
            done = cooper.build(cooper.state, project, *flags, "-o", f"type=oci,dest={warm_image}", check=False)
            os.umask(0o022)
            if done.returncode != 0 and not looks:
                # A copy of what was renamed, say. It fails without a cache, too; then on with another project.
                shutil.copytree(cooper.template, clean_state, symlinks=True)
                clean = cooper.build(clean_state, project, "-o", f"type=oci,dest={clean_image}", check=False)
                shutil.rmtree(clean_state)
                if clean.returncode != 0:  # of two mistakes either is told
                    project = None
                    if options.verbose:
                        print(f"{number}: {what}: {error_of(done)}")
                    continue
            if done.returncode != 0:
                wrong += 1
                print(f"WRONG {options.seed}/{number}: {what}: {'not cached' if looks else 'failed'}\n{project.dockerfile()}{done.stderr}")
                if looks:
                    cooper.build(cooper.state, project)
                continue
            told = []
            if not looks or number % 2 == 0:
                shutil.copytree(cooper.template, clean_state, symlinks=True)
                cooper.build(clean_state, project, "-o", f"type=oci,dest={clean_image}")
                shutil.rmtree(clean_state)
                told = differences(image_of(warm_image), image_of(clean_image))
            if told:
                wrong += 1
                print(f"WRONG {options.seed}/{number}: {what}\n{project.dockerfile()}  " + "\n  ".join(told))
            elif options.verbose:
                print(f"{number}: {what}")
    print(f"{options.count - wrong} of {options.count} changes gave what a clean build gives")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
