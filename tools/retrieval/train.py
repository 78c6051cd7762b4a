"""Trains the retrieval model on the CPU. See README.md for how to repeat it.

Each process works through its own part of every batch; gradients meet in shared memory, and every process takes
the same step, so that all hold the same weights.
"""
import argparse
import json
import os
import re
import time

import numpy as np
import torch
import torch.multiprocessing as processes

import texts
from model import Config, Model, build_kernels, load_kernels

def learning_rate(step, o):
    """Warms up, holds, and falls along a cosine over the last part."""
    if step < o.warmup:
        return (step + 1) / o.warmup
    begin = o.steps * (1 - o.decay_part)
    if step < begin:
        return 1.0
    return 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * (step - begin) / (o.steps - begin)))


def orthogonal(m):
    """Newton-Schulz towards the nearest orthogonal matrix (Muon)."""
    x = m.to(torch.bfloat16)
    tall = x.shape[0] > x.shape[1]
    x = (x.t() if tall else x).contiguous()
    x = x / (x.float().norm() + 1e-7).to(torch.bfloat16)
    for _ in range(5):
        a = x @ x.t()
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.t() if tall else x).float()


class Optimizer:
    """AdamW for all, or Muon for the matrices between embedding and output."""

    def __init__(self, model, o):
        self.model, self.o = model, o
        self.mean, self.square = torch.zeros_like(model.flat), torch.zeros_like(model.flat)
        self.muon = [n for n in model.param if o.muon and "." in n and "norm" not in n]
        self.momentum = {n: torch.zeros_like(model.param[n]) for n in self.muon}
        self.decay = torch.zeros_like(model.flat)
        self.count, at = 0, 0
        for name, p in model.param.items():
            if "norm" not in name:
                self.decay[at:at + p.numel()] = o.weight_decay
            at += p.numel()

    def step(self, rate):
        m, g, o = self.model, self.model.flat_grad, self.o
        self.count += 1
        norm = float(g.norm())
        g *= min(1.0, o.clip / (norm + 1e-9))
        matrices = {n: m.param[n].clone() for n in self.muon}
        self.mean.lerp_(g, 1 - 0.9)
        self.square.mul_(0.98).addcmul_(g, g, value=1 - 0.98)
        root = (self.square / (1 - 0.98 ** self.count)).sqrt_().add_(1e-9)
        m.flat -= o.rate * rate * (self.mean / (1 - 0.9 ** self.count) / root + self.decay * m.flat)
        for name in self.muon:
            gradient, momentum, p = m.grad[name], self.momentum[name], m.param[name]
            momentum.lerp_(gradient, 0.05)
            update = orthogonal(gradient.lerp(momentum, 0.95))
            scale = max(1, p.shape[0] / p.shape[1]) ** 0.5
            p.copy_(matrices[name] * (1 - o.muon_rate * rate * o.weight_decay))
            p.add_(update, alpha=-o.muon_rate * rate * scale)
        m.refresh()
        return norm


def settings(step, o):
    """Length of the sequences, their mix and whether far items are hidden from the first layers, by progress."""
    part = step / o.steps
    warm = min(1.0, step / o.ramp) if o.ramp else 1.0
    mix = dict(o.mix)
    if step < o.mix_after:
        mix.update(pair=0.0, votes=0.0)
    mix["span"] = int(512 * (o.mix["span"] / 512) ** warm)
    mix["dilution"] = o.mix["dilution"] ** warm
    if o.late_part:
        mix["simple"] *= max(0.1, 1 - step / (o.late_part * o.steps))
    hide = part < o.hide_part and np.random.default_rng([o.seed, step, 6]).random() < o.hide
    return mix, hide


def pick_length(rng, step, o):
    late = o.late_part and step >= o.late_part * o.steps
    lengths = o.lengths_early if step < o.mix_after else o.lengths_late if late else o.lengths
    return int(rng.choice([n for n, _ in lengths], p=[p for _, p in lengths]))


def accuracy(model, filler, seed, hide):
    """Exact match on held-out names and filler: a few contexts, enough to steer by. With `hide`, the first layers
    do not see far items, as in training."""
    found = {}
    rng = np.random.default_rng([seed, 99])
    for task in ("facts", "pair", "votes"):
        for length, contexts in ((1000, 5), (6000, 1)):
            right = asked_all = 0
            for i in range(contexts):
                text, asked = texts.evaluation_text(rng, filler, task, length, i)
                right += sum(score(model, text, asked, hide))
                asked_all += len(asked)
            found[f"{task}@{length}"] = round(right / asked_all, 3)
    return found


def score(model, text, asked, hide=False):
    """Which questions are answered right: every digit is the most likely byte.

    All follow the text in one pass, each at the text's end and hidden from the others, as forks would be."""
    size = len(text)
    whole = text + "".join(q + a for q, a in asked)
    tokens = np.frombuffer(whole.encode("ascii"), np.uint8).astype(np.int64)[None, :]
    n = tokens.shape[1]
    positions = np.arange(n)[None, :].copy()
    chunk, item = np.zeros((1, n), np.int32), np.arange(1, n + 1, dtype=np.int32)[None, :].copy()
    far, near = np.zeros((1, n), np.float32), np.zeros((1, n), np.float32)
    chunk[:, size:] = size
    near[:, size:] = -1e30
    far_hidden = far.copy()
    for found in re.finditer(r"[\[(][^])]*[])]", text) if hide else ():
        far_hidden[0, found.start():found.end()] = -1e30
        item[0, found.start():found.end()] = found.start()
    near_hidden = np.minimum(near, far_hidden)
    at, answers = size, []
    for q, a in asked:
        end = at + len(q) + len(a)
        positions[0, at:end] = size + np.arange(end - at)
        item[0, at:end] = at
        answers.append((at + len(q), end))
        at = end
    batch = {"tokens": tokens, "positions": positions, "chunk_start": chunk, "item_start": item, "far": far,
             "near": near, "far_hidden": far_hidden, "near_hidden": near_hidden}
    h, _ = model.forward(batch, keep=False)
    best = (h @ model.narrow["out"].t()).float().argmax(1).numpy()
    return [bool((best[a - 1:b - 2] == tokens[0, a:b - 1]).all()) for a, b in answers]


def save(model, path, step):
    torch.save({"flat": model.flat.clone(), "config": vars(model.config), "step": step}, path + ".part")
    os.replace(path + ".part", path)


def run(rank, o, gradients, barrier):
    torch.set_num_threads(1)
    if o.workers > 1:
        os.setsid()  # schedulers share a CPU by session: one for each process
    parent = os.getppid()
    model = Model(Config(layers=o.layers, dim=o.dim, ffn=o.ffn), load_kernels(o.kernels), o.seed)
    if o.start:
        model.flat.copy_(torch.load(o.start)["flat"])
        model.refresh()
    optimizer = Optimizer(model, o)
    train_filler = texts.Filler(np.random.default_rng([o.seed, rank, 7]), 300000, False)
    held_out = texts.Filler(np.random.default_rng([o.seed, 8]), 20000, True)
    log = open(o.log, "a") if rank == 0 else None
    began, tokens, sums = time.time(), 0, {}
    for step in range(o.stop or o.steps):
        if o.workers > 1 and os.getppid() != parent:
            raise SystemExit("the first process ended")
        mix, hide = settings(step, o)
        length = pick_length(np.random.default_rng([o.seed, step, 5]), step, o)
        rng = np.random.default_rng([o.seed, rank, step])
        model.flat_grad.zero_()
        pieces = max(1, o.tokens // (o.piece * o.workers))
        for _ in range(pieces):
            batch = texts.training_batch(rng, train_filler, max(1, o.piece // length), length, mix, hide)
            losses, best = model.step(batch, max(1.0, float(batch["weights"].sum())) * pieces * o.workers)
            tokens += batch["tokens"].size * o.workers
            tally(sums, batch, losses, best)
        if o.workers > 1:
            gradients[rank].copy_(model.flat_grad)
            barrier.wait()
            model.flat_grad.copy_(gradients.sum(0))
            barrier.wait()
        norm = optimizer.step(learning_rate(step, o))
        if rank == 0 and (step + 1) % o.report == 0:
            line = {"step": step + 1, "minutes": round((time.time() - began) / 60, 2), "tokens": tokens,
                    "norm": round(norm, 2)}
            line |= {k: [round(v[0] / v[2], 3), round(v[1] / v[2], 3)] for k, v in sorted(sums.items())}
            sums = {}
            if (step + 1) % o.check == 0:
                line["held_out"] = accuracy(model, held_out, step, False)
                save(model, o.out, step + 1)
            log.write(json.dumps(line) + "\n")
            log.flush()
    if rank == 0:
        save(model, o.out, o.stop or o.steps)


def tally(sums, batch, losses, best):
    """Loss and accuracy of the first answer byte, by kind of question."""
    kinds = batch["kinds"].reshape(-1)
    hit = best == batch["targets"].reshape(-1)
    for number, name in enumerate(texts.KINDS, 1):
        these = kinds == number
        count = int(these.sum())
        if count:
            s = sums.setdefault(name, [0.0, 0.0, 0])
            s[0] += float(losses[these].sum())
            s[1] += float(hit[these].sum())
            s[2] += count
            if name == "fact":
                later = np.flatnonzero(these)[:, None] + np.arange(1, 5)
                later = later[later[:, -1] < len(hit)]
                s = sums.setdefault("later", [0.0, 0.0, 0])
                s[0] += float(losses[later].sum())
                s[1] += float(hit[later].sum())
                s[2] += later.size


def pairs(text):
    return [(int(n), float(p)) for n, p in (item.split(":") for item in text.split(","))]


def options():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", required=True, help="checkpoint to write")
    p.add_argument("--log", required=True)
    p.add_argument("--start", help="checkpoint to start from")
    p.add_argument("--stop", type=int, help="end at this step of the schedule")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--steps", type=int, default=6000)
    p.add_argument("--warmup", type=int, default=100)
    p.add_argument("--decay-part", type=float, default=0.4)
    p.add_argument("--tokens", type=int, default=16384, help="a step, all processes together")
    p.add_argument("--piece", type=int, default=4096, help="tokens of one pass")
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--weight-decay", type=float, default=0.05)
    p.add_argument("--clip", type=float, default=1.0)
    p.add_argument("--muon", action="store_true")
    p.add_argument("--muon-rate", type=float, default=0.02)
    p.add_argument("--dim", type=int, default=128)
    p.add_argument("--ffn", type=int, default=384)
    p.add_argument("--layers", type=int, default=5)
    p.add_argument("--mix", type=json.loads, default={}, help="overrides of the mix, JSON")
    p.add_argument("--mix-after", type=int, default=0, help="facts only before this step")
    p.add_argument("--ramp", type=int, default=1, help="steps until span and dilution are reached")
    p.add_argument("--hide", type=float, default=1.0, help="share of the steps that hide far items")
    p.add_argument("--hide-part", type=float, default=0.85)
    p.add_argument("--lengths-early", type=pairs, default=[(256, 1.0)])
    p.add_argument("--lengths", type=pairs, default=[(256, 0.4), (512, 0.4), (1024, 0.2)])
    p.add_argument("--lengths-late", type=pairs, default=[(256, 0.4), (512, 0.4), (1024, 0.2)])
    p.add_argument("--late-part", type=float, default=0.0,
                   help="from where lengths are the late ones; simple names fade until then. 0: never")
    p.add_argument("--report", type=int, default=50)
    p.add_argument("--check", type=int, default=250)
    o = p.parse_args()
    o.mix = texts.MIX | o.mix
    return o


def main():
    o = options()
    folder = os.path.dirname(os.path.abspath(o.out))
    o.kernels = os.path.join(folder, os.path.basename(o.out) + ".so")
    build_kernels(o.kernels)
    with open(o.log, "a") as log:
        log.write(json.dumps({k: v for k, v in vars(o).items() if k not in ("out", "log", "start", "kernels")})
                  + "\n")
    if o.workers == 1:
        run(0, o, None, None)
        return
    size = Model(Config(layers=o.layers, dim=o.dim, ffn=o.ffn), load_kernels(o.kernels)).flat.numel()
    gradients = torch.zeros(o.workers, size).share_memory_()
    context = processes.get_context("spawn")
    processes.spawn(run, (o, gradients, context.Barrier(o.workers)), nprocs=o.workers)


if __name__ == "__main__":
    main()
