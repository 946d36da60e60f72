#!/usr/bin/env python3
"""Runs a command where the kernel has one handler for programs of other machines.

    with_binary_handler.py FLAGS EMULATOR COMMAND...

The handler is for arm64, with binfmt_misc's FLAGS ("P", "PF"), in a binfmt_misc that is seen by the command alone: it
runs in namespaces of its own, as root of ids that are what they were. Needs root and Linux 6.7.
"""
import ctypes
import os
import subprocess
import sys

HEAD = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00"
MASK = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"
NEW_MOUNTS, NEW_USERS, NEW_NETWORK = 0x00020000, 0x10000000, 0x40000000


def escaped(data):
    return "".join(f"\\x{byte:02x}" for byte in data)


def main(flags, emulator, *command):
    libc = ctypes.CDLL(None, use_errno=True)
    made, mapped = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        if libc.unshare(NEW_USERS | NEW_MOUNTS | NEW_NETWORK) != 0:
            sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
        os.write(made[1], b"x")
        os.close(mapped[1])
        if os.read(mapped[0], 1) != b"x":
            sys.exit(1)
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", "/proc/sys/fs/binfmt_misc"], check=True)
        with open("/proc/sys/fs/binfmt_misc/register", "w") as register:
            register.write(f":for-arm64:M::{escaped(HEAD)}:{escaped(MASK)}:{emulator}:{flags}")
        os.execvp(command[0], command)
    os.close(made[1])
    if os.read(made[0], 1) == b"x":
        # Not all ids: crun takes a map of all for no namespace at all.
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{name}", "w") as out:
                out.write("0 0 1000000")
        os.write(mapped[1], b"x")
    os.close(mapped[1])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
