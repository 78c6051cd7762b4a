#!/usr/bin/env python3
"""Tests of the skim command: command.py PATH_OF_SKIM [unittest options]."""

import json
import math
import os
import random
import re
import resource
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import tensors

SKIM = ""
SEED = 7
BENCH_KEYS = """device backend type bounds_type q_heads kv_heads head_dim context budget page_size batch threads
estimate_ms select_ms attend_ms append_ms sparse_ms dense_ms bounds_bytes page_bytes dense_bytes read_gbps
page_read_gbps sparse_limit_ms dense_limit_ms sparse_of_limit dense_of_limit speedup""".split()
LAYER_KEYS = """layer sparse select pages_read pages_total bytes_read bytes_dense mass_kept relative_error sparse_ms
dense_ms""".split()
SMALL = ["--context", "256", "--q-heads", "4", "--kv-heads", "2", "--head-dim", "32", "--layers", "2",
         "--repeat", "2", "--budget", "64"]


def run(*arguments):
    return subprocess.run([SKIM, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def run_into(file, *arguments):
    """Runs with standard output on the file; None: closed."""
    prepare = None if file else lambda: os.close(1)
    return subprocess.run([SKIM, *map(str, arguments)], stdout=file, stderr=subprocess.PIPE, text=True,
                          timeout=120, preexec_fn=prepare)


def reals(text):
    """The numbers of a JSON text that are no integers, as they are written."""
    found = []
    json.loads(text, parse_float=found.append)
    return found


def nested(values, *shape):
    """A flat list as lists of lists."""
    for size in reversed(shape[1:]):
        values = [values[i:i + size] for i in range(0, len(values), size)]
    return values


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = Path(self.folder.name)
        self.trace = self.path / "trace.safetensors"
        self.out = self.path / "out.safetensors"
        self.random = random.Random(SEED)

    def fails(self, status, words, *arguments):
        """The command ends with the status and one sentence that has the words."""
        result = run(*arguments)
        self.assertEqual(result.returncode, status, (arguments, result.stderr))
        lines = result.stderr.strip().splitlines()
        self.assertTrue(lines and lines[-1].startswith("skim: "), (arguments, result.stderr))
        self.assertIn(words, lines[-1])
        self.assertEqual(result.stdout, "")

    def layer_tensors(self, index, tokens=45, queries=3, q_heads=4, kv_heads=2, dim=32, dtype="F32"):
        shapes = {"q": [queries, q_heads, dim], "k": [tokens, kv_heads, dim], "v": [tokens, kv_heads, dim]}
        result = {}
        for letter, shape in shapes.items():
            values = [self.random.gauss(0, 1) for _ in range(math.prod(shape))]
            result[f"layers.{index}.{letter}"] = (dtype, shape, tensors.encode(values, dtype))
        return result

    def layer(self, content, index, scale=None):
        parts = [content[f"layers.{index}.{letter}"] for letter in "qkv"]
        return tensors.Layer(*(nested(tensors.decode(data, dtype), *shape)
                               for dtype, shape, data in parts), scale)

    def write(self, content, **more):
        tensors.write(self.trace, content, **more)
        return content


class Replay(Case):
    def check(self, content, index, options, scale=None, tolerance=2e-5):
        """What --out wrote is what plain Python computes."""
        layer = self.layer(content, index, scale)
        written = tensors.read(self.out)
        dtype, shape, out = written[f"layers.{index}.out"]
        self.assertEqual((dtype, shape), ("F32", [layer.queries, layer.q_heads, layer.dim]))
        out = nested(out, *shape)
        dtype, shape, lse = written[f"layers.{index}.lse"]
        self.assertEqual((dtype, shape), ("F32", [layer.queries, layer.q_heads]))
        lse = nested(lse, *shape)
        dtype, shape, pages = written[f"layers.{index}.pages"]
        self.assertEqual((dtype, shape[:2]), ("I32", [layer.queries, layer.q_heads]))
        pages = nested(pages, *shape)
        widest = 0
        for query in range(layer.queries):
            for head, wanted in enumerate(layer.pages(query, options)):
                widest = max(widest, len(wanted))
                self.assertEqual(pages[query][head], wanted + [-1] * (shape[2] - len(wanted)))
                wanted_out, wanted_lse = layer.attend(query, head, wanted, options["page_size"])
                self.assertAlmostEqual(lse[query][head], wanted_lse, delta=tolerance)
                for a, b in zip(out[query][head], wanted_out):
                    self.assertAlmostEqual(a, b, delta=tolerance)
        self.assertEqual(shape[2], widest)

    def replay(self, *arguments):
        result = run("replay", self.trace, "--json", "--out", self.out, *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout), result.stderr

    OPTIONS = {"page_size": 8, "budget": 16, "sink": 0, "recent": 1, "bounds": "minmax", "spread": 1.0,
               "select": "group", "combine": "softmax-max", "dense": False}
    FLAGS = ["--page-size", "8", "--budget", "16", "--dense-layers", "0"]

    def test_i8_bounds_choose_nearly_the_same_pages(self):
        self.write(self.layer_tensors(0))
        native = self.replay(*self.FLAGS)[0]["layers"][0]
        i8 = self.replay(*self.FLAGS, "--bounds-type", "i8")[0]["layers"][0]
        self.assertTrue(i8["sparse"])
        self.assertEqual(i8["pages_read"], native["pages_read"])
        self.assertGreater(i8["mass_kept"], 0.8 * native["mass_kept"])
        self.assertLess(i8["bytes_read"], native["bytes_read"])

    def test_results_are_those_of_plain_python(self):
        variants = [({}, []),
                    ({"select": "head"}, ["--select", "head"]),
                    ({"combine": "max"}, ["--combine", "max"]),
                    ({"combine": "mean"}, ["--combine", "mean"]),
                    ({"combine": "softmax-mean"}, ["--combine", "softmax-mean"]),
                    ({"bounds": "meanstd", "spread": 0.5}, ["--bounds", "meanstd", "--spread", "0.5"]),
                    ({"budget": 32, "sink": 1, "recent": 2},
                     ["--budget", "32", "--sink-pages", "1", "--recent-pages", "2"]),
                    ({"budget": 22}, ["--budget-fraction", "0.5"])]
        content = self.write(self.layer_tensors(0))
        for change, flags in variants:
            base = self.FLAGS if "--budget-fraction" not in flags else \
                ["--page-size", "8", "--dense-layers", "0"]
            with self.subTest(flags=flags):
                self.replay(*base, *flags)
                self.check(content, 0, {**self.OPTIONS, **change})

    def test_types_and_page_sizes(self):
        for dtype, size in (("F16", 16), ("BF16", 8), ("F32", 32)):
            with self.subTest(dtype=dtype):
                content = self.write(self.layer_tensors(0, tokens=100, dtype=dtype))
                self.replay("--page-size", size, "--budget", 2 * size, "--dense-layers", "0")
                self.check(content, 0, {**self.OPTIONS, "page_size": size, "budget": 2 * size})

    def test_heads_without_groups_have_lists_of_their_own(self):
        content = self.write(self.layer_tensors(0, q_heads=3, kv_heads=3))
        self.replay(*self.FLAGS)
        self.check(content, 0, {**self.OPTIONS, "select": "head"})

    def test_scale_of_the_metadata_counts(self):
        content = self.write(self.layer_tensors(0), metadata={"scale": "0.5", "model": "m", "note": "n"})
        report, _ = self.replay(*self.FLAGS)
        self.assertEqual((report["model"], report["note"]), ("m", "n"))
        self.check(content, 0, self.OPTIONS, scale=0.5)

    def test_dense_layers_counts_the_layers_of_the_model(self):
        content = self.write({**self.layer_tensors(5), **self.layer_tensors(1, q_heads=2, kv_heads=1)})
        report, _ = self.replay("--page-size", "8", "--budget", "16")
        self.assertEqual([(layer["layer"], layer["sparse"]) for layer in report["layers"]],
                         [(1, False), (5, True)])
        self.check(content, 1, {**self.OPTIONS, "dense": True})
        self.check(content, 5, self.OPTIONS)
        dense, sparse = report["layers"]
        self.assertEqual((dense["pages_read"], dense["bytes_read"], dense["mass_kept"],
                          dense["relative_error"]),
                         (dense["pages_total"], dense["bytes_dense"], 1.0, 0.0))
        self.assertLess(sparse["mass_kept"], 1.0)

    def test_long_prompts_are_appended_in_parts(self):
        content = self.write(self.layer_tensors(0, tokens=1100, queries=2, q_heads=2, kv_heads=1))
        self.replay("--page-size", "64", "--budget", "128", "--dense-layers", "0")
        self.check(content, 0, {**self.OPTIONS, "page_size": 64, "budget": 128})

    def test_every_token_can_have_a_query(self):
        content = self.write(self.layer_tensors(0, tokens=20, queries=20))
        self.replay(*self.FLAGS)
        self.check(content, 0, self.OPTIONS)

    def test_the_report_has_its_keys_and_adds_up(self):
        content = self.write(self.layer_tensors(0, queries=4))
        report, _ = self.replay(*self.FLAGS)
        self.assertEqual(report["device"], "cpu")
        (one,) = report["layers"]
        self.assertEqual(sorted(one), sorted(LAYER_KEYS))
        layer = self.layer(content, 0)
        read = total = bytes_read = bytes_dense = 0
        for query in range(4):
            length = layer.length(query)
            pages = -(-length // 8)
            lists = layer.pages(query, self.OPTIONS)[::layer.group]
            read += sum(map(len, lists))
            total += pages * layer.kv_heads
            tokens = sum(min(8, length - 8 * p) for each in lists for p in each)
            bytes_read += tokens * 2 * 32 * 4 + pages * layer.kv_heads * 2 * 32 * 4
            bytes_dense += length * layer.kv_heads * 2 * 32 * 4
        self.assertEqual((one["pages_read"], one["pages_total"]), (read, total))
        self.assertEqual((one["bytes_read"], one["bytes_dense"]), (bytes_read, bytes_dense))
        kept, difference, norm = 0, 0, 0
        for query in range(4):
            for head, pages in enumerate(layer.pages(query, self.OPTIONS)):
                out, lse = layer.attend(query, head, pages, 8)
                dense, all_lse = layer.attend(query, head, range(-(-layer.length(query) // 8)), 8)
                kept += math.exp(lse - all_lse) / (4 * layer.q_heads)
                difference += sum((a - b) ** 2 for a, b in zip(out, dense))
                norm += sum(b * b for b in dense)
        self.assertAlmostEqual(one["mass_kept"], kept, delta=1e-5)
        self.assertAlmostEqual(one["relative_error"], math.sqrt(difference / norm), delta=1e-5)

    def test_the_report_names_the_policy(self):
        self.write({**self.layer_tensors(0), **self.layer_tensors(1, q_heads=2, kv_heads=2)})
        names = ("bounds", "bounds_type", "select", "combine")
        for arguments, wanted, of_layers in (
                ([], ("minmax", "native", "auto", "softmax-max"), ["group", "head"]),
                (["--bounds", "meanstd", "--bounds-type", "i8", "--select", "head", "--combine", "mean"],
                 ("meanstd", "i8", "head", "mean"), ["head", "head"]),
                (["--select", "group", "--combine", "softmax-mean"],
                 ("minmax", "native", "group", "softmax-mean"), ["group", "group"])):
            report, _ = self.replay(*self.FLAGS, *arguments)
            self.assertEqual(tuple(report[name] for name in names), wanted)
            self.assertEqual([layer["select"] for layer in report["layers"]], of_layers)

    def test_nan_runs_with_a_warning_and_stays_where_it_is(self):
        content = self.layer_tensors(0)
        self.write(content)
        self.replay(*self.FLAGS)
        clean = tensors.read(self.out)["layers.0.out"][2]
        dtype, shape, data = content["layers.0.k"]
        data = tensors.encode([float("nan")], dtype) + data[4:]  # kv head 0
        self.write({**content, "layers.0.k": (dtype, shape, data)})
        report, warning = self.replay(*self.FLAGS)
        self.assertIn("skim: warning: layers.0.k holds NaN", warning)
        self.assertEqual(set(report["layers"][0]), set(LAYER_KEYS))
        dirty = tensors.read(self.out)["layers.0.out"][2]
        for query in range(3):
            second = slice(query * 4 * 32 + 2 * 32, (query + 1) * 4 * 32)  # heads of kv head 1
            self.assertEqual(dirty[second], clean[second])

    def test_the_table_says_what_it_means(self):
        self.write(self.layer_tensors(0))
        result = run("replay", self.trace, *self.FLAGS)
        self.assertEqual(result.returncode, 0)
        self.assertIn("mass kept", result.stdout)
        self.assertIn("differs from dense attention", result.stdout)
        result = run("replay", self.trace)
        self.assertIn("Nothing ran sparse", result.stdout)

    def test_nan_is_no_percentage(self):
        content = self.layer_tensors(0)
        dtype, shape, data = content["layers.0.k"]
        content["layers.0.k"] = dtype, shape, tensors.encode([float("nan")], dtype) + data[4:]
        self.write(content)
        result = run("replay", self.trace, *self.FLAGS)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("nan", result.stdout)
        self.assertIn("holds NaN or infinities", result.stdout)
        self.assertNotIn("differs from dense attention", result.stdout)

    def test_numbers_have_six_digits(self):
        self.write(self.layer_tensors(0))
        result = run("replay", self.trace, "--json", *self.FLAGS)
        self.assertTrue(reals(result.stdout))
        for text in reals(result.stdout):
            self.assertLessEqual(len(re.sub(r"e.*|^0*\.0*|\.", "", text)), 6, text)

    def test_tensors_at_odd_places_are_read(self):
        content = self.layer_tensors(0)
        self.write(content)
        self.replay(*self.FLAGS)
        wanted = self.out.read_bytes()
        text = self.trace.read_bytes()
        length = int.from_bytes(text[:8], "little")
        self.trace.write_bytes((length + 3).to_bytes(8, "little") + text[8:8 + length] + b"   " +
                               text[8 + length:])
        self.replay(*self.FLAGS)
        self.assertEqual(self.out.read_bytes(), wanted)


class Output(Case):
    """Where --out goes."""

    def setUp(self):
        super().setUp()
        self.write(self.layer_tensors(0))

    def replays(self, out, umask=-1):
        result = subprocess.run([SKIM, "replay", self.trace, "--out", out], capture_output=True, text=True,
                                timeout=120, umask=umask)
        self.assertEqual(result.returncode, 0, result.stderr)

    def names(self):
        return sorted(path.name for path in self.path.iterdir())

    def test_the_trace_is_not_its_own_output(self):
        before = self.trace.read_bytes()
        (self.path / "symbolic").symlink_to(self.trace)
        (self.path / "hard").hardlink_to(self.trace)
        names = self.names()
        for out in (self.trace, f"{self.path}/./{self.trace.name}", self.path / "symbolic",
                    self.path / "hard"):
            with self.subTest(out=out):
                self.fails(1, "--out is the trace itself", "replay", self.trace, "--out", out)
        self.fails(1, "--out is the trace itself", "replay", self.path / "symbolic", "--out", self.trace)
        self.assertEqual(self.trace.read_bytes(), before)
        self.assertEqual(self.names(), names)

    def test_files_of_others_stay(self):
        foreign = self.path / (self.out.name + ".part")
        foreign.write_text("foreign")
        self.replays(self.out)
        self.assertIn("layers.0.out", tensors.read(self.out))
        self.assertEqual(foreign.read_text(), "foreign")
        self.assertEqual(self.names(), sorted([self.trace.name, self.out.name, foreign.name]))

    def test_a_link_leads_to_the_file(self):
        folder = self.path / "folder"
        folder.mkdir()
        target, link = folder / "target", self.path / "link"
        target.write_text("old")
        link.symlink_to("folder/target")
        self.replays(link)
        self.assertTrue(link.is_symlink())
        self.assertIn("layers.0.out", tensors.read(target))
        self.assertEqual([path.name for path in folder.iterdir()], ["target"])

    def test_a_link_to_nothing(self):
        link = self.path / "link"
        link.symlink_to("nothing")
        self.fails(1, "link to nothing", "replay", self.trace, "--out", link)
        self.assertEqual(self.names(), ["link", self.trace.name])

    def test_permissions(self):
        def mode():
            return stat.S_IMODE(self.out.stat().st_mode)
        for umask, wanted in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
            self.out.unlink(missing_ok=True)
            self.replays(self.out, umask=umask)
            self.assertEqual(mode(), wanted)
        self.out.chmod(0o640)
        self.replays(self.out, umask=0o022)
        self.assertEqual(mode(), 0o640)

    def test_long_names(self):
        self.replays(self.path / ("x" * 255))
        self.fails(1, "choose another place", "replay", self.trace, "--out", self.path / ("x" * 256))

    def test_a_failed_replay_leaves_nothing(self):
        self.write(self.layer_tensors(0, dim=12))
        self.fails(1, "", "replay", self.trace, "--out", self.out)
        self.assertEqual(self.names(), [self.trace.name])

    def test_a_file_that_becomes_too_large_leaves_nothing(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))
        result = subprocess.run([SKIM, "replay", self.trace, "--out", self.out], capture_output=True,
                                text=True, timeout=120, preexec_fn=limit, restore_signals=False)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, "^skim: cannot write .*: File too large; ")
        self.assertEqual(self.names(), [self.trace.name])

    def test_places_that_are_none(self):
        for out in ("", self.path, self.trace / "out", f"{self.path}/none/"):
            with self.subTest(out=out):
                self.fails(1, "choose another place", "replay", self.trace, "--out", out)
        self.assertEqual(self.names(), [self.trace.name])

    def test_the_file_of_the_standard_output(self):
        with self.out.open("w") as file:
            result = run_into(file, "replay", self.trace, "--out", self.out)
        self.assertEqual(result.returncode, 1)
        self.assertIn("standard output's file", result.stderr)

    def test_a_device_is_written_in_place(self):
        self.replays("/dev/null")
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))


class StandardOutput(Case):
    def cases(self):
        self.write(self.layer_tensors(0))
        bench = ["bench", *SMALL]
        for arguments in (["devices"], ["replay", self.trace], bench, ["conform", "--quick", "--filter", "select"]):
            yield arguments
            yield [*arguments, "--json"]
        yield from (["--help"], ["help"], ["--version"], ["replay", "--help"], ["bench", "--version"])

    def cannot_write(self, file, reason, arguments):
        result = run_into(file, *arguments)
        if "built without its tests" in result.stderr:
            return
        lines = [line for line in result.stderr.splitlines() if not line.startswith("skim: warning: ")]
        with self.subTest(arguments=arguments):
            self.assertEqual((result.returncode, lines),
                             (1, [f"skim: cannot write to standard output: {reason}"]))

    def test_a_full_disk(self):
        for arguments in self.cases():
            with open("/dev/full", "w", encoding="utf-8") as full:
                self.cannot_write(full, "No space left on device", arguments)

    def test_a_closed_one(self):
        for arguments in self.cases():
            self.cannot_write(None, "Bad file descriptor", arguments)

    def test_a_closed_one_is_not_taken_for_the_output_file(self):
        self.write(self.layer_tensors(0))
        self.cannot_write(None, "Bad file descriptor", ["replay", self.trace, "--out", self.out])
        self.assertIn("layers.0.out", tensors.read(self.out))

    def test_who_prints_nothing_needs_none(self):
        result = run_into(None, "generate")
        self.assertEqual((result.returncode, len(result.stderr.splitlines())), (2, 1))


class BadTraces(Case):
    def test_a_missing_file_a_folder_and_an_empty_file(self):
        self.fails(1, "cannot open", "replay", self.path / "none")
        self.fails(1, "not a regular file", "replay", self.path)
        self.trace.write_bytes(b"")
        self.fails(1, "too short", "replay", self.trace)

    def test_a_pipe_without_a_writer(self):
        pipe = self.path / "pipe"
        os.mkfifo(pipe)
        self.fails(1, "not a regular file", "replay", pipe)

    def test_a_file_cut_anywhere(self):
        self.write(self.layer_tensors(0, tokens=20))
        whole = self.trace.read_bytes()
        for size in (7, 9, 10, 40, 300, len(whole) // 2, len(whole) - 1):
            self.trace.write_bytes(whole[:size])
            self.fails(1, "", "replay", self.trace)

    def test_other_files(self):
        for content in (b"\x10\0\0\0\0\0\0\0" + b"[1, 2, 3]       ", b"\xff" * 64, b"hello, world\n" * 9,
                        b"\x08\0\0\0\0\0\0\0" + b"{}      ", b"\x08\0\0\0\0\0\0\0" + b"{\"a\": 1"):
            self.trace.write_bytes(content)
            self.fails(1, "", "replay", self.trace)

    def broken(self, words, edit):
        content = self.layer_tensors(0)
        self.write(content, header=edit)
        with self.subTest(words=words):
            self.fails(1, words, "replay", self.trace)

    def test_names(self):
        content = self.layer_tensors(0)
        for wrong in ("layer.0.k", "layers.0.keys", "layers.00.k", "layers.x.k", "layers.-1.k", "layers.0.z",
                      "layers.99999999999.k", "k"):
            renamed = {wrong if name == "layers.0.k" else name: value for name, value in content.items()}
            self.write(renamed)
            self.fails(1, "layers.{i}.q", "replay", self.trace)
        for letter in "qkv":
            self.write({name: value for name, value in content.items() if not name.endswith(letter)})
            self.fails(1, f"layers.0.{letter} is missing", "replay", self.trace)

    def test_duplicate_names(self):
        self.write(self.layer_tensors(0))
        text = self.trace.read_bytes().replace(b"layers.0.v", b"layers.0.k")
        self.trace.write_bytes(text)
        self.fails(1, "duplicate", "replay", self.trace)

    def test_types(self):
        self.broken("has the type I32", lambda header: header["layers.0.k"].update(dtype="I32"))
        self.broken("has the type F64", lambda header: header["layers.0.q"].update(dtype="F64", shape=[3, 4, 16]))
        self.broken("has the type (none)", lambda header: header["layers.0.q"].pop("dtype"))
        content = self.layer_tensors(0)
        other = self.layer_tensors(0, dtype="F16")
        self.write({**content, "layers.0.v": other["layers.0.v"]})
        self.fails(1, "in one type", "replay", self.trace)

    def test_shapes(self):
        for shape in ([45, 64], [45, 2, 32, 1], [-45, 2, 32], [45, 2.0, 32], "45", None, [2 ** 32, 2, 32], [1] * 9):
            self.broken("has no shape", lambda header, s=shape: header["layers.0.k"].update(shape=s))
        self.broken("its shape and type need", lambda header: header["layers.0.k"].update(shape=[45, 2, 64]))
        self.broken("its shape and type need", lambda header: header["layers.0.k"].update(shape=[]))
        self.broken("its shape and type need", lambda header: header["layers.0.k"].update(shape=[0, 2, 32]))
        self.broken("its shape and type need",
                    lambda header: header["layers.0.k"].update(shape=[2 ** 31, 2 ** 31, 2 ** 31]))

    def test_shapes_that_disagree(self):
        base = self.layer_tensors(0)
        others = [("layers.0.v", {"tokens": 44}), ("layers.0.q", {"dim": 64}), ("layers.0.q", {"q_heads": 3}),
                  ("layers.0.q", {"queries": 46})]
        for name, change in others:
            self.write({**base, name: self.layer_tensors(0, **change)[name]})
            self.fails(1, "disagree", "replay", self.trace)
        self.write({**base, **self.layer_tensors(1, tokens=46)})
        self.fails(1, "same tokens and queries", "replay", self.trace)
        self.write({**base, **self.layer_tensors(1, queries=4)})
        self.fails(1, "same tokens and queries", "replay", self.trace)

    def test_lying_offsets(self):
        self.broken("after the file does", lambda header: header["layers.0.v"].update(
            data_offsets=[10 ** 9, 10 ** 9 + 11520]))
        self.broken("no data_offsets", lambda header: header["layers.0.v"].update(data_offsets=[8, 4]))
        self.broken("no data_offsets", lambda header: header["layers.0.v"].update(data_offsets=[-4, 4]))
        self.broken("no data_offsets", lambda header: header["layers.0.v"].pop("data_offsets"))
        self.broken("after the file does", lambda header: header["layers.0.v"].update(
            data_offsets=[2 ** 63 - 8, 2 ** 63 - 1]))
        self.broken("its data_offsets give", lambda header: header["layers.0.k"].update(data_offsets=[0, 8]))
        self.broken("offsets lie", lambda header: header["layers.0.v"].update(
            data_offsets=header["layers.0.k"]["data_offsets"]))

    def test_data_that_belongs_to_no_tensor(self):
        self.write(self.layer_tensors(0))
        self.trace.write_bytes(self.trace.read_bytes() + b"more")
        self.fails(1, "bytes of data", "replay", self.trace)

    def test_scale(self):
        for scale in ("0", "-1", "nan", "inf", "", "1x", "one", "0x1p-3", "0X8", " 0.5", "0.5 ", "0.5\n",
                      "+0.5", "1e", "1e+", ".", "1.2.3", "1,5", "1e39", "1e999", "1e-99", "1" * 99, 0.5, 1,
                      None, True, ["0.5"], {"a": 1}):
            with self.subTest(scale=scale):
                self.write(self.layer_tensors(0), metadata={"scale": scale})
                shown = json.dumps(scale, separators=(",", ":"))[:60]
                self.fails(1, f"scale is {shown}", "replay", self.trace)
        for scale in ("0.125", "1.25e-1", "125E-3", ".125", "1e+0", "2"):
            self.write(self.layer_tensors(0), metadata={"scale": scale})
            self.assertEqual(run("replay", self.trace).returncode, 0, scale)

    def test_random_damage_never_crashes(self):
        self.write(self.layer_tensors(0, tokens=20, queries=1))
        whole = self.trace.read_bytes()
        header = 8 + int.from_bytes(whole[:8], "little")
        for _ in range(60):
            damaged = bytearray(whole)
            for _ in range(self.random.randint(1, 4)):
                damaged[self.random.randrange(header)] = self.random.randrange(256)
            self.trace.write_bytes(damaged)
            result = run("replay", self.trace)
            self.assertIn(result.returncode, (0, 1), (bytes(damaged[:header]), result.stderr))

    def test_output_that_cannot_be_written(self):
        self.write(self.layer_tensors(0))
        self.fails(1, "choose another place", "replay", self.trace, "--out", self.path / "no" / "out")
        self.assertEqual(sorted(p.name for p in self.path.iterdir()), [self.trace.name])

    def test_a_head_dim_that_the_device_cannot(self):
        self.write(self.layer_tensors(0, dim=12))
        self.fails(1, "", "replay", self.trace)


class Usage(Case):
    def test_no_command_and_unknown_commands(self):
        self.fails(2, "--help", *[])
        self.fails(2, "no command 'estimate'", "estimate")
        self.fails(2, "no command '--budget'", "--budget", "5")

    def test_wrong_options(self):
        self.write(self.layer_tensors(0))
        wrong = [["--budget", "0"], ["--budget", "-1"], ["--budget", "many"], ["--budget", "12x"],
                 ["--budget", ""], ["--budget", "1.5"], ["--budget", "99999999999"], ["--budget"],
                 ["--page-size", "7"], ["--page-size", "0"], ["--page-size", "128"], ["--page-size", "x"],
                 ["--budget-fraction", "0"], ["--budget-fraction", "1.5"], ["--budget-fraction", "nan"],
                 ["--budget-fraction", "0x1p-1"], ["--budget-fraction", " 0.5"],
                 ["--spread", "-1"], ["--spread", "inf"], ["--spread", "x"], ["--select", "layer"],
                 ["--combine", "sum"], ["--bounds", "cube"], ["--bounds-type", "f8"], ["--sink-pages", "-1"],
                 ["--recent-pages", "x"], ["--dense-layers", "two"], ["--dense-below", "-5"],
                 ["--threads", "x"], ["--threads", "100000"], ["--threads", "1025"], ["--log", "loud"], ["--what"], ["-x"],
                 ["--disable", "avx1024"], ["--disable", "avx2,"], ["--disable", ""],
                 ["--json=yes"], ["--budget", "16", "--budget-fraction", "0.5"], ["second"],
                 ["--context", "5"]]
        for options in wrong:
            with self.subTest(options=options):
                self.fails(2, "", "replay", self.trace, *options)
        result = run("replay")
        self.assertRegex(result.stderr, "^skim: replay needs a TRACE; ")
        self.fails(2, "too many", "devices", "cpu")
        self.fails(2, "--device: unknown option", "devices", "--device", "xyz")
        for option in ("--dense-layers", "--model-layers"):
            self.fails(2, f"{option} goes with --model only", "bench", option, "2")
        self.fails(2, "--kv-type goes with --model only", "bench", "--kv-type", "f16")
        self.fails(2, "--type and --model exclude each other", "bench", "--model", "folder", "--type", "f16")
        for option in ("--q-heads", "--kv-heads", "--head-dim", "--layers", "--batch", "--prefill", "--sequences",
                       "--snapshot"):
            self.fails(2, f"{option} and --model exclude each other", "bench", "--model", "folder", option, "2")

    def test_wrong_options_of_bench(self):
        for options in (["--context", "0"], ["--context", "1,"], ["--context", "1,,2"], ["--context", "a"],
                        ["--type", "f64"], ["--q-heads", "0"], ["--kv-heads", "0"], ["--repeat", "0"],
                        ["--batch", "0"], ["--q-heads", "6", "--kv-heads", "4"], ["--head-dim", "0"]):
            with self.subTest(options=options):
                self.fails(2, "", "bench", *options)

    def test_what_the_device_cannot(self):
        self.write(self.layer_tensors(0))
        for device in ("toaster", "cpu:7", "cuda:99", "", "CPU"):
            with self.subTest(device=device):
                self.fails(1, "skim devices", "replay", self.trace, "--device", device)
        self.fails(1, "", "bench", *SMALL, "--head-dim", "33")

    def test_threads_that_cannot_be_started(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        def run_limited(*arguments):
            return subprocess.run([SKIM, *map(str, arguments)], capture_output=True, text=True, timeout=120,
                                  preexec_fn=limit)
        if run_limited("devices", "--threads", "1").returncode:
            self.skipTest("a sanitizer needs more addresses")
        self.write(self.layer_tensors(0))
        for arguments in (["replay", self.trace], ["bench", *SMALL], ["conform", "--quick"]):
            result = run_limited(*arguments, "--threads", "1024")
            if "built without its tests" in result.stderr:
                continue
            with self.subTest(arguments=arguments):
                self.assertEqual(result.returncode, 1, result.stderr)
                self.assertRegex(result.stderr, r"\Askim: not all threads \(\d+\) could be started.*\n\Z")

    def test_caches_beyond_the_memory_are_refused_at_once(self):
        self.fails(1, "", "bench", "--context", "2000000000", "--q-heads", "64", "--kv-heads", "64")
        self.fails(1, "", "bench", "--context", "4294967295", "--batch", "65536")

    def test_help_and_version(self):
        for arguments in (["--help"], ["-h"], ["-?"], ["help"], ["devices", "--help"], ["replay", "--help"],
                          ["replay", "-h"], ["bench", "--help"], ["bench", "-?"], ["conform", "--help"]):
            result = run(*arguments)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertIn("skim", result.stdout)
        for arguments in (["--version"], ["bench", "--version"]):
            result = run(*arguments)
            self.assertRegex(result.stdout, r"^skim \d+\.\d+\.\d+\n$")
        options = run("bench", "--help").stdout
        for option in """device json threads disable log help version budget budget-fraction page-size
                dense-below select combine bounds bounds-type spread sink-pages recent-pages q-heads kv-heads
                head-dim context type batch layers""".split():
            self.assertIn(f"--{option}", options)
        self.assertIn("--dense-layers", run("replay", "--help").stdout)


class Devices(Case):
    def test_every_backend_is_there_or_says_why_not(self):
        result = run("devices", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        backends = {backend["name"]: backend for backend in json.loads(result.stdout)["backends"]}
        self.assertEqual(set(backends), {"cuda", "vulkan", "opencl", "cpu"})
        for backend in backends.values():
            self.assertTrue(backend["devices"] or backend["reason"])
        (cpu,) = backends["cpu"]["devices"]
        self.assertEqual((cpu["selector"], cpu["type"]), ("cpu", "cpu"))
        self.assertIn("f16", cpu["limits"]["kv_types"])
        self.assertEqual(cpu["limits"]["page_sizes"], [8, 16, 32, 64])
        self.assertEqual(cpu["limits"]["bounds_types"], ["native", "i8"])

    def test_the_list_for_people(self):
        result = run("devices")
        self.assertEqual(result.returncode, 0)
        self.assertIn("cpu: ", result.stdout)
        self.assertRegex(result.stdout, r"vulkan(:0: \S|: none: \S)")

    def test_threads(self):
        result = json.loads(run("devices", "--json", "--threads", "1").stdout)
        (cpu,) = [b for b in result["backends"] if b["name"] == "cpu"][0]["devices"]
        self.assertEqual(cpu["limits"]["threads"], 1)

    def test_fast_paths_can_be_disabled(self):
        result = json.loads(run("devices", "--json", "--disable", "avx2,avx512").stdout)
        (cpu,) = [b for b in result["backends"] if b["name"] == "cpu"][0]["devices"]
        self.assertEqual(cpu["limits"]["features"], [])
        self.assertTrue(cpu["driver"].startswith("scalar"), cpu["driver"])


class Bench(Case):
    def bench(self, *arguments):
        result = run("bench", *SMALL, *arguments, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def test_keys_and_sums(self):
        one = self.bench()
        self.assertEqual([key for key in BENCH_KEYS if key not in one], [])
        self.assertEqual((one["backend"], one["context"], one["budget"]), ("cpu", 256, 64))
        self.assertEqual(one["bounds_bytes"], 16 * 2 * 2 * 32 * 2)
        self.assertEqual(one["page_bytes"], 4 * 16 * 2 * 2 * 32 * 2)
        self.assertEqual(one["dense_bytes"], 256 * 2 * 2 * 32 * 2)
        self.assertAlmostEqual(one["speedup"], one["dense_ms"] / one["sparse_ms"], delta=1e-3)
        limit = one["bounds_bytes"] / one["read_gbps"] + one["page_bytes"] / one["page_read_gbps"]
        self.assertAlmostEqual(one["sparse_limit_ms"], 1e-6 * limit, delta=1e-3 * limit)

    def test_a_share_of_the_limit_above_one_is_questioned(self):
        for context in ("64", "4096"):
            result = run("bench", *SMALL, "--context", context, "--kv-heads", "8", "--q-heads", "8", "--json")
            self.assertEqual(result.returncode, 0, result.stderr)
            one = json.loads(result.stdout)
            for share in ("sparse_of_limit", "dense_of_limit"):
                self.assertEqual(one[share] > 1, f"warning: {share}" in result.stderr, (one[share], result.stderr))

    def test_i8_bounds_are_counted_as_stored(self):
        one = self.bench("--bounds-type", "i8")
        self.assertEqual(one["bounds_type"], "i8")
        self.assertEqual(one["bounds_bytes"], 16 * 2 * 2 * (32 + 4) + 2 * 32 * 4)

    def test_a_page_of_two_lists_counts_once(self):
        one = self.bench("--select", "head")
        self.assertGreaterEqual(one["page_bytes"], 4 * 16 * 2 * 2 * 32 * 2)
        self.assertLessEqual(one["page_bytes"], 7 * 16 * 2 * 2 * 32 * 2)  # the last page is shared

    def test_shapes(self):
        for arguments in (["--type", "f32"], ["--type", "bf16", "--batch", "3"], ["--page-size", "64"],
                          ["--bounds", "meanstd", "--combine", "mean"], ["--context", "250"],
                          ["--kv-heads", "4"], ["--threads", "1"], ["--context", "17", "--budget", "16"]):
            with self.subTest(arguments=arguments):
                self.assertGreater(self.bench(*arguments)["sparse_ms"], 0)

    def test_several_contexts_make_a_list(self):
        several = self.bench("--context", "256,512")
        self.assertEqual([one["context"] for one in several], [256, 512])

    def test_sequences(self):
        one = self.bench("--sequences", "5")
        self.assertEqual(one["sequences"], 5)
        for key in ("fork_us", "truncate_us", "destroy_us", "begin_us", "append_zeroed_us", "append_kept_us"):
            self.assertGreater(one[key], 0)

    def test_prefill(self):
        one = self.bench("--prefill", "100")
        self.assertEqual(one["prefill_tokens"], 100)
        self.assertGreater(one["prefill_of_peak"], 0)
        self.assertAlmostEqual(one["prefill_of_peak"], one["prefill_gflops"] / one["fma_gflops"], delta=1e-3)

    def test_a_budget_for_everything_says_so(self):
        result = run("bench", *SMALL, "--budget", "256", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("nothing runs sparse", result.stderr)
        self.assertFalse(json.loads(result.stdout)["sparse"])

    def test_all_dense_is_not_compared(self):
        for options, reason in ((["--budget", "256"], "the budget"),
                                (["--dense-below", "5000"], "--dense-below")):
            result = run("bench", *SMALL, *options)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertRegex(result.stderr, f"skim: warning: {reason} .*nothing runs sparse")
            self.assertIn(f"Everything ran dense: {reason}", result.stdout)
            for word in ("times as fast", "estimate", "as one"):
                self.assertNotIn(word, result.stdout)

    def test_tiny_contexts_end_soon(self):
        result = run("bench", "--context", "1", "--repeat", "1", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertLessEqual(json.loads(result.stdout)["layers"], 4096)

    def test_one_is_singular(self):
        result = run("bench", *SMALL, "--layers", "1")
        self.assertIn("only 1 layer to", result.stderr)
        self.assertIn("; 1 layer\n", result.stdout)

    def test_numbers_have_six_digits(self):
        result = run("bench", *SMALL, "--json")
        for text in reals(result.stdout):
            self.assertLessEqual(len(re.sub(r"e.*|^0*\.0*|\.", "", text)), 6, text)

    def test_the_table(self):
        result = run("bench", *SMALL, "--prefill", "64")
        self.assertEqual(result.returncode, 0, result.stderr)
        for word in ("estimate", "select", "attend", "append", "dense", "Prefill"):
            self.assertIn(word, result.stdout)


class Conform(Case):
    def setUp(self):
        super().setUp()
        result = run("conform", "--filter", "no such case")
        if "built without its tests" in result.stderr:
            self.skipTest("built without the conformance suite")

    def test_the_last_line_counts(self):
        result = run("conform", "--quick", "--filter", "select", "--seed", "3")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertRegex(result.stdout.splitlines()[-1], r"^[1-9]\d* passed, 0 failed, \d+ skipped$")

    def test_json(self):
        result = run("conform", "--quick", "--filter", "select", "--json")
        report = json.loads(result.stdout)
        self.assertEqual(len(report["cases"]), report["passed"] + report["failed"] + report["skipped"])

    def test_what_cannot_run(self):
        self.fails(1, "", "conform", "--filter", "no such case")
        self.fails(1, "", "conform", "--device", "toaster")
        self.fails(1, "no cuda device: ", "conform", "--device", "cuda")
        self.fails(2, "0 to 1024", "conform", "--threads", "2000")
        self.fails(2, "", "conform", "--seed", "x")
        self.fails(2, "", "conform", "--allocation-max", "x")
        self.fails(1, '"cpu" selects no Vulkan device', "conform", "--device", "cpu", "--allocation-max", "65536")
        self.fails(1, "allocation_max is 100;", "conform", "--device", "vulkan", "--allocation-max", "100")


if __name__ == "__main__":
    # Some tests ask for a device that is not there: a machine with an NVIDIA GPU has none then, either.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    SKIM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=1)
