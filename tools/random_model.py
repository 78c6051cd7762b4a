#!/usr/bin/env python3
"""Write a Hugging Face folder with a known model's shape and random weights, for `skim bench --model`.

What such a model says is noise; how long it takes is what the real one would take, layer by layer. Fewer layers than
the real model has save memory: `skim bench --model FOLDER --model-layers N` scales to N. Needs numpy.

    tools/random_model.py --like llama-3-8b --layers 4 --out FOLDER
"""

import argparse
import json
import struct
import sys
from pathlib import Path

import numpy

LLAMA3 = {"rope_theta": 500000.0, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5}
LLAMA2 = {"rope_theta": 10000.0, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}


def shape(layers, hidden, intermediate, q_heads, kv_heads, head_dim, vocab, extra):
    return {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": intermediate,
            "num_attention_heads": q_heads, "num_key_value_heads": kv_heads, "head_dim": head_dim,
            "vocab_size": vocab, **extra}


SHAPES = {
    "llama-3-8b": shape(32, 4096, 14336, 32, 8, 128, 128256, LLAMA3),
    "llama-2-7b": shape(32, 4096, 11008, 32, 32, 128, 32000, LLAMA2),
}
TYPES = {"f16": ("F16", "float16"), "bf16": ("BF16", "bfloat16"), "f32": ("F32", "float32")}
BLOCK = 1 << 24  # random numbers that are made at a time


def tensors(config):
    """Yields name and shape of every tensor."""
    hidden, middle = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        for name, dims in (("self_attn.q_proj", (queries, hidden)), ("self_attn.k_proj", (keys, hidden)),
                           ("self_attn.v_proj", (keys, hidden)), ("self_attn.o_proj", (hidden, queries)),
                           ("mlp.gate_proj", (middle, hidden)), ("mlp.up_proj", (middle, hidden)),
                           ("mlp.down_proj", (hidden, middle)), ("input_layernorm", (hidden,)),
                           ("post_attention_layernorm", (hidden,))):
            yield f"model.layers.{layer}.{name}.weight", dims
    yield "model.norm.weight", (hidden,)
    if not config.get("tie_word_embeddings"):
        yield "lm_head.weight", (config["vocab_size"], hidden)


def encode(values, dtype):
    if dtype == "BF16":
        bits = values.astype("<f4").view("<u4")
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
    return values.astype("<f2" if dtype == "F16" else "<f4").tobytes()


def write_tensor(file, dims, dtype, random):
    """Normal numbers that keep the size of what they multiply; a norm's are 1."""
    count = int(numpy.prod(dims))
    if len(dims) == 1:
        file.write(encode(numpy.ones(count), dtype))
        return
    for first in range(0, count, BLOCK):
        block = random.standard_normal(min(BLOCK, count - first), dtype=numpy.float32)
        file.write(encode(block * dims[1] ** -0.5, dtype))


def write_weights(path, config, dtype, seed):
    header, end = {}, 0
    size = 4 if dtype == "F32" else 2
    for name, dims in tensors(config):
        first, end = end, end + size * int(numpy.prod(dims))
        header[name] = {"dtype": dtype, "shape": list(dims), "data_offsets": [first, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    random = numpy.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, dims in tensors(config):
            write_tensor(file, dims, dtype, random)
    return end


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--like", required=True, choices=SHAPES)
    parser.add_argument("--out", required=True, type=Path, help="the folder to make")
    parser.add_argument("--layers", type=int, help="how many to write (default: all)")
    parser.add_argument("--type", choices=TYPES, default="f16", help="of the weights (default f16)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    config = dict(SHAPES[options.like])
    if options.layers is not None:
        if options.layers < 1:
            sys.exit("random_model: --layers must be at least 1")
        config["num_hidden_layers"] = options.layers
    dtype, torch_name = TYPES[options.type]
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
              "tie_word_embeddings": False, **config, "torch_dtype": torch_name}
    options.out.mkdir(parents=True, exist_ok=True)
    written = write_weights(options.out / "model.safetensors", config, dtype, options.seed)
    (options.out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    print(f"{options.out}: {options.like}, layers: {config['num_hidden_layers']} of "
          f"{SHAPES[options.like]['num_hidden_layers']}, {options.type}, {written / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
