#!/usr/bin/env python3
"""ran.py CONFORMANCE [--every N]: the quick cases on the emulated driver, with kernels built for a
shape and with general ones; and every kernel that there is must have run in them."""
import os
import subprocess
import sys
import tempfile

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "kernels.txt")
    environment = dict(os.environ, SKIM_EMULATED_KERNELS=path)
    command = [sys.argv[1], "--device", "cuda", "--quick"] + sys.argv[2:]
    failed = 0
    for extra in [], ["--disable", "wide"]:
        done = subprocess.run(command + extra, env=environment, check=False)
        if done.returncode == 77:
            sys.exit(77)
        failed |= done.returncode
    launches = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            name, count = line.split()
            launches[name] = launches.get(name, 0) + int(count)
idle = sorted(name for name, count in launches.items() if count == 0)
for name in idle:
    print(f"FAILED {name} never ran")
print(f"{len(launches) - len(idle)} kernels ran, {len(idle)} did not")
sys.exit(1 if failed or idle else 0)
