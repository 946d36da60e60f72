#!/usr/bin/env python3
"""Runs a command beside servers of the sources that tests/keys/sources.sh has made.

    tests/keys/serve.py DIRECTORY COMMAND...

HTTP and GIT name them, on loopback; COMMIT and IMAGE are what to ask for there.
"""
import functools
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def main():
    directory = Path(sys.argv[1]).resolve()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=directory / "web"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = free_port()
    daemon = subprocess.Popen(["git", "daemon", "--listen=127.0.0.1", f"--port={port}", "--export-all",
                               f"--base-path={directory}", str(directory)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        said = {name.upper(): (directory / name).read_text().strip() for name in ("commit", "image")}
        return subprocess.run(sys.argv[2:], check=False, env={
            **os.environ, **said, "HTTP": f"http://127.0.0.1:{server.server_port}", "GIT": f"git://127.0.0.1:{port}/repo.git",
        }).returncode
    finally:
        for child in Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split():
            os.kill(int(child), 15)
        daemon.terminate()
        daemon.wait()


if __name__ == "__main__":
    sys.exit(main())
