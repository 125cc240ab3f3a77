// The kernels of LeNet5: forward and backward pass of each layer, for a few samples at a time.
//
// This file is compiled once per instruction set (see setup.py), each time in the namespace LENET_ISA
// and with internal linkage only. Otherwise the linker could merge a function of these copies and run
// its AVX-512 version on an older machine.
//
// Memory layouts, innermost dimension last, padded sizes in brackets. Padding is zero and stays zero;
// only in a3 and a4, it is the activation of zero.
//
//   halves    [2][32][24]     28x28 floats centered in 32x32, with even and odd columns separate, so
//                             that both columns of a pooling window are in the same lane and pooling
//                             needs no shuffle
//   triples   [31][32][3]     each column of the image in rows y, y+1 and y+2, so that five columns of
//                             three rows fit one v16, for the gradients of conv1
//   a1        [14][14][8]     after conv1, activation, pool; 6 channels [8]
//   a2        [25][16]        after conv2, activation, pool; 5x5 positions, 16 channels: one v16
//   a3        [128]           after conv3, activation, dropout; 120 [128]
//   a4        [96]            after linear1, activation, dropout; 84 [96]
//   logits    [16]            10 [16]
//
//   conv1.w   [6][25]                      conv2.w   [16][25][8]    out, tap, in 6 [8]
//   conv3.w   [400][128]   position*16+in, out 120 [128]
//   linear1.w [120][96]    in, out         linear2.w [84][16]       in, out
//
// With max pooling, each pooled value is stored with its winner: its position in the pooling window,
// encoded as the backward pass of the layer needs it. The backward pass visits only winners: in conv2
// those with a nonzero gradient, in conv1 those near ink (nonzero pixels).
//
// With average pooling, the backward pass needs all four values of each window. They are stored as four
// planes, one for each position in the window, each in the layout of a1 or a2.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "network.hpp"
#include "vectors.hpp"

namespace LENET_ISA {

using namespace lenet;

// Hides from the compiler that values are constant in a loop. It would keep more of them in registers
// than there are.
#define KEEP_IN_MEMORY(pointer) asm volatile("" : "+r"(pointer))

// Tile sizes that fit the registers: 32 of 512 bits, or 16 of 256 bits.
#ifdef __AVX512F__
constexpr int CONV1_CHANNELS = 3, CONV1_BACK_CHANNELS = 6, CONV2_COLUMNS = 10, PATCH_ROWS = 6,
              TAP_ROWS = 5, GEMM_ROWS = 8, GEMM_VECTORS = 2;
#else
constexpr int CONV1_CHANNELS = 2, CONV1_BACK_CHANNELS = 3, CONV2_COLUMNS = 2, PATCH_ROWS = 2,
              TAP_ROWS = 3, GEMM_ROWS = 4, GEMM_VECTORS = 1;
#endif

constexpr int HALF_ROW = 24, HALF = 32 * HALF_ROW, TRIPLE_ROW = 32 * 3, A1_ROW = 14 * 8,
              BACK_ROW = 6 * 8, BACK = 6 * BACK_ROW, BACK_COPIES = REGISTER > 8 ? 2 : 1,
              BACK_COPY = 16 * BACK + BACK_ROW + 8;

constexpr int WINDOW = 4, A1 = 14 * A1_ROW, A2 = 25 * 16;

// The positions of a pooling window that the backward pass visits.
template <Pooling POOLING>
constexpr int VISITED = POOLING == MAX_POOLING ? 1 : WINDOW;

// ------------------------------------------------------------------------------- activations

INLINE v16 relu(v16 x) {
  v16 zero = splat16(0);
  return select(x < zero, zero, x);  // NaN stays NaN, as in torch
}

constexpr float LOG2_E = 1.44269504089f;  // log2(e)

// exp(x) - 1 for |x| <= log(2).
INLINE v16 small_expm1(v16 x) {
  v16 e = 1.0f / 5040 * x + 1.0f / 720;
  e = e * x + 1.0f / 120;
  e = e * x + 1.0f / 24;
  e = e * x + 1.0f / 6;
  return (e * x + 0.5f) * x * x + x;
}

// 2^n for -126 <= n <= 127.
INLINE v16 power_of_two(i16 n) { return as_float((n + 127) << 23); }

// tanh with an error of about 2 ulp: a polynomial near zero, else 1 - 2 / (exp(2x) + 1) (Cephes, tanhf).
INLINE v16 tanh(v16 x) {
  const v16 zero = splat16(0);
  const v16 a = select(x < zero, -x, x);
  const v16 z = x * x;
  v16 small = -5.70498872745e-3f * z + 2.06390887954e-2f;
  small = small * z - 5.37397155531e-2f;
  small = small * z + 1.33314422036e-1f;
  small = small * z - 3.33332819422e-1f;
  small = small * z * x + x;
  const v16 limit = splat16(9.1f);  // tanh of larger floats rounds to 1
  const v16 t = select(a > limit, limit, a) * (2 * LOG2_E);
  const i16 whole = truncate(t);  // exp(2a) = 2^whole * exp(part)
  const v16 part = (t - to_float(whole)) * 0.693147180560f;
  const v16 e = (small_expm1(part) + 1.0f) * power_of_two(whole);
  const v16 large = 1.0f - 2.0f / (e + 1.0f);
  const v16 result = select(a < splat16(0.625f), small, select(x < zero, -large, large));
  return select(x != x, x, result);
}

// Splits x = n * log(2) + r, with |r| <= log(2) / 2, for -87 <= x <= 0. Returns exp(r) - 1 and sets power
// to 2^n. log(2) is the sum of two constants, so that the products are exact (Cephes, expf).
INLINE v16 reduced_expm1(v16 x, v16* power) {
  const i16 n = truncate(x * LOG2_E - 0.5f);
  *power = power_of_two(n);
  return small_expm1((x - to_float(n) * 0.693359375f) + to_float(n) * 2.12194440e-4f);
}

INLINE v16 sigmoid(v16 x) {
  const v16 zero = splat16(0), limit = splat16(-87.0f);
  const v16 negative = select(x < zero, x, -x);
  v16 power;
  const v16 rest = reduced_expm1(select(negative < limit, limit, negative), &power);
  const v16 e = power * rest + power;
  const v16 low = e / (e + 1.0f);
  return select(x < zero, low, 1.0f - low);
}

INLINE v16 elu(v16 x) {
  const v16 zero = splat16(0), limit = splat16(-20.0f);  // exp(-20) - 1 rounds to -1
  const v16 negative = select(x > zero, zero, x);
  v16 power;
  const v16 rest = reduced_expm1(select(negative < limit, limit, negative), &power);
  return select(x > zero, x, power * rest + (power - 1.0f));
}

constexpr float LEAKY_SLOPE = 0.01f;

// The activations that take so many instructions that a call does not matter.
__attribute__((noinline)) static void activate_in_place(Activation kind, v16* x) {
  if (kind == TANH) *x = tanh(*x);
  else if (kind == SIGMOID) *x = sigmoid(*x);
  else *x = elu(*x);
}

// All activations are increasing functions, so max pooling may come first. NaN stays NaN, as in torch.
INLINE v16 activate(Activation kind, v16 x) {
  if (kind == RELU) return relu(x);
  if (kind == LEAKY_RELU) return select(x < splat16(0), x * LEAKY_SLOPE, x);
  activate_in_place(kind, &x);
  return x;
}

// The gradient of an activation's input, from the gradient and the value of its output.
INLINE v16 deactivate(Activation kind, v16 gradient, v16 value) {
  const v16 zero = splat16(0);
  if (kind == RELU) return select(value > zero, gradient, zero);
  if (kind == TANH) return gradient * (1.0f - value * value);
  if (kind == LEAKY_RELU) return select(value > zero, gradient, gradient * LEAKY_SLOPE);
  if (kind == SIGMOID) return gradient * ((1.0f - value) * value);
  return select(value > zero, gradient, gradient * (value + 1.0f));
}

// ------------------------------------------------------------------------------- pooling

// The maximum of four values and the code of its position. The first of equal values wins, and a NaN
// wins over other values, as in torch.
template <int N>
INLINE Float<N> pool(Float<N> v0, Float<N> v1, Float<N> v2, Float<N> v3, const int32_t* codes,
                     Int<N>* winner) {
  Float<N> best = v0;
  Int<N> which = splat_int<N>(codes[0]);
  const Float<N> others[3] = {v1, v2, v3};
#pragma GCC unroll 3
  for (int k = 0; k < 3; k++) {
    Int<N> better = (others[k] > best) | (others[k] != others[k]);
    best = select(better, others[k], best);
    which = select(better, splat_int<N>(codes[k + 1]), which);
  }
  *winner = which;
  return best;
}

INLINE v16 average(const v16* values) {
  return (values[0] + values[1] + values[2] + values[3]) * 0.25f;
}

// ------------------------------------------------------------------------------- the image

// The rows and columns of a padded image that are not blank, as bits. A quarter of MNIST's rows are blank.
struct Ink {
  uint32_t rows;
  uint32_t columns;  // in pairs: bit i for columns 2i and 2i + 1
};

// pixels (28, 28) uint8 -> halves, divided by 255 as torch's ToTensor does, or normalized. A normalized
// image has no blank pixels, but the margin around it is zero, as in torch.
static Ink unpack(const Normalization& normalization, const uint8_t* pixels, float* halves) {
  int32_t low_bytes[16] = {};  // for the 14 pairs of a row
  for (int i = 0; i < 14; i++) low_bytes[i] = 255;
  i16 low;
  memcpy(&low, low_bytes, sizeof low);
  const v16 shift =  // zero outside the image
      select(to_float(low) > splat16(0), splat16(normalization.shift), splat16(0));
  uint8_t last[32] = {};  // the last row, padded because a row is read with the 4 bytes after it
  memcpy(last, pixels + 27 * 28, 28);
  Ink ink = {};
  i16 inked = splat_int<16>(0);
  for (int y = 0; y < 28; y++) {
    const uint8_t* row = y < 27 ? pixels + y * 28 : last;
    const i16 pairs = load_byte_pairs(row), even = pairs & low, odd = (pairs >> 8) & low;
    float* out = halves + (y + 2) * HALF_ROW + 1;
    if (normalization.used) {
      store(out, to_float(even) * normalization.scale + shift);
      store(out + HALF, to_float(odd) * normalization.scale + shift);
      continue;
    }
    store(out, to_float(even) / 255.0f);
    store(out + HALF, to_float(odd) / 255.0f);
    inked = inked | even | odd;
    uint64_t words[3];
    uint32_t rest;
    memcpy(words, row, sizeof words);
    memcpy(&rest, row + sizeof words, sizeof rest);
    ink.rows |= (uint32_t)((words[0] | words[1] | words[2] | rest) != 0) << (y + 2);
  }
  if (normalization.used) return {((1u << 28) - 1) << 2, ((1u << 14) - 1) << 1};
  int32_t any[16];
  memcpy(any, &inked, sizeof any);
  for (int i = 0; i < 14; i++) ink.columns |= (uint32_t)(any[i] != 0) << (i + 1);
  return ink;
}

static void interleave_rows(const float* halves, float* triples) {
  float rows[33][32];
  for (int y = 0; y < 33; y++)
    for (int i = 0; i < 16; i++) {
      rows[y][2 * i] = y < 32 ? halves[y * HALF_ROW + i] : 0;
      rows[y][2 * i + 1] = y < 32 ? halves[HALF + y * HALF_ROW + i] : 0;
    }
  for (int y = 0; y < 31; y++)
    for (int x = 0; x < 32; x++)
      for (int r = 0; r < 3; r++) triples[y * TRIPLE_ROW + x * 3 + r] = rows[y + r][x];
}

// ------------------------------------------------------------------------------- conv1

// halves -> a1 (14, 14, 8), and for max pooling winners1 (2, 14, 16, 4), the offset of each winner in
// triples, with the bytes of four channels in each lane; for average pooling windows1 (4, 14, 14, 8).
// The lanes are the 14 columns of a pooled row, processed one register at a time. Blank rows are skipped,
// because they add nothing unless a weight is infinite.
template <Pooling POOLING>
static void conv1_forward(Activation kind, const float* halves, uint32_t inked, const float* w,
                          const float* bias, float* a1, uint8_t* winners, float* windows) {
  for (int y = 0; y < 14; y++) {
    v16 values[VISITED<POOLING>][8];  // the maximum of each window, or all of its values, by channel
    i16 which[2] = {splat_int<16>(0), splat_int<16>(0)};
    for (v16* channels : values) channels[6] = channels[7] = splat16(0);
#pragma GCC unroll 4
    for (int part = 0; part < Lanes<16>::P; part++)
#pragma GCC unroll 6
      for (int first = 0; first < 6; first += CONV1_CHANNELS) {
        Float<REGISTER> sum[CONV1_CHANNELS][2][2];  // channel, row and column of the pooling window
#pragma GCC unroll 6
        for (int c = 0; c < CONV1_CHANNELS; c++)
          sum[c][0][0] = sum[c][0][1] = sum[c][1][0] = sum[c][1][1] =
              splat<REGISTER>(bias[first + c]);
        for (int ky = 0; ky < 5; ky++) {
          if ((inked >> (2 * y + ky) & 3) == 0) continue;
          const float* rows = halves + (2 * y + ky) * HALF_ROW + part * REGISTER;
          const float* taps = w + first * 25 + ky * 5;
          KEEP_IN_MEMORY(taps);
          Float<REGISTER> x[6][2];  // column and row
#pragma GCC unroll 6
          for (int column = 0; column < 6; column++) {
#pragma GCC unroll 2
            for (int dy = 0; dy < 2; dy++)
              x[column][dy] = load<REGISTER>(rows + dy * HALF_ROW + (column & 1) * HALF + (column >> 1));
            if (column == 0) continue;
#pragma GCC unroll 6
            for (int c = 0; c < CONV1_CHANNELS; c++)
#pragma GCC unroll 2
              for (int dy = 0; dy < 2; dy++)
#pragma GCC unroll 2
                for (int dx = 0; dx < 2; dx++)
                  add_product(sum[c][dy][dx], taps[c * 25 + column - 1], x[column - 1 + dx][dy]);
          }
        }
#pragma GCC unroll 6
        for (int c = 0; c < CONV1_CHANNELS; c++) {
          if constexpr (POOLING == MAX_POOLING) {
            Int<REGISTER> winner;
            const int byte = (first + c) % 4 * 8;
            const int32_t codes[4] = {0, 3 << byte, TRIPLE_ROW << byte, (TRIPLE_ROW + 3) << byte};
            values[0][first + c].part[part] =
                pool(sum[c][0][0], sum[c][0][1], sum[c][1][0], sum[c][1][1], codes, &winner).part[0];
            which[(first + c) / 4].part[part] |= winner.part[0];
          } else {
#pragma GCC unroll 4
            for (int i = 0; i < WINDOW; i++)
              values[i][first + c].part[part] = sum[c][i >> 1][i & 1].part[0];
          }
        }
      }
    for (v16* channels : values) {
#pragma GCC unroll 6
      for (int c = 0; c < 6; c++) channels[c] = activate(kind, channels[c]);
      turn<8>(channels);
    }
    if constexpr (POOLING == MAX_POOLING)
      for (int half = 0; half < 2; half++)
        memcpy(winners + (half * 14 + y) * 64, &which[half], sizeof which[half]);
#pragma GCC unroll 7
    for (int i = 0; i < 7; i++) {
      const int at = y * A1_ROW + i * 16;
      if constexpr (POOLING == MAX_POOLING) {
        store(a1 + at, values[0][i]);
      } else {
        const v16 window[WINDOW] = {values[0][i], values[1][i], values[2][i], values[3][i]};
        for (int k = 0; k < WINDOW; k++) store(windows + k * A1 + at, window[k]);
        store(a1 + at, average(window));
      }
    }
  }
}

// Adds to the gradients of conv1. da1 (14, 14, 8) is the gradient of a1; it or, with average pooling,
// windows is overwritten. dw is (6, 2, 16): the taps of the upper three rows and of the lower two, in the
// order of triples. Blank positions are skipped, because they add nothing; an infinite gradient still
// reaches the bias.
template <Pooling POOLING>
static void conv1_backward(Activation kind, const float* triples, Ink ink, const float* a1,
                           const uint8_t* winners, float* windows, float* da1, float* dw,
                           float* dbias) {
  v16 bias = splat16(0);
  if constexpr (POOLING == MAX_POOLING)
    for (int i = 0; i < A1; i += 16) {
      const v16 g = deactivate(kind, load16(da1 + i), load16(a1 + i));
      store(da1 + i, g);
      bias += g;
    }
  else
    for (int i = 0; i < WINDOW * A1; i += 16) {
      const v16 g = deactivate(kind, load16(da1 + i % A1) * 0.25f, load16(windows + i));
      store(windows + i, g);
      bias += g;
    }
  const float* gradients = POOLING == MAX_POOLING ? da1 : windows;  // of what is visited
  float bias_of[16];
  store(bias_of, bias);
  for (int c = 0; c < 6; c++) dbias[c] += bias_of[c] + bias_of[c + 8];
  if (ink.columns == 0) return;
  // A pooled column covers three pairs of columns: its own and the next two.
  const int leftmost = __builtin_ctz(ink.columns) - 2, rightmost = 31 - __builtin_clz(ink.columns);
  const int left = leftmost > 0 ? leftmost : 0, right = rightmost < 13 ? rightmost : 13;
#pragma GCC unroll 2
  for (int first = 0; first < 6; first += CONV1_BACK_CHANNELS) {
    v16 sum[CONV1_BACK_CHANNELS][2];
#pragma GCC unroll 6
    for (int c = 0; c < CONV1_BACK_CHANNELS; c++)
#pragma GCC unroll 2
      for (int k = 0; k < 2; k++) sum[c][k] = load16(dw + (first + c) * 32 + k * 16);
    for (int y = 0; y < 14; y++) {
      if ((ink.rows >> 2 * y & 63) == 0) continue;
      for (int x = left; x <= right; x++) {
        const float* corner = triples + 2 * y * TRIPLE_ROW + x * 6;
        const uint8_t* winner = winners + (y * 16 + x) * 4;
#pragma GCC unroll 4
        for (int i = 0; i < VISITED<POOLING>; i++) {
          const float* g = gradients + i * A1 + (y * 14 + x) * 8 + first;
#pragma GCC unroll 6
          for (int c = 0; c < CONV1_BACK_CHANNELS; c++) {
            const int offset = POOLING == MAX_POOLING
                                   ? winner[(first + c) / 4 * 14 * 64 + (first + c) % 4]
                                   : (i >> 1) * TRIPLE_ROW + (i & 1) * 3;
            add_product(sum[c][0], g[c], load16(corner + offset));
            add_product(sum[c][1], g[c], load16(corner + offset + 3 * TRIPLE_ROW));
          }
        }
      }
    }
#pragma GCC unroll 6
    for (int c = 0; c < CONV1_BACK_CHANNELS; c++)
#pragma GCC unroll 2
      for (int k = 0; k < 2; k++) store(dw + (first + c) * 32 + k * 16, sum[c][k]);
  }
}

// Convert the gradient from the layout of conv1_backward to that of the parameter, (6, 25).
static void unpack_conv1_gradient(const float* packed, float* dw) {
  for (int c = 0; c < 6; c++)
    for (int row = 0; row < 5; row++)
      for (int column = 0; column < 5; column++)
        dw[c * 25 + row * 5 + column] = packed[c * 32 + row / 3 * 16 + column * 3 + row % 3];
}

// ------------------------------------------------------------------------------- conv2

// a1 -> a2 (25, 16), and for max pooling winners2 (25, 16), encoded as 2 * row + column; for average
// pooling windows2 (4, 25, 16). w is (25 taps, 6 in, 16 out); the lanes are the output channels.
template <Pooling POOLING>
static void conv2_forward(Activation kind, const float* a1, const float* w, const float* bias,
                          float* a2, uint8_t* winners, float* windows) {
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
        const int place = y * 5 + (first + x) / 2;
        if constexpr (POOLING == MAX_POOLING) {
          const int32_t codes[4] = {0, 1, 2, 3};
          i16 winner;
          v16 best = pool(sum[0][x], sum[0][x + 1], sum[1][x], sum[1][x + 1], codes, &winner);
          store(a2 + place * 16, activate(kind, best));
          store_bytes(winners + place * 16, winner);
        } else {
          v16 window[WINDOW];
#pragma GCC unroll 4
          for (int i = 0; i < WINDOW; i++) {
            window[i] = activate(kind, sum[i >> 1][x + (i & 1)]);
            store(windows + i * A2 + place * 16, window[i]);
          }
          store(a2 + place * 16, average(window));
        }
      }
    }
}

// conv2.w (16 out, 25, 8) -> w (16 out, 6, 6, 8) and a final row of zeros: the taps of each channel with
// a row and a column of zeros before them; the zeros after them belong to the next channel. A winner's
// gradient then always covers the 6 x 6 positions under its window in whole registers, whatever its
// position in the window. If a register holds two positions, there is a second, aligned copy for
// winners in the left column.
static void surround(const float* taps, float* w) {
  for (int copy = 0; copy < BACK_COPIES; copy++)
    for (int c = 0; c < 16; c++)
      for (int row = 0; row < 5; row++)
        memcpy(w + copy * BACK_COPY + c * BACK + (row + 1) * BACK_ROW + 8,
               taps + (c * 5 + row) * 40, 40 * sizeof(float));
}

// Adds to the gradients of conv2 and writes da1. da2 (25, 16) is the gradient of a2; w is the output of
// surround.
template <Pooling POOLING>
static void conv2_backward(Activation kind, const float* a1, const float* a2,
                           const uint8_t* winners, const float* windows, const float* da2,
                           const float* w, float* da1, float* dw, float* dbias) {
  // The winners with a gradient by output channel: their corner in a1 and their gradient. With average
  // pooling, each position of a window is a winner.
  constexpr int MOST = VISITED<POOLING> * 32;
  int32_t corner[16][MOST];
  float gradient[16][MOST];
  int count[16] = {};
  v16 bias = load16(dbias);
  memset(da1, 0, A1 * sizeof(float));
  for (int place = 0; place < 25; place++) {
    const int window = place / 5 * 2 * A1_ROW + place % 5 * 16;
    const float* upper_left = w + (BACK_COPIES - 1) * BACK_COPY + BACK_ROW + 8;
    const float* weights_here[VISITED<POOLING> * 16];  // the same winners at this position
    float gradient_here[VISITED<POOLING> * 16];
    int count_here = 0;
    for (int i = 0; i < VISITED<POOLING>; i++) {
      v16 g = load16(da2 + place * 16);
      i16 which;
      if constexpr (POOLING == MAX_POOLING) {
        g = deactivate(kind, g, load16(a2 + place * 16));
        which = load_bytes(winners + place * 16);
      } else {
        g = deactivate(kind, g * 0.25f, load16(windows + i * A2 + place * 16));
        which = splat_int<16>(i);
      }
      bias += g;
      const i16 lower = which >> 1, right = which & 1;
      alignas(64) float gs[16];
      alignas(64) int32_t corners[16], inside[16];  // offsets in a1, and in the channel's taps in w
      store(gs, g);
      store(corners, lower * A1_ROW + right * 8 + window);
      store(inside, lower * -BACK_ROW + right * (-8 - (BACK_COPIES - 1) * BACK_COPY));
#pragma GCC unroll 16
      for (int c = 0; c < 16; c++) {  // always write, but count only nonzero gradients: no branches
        corner[c][count[c]] = corners[c];
        gradient[c][count[c]] = gradient_here[count_here] = gs[c];
        weights_here[count_here] = upper_left + c * BACK + inside[c];
        count[c] += gs[c] != 0;
        count_here += gs[c] != 0;
      }
    }
#pragma GCC unroll 3
    for (int top = 0; top < 6; top += PATCH_ROWS) {
      v16 sum[PATCH_ROWS][3];
#pragma GCC unroll 6
      for (int r = 0; r < PATCH_ROWS; r++) sum[r][0] = sum[r][1] = sum[r][2] = splat16(0);
      for (int i = 0; i < count_here; i++)
#pragma GCC unroll 6
        for (int r = 0; r < PATCH_ROWS; r++)
#pragma GCC unroll 3
          for (int v = 0; v < 3; v++)
            add_product(sum[r][v], gradient_here[i],
                        load16(weights_here[i] + (top + r) * BACK_ROW + v * 16));
#pragma GCC unroll 6
      for (int r = 0; r < PATCH_ROWS; r++)
#pragma GCC unroll 3
        for (int v = 0; v < 3; v++) {
          float* out = da1 + window + (top + r) * A1_ROW + v * 16;
          store(out, load16(out) + sum[r][v]);
        }
    }
  }
  store(dbias, bias);
  for (int c = 0; c < 16; c++)
#pragma GCC unroll 3
    for (int top = 0; top < 5; top += TAP_ROWS) {
      const int rows = 5 - top < TAP_ROWS ? 5 - top : TAP_ROWS;
      float* out = dw + c * 200 + top * 40;
      v16 sum[TAP_ROWS][2];  // a row is 5 columns of 8, which is 2.5 vectors
      v8 last[TAP_ROWS];
#pragma GCC unroll 5
      for (int r = 0; r < rows; r++) {
        sum[r][0] = load16(out + r * 40);
        sum[r][1] = load16(out + r * 40 + 16);
        last[r] = load8(out + r * 40 + 32);
      }
      for (int i = 0; i < count[c]; i++) {
        const float* patch = a1 + corner[c][i] + top * A1_ROW;
        const float g = gradient[c][i];
#pragma GCC unroll 5
        for (int r = 0; r < rows; r++) {
          add_product(sum[r][0], g, load16(patch + r * A1_ROW));
          add_product(sum[r][1], g, load16(patch + r * A1_ROW + 16));
          add_product(last[r], g, load8(patch + r * A1_ROW + 32));
        }
      }
#pragma GCC unroll 5
      for (int r = 0; r < rows; r++) {
        store(out + r * 40, sum[r][0]);
        store(out + r * 40 + 16, sum[r][1]);
        store(out + r * 40 + 32, last[r]);
      }
    }
}

// ------------------------------------------------------------------------------- products

// A block of C (ROWS, VECTORS * 16) += A (ROWS, depth) B (depth, VECTORS * 16). Element (r, k) of A is
// a[r * a_row + k * a_step]. Either step may be 1, so A may be transposed without a copy.
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

// C (rows, columns) += A (rows, depth) B (depth, columns); columns must be a multiple of 16.
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

// out (columns, rows) = transpose of in (rows, columns), in blocks of 16 x 16. Rows are read and written
// in whole vectors, so both need padding after the last column; the padding of out becomes zero.
static void transpose(const float* in, int in_row, float* out, int out_row, int rows, int columns) {
  for (int r = 0; r < rows; r += 16)
    for (int c = 0; c < columns; c += 16) {
      v16 square[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; i++)
        square[i] = r + i < rows ? load16(in + (r + i) * in_row + c) : splat16(0);
      turn<16>(square);
#pragma GCC unroll 16
      for (int i = 0; i < 16; i++)
        if (c + i < columns) store(out + (c + i) * out_row + r, square[i]);
    }
}

}  // namespace LENET_ISA
