"""Dense accuracy of a checkpoint on held-out names and filler, in bf16: enough to steer a training by.

python evaluate.py CHECKPOINT SEED TASK:LENGTH:CONTEXTS... prints a JSON line for each."""
import json
import os
import sys
import tempfile

import numpy as np
import torch

import texts
from model import Config, Model, build_kernels
from train import score


def main():
    torch.set_num_threads(1)
    saved = torch.load(sys.argv[1])
    config = Config()
    vars(config).update(saved["config"])
    with tempfile.TemporaryDirectory() as folder:
        model = Model(config, build_kernels(os.path.join(folder, "kernels.so")))
    model.flat.copy_(saved["flat"])
    model.refresh()
    seed = int(sys.argv[2])
    filler = texts.Filler(np.random.default_rng([seed, 8]), 60000, True)
    for part in sys.argv[3:]:
        task, length, contexts = part.split(":")
        right = []
        for i in range(int(contexts)):
            rng = np.random.default_rng([seed, int(length), i])
            right += score(model, *texts.evaluation_text(rng, filler, task, int(length), i))
        print(json.dumps({"task": task, "length": int(length), "contexts": int(contexts),
                          "questions": len(right), "right": sum(right)}), flush=True)


if __name__ == "__main__":
    main()
