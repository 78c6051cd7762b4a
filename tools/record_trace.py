#!/usr/bin/env python3
"""Record a trace for `skim replay`: the queries, keys and values of a model's layers on a text.

Takes any Hugging Face model that torch and transformers can load, as a folder or a hub name. Needs
`pip install torch transformers safetensors`. Keys and queries are taken where attention gets them, so
rotary embedding, if the model has one, has been applied. The format is described in docs/trace.md.

    tools/record_trace.py --model FOLDER --text FILE --out TRACE --queries 64 --layers 0,2,4
"""

import argparse
import sys
from pathlib import Path

TYPES = ("f16", "bf16", "f32")


def fail(message):
    sys.exit(f"record_trace: {message}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or hub name of the model")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--text", type=Path, help="UTF-8 text to run the model on")
    prompt.add_argument("--token-ids", metavar="N,N...|@FILE", help="or tokens, for a model without a tokenizer")
    parser.add_argument("--out", required=True, type=Path, help="the trace to write")
    parser.add_argument("--tokens", type=int, default=512, help="use at most so many (default 512)")
    parser.add_argument("--queries", type=int, default=64, help="record the last so many (default 64)")
    parser.add_argument("--layers", default="", help="such as 0,2,4 (default: all)")
    parser.add_argument("--type", choices=TYPES, default="f16", help="of the trace (default f16)")
    parser.add_argument("--name", default="", help="name for the metadata (default: --model)")
    parser.add_argument("--note", default="", help="a sentence for the metadata")
    return parser.parse_args()


class Recorder:
    """Keeps what the attention of each layer was called with: query, key, value, scale."""

    def __init__(self):
        self.calls = {}

    def keep(self, layer, query, key, value, scale):
        if layer is None:
            layer = len(self.calls)
        scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
        self.calls[layer] = (query.detach(), key.detach(), value.detach(), scale)

    def attention(self, module, query, key, value, attention_mask, scaling=None, **options):
        """An attention function of transformers: records, then does what sdpa does."""
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        self.keep(getattr(module, "layer_idx", None), query, key, value, scaling)
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling,
                                      **options)


def run_by_interface(path, inputs, recorder):
    """Models that take attention functions by name: every layer calls ours."""
    import torch
    from transformers import AttentionInterface, AutoModel
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register("record", recorder.attention)
    AttentionMaskInterface.register("record", sdpa_mask)
    model = AutoModel.from_pretrained(path, attn_implementation="record").float().eval()
    with torch.no_grad():
        model(**inputs)
    return model


def run_by_patch(path, inputs, recorder):
    """Any other model whose layers call torch's own function, in order."""
    import torch
    from transformers import AutoModel

    function = torch.nn.functional.scaled_dot_product_attention

    def record(query, key, value, *rest, **options):
        recorder.keep(None, query, key, value, options.get("scale"))
        return function(query, key, value, *rest, **options)

    model = AutoModel.from_pretrained(path).float().eval()
    torch.nn.functional.scaled_dot_product_attention = record
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        torch.nn.functional.scaled_dot_product_attention = function
    return model


def run(path, inputs):
    recorder = Recorder()
    try:
        model = run_by_interface(path, inputs, recorder)
    except (ImportError, ValueError, KeyError) as error:
        print(f"record_trace: not through the attention interface ({error}); patching torch")
        recorder.calls.clear()
        model = None
    if not recorder.calls:
        model = run_by_patch(path, inputs, recorder)
    if not recorder.calls:
        fail("the model calls neither transformers' attention interface nor torch's "
             "scaled_dot_product_attention; it cannot be recorded")
    return model, recorder.calls


def drop_repeats(tensor, kv_heads):
    """One head of each group, where the model repeated the kv heads for its query heads."""
    heads = tensor.shape[1]
    if not kv_heads or heads == kv_heads or heads % kv_heads:
        return tensor
    return tensor[:, :: heads // kv_heads]


def collect(calls, layers, kv_heads, queries, dtype):
    tensors, scales = {}, set()
    for layer in layers:
        if layer not in calls:
            fail(f"the model has no layer {layer}; it has {sorted(calls)}")
        query, key, value, scale = calls[layer]
        key, value = drop_repeats(key, kv_heads), drop_repeats(value, kv_heads)
        if key.shape != value.shape:
            fail(f"layer {layer}: keys {tuple(key.shape)} and values {tuple(value.shape)} differ; "
                 "a trace holds heads of one size")
        # [batch, heads, tokens, dim] to [tokens, heads, dim]
        for name, tensor in (("q", query[:, :, -queries:]), ("k", key), ("v", value)):
            tensors[f"layers.{layer}.{name}"] = tensor[0].transpose(0, 1).to(dtype).contiguous()
        scales.add(scale)
    if len(scales) > 1:
        fail(f"the layers scale differently ({sorted(scales)}); record them one by one")
    return tensors, scales.pop()


def read_inputs(options):
    """What the model is called with: the first --tokens tokens."""
    import torch
    from transformers import AutoTokenizer

    if options.text:
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        text = options.text.read_text(encoding="utf-8")
        return tokenizer(text, return_tensors="pt", truncation=True, max_length=options.tokens)
    ids = options.token_ids
    ids = Path(ids[1:]).read_text(encoding="utf-8") if ids.startswith("@") else ids
    return {"input_ids": torch.tensor([[int(word) for word in ids.replace(",", " ").split()][:options.tokens]])}


def main():
    options = arguments()
    try:
        import torch
        from safetensors.torch import save_file
    except ImportError as error:
        fail(f"{error}; pip install torch transformers safetensors")
    if not 1 <= options.queries <= options.tokens:
        fail("--queries must be between 1 and --tokens")
    inputs = read_inputs(options)
    tokens = inputs["input_ids"].shape[1]
    if tokens < options.tokens:
        print(f"record_trace: there are {tokens} tokens, fewer than {options.tokens}")
    if tokens < options.queries:
        fail("the text is shorter than --queries")
    model, calls = run(options.model, inputs)
    config = getattr(model.config, "text_config", model.config)
    layers = [int(layer) for layer in options.layers.split(",")] if options.layers else sorted(calls)
    dtype = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}[options.type]
    tensors, scale = collect(calls, layers, getattr(config, "num_key_value_heads", None),
                             options.queries, dtype)
    metadata = {"model": options.name or options.model, "scale": repr(scale)}
    if options.note:
        metadata["note"] = options.note
    save_file(tensors, options.out, metadata=metadata)
    size = options.out.stat().st_size
    print(f"{options.out}: {len(layers)} layers, {tokens} tokens, {options.queries} queries, "
          f"{size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
