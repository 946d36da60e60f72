#!/usr/bin/env python3
"""How long `cooper why` takes to answer, as a whole process.

    bench/why.py [build/release/bin/cooper] [RUNS]

A project of twelve steps is changed at one place and built, RUNS times; after each build the reasons of all steps and of
one step are asked for. Names never change: why_all, why_step, why_nothing_ran, logs. Prints median and longest, beside
`cooper version`, which is the floor of a process on this machine. Target: each answer below 100 ms.
"""
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
cooper = os.path.realpath(sys.argv[1] if len(sys.argv) > 1 else HERE.parent / "build/release/bin/cooper")
runs = int(sys.argv[2]) if len(sys.argv) > 2 else 50
times = {"version": [], "why_all": [], "why_step": [], "why_nothing_ran": [], "logs": []}


def ask(name, *words):
    begun = time.perf_counter()
    subprocess.run([cooper, *words], check=True, stdout=subprocess.DEVNULL)
    times[name].append(1000 * (time.perf_counter() - begun))


with tempfile.TemporaryDirectory() as work:
    os.environ["COOPER_ROOT"] = work + "/state"
    os.environ.pop("BUILDKIT_HOST", None)
    context = Path(work, "context")
    context.mkdir()
    lines = ["FROM scratch"]
    for number in range(12):
        (context / f"file{number}").write_text("as it was")
        lines.append(f"COPY file{number} /{number}")
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    build = [cooper, "build", "--progress=quiet", "-o", f"type=oci,dest={work}/out.tar", str(context)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    for run in range(runs):
        place = run % 12
        (context / f"file{place}").write_text(f"changed {run}")
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        ask("version", "version")
        ask("why_all", "why")
        ask("why_step", "why", f"{place + 1}/12")
        ask("logs", "logs")
        if run % 10 == 0:
            subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
            ask("why_nothing_ran", "why")
for name, values in times.items():
    print(f"{name:<18} median {statistics.median(values):7.1f} ms   longest {max(values):7.1f} ms   of {len(values)}")
