#!/usr/bin/env python3
"""spills.py RESOURCES ARCHITECTURE...: no kernel of a decode step keeps registers in memory, on any
architecture; nor is one left out. RESOURCES is what ptxas said (shaders/cuda/compile.py)."""
import re
import sys

DECODE = ("skim_append_", "skim_estimate_", "skim_select_", "skim_attend_")


def read(path):
    """{(kernel, architecture): (spilled bytes, registers)}"""
    found, key = {}, None
    with open(path, encoding="utf-8") as file:
        for line in file:
            entry = re.search(r"Compiling entry function '(\w+)' for 'sm_(\w+)'", line)
            spill = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line)
            used = re.search(r"Used (\d+) registers", line)
            if entry:
                key = entry.groups()
                found[key] = [0, 0]
            elif spill and key:
                found[key][0] = int(spill.group(1)) + int(spill.group(2))
            elif used and key:
                found[key][1] = int(used.group(1))
    return found


def main():
    kernels = read(sys.argv[1])
    failed = 0
    for architecture in sys.argv[2:]:
        own = {name: of for (name, of_architecture), of in kernels.items() if of_architecture == architecture}
        decode = [name for name in own if name.startswith(DECODE)]
        if not decode or len(own) != len({name for name, _ in kernels}):
            print(f"sm_{architecture}: {len(own)} kernels are known, of {len({name for name, _ in kernels})}")
            failed += 1
        for name in sorted(decode):
            if own[name][0] > 0:
                print(f"sm_{architecture}: {name} spills {own[name][0]} bytes ({own[name][1]} registers)")
                failed += 1
        most = max((own[name][1] for name in decode), default=0)
        print(f"sm_{architecture}: {len(decode)} kernels of a decode step, of at most {most} registers")
    sys.exit(1 if failed else 0)


main()
