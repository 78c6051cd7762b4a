#!/usr/bin/env python3
"""Times of PyTorch's flash attention on the first CUDA device, as JSON: dense decode of one token and causal prefill, for
the shapes of tools/gpu.sh. What Skim's dense path is held against."""
import json
import sys

try:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError as error:
    print(f"no PyTorch here: {error}")
    sys.exit(77)
if not torch.cuda.is_available():
    print("PyTorch finds no CUDA device")
    sys.exit(77)


def median_ms(call, repetitions=50):
    for _ in range(5):
        call()
    times = []
    for _ in range(repetitions):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def measure(q_heads, kv_heads, queries, context):
    def tensor(heads, tokens):
        return torch.randn(1, heads, tokens, 128, device="cuda", dtype=torch.float16)

    # Several layers in turn, so that keys do not stay in the cache.
    layers = [(tensor(kv_heads, context), tensor(kv_heads, context)) for _ in range(4)]
    q, turn = tensor(q_heads, queries), [0]

    def call():
        k, v = layers[turn[0] % len(layers)]
        turn[0] += 1
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=queries > 1, enable_gqa=q_heads != kv_heads)

    return {"q_heads": q_heads, "kv_heads": kv_heads, "queries": queries, "context": context, "ms": median_ms(call)}


results = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "runs": []}
for heads in (32, 8):
    for length in (1024, 4096, 8192, 32768, 131072):
        results["runs"].append(measure(32, heads, 1, length))
    for length in (2048, 8192, 32768):
        results["runs"].append(measure(32, heads, length, length))
print(json.dumps(results, indent=1))
