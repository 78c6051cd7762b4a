#!/usr/bin/env python3
"""Tests of skim generate: generate.py PATH_OF_SKIM [--models FOLDER] [unittest options].

Agreement is with what Hugging Face transformers computed (tests/models, made by make_models.py)."""

import json
import math
import os
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import tensors

SKIM = ""
MODELS = Path(__file__).resolve().parent.parent / "models"
RETRIEVER, ANSWERS = MODELS.parent.parent / "demo" / "retriever", MODELS / "retriever.json"
SEED = 11
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
         "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 256}


def run(*arguments, **options):
    return subprocess.run([SKIM, "generate", *map(str, arguments)], capture_output=True, timeout=300, **options)


def join(tokens):
    return ",".join(map(str, tokens))


def shapes(config):
    """name -> shape of the tensors of a Llama model."""
    hidden, heads, kv = (config[key] for key in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    dim, middle = config["head_dim"], config["intermediate_size"]
    result = {"model.embed_tokens.weight": [config["vocab_size"], hidden], "model.norm.weight": [hidden],
              "lm_head.weight": [config["vocab_size"], hidden]}
    for layer in range(config["num_hidden_layers"]):
        for name, shape in {"self_attn.q_proj": [heads * dim, hidden], "self_attn.k_proj": [kv * dim, hidden],
                            "self_attn.v_proj": [kv * dim, hidden], "self_attn.o_proj": [hidden, heads * dim],
                            "mlp.gate_proj": [middle, hidden], "mlp.up_proj": [middle, hidden],
                            "mlp.down_proj": [hidden, middle], "input_layernorm": [hidden],
                            "post_attention_layernorm": [hidden]}.items():
            result[f"model.layers.{layer}.{name}.weight"] = shape
    return result


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name)
        self.model = self.path / "model"
        self.logits = self.path / "logits.safetensors"

    def make(self, config=None, tensors_edit=None, header=None, tokenizer=None):
        """A Llama model with random weights; its tokens are bytes."""
        source = random.Random(SEED)
        config = {"architectures": ["LlamaForCausalLM"], **SHAPE, **(config or {})}
        self.model.mkdir(exist_ok=True)
        (self.model / "config.json").write_text(json.dumps(config))
        content = {}
        for name, shape in shapes({**SHAPE, **{k: v for k, v in config.items() if isinstance(v, int)}}).items():
            scale = 0 if len(shape) == 1 else 1.5 * shape[1] ** -0.5
            values = [source.gauss(0, scale) if scale else 1 for _ in range(math.prod(shape))]
            content[name] = ("F32", shape, tensors.encode(values, "F32"))
        if tensors_edit:
            tensors_edit(content)
        tensors.write(self.model / "model.safetensors", content, header=header)
        if tokenizer:
            (self.model / "tokenizer.json").write_bytes(tokenizer)
        return content

    def succeeds(self, *arguments, model=None):
        result = run("--model", model or self.model, "--json", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def fails(self, status, words, *arguments):
        """It ends with the status and one sentence that has the words, and prints nothing else."""
        result = run(*arguments)
        stderr = result.stderr.decode()
        self.assertEqual(result.returncode, status, (arguments, stderr))
        lines = stderr.strip().splitlines()
        self.assertTrue(lines and lines[-1].startswith("skim: "), (arguments, stderr))
        self.assertIn(words, lines[-1])
        self.assertEqual(result.stdout, b"")

    def refuses(self, words, *arguments):
        with self.subTest(words=words):
            self.fails(1, words, "--model", self.model, *(arguments or ("--token-ids", "1,2,3")))


class Agreement(Case):
    def test_logits_and_tokens_are_those_of_transformers(self):
        folders = sorted(path.parent for path in MODELS.glob("*/expected.safetensors"))
        self.assertTrue(folders, MODELS)
        for folder in folders:
            with self.subTest(model=folder.name):
                expected = json.loads((folder / "expected.json").read_text())
                prompt = self.path / "prompt"
                prompt.write_text(join(expected["prompt"]))
                report = self.succeeds("--token-ids", f"@{prompt}", "--tokens", len(expected["tokens"]), "--dense",
                                       "--kv-type", "f32", "--logits", self.logits, model=folder)
                self.assertEqual(report["tokens"], expected["tokens"])
                dtype, shape, wanted = tensors.read(folder / "expected.safetensors")["logits"]
                self.assertEqual((dtype, shape[0]), ("F32", len(expected["prompt"]) + len(expected["tokens"]) - 1))
                dtype, made_shape, made = tensors.read(self.logits)["logits"]
                self.assertEqual((dtype, made_shape), ("F32", shape))
                worst = 0
                for row in range(shape[0]):
                    a, b = (x[row * shape[1]:(row + 1) * shape[1]] for x in (made, wanted))
                    worst = max(worst, math.dist(a, b) / math.hypot(*b))
                print(f"{folder.name}: largest relative error of a position {worst:.1e}", file=sys.stderr)
                self.assertLess(worst, 1e-4)

    def test_tokens_are_those_of_the_tokenizers_library(self):
        folders = sorted((MODELS / "tokenizers").glob("*/expected.json"))
        self.assertEqual(len(folders), 3 if MODELS.name == "models" else len(folders))
        for expected in folders:
            source = (expected.parent / "tokenizer.json").read_bytes()
            self.make({"vocab_size": 403}, tokenizer=source)
            prompt = self.path / "prompt"
            for case in json.loads(expected.read_text()):
                with self.subTest(tokenizer=expected.parent.name, text=case["text"]):
                    prompt.write_bytes(case["text"].encode())
                    arguments = ["--prompt-file", prompt, "--tokens", 0]
                    if not case["ids"]:
                        self.refuses("the prompt is empty", *arguments)
                        continue
                    self.assertEqual(self.succeeds(*arguments)["prompt_ids"], case["ids"])


class Answers(Case):
    """The retrieval model answers what transformers recorded (make_answers.py)."""

    def test_answers_and_logits_are_those_of_transformers(self):
        questions = json.loads(ANSWERS.read_text())["questions"]
        self.assertGreater(len(questions), 5)
        prompt = self.path / "prompt"
        for question in questions:
            with self.subTest(task=question["task"], right=question["right"]):
                prompt.write_text(question["prompt"])
                report = self.succeeds("--prompt-file", prompt, "--tokens", 8, "--dense", "--kv-type", "f32",
                                       "--logits", self.logits, model=RETRIEVER)
                self.assertEqual(report["tokens"], question["tokens"])
                _, shape, values = tensors.read(self.logits)["logits"]
                last = (len(question["prompt"]) - 1) * shape[1]
                made, wanted = values[last:last + shape[1]], question["logits"]
                self.assertLess(math.dist(made, wanted), 1e-4 * math.hypot(*wanted))


class Texts(Case):
    def test_every_way_to_give_a_prompt_gives_the_same_text(self):
        self.make()
        text = "a prompt of bytes: \u00e9"
        (self.path / "prompt").write_bytes(text.encode())
        reports = [self.succeeds("--tokens", 9, "--prompt", text),
                   self.succeeds("--tokens", 9, "--prompt-file", self.path / "prompt"),
                   self.succeeds("--tokens", 9, "--token-ids", join(text.encode()))]
        result = run("--model", self.model, "--tokens", 9, "--prompt-file", "-", input=text.encode())
        self.assertEqual(result.stdout, bytes(reports[0]["tokens"]) + b"\n")
        self.assertIn(b"tokens/s", result.stderr)
        for report in reports:
            self.assertEqual(report["prompt_ids"], list(text.encode()))
            self.assertEqual(report["tokens"], reports[0]["tokens"])
            self.assertEqual(report["text"], bytes(report["tokens"]).decode(errors="replace"))
            self.assertEqual((report["stopped"], len(report["tokens"])), ("tokens", 9))

    def test_without_a_tokenizer_tokens_are_printed(self):
        self.make({"vocab_size": 600})
        self.refuses("600 tokens are no bytes", "--prompt", "text")
        report = self.succeeds("--token-ids", "5, 6\n7", "--tokens", 4)
        self.assertEqual((report["prompt_ids"], report["text"]), ([5, 6, 7], None))
        result = run("--model", self.model, "--token-ids", "5,6,7", "--tokens", 4)
        self.assertEqual(result.stdout.decode(), join(report["tokens"]) + "\n")

    def test_it_ends_at_an_end_token(self):
        self.make()
        made = self.succeeds("--prompt", "some text", "--tokens", 30)["tokens"]
        cut = made.index(made[6])
        for name, ends in (("config.json", made[6]), ("generation_config.json", [300, made[6]])):
            config = {} if name != "config.json" else {"eos_token_id": ends}
            self.make(config)
            if not config:
                (self.model / name).write_text(json.dumps({"eos_token_id": ends}))
            report = self.succeeds("--prompt", "some text", "--tokens", 30)
            self.assertEqual((report["tokens"], report["stopped"]), (made[:cut], "end"))

    def test_special_tokens_are_not_printed(self):
        self.make({"vocab_size": 300})
        report = self.succeeds("--token-ids", "299,40", "--tokens", 40)
        self.assertEqual(report["text"],
                         bytes(t for t in report["tokens"] if t < 256).decode(errors="replace"))

    def test_no_tokens(self):
        self.make()
        report = self.succeeds("--prompt", "abc", "--tokens", 0)
        self.assertEqual((report["tokens"], report["text"], report["decode_steps"]), ([], "", 0))

    @staticmethod
    def catches(process, number):
        status = Path(f"/proc/{process}/status").read_text()
        return int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (number - 1) & 1

    def test_interrupts_end_the_text(self):
        self.make()
        for json_too in ([], ["--json"]):
            process = subprocess.Popen(
                [SKIM, "generate", "--model", self.model, "--prompt", "abc", "--tokens", "400000", *json_too],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if json_too: # nothing is printed before the end
                while not self.catches(process.pid, signal.SIGINT):
                    time.sleep(0.01)
                time.sleep(1)
                start = b""
            else:
                start = process.stdout.read(1)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 1, stderr)
            self.assertIn(b"interrupted after 3 of 3 prompt tokens", stderr.splitlines()[-1])
            if json_too:
                report = json.loads(stdout)
                self.assertEqual(report["stopped"], "interrupted")
                self.assertLess(len(report["tokens"]), 400000)
            else:
                self.assertTrue((start + stdout).endswith(b"\n"))


class Reading(Case):
    TEXT = "".join(chr(97 + i * i % 26) for i in range(700))

    def logits_of(self, *arguments):
        self.succeeds("--logits", self.logits, *arguments)
        _, shape, values = tensors.read(self.logits)["logits"]
        return [values[i * shape[1]:(i + 1) * shape[1]] for i in range(shape[0])]

    def test_a_prompt_is_read_whole_whatever_its_steps(self):
        self.make()
        sparse = ["--budget", 16, "--page-size", 8, "--dense-layers", 0]
        rows = self.logits_of("--prompt", self.TEXT, "--tokens", 0)
        for length in (511, 512, 513, 700):
            self.succeeds("--prompt", self.TEXT[:length], "--tokens", 1, *sparse)
            part = self.logits_of("--prompt", self.TEXT[:length], "--tokens", 1, *sparse)
            self.assertEqual(len(part), length)
            for i in (0, 1, 300, length - 1):
                self.assertLess(math.dist(part[i], rows[i]) / math.hypot(*rows[i]), 1e-5, (length, i))

    def test_sparse_decode_reads_less_and_all_is_dense(self):
        self.make()
        arguments = ["--prompt", self.TEXT, "--tokens", 20, "--page-size", 8]
        dense = self.succeeds(*arguments, "--dense")
        self.assertFalse(dense["sparse"])
        self.assertEqual((dense["pages_read"], dense["bytes_read"]), (dense["pages_total"], dense["bytes_dense"]))
        self.assertGreater(dense["bytes_dense"], 0)
        self.assertEqual(dense["decode_steps"], 19)
        whole = self.succeeds(*arguments, "--budget", 800)
        self.assertEqual((whole["tokens"], whole["sparse"]), (dense["tokens"], False))
        sparse = self.succeeds(*arguments, "--budget", 64, "--dense-layers", 1)
        self.assertTrue(sparse["sparse"])
        # One list of one kv head a layer: the first layer reads all, two read 8 pages.
        pages = sum((length + 7) // 8 for length in range(701, 720))
        self.assertEqual((sparse["pages_total"], sparse["pages_read"]), (3 * pages, pages + 2 * 8 * 19))
        self.assertLess(sparse["bytes_read"], 0.6 * dense["bytes_read"])

    def test_the_cache_can_have_another_type(self):
        self.make()
        rows = self.logits_of("--prompt", self.TEXT, "--tokens", 0)
        for kind, limit in (("f16", 2e-2), ("bf16", 1e-1)):
            other = self.logits_of("--prompt", self.TEXT, "--tokens", 0, "--kv-type", kind)
            errors = [math.dist(a, b) / math.hypot(*b) for a, b in zip(other, rows)]
            self.assertLess(max(errors), limit)
            self.assertGreater(max(errors), 0)

    def test_the_same_call_gives_the_same_bits(self):
        self.make()
        arguments = ["--prompt", self.TEXT, "--tokens", 12, "--budget", 64, "--page-size", 8]
        self.assertEqual(self.logits_of(*arguments), self.logits_of(*arguments))


class Decoder:
    """A Llama in plain Python, whose attention is somebody else's."""

    def __init__(self, content):
        self.weights = {name: tensors.decode(data, dtype) for name, (dtype, _, data) in content.items()}

    def apply(self, name, x):
        weights = self.weights[name + ".weight"]
        return [sum(a * b for a, b in zip(weights[row:row + len(x)], x)) for row in range(0, len(weights), len(x))]

    def norm(self, name, x):
        scale = (sum(a * a for a in x) / len(x) + 1e-6) ** -0.5
        return [a * scale * weight for a, weight in zip(x, self.weights[name + ".weight"])]

    @staticmethod
    def rotate(x, dim, position):
        result = list(x)
        for head in range(0, len(x), dim):
            for d in range(dim // 2):
                angle = position * 10000 ** (-2 * d / dim)
                low, high = x[head + d], x[head + d + dim // 2]
                result[head + d] = low * math.cos(angle) - high * math.sin(angle)
                result[head + d + dim // 2] = high * math.cos(angle) + low * math.sin(angle)
        return result

    def run(self, tokens, attended):
        """What q, k and v are in every layer, and the logits, when attention gives attended[layer][token]."""
        hidden, dim, recorded = SHAPE["hidden_size"], SHAPE["head_dim"], []
        embedding = self.weights["model.embed_tokens.weight"]
        xs = [embedding[token * hidden:(token + 1) * hidden] for token in tokens]
        for layer in range(SHAPE["num_hidden_layers"]):
            prefix, parts = f"model.layers.{layer}.", {"q": [], "k": [], "v": []}
            for position, x in enumerate(xs):
                normed = self.norm(prefix + "input_layernorm", x)
                for part, values in parts.items():
                    value = self.apply(f"{prefix}self_attn.{part}_proj", normed)
                    values.append(value if part == "v" else self.rotate(value, dim, position))
                x = [a + b for a, b in
                     zip(x, self.apply(prefix + "self_attn.o_proj", attended[layer][position]))]
                normed = self.norm(prefix + "post_attention_layernorm", x)
                gate, up = (self.apply(f"{prefix}mlp.{part}_proj", normed) for part in ("gate", "up"))
                middle = [a / (1 + math.exp(-a)) * b for a, b in zip(gate, up)]
                xs[position] = [a + b for a, b in zip(x, self.apply(prefix + "mlp.down_proj", middle))]
            recorded.append(parts)
        return recorded, [self.apply("lm_head", self.norm("model.norm", x)) for x in xs]


class Traces(Case):
    """--trace holds what the attention got."""

    TEXT = "what the attention of a layer gets"

    def setUp(self):
        super().setUp()
        self.trace, self.out = self.path / "trace.safetensors", self.path / "out.safetensors"

    def close(self, made, wanted, limit=1e-4):
        self.assertEqual(len(made), len(wanted))
        self.assertLess(math.dist(made, wanted), limit * math.hypot(*wanted))

    def record(self, *arguments):
        report = self.succeeds("--trace", self.trace, *arguments)
        return report, tensors.read(self.trace)

    def metadata(self):
        content = self.trace.read_bytes()
        return json.loads(content[8:8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"]

    def test_the_model_computes_what_is_in_it(self):
        """Plain Python, with the attention that skim replay makes of the trace, gives the same q, k, v and logits."""
        content = self.make()
        run_tokens = len(self.TEXT) + 5
        report, trace = self.record("--prompt", self.TEXT, "--tokens", 6, "--dense", "--trace-queries", run_tokens,
                                    "--logits", self.logits)
        self.assertEqual(report["decode_steps"], 5)
        result = subprocess.run([SKIM, "replay", self.trace, "--budget", "100000", "--json", "--out", self.out],
                                capture_output=True, timeout=60)
        self.assertEqual(result.returncode, 0, result.stderr)
        out, width = tensors.read(self.out), SHAPE["num_attention_heads"] * SHAPE["head_dim"]
        attended = []
        for layer in range(SHAPE["num_hidden_layers"]):
            _, shape, values = out[f"layers.{layer}.out"]
            self.assertEqual(shape, [run_tokens, 2, 32])
            attended.append([values[t * width:(t + 1) * width] for t in range(run_tokens)])
        tokens = [*self.TEXT.encode(), *report["tokens"][:5]]
        recorded, logits = Decoder(content).run(tokens, attended)
        self.assertEqual(len(trace), 9)
        for layer, parts in enumerate(recorded):
            for part, heads in (("q", 2), ("k", 1), ("v", 1)):
                dtype, shape, values = trace[f"layers.{layer}.{part}"]
                self.assertEqual((dtype, shape), ("F32", [run_tokens, heads, 32]))
                self.close(values, sum(parts[part], []))
        self.close(tensors.read(self.logits)["logits"][2], sum(logits, []))
        self.assertEqual(self.metadata()["model"], "model")
        self.assertAlmostEqual(float(self.metadata()["scale"]), 32 ** -0.5, places=7)
        self.assertIn(f"{len(self.TEXT)} tokens of a prompt and 5 more", self.metadata()["note"])

    def test_queries_are_those_of_the_last_tokens(self):
        self.make()
        arguments = ["--prompt", Reading.TEXT, "--tokens", 20, "--budget", 64, "--page-size", 8]
        _, whole = self.record(*arguments, "--trace-queries", 100000)
        self.assertEqual(whole["layers.0.q"][1], [719, 2, 32])
        for count in (1, 19, 64, 511, 513, 718):
            _, part = self.record(*arguments, "--trace-queries", count, "--trace-layers", "2,0")
            self.assertEqual(sorted(part), [f"layers.{i}.{t}" for i in (0, 2) for t in "kqv"])
            for layer in (0, 2):
                self.assertEqual(part[f"layers.{layer}.q"][1], [count, 2, 32])
                self.assertEqual(part[f"layers.{layer}.q"][2], whole[f"layers.{layer}.q"][2][-count * 64:])
                self.assertEqual(part[f"layers.{layer}.k"], whole[f"layers.{layer}.k"])
        _, default = self.record(*arguments)
        self.assertEqual(default["layers.1.q"][1], [64, 2, 32])

    def test_keys_have_the_type_of_the_cache(self):
        self.make()
        _, wanted = self.record("--prompt", self.TEXT, "--tokens", 1)
        for kind, limit in (("f16", 1e-3), ("bf16", 8e-3)):
            _, made = self.record("--prompt", self.TEXT, "--tokens", 1, "--kv-type", kind)
            self.assertEqual((made["layers.0.q"][0], made["layers.0.k"][0]), ("F32", kind.upper()))
            self.assertEqual(made["layers.0.q"], wanted["layers.0.q"])
            for part in "kv":
                stored = tensors.decode(tensors.encode(wanted[f"layers.0.{part}"][2], kind.upper()), kind.upper())
                self.assertEqual(made[f"layers.0.{part}"][2], stored)
                self.close(made[f"layers.2.{part}"][2], wanted[f"layers.2.{part}"][2], 20 * limit)

    def test_a_text_that_ends_early_has_fewer_tokens(self):
        self.make()
        made = self.succeeds("--prompt", "some text", "--tokens", 30)["tokens"]
        cut = made.index(made[6])
        self.make({"eos_token_id": made[6]})
        _, trace = self.record("--prompt", "some text", "--tokens", 30, "--trace-queries", 20)
        self.assertEqual(trace["layers.0.k"][1], [9 + cut, 1, 32])
        self.assertEqual(trace["layers.0.q"][1], [9 + cut, 2, 32])

    def test_an_interrupt_leaves_no_file(self):
        self.make()
        process = subprocess.Popen([SKIM, "generate", "--model", self.model, "--prompt", "abc", "--tokens", "200000",
                                    "--trace", self.trace], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
        self.assertEqual(process.returncode, 1)
        self.assertEqual(sorted(path.name for path in self.path.iterdir()), ["model"])

    def test_what_cannot_be_recorded(self):
        self.make()
        for words, arguments in (("asks for layer 3; the model has 0 to 2", ["--trace-layers", "0,3"]),
                                 ("names layer 1 twice", ["--trace-layers", "1,0,1"])):
            self.refuses(words, "--prompt", "x", "--trace", self.trace, *arguments)
        self.refuses("choose another place for --trace", "--prompt", "x", "--trace", self.path / "no" / "file")
        for option in ("--trace-layers", "--trace-queries"):
            self.fails(2, f"{option} goes with --trace only", "--model", self.model, "--prompt", "x", option, "1")
        self.assertFalse(self.trace.exists())

    def test_two_files_have_two_names(self):
        self.make()
        same = ["--model", self.model, "--prompt", "x", "--trace", self.trace, "--logits", self.trace]
        self.fails(2, "--logits and --trace name the same file", *same)
        self.assertEqual(sorted(path.name for path in self.path.iterdir()), ["model"])
        self.trace.write_bytes(b"kept")
        self.fails(2, "--logits and --trace name the same file", *same)
        self.assertEqual(self.trace.read_bytes(), b"kept")


class Bench(Case):
    """skim bench --model."""

    def bench(self, *arguments):
        result = subprocess.run([SKIM, "bench", "--model", self.model, "--repeat", "3", "--json", *map(str, arguments)],
                                capture_output=True, timeout=120)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def test_a_token_is_the_sum_of_its_parts(self):
        self.make()
        for one in self.bench("--context", "300,1500", "--budget", 64, "--kv-type", "f16", "--model-layers", 40,
                              "--dense-layers", 5):
            self.assertIn(one["context"], (300, 1500))
            self.assertEqual((one["sparse"], one["layers"], one["model_layers"], one["dense_layers"]),
                             (True, 3, 40, 5))
            self.assertEqual((one["type"], one["weight_type"], one["q_heads"], one["kv_heads"], one["head_dim"]),
                             ("f16", "f32", 2, 1, 32))
            self.assertEqual(one["layer_weight_bytes"], 4 * 32 * (64 + 32 + 32 + 64 + 3 * 48))
            dense, sparse = one["dense_layer_attention_ms"], one["sparse_layer_attention_ms"]
            for kind, attention in (("dense", 40 * dense), ("sparse", 5 * dense + 35 * sparse)):
                token = one["fixed_ms"] + 40 * one["layer_linear_ms"] + attention
                self.assertAlmostEqual(one[f"{kind}_token_ms"] / token, 1, places=4)
                self.assertAlmostEqual(one[f"{kind}_tokens_per_s"] * token / 1e3, 1, places=4)
                self.assertAlmostEqual(one[f"{kind}_attention_share"] / (attention / token), 1, places=4)
                # Of the folder's own layers, and medians need not add up.
                self.assertGreater(one[f"{kind}_step_ms"], 0)
            self.assertAlmostEqual(one["speedup"], one["dense_token_ms"] / one["sparse_token_ms"], places=3)

    def test_without_model_layers_it_is_the_folder(self):
        self.make()
        one = self.bench("--context", 600, "--budget", 5000)
        self.assertEqual((one["sparse"], one["model_layers"], one["dense_layers"]), (False, 3, 2))
        result = subprocess.run([SKIM, "bench", "--model", self.model, "--repeat", "2", "--context", "600"],
                                capture_output=True, timeout=120)
        self.assertEqual(result.returncode, 0, result.stderr)
        for words in (b"600 tokens, 2 query and 1 kv heads of 32, f32", b"nothing runs sparse", b"tokens per second"):
            self.assertIn(words, result.stdout + result.stderr)

    def test_what_it_refuses(self):
        self.make()
        for words, arguments in (("memory", ["--context", 1000000000]), ("no config.json", ["--model", self.path])):
            result = subprocess.run([SKIM, "bench", "--model", self.model, *map(str, arguments)], capture_output=True,
                                    timeout=120)
            self.assertEqual((result.returncode, result.stdout), (1, b""))
            self.assertIn(words, result.stderr.decode().splitlines()[-1])


class Refused(Case):
    def test_usage(self):
        self.make()
        self.fails(2, "--model", "--prompt", "x")
        self.fails(2, "one of --prompt", "--model", self.model)
        for more in (["--token-ids", "1"], ["--prompt-file", self.path / "none"]):
            self.fails(2, "only one of --prompt", "--model", self.model, "--prompt", "x", *more)
        for tokens in ("x", "1,,x", "1,2x", "1;2", "-1"):
            self.fails(2, "whole numbers", "--model", self.model, "--token-ids", tokens)
            (self.path / "ids").write_text(tokens)
            self.refuses("give a file of whole numbers", "--token-ids", f"@{self.path / 'ids'}")
        for tokens in ("256", "99999999999999999999"):
            self.refuses("not below the model's 256 tokens", "--token-ids", tokens)
        self.refuses("empty", "--prompt", "")
        self.refuses("cannot read", "--prompt-file", self.path / "none")
        self.refuses("choose another place", "--prompt", "x", "--logits", self.path / "no" / "file")

    def test_folders_that_are_no_models(self):
        self.refuses("no config.json")
        self.model.mkdir()
        self.refuses("no config.json")
        for content in ("", "[1]", "{", '{"a": 1, "a": 2}', "\xff"):
            (self.model / "config.json").write_text(content, encoding="latin-1")
            self.refuses("not a JSON object")
        self.make()
        (self.model / "model.safetensors").unlink()
        self.refuses("neither model.safetensors nor")
        (self.model / "model.safetensors").mkdir()
        self.refuses("not a regular file")
        (self.model / "config.json").unlink()
        os.mkfifo(self.model / "config.json") # without a writer: nothing waits for one
        self.refuses("no regular file; give the folder")
        file = self.path / "file"
        file.write_text("{}")
        for path in (file, "/dev/null"):
            self.fails(1, "Not a directory; give the folder", "--model", path, "--token-ids", "1")
        for path in (self.path / "nowhere", ""):
            self.fails(1, "no config.json; give the folder", "--model", path, "--token-ids", "1")

    def test_configurations(self):
        for words, config in (
                ("GPT2LMHeadModel is not supported", {"architectures": ["GPT2LMHeadModel"]}),
                ("names no architecture", {"architectures": []}),
                ("names no architecture", {"architectures": "x"}),
                ("sliding window", {"architectures": ["MistralForCausalLM"], "sliding_window": 4096}),
                ("sliding window", {"architectures": ["Qwen2ForCausalLM"], "sliding_window": 4096,
                                    "use_sliding_window": True}),
                ("sliding window", {"layer_types": ["full_attention", "sliding_attention"]}),
                ("activation 'gelu'", {"hidden_act": "gelu"}),
                ("quantised", {"quantization_config": {"bits": 4}}), ("quantised", {"quantization_config": "awq"}),
                ("rope_scaling is no object", {"rope_scaling": 5}),
                ("rope_parameters is no object", {"rope_parameters": ["linear"]}),
                ("rotary scaling 'yarn'", {"rope_scaling": {"type": "yarn", "factor": 2}}),
                ("no factor", {"rope_scaling": {"rope_type": "linear"}}),
                ("has no type", {"rope_scaling": {"factor": 2}}),
                ("llama3 rotary scaling", {"rope_scaling": {"rope_type": "llama3", "factor": 8}}),
                ("a part of each head", {"partial_rotary_factor": 0.5}),
                ("hidden_size", {"hidden_size": 0}), ("hidden_size", {"hidden_size": None}),
                ("hidden_size", {"hidden_size": 2 ** 62}), ("vocab_size", {"vocab_size": 1.5}),
                ("num_hidden_layers", {"num_hidden_layers": -1}),
                ("no multiple", {"num_attention_heads": 3, "num_key_value_heads": 2}),
                ("channels are more", {"num_attention_heads": 65536, "head_dim": 65536}),
                ("odd", {"head_dim": 33}), ("rms_norm_eps", {"rms_norm_eps": "x"}),
                ("eos_token_id", {"eos_token_id": "x"}), ("eos_token_id", {"eos_token_id": list(range(20))}),
                ("tie_word_embeddings", {"tie_word_embeddings": 1})):
            self.make()
            (self.model / "config.json").write_text(
                json.dumps({"architectures": ["LlamaForCausalLM"], **SHAPE, **config}))
            self.refuses(words)

    def test_tensors_that_do_not_fit(self):
        name = "model.layers.1.mlp.up_proj.weight"
        self.make(tensors_edit=lambda content: content.pop(name))
        self.refuses(f"no tensor {name}")
        self.make(tensors_edit=lambda content: content.pop("lm_head.weight"))
        self.refuses("no tensor lm_head.weight")
        self.make(tensors_edit=lambda content: content.update({name: (*content[name][:1], [32, 48], content[name][2])}))
        self.refuses(f"tensor {name} has 2 dimensions [32, 48], but config.json asks for [48, 32]")
        self.make(tensors_edit=lambda content: content.update({name: ("I32", *content[name][1:])}))
        self.refuses("has the type I32")

    def test_tensors_that_nothing_uses_are_named(self):
        self.make(tensors_edit=lambda content: content.update(
            {"model.layers.0.self_attn.q_proj.bias": ("F32", [64], tensors.encode([1] * 64, "F32"))}))
        result = run("--model", self.model, "--prompt", "x", "--tokens", 1)
        self.assertEqual(result.returncode, 0)
        self.assertIn(b"warning: the model's files hold 1 tensor", result.stderr)

    def test_hostile_safetensors(self):
        name = "model.norm.weight"
        for words, edit in (
                ("after the file does", {"data_offsets": [10 ** 12, 10 ** 12 + 128]}),
                ("offsets lie", {"data_offsets": [0, 128]}), ("no data_offsets", {"data_offsets": [128, 0]}),
                ("no data_offsets", {"data_offsets": [-128, 0]}), ("no data_offsets", {"data_offsets": [2 ** 62]}),
                ("no data_offsets", {"data_offsets": [0, 128.0]}), ("after the file does", {"data_offsets": [0, 2 ** 62]}),
                ("its shape and type need", {"dtype": "F16"}), ("its shape and type need", {"shape": [2 ** 31] * 8}),
                ("has no shape", {"shape": [1] * 9}), ("has the type F7", {"dtype": "F7"})):
            self.make(header=lambda header, edit=edit: header[name].update(edit))
            self.refuses(words)
        def move(header, by):
            begin, end = header[name]["data_offsets"]
            header[name]["data_offsets"] = [begin + by, end + by]
        for by in (-4, 4): # overlaps the one before and leaves a hole, and the other way round
            self.make(header=lambda header, by=by: move(header, by))
            self.refuses("offsets lie")
        self.make(header=lambda header: header.update({"more": header[name]})) # two with the same bytes
        self.refuses("offsets lie")
        self.make(header=lambda header: header.pop("lm_head.weight")) # bytes that are nobody's
        self.refuses("offsets lie")
        self.make()
        file = self.model / "model.safetensors"
        whole = file.read_bytes()
        for content in (struct.pack("<Q", 2 ** 63) + whole[8:], struct.pack("<Q", 2 ** 64 - 1) + whole[8:],
                        whole[:-1], whole[:1000], whole[:5], b"", whole + b"x"):
            file.write_bytes(content)
            self.refuses("")

    def test_hostile_indices(self):
        self.make()
        (self.model / "model.safetensors").rename(self.model / "part.safetensors")
        index = self.model / "model.safetensors.index.json"
        names = list(shapes(SHAPE))
        index.write_text(json.dumps({"weight_map": {name: "part.safetensors" for name in names}}))
        self.succeeds("--prompt", "x", "--tokens", 1)
        for words, value in (("has no weight_map", {}), ("has no weight_map", {"weight_map": {}}),
                             ("names no file", {"weight_map": {"a": 5}}),
                             ("not in the model's folder", {"weight_map": {"a": "../part.safetensors"}}),
                             ("not in the model's folder", {"weight_map": {"a": ""}}),
                             ("cannot open", {"weight_map": {"a": "none.safetensors"}})):
            index.write_text(json.dumps(value))
            self.refuses(words)

    def test_a_context_longer_than_memory_allows(self):
        self.make()
        self.refuses("are available", "--prompt", "x", "--tokens", 2 ** 30)
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        # Drivers of Vulkan and OpenCL take many of these addresses, and how many is their own affair.
        alone = {"preexec_fn": limit, "env": {**os.environ, "VK_ICD_FILENAMES": "/nonexistent",
                                              "OCL_ICD_VENDORS": "/nonexistent"}}
        small = run("--model", self.model, "--prompt", "x", "--tokens", 1, **alone)
        if small.returncode == 0: # a sanitizer needs more addresses
            (self.path / "long").write_bytes(b"a" * 20_000_000)
            result = run("--model", self.model, "--prompt-file", self.path / "long", **alone)
            self.assertEqual((result.returncode, result.stdout), (1, b""))
            self.assertRegex(result.stderr, b"skim: .*(are available|no memory|out of memory)")
        self.refuses("no memory for the logits", "--prompt", "x", "--tokens", 2 ** 29, "--logits", self.logits)
        self.assertFalse(self.logits.exists())
        if small.returncode == 0:
            # The cache has room, and a trace beside it has not.
            tokens = int(0.6 * 2 ** 30 / (3 * 2 * 32 * 4))  # 3 layers, K and V, 32 f32
            result = run("--model", self.model, "--prompt", "x", "--tokens", tokens, "--trace", self.path / "trace",
                         **alone)
            self.assertEqual((result.returncode, result.stdout), (1, b""))
            self.assertIn(b"no memory for a trace of 3 layers", result.stderr)
        self.assertFalse((self.path / "trace").exists())

    def test_a_run_that_is_ended_leaves_no_file(self):
        self.make()
        for number in (signal.SIGTERM, signal.SIGHUP):
            process = subprocess.Popen([SKIM, "generate", "--model", self.model, "--prompt", "abc", "--tokens", "400000",
                                        "--trace", self.path / "trace", "--trace-queries", "1"],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       # Under nohup it is ignored, and a program leaves it so.
                                       preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
            process.stdout.read(1)
            process.send_signal(number)
            _, stderr = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 1, stderr)
            self.assertIn(b"interrupted", stderr.splitlines()[-1])
            self.assertEqual([path.name for path in self.path.iterdir() if "skim-" in path.name or path.name == "trace"], [])

    def test_a_file_over_the_limit_is_a_failure(self):
        self.make()
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        result = run("--model", self.model, "--prompt", "abc", "--trace", self.path / "trace", preexec_fn=limit)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn(b"File too large", result.stderr.splitlines()[-1])
        self.assertEqual([path.name for path in self.path.iterdir() if "skim-" in path.name or path.name == "trace"], [])

    def test_output_that_cannot_be_written(self):
        self.make()
        with open("/dev/full", "wb") as full:
            result = subprocess.run([SKIM, "generate", "--model", self.model, "--prompt", "x"], stdout=full,
                                    stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"cannot write to standard output", result.stderr.splitlines()[-1])

    def test_weights_that_are_no_numbers(self):
        self.make(tensors_edit=lambda content: content.update(
            {"model.norm.weight": ("F32", [32], tensors.encode([math.nan] * 32, "F32"))}))
        self.refuses("not finite")

    def test_tokenizers(self):
        alphabet = json.loads((MODELS / "tokenizers/gpt2/tokenizer.json").read_text())
        vocab = alphabet["model"]["vocab"]

        def change(path, value):
            result = json.loads(json.dumps(alphabet))
            place = result
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            return result

        for words, value in (
                ("model is Unigram", change(["model", "type"], "Unigram")),
                ("it is not byte-level", change(["pre_tokenizer"], None)),
                ("pre-tokenizer is Metaspace", change(["pre_tokenizer"], {"type": "Metaspace"})),
                ("normalizer is Lowercase", change(["normalizer"], {"type": "Lowercase"})),
                ("post-processor is BertProcessing", change(["post_processor"], {"type": "BertProcessing"})),
                ("end_of_word_suffix", change(["model", "end_of_word_suffix"], "</w>")),
                ("no token for the byte", change(["model", "vocab"],
                                                 {k: v for k, v in vocab.items() if k != "a"})),
                ("has lstrip", change(["added_tokens", 0, "lstrip"], True)),
                ("cannot be used", change(["pre_tokenizer"], {"type": "Sequence", "pretokenizers": [
                    {"type": "Split", "behavior": "Isolated", "pattern": {"Regex": "("}}]})),
                ("merge is no pair", change(["model", "merges"], ["ab"])),
                ("not in the vocabulary", change(["model", "merges"], ["a zzzz"])),
                ("no whole number", change(["model", "vocab", "a"], "x")),
                ("has a token 5000", change(["model", "vocab", "a"], 5000)),
                ("model.vocab is no object", change(["model", "vocab"], [])),
                ("no content", change(["added_tokens", 0, "content"], "")),
                ("not a JSON object", [])):
            self.make({"vocab_size": 403}, tokenizer=json.dumps(value).encode())
            self.refuses(words, "--prompt", "some text")
        self.make({"vocab_size": 403}, tokenizer=json.dumps(alphabet).encode())
        (self.path / "latin").write_bytes(b"caf\xe9")
        self.refuses("not UTF-8 from byte 3", "--prompt-file", self.path / "latin")

    def test_a_pattern_that_takes_for_ever_is_an_error(self):
        value = json.loads((MODELS / "tokenizers/gpt2/tokenizer.json").read_text())
        value["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Isolated", "pattern": {"Regex": "(a+)+$"}},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}
        self.make({"vocab_size": 403}, tokenizer=json.dumps(value).encode())
        self.refuses("PCRE2 error", "--prompt", "a" * 60 + "b")

    def test_damaged_files_never_crash(self):
        self.make({"vocab_size": 403}, tokenizer=(MODELS / "tokenizers/llama3/tokenizer.json").read_bytes())
        source = random.Random(SEED)
        for name, limit in (("config.json", 10 ** 9), ("tokenizer.json", 3000), ("model.safetensors", 2500)):
            file = self.model / name
            whole = file.read_bytes()
            for _ in range(60):
                damaged = bytearray(whole)
                for _ in range(source.randint(1, 3)):
                    damaged[source.randrange(min(limit, len(whole)))] = source.choice(b'0129-.e"[]{},:ax\\\xff ')
                file.write_bytes(damaged)
                result = run("--model", self.model, "--prompt", "some text", "--tokens", 2)
                self.assertIn(result.returncode, (0, 1), (name, bytes(damaged[:limit]), result.stderr))
            file.write_bytes(whole)


if __name__ == "__main__":
    SKIM = os.path.abspath(sys.argv.pop(1))
    if "--models" in sys.argv:
        place = sys.argv.index("--models")
        MODELS = Path(sys.argv.pop(place + 1)).resolve()
        sys.argv.pop(place)
    unittest.main(verbosity=1)
