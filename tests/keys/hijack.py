#!/usr/bin/env python3
"""BuildKit's own socket for one that dockerd has: runs a command with $BUILDKIT_HOST, while all that connects there is
carried to the API that dockerd upgrades connections to.

    tests/keys/hijack.py DOCKER-SOCKET SOCKET COMMAND...
"""
import os
import socket
import subprocess
import sys
import threading

REQUEST = b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"


def carry(source, target):
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
    except OSError:
        pass
    for one, how in ((source, socket.SHUT_RD), (target, socket.SHUT_WR)):
        try:
            one.shutdown(how)
        except OSError:
            pass


def connect(client, docker):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(docker)
    peer.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = peer.recv(1)
        if not byte:
            raise SystemExit(f"dockerd answers {answer!r}")
        answer += byte
    if b" 101 " not in answer.splitlines()[0]:
        raise SystemExit(f"dockerd answers {answer!r}")
    threading.Thread(target=carry, args=(client, peer), daemon=True).start()
    threading.Thread(target=carry, args=(peer, client), daemon=True).start()


def main():
    docker, path = sys.argv[1:3]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def accept():
        while True:
            connect(listener.accept()[0], docker)

    threading.Thread(target=accept, daemon=True).start()
    return subprocess.run(sys.argv[3:], check=False, env={**os.environ, "BUILDKIT_HOST": "unix://" + path}).returncode


if __name__ == "__main__":
    sys.exit(main())
