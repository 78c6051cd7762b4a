#!/usr/bin/env python3
"""Records what Hugging Face transformers answers with the retrieval model: make_answers.py MODEL OUT.

OUT (tests/models/retriever.json) gets, for questions of every task about texts that no training saw, the prompt, the
right answer, the greedy tokens up to and without the end token, and the logits after the prompt, on the CPU in f32.
tests/tool/generate.py compares skim generate with them. Needs torch, transformers and numpy."""

import argparse
import json
import sys
from pathlib import Path

import numpy
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tools" / "retrieval"))
import texts  # noqa: E402

TASKS = ("passkey", "facts", "pair", "votes")
LENGTH, QUESTIONS, MOST = 1500, 3, 8


def answer(model, ends, prompt):
    """Greedy tokens, and the logits of the first."""
    past, given, made, first = None, torch.tensor([list(prompt)]), [], None
    with torch.no_grad():
        while len(made) < MOST:
            result = model(given, past_key_values=past, use_cache=True)
            past = result.past_key_values
            first = result.logits[0, -1] if first is None else first
            token = int(result.logits[0, -1].argmax())
            if token in ends:
                break
            made.append(token)
            given = torch.tensor([[token]])
    return made, [float(f"{x:.8g}") for x in first.tolist()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, attn_implementation="eager",
                                                              dtype=torch.float32).eval()
    path = options.model / "generation_config.json"
    ends = json.loads(path.read_text())["eos_token_id"] if path.exists() else []
    rng = numpy.random.default_rng(20261127)
    filler = texts.Filler(rng, 4000, True)
    questions = []
    for task in TASKS:
        for number in range(QUESTIONS):
            text, asked = texts.evaluation_text(rng, filler, task, LENGTH, 5 * number + 3)
            prompt = text + asked[0][0]
            made, logits = answer(model, ends, prompt.encode())
            questions.append({"task": task, "prompt": prompt, "right": asked[0][1], "tokens": made, "logits": logits})
            print(f"{task}: {bytes(made)!r}, right is {asked[0][1]!r}")
    lines = ",\n".join(json.dumps(question) for question in questions)
    versions = {module.__name__: module.__version__ for module in (torch, transformers)}
    options.out.write_text(f'{{"versions": {json.dumps(versions)}, "questions": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
