"""Writes a checkpoint as a Hugging Face folder: python export.py CHECKPOINT FOLDER"""
import json
import os
import sys

import torch
from safetensors.torch import save_file

from model import HEAD, Config


def byte_alphabet():
    """GPT-2's table: the printable character that stands for each byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


def tensors(flat, config, dtype):
    found, at = {}, 0
    for name, shape in config.shapes().items():
        count = torch.Size(shape).numel()
        found[name] = flat[at:at + count].view(shape)
        at += count
    q, kv = config.q_heads * HEAD, config.kv_heads * HEAD
    named = {"model.embed_tokens.weight": found["embed"], "model.norm.weight": found["norm"],
             "lm_head.weight": found["out"]}
    for i in range(config.layers):
        layer = f"model.layers.{i}."
        qkv, both = found[f"{i}.qkv"], found[f"{i}.gate_up"]
        named |= {layer + "input_layernorm.weight": found[f"{i}.norm1"],
                  layer + "post_attention_layernorm.weight": found[f"{i}.norm2"],
                  layer + "self_attn.q_proj.weight": qkv[:q],
                  layer + "self_attn.k_proj.weight": qkv[q:q + kv],
                  layer + "self_attn.v_proj.weight": qkv[q + kv:],
                  layer + "self_attn.o_proj.weight": found[f"{i}.o"],
                  layer + "mlp.gate_proj.weight": both[:config.ffn],
                  layer + "mlp.up_proj.weight": both[config.ffn:],
                  layer + "mlp.down_proj.weight": found[f"{i}.down"]}
    return {name: t.to(dtype).contiguous() for name, t in named.items()}


def model_config(config, dtype):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False,
            "attention_dropout": 0.0, "bos_token_id": None, "eos_token_id": None, "head_dim": HEAD,
            "hidden_act": "silu", "hidden_size": config.dim, "initializer_range": 0.02,
            "intermediate_size": config.ffn, "max_position_embeddings": 65536, "mlp_bias": False,
            "num_attention_heads": config.q_heads, "num_hidden_layers": config.layers,
            "num_key_value_heads": config.kv_heads, "rms_norm_eps": 1e-5, "rope_scaling": None,
            "rope_theta": config.base, "tie_word_embeddings": False, "torch_dtype": dtype, "use_cache": True,
            "vocab_size": 256}


def tokenizer():
    """Byte-level BPE without merges: the token of a byte is the byte."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "ignore_merges": False, "vocab": {c: b for b, c in sorted(byte_alphabet().items())},
                      "merges": []}}


def write(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1, ensure_ascii=False)
        f.write("\n")


def main():
    checkpoint, folder = sys.argv[1:3]
    saved = torch.load(checkpoint)
    config = Config()
    vars(config).update(saved["config"])
    os.makedirs(folder, exist_ok=True)
    save_file(tensors(saved["flat"], config, torch.float32), os.path.join(folder, "model.safetensors"),
              metadata={"format": "pt"})
    os.chmod(os.path.join(folder, "model.safetensors"), 0o644)
    write(os.path.join(folder, "config.json"), model_config(config, "float32"))
    # The answer ends with a closing mark, and so does the text.
    write(os.path.join(folder, "generation_config.json"), {"eos_token_id": [ord("]"), ord(")")]})
    write(os.path.join(folder, "tokenizer.json"), tokenizer())
    write(os.path.join(folder, "tokenizer_config.json"),
          {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
           "model_max_length": 65536})


if __name__ == "__main__":
    main()
