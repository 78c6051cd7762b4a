#!/usr/bin/env python3
"""Tests of skim evaluate: evaluate.py PATH_OF_SKIM PATH_OF_TEXTS PATH_OF_ANSWERS [unittest options]."""

import json
import subprocess
import sys
import unittest
from pathlib import Path

import generate
from generate import MODELS

SKIM = TEXTS = ANSWERS = ""
RETRIEVER = Path(__file__).resolve().parents[2] / "demo" / "retriever"
KEYS = {"accuracy", "questions", "length", "budget", "mode", "mass_kept", "top10_recall", "task", "combine", "bounds",
        "bounds_type", "dense_layers", "recent_pages", "contexts", "accuracy_low", "accuracy_high", "pages_read",
        "pages_total", "bytes_read", "bytes_dense", "seed", "decode_steps", "right", "masked", "page_size"}
SHIFT = 64


def run(*arguments):
    return subprocess.run([SKIM, "evaluate", *map(str, arguments)], capture_output=True, timeout=300)


def text(task, length, index, contexts, seed=0):
    """The text of a context, and its questions with their answers, for a model whose tokens are bytes."""
    size = length - index * 7 % SHIFT - {"pair": 15}.get(task, 8)
    output = subprocess.run([TEXTS, task, *map(str, (seed, length, index, contexts, size))], check=True, timeout=60,
                            capture_output=True, text=True).stdout
    body, rest = output[:size], output[size + 1:]
    return body, [tuple(line.split()) for line in rest.splitlines()]


class Case(generate.Case):
    def evaluate(self, *arguments, model=None):
        result = run("--model", model or self.model, "--device", "cpu", "--json", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def fails(self, status, words, *arguments):
        result = run(*arguments)
        stderr = result.stderr.decode()
        self.assertEqual(result.returncode, status, (arguments, stderr))
        self.assertTrue(stderr.strip().splitlines()[-1].startswith("skim: "), stderr)
        self.assertIn(words, stderr.strip().splitlines()[-1])
        self.assertEqual(result.stdout, b"")


class Cells(Case):
    def test_every_combination_that_matters_is_there_once(self):
        self.make()
        cells = self.evaluate("--mode", "dense,head,group,sinks,oracle", "--budget", "32,64", "--combine", "max,mean",
                              "--bounds", "minmax,meanstd", "--bounds-type", "native,i8", "--dense-layers", "0,1",
                              "--recent-pages", "1,2", "--length", "600,700", "--questions", 1)
        counts = {}
        for cell in cells:
            self.assertLessEqual(KEYS, cell.keys())
            counts[cell["mode"]] = counts.get(cell["mode"], 0) + 1
        self.assertEqual(counts, {"dense": 2 * 2, "head": 2 * 2 * 16, "group": 2 * 2 * 32, "sinks": 2 * 2 * 2,
                                  "oracle": 2 * 2 * 4})
        whole = {json.dumps({key: cell[key] for key in ("length", "budget", "mode", "combine", "bounds", "bounds_type",
                                                        "dense_layers", "recent_pages")}) for cell in cells}
        self.assertEqual(len(whole), len(cells))

    def test_without_a_sparse_layer_no_share_is_told(self):
        self.make()
        cell, = self.evaluate("--task", "passkey", "--mode", "head", "--budget", 64, "--length", 300, "--questions", 1,
                              "--dense-layers", 1000)
        self.assertEqual((cell["mass_kept"], cell["top10_recall"]), (None, None))
        self.assertEqual(cell["bytes_read"], cell["bytes_dense"])

    def test_dense_keeps_everything_and_so_does_a_budget_for_all(self):
        self.make()
        cells = self.evaluate("--task", "facts", "--mode", "dense,head,group,sinks,oracle", "--budget", 4096,
                              "--length", 600, "--questions", 3, "--dense-layers", 0, "--show")
        for cell in cells:
            self.assertEqual((cell["mass_kept"], cell["top10_recall"]), (1, 1))
            self.assertEqual(cell["answers"], cells[0]["answers"])
            self.assertEqual(cell["pages_read"], cell["pages_total"])
            self.assertEqual(cell["bytes_read"], cell["bytes_dense"])
            self.assertEqual((cell["questions"], cell["contexts"]), (3, 1))
            self.assertEqual([answer["question"] for answer in cell["answers"]],
                             [question for question, _ in text("facts", 600, 0, 1)[1][:3]])

    def test_the_oracle_keeps_most_and_all_keep_a_share(self):
        self.make()
        cells = self.evaluate("--task", "votes", "--mode", "oracle,head,group,sinks", "--budget", "64,256", "--length",
                              1500, "--questions", 4, "--dense-layers", 0)
        found = {(cell["mode"], cell["budget"]): cell for cell in cells}
        for cell in cells:
            best = found["oracle", cell["budget"]]
            for key in ("mass_kept", "top10_recall"):
                self.assertTrue(0 < cell[key] <= 1, cell)
            # Layers after the first get other queries in each cell, so that equals may differ a little.
            self.assertLessEqual(cell["mass_kept"], best["mass_kept"] + 0.02)
        for mode in ("oracle", "head", "group", "sinks"):
            self.assertLess(found[mode, 64]["mass_kept"], found[mode, 256]["mass_kept"])
        self.assertGreater(found["oracle", 64]["mass_kept"], 1.2 * found["head", 64]["mass_kept"])

    def test_what_is_read_is_counted(self):
        self.make()
        layers, q_heads, kv_heads, dim = 3, 2, 1, 32
        for mode, lists, bounds in (("head", q_heads, 2 * dim * 2), ("group", kv_heads, 2 * dim * 2),
                                    ("sinks", q_heads, 0), ("oracle", q_heads, 0), ("dense", kv_heads, 0)):
            (cell,) = self.evaluate("--task", "passkey", "--mode", mode, "--budget", 64, "--length", 500, "--questions",
                                    1, "--dense-layers", 1, "--kv-type", "f16")
            lengths = range(500 - 8 + 1, 500 + 5)  # the question's tokens, and four of the answer's five
            self.assertEqual(cell["decode_steps"], len(lengths))
            pages_read = pages_total = bytes_read = 0
            for length in lengths:
                pages = (length + 15) // 16
                dense = layers if mode == "dense" else 1
                read = dense * pages + (layers - dense) * 4
                pages_read += lists * read
                pages_total += lists * layers * pages
                tokens = 4 * 16 - (pages * 16 - length)
                bytes_read += dense * kv_heads * length * 2 * dim * 2
                bytes_read += (layers - dense) * (lists * tokens * 2 * dim * 2 + pages * kv_heads * bounds)
            self.assertEqual((cell["pages_read"], cell["pages_total"]), (pages_read, pages_total), mode)
            self.assertEqual(cell["bytes_read"], bytes_read, mode)

    def test_the_masked_pages_are_those_of_what_is_asked_for(self):
        self.make()
        for task, length in (("passkey", 700), ("facts", 800), ("pair", 900), ("votes", 1600)):
            questions = 3
            cells = self.evaluate("--task", task, "--mode", "dense", "--length", length, "--questions", questions,
                                  "--questions-per-context", 1, "--mask-needle")
            total = 0
            for index in range(questions):
                body, asked = text(task, length, index, questions)
                question, answer = asked[0]
                names = question[1:-1].split("|")
                hidden = set()
                for name in names:
                    mark, end = ("(" + name + ":", ")") if task == "votes" else ("[" + name + "=", "]")
                    place = body.find(mark)
                    self.assertGreaterEqual(place, 0)
                    while place >= 0:
                        hidden |= set(range(place // 16, body.index(end, place) // 16 + 1))
                        place = body.find(mark, place + 1)
                # The last page of the text goes with what it holds; what comes next begins a new one.
                kept = [page for page in range((len(body) + 15) // 16) if page not in hidden]
                tokens = sum(min(16, len(body) - 16 * page) for page in kept)
                for step in range(len(question) + len(answer) - 1):
                    total += (tokens + step + 1 + 15) // 16
            self.assertEqual(cells[0]["pages_total"], 3 * total, task)
            self.assertTrue(cells[0]["masked"])

    def test_the_same_every_time_and_another_seed_is_another_text(self):
        self.make()
        arguments = ["--task", "facts", "--mode", "head,oracle", "--budget", 64, "--length", 700, "--questions", 4]
        first = self.evaluate(*arguments)
        self.assertEqual(first, self.evaluate(*arguments))
        other = self.evaluate(*arguments, "--seed", 1)
        self.assertNotEqual(first[0]["mass_kept"], other[0]["mass_kept"])
        self.assertEqual(other[0]["seed"], 1)

    def test_cells_do_not_touch_each_other(self):
        """A cell gives the same whether it runs alone or with others, but for the rounding of larger products."""
        self.make()
        lists = ["--mode", "head,group,sinks,oracle,dense", "--budget", "48,96", "--length", 700, "--questions", 2,
                 "--bounds-type", "native,i8", "--dense-layers", "0,2", "--task", "facts"]
        for alone, together in zip(self.evaluate(*lists, "--show"), self.evaluate(*lists)):
            self.assertEqual(alone["pages_read"], together["pages_read"])
            self.assertAlmostEqual(alone["mass_kept"], together["mass_kept"], delta=0.01)
            self.assertAlmostEqual(alone["top10_recall"], together["top10_recall"], delta=0.05)


class Answers(Case):
    def test_dense_answers_are_those_of_generate(self):
        self.make()
        for task, tokens in (("passkey", 5), ("facts", 5), ("pair", 5), ("votes", 1)):
            (cell,) = self.evaluate("--task", task, "--mode", "dense", "--length", 1300, "--questions", 2,
                                    "--questions-per-context", 1, "--show", "--seed", 5)
            for index in range(2):
                body, asked = text(task, 1300, index, 2, seed=5)
                self.assertEqual(len(body), 1300 - 7 * index - len(asked[0][0]))
                prompt = self.path / "prompt"
                prompt.write_text(body + asked[0][0])
                report = self.succeeds("--prompt-file", prompt, "--dense", "--tokens", tokens)
                made = bytes(report["tokens"]).lstrip(b" ")
                wanted = "".join(chr(c) if 32 <= c < 127 else "?" for c in made)
                given = cell["answers"][index]
                self.assertEqual((given["question"], given["answer"]), asked[0])
                self.assertEqual(given["given"], wanted)

    def test_sparse_answers_are_those_of_a_cache(self):
        """Pages of the tool's own, run verb by verb, give what a cache of tier 1 gives."""
        self.make()
        length, budget = 1100, 64
        cells = self.evaluate("--task", "facts", "--mode", "head,group,sinks", "--length", length, "--questions", 2,
                              "--budget", budget, "--combine", "max,mean,softmax-max,softmax-mean", "--bounds",
                              "minmax,meanstd", "--bounds-type", "native,i8", "--dense-layers", "0,1", "--recent-pages",
                              "1,2", "--kv-type", "f16", "--seed", 3, "--show")
        body, asked = text("facts", length, 0, 1, seed=3)
        prompt = self.path / "prompt"
        prompt.write_text(body)
        given = set()
        for cell in cells[::3]:
            policy = ["--budget", budget, "--dense-layers", cell["dense_layers"], "--recent-pages", cell["recent_pages"],
                      "--select", "group" if cell["mode"] == "group" else "head"]
            if cell["mode"] == "sinks":
                policy += ["--sink-pages", 1]
            for name in ("combine", "bounds", "bounds_type"):
                if cell[name] is not None:
                    policy += ["--" + name.replace("_", "-"), cell[name]]
            for (question, _), answer in zip(asked, cell["answers"]):
                result = subprocess.run([ANSWERS, "--model", self.model, "--device", "cpu", "--kv-type", "f16",
                                         "--prompt-file", prompt, "--prompt", question, "--tokens", "5",
                                         *map(str, policy)], capture_output=True, timeout=60, check=True)
                made = bytes(map(int, result.stdout.split(b","))).lstrip(b" ")
                self.assertEqual(answer["given"], "".join(chr(c) if 32 <= c < 127 else "?" for c in made), cell)
                given.add(answer["given"])
        self.assertGreater(len(given), 4)  # policies matter

    def test_a_vocabulary_that_is_no_bytes(self):
        self.make({"vocab_size": 403}, tokenizer=(MODELS / "tokenizers/llama3/tokenizer.json").read_bytes())
        cells = self.evaluate("--task", "facts", "--mode", "dense,head", "--length", 700, "--questions", 2, "--budget",
                              64, "--dense-layers", 0)
        self.assertEqual(cells[0]["mass_kept"], 1)
        self.assertLess(cells[1]["mass_kept"], 1)
        # As many tokens as asked for, or a few less.
        pages = cells[0]["pages_total"] / cells[0]["decode_steps"] / 3
        self.assertTrue(700 / 16 - 2 < pages < 700 / 16 + 2, pages)

    def test_a_tokenizer_whose_tokens_are_bytes_changes_nothing(self):
        self.make()
        arguments = ["--task", "pair", "--mode", "dense,head", "--length", 777, "--questions", 3, "--budget", 64, "--show"]
        bare = self.evaluate(*arguments)
        tokenizer = json.loads((MODELS / "tokenizers/gpt2/tokenizer.json").read_text())
        characters = [chr(b) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174 else None for b in range(256)]
        odd = [b for b in range(256) if characters[b] is None]
        vocab = {characters[b] or chr(256 + odd.index(b)): b for b in range(256)}
        tokenizer["model"].update({"vocab": vocab, "merges": []})
        tokenizer["added_tokens"] = []
        (self.model / "tokenizer.json").write_text(json.dumps(tokenizer))
        same = self.evaluate(*arguments)
        for cell in bare + same:
            cell.pop("decode_tokens_per_s")
        self.assertEqual(bare, same)

    def test_what_is_shown(self):
        self.make()
        result = run("--model", self.model, "--task", "facts", "--mode", "dense,head", "--budget", "64,128", "--length",
                     700, "--questions", 1, "--show")
        self.assertEqual(result.returncode, 0, result.stderr)
        shown = result.stdout.decode()
        _, ((question, answer), *_) = text("facts", 700, 0, 1)
        for words in (question, f"{question}{answer}]", "tokens/s", "dense"):
            self.assertIn(words, shown)
        self.assertEqual(sum(line.startswith("dense") for line in shown.splitlines()), 1)
        self.assertEqual(sum(line.startswith("head") for line in shown.splitlines()), 2)


class BadInput(Case):
    def test_usage(self):
        self.make()
        model = ["--model", self.model]
        for words, arguments in (
                ("--model DIR", []),
                ("passkey, facts, pair or votes", [*model, "--task", "x"]),
                ("dense, head, group, sinks or oracle", [*model, "--mode", "head,x"]),
                ("dense, head, group, sinks or oracle", [*model, "--mode", "head,"]),
                ("--length takes", [*model, "--length", "600,"]),
                ("--length names 900 twice", [*model, "--length", "900,1000,900"]),
                ("--budget takes", [*model, "--budget", "0"]),
                ("--questions takes", [*model, "--questions", "0"]),
                ("at most 1 question", [*model, "--questions-per-context", "2"]),
                ("--seed takes at most 9223372036854775807", [*model, "--seed", 2**63]),
                ("at least", [*model, "--length", "100"]),
                ("at least", [*model, "--task", "votes", "--length", "700"]),
                ("one argument too many", [*model, "x"])):
            with self.subTest(words=words):
                self.fails(2, words, *arguments)

    def test_failures(self):
        self.make()
        self.fails(1, "no config.json", "--model", self.path / "none")
        self.fails(1, "memory", "--model", self.model, "--length", 2 ** 28, "--questions", 1)
        self.fails(1, "tokenizer cannot be used", "--model", MODELS / "llama2")


@unittest.skipUnless((RETRIEVER / "config.json").exists(), "no trained model")
class Retriever(Case):
    def test_a_trained_model_finds_what_it_needs_in_few_pages(self):
        cells = self.evaluate("--task", "passkey", "--length", 2048, "--budget", 256, "--mode", "dense,head,sinks",
                              "--questions", 10, model=RETRIEVER)
        accuracy = {cell["mode"]: cell["accuracy"] for cell in cells}
        self.assertGreaterEqual(accuracy["dense"], 0.9)
        self.assertGreaterEqual(accuracy["head"], 0.9)
        self.assertLessEqual(accuracy["sinks"], 0.3)

    def test_it_comes_from_nowhere_else(self):
        cells = self.evaluate("--task", "passkey", "--length", 2048, "--budget", 256, "--mode", "dense,head,oracle",
                              "--questions", 10, "--mask-needle", model=RETRIEVER)
        for cell in cells:
            self.assertLessEqual(cell["accuracy"], 0.3, cell["mode"])


if __name__ == "__main__":
    SKIM, TEXTS, ANSWERS = sys.argv[1:4]
    del sys.argv[1:4]
    generate.SKIM = SKIM
    unittest.main(verbosity=1)
