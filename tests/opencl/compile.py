#!/usr/bin/env python3
"""compile.py CLANG FOLDER: every kernel of shaders/opencl compiles for spir64 as OpenCL C 1.2 without a warning,
in the variants of the backend, those for cl_khr_fp16 among them, which no driver of the test machines has."""
import itertools
import subprocess
import sys
from pathlib import Path

TYPES, BOUNDS, STORAGES = (1, 2, 3), (0, 1), (0, 1)
SPLIT, FP16 = ("", "CHUNK_SHIFT=16"), ("", "FP16=1")


def variants():
    common = itertools.product(("THREADS=1", "THREADS=64"), ("", "DIM_GIVEN=128"), SPLIT, FP16)
    for i, (threads, dim, split, fp16) in enumerate(common):
        # The type turns with the rest: all of them times all would be hours.
        of_all = [threads, dim, split, fp16, f"TYPE={TYPES[i % 3] if not fp16 else 2}"]
        heads = f"HEADS={(1, 2, 4, 8)[i % 4]}"
        for bounds, storage in itertools.product(BOUNDS, STORAGES):
            kinds = [f"BOUNDS={bounds}", f"BOUNDS_TYPE={storage}"]
            yield "append", of_all + kinds
            yield "estimate", of_all + kinds + [heads]
        yield "centre", of_all
        yield "attend", of_all + [heads]
        yield "attend", of_all + ["HEADS=8", "PREFILL=1"]
        yield "select", [threads, "KEYS=1" if split else "KEYS=4096"]


def main():
    clang, folder = sys.argv[1], Path(sys.argv[2])
    failed = count = 0
    for kernel, defines in variants():
        command = [clang, "-x", "cl", "-cl-std=CL1.2", "-Xclang", "-finclude-default-header", "-target", "spir64",
                   "-fsyntax-only", "-Wall", "-Wno-unused-function", "-Werror"]
        command += [f"-D{define}" for define in defines if define] + [str(folder / f"{kernel}.cl")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        count += 1
        if result.returncode != 0:
            failed += 1
            print(" ".join(command), result.stderr, sep="\n")
    print(f"{count} kernels, {failed} that do not compile")
    sys.exit(1 if failed else 0)


main()
