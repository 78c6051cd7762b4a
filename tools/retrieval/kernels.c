// The parts of a training step that PyTorch is slow at on a CPU: causal attention with free
// positions and key weights, RMSNorm, SwiGLU and the loss, each forward and backward. Activations
// are bf16, arithmetic is f32. model.py compiles this file and calls it through ctypes; one thread.
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { head_dim = 64, half = 32, panel = 32, lanes = 16, block = 16 };

typedef float vec __attribute__((vector_size(64), aligned(4)));
typedef uint16_t bf16;

static inline float widen(bf16 x)
{
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline bf16 narrow(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// e^x to about 2e-7 relative, written so that the compiler vectorises it.
static inline float exponential(float x)
{
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float t = x * 1.44269504f;
    float whole = rintf(t);
    float f = (t - whole) * 0.693147181f;
    float p = 1.0f / 720;
    p = p * f + 1.0f / 120;
    p = p * f + 1.0f / 24;
    p = p * f + 1.0f / 6;
    p = p * f + 0.5f;
    p = p * f + 1.0f;
    p = p * f + 1.0f;
    int32_t bits = ((int32_t)whole + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static inline vec load(const float *p)
{
    return *(const vec *)p;
}
static inline void store(float *p, vec v)
{
    *(vec *)p = v;
}
static inline size_t padded(size_t n)
{
    return (n + panel - 1) / panel * panel;
}

// What one sequence gives to attention, beside its activations.
typedef struct mask {
    const float *far_bias;      // [length] added to scores of keys before the query's chunk
    const float *near_bias;     // [length] added to those of its own chunk, outside its item
    const int32_t *chunk_start; // [length] first token of the query's chunk
    const int32_t
        *item_start; // [length] first token of the query's item; the query + 1 outside items
} mask;

// out[token] = the rotated head of a row of `stride` values; `flip` rotates back.
static void rotate(float *out, const float *in, const float *cosine, const float *sine, float scale)
{
    for (int i = 0; i < half; i++) {
        float a = in[i], b = in[i + half];
        out[i] = (a * cosine[i] - b * sine[i]) * scale;
        out[i + half] = (b * cosine[i] + a * sine[i]) * scale;
    }
}

static void rotate_back(bf16 *out, const float *in, const float *cosine, const float *sine,
                        float scale)
{
    for (int i = 0; i < half; i++) {
        float a = in[i], b = in[i + half];
        out[i] = narrow((a * cosine[i] + b * sine[i]) * scale);
        out[i + half] = narrow((b * cosine[i] - a * sine[i]) * scale);
    }
}

static void widen_head(float *out, const bf16 *in)
{
    for (int i = 0; i < head_dim; i++)
        out[i] = widen(in[i]);
}

// [length][64] to panels [length / 32][64][32], so that a tile's keys lie together.
static void to_panels(float *panels, const float *rows, size_t length)
{
    memset(panels, 0, padded(length) * head_dim * sizeof *panels);
    for (size_t k = 0; k < length; k++)
        for (int d = 0; d < head_dim; d++)
            panels[(k / panel * head_dim + d) * panel + k % panel] = rows[k * head_dim + d];
}

// out[r][k] = rows[r] · key k, for 8 rows and the keys of the first `keys` / 32 panels.
static void products8(float *out, size_t stride, const float *rows, const float *panels,
                      size_t keys)
{
    for (size_t k = 0; k < keys; k += panel) {
        const float *p = panels + k * head_dim;
        vec a[8], b[8];
        for (int r = 0; r < 8; r++)
            a[r] = b[r] = (vec){0};
        for (int d = 0; d < head_dim; d++) {
            vec p0 = load(p + d * panel), p1 = load(p + d * panel + lanes);
#pragma GCC unroll 8
            for (int r = 0; r < 8; r++) {
                float x = rows[r * head_dim + d];
                a[r] += x * p0;
                b[r] += x * p1;
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) {
            store(out + r * stride + k, a[r]);
            store(out + r * stride + k + lanes, b[r]);
        }
    }
}

// out[r] = sum over k of weights[r][k] · values[k], for 4 rows.
static void gather4(float *out, const float *weights, size_t stride, const float *values,
                    size_t keys)
{
    vec a[4][4];
    for (int r = 0; r < 4; r++)
        for (int j = 0; j < 4; j++)
            a[r][j] = (vec){0};
    for (size_t k = 0; k < keys; k++) {
        const float *v = values + k * head_dim;
        vec v0 = load(v), v1 = load(v + 16), v2 = load(v + 32), v3 = load(v + 48);
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            float w = weights[r * stride + k];
            a[r][0] += w * v0;
            a[r][1] += w * v1;
            a[r][2] += w * v2;
            a[r][3] += w * v3;
        }
    }
    for (int r = 0; r < 4; r++)
        for (int j = 0; j < 4; j++)
            store(out + r * head_dim + j * lanes, a[r][j]);
}

// sums[k] += sum over r of weights[r][k] · rows[r], for `block` rows; keys is a multiple of 4.
static void scatter(float *sums, const float *weights, size_t stride, const float *rows,
                    size_t keys)
{
    for (size_t k = 0; k < keys; k += 4) {
        vec a[4][4];
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++)
                a[i][j] = load(sums + (k + i) * head_dim + j * lanes);
        for (int r = 0; r < block; r++) {
            const float *q = rows + r * head_dim;
            vec q0 = load(q), q1 = load(q + 16), q2 = load(q + 32), q3 = load(q + 48);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                float w = weights[r * stride + k + i];
                a[i][0] += w * q0;
                a[i][1] += w * q1;
                a[i][2] += w * q2;
                a[i][3] += w * q3;
            }
        }
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++)
                store(sums + (k + i) * head_dim + j * lanes, a[i][j]);
    }
}

// Adds the biases of query `row` to its scores, and hides what comes after it.
static void add_bias(float *scores, size_t keys, size_t row, const mask *m)
{
    size_t chunk = (size_t)m->chunk_start[row], item = (size_t)m->item_start[row], k = 0;
    if (item > row + 1)
        item = row + 1;
    size_t first = chunk < item ? chunk : item;
    for (k = 0; k < first; k++)
        scores[k] += m->far_bias[k];
    for (k = chunk; k < item; k++)
        scores[k] += m->near_bias[k];
    for (k = row + 1; k < keys; k++)
        scores[k] = -1e30f;
}

static float softmax(float *scores, size_t keys)
{
    float top = -1e30f, sum = 0;
    for (size_t k = 0; k < keys; k++)
        top = scores[k] > top ? scores[k] : top;
    for (size_t k = 0; k < keys; k++) {
        scores[k] = exponential(scores[k] - top);
        sum += scores[k];
    }
    float share = 1 / sum;
    for (size_t k = 0; k < keys; k++)
        scores[k] *= share;
    return top + logf(sum);
}

typedef struct shape {
    int64_t length, q_heads, kv_heads, stride; // stride: values of a row of qkv
} shape;

static float *floats(size_t n)
{
    void *p = NULL;
    if (posix_memalign(&p, 64, (n + 64) * sizeof(float)))
        abort();
    memset(p, 0, (n + 64) * sizeof(float));
    return p;
}

static void load_rotated(float *out, const bf16 *in, const shape *s, const float *cosine,
                         const float *sine, float scale)
{
    float row[head_dim];
    for (int64_t t = 0; t < s->length; t++) {
        widen_head(row, in + t * s->stride);
        rotate(out + t * head_dim, row, cosine + t * half, sine + t * half, scale);
    }
}

static void load_plain(float *out, const bf16 *in, const shape *s, int64_t stride)
{
    for (int64_t t = 0; t < s->length; t++)
        widen_head(out + t * head_dim, in + t * stride);
}

static void attend_head(bf16 *out, float *lse, const float *q, const float *k_panels,
                        const float *v, const mask *m, const shape *s, float *scores)
{
    size_t length = (size_t)s->length, stride = padded(length);
    float rows[8 * head_dim];
    for (size_t i = 0; i < length; i += 8) {
        size_t n = length - i < 8 ? length - i : 8, keys = padded(i + n);
        products8(scores, stride, q + i * head_dim, k_panels, keys);
        for (size_t r = 0; r < n; r++) {
            add_bias(scores + r * stride, keys, i + r, m);
            lse[i + r] = softmax(scores + r * stride, keys);
        }
        gather4(rows, scores, stride, v, i + n);
        gather4(rows + 4 * head_dim, scores + 4 * stride, stride, v, i + n);
        for (size_t r = 0; r < n; r++)
            for (int d = 0; d < head_dim; d++)
                out[(i + r) * (size_t)s->q_heads * head_dim + d] = narrow(rows[r * head_dim + d]);
    }
}

// One sequence. out: [length][q_heads][64]; lse: [q_heads][length].
void attention_forward(bf16 *out, float *lse, const bf16 *qkv, const float *cosine,
                       const float *sine, const mask *m, const shape *s)
{
    size_t n = padded((size_t)s->length) * head_dim;
    float *q = floats(n), *k = floats(n), *v = floats(n), *panels = floats(n);
    float *scores = floats(8 * padded((size_t)s->length));
    int64_t group = s->q_heads / s->kv_heads;
    for (int64_t kv = 0; kv < s->kv_heads; kv++) {
        load_rotated(k, qkv + (s->q_heads + kv) * head_dim, s, cosine, sine, 1);
        load_plain(v, qkv + (s->q_heads + s->kv_heads + kv) * head_dim, s, s->stride);
        to_panels(panels, k, (size_t)s->length);
        for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
            load_rotated(q, qkv + h * head_dim, s, cosine, sine, 0.125f);
            attend_head(out + h * head_dim, lse + h * s->length, q, panels, v, m, s, scores);
        }
    }
    free(q), free(k), free(v), free(panels), free(scores);
}

typedef struct head {
    float *q, *k, *k_panels, *v, *v_panels, *out, *d_out, *d_q, *d_k, *d_v, *weights, *d_scores;
} head;

static void head_backward(const head *h, const float *lse, const mask *m, size_t length)
{
    size_t stride = padded(length);
    for (size_t i = 0; i < length; i += block) {
        size_t n = length - i < block ? length - i : block, keys = padded(i + n);
        for (size_t r = 0; r < block; r += 8) {
            products8(h->weights + r * stride, stride, h->q + (i + r) * head_dim, h->k_panels,
                      keys);
            products8(h->d_scores + r * stride, stride, h->d_out + (i + r) * head_dim, h->v_panels,
                      keys);
        }
        for (size_t r = 0; r < block; r++) {
            float *w = h->weights + r * stride, *g = h->d_scores + r * stride, delta = 0;
            if (r >= n) {
                memset(w, 0, keys * sizeof *w), memset(g, 0, keys * sizeof *g);
                continue;
            }
            for (int d = 0; d < head_dim; d++)
                delta += h->out[(i + r) * head_dim + d] * h->d_out[(i + r) * head_dim + d];
            add_bias(w, keys, i + r, m);
            float log_sum = lse[i + r];
            for (size_t k = 0; k < keys; k++) {
                w[k] = exponential(w[k] - log_sum);
                g[k] = w[k] * (g[k] - delta);
            }
        }
        scatter(h->d_v, h->weights, stride, h->d_out + i * head_dim, keys);
        scatter(h->d_k, h->d_scores, stride, h->q + i * head_dim, keys);
        for (size_t r = 0; r < block; r += 4)
            gather4(h->d_q + (i + r) * head_dim, h->d_scores + r * stride, stride, h->k, i + n);
    }
}

static void store_rotated(bf16 *out, const float *in, const shape *s, const float *cosine,
                          const float *sine, float scale)
{
    for (int64_t t = 0; t < s->length; t++)
        rotate_back(out + t * s->stride, in + t * head_dim, cosine + t * half, sine + t * half,
                    scale);
}

// d_qkv has the shape of qkv, d_out that of out.
void attention_backward(bf16 *d_qkv, const bf16 *d_out, const bf16 *out, const float *lse,
                        const bf16 *qkv, const float *cosine, const float *sine, const mask *m,
                        const shape *s)
{
    size_t length = (size_t)s->length, n = (padded(length) + block) * head_dim;
    float *all[12];
    for (int i = 0; i < 12; i++)
        all[i] = floats(i < 10 ? n : block * padded(length));
    head h = {all[0], all[1], all[2], all[3], all[4],  all[5],
              all[6], all[7], all[8], all[9], all[10], all[11]};
    int64_t group = s->q_heads / s->kv_heads, out_stride = s->q_heads * head_dim;
    for (int64_t kv = 0; kv < s->kv_heads; kv++) {
        load_rotated(h.k, qkv + (s->q_heads + kv) * head_dim, s, cosine, sine, 1);
        load_plain(h.v, qkv + (s->q_heads + s->kv_heads + kv) * head_dim, s, s->stride);
        to_panels(h.k_panels, h.k, length);
        to_panels(h.v_panels, h.v, length);
        memset(h.d_k, 0, n * sizeof(float)), memset(h.d_v, 0, n * sizeof(float));
        for (int64_t i = kv * group; i < (kv + 1) * group; i++) {
            load_rotated(h.q, qkv + i * head_dim, s, cosine, sine, 0.125f);
            load_plain(h.out, out + i * head_dim, s, out_stride);
            load_plain(h.d_out, d_out + i * head_dim, s, out_stride);
            head_backward(&h, lse + i * s->length, m, length);
            store_rotated(d_qkv + i * head_dim, h.d_q, s, cosine, sine, 0.125f);
        }
        store_rotated(d_qkv + (s->q_heads + kv) * head_dim, h.d_k, s, cosine, sine, 1);
        bf16 *d_v = d_qkv + (s->q_heads + s->kv_heads + kv) * head_dim;
        for (size_t t = 0; t < length; t++)
            for (int d = 0; d < head_dim; d++)
                d_v[t * (size_t)s->stride + d] = narrow(h.d_v[t * head_dim + d]);
    }
    for (int i = 0; i < 12; i++)
        free(all[i]);
}

// x += y where y is given, then out = x / rms(x) · weight.
void norm_forward(float *x, const bf16 *y, const float *weight, bf16 *out, float *scale,
                  int64_t rows, int64_t dim)
{
    for (int64_t t = 0; t < rows; t++, x += dim, out += dim) {
        float sum = 0;
        if (y)
            for (int64_t i = 0; i < dim; i++)
                x[i] += widen(y[t * dim + i]);
        for (int64_t i = 0; i < dim; i++)
            sum += x[i] * x[i];
        float s = 1 / sqrtf(sum / (float)dim + 1e-5f);
        scale[t] = s;
        for (int64_t i = 0; i < dim; i++)
            out[i] = narrow(x[i] * s * weight[i]);
    }
}

// d_x += the gradient through the norm; `copy` is d_x narrowed.
void norm_backward(float *d_x, bf16 *copy, float *d_weight, const bf16 *d_out, const float *x,
                   const float *scale, const float *weight, int64_t rows, int64_t dim)
{
    for (int64_t t = 0; t < rows; t++, d_x += dim, copy += dim, d_out += dim, x += dim) {
        float s = scale[t], dot = 0;
        for (int64_t i = 0; i < dim; i++)
            dot += widen(d_out[i]) * weight[i] * x[i];
        float back = dot * s * s * s / (float)dim;
        for (int64_t i = 0; i < dim; i++) {
            float g = widen(d_out[i]);
            d_weight[i] += g * x[i] * s;
            d_x[i] += g * weight[i] * s - back * x[i];
            copy[i] = narrow(d_x[i]);
        }
    }
}

// in: rows of gate then up; out = silu(gate) · up.
void swiglu_forward(bf16 *out, const bf16 *in, int64_t rows, int64_t dim)
{
    for (int64_t t = 0; t < rows; t++, out += dim, in += 2 * dim)
        for (int64_t i = 0; i < dim; i++) {
            float gate = widen(in[i]);
            out[i] = narrow(gate / (1 + exponential(-gate)) * widen(in[dim + i]));
        }
}

void swiglu_backward(bf16 *d_in, const bf16 *d_out, const bf16 *in, int64_t rows, int64_t dim)
{
    for (int64_t t = 0; t < rows; t++, d_out += dim, in += 2 * dim, d_in += 2 * dim)
        for (int64_t i = 0; i < dim; i++) {
            float gate = widen(in[i]), up = widen(in[dim + i]), g = widen(d_out[i]);
            float sigmoid = 1 / (1 + exponential(-gate)), silu = gate * sigmoid;
            d_in[i] = narrow(g * up * (sigmoid + silu * (1 - sigmoid)));
            d_in[dim + i] = narrow(g * silu);
        }
}

// Replaces logits by their gradient of sum(weight · loss); returns that sum. `losses` gets each
// row's own loss, `best` its most likely token.
double cross_entropy(bf16 *logits, float *losses, int32_t *best, const int32_t *targets,
                     const float *weights, int64_t rows, int64_t dim)
{
    double total = 0;
    float row[1024];
    for (int64_t t = 0; t < rows; t++, logits += dim) {
        float top = -1e30f, sum = 0;
        for (int64_t i = 0; i < dim; i++)
            row[i] = widen(logits[i]);
        for (int64_t i = 0; i < dim; i++)
            top = row[i] > top ? row[i] : top;
        best[t] = 0;
        for (int64_t i = 0; i < dim; i++)
            if (row[i] == top)
                best[t] = (int32_t)i;
        losses[t] = -row[targets[t]] + top;
        for (int64_t i = 0; i < dim; i++) {
            row[i] = exponential(row[i] - top);
            sum += row[i];
        }
        losses[t] += logf(sum);
        total += losses[t] * weights[t];
        float share = weights[t] / sum;
        row[targets[t]] -= sum;
        for (int64_t i = 0; i < dim; i++)
            logits[i] = narrow(row[i] * share);
    }
    return total;
}
