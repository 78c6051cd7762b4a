#!/usr/bin/env python3
"""ran.py PROGRAM...: runs test programs on the emulated driver; every kernel that there is must have
run in them."""
import os
import subprocess
import sys
import tempfile

failed = 0
launches = {}
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "kernels.txt")
    environment = dict(os.environ, SKIM_EMULATED_KERNELS=path)
    for program in sys.argv[1:]:
        failed |= subprocess.run([program], env=environment, check=False).returncode
    with open(path, encoding="utf-8") as file:
        for line in file:
            name, count = line.split()
            launches[name] = launches.get(name, 0) + int(count)
idle = sorted(name for name, count in launches.items() if count == 0)
for name in idle:
    print(f"FAILED {name} never ran")
print(f"{len(launches) - len(idle)} kernels ran, {len(idle)} did not")
sys.exit(1 if failed or idle else 0)
