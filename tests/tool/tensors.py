"""Safetensors and the algorithm in plain Python, independent of the C code."""

import json
import math
import struct
from array import array

SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4}


def encode(values, dtype):
    if dtype == "F32":
        return array("f", values).tobytes()
    if dtype == "F16":
        return struct.pack(f"<{len(values)}e", *values)
    words = struct.unpack(f"<{len(values)}I", struct.pack(f"<{len(values)}f", *values))
    return struct.pack(f"<{len(values)}H", *((w + 0x7FFF + (w >> 16 & 1)) >> 16 & 0xFFFF for w in words))


def decode(data, dtype):
    count = len(data) // SIZES[dtype]
    if dtype == "BF16":
        words = struct.unpack(f"<{count}H", data)
        return list(struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *(w << 16 for w in words))))
    return list(struct.unpack(f"<{count}{ {'F32': 'f', 'F16': 'e', 'I32': 'i'}[dtype] }", data))


def write(path, tensors, metadata=None, header=None):
    """tensors: name -> (dtype, shape, bytes). header, if given, edits the header before it is written."""
    entries, data = {}, b""
    if metadata:
        entries["__metadata__"] = metadata
    for name, (dtype, shape, content) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape,
                         "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    if header:
        header(entries)
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read(path):
    """name -> (dtype, shape, values); checks what the format demands."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0 and content[8:9] == b"{"
    entries = json.loads(content[8:8 + length])
    entries.pop("__metadata__", None)
    data, end, tensors = content[8 + length:], 0, {}
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        assert first == end and last - first == SIZES[entry["dtype"]] * math.prod(entry["shape"])
        tensors[name] = (entry["dtype"], entry["shape"], decode(data[first:last], entry["dtype"]))
        end = last
    assert end == len(data)
    return tensors


def softmax_parts(scores):
    top = max(scores)
    weights = [math.exp(s - top) for s in scores]
    return weights, top + math.log(sum(weights))


class Layer:
    """One layer of a trace with the values as stored: q[query][head], k[token][head], v[token][head]."""

    def __init__(self, q, k, v, scale=None):
        self.q, self.k, self.v = q, k, v
        self.queries, self.q_heads = len(q), len(q[0])
        self.tokens, self.kv_heads, self.dim = len(k), len(k[0]), len(k[0][0])
        self.group = self.q_heads // self.kv_heads
        self.scale = scale or self.dim ** -0.5

    def length(self, query):
        return self.tokens - self.queries + query + 1

    def score(self, query, head, tokens, bounds, spread):
        kv = head // self.group
        total = 0.0
        for d, q in enumerate(self.q[query][head]):
            column = [self.k[t][kv][d] for t in tokens]
            if bounds == "minmax":
                total += max(q * min(column), q * max(column))
            else:
                mean = sum(column) / len(column)
                deviation = math.sqrt(sum((x - mean) ** 2 for x in column) / len(column))
                total += q * mean + spread * abs(q) * deviation
        return total

    def pages(self, query, options):
        """The pages of each query head, by DESIGN section 2."""
        size, length = options["page_size"], self.length(query)
        count = -(-length // size)
        forced = set(range(min(options["sink"], count)))
        forced |= set(range(max(0, count - max(1, options["recent"])), count))
        chosen = max(1, options["budget"] // size, len(forced))
        if chosen >= count or options["dense"]:
            return [list(range(count))] * self.q_heads
        free = [p for p in range(count) if p not in forced]
        scores = [[self.score(query, head, range(p * size, min(length, (p + 1) * size)),
                              options["bounds"], options["spread"]) for p in free]
                  for head in range(self.q_heads)]
        if options["select"] == "group":
            combined = [combine(scores[kv * self.group:(kv + 1) * self.group], options["combine"],
                                self.scale) for kv in range(self.kv_heads)]
            scores = [combined[head // self.group] for head in range(self.q_heads)]
        lists = []
        for row in scores:
            best = sorted(zip(row, free), key=lambda pair: (-pair[0], pair[1]))
            lists.append(sorted(forced | {p for _, p in best[:chosen - len(forced)]}))
        return lists

    def attend(self, query, head, pages, size):
        kv, length = head // self.group, self.length(query)
        tokens = [t for p in pages for t in range(p * size, min(length, (p + 1) * size))]
        scores = [self.scale * sum(a * b for a, b in zip(self.q[query][head], self.k[t][kv]))
                  for t in tokens]
        weights, lse = softmax_parts(scores)
        total = sum(weights)
        out = [sum(w * self.v[t][kv][d] for w, t in zip(weights, tokens)) / total
               for d in range(self.dim)]
        return out, lse


def combine(rows, how, scale):
    if how.startswith("softmax"):
        rows = [[scale * s - lse for s in row]
                for row, lse in ((row, softmax_parts([scale * s for s in row])[1]) for row in rows)]
    columns = list(zip(*rows))
    if how.endswith("max"):
        return [max(column) for column in columns]
    if how == "mean":
        return [sum(column) / len(column) for column in columns]
    return [softmax_parts(column)[1] - math.log(len(column)) for column in columns]
