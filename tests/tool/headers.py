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


    def test_the_vulkan_header_goes_with_vulkans_own_before_and_after_it(self):
        own, foreign = '#include "skim/vulkan.h"\n', "#include <vulkan/vulkan_core.h>\n"
        body = ("void use(skim_vulkan_options *options, VkInstance instance, VkQueue queue, VkBuffer buffer);\n"
                "void use(skim_vulkan_options *options, VkInstance instance, VkQueue queue, VkBuffer buffer)\n"
                "{ options->instance = instance; options->queue = queue;\n"
                "options->get_instance_proc_addr = vkGetInstanceProcAddr;\n"
                "skim_vulkan_buffer_wrap(NULL, (uint64_t)buffer, 1, NULL); }\n")
        for compiler, language, standard in COMPILERS:
            found = shutil.which(compiler) and subprocess.run([compiler, "-x", language, "-fsyntax-only", "-"],
                                                              input=foreign, capture_output=True, text=True)
            if not found or found.returncode != 0:
                continue
            for program in (own + foreign + body, foreign + own + body):
                with self.subTest(compiler=compiler, standard=standard):
                    result = subprocess.run(
                        [compiler, "-x", language, f"-std={standard}", *FLAGS, f"-I{FOLDER}", "-"],
                        input=program, capture_output=True, text=True)
                    self.assertEqual(result.returncode, 0, result.stderr)

    def test_the_cuda_headers_handles_are_cudas_own(self):
        # As cuda.h declares them, whose names an application's CUDA gives them.
        foreign = ("typedef struct CUctx_st *CUcontext; typedef struct CUstream_st *CUstream, *cudaStream_t;\n"
                   "typedef struct CUevent_st *CUevent; typedef unsigned long long CUdeviceptr;\n")
        own = '#include "skim/cuda.h"\n'
        body = ("void use(skim_cuda_options *options, CUcontext context, CUstream stream, CUevent event, CUdeviceptr at);\n"
                "void use(skim_cuda_options *options, CUcontext context, CUstream stream, CUevent event, CUdeviceptr at)\n"
                "{ options->context = context; skim_cuda_queue_create(NULL, stream, NULL);\n"
                "skim_cuda_queue_wait_event(NULL, event); skim_cuda_buffer_wrap(NULL, at, 1, NULL); }\n")
        for compiler, language, standard in COMPILERS:
            if not shutil.which(compiler):
                continue
            for program in (own + foreign + body, foreign + own + body):
                with self.subTest(compiler=compiler, standard=standard):
                    result = subprocess.run(
                        [compiler, "-x", language, f"-std={standard}", *FLAGS, f"-I{FOLDER}", "-"],
                        input=program, capture_output=True, text=True)
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
