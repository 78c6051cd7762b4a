#!/usr/bin/env python3
"""How much faster estimate is from i8 bounds than from native ones.

bounds_speed.py SKIM OUT [ROUNDS [bench options ...]]: runs skim bench with either storage in turn, ROUNDS times (6), writes
what it said to OUT (JSON), and prints the medians over the rounds and the median of the rounds' ratios. Needs only Python.
"""
import json
import subprocess
import sys
from statistics import median

OPTIONS = ["--context", "32768,131072", "--threads", "2", "--repeat", "25", "--budget", "2048"]


def bench(skim, storage, options):
    result = subprocess.run([skim, "bench", "--json", "--bounds-type", storage, *options], check=True,
                            stdout=subprocess.PIPE, text=True)
    found = json.loads(result.stdout)
    return {one["context"]: one for one in (found if isinstance(found, list) else [found])}


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 6
    options = sys.argv[4:] or OPTIONS
    pairs = [(bench(sys.argv[1], "native", options), bench(sys.argv[1], "i8", options)) for _ in range(rounds)]
    with open(sys.argv[2], "w") as file:
        json.dump([one for pair in pairs for run in pair for one in run.values()], file, indent=1)
    print("| context | native ms | i8 ms | times as fast | read GB/s | load |\n|---|---|---|---|---|---|")
    for context in pairs[0][0]:
        native = [pair[0][context]["estimate_ms"] for pair in pairs]
        i8 = [pair[1][context]["estimate_ms"] for pair in pairs]
        read = [pair[1][context]["read_gbps"] or 0 for pair in pairs]
        load = [pair[1][context]["load"] or 0 for pair in pairs]
        print(f"| {context} | {median(native):.3f} | {median(i8):.3f} | {median(a / b for a, b in zip(native, i8)):.2f} "
              f"| {median(read):.1f} | {median(load):.1f} |")


if __name__ == "__main__":
    main()
