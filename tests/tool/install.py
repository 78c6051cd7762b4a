#!/usr/bin/env python3
"""A program finds the installed library: install.py BUILD_FOLDER EXAMPLE."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BUILD = EXAMPLE = ""


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.work = Path(cls.folder.name)
        cls.root = cls.work / "root"
        subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", cls.root],
                       check=True, capture_output=True)
        (cls.library,) = cls.root.rglob("libskim.so")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def flags(self):
        environment = {**os.environ, "PKG_CONFIG_SYSROOT_DIR": str(self.root),
                       "PKG_CONFIG_PATH": str(self.library.parent / "pkgconfig")}
        return subprocess.run(["pkg-config", "--cflags", "--libs", "skim"], env=environment, check=True,
                              capture_output=True, text=True).stdout.split()

    def run_program(self, program):
        return subprocess.run([program], capture_output=True, text=True,
                              env={**os.environ, "LD_LIBRARY_PATH": str(self.library.parent)})

    def starts(self, program):
        result = self.run_program(program)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("layer 2: 32 of 252 pages", result.stdout)

    def test_by_pkg_config(self):
        program = self.work / "by_pkg_config"
        subprocess.run(["gcc", EXAMPLE, "-o", program, *self.flags()], check=True)
        self.starts(program)

    def test_examples_say_what_failed(self):
        # Variables without a value hold a pattern, so that using one shows.
        options = ["-Wall", "-Wextra", "-Werror", "-O1", "-ftrivial-auto-var-init=pattern"]
        for name, old, new, words in (("decode", '"auto"', '"cuda"', "no cuda device"),
                                      ("decode", "DIM = 64", "DIM = 12", "12"),
                                      ("decode", ".capacity = 4096", ".capacity = 64", "exceed"),
                                      ("engine", '"auto"', '"cuda"', "no cuda device"),
                                      ("engine", "DIM = 64", "DIM = 12", "12")):
            with self.subTest(name=name, new=new):
                text = Path(EXAMPLE).with_name(f"{name}.c").read_text(encoding="utf-8")
                self.assertEqual(text.count(old), 1)
                source, program = self.work / "broken.c", self.work / "broken"
                source.write_text(text.replace(old, new), encoding="utf-8")
                subprocess.run(["gcc", *options, source, "-o", program, *self.flags()], check=True)
                result = self.run_program(program)
                self.assertEqual((result.returncode, result.stdout), (1, ""))
                self.assertRegex(result.stderr, rf"^{name}: .*{words}.*\n$")

    def test_by_cmake(self):
        if not shutil.which("cmake"):
            self.skipTest("no cmake here")
        source = self.work / "project"
        source.mkdir()
        (source / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.18)\nproject(by_cmake C)\nfind_package(skim REQUIRED)\n"
            f'add_executable(by_cmake "{EXAMPLE}")\ntarget_link_libraries(by_cmake skim::skim)\n')
        (package,) = self.root.rglob("skimConfig.cmake")
        for command in (["cmake", "-B", "build", f"-Dskim_DIR={package.parent}"],
                        ["cmake", "--build", "build"]):
            result = subprocess.run(command, cwd=source, capture_output=True, text=True)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.starts(source / "build" / "by_cmake")

    def test_what_is_installed(self):
        names = {path.name for path in self.root.rglob("*") if path.is_file()}
        self.assertLessEqual({"skim", "skim.pc", "skim.h", "verbs.h", "skimConfig.cmake"}, names)
        self.assertFalse([name for name in names if name.endswith((".a", ".c"))])


if __name__ == "__main__":
    BUILD, EXAMPLE = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main()
