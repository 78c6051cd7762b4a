#!/usr/bin/env python3
"""Tests of skim generate --linear with libraries that stand in for CUDA, cuBLAS, OpenCL and CLBlast:
linear.py PATH_OF_SKIM FAKE_LIBRARY EMPTY_LIBRARY [unittest options].

fake_blas.c keeps to what the real ones' documentation says, notes what a caller may not do, and fails
where it is told to. clblast.py runs the real CLBlast."""

import array
import json
import math
import os
import random
import shutil
import sys
import unittest
from pathlib import Path

import generate
import tensors

FAKE, EMPTY = "", ""
LIBRARIES = {"cublas": ["libcuda.so.1", "libcublas.so.13"], "clblast": ["libOpenCL.so.1", "libclblast.so.1"]}
NAMES = {"cublas": "Fake CUDA", "clblast": "Fake OpenCL"}
BEST = {"cublas": 0, "clblast": 1} # the device that is taken unasked: of OpenCL the first GPU
# What only frees. That it fails changes nothing.
FREES = {"cuMemFree_v2", "cuDevicePrimaryCtxRelease_v2", "cublasDestroy_v2", "clReleaseMemObject", "clFinish",
         "CLBlastClearCache", "clReleaseCommandQueue", "clReleaseContext"}
# What each of them then leaves behind, as a failed call should.
LEAVES = {"cuMemFree_v2": "blocks", "cuDevicePrimaryCtxRelease_v2": "contexts", "cublasDestroy_v2": "handles",
          "clReleaseMemObject": "blocks", "clReleaseCommandQueue": "queues", "clReleaseContext": "contexts",
          "cuCtxPopCurrent_v2": "pushed"}
PROMPT = ["--prompt", "what a model reads", "--tokens", 3]


class Case(generate.Case):
    def setUp(self):
        super().setUp()
        self.libraries, self.report = self.path / "libraries", self.path / "report"
        self.libraries.mkdir()

    def place(self, kind, names=None, library=None):
        """Puts the library in the place of a kind's."""
        shutil.rmtree(self.libraries)
        self.libraries.mkdir()
        for name in names or LIBRARIES[kind]:
            (self.libraries / name).symlink_to(library or FAKE)

    def run_fake(self, *arguments, model=None, **settings):
        self.report.unlink(missing_ok=True)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(self.libraries), "SKIM_FAKE_REPORT": str(self.report),
                       **{f"SKIM_FAKE_{name.upper()}": str(value) for name, value in settings.items()}}
        result = generate.run("--model", model or self.model, "--threads", 1, *arguments, env=environment)
        report = json.loads(self.report.read_text()) if self.report.exists() else None
        if report:
            self.assertEqual(report["misuse"], "", arguments)
        return result, report

    def runs(self, *arguments, **options):
        """It succeeds and leaves nothing behind. Returns its JSON, and the fake library's."""
        result, report = self.run_fake("--json", *arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, b"")
        self.assertEqual(set(report["left"].values()), {0}, report)
        return json.loads(result.stdout), report

    def stops(self, words, *arguments, but=None, **options):
        """It ends with one sentence that has the words and nothing else, and leaves nothing behind but that."""
        result, report = self.run_fake("--json", *arguments, **options)
        self.assertEqual((result.returncode, result.stdout), (1, b""), (arguments, options, result.stderr))
        lines = result.stderr.decode().splitlines()
        self.assertEqual(len(lines), 1, lines)
        self.assertTrue(lines[0].startswith("skim: --linear "), lines)
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, lines[0])
        self.assertEqual({name for name, count in report["left"].items() if count} if report else set(),
                         {but} if but else set(), (options, report))
        return lines[0]


class Agreement(Case):
    def test_logits_and_tokens_are_those_of_transformers(self):
        """Of models in every type, with biases and with matrices of every shape."""
        for kind in LIBRARIES:
            self.place(kind)
            for name in ("llama-bf16-shards", "llama-f16", "llama3", "qwen2", "qwen3"):
                with self.subTest(linear=kind, model=name):
                    folder = generate.MODELS / name
                    expected = json.loads((folder / "expected.json").read_text())
                    made, report = self.runs("--token-ids", generate.join(expected["prompt"]), "--dense", "--kv-type",
                                             "f32", "--tokens", len(expected["tokens"]), "--logits", self.logits,
                                             "--linear", kind, model=folder)
                    self.assertEqual(made["tokens"], expected["tokens"])
                    self.assertEqual(made["linear"], f"{kind}:{BEST[kind]}")
                    self.assertEqual(made["linear_device"][:len(NAMES[kind]) + 2], f"{NAMES[kind]} {BEST[kind]}")
                    self.assertEqual(report["device"], BEST[kind])
                    self.assertLess(self.worst(self.logits, folder / "expected.safetensors"), 1e-4)

    def worst(self, made, wanted):
        (_, shape, made), (_, wanted_shape, wanted) = (tensors.read(path)["logits"] for path in (made, wanted))
        self.assertEqual(shape, wanted_shape)
        rows = [slice(i * shape[1], (i + 1) * shape[1]) for i in range(shape[0])]
        return max(math.dist(made[row], wanted[row]) / math.hypot(*wanted[row]) for row in rows)

    def test_each_matrix_is_sent_once_and_multiplied_once_a_step(self):
        self.make()
        matrices, prompt = 7 * 3 + 1, generate.Reading.TEXT
        host = self.path / "host.safetensors"
        self.succeeds("--prompt", prompt, "--tokens", 4, "--logits", host)
        names = {"cublas": ("cuMemAlloc_v2", "cuMemcpyHtoD_v2", "cublasSgemm_v2", "cublasSgemv_v2", "cuMemcpyDtoH_v2"),
                 "clblast": ("clCreateBuffer", "clEnqueueWriteBuffer", "CLBlastSgemm", "CLBlastSgemv",
                             "clEnqueueReadBuffer")}
        for kind, (allocate, write, several, one, read) in names.items():
            self.place(kind)
            # 700 tokens: two steps, whose logits only the last step wants, and of its last token; 3 more tokens.
            _, report = self.runs("--prompt", prompt, "--tokens", 4, "--linear", kind)
            self.assertEqual(report["calls"][allocate], matrices + 2)
            self.assertEqual(report["calls"][several], 2 * (matrices - 1))
            self.assertEqual(report["calls"][one], 1 + 3 * matrices)
            self.assertEqual(report["calls"][read], report["calls"][several] + report["calls"][one])
            self.assertEqual(report["calls"][write], matrices + report["calls"][read])
            # All logits: the output's 256 rows have room for 512 * 64 / 256 tokens in a call; 512 and 188 are 4 and 2.
            _, report = self.runs("--prompt", prompt, "--tokens", 4, "--linear", kind, "--logits", self.logits)
            self.assertEqual(report["calls"][several], 2 * (matrices - 1) + 4 + 2)
            self.assertEqual(report["calls"][one], 3 * matrices)
            self.assertLess(self.worst(self.logits, host), 1e-4)

    def test_a_matrix_is_sent_in_several_pieces(self):
        """Of 2 Mi elements at most."""
        rows, source = 66000, random.Random(generate.SEED)
        pool = [source.gauss(0, 0.3) for _ in range(1000)]

        def enlarge(content):
            for name in ("model.embed_tokens.weight", "lm_head.weight"):
                values = array.array("f", source.choices(pool, k=rows * 32))
                content[name] = ("F32", [rows, 32], values.tobytes())

        self.make(tensors_edit=enlarge)
        config = json.loads((self.model / "config.json").read_text())
        (self.model / "config.json").write_text(json.dumps({**config, "vocab_size": rows}))
        host = self.path / "host.safetensors"
        arguments = ["--token-ids", "5,65990", "--tokens", 3]
        wanted = self.succeeds(*arguments, "--logits", host)["tokens"]
        for kind, write in (("cublas", "cuMemcpyHtoD_v2"), ("clblast", "clEnqueueWriteBuffer")):
            self.place(kind)
            made, report = self.runs(*arguments, "--linear", kind, "--logits", self.logits)
            self.assertEqual(made["tokens"], wanted)
            self.assertLess(self.worst(self.logits, host), 1e-4)
            self.assertEqual(report["calls"][write], (22 + 1) + 21 + 2 + 2 * 22) # the output in two pieces, and two calls

    def test_a_prompt_of_one_token(self):
        self.make()
        wanted = self.succeeds("--token-ids", 7, "--tokens", 1)["tokens"]
        for kind in LIBRARIES:
            self.place(kind)
            self.assertEqual(self.runs("--token-ids", 7, "--tokens", 1, "--linear", kind)[0]["tokens"], wanted)

    def test_the_host_is_the_default_and_calls_nothing(self):
        self.make()
        self.place("cublas", sum(LIBRARIES.values(), []))
        for arguments in ([], ["--linear", "host"], ["--linear", "cublas", "--linear", "host"]):
            result, report = self.run_fake("--json", *PROMPT, *arguments)
            # libskim looks for devices in the same libraries; these have not even what it asks for.
            self.assertFalse(report and report["calls"], report)
            made = json.loads(result.stdout)
            self.assertEqual((made["linear"], made["linear_device"]), ("host", None))


class Devices(Case):
    def test_a_device_is_taken_by_its_number(self):
        self.make()
        for kind in LIBRARIES:
            self.place(kind)
            for number in range(3):
                made, report = self.runs(*PROMPT, "--linear", f"{kind}:{number}")
                self.assertEqual((made["linear"], report["device"]), (f"{kind}:{number}", number))
                self.assertTrue(made["linear_device"].startswith(f"{NAMES[kind]} {number}"), made)
            result, _ = self.run_fake(*PROMPT, "--linear", f"{kind}:2")
            self.assertIn(f"Linear layers: {kind}:2, {NAMES[kind]} 2", result.stderr.decode())
            self.stops("devices is 3; they count from 0", *PROMPT, "--linear", f"{kind}:3")
            self.stops("devices is 1; they count from 0", *PROMPT, "--linear", f"{kind}:1", devices=1)

    def test_without_a_gpu_opencl_takes_the_first_device(self):
        self.make()
        self.place("clblast")
        made, report = self.runs(*PROMPT, "--linear", "clblast", devices=1)
        self.assertEqual((made["linear"], report["device"]), ("clblast:0", 0))

    def test_there_may_be_none(self):
        self.make()
        self.place("clblast")
        self.stops("OpenCL has no device; install a driver", *PROMPT, "--linear", "clblast", devices=0)
        self.stops("OpenCL has no device", *PROMPT, "--linear", "clblast", fail="clGetPlatformIDs:1:-1001")
        self.place("cublas")
        self.stops("CUDA devices is 0", *PROMPT, "--linear", "cublas", devices=0)

    def test_values_that_are_none(self):
        self.make()
        for value in ("", "gpu", "hos", "hostx", "host:0", "clblast:", "clblast:x", "clblast:0x", "clblast:-1",
                      "clblast:10000", "cublas:99999999999999999999", "cublas :0", "cublas:0:1", "clblast,cublas"):
            self.fails(2, f"--linear takes host, clblast, clblast:N, cublas or cublas:N, not '{value}'", "--model",
                       self.model, *PROMPT, "--linear", value)


class Failures(Case):
    def test_libraries_that_are_not_there(self):
        """A file that is no library comes before the system's own, and is not passed over."""
        self.make()
        garbage = self.path / "garbage"
        garbage.write_text("no library at all, but long enough to look like one: " * 10)
        for kind, names in LIBRARIES.items():
            for name in names:
                self.place(kind)
                (self.libraries / name).unlink()
                (self.libraries / name).symlink_to(garbage)
                if name.startswith("libcublas"):
                    (self.libraries / "libcublas.so.12").symlink_to(garbage)
                self.stops([name, "cannot be opened", "invalid ELF header", "install", "use --linear host"], *PROMPT,
                           "--linear", kind)
                (self.libraries / name).unlink()
                (self.libraries / name).symlink_to(EMPTY)
                self.stops([f"{name} has no c" if "blas" not in name else f"{name} has no ", "install a newer"],
                           *PROMPT, "--linear", kind)

    def test_an_older_cublas_will_do(self):
        self.make()
        self.place("cublas", ["libcuda.so.1", "libcublas.so.12"])
        (self.libraries / "libcublas.so.13").write_text("no library")
        self.runs(*PROMPT, "--linear", "cublas")

    def test_every_call_may_fail(self):
        """The first of each and one in the middle: a sentence with the call and its status, and all is given back."""
        self.make()
        for kind, status in (("cublas", 719), ("clblast", -9999)):
            self.place(kind)
            made, clean = self.runs(*PROMPT, "--linear", kind)
            self.assertGreater(len(clean["calls"]), 14)
            for name, count in clean["calls"].items():
                for nth in sorted({1, (count + 1) // 2}):
                    with self.subTest(call=name, nth=nth):
                        arguments = [*PROMPT, "--linear", kind]
                        fail = f"{name}:{nth}:{status}"
                        if name not in FREES:
                            self.stops([f"{name} failed", f"{status})" if kind == "cublas" else f"error {status}"],
                                       *arguments, fail=fail, but=LEAVES.get(name))
                            continue
                        result, report = self.run_fake("--json", *arguments, fail=fail)
                        self.assertEqual((result.returncode, result.stderr), (0, b""))
                        self.assertEqual(json.loads(result.stdout)["tokens"], made["tokens"])
                        kept = [part for part, left in report["left"].items() if left]
                        self.assertEqual(kept, [LEAVES[name]] if name in LEAVES else [])

    def test_errors_without_words(self):
        self.make()
        self.place("cublas")
        arguments = [*PROMPT, "--linear", "cublas"]
        self.stops("cuInit failed: some CUDA error (3)", *arguments, fail="cuInit:1:3")
        self.stops("cuInit failed: an error that CUDA has no words for (3)", *arguments,
                   fail="cuInit:1:3,cuGetErrorString:1:1")
        self.stops("cublasSgemm_v2 failed: some cuBLAS error (13)", *arguments, fail="cublasSgemm_v2:2:13")
        self.stops("cublasSgemm_v2 failed: an error that cuBLAS has no words for (99)", *arguments,
                   fail="cublasSgemm_v2:2:99")

    def test_the_first_error_is_told(self):
        self.make()
        self.place("cublas")
        # The context is entered to open, for 24 pieces of memory and for 22 matrices; then comes the first product.
        line = self.stops("cuMemcpyDtoH_v2 failed: some CUDA error (700)", *PROMPT, "--linear", "cublas",
                          fail=f"cuMemcpyDtoH_v2:1:700,cuCtxPopCurrent_v2:{1 + 24 + 22 + 1}:701", but="pushed")
        self.assertNotIn("701", line)

    def test_memory_that_is_not_there_is_told_in_bytes(self):
        self.make()
        # 3 layers of 2 * 64 * 32 + 2 * 32 * 32 + 3 * 48 * 32 and 256 * 32 for the output; steps of up to 20 tokens
        # with vectors of up to 64.
        weights = 3 * (2 * 64 * 32 + 2 * 32 * 32 + 3 * 48 * 32) + 256 * 32
        wanted = 4 * (weights + 2 * 20 * 64)
        self.assertEqual(len(PROMPT[1]) + 2, 20)
        for kind, call in (("cublas", "cuMemAlloc_v2"), ("clblast", "clCreateBuffer")):
            self.place(kind)
            arguments = [*PROMPT, "--linear", kind]
            self.runs(*arguments, memory=wanted)
            line = self.stops([f"({wanted} bytes)", "smaller model"], *arguments, memory=wanted - 1)
            self.assertIn("the model's linear layers want 1", line)
            self.runs(*arguments, piece=4 * 256 * 32)
            out = 2 if kind == "cublas" else -4
            for nth in (1, 9, 24):
                self.stops(["out of memory on " + NAMES[kind], f"({wanted} bytes)", f"{call} failed"], *arguments,
                           fail=f"{call}:{nth}:{out}")
        # OpenCL may find memory only when it is first used.
        self.stops([f"({wanted} bytes)", "clEnqueueWriteBuffer failed"], *PROMPT, "--linear", "clblast",
                   fail="clEnqueueWriteBuffer:5:-5")
        # OpenCL says beforehand how large a piece may be. What CLBlast needs for itself, nobody knows.
        self.stops("at most 32 KiB in one piece", *PROMPT, "--linear", "clblast", piece=4 * 256 * 32 - 1)
        self.stops("CLBlastSgemm failed: out of memory", *PROMPT, "--linear", "clblast", fail="CLBlastSgemm:1:-4")

    def test_no_file_is_left_half_done(self):
        self.make()
        self.place("cublas")
        for fail in ("cuMemAlloc_v2:1:2", "cublasSgemv_v2:30:13"):
            self.stops("failed", *PROMPT, "--linear", "cublas", "--logits", self.logits, fail=fail)
            self.assertEqual(sorted(path.name for path in self.path.iterdir()), ["libraries", "model", "report"])


if __name__ == "__main__":
    generate.SKIM, FAKE, EMPTY = (os.path.abspath(sys.argv.pop(1)) for _ in range(3))
    unittest.main(verbosity=1)
