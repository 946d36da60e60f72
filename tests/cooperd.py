"""A cooperd of a scenario's own, and Docker's clients that talk to it. Used by scenario.py."""
import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path


def docker_cli():
    """The folder that tools/docker_cli/fetch.sh has unpacked Docker's clients into, or None."""
    cache = Path(os.environ.get("COOPER_DOCKER_CLI",
                                Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cooper/docker-cli"))
    made = sorted(cache.glob("*/.made"))
    return made[0].parent if made else None


def docker_config(folder, config):
    """A $DOCKER_CONFIG whose docker finds the plugins of that folder."""
    config.mkdir(parents=True, exist_ok=True)
    plugins = config / "cli-plugins"
    if not plugins.is_symlink():
        plugins.symlink_to(folder / "cli-plugins")


class Daemon:
    """One cooperd process. Its log is WORK/cooperd.log, its socket WORK/cooperd.sock."""

    def __init__(self, program, work, env):
        self.program, self.work, self.env = Path(program).parent / "cooperd", work, env
        self.socket, self.log = work / "cooperd.sock", work / "cooperd.log"
        self.process = None

    def start(self, flags):
        """Returns None, or what cooperd said when it did not begin to serve."""
        before = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "--root", self.env["COOPER_ROOT"], "--addr", f"unix://{self.socket}", *flags],
                cwd=self.work, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(1200):
            if self.process.poll() is not None:
                self.process = None
                return self.log.read_bytes()[before:].decode("utf-8", "replace")
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))
                return None
            time.sleep(0.025)
        self.kill()
        return "cooperd did not begin to serve within 30 s"

    def end(self, number):
        """Its exit status; a negative one is a signal's number."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(number)
        try:
            return process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None

    def stop(self):
        return self.end(signal.SIGTERM)

    def kill(self):
        return self.end(signal.SIGKILL)

    def text(self):
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""
