#!/usr/bin/env python3
"""Benchmarks of cooperd through its clients, beside floors of this machine in the same run.

    bench/daemon.py [build/release/bin] [--megabytes N] [--files N] [--builds N]

Names never change: start_to_serving, idle_rss, context_one_big_file, context_small_files, context_unchanged,
context_one_edited, cached_build, cached_buildx, rss_growth. Times of a context are those of its step, as the client is
told. The work folder is below $TMPDIR. cached_buildx needs Docker's clients (tools/docker_cli/fetch.sh); its share is
the processor time that cooperd took for the build.
"""
import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
import cooperd as clients  # noqa: E402


def report(name, value, floor="", target=""):
    print(f"{name:<22} {value:>16}   {'floor: ' + floor if floor else '':<44} {'target: ' + target if target else ''}", flush=True)


def seconds_of(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def median_of(times, work):
    return statistics.median(seconds_of(work) for _ in range(times))


def run(argv, **more):
    return subprocess.run([str(a) for a in argv], check=True, capture_output=True, **more)


class Daemon:
    def __init__(self, programs, work):
        self.program, self.root, self.socket = programs / "cooperd", work / "state", work / "cooperd.sock"
        self.log = open(work / "cooperd.log", "ab")
        self.process = None

    def start(self):
        """Until somebody is answered: the first bytes of a server of HTTP/2."""
        begun = time.perf_counter()
        self.process = subprocess.Popen([self.program, "--root", self.root, "--addr", f"unix://{self.socket}"],
                                        stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(str(self.socket))
                    probe.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
                    if probe.recv(9):
                        return time.perf_counter() - begun
                except OSError:
                    pass
            if self.process.poll() is not None:
                sys.exit("cooperd does not start; see its log")
            time.sleep(0.0005)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def resident_mb(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0.0

    def processor_s(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def time_of(text):
    head, _, tail = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(head).timestamp() + float("0." + (tail or "0"))


class Client:
    def __init__(self, programs, daemon):
        self.program, self.address = programs / "cooper", f"unix://{daemon.socket}"

    def build(self, context, *flags):
        return run([self.program, "--builder", self.address, "build", "--progress=rawjson", *flags, context]).stderr

    def context_step(self, context):
        """Seconds of the step that takes the context over, and the bytes of it."""
        begun = ended = None
        size = 0
        steps = set()
        for line in self.build(context).splitlines():
            event = json.loads(line)
            for vertex in event.get("vertexes", []):
                if vertex["name"] == "[internal] load build context":
                    steps.add(vertex["digest"])
                    begun = time_of(vertex["started"]) if vertex.get("started") else begun
                    ended = time_of(vertex["completed"]) if vertex.get("completed") else ended
            for status in event.get("statuses", []):
                if status["vertex"] in steps:
                    size = max(size, status["current"]) if not status.get("completed") else status["current"]
        return ended - begun, size


def socket_floor(megabytes):
    """Bytes through one unix socket, read and thrown away."""
    near, far = socket.socketpair()
    piece, buffer = bytes(1 << 20), bytearray(1 << 20)

    def send():
        for _ in range(megabytes):
            near.sendall(piece)
        near.close()

    def work():
        sender = threading.Thread(target=send)
        sender.start()
        while far.recv_into(buffer):
            pass
        sender.join()

    return megabytes * 1.048576 / seconds_of(work)


# Nothing is deleted in between: ext4 shuns inodes that were freed within the last minute, and looks at each of them
# again for every file it makes.
def transfers(client, work, options):
    big = work / "big"
    big.mkdir()
    block = os.urandom(1_000_000)
    with open(big / "file", "wb") as file:
        for _ in range(options.megabytes):
            file.write(block)
    (big / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\nCOPY file /\n")
    os.sync()
    copy = seconds_of(lambda: run(["cp", big / "file", work / "copy"]))
    os.sync()
    seconds, size = client.context_step(big)
    assert size >= options.megabytes * 1_000_000, size
    report("context_one_big_file", f"{size / 1e6 / seconds:.0f} MB/s",
           f"cp {options.megabytes / copy:.0f}, unix socket {socket_floor(options.megabytes):.0f} MB/s", "400 MB/s")

    small = work / "small"
    for number in range(options.files):
        if number % 100 == 0:
            (small / str(number // 100)).mkdir(parents=True)
        (small / str(number // 100) / str(number)).write_bytes(block[number % 1000:][:1000])
    (small / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    os.sync()
    copy = seconds_of(lambda: run(["cp", "-a", small, work / "copies"]))
    os.sync()
    seconds, _ = client.context_step(small)
    report("context_small_files", f"{options.files / seconds:.0f} files/s", f"cp -a {options.files / copy:.0f} files/s",
           "20000 files/s")
    walk = seconds_of(lambda: run(["find", small, "-printf", "%s%m"]))
    seconds, size = client.context_step(small)
    report("context_unchanged", f"{options.files / seconds:.0f} files/s",
           f"find {options.files / walk:.0f} files/s", f"nothing sent again: {size} bytes")
    (small / "0" / "33").write_text("edited")
    seconds, size = client.context_step(small)
    report("context_one_edited", f"{options.files / seconds:.0f} files/s", "", f"6 bytes are sent: {size}")


def cached_builds(client, daemon, work, options):
    tiny = work / "tiny"
    tiny.mkdir()
    (tiny / "a").write_text("a\n")
    (tiny / "Dockerfile").write_text("FROM scratch AS one\n" + "".join(f"COPY a /{n}\n" for n in range(10)) +
                                     "FROM scratch\nCOPY --from=one / /\n")
    client.build(tiny)
    used = daemon.processor_s()
    seconds = median_of(20, lambda: client.build(tiny))
    used = (daemon.processor_s() - used) / 20
    empty = median_of(20, lambda: run([client.program.parent / "cooperd", "--version"]))
    report("cached_build", f"{seconds * 1000:.1f} ms", f"a process of this size {empty * 1000:.1f} ms",
           f"cooperd's share {used * 1000:.1f} ms of processor")
    with_buildx(daemon, work, tiny, client)

    for _ in range(50):
        client.build(tiny)
    before = daemon.resident_mb()
    for _ in range(options.builds):
        client.build(tiny)
    after = daemon.resident_mb()
    report("rss_growth", f"{after - before:.1f} MB", f"{before:.0f} MB before, {after:.0f} MB after {options.builds} builds",
           "10 MB after 1000")


def with_buildx(daemon, work, context, client):
    folder = clients.docker_cli()
    if folder is None:
        report("cached_buildx", "skipped", "needs Docker's clients")
        return
    clients.docker_config(folder, work / "docker")
    env = dict(os.environ, DOCKER_CONFIG=str(work / "docker"), PATH=f"{folder}:{os.environ['PATH']}")
    run(["docker", "buildx", "create", "--name", "bench", "--driver", "remote", client.address], env=env)
    build = ["docker", "buildx", "build", "--builder", "bench", "--progress=quiet", context]
    run(build, env=env)
    used = daemon.processor_s()
    seconds = median_of(20, lambda: run(build, env=env))
    used = (daemon.processor_s() - used) / 20
    empty = median_of(20, lambda: run(["docker", "buildx", "version"], env=env))
    report("cached_buildx", f"{seconds * 1000:.1f} ms", f"docker buildx version {empty * 1000:.1f} ms",
           f"cooperd's share {used * 1000:.1f} ms of processor, target 20 ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="?", type=Path, default=HERE.parent / "build/release/bin")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--builds", type=int, default=1000)
    parser.add_argument("--only", choices=["start", "transfers", "cached"])
    options = parser.parse_args()
    programs = options.programs.resolve()
    for name in ("BUILDKIT_HOST", "COOPER_ROOT"):
        os.environ.pop(name, None)
    work = Path(tempfile.mkdtemp(prefix="cooperd-bench-"))
    daemon = Daemon(programs, work)
    try:
        daemon.start()
        daemon.stop()
        starts = []
        for _ in range(10):
            starts.append(daemon.start())
            daemon.stop()
        empty = median_of(10, lambda: run([daemon.program, "--version"]))
        report("start_to_serving", f"{statistics.median(starts) * 1000:.1f} ms", f"cooperd --version {empty * 1000:.1f} ms", "50 ms")
        daemon.start()
        time.sleep(1)
        report("idle_rss", f"{daemon.resident_mb():.1f} MB", "", "30 MB")
        client = Client(programs, daemon)
        if options.only in (None, "cached"):
            cached_builds(client, daemon, work, options)
        if options.only in (None, "transfers"):
            transfers(client, work, options)
        daemon.stop()
    finally:
        if daemon.process and daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
