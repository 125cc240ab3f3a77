// The kernels of LeNet5: forward and backward of each layer, for a handful of samples at a time.
//
// This file is compiled once per instruction set (see setup.py), each time inside the namespace
// that the macro LENET_ISA names, and only with internal linkage: a function shared between these
// copies could be linked from the AVX-512 one into a program that runs on an older machine.
//
// Layouts, innermost last, with what is padded in brackets. Padding is zero and stays zero.
//
//   image     [32][40]        float, 28x28 in the middle of 32x32, for gradients of conv1
//   halves    [2][32][24]     the image's even and odd columns, so that the two columns of a pooling
//                             window stand in the same lane: pooling needs no shuffle
//   a1        [14][14][8]     after conv1, ReLU, pool; 6 channels [8]
//   a2        [25][16]        after conv2, ReLU, pool; 25 places of 5x5, 16 channels: one v16
//   a3        [128]           after conv3, ReLU; 120 [128]
//   a4        [96]            after linear1, ReLU; 84 [96]
//   logits    [16]            10 [16]
//
//   conv1.w   [6][25]                      conv2.w   [16][25][8]    out, tap, in 6 [8]
//   conv3.w   [400][128]   place*16+in, out 120 [128]
//   linear1.w [120][96]    in, out         linear2.w [84][16]       in, out
//
// Each pooled value is kept with its winner: which of the four it was, 0 to 3 as 2*row + column.
// The backward pass visits only winners, and of those only the ones whose gradient is not zero.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "vectors.hpp"

namespace LENET_ISA {

// What the compiler knows to stay the same it would keep, in registers that there are not.
#define KEEP_IN_MEMORY(pointer) asm volatile("" : "+r"(pointer))

// How many vectors a kernel may hold in registers: 32 of 512 bits, or 16 of 256.
#ifdef __AVX512F__
constexpr int CONV1_CHANNELS = 6, CONV2_COLUMNS = 10, GEMM_ROWS = 8, GEMM_VECTORS = 2,
              TAPS_AT_ONCE = 25;
#else
constexpr int CONV1_CHANNELS = 1, CONV2_COLUMNS = 2, GEMM_ROWS = 4, GEMM_VECTORS = 1,
              TAPS_AT_ONCE = 10;
#endif

constexpr int HALF_ROW = 24, HALF = 32 * HALF_ROW, IMAGE_ROW = 40, A1_ROW = 14 * 8;

enum Activation { RELU, TANH };

// ------------------------------------------------------------------------------- activations

INLINE v16 relu(v16 x) {
  v16 zero = splat16(0);
  return select(x < zero, zero, x);  // nan stays nan, as in torch
}

// tanh to about 2 ulp: a polynomial near zero, 1 - 2 / (exp(2x) + 1) elsewhere (Cephes, tanhf).
static void tanh_in_place(v16* at) {
  const v16 x = *at, zero = splat16(0);
  const v16 a = select(x < zero, -x, x);
  const v16 z = x * x;
  v16 small = -5.70498872745e-3f * z + 2.06390887954e-2f;
  small = small * z - 5.37397155531e-2f;
  small = small * z + 1.33314422036e-1f;
  small = small * z - 3.33332819422e-1f;
  small = small * z * x + x;
  const v16 limit = splat16(9.1f);  // beyond, float's tanh is 1
  const v16 t = select(a > limit, limit, a) * (2 * 1.44269504089f);
  const i16 whole = truncate(t);  // exp(2a) = 2^whole * exp(part)
  const v16 part = (t - to_float(whole)) * 0.693147180560f;
  v16 e = 1.0f / 5040 * part + 1.0f / 720;
  e = e * part + 1.0f / 120;
  e = e * part + 1.0f / 24;
  e = e * part + 1.0f / 6;
  e = (e * part + 0.5f) * part * part + part + 1.0f;
  e = e * as_float((whole + 127) << 23);
  const v16 large = 1.0f - 2.0f / (e + 1.0f);
  const v16 result = select(a < splat16(0.625f), small, select(x < zero, -large, large));
  *at = select(x != x, x, result);
}

INLINE v16 activate(Activation kind, v16 x) {
  if (kind == RELU) return relu(x);
  tanh_in_place(&x);
  return x;
}

// The gradient before the activation, from the one behind it and the activation's value.
INLINE v16 deactivate(Activation kind, v16 gradient, v16 value) {
  if (kind == RELU) return select(value > splat16(0), gradient, splat16(0));
  return gradient * (1.0f - value * value);
}

// ------------------------------------------------------------------------------- pooling

// The largest of four, the first among equals, and which it was; a nan wins, as in torch.
INLINE v16 pool(v16 v0, v16 v1, v16 v2, v16 v3, i16* winner) {
  v16 best = v0;
  i16 which = splat_int<16>(0);
  const v16 others[3] = {v1, v2, v3};
#pragma GCC unroll 3
  for (int k = 0; k < 3; k++) {
    i16 better = (others[k] > best) | (others[k] != others[k]);
    best = select(better, others[k], best);
    which = select(better, splat_int<16>(k + 1), which);
  }
  *winner = which;
  return best;
}

// ------------------------------------------------------------------------------- the image

// pixels (28, 28) uint8 -> image and halves, divided by 255 as torch's ToTensor does. Returns the
// rows of the padded image that are not blank, as bits: in MNIST a quarter of the rows is.
static uint32_t unpack(const uint8_t* pixels, float* image, float* halves) {
  uint32_t inked = 0;
  for (int y = 0; y < 28; y++) {
    uint8_t any = 0;
    for (int x = 0; x < 28; x++) any |= pixels[y * 28 + x];
    inked |= (uint32_t)(any != 0) << (y + 2);
    float* row = image + (y + 2) * IMAGE_ROW + 2;
    for (int x = 0; x < 28; x++) row[x] = (float)pixels[y * 28 + x] / 255.0f;
    float* even = halves + (y + 2) * HALF_ROW + 1;
    for (int i = 0; i < 14; i++) {
      even[i] = row[2 * i];
      even[HALF + i] = row[2 * i + 1];
    }
  }
  return inked;
}

// ------------------------------------------------------------------------------- conv1

// halves -> a1 (14, 14, 8) and winners1 (6, 14, 16). Lanes are the 14 columns of a pooled row. What
// is under no ink adds nothing, unless a weight is infinite.
static void conv1_forward(Activation kind, const float* halves, uint32_t inked, const float* w,
                          const float* bias, float* a1, uint8_t* winners) {
  for (int y = 0; y < 14; y++) {
    float pooled[8][16] __attribute__((aligned(64))) = {};
    for (int first = 0; first < 6; first += CONV1_CHANNELS) {
      v16 sum[CONV1_CHANNELS][2][2];  // channel, row and column of the pooling window
#pragma GCC unroll 6
      for (int c = 0; c < CONV1_CHANNELS; c++)
        sum[c][0][0] = sum[c][0][1] = sum[c][1][0] = sum[c][1][1] = splat16(bias[first + c]);
      for (int ky = 0; ky < 5; ky++) {
        if ((inked >> (2 * y + ky) & 3) == 0) continue;
        const float* rows = halves + (2 * y + ky) * HALF_ROW;
        const float* taps = w + first * 25 + ky * 5;
        KEEP_IN_MEMORY(taps);
#pragma GCC unroll 5
        for (int kx = 0; kx < 5; kx++) {
          v16 x[2][2];  // under row dy and column dx of the window
#pragma GCC unroll 2
          for (int dy = 0; dy < 2; dy++)
#pragma GCC unroll 2
            for (int dx = 0; dx < 2; dx++)
              x[dy][dx] = load16(rows + dy * HALF_ROW + ((kx + dx) & 1) * HALF + ((kx + dx) >> 1));
#pragma GCC unroll 6
          for (int c = 0; c < CONV1_CHANNELS; c++)
#pragma GCC unroll 2
            for (int dy = 0; dy < 2; dy++)
#pragma GCC unroll 2
              for (int dx = 0; dx < 2; dx++) add_product(sum[c][dy][dx], taps[c * 25 + kx], x[dy][dx]);
        }
      }
#pragma GCC unroll 6
      for (int c = 0; c < CONV1_CHANNELS; c++) {
        i16 winner;
        v16 best = pool(sum[c][0][0], sum[c][0][1], sum[c][1][0], sum[c][1][1], &winner);
        store(pooled[first + c], activate(kind, best));
        store_bytes(winners + ((first + c) * 14 + y) * 16, winner);
      }
    }
    for (int x = 0; x < 14; x++)
#pragma GCC unroll 8
      for (int c = 0; c < 8; c++) a1[(y * 14 + x) * 8 + c] = pooled[c][x];
  }
}

// Adds to the gradients of conv1. da1 (14, 14, 8) is the gradient at a1.
static void conv1_backward(Activation kind, const float* image, const float* a1,
                           const uint8_t* winners, float* da1, float* dw, float* dbias) {
  v8 bias = splat<8>(0);
  for (int i = 0; i < 196 * 8; i += 16) {
    v16 g = deactivate(kind, load16(da1 + i), load16(a1 + i));
    store(da1 + i, g);
    bias += load8(da1 + i) + load8(da1 + i + 8);
  }
  float bias_of[8];
  store(bias_of, bias);
  for (int c = 0; c < 6; c++) dbias[c] += bias_of[c];
  static const uint8_t even[16] = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
  const i16 columns = load_bytes(even);
  for (int c = 0; c < 6; c++) {
    v8 sum[2][5];  // two of each: the additions to one must not wait for each other
    for (int r = 0; r < 5; r++) sum[0][r] = sum[1][r] = splat<8>(0);
    for (int y = 0; y < 14; y++) {
      const i16 winner = load_bytes(winners + (c * 14 + y) * 16);
      int32_t corner[16] __attribute__((aligned(64)));
      const i16 at = ((winner >> 1) + 2 * y) * IMAGE_ROW + columns + (winner & 1);
      memcpy(corner, &at, sizeof corner);
      const float* g = da1 + y * 14 * 8 + c;
#pragma GCC unroll 14
      for (int x = 0; x < 14; x++) {
        const float* patch = image + corner[x];
#pragma GCC unroll 5
        for (int r = 0; r < 5; r++) add_product(sum[x & 1][r], g[x * 8], load8(patch + r * IMAGE_ROW));
      }
    }
    for (int r = 0; r < 5; r++) {
      float taps[8];
      store(taps, sum[0][r] + sum[1][r]);
      for (int k = 0; k < 5; k++) dw[c * 25 + r * 5 + k] += taps[k];
    }
  }
}

// ------------------------------------------------------------------------------- conv2

// a1 -> a2 (25, 16) and winners2 (25, 16). w is (25 taps, 6 in, 16 out): lanes are the channels out.
static void conv2_forward(Activation kind, const float* a1, const float* w, const float* bias,
                          float* a2, uint8_t* winners) {
  for (int y = 0; y < 5; y++)
    for (int first = 0; first < 10; first += CONV2_COLUMNS) {
      v16 sum[2][CONV2_COLUMNS];
#pragma GCC unroll 2
      for (int dy = 0; dy < 2; dy++)
#pragma GCC unroll 10
        for (int x = 0; x < CONV2_COLUMNS; x++) sum[dy][x] = load16(bias);
      const float* corner = a1 + 2 * y * A1_ROW + first * 8;
      const float* tap = w;
      for (int ky = 0; ky < 5; ky++)
        for (int kx = 0; kx < 5; kx++) {
          const float* under = corner + ky * A1_ROW + kx * 8;
          KEEP_IN_MEMORY(under);
#pragma GCC unroll 6
          for (int in = 0; in < 6; in++, tap += 16) {
            const v16 weight = load16(tap);
#pragma GCC unroll 2
            for (int dy = 0; dy < 2; dy++)
#pragma GCC unroll 10
              for (int x = 0; x < CONV2_COLUMNS; x++)
                add_product(sum[dy][x], under[dy * A1_ROW + x * 8 + in], weight);
          }
        }
#pragma GCC unroll 5
      for (int x = 0; x < CONV2_COLUMNS; x += 2) {
        i16 winner;
        v16 best = pool(sum[0][x], sum[0][x + 1], sum[1][x], sum[1][x + 1], &winner);
        int place = y * 5 + (first + x) / 2;
        store(a2 + place * 16, activate(kind, best));
        store_bytes(winners + place * 16, winner);
      }
    }
}

// Adds to the gradients of conv2 and writes da1. da2 (25, 16) is the gradient at a2; w is the
// parameter's own layout (16, 25, 8).
static void conv2_backward(Activation kind, const float* a1, const float* a2,
                           const uint8_t* winners, const float* da2, const float* w, float* da1,
                           float* dw, float* dbias) {
  // Winners with a gradient, by output channel: their corner in a1, and the gradient.
  int32_t corner[16][32];
  float gradient[16][32];
  int count[16] = {};
  v16 bias = load16(dbias);
  for (int place = 0; place < 25; place++) {
    v16 g = deactivate(kind, load16(da2 + place * 16), load16(a2 + place * 16));
    bias += g;
    i16 winner = load_bytes(winners + place * 16);
    i16 at = (winner >> 1) * A1_ROW + (winner & 1) * 8 + (place / 5 * 2 * A1_ROW + place % 5 * 16);
    float gs[16] __attribute__((aligned(64)));
    int32_t ats[16] __attribute__((aligned(64)));
    store(gs, g);
    memcpy(ats, &at, sizeof ats);
#pragma GCC unroll 16
    for (int c = 0; c < 16; c++) {  // written always, counted if it matters: no branch to mispredict
      corner[c][count[c]] = ats[c];
      gradient[c][count[c]] = gs[c];
      count[c] += gs[c] != 0;
    }
  }
  store(dbias, bias);
  memset(da1, 0, 196 * 8 * sizeof(float));
  for (int c = 0; c < 16; c++) {
    const float* weights = w + c * 200;
    for (int i = 0; i < count[c]; i++) {
      float* patch = da1 + corner[c][i];
      const float g = gradient[c][i];
#pragma GCC unroll 25
      for (int t = 0; t < 25; t++) {
        float* p = patch + t / 5 * A1_ROW + t % 5 * 8;
        v8 sum = load8(p);
        add_product(sum, g, load8(weights + t * 8));
        store(p, sum);
      }
    }
#pragma GCC unroll 3
    for (int first = 0; first < 25; first += TAPS_AT_ONCE) {
      v8 sum[TAPS_AT_ONCE];
      float* out = dw + c * 200;
#pragma GCC unroll 25
      for (int t = 0; t < TAPS_AT_ONCE; t++)
        if (first + t < 25) sum[t] = load8(out + (first + t) * 8);
      for (int i = 0; i < count[c]; i++) {
        const float* patch = a1 + corner[c][i];
        const float g = gradient[c][i];
#pragma GCC unroll 25
        for (int t = 0; t < TAPS_AT_ONCE; t++)
          if (first + t < 25)
            add_product(sum[t], g, load8(patch + (first + t) / 5 * A1_ROW + (first + t) % 5 * 8));
      }
#pragma GCC unroll 25
      for (int t = 0; t < TAPS_AT_ONCE; t++)
        if (first + t < 25) store(out + (first + t) * 8, sum[t]);
    }
  }
}

// ------------------------------------------------------------------------------- products

// A block of C (ROWS, VECTORS * 16) += A (ROWS, depth) B (depth, VECTORS * 16). A's element (r, k)
// is a[r * a_row + k * a_step]: either step may be the inner one, so that A^T needs no copy.
template <int ROWS, int VECTORS>
INLINE void block(const float* a, int a_row, int a_step, const float* b, int b_row, float* c,
                  int c_row, int depth) {
  v16 sum[ROWS][VECTORS];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) sum[r][v] = load16(c + r * c_row + v * 16);
  for (int k = 0; k < depth; k++) {
    v16 right[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) right[v] = load16(b + k * b_row + v * 16);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; v++) add_product(sum[r][v], a[r * a_row + k * a_step], right[v]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) store(c + r * c_row + v * 16, sum[r][v]);
}

// C (rows, columns) += A (rows, depth) B (depth, columns); columns in multiples of 16.
template <int VECTORS>
INLINE void product_columns(const float* a, int a_row, int a_step, const float* b, int b_row,
                            float* c, int c_row, int rows, int depth) {
  int r = 0;
  for (; r + GEMM_ROWS <= rows; r += GEMM_ROWS)
    block<GEMM_ROWS, VECTORS>(a + r * a_row, a_row, a_step, b, b_row, c + r * c_row, c_row, depth);
  for (; r + 4 <= rows; r += 4)
    block<4, VECTORS>(a + r * a_row, a_row, a_step, b, b_row, c + r * c_row, c_row, depth);
  for (; r < rows; r++)
    block<1, VECTORS>(a + r * a_row, a_row, a_step, b, b_row, c + r * c_row, c_row, depth);
}

static void product(const float* a, int a_row, int a_step, const float* b, int b_row, float* c,
                    int c_row, int rows, int depth, int columns) {
  int v = 0;
  for (; v + GEMM_VECTORS * 16 <= columns; v += GEMM_VECTORS * 16)
    product_columns<GEMM_VECTORS>(a, a_row, a_step, b + v, b_row, c + v, c_row, rows, depth);
  for (; v < columns; v += 16)
    product_columns<1>(a, a_row, a_step, b + v, b_row, c + v, c_row, rows, depth);
}

// out (columns, rows) = in^T (rows, columns), in blocks that stay in the nearest cache.
static void transpose(const float* in, int in_row, float* out, int out_row, int rows, int columns) {
  for (int r = 0; r < rows; r += 8)
    for (int c = 0; c < columns; c += 8)
      for (int j = 0; j < 8 && c + j < columns; j++)
        for (int i = 0; i < 8 && r + i < rows; i++)
          out[(c + j) * out_row + r + i] = in[(r + i) * in_row + c + j];
}

}  // namespace LENET_ISA
