#!/usr/bin/env python3
"""spirv.py SOURCES BUILT: what glslc made of the kernels is valid, reads keys, values and bounds 16 bytes at a
time, leaves no rounding to the driver, and is what the copies in SOURCES/spirv have, which are built where
there is no glslc.

Another glslc makes other words of the same source; then nothing can be said of the copies."""

import re
import struct
import subprocess
import sys
from pathlib import Path

UNIT_READERS = ("append", "centre", "estimate", "attend", "prefill")


def run(*command, data=None):
    return subprocess.run(command, input=data, capture_output=True, check=False)


def module(path):
    words = [int(word, 16) for word in path.read_text(encoding="utf-8").replace("\n", "").split(",") if word]
    return struct.pack(f"<{len(words)}I", *words)


def faults(path):
    """What is wrong with a built kernel."""
    binary = module(path)
    checked = run("spirv-val", "--target-env", "vulkan1.2", "-", data=binary)
    if checked.returncode != 0:
        yield checked.stdout.decode() + checked.stderr.decode()
    text = run("spirv-dis", "--raw-id", "-", data=binary).stdout.decode()
    vector = re.search(r"(%\d+) = OpTypeInt 32 0.*?(%\d+) = OpTypeVector \1 4\n", text, re.DOTALL)
    if path.stem.split("_")[0] in UNIT_READERS:
        loads = re.findall(rf"= OpLoad {vector[2]} %\d+ Aligned(?:\|\w+)* 16", text) if vector else []
        if not loads:
            yield "no load of 16 bytes"
    # To 16 bits, Vulkan rounds to nearest or towards zero, as the driver likes.
    halves = re.findall(r"(%\d+) = OpTypeFloat 16\n", text)
    halves += [made for half in halves for made in re.findall(rf"(%\d+) = OpTypeVector {half} \d\n", text)]
    if "PackHalf2x16" in text.replace("UnpackHalf2x16", "") or any(f"OpFConvert {half} " in text for half in halves):
        yield "the driver rounds to 16 bits"


def main():
    copies, built = Path(sys.argv[1]) / "spirv", Path(sys.argv[2])
    made = [path for path in sorted(built.glob("*.inc")) if not path.name.endswith("_mutants.inc")]
    wrong = [f"{path.name}: {fault}" for path in made for fault in faults(path)]
    here = run("glslc", "--version").stdout.decode()
    there = (copies / "glslc.txt").read_text(encoding="utf-8")
    if here != there:
        print("not compared: the copies come from another glslc,", there.splitlines()[0])
    else:
        for name in {path.name for path in copies.glob("*.inc")} ^ {path.name for path in made}:
            wrong.append(f"shaders/vulkan/spirv/{name} has no counterpart; run ./dev spirv")
        wrong += [f"shaders/vulkan/spirv/{path.name} is not what its source gives; run ./dev spirv" for path in made
                  if (copies / path.name).exists() and (copies / path.name).read_bytes() != path.read_bytes()]
    print("\n".join(wrong) or f"{len(made)} kernels")
    return 1 if wrong or not made else 0


sys.exit(main())
