#!/usr/bin/env python3
"""find_nvcc.py [--include]: where nvcc is, or the folder of its cuda.h; nothing if there is none."""
import glob
import os
import shutil
import sys


def candidates():
    yield shutil.which("nvcc")
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if name in os.environ:
            yield os.path.join(os.environ[name], "bin", "nvcc")
    for prefix in ("/usr/local", "/opt", "/usr/lib"):
        for root in [os.path.join(prefix, "cuda")] + sorted(glob.glob(f"{prefix}/cuda-*"), reverse=True):
            yield os.path.join(root, "bin", "nvcc")


for nvcc in candidates():
    if nvcc and os.access(nvcc, os.X_OK):
        if "--include" not in sys.argv:
            print(nvcc)
            break
        folder = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(nvcc))), "include")
        if os.path.exists(os.path.join(folder, "cuda.h")):
            print(folder)
        break
