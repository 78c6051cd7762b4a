"""The retrieval model with a forward and backward pass written out: PyTorch's bf16 products, the rest in C."""
import ctypes
import os
import subprocess

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
HEAD = 64
OFFSETS = ((1, 2, 3, 4), (1, 2, 3, 6))  # where the heads of the first layers look to begin with
SHARPNESS = (4.0, 4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)  # by frequency, the highest first


def build_kernels(path):
    subprocess.run(["gcc", "-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-shared", "-fPIC",
                    os.path.join(HERE, "kernels.c"), "-o", path, "-lm"], check=True)
    return load_kernels(path)


def load_kernels(path):
    kernels = ctypes.CDLL(path)
    kernels.cross_entropy.restype = ctypes.c_double
    return kernels


def at(array, row=0):
    """The address of an array's or tensor's row."""
    if array is None:
        return None
    if isinstance(array, np.ndarray):
        return ctypes.c_void_p(array.ctypes.data + row * array.strides[0])
    return ctypes.c_void_p(array.data_ptr() + row * array.stride(0) * array.element_size())


class Mask(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("far_bias", "near_bias", "chunk_start", "item_start")]


class Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("length", "q_heads", "kv_heads", "stride")]


class Config:
    def __init__(self, dim=128, layers=5, q_heads=4, kv_heads=2, ffn=384, base=1e8, hidden_layers=2):
        self.dim, self.layers, self.q_heads, self.kv_heads = dim, layers, q_heads, kv_heads
        self.ffn, self.base, self.hidden_layers = ffn, base, hidden_layers
        self.qkv = (q_heads + 2 * kv_heads) * HEAD

    def shapes(self):
        shapes = {"embed": (256, self.dim), "out": (256, self.dim), "norm": (self.dim,)}
        for i in range(self.layers):
            shapes |= {f"{i}.norm1": (self.dim,), f"{i}.qkv": (self.qkv, self.dim),
                       f"{i}.o": (self.dim, self.q_heads * HEAD), f"{i}.norm2": (self.dim,),
                       f"{i}.gate_up": (2 * self.ffn, self.dim), f"{i}.down": (self.dim, self.ffn)}
        return shapes


def bf16(*shape):
    return torch.empty(shape, dtype=torch.bfloat16)


class Model:
    """All parameters lie in one vector, all gradients in another, so that both are easy to average and step."""

    def __init__(self, config, kernels, seed=0):
        self.config, self.kernels = config, kernels
        shapes = config.shapes()
        total = sum(int(np.prod(s)) for s in shapes.values())
        self.flat, self.flat_grad = torch.zeros(total), torch.zeros(total)
        self.param, self.grad, at_ = {}, {}, 0
        for name, shape in shapes.items():
            n = int(np.prod(shape))
            self.param[name] = self.flat[at_:at_ + n].view(shape)
            self.grad[name] = self.flat_grad[at_:at_ + n].view(shape)
            at_ += n
        self.frequencies = (config.base ** (-np.arange(0, HEAD, 2) / HEAD)).astype(np.float64)
        self.reset(seed)

    def reset(self, seed):
        generator = torch.Generator().manual_seed(seed)
        for name, p in self.param.items():
            if "norm" in name:
                p.fill_(1)
                continue
            scale = p.shape[1] ** -0.5
            if name.endswith((".o", ".down")):
                scale /= (2 * self.config.layers) ** 0.5
            p.normal_(0, scale, generator=generator)
        self.param["embed"][:, 0] = 1
        for layer, offsets in enumerate(OFFSETS):
            self.look_back(layer, offsets)
        self.refresh()

    def look_back(self, layer, offsets):
        """Lets each query head of a layer begin by looking so many tokens back, whatever they are: the constant
        channel 0 of the embedding becomes a query and a key whose rotated product peaks there."""
        qkv, c = self.param[f"{layer}.qkv"], self.config
        qkv[:(c.q_heads + c.kv_heads) * HEAD] *= 0.4
        strength = torch.tensor(SHARPNESS).sqrt() * (0.35 if layer == 0 else 0.9)
        n = len(SHARPNESS)
        angles = torch.from_numpy(self.frequencies[:n].astype(np.float32))
        for head, offset in enumerate(offsets):
            at_ = head * HEAD
            # A key `offset` back is turned by -offset against the query: turn the query as far.
            qkv[at_:at_ + n, 0] = strength * torch.cos(-angles * offset)
            qkv[at_ + HEAD // 2:at_ + HEAD // 2 + n, 0] = strength * torch.sin(-angles * offset)
        for head in range(c.kv_heads):
            at_ = (c.q_heads + head) * HEAD
            qkv[at_:at_ + n, 0] = strength
            qkv[at_ + HEAD // 2:at_ + HEAD // 2 + n, 0] = 0

    def refresh(self):
        """The products read a bf16 copy of the weights; call after each change of them."""
        narrow = self.flat.to(torch.bfloat16)
        self.narrow, at_ = {}, 0
        for name, p in self.param.items():
            self.narrow[name] = narrow[at_:at_ + p.numel()].view(p.shape)
            at_ += p.numel()

    def rotation(self, positions):
        angles = positions.reshape(-1, 1).astype(np.float64) * self.frequencies
        shape = positions.shape + (HEAD // 2,)
        return (np.ascontiguousarray(np.cos(angles).astype(np.float32).reshape(shape)),
                np.ascontiguousarray(np.sin(angles).astype(np.float32).reshape(shape)))

    def masks(self, batch, layer):
        kind = "_hidden" if layer < self.config.hidden_layers else ""
        far, near = batch["far" + kind], batch["near" + kind]
        return [Mask(at(far, b), at(near, b), at(batch["chunk_start"], b), at(batch["item_start"], b))
                for b in range(len(far))]

    def attention(self, batch, layer, qkv, rotation):
        count, length = batch["tokens"].shape
        c = self.config
        out, lse = bf16(count, length, c.q_heads * HEAD), torch.empty(count, c.q_heads * length)
        shape = Shape(length, c.q_heads, c.kv_heads, c.qkv)
        for b, mask in enumerate(self.masks(batch, layer)):
            self.kernels.attention_forward(at(out, b), at(lse, b), at(qkv, b), at(rotation[0], b),
                                           at(rotation[1], b), ctypes.byref(mask), ctypes.byref(shape))
        return out, lse

    def attention_backward(self, batch, layer, d_out, saved, rotation):
        qkv, out, lse = saved
        count, length = batch["tokens"].shape
        c = self.config
        d_qkv = torch.empty_like(qkv)
        d_out = d_out.view(out.shape)
        shape = Shape(length, c.q_heads, c.kv_heads, c.qkv)
        for b, mask in enumerate(self.masks(batch, layer)):
            self.kernels.attention_backward(at(d_qkv, b), at(d_out, b), at(out, b), at(lse, b), at(qkv, b),
                                            at(rotation[0], b), at(rotation[1], b), ctypes.byref(mask),
                                            ctypes.byref(shape))
        return d_qkv

    def norm(self, x, y, name):
        rows, dim = x.shape
        out, scale = bf16(rows, dim), torch.empty(rows)
        self.kernels.norm_forward(at(x), at(y), at(self.param[name]), at(out), at(scale),
                                  ctypes.c_int64(rows), ctypes.c_int64(dim))
        return out, scale

    def norm_backward(self, d_x, d_out, x, scale, name):
        rows, dim = x.shape
        copy = bf16(rows, dim)
        self.kernels.norm_backward(at(d_x), at(copy), at(self.grad[name]), at(d_out), at(x), at(scale),
                                   at(self.param[name]), ctypes.c_int64(rows), ctypes.c_int64(dim))
        return copy

    def forward(self, batch, keep=True):
        """The last layer's normalised output, and what the backward pass needs of each layer."""
        count, length = batch["tokens"].shape
        w, f = self.narrow, self.config.ffn
        rotation = self.rotation(batch["positions"])
        rows = count * length
        x = self.param["embed"][torch.from_numpy(batch["tokens"]).view(-1)]
        saved, y = [], None
        for i in range(self.config.layers):
            if keep and y is not None:
                x = x.clone()
            h1, scale1 = self.norm(x, y, f"{i}.norm1")
            qkv = (h1 @ w[f"{i}.qkv"].t()).view(count, length, -1)
            out, lse = self.attention(batch, i, qkv, rotation)
            y = out.view(rows, -1) @ w[f"{i}.o"].t()
            x1 = x
            if keep:
                x = x.clone()
            h2, scale2 = self.norm(x, y, f"{i}.norm2")
            both = h2 @ w[f"{i}.gate_up"].t()
            s = bf16(rows, f)
            self.kernels.swiglu_forward(at(s), at(both), ctypes.c_int64(rows), ctypes.c_int64(f))
            y = s @ w[f"{i}.down"].t()
            if keep:
                saved.append((x1, h1, scale1, (qkv, out, lse), x, h2, scale2, both, s))
        if keep:
            x = x.clone()
        h, scale = self.norm(x, y, "norm")
        return h, (saved, x, scale, rotation)

    def step(self, batch, total):
        """Adds to the gradients of loss / total; returns the loss of each token and its most likely successor."""
        h, (saved, x, scale, rotation) = self.forward(batch)
        w, g = self.narrow, self.grad
        logits = h @ w["out"].t()
        rows, dim = logits.shape
        losses, best = np.zeros(rows, np.float32), np.zeros(rows, np.int32)
        weights = (batch["weights"] / total).astype(np.float32)
        self.kernels.cross_entropy(at(logits), at(losses), at(best), at(batch["targets"]), at(weights),
                                   ctypes.c_int64(rows), ctypes.c_int64(dim))
        g["out"] += logits.t() @ h
        d_x = torch.zeros_like(x)
        d_y = self.norm_backward(d_x, logits @ w["out"], x, scale, "norm")
        for i in reversed(range(self.config.layers)):
            x1, h1, scale1, attention, x2, h2, scale2, both, s = saved[i]
            g[f"{i}.down"] += d_y.t() @ s
            d_s, d_both = d_y @ w[f"{i}.down"], torch.empty_like(both)
            self.kernels.swiglu_backward(at(d_both), at(d_s), at(both), ctypes.c_int64(rows),
                                         ctypes.c_int64(self.config.ffn))
            g[f"{i}.gate_up"] += d_both.t() @ h2
            d_y = self.norm_backward(d_x, d_both @ w[f"{i}.gate_up"], x2, scale2, f"{i}.norm2")
            g[f"{i}.o"] += d_y.t() @ attention[1].view(rows, -1)
            d_qkv = self.attention_backward(batch, i, d_y @ w[f"{i}.o"], attention, rotation).view(rows, -1)
            g[f"{i}.qkv"] += d_qkv.t() @ h1
            d_y = self.norm_backward(d_x, d_qkv @ w[f"{i}.qkv"], x1, scale1, f"{i}.norm1")
        g["embed"].index_add_(0, torch.from_numpy(batch["tokens"]).view(-1), d_x)
        return losses, best
