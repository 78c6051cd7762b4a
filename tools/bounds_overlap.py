#!/usr/bin/env python3
"""How much of the lists chosen from native bounds is chosen from i8 bounds, too.

bounds_overlap.py SKIM [TRACE ...]: replays each trace, and a synthetic one whose keys have channels with
a strong bias, once with either storage, and prints the mean share of the pages that both chose, the last
page, which is always chosen, left out. Needs only Python; the synthetic trace is the same every time.
"""
import json
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

TOKENS, QUERIES, Q_HEADS, KV_HEADS, DIM = 4096, 16, 8, 2, 64
BUDGETS = (64, 256, 512)


def biased_trace(path):
    """Topics that come in runs, on channels whose bias is up to 40 times the spread of their keys."""
    rng = random.Random(1)
    bias = [[rng.gauss(0, 1) * (40 if d % 8 == 3 else 4) for d in range(DIM)] for _ in range(KV_HEADS)]
    topics = [[[rng.gauss(0, 1) for _ in range(DIM)] for _ in range(40)] for _ in range(KV_HEADS)]
    keys, values, queries, topic = [], [], [], 0
    for token in range(TOKENS):
        if token % 24 == 0:
            topic = rng.randrange(40)
        for head in range(KV_HEADS):
            keys += [bias[head][d] + topics[head][topic][d] + 0.5 * rng.gauss(0, 1) for d in range(DIM)]
            values += [rng.gauss(0, 1) for _ in range(DIM)]
    for _ in range(QUERIES):
        for head in range(Q_HEADS):
            wanted = topics[head // (Q_HEADS // KV_HEADS)][rng.randrange(40)]
            queries += [wanted[d] + rng.gauss(0, 1) for d in range(DIM)]
    header, body = {}, b""
    for name, data, shape in (("k", keys, [TOKENS, KV_HEADS, DIM]), ("v", values, [TOKENS, KV_HEADS, DIM]),
                              ("q", queries, [QUERIES, Q_HEADS, DIM])):
        stored = struct.pack(f"<{len(data)}e", *data)
        header[f"layers.0.{name}"] = {"dtype": "F16", "shape": shape,
                                      "data_offsets": [len(body), len(body) + len(stored)]}
        body += stored
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def lists(path):
    """The pages of every layer, query and head, as sets without the last page."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8:8 + length])
    found = []
    for name in sorted(header):
        if not name.endswith(".pages"):
            continue
        begin, end = header[name]["data_offsets"]
        pages = struct.unpack(f"<{(end - begin) // 4}i", content[8 + length + begin:8 + length + end])
        width = header[name]["shape"][-1]
        for at in range(0, len(pages), width):
            one = [page for page in pages[at:at + width] if page >= 0]
            found.append(set(one[:-1]))
    return found


def overlap(skim, trace, folder, options):
    chosen, kept = [], []
    for storage in ("native", "i8"):
        out = folder / f"{storage}.safetensors"
        result = subprocess.run([skim, "replay", trace, "--json", "--dense-layers", "0", "--bounds-type", storage,
                                 "--out", out, *options], check=True, capture_output=True, text=True)
        layers = json.loads(result.stdout)
        layers = layers["layers"] if isinstance(layers, dict) and "layers" in layers else layers
        layers = layers if isinstance(layers, list) else [layers]
        kept.append(sum(layer["mass_kept"] for layer in layers) / len(layers))
        chosen.append(lists(out))
    shares = [len(a & b) / len(a) for a, b in zip(*chosen) if a]
    return sum(shares) / len(shares), kept


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        biased = folder / "biased.safetensors"
        biased_trace(biased)
        print("| trace | bounds | budget | pages of both | mass kept, native | i8 |\n|---|---|---|---|---|---|")
        for trace in [*sys.argv[2:], biased]:
            for bounds in ("minmax", "meanstd"):
                for budget in BUDGETS:
                    if budget >= 512 and trace is not biased:
                        continue
                    share, kept = overlap(sys.argv[1], trace, folder, ["--bounds", bounds, "--budget", str(budget)])
                    print(f"| {Path(trace).stem} | {bounds} | {budget} | {share:.3f} | {kept[0]:.3f} "
                          f"| {kept[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
