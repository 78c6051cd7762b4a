#!/usr/bin/env python3
"""grind.py CONFORMANCE: a handful of quick cases under oclgrind, an interpreter of OpenCL that sees accesses out
of bounds, races between work-items and barriers that some do not reach. Kernels have the shape for a GPU here
(work-groups, local memory), which PoCL 3.1 compiles wrongly. Its log must be empty: it exits 0 regardless."""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARY = Path("/usr/lib/oclgrind/liboclgrind-rt-icd.so")
# By verb: so many of them that the whole takes about a minute.
CASES = {"append/": 12, "i8/upper": 30, "estimate/f16": 40, "select/": 12, "attend/f32": 12, "pipeline/f16": 24}


def main():
    if not LIBRARY.exists():
        print(f"{LIBRARY} is not there")
        sys.exit(1 if "opencl" in os.environ.get("SKIM_REQUIRE", "").split(",") else 77)
    failed = passed = 0
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "oclgrind.icd").write_text(f"{LIBRARY}\n", encoding="ascii")
        log = Path(folder) / "log"
        env = {**os.environ, "OCL_ICD_VENDORS": folder, "OCLGRIND_LOG": str(log), "OCLGRIND_DATA_RACES": "1"}
        for text, every in CASES.items():
            command = [sys.argv[1], "--device", "opencl", "--quick", "--disable", "serial,wide", "--filter", text,
                       "--every", str(every)]
            result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            found = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            print(text, result.stdout.splitlines()[-1] if result.stdout else result.stderr)
            if result.returncode != 0 or found.strip():
                failed += 1
                print(result.stdout, found[:4000], sep="\n")
            else:
                passed += 1
            log.unlink(missing_ok=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(1 if failed else 0)


main()
