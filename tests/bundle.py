#!/usr/bin/env python3
"""Turns an OCI bundle that umoci has unpacked from an image into a container such as Docker or Kubernetes makes of it.

usage: bundle.py BUNDLE [--privileged | --unconfined] [--mount SOURCE:TARGET]… [-- ARGUMENT…]

--privileged: as `docker run --privileged`. --unconfined: the image's user, without seccomp and AppArmor, as buildx's
kubernetes driver wants it with rootless=true; /proc has what runtimes cover there. Arguments follow the entrypoint.
The container has a network of its own with nothing but loopback.
"""
import argparse
import json
import sys
from pathlib import Path

# By number.
CAPABILITIES = """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ""".split()
DOCKERS = """CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT
KILL AUDIT_WRITE""".split()
COVERED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/scsi",
           "/sys/firmware"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument("--privileged", action="store_true")
    form.add_argument("--unconfined", action="store_true")
    parser.add_argument("--mount", action="append", default=[])
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options = parser.parse_args(sys.argv[1:cut])
    arguments = sys.argv[cut + 1:]

    path = options.bundle / "config.json"
    config = json.loads(path.read_text())
    process, linux = config["process"], config["linux"]
    process["terminal"] = False
    process["noNewPrivileges"] = False
    process["args"] += arguments
    process.pop("rlimits", None)
    process.pop("apparmorProfile", None)
    # What we lack ourselves cannot be given.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    ours = int(status["CapEff"], 16)
    held = ["CAP_" + name for number, name in enumerate(CAPABILITIES)
            if ours >> number & 1 and (options.privileged or name in DOCKERS)]
    user = process["user"]["uid"]
    process["capabilities"] = {kind: held if kind == "bounding" or user == 0 else []
                               for kind in ("bounding", "permitted", "effective", "inheritable")}
    linux.pop("seccomp", None)
    linux.pop("uidMappings", None)
    linux.pop("gidMappings", None)
    linux["maskedPaths"] = [] if options.privileged else COVERED
    linux["readonlyPaths"] = [] if options.privileged else ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"]
    linux["namespaces"] = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]
    linux["resources"] = {"devices": [{"allow": True, "access": "rwm"}]} if options.privileged else {}
    linux.pop("devices", None)
    if options.privileged:
        for mount in config["mounts"]:
            if mount["type"] in ("sysfs", "cgroup"):
                mount["options"] = [word for word in mount["options"] if word != "ro"] + ["rw"]
    for pair in options.mount:
        source, target = pair.split(":")
        config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != target]
        config["mounts"].append({"type": "bind", "source": source, "destination": target, "options": ["rbind", "rw"]})
    path.write_text(json.dumps(config))


main()
