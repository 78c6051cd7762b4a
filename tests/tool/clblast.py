#!/usr/bin/env python3
"""Tests of skim generate --linear clblast with the OpenCL and the CLBlast of this machine, on every device:
clblast.py PATH_OF_SKIM [unittest options].

Without them there is nothing to test (77, which Meson counts as skipped), unless SKIM_REQUIRE has clblast in it.
On PoCL the first run compiles CLBlast's kernels, which takes half a minute; PoCL keeps them."""

import json
import math
import os
import sys
import unittest

import generate
import tensors

ABSENT = ("cannot be opened", "OpenCL has no device")
places = []


def find_places():
    """Fills places with all devices. Returns why there is none, or None."""
    model, prompt = generate.MODELS / "llama3", ["--token-ids", "1,2", "--tokens", "0", "--json"]
    while True:
        place = f"clblast:{len(places)}"
        result = generate.run("--model", model, *prompt, "--linear", place)
        words = result.stderr.decode()
        if any(reason in words for reason in ABSENT):
            return words
        if "they count from 0" in words:
            return None
        if result.returncode != 0:
            sys.exit(words)
        print(place, json.loads(result.stdout)["linear_device"], file=sys.stderr)
        places.append(place)


class Agreement(generate.Case):
    def compare(self, place, *arguments, model=None):
        host = self.path / "host.safetensors"
        wanted = self.succeeds(*arguments, "--logits", host, model=model)
        made = self.succeeds(*arguments, "--logits", self.logits, "--linear", place, model=model)
        self.assertEqual((made["linear"], made["tokens"]), (place, wanted["tokens"]))
        (_, shape, made), (_, wanted_shape, wanted) = (tensors.read(path)["logits"] for path in (self.logits, host))
        self.assertEqual(shape, wanted_shape)
        rows = [slice(i * shape[1], (i + 1) * shape[1]) for i in range(shape[0])]
        worst = max(math.dist(made[row], wanted[row]) / math.hypot(*wanted[row]) for row in rows)
        print(f"{place}: {shape[0]} positions, largest relative error {worst:.1e}", file=sys.stderr)
        self.assertLess(worst, 1e-4)

    def test_logits_and_tokens_are_those_of_the_host(self):
        for place in places:
            for name in ("llama-bf16-shards", "llama-f16", "llama3", "qwen2"):
                with self.subTest(model=name, place=place):
                    expected = json.loads((generate.MODELS / name / "expected.json").read_text())
                    self.compare(place, "--token-ids", generate.join(expected["prompt"]), "--tokens", 12, "--kv-type",
                                 "f32", model=generate.MODELS / name)

    def test_prompts_of_several_steps_and_of_one_token(self):
        self.make()
        for place in places:
            self.compare(place, "--prompt", generate.Reading.TEXT, "--tokens", 8, "--budget", 64, "--page-size", 8)
            self.compare(place, "--token-ids", 7, "--tokens", 8)


if __name__ == "__main__":
    generate.SKIM = os.path.abspath(sys.argv.pop(1))
    missing = find_places()
    if missing:
        print("skipped:", missing, file=sys.stderr)
        sys.exit(1 if "clblast" in os.environ.get("SKIM_REQUIRE", "") else 77)
    unittest.main(verbosity=1)
