#!/usr/bin/env python3
"""What libskim must not do: library.py LIBRARY. Only skim_ names are exported, nothing that ends the process,
prints or touches signals is called, and nothing but the C library is needed."""

import re
import subprocess
import sys
import unittest

LIBRARY = ""
FORBIDDEN = re.compile(
    r"^_*(abort|_?exit|_Exit|quick_exit|at_quick_exit|atexit|assert_fail|assert|v?f?printf|v?f?printf_chk|"
    r"v?dprintf(_chk)?|puts|fputs|putchar|putc|fputc|fwrite|perror|psignal|err|errx|warn|warnx|error|signal|"
    r"sigaction|raise|kill|stdout|stderr|syslog|system|longjmp|longjmp_chk)$")
NEEDED = re.compile(r"^(libc|libm|libpthread|libdl|ld-linux-[a-z0-9-]+)\.so\.\d+$")


def lines(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def symbols(*options):
    return [line.split()[-1].split("@")[0] for line in lines("nm", "-D", *options, LIBRARY) if line.strip()]


class Library(unittest.TestCase):
    def test_only_skim_names_are_exported(self):
        names = symbols("--defined-only")
        self.assertTrue(names)
        self.assertEqual([name for name in names if not name.startswith("skim_")], [])

    def test_nothing_ends_prints_or_signals(self):
        self.assertEqual([name for name in symbols("--undefined-only") if FORBIDDEN.match(name)], [])

    def test_nothing_but_the_c_library_is_needed(self):
        needed = [re.search(r"\[(.*)\]", line).group(1) for line in lines("readelf", "-d", LIBRARY)
                  if "(NEEDED)" in line]
        self.assertTrue(needed)
        self.assertEqual([name for name in needed if not NEEDED.match(name)], [])

    def test_the_stack_is_not_executable(self):
        (stack,) = [line for line in lines("readelf", "-lW", LIBRARY) if "GNU_STACK" in line]
        self.assertNotIn("E", stack.split()[-2])

    def test_the_library_is_named_by_its_major_version(self):
        (name,) = [line for line in lines("readelf", "-d", LIBRARY) if "(SONAME)" in line]
        self.assertIn("[libskim.so.0]", name)


if __name__ == "__main__":
    LIBRARY = sys.argv.pop(1)
    unittest.main()
