#!/usr/bin/env python3
"""mutants.py runtime/mutant.h OUTPUT: the numbers of skim_mutant_id as constants of GLSL."""
import re
import sys

with open(sys.argv[1], encoding="utf-8") as header:
    names = re.findall(r"^\s*X\((\w+), ", header.read(), re.MULTILINE)
with open(sys.argv[2], "w", encoding="utf-8") as output:
    output.writelines(f"const uint {name} = {number};\n" for number, name in enumerate(names, 1))
