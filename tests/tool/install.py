#!/usr/bin/env python3
"""Programs find the installed library, by pkg-config, by CMake and as a Meson subproject, and the examples
run with it: install.py BUILD_FOLDER SOURCE_FOLDER."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BUILD = SOURCE = ""
# What each example prints when it is right.
EXAMPLES = {
    "decode": "layer 2: 128 of 2502 pages, found token 12345.0",
    "engine": "sequence 1 read everything and equals dense",
    "fork": "after decoding: +sequences 4, slots in use 74, of them shared 62",
    "save": "the restored session answers the same, bit for bit",
}
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1"]
# C++17 has no designated initialisers; its compilers take those of C++20.
CXX = ["-x", "c++", "-std=c++17", "-Wall", "-Wextra", "-Wno-missing-field-initializers", "-Werror", "-O1"]


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)


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

    def must(self, *command, **options):
        result = run(*command, **options)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def example(self, name):
        return Path(SOURCE) / "examples" / f"{name}.c"

    def flags(self):
        environment = {**os.environ, "PKG_CONFIG_SYSROOT_DIR": str(self.root),
                       "PKG_CONFIG_PATH": str(self.library.parent / "pkgconfig")}
        return run("pkg-config", "--cflags", "--libs", "skim", env=environment, check=True).stdout.split()

    def run_program(self, program):
        environment = {**os.environ, "LD_LIBRARY_PATH": str(self.library.parent)}
        return run(program, cwd=self.work, env=environment)

    def runs(self, name, program):
        result = self.run_program(program)
        self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
        self.assertRegex(result.stdout, EXAMPLES[name])

    def test_by_pkg_config(self):
        for name in EXAMPLES:
            with self.subTest(name=name):
                program = self.work / f"c_{name}"
                self.must("gcc", "-std=c11", *STRICT, self.example(name), "-o", program, *self.flags())
                self.runs(name, program)

    def test_by_pkg_config_as_cpp(self):
        if not shutil.which("g++"):
            self.skipTest("no g++ here")
        for name in EXAMPLES:
            with self.subTest(name=name):
                program = self.work / f"cpp_{name}"
                self.must("g++", *CXX, self.example(name), "-x", "none", "-o", program, *self.flags())
                self.runs(name, program)

    def test_by_cmake(self):
        if not shutil.which("cmake"):
            self.skipTest("no cmake here")
        source = self.work / "by_cmake"
        source.mkdir()
        lines = ["cmake_minimum_required(VERSION 3.18)", "project(by_cmake C)", "find_package(skim REQUIRED)"]
        for name in EXAMPLES:
            lines += [f'add_executable({name} "{self.example(name)}")',
                      f"target_link_libraries({name} skim::skim)"]
        (source / "CMakeLists.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (package,) = self.root.rglob("skimConfig.cmake")
        self.must("cmake", "-G", "Ninja", "-B", "build", f"-Dskim_DIR={package.parent}", cwd=source)
        self.must("cmake", "--build", "build", cwd=source)
        for name in EXAMPLES:
            with self.subTest(name=name):
                self.runs(name, source / "build" / name)

    def test_cmake_refuses_another_version(self):
        if not shutil.which("cmake"):
            self.skipTest("no cmake here")
        (package,) = self.root.rglob("skimConfig.cmake")
        (version,) = re.findall(r'skim_VERSION "([0-9.]+)"', package.read_text(encoding="utf-8"))
        major, minor, _ = version.split(".")
        for wanted, found in ((version, True), (f"{major}.{minor}", True), (f"{major}.{int(minor) + 1}", False),
                              (f"{int(major) + 1}.0", False)):
            with self.subTest(wanted=wanted):
                source = Path(tempfile.mkdtemp(dir=self.work))
                (source / "CMakeLists.txt").write_text(
                    f"cmake_minimum_required(VERSION 3.18)\nproject(wants C)\nfind_package(skim {wanted} REQUIRED)\n",
                    encoding="utf-8")
                result = run("cmake", "-G", "Ninja", "-B", "build", f"-Dskim_DIR={package.parent}", cwd=source)
                self.assertEqual(result.returncode == 0, found, result.stderr)

    def test_as_a_meson_subproject(self):
        source = self.work / "by_meson"
        skim = source / "subprojects" / "skim"
        skim.mkdir(parents=True)
        for name in ("meson.build", "meson_options.txt", "include", "runtime", "backends", "shaders", "cmake", "tools"):
            (skim / name).symlink_to(Path(SOURCE) / name)
        lines = ["project('by_meson', 'c', default_options: ['c_std=c11', 'warning_level=3', 'werror=true'])",
                 "skim = dependency('skim', fallback: ['skim', 'skim_dep'])"]
        for name in EXAMPLES:
            shutil.copy(self.example(name), source)
            lines.append(f"executable('{name}', '{name}.c', dependencies: skim)")
        (source / "meson.build").write_text("\n".join(lines) + "\n", encoding="utf-8")
        # Only the library: neither its tests nor its command.
        self.must("meson", "setup", "build", "--force-fallback-for=skim", "-Dskim:tools=disabled",
                  "-Dskim:nvcc_architectures=", cwd=source)
        self.must("ninja", "-C", "build", *EXAMPLES, cwd=source)
        for name in EXAMPLES:
            with self.subTest(name=name):
                self.runs(name, source / "build" / name)

    def test_examples_say_what_failed(self):
        # Variables without a value hold a pattern, so that using one shows.
        options = ["-std=c11", *STRICT, "-ftrivial-auto-var-init=pattern"]
        for name, old, new, words in (("decode", '"auto"', '"cuda"', "no cuda device"),
                                      ("decode", "DIM = 64", "DIM = 12", "12"),
                                      ("decode", "capacity = 32768", "capacity = 64", "exceed"),
                                      ("fork", '"auto"', '"cuda"', "no cuda device"),
                                      ("fork", "DIM = 64", "DIM = 12", "12"),
                                      ("fork", ".capacity = 2048", ".capacity = 64", "exceed"),
                                      ("save", '"auto"', '"cuda"', "no cuda device"),
                                      ("save", "DIM = 64", "DIM = 12", "12"),
                                      ("save", '"session.skim"', '"nowhere/session.skim"', "cannot write"),
                                      ("engine", '"auto"', '"cuda"', "no cuda device"),
                                      ("engine", "DIM = 64", "DIM = 12", "12")):
            with self.subTest(name=name, new=new):
                text = self.example(name).read_text(encoding="utf-8")
                self.assertEqual(text.count(old), 1)
                source, program = self.work / "broken.c", self.work / "broken"
                source.write_text(text.replace(old, new), encoding="utf-8")
                self.must("gcc", *options, source, "-o", program, *self.flags())
                result = self.run_program(program)
                self.assertEqual((result.returncode, result.stdout), (1, ""))
                self.assertRegex(result.stderr, rf"^{name}: .*{words}.*\n$")

    def test_what_is_installed(self):
        names = {path.name for path in self.root.rglob("*") if path.is_file()}
        self.assertLessEqual({"skim", "skim.pc", "skim.h", "verbs.h", "skimConfig.cmake"}, names)
        self.assertFalse([name for name in names if name.endswith((".a", ".c"))])


if __name__ == "__main__":
    # Some tests ask for a device that is not there: a machine with an NVIDIA GPU has none then, either.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    BUILD, SOURCE = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main()
