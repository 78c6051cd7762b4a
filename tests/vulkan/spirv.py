#!/usr/bin/env python3
"""spirv.py SOURCES BUILT: fails if a kernel in SOURCES/spirv is not what glslc made of its source in BUILT.

Another glslc makes other words of the same source; then nothing can be said, and the test is skipped."""

import subprocess
import sys
from pathlib import Path


def main():
    copies, built = Path(sys.argv[1]) / "spirv", Path(sys.argv[2])
    here = subprocess.run(["glslc", "--version"], capture_output=True, text=True, check=True).stdout
    there = (copies / "glslc.txt").read_text(encoding="utf-8")
    if here != there:
        print("the copies come from another glslc:", there.splitlines()[0])
        return 77
    names = {path.name for path in copies.glob("*.inc")}
    made = {path.name for path in built.glob("*.inc") if not path.name.endswith("_mutants.inc")}
    wrong = names ^ made
    for name in names & made:
        if (copies / name).read_bytes() != (built / name).read_bytes():
            wrong.add(name)
    for name in sorted(wrong):
        print(f"shaders/vulkan/spirv/{name} is not what its source gives; run ./dev spirv")
    return 1 if wrong else 0


sys.exit(main())
