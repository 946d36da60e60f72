#!/usr/bin/env python3
"""Writes an OCI image layout whose layers are tars as others make them, or as nobody should.

    odd_images.py CASE DIRECTORY

The layout's only image has the tag x. CASE is one of the functions below; tests/scenarios/archives says what is to
become of each.
"""
import base64
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile

OCI = "application/vnd.oci.image."


class Tar:
    """A tar of entries in the order of the calls; no parents are added."""

    def __init__(self, format=tarfile.PAX_FORMAT):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w", format=format)

    def add(self, name, content=b"", type=tarfile.REGTYPE, link="", mode=0o644, **more):
        info = tarfile.TarInfo("x")
        info.name, info.type, info.linkname, info.mode = name, type, link, mode
        info.mtime = 1_600_000_000
        for key, value in more.items():
            setattr(info, key, value)
        if type == tarfile.REGTYPE:
            info.size = len(content)
        self.tar.addfile(info, io.BytesIO(content) if type == tarfile.REGTYPE else None)
        return self

    def dir(self, name, **more):
        return self.add(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **more})

    def done(self):
        self.tar.close()
        return self.bytes.getvalue()


class Image:
    def __init__(self, directory):
        self.directory = directory
        os.makedirs(f"{directory}/blobs/sha256", exist_ok=True)
        self.layers, self.diff_ids = [], []
        self.manifest_more, self.config_more = {"mediaType": OCI + "manifest.v1+json"}, {}

    def blob(self, data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{self.directory}/blobs/sha256/{digest}", "wb") as out:
            out.write(data)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}

    def layer(self, tar, packed=None, media_type=OCI + "layer.v1.tar+gzip"):
        if isinstance(tar, Tar):
            tar = tar.done()
        if packed is None:
            packed = gzip.compress(tar, 1, mtime=0)
        self.diff_ids.append("sha256:" + hashlib.sha256(tar).hexdigest())
        self.layers.append(self.blob(packed, media_type))
        return self

    def write(self):
        config = {"architecture": "amd64", "os": "linux", "config": {},
                  "rootfs": {"type": "layers", "diff_ids": self.diff_ids}, **self.config_more}
        config = self.blob(json.dumps(config).encode(), OCI + "config.v1+json")
        manifest = {"schemaVersion": 2, "config": config, "layers": self.layers, **self.manifest_more}
        target = self.blob(json.dumps(manifest).encode(), self.manifest_more.get("mediaType", OCI + "manifest.v1+json"))
        self.index(target)

    def index(self, target):
        target = {**target, "annotations": {"org.opencontainers.image.ref.name": "x"}}
        with open(f"{self.directory}/index.json", "w") as out:
            json.dump({"schemaVersion": 2, "manifests": [target]}, out)
        with open(f"{self.directory}/oci-layout", "w") as out:
            out.write('{"imageLayoutVersion": "1.0.0"}')


def one(image, tar):
    image.layer(tar).write()


# What others write.

def missing_parents(image):
    one(image, Tar().add("a/b/c/file", b"deep").add("x/y", type=tarfile.SYMTYPE, link="../a"))


def duplicates(image):
    one(image, Tar().add("f", b"first").add("g", b"file").dir("d").add("d/in", b"kept").add("f", b"second")
        .dir("d", mode=0o700).add("g", type=tarfile.SYMTYPE, link="f"))


def dot_slash(image):
    one(image, Tar().dir("./").dir("./d/").add("./d//./f", b"1").add("/abs", b"2").dir("e/").add("d/e/../up", b"3"))


def long_names(image):
    long = "/".join(["n" * 100] * 4)
    gnu = Tar(tarfile.GNU_FORMAT).add("gnu/" + long, b"gnu").add("gnu-link", type=tarfile.SYMTYPE, link="gnu/" + long)
    pax = Tar().add("pax/" + long, b"pax").add("pax/\u00e4\u4e2d", b"unicode")
    image.layer(gnu).layer(pax).write()


def sparse(image):
    for format in ("gnu", "pax"):
        os.makedirs("sparse", exist_ok=True)
        with open(f"sparse/{format}", "wb") as out:
            out.truncate(3_000_000)
            for at in (0, 1_000_000, 2_999_990):
                out.seek(at)
                out.write(b"0123456789")
        tar = subprocess.run(["tar", "--sparse", "--format", format, "-C", "sparse", "-c", format],
                             check=True, capture_output=True).stdout
        assert len(tar) < 200_000, "not sparse"
        image.layer(tar)
    image.write()


def link_before_target(image):
    one(image, Tar().dir("d").add("d/name", type=tarfile.LNKTYPE, link="d/file").add("d/file", b"late"))


def links(image):
    one(image, Tar().add("a", b"same").add("./b", type=tarfile.LNKTYPE, link="/a")
        .add("c", type=tarfile.LNKTYPE, link="./b").add("s", type=tarfile.SYMTYPE, link="a")
        .add("t", type=tarfile.LNKTYPE, link="s"))


def whiteouts(image):
    image.layer(Tar().dir("d").add("d/gone", b"1").add("d/again", b"1").dir("o").add("o/old", b"1").add("top", b"1")
                .dir("tree").add("tree/leaf", b"1"))
    # A whiteout before and after an entry of the same name; an opaque directory marked last; one for nothing.
    image.layer(Tar().add("d/.wh.gone").add("d/.wh.again").add("d/again", b"2").add("o/new", b"2").add("o/.wh..wh..opq")
                .add(".wh.top").add("tree/leaf", b"2").add("tree/.wh.leaf").add(".wh.never"))
    image.write()


def whiteouts_of_own_entries(image):
    """Whiteouts after entries of their own layer: they hide what is below, and nothing else."""
    image.layer(Tar().add("file", b"below").dir("dir").add("dir/below", b"below").dir("implied").add("implied/below", b"1")
                .dir("opaque").add("opaque/below", b"1").add("becomes", b"file").dir("was").add("was/below", b"1")
                .add("device", b"1"))
    image.layer(Tar().add("file", b"own").add(".wh.file").dir("dir").add("dir/own", b"own").add(".wh.dir")
                .add("implied/own", b"own").add(".wh.implied").add("opaque/own", b"own").add("opaque/.wh..wh..opq")
                .dir("becomes").add("becomes/own", b"own").add(".wh.becomes").add("was", b"own").add(".wh.was")
                .add("device", type=tarfile.CHRTYPE))
    image.layer(Tar().add(".wh.file").add("file", b"again").add(".wh.file"))
    image.write()


def kinds(image):
    """Devices, pipes, and names that change their kind within a layer and between layers."""
    image.layer(Tar().add("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
                .add("loop", type=tarfile.BLKTYPE, devmajor=7, devminor=0, mode=0o660, gid=6)
                .add("pipe", type=tarfile.FIFOTYPE, mode=0o600)
                .add("a", b"file").dir("a").add("a/in", b"1").add("a", b"file again")
                .dir("b").add("b/gone", b"1").add("b", b"file").dir("b").add("b/in", b"1")
                .dir("c").add("c/below", b"1").add("d", b"file").add("e", type=tarfile.SYMTYPE, link="a"))
    image.layer(Tar().add("c", b"file").dir("d").add("d/in", b"1").dir("e").add("e/in", b"1"))
    image.layer(Tar().dir("c").add("c/again", b"1"))
    image.write()


def far_times(image):
    one(image, Tar().add("far", b"1", mtime=1 << 60).add("long-ago", b"1", mtime=-(1 << 60)).dir("dir", mtime=1 << 62)
        .add("link", type=tarfile.SYMTYPE, link="far", mtime=-(1 << 62)))


def links_before(image):
    """Names of a file before the file, through each other, over names that are used again, and after it."""
    def link(name, target):
        return dict(name=name, type=tarfile.LNKTYPE, link=target)

    tar = Tar().dir("d").dir("e")
    for entry in (link("d/name", "./d/file"), link("d/second", "/d/third"), link("d/third", "d/name"),
                  link("replaced", "never"), dict(name="replaced", content=b"own"), link("e/gone", "never"),
                  dict(name="e", content=b"file"), link("kept", "d/file"), dict(name=".wh.kept"),
                  dict(name="d/file", content=b"late"), link("after", "d/file")):
        tar.add(**entry)
    one(image, tar)


def links_in_a_circle(image):
    one(image, Tar().add("a", type=tarfile.LNKTYPE, link="b").add("b", type=tarfile.LNKTYPE, link="c")
        .add("c", type=tarfile.LNKTYPE, link="a"))


def many_links_to_nothing(image):
    block = tarfile.TarInfo("x")
    block.type, block.linkname = tarfile.LNKTYPE, "never"
    blocks = []
    for number in range(110_000):
        block.name = f"n{number}"
        blocks.append(block.tobuf(tarfile.USTAR_FORMAT))
    image.layer(b"".join(blocks) + bytes(1024)).write()


def repeated(image, tar, count):
    """A layer that is the same entries again and again, packed as the same member again and again."""
    member = gzip.compress(tar, 9, mtime=0)
    hash = hashlib.sha256()
    for _ in range(count):
        hash.update(tar)
    hash.update(bytes(1024))
    image.diff_ids.append("sha256:" + hash.hexdigest())
    image.layers.append(image.blob(member * count + gzip.compress(bytes(1024), mtime=0), OCI + "layer.v1.tar+gzip"))
    image.write()


def same_long_directory(image):
    """120,000 entries of one directory whose name has 4,000 bytes."""
    entry = tarfile.TarInfo("/".join(["n" * 200] * 20)[:4000])
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    repeated(image, entry.tobuf(tarfile.PAX_FORMAT) * 1000, 120)


def millions_of_entries(image):
    """Five million files without a byte, all of one name."""
    repeated(image, tarfile.TarInfo("f").tobuf(tarfile.USTAR_FORMAT) * 100_000, 50)


def link_of_whited_out(image):
    # The first name of a hard link is removed by the very layer that makes the second.
    image.layer(Tar().add("first", b"both"))
    image.layer(Tar().add("second", b"both").add(".wh.first"))
    image.write()


def numbers(image):
    one(image, Tar().add("uid", b"1", uid=3_000_000_000, gid=2_097_153).add("old", b"1", mtime=-1_000_000)
        .add("fraction", b"1", mtime=1_600_000_000.5).add("suid", b"1", mode=0o6755))


def numbers_gnu(image):
    one(image, Tar(tarfile.GNU_FORMAT).add("uid", b"1", uid=3_000_000_000, gid=2_097_153)
        .add("old", b"1", mtime=-1_000_000))


def xattrs(image):
    value = base64.b64encode(b"two").decode().rstrip("=")
    one(image, Tar().add("schily", b"1", pax_headers={"SCHILY.xattr.user.one": "one"})
        .add("libarchive", b"1", pax_headers={"LIBARCHIVE.xattr.user.t%77o": value})
        .add("both", b"1", pax_headers={"LIBARCHIVE.xattr.user.one": value, "SCHILY.xattr.user.one": "one"}))


def no_media_type(image):
    image.manifest_more = {}
    one(image, Tar().add("f", b"1"))


def schema1(image):
    document = {"schemaVersion": 1, "name": "x", "tag": "x", "architecture": "amd64",
                "fsLayers": [{"blobSum": "sha256:" + "0" * 64}], "history": [{"v1Compatibility": "{}"}]}
    media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    image.index(image.blob(json.dumps(document).encode(), media_type))


def empty_layers(image):
    image.layer(Tar().add("f", b"1")).layer(Tar()).layer(b"").layer(Tar().add("g", b"2")).write()


def packings(image):
    """Every way to pack a layer, under a media type that says another."""
    def tar(name):
        return Tar().add(name, name.encode()).done()

    zstd = subprocess.run(["zstd", "-q", "-c"], input=tar("zstd"), capture_output=True, check=True).stdout
    image.layer(tar("zstd"), zstd)
    image.layer(tar("plain"), tar("plain"))
    image.layer(tar("gzip"), media_type=OCI + "layer.v1.tar")
    image.layer(tar("gzip2"), media_type=OCI + "layer.v1.tar+zstd")
    two = tar("members")
    image.layer(two, gzip.compress(two[:700]) + gzip.compress(b"") + gzip.compress(two[700:]))
    image.write()


def estargz(image):
    toc = Tar().add("f", b"1").add(".no.prefetch.landmark", b"\x0f").add("stargz.index.json", b'{"version":1}').done()
    footer = gzip.compress(b"", mtime=0)
    one = gzip.compress(toc[:512], mtime=0) + gzip.compress(toc[512:], mtime=0) + footer
    image.layer(toc, one).write()


def names_that_are_no_text(image):
    tar = Tar(tarfile.GNU_FORMAT)
    tar.tar.encoding, tar.tar.errors = "utf-8", "surrogateescape"
    tar.add(b"latin-\xe4".decode("utf-8", "surrogateescape"), b"1").add("line\nbreak", b"2")
    one(image, tar)


def deep_and_many(image):
    """Files 200 directories deep, 20,000 of them, and history as long as a book."""
    deep = "/".join(["d" * 15] * 200)
    many = Tar()
    for number in range(20_000):
        many.add(f"many/{number % 100}/f{number}", b"%d" % number)
    image.layer(Tar().add(deep + "/leaf", b"x" * 1000)).layer(many)
    image.layer(Tar().add("many/.wh.5").add(deep + "/.wh.leaf").add("many/7/f7", b"7", mode=0o755))
    image.config_more = {"history": [{"created_by": "RUN </script><b>\x1b[31m\nnext"}, {"created_by": "x" * 100_000}, {}]}
    image.write()


def many_layers(image):
    for number in range(127):
        image.layer(Tar().add(f"f{number}", b"1").add("same", str(number).encode()))
    image.write()


# What nobody should write.

def escape_dots(image):
    one(image, Tar().add("../../../../../../../../tmp/cooper-escaped", b"1"))


def escape_link(image):
    one(image, Tar().add("out", type=tarfile.SYMTYPE, link="/tmp").add("out/cooper-escaped", b"1"))


def escape_link_below(image):
    image.layer(Tar().add("out", type=tarfile.SYMTYPE, link="../../../../../../tmp"))
    image.layer(Tar().add("out/cooper-escaped", b"1")).write()


def escape_hard_link(image):
    one(image, Tar().add("shadow", type=tarfile.LNKTYPE, link="../../../../../../../../etc/hostname"))


def hard_link_through_link(image):
    one(image, Tar().add("e", type=tarfile.SYMTYPE, link="/etc").add("shadow", type=tarfile.LNKTYPE, link="e/hostname"))


def hard_link_to_nothing(image):
    one(image, Tar().add("name", type=tarfile.LNKTYPE, link="never"))


def whiteout_dots(image):
    image.layer(Tar().add("a", b"1")).layer(Tar().dir("d").add("d/.wh...")).write()


def nul_in_name(image):
    # A GNU long name ends at its first NUL; a PAX path must not have one.
    one(image, Tar().add("x", b"1", pax_headers={"path": "a\0b"}))


def long_component(image):
    one(image, Tar().add("n" * 300, b"1"))


def truncated(image):
    whole = Tar().add("f", b"x" * 5000).done()[:3000]
    image.layer(whole).write()


def truncated_gzip(image):
    tar = Tar().add("f", os.urandom(5000)).done()
    image.layer(tar, gzip.compress(tar)[:-2000]).write()


def wrong_diff_id(image):
    image.layer(Tar().add("f", b"1"))
    image.diff_ids[0] = "sha256:" + "1" * 64
    image.write()


def wrong_blob(image):
    image.layer(Tar().add("f", b"1"))
    path = image.directory + "/blobs/sha256/" + image.layers[0]["digest"][7:]
    data = bytearray(open(path, "rb").read())
    data[len(data) // 2] ^= 1
    open(path, "wb").write(data)
    image.write()


def wrong_size(image):
    image.layer(Tar().add("f", b"1"))
    image.layers[0]["size"] += 7
    image.write()


def wrong_manifest_size(image):
    image.layer(Tar().add("f", b"1")).write()
    target = json.load(open(image.directory + "/index.json"))["manifests"][0]
    image.index({**target, "size": target["size"] - 1})


def wrong_config_size(image):
    image.layer(Tar().add("f", b"1")).write()
    target = json.load(open(image.directory + "/index.json"))["manifests"][0]
    path = image.directory + "/blobs/sha256/" + target["digest"][7:]
    manifest = json.load(open(path))
    manifest["config"]["size"] = 1 << 40
    image.index(image.blob(json.dumps(manifest).encode(), target["mediaType"]))


def huge_size(image):
    image.layer(Tar().add("f", b"1"))
    image.layers[0]["size"] = 1 << 62
    image.write()


def negative_size(image):
    image.layer(Tar().add("f", b"1"))
    image.layers[0]["size"] = -1
    image.write()


def too_few_layers(image):
    image.layer(Tar().add("f", b"1"))
    image.diff_ids.append(image.diff_ids[0])
    image.write()


def huge_file_header(image):
    """A file that says it has 8 EB."""
    info = tarfile.TarInfo("f")
    info.size = 1 << 62
    image.layer(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)).write()


def bomb(image):
    """Four TB of zeros, as a sparse file of no bytes."""
    path = "PaxHeader"
    records = b""
    for key, value in {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f",
                       "GNU.sparse.realsize": str(4 << 40)}.items():
        body = f" {key}={value}\n".encode()
        length = len(body) + 2 if len(body) + 2 < 100 else len(body) + 3
        records += str(length).encode() + body
    header = tarfile.TarInfo(path)
    header.type, header.size = b"x", len(records)
    info = tarfile.TarInfo("f")
    info.size = 512
    data = b"0\n".ljust(512, b"\0")
    pad = bytes(-len(records) % 512)
    image.layer(header.tobuf(tarfile.USTAR_FORMAT) + records + pad + info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(1024))
    image.write()


def nested_indexes(image):
    image.layer(Tar().add("f", b"1")).write()
    target = json.load(open(image.directory + "/index.json"))["manifests"][0]
    target.pop("annotations")
    for _ in range(1000):
        index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json",
                 "manifests": [{**target, "platform": {"os": "linux", "architecture": "amd64"}}]}
        target = image.blob(json.dumps(index).encode(), OCI + "index.v1+json")
    image.index(target)


def deep_json(image):
    image.config_more = {"history": []}
    image.layer(Tar().add("f", b"1"))
    config = b'{"a":' * 5000 + b"1" + b"}" * 5000
    config = image.blob(config, OCI + "config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "config": config, "layers": image.layers}
    image.index(image.blob(json.dumps(manifest).encode(), OCI + "manifest.v1+json"))


def confused_manifest(image):
    """Says that it is an index and a manifest at once."""
    image.manifest_more = {"mediaType": OCI + "manifest.v1+json", "manifests": []}
    one(image, Tar().add("f", b"1"))


def main():
    case, directory = sys.argv[1:]
    cases = {name: value for name, value in globals().items() if callable(value) and name not in ("Tar", "Image", "one", "main", "repeated")}
    if case not in cases:
        sys.exit(f"cases: {', '.join(cases)}")
    cases[case](Image(directory))


main()
