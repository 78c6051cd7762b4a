#!/usr/bin/env python3
"""Every public header compiles alone, as C11, C++17 and C++20, and so does the README's example:
headers.py INCLUDE_FOLDER README."""

import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

FOLDER = Path()
README = Path()
FLAGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
COMPILERS = [("gcc", "c", "c11"), ("g++", "c++", "c++17"), ("g++", "c++", "c++20"), ("clang", "c", "c11"),
             ("clang++", "c++", "c++17"), ("clang++", "c++", "c++20")]


class Headers(unittest.TestCase):
    def compile(self, compiler, language, standard):
        if not shutil.which(compiler):
            self.skipTest(f"no {compiler} here")
        headers = sorted((FOLDER / "skim").glob("*.h"))
        self.assertGreater(len(headers), 5)
        for header in headers:
            with self.subTest(header=header.name):
                result = subprocess.run(
                    [compiler, "-x", language, f"-std={standard}", *FLAGS, f"-I{FOLDER}", "-"],
                    input=f'#include "skim/{header.name}"\n', capture_output=True, text=True)
                self.assertEqual(result.returncode, 0, result.stderr)


    def test_the_example_of_the_readme_compiles(self):
        (code,) = re.findall(r"^```c\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        include, body = code.split("\n", 1)
        program = (f"{include}\nvoid example(const float *keys, const float *values, const float *queries, "
                   f"float *out);\nvoid example(const float *keys, const float *values, "
                   f"const float *queries, float *out)\n{{{body}}}\n")
        result = subprocess.run(["gcc", "-x", "c", "-std=c11", *FLAGS, f"-I{FOLDER}", "-"], input=program,
                                capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)


def add(compiler, language, standard):
    name = f"test_{standard.replace('+', 'p')}_by_{compiler.replace('+', 'p')}"
    setattr(Headers, name, lambda self: self.compile(compiler, language, standard))


for each in COMPILERS:
    add(*each)

if __name__ == "__main__":
    FOLDER, README = Path(sys.argv.pop(1)), Path(sys.argv.pop(1))
    unittest.main()
