#!/usr/bin/env python3
"""Runs a command that may start programs of other machines, through static emulators of qemu.

usage: with_emulators.py DIRECTORY COMMAND…

The command runs in a user namespace with the same ids, whose own binfmt_misc has the emulators of DIRECTORY
(qemu-ARCH-static); nothing is registered on the machine. Needs root and Linux 6.7.
"""
import ctypes
import os
import sys
from pathlib import Path

# Class, order and number of the machine in the head of its programs.
MACHINES = {"aarch64": (2, 1, 183), "arm": (1, 1, 40), "riscv64": (2, 1, 243), "ppc64le": (2, 1, 21), "s390x": (2, 2, 22)}
NEWNS, NEWUSER, NEWPID = 0x20000, 0x10000000, 0x20000000
LIBC = ctypes.CDLL(None, use_errno=True)


def check(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


def mount(kind, where, flags=0):
    check(LIBC.mount(kind.encode(), where.encode(), kind.encode(), flags, None), f"mount {kind} at {where}")


def register(emulators):
    mount("binfmt_misc", "/proc/sys/fs/binfmt_misc")
    for name, (word, order, number) in MACHINES.items():
        program = emulators / f"qemu-{name}-static"
        if not program.exists():
            continue
        bits = "little" if order == 1 else "big"
        head = b"\x7fELF" + bytes([word, order, 1]) + bytes(9) + (2).to_bytes(2, bits) + number.to_bytes(2, bits)
        mask = b"\xff" * 7 + b"\0\0" + b"\xff" * 7 + (0xFFFE).to_bytes(2, bits) + b"\xff\xff"
        text = lambda data: "".join(f"\\x{byte:02x}" for byte in data)
        Path("/proc/sys/fs/binfmt_misc/register").write_text(f":qemu-{name}:M::{text(head)}:{text(mask)}:{program}:POCF")


def main():
    emulators, command = Path(sys.argv[1]).resolve(), sys.argv[2:]
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        check(LIBC.unshare(NEWUSER | NEWNS | NEWPID), "unshare")
        os.write(ready[1], b".")
        os.read(go[0], 1)
        inner = os.fork()
        if inner == 0:
            mount("proc", "/proc")
            register(emulators)
            os.execvp(command[0], command)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
    os.read(ready[0], 1)
    for kind in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{kind}").write_text("0 0 4294967295")
    os.write(go[1], b".")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
