#!/usr/bin/env python3
"""embed.py [--mutants MUTANT_H] INPUT OUTPUT: a kernel's source as the numbers of a C array, with the
files that it includes in their places, each once. --mutants puts the numbers of skim_mutant_id before it.
Also writes OUTPUT.d, what it was made of."""
import argparse
import os
import re


def read(path, seen):
    path = os.path.normpath(path)
    if path in seen:
        return ""
    seen.append(path)
    with open(path, encoding="ascii") as source:
        text = source.read()

    def put(match):
        return read(os.path.join(os.path.dirname(path), match.group(1)), seen)

    return re.sub(r'^#include "(.*)"\n', put, text, flags=re.MULTILINE)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mutants")
    parser.add_argument("input")
    parser.add_argument("output")
    given = parser.parse_args()
    seen, text = [], ""
    if given.mutants:
        with open(given.mutants, encoding="ascii") as header:
            names = re.findall(r"^\s*X\((\w+), ", header.read(), re.MULTILINE)
        text = "".join(f"#define SKIM_MUTANT_{name} {number}\n"
                       for number, name in enumerate(names, 1))
    text += read(given.input, seen)
    data = text.encode("ascii") + b"\0"
    with open(given.output, "w", encoding="ascii") as output:
        for start in range(0, len(data), 24):
            output.write(", ".join(str(byte) for byte in data[start:start + 24]) + ",\n")
    with open(given.output + ".d", "w", encoding="ascii") as output:
        output.write(f"{given.output}: " + " ".join(seen) + "\n")


main()
