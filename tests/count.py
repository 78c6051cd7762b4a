#!/usr/bin/env python3
"""Adds up the cases of meson's test logs: count.py LOG... prints 'N passed, N failed, N skipped'.

A program that counts its own cases (the conformance suite, cmocka, unittest) is taken at its word; any
other is one case. A program that failed without a failed case counts as one failed case.
"""

import json
import re
import sys

SKIPPED = ("SKIP", "EXPECTEDFAIL")
PASSED = ("OK", "UNEXPECTEDPASS")


def last_counts(text, pattern):
    found = re.findall(pattern, text, re.MULTILINE)
    return [int(number or 0) for number in found[-1]] if found else None


def own_count(text):
    """(passed, failed, skipped) as the program said, or None."""
    counts = last_counts(text, r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$")
    if counts:
        return counts
    ran = re.findall(r"^Ran (\d+) tests? in", text, re.MULTILINE)
    if ran:
        total = int(ran[-1])
        failed = sum(int(n) for n in re.findall(r"\b(?:failures|errors)=(\d+)", text))
        skipped = sum(int(n) for n in re.findall(r"\bskipped=(\d+)", text))
        return [max(0, total - failed - skipped), failed, skipped]
    passed = [int(n) for n in re.findall(r"^\[  PASSED  \] (\d+) test", text, re.MULTILINE)]
    if passed:
        failed = [int(n) for n in re.findall(r"^\[  FAILED  \] .*?(\d+) test", text, re.MULTILINE)]
        skipped = [int(n) for n in re.findall(r"^\[  SKIPPED \] (\d+) test", text, re.MULTILINE)]
        return [sum(passed), sum(failed), sum(skipped)]
    return None


def count(result):
    text = result.get("stdout", "") + "\n" + result.get("stderr", "")
    outcome = result["result"]
    if outcome in SKIPPED:
        return [0, 0, 1]
    counts = own_count(text) or [int(outcome in PASSED), 0, 0]
    if outcome not in PASSED and counts[1] == 0:
        counts[1] = 1
    return counts


def main():
    totals = [0, 0, 0]
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as log:
            sums = [0, 0, 0]
            for line in log:
                sums = [a + b for a, b in zip(sums, count(json.loads(line)))]
        print(f"{path.split('/')[0]}: {sums[0]} passed, {sums[1]} failed, {sums[2]} skipped")
        totals = [a + b for a, b in zip(totals, sums)]
    print(f"{totals[0]} passed, {totals[1]} failed, {totals[2]} skipped")
    return 1 if totals[1] or not totals[0] else 0


sys.exit(main())
