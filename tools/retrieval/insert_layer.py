"""Inserts a layer that changes nothing at first, whose heads look 7 to 11 tokens back: from the digits of a
question about two facts to the mark between their names. python insert_layer.py FROM TO PLACE"""
import os
import sys
import tempfile

import numpy as np
import torch

import texts
from model import HEAD, SHARPNESS, Config, Model, build_kernels

OFFSETS = (7, 8, 9, 11)


def mean_input(model, layer):
    """The mean of a layer's normalised input over some training texts."""
    rng = np.random.default_rng(1)
    filler = texts.Filler(rng, 5000, False)
    mix = texts.MIX | {"dense": 1, "ask": 0.5, "pair": 0.5, "votes": 0.2, "span": 512, "dilution": 1}
    batch = texts.training_batch(rng, filler, 8, 512, mix, False)
    _, (saved, *_) = model.forward(batch)
    h = saved[layer][1].float()
    mean = h.mean(0)
    along = h @ mean / (mean @ mean)
    print("mean input: norm", float(mean.norm()), "spread along it", float(along.std()))
    return mean


def main():
    source, target, place = sys.argv[1], sys.argv[2], int(sys.argv[3])
    saved = torch.load(source)
    config = Config()
    vars(config).update(saved["config"])
    wide = Config(**{k: v for k, v in vars(config).items() if k != "qkv"} | {"layers": config.layers + 1})
    with tempfile.TemporaryDirectory() as folder:
        kernels = build_kernels(os.path.join(folder, "kernels.so"))
    old, new = Model(config, kernels), Model(wide, kernels, 5)
    old.flat.copy_(saved["flat"])
    old.refresh()
    mean = mean_input(old, place)
    for name, p in old.param.items():
        layer, dot, rest = name.partition(".")
        moved = f"{int(layer) + (int(layer) >= place)}.{rest}" if dot else name
        new.param[moved].copy_(p)
    new.param[f"{place}.o"].zero_()
    new.param[f"{place}.down"].zero_()
    aim(new.param[f"{place}.qkv"], mean, wide, torch.from_numpy(new.frequencies.astype(np.float32)))
    torch.save({"flat": new.flat.clone(), "config": vars(wide), "step": saved["step"]}, target)


def aim(qkv, mean, config, frequencies):
    n = len(SHARPNESS)
    # Scores of 18 times 8 at the peak, from a query and a key along the mean.
    strength = (torch.tensor(SHARPNESS) * 8).sqrt()
    direction = mean / (mean @ mean)
    qkv[:(config.q_heads + config.kv_heads) * HEAD] *= 0.2
    for head, offset in enumerate(OFFSETS):
        turn = -frequencies[:n] * offset
        at = head * HEAD
        qkv[at:at + n] = (strength * torch.cos(turn))[:, None] * direction
        qkv[at + HEAD // 2:at + HEAD // 2 + n] = (strength * torch.sin(turn))[:, None] * direction
    for head in range(config.kv_heads):
        at = (config.q_heads + head) * HEAD
        qkv[at:at + n] = strength[:, None] * direction
        qkv[at + HEAD // 2:at + HEAD // 2 + n] = 0


if __name__ == "__main__":
    main()
