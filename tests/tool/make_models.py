#!/usr/bin/env python3
"""Makes small models with random weights, and what Hugging Face transformers computes with them:
make_models.py FOLDER [--large] [--only NAME].

Needs torch, transformers and tokenizers (pip install torch transformers tokenizers). tests/models was made with
the versions that its versions.json names. Each model's folder gets, beside what transformers saves, a file
expected.safetensors with the logits (F32, [positions, vocab]) and expected.json with the prompt and the greedy
tokens. --large makes models whose prompt takes more than one step, for a check by hand:

    make_models.py /tmp/models --large && tests/tool/generate.py build/tools/skim --models /tmp/models

Tokenizers are trained on a text of this file's own, so that nothing is fetched."""

import argparse
import json
import shutil
from pathlib import Path

import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 1, "vocab_size": 64, "max_position_embeddings": 4096}
LARGE = {"hidden_size": 192, "intermediate_size": 416, "num_hidden_layers": 4, "num_attention_heads": 6,
         "num_key_value_heads": 2, "vocab_size": 1000, "max_position_embeddings": 8192}
GREEDY = 64

LLAMA3_SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                  "original_max_position_embeddings": 64}

# name: class of the configuration, what it is given beside the shape, type of the weights, bytes of a shard
MODELS = {
    "llama2": ("LlamaConfig", {"num_key_value_heads": None, "head_dim": 32, "rms_norm_eps": 1e-5}, "float32", None),
    "llama3": ("LlamaConfig", {"rope_theta": 500000.0, "rope_scaling": LLAMA3_SCALING, "head_dim": 32},
               "float32", None),
    "llama-linear": ("LlamaConfig", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "head_dim": 64,
                                     "attention_bias": True, "mlp_bias": True}, "float32", None),
    "llama-f16": ("LlamaConfig", {"tie_word_embeddings": True, "head_dim": 32}, "float16", None),
    "llama-bf16-shards": ("LlamaConfig", {"rope_theta": 500000.0, "head_dim": 32}, "bfloat16", 40000),
    "mistral": ("MistralConfig", {"sliding_window": None, "head_dim": 48, "rms_norm_eps": 1e-5}, "float32", None),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True, "rope_theta": 1000000.0, "head_dim": 32},
              "float32", None),
    "qwen3": ("Qwen3Config", {"head_dim": 64, "tie_word_embeddings": True, "rope_theta": 1000000.0}, "float32", None),
}

# Patterns of Llama 3 and of Qwen 2.
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+")

TEXTS = [
    "", " ", "Hello, world!", "It's HERE, and they'LL've  come.\n\n  Then\tmore   \r\n", "1234567890 12 3",
    "def f(x):\n    return x ** 2  # square\n", "Größe, naïve café, cafe\u0301, A\u030angstro\u0308m",
    "日本語のテキスト。русский текст", "emoji 👍🏽 and ｆｕｌｌｗｉｄｔｈ ① ² Ⅳ ٣", "<|begin|>the<|end|> end<|plain|>",
    "\u00a0no\u2003break\u3000space \u2028 line", "a" * 300, "'S 'LL ſ 'ſ", "\x00\x01\x7f", "the the the there",
]


def randomise(model, generator, tied, stored):
    """Weights that make every part matter: the usual ones are so small that attention hardly does. They are rounded to
    the type in which they are stored, and nothing else is: the arithmetic is that of f32."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 2:
            noise *= parameter.shape[1] ** -0.5 * (1 if tied else 4 if "embed" in name else 1.5)
        else:
            noise = 0.2 * noise + (1 if "norm" in name else 0)
        parameter.data = noise.to(stored).to(torch.float32)


def run_greedily(model, tokens):
    """Logits of every position, the tokens, and by how much the first was ahead of the second at the closest."""
    past, given, made, rows = None, tokens, [], []
    with torch.no_grad():
        for _ in range(GREEDY):
            result = model(given, past_key_values=past, use_cache=True)
            past = result.past_key_values
            rows.append(result.logits[0])
            made.append(int(result.logits[0, -1].argmax()))
            given = torch.tensor([[made[-1]]])
    logits = torch.cat(rows).contiguous()
    top = logits[tokens.shape[1] - 1:].topk(2).values
    return logits, made, float((top[:, 0] - top[:, 1]).min() / logits.norm(dim=1).mean())


def make_model(folder, name, shape, prompt_tokens):
    kind, extra, dtype, shard = MODELS[name]
    settings = {**shape, **extra, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    if extra.get("num_key_value_heads", 0) is None:
        settings["num_key_value_heads"] = shape["num_attention_heads"]
    config = getattr(transformers, kind)(**settings)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager",
                                                          dtype=torch.float32).eval()
    stored = getattr(torch, dtype)
    # The first seed whose text has some variety and never a matter of rounding.
    for seed in range(1000):
        generator = torch.Generator().manual_seed(seed)
        randomise(model, generator, config.tie_word_embeddings, stored)
        tokens = torch.randint(0, shape["vocab_size"], (1, prompt_tokens), generator=generator)
        logits, made, margin = run_greedily(model, tokens)
        if len(set(made)) >= 8 and margin > 3e-4:
            break
    folder.mkdir(parents=True)
    model.to(stored).save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file({"logits": logits}, folder / "expected.safetensors")
    (folder / "expected.json").write_text(json.dumps({"prompt": tokens[0].tolist(), "tokens": made}) + "\n")
    print(f"{name}: seed {seed}, {len(set(made))} different tokens, smallest margin {margin:.1e} of a row's norm")


def make_tokenizer(folder, name):
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name == "gpt2")
    if name == "gpt2":
        tokenizer.pre_tokenizer = byte_level
    else:
        pattern = Regex(LLAMA3 if name == "llama3" else QWEN2)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(pattern, "isolated"), byte_level])
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator([__doc__, *(2 * TEXTS)], trainer)
    tokenizer.add_special_tokens(["<|begin|>", "<|end|>"])
    tokenizer.add_tokens([AddedToken("<|plain|>", normalized=False)])
    if name == "llama3":
        begin = ("<|begin|>", tokenizer.token_to_id("<|begin|>"))
        tokenizer.post_processor = processors.Sequence(
            [processors.ByteLevel(trim_offsets=False),
             processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[begin])])
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    cases = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        cases.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids)})
    (folder / "expected.json").write_text(json.dumps(cases, ensure_ascii=True, indent=0) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--only")
    options = parser.parse_args()
    torch.set_num_threads(2)
    for name in MODELS:
        if options.only in (None, name):
            folder = options.folder / name
            shutil.rmtree(folder, ignore_errors=True)
            make_model(folder, name, *((LARGE, 1100) if options.large else (SMALL, 80)))
    for name in ("gpt2", "llama3", "qwen2"):
        if options.only in (None, name):
            folder = options.folder / "tokenizers" / name
            shutil.rmtree(folder, ignore_errors=True)
            make_tokenizer(folder, name)
    versions = {module.__name__: module.__version__ for module in (torch, transformers, tokenizers)}
    (options.folder / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


if __name__ == "__main__":
    main()
