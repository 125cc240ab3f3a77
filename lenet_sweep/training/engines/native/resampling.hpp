// Resampling of augmented images (28 x 28 bytes). Everything is exact: integers, or floats that hold
// integers below 2^24. So all instruction sets give the same bytes as NumPy does in resampling.py, where
// the formulas are explained.
#pragma once

#include <string.h>

#include "kernels.hpp"

namespace LENET_ISA {

constexpr int SIDE = 28, STRIDE = 32;

// The four pixels around each position of an image as the bytes of an integer: (y, x), (y, x + 1),
// (y + 1, x), (y + 1, x + 1), for y and x from -1 to 28. Pixels outside of the image are 0.
struct Neighbors {
  uint32_t at[30 * STRIDE];
};

static void find_neighbors(const uint8_t* image, Neighbors* out) {
  uint8_t padded[31 * STRIDE + 32] = {};
  for (int y = 0; y < SIDE; y++) memcpy(padded + (y + 1) * STRIDE + 1, image + y * SIDE, SIDE);
  for (int i = 0; i < 30 * STRIDE; i++)
    out->at[i] = padded[i] | padded[i + 1] << 8 | padded[i + STRIDE] << 16 |
                 (uint32_t)padded[i + STRIDE + 1] << 24;
}

// The position in the original image of each pixel, in 1/256 pixels.
struct Positions {
  alignas(64) int32_t x[SIDE][STRIDE], y[SIDE][STRIDE];
};

INLINE int32_t clamp(int32_t position) {
  position = position < -256 ? -256 : position;
  return position > SIDE * 256 ? SIDE * 256 : position;
}

// Interpolates all pixels of an image.
static void sample(const uint8_t* image, const Positions* positions, uint8_t* out) {
  constexpr int COUNT = SIDE * STRIDE;
  Neighbors neighbors;
  find_neighbors(image, &neighbors);
  alignas(64) int32_t where[COUNT];
  alignas(64) uint32_t right[COUNT], lower[COUNT], four[COUNT];
  const int32_t *px = positions->x[0], *py = positions->y[0];
  for (int i = 0; i < COUNT; i++) {
    const int32_t x = clamp(px[i]) + 256, y = clamp(py[i]) + 256;
    where[i] = (y >> 8) * STRIDE + (x >> 8);
    right[i] = x & 255;
    lower[i] = y & 255;
  }
  for (int i = 0; i < COUNT; i++) four[i] = neighbors.at[where[i]];
  uint8_t bytes[COUNT];
  for (int i = 0; i < COUNT; i++) {
    // Two sums of up to 16 bits: of the upper and of the lower two pixels.
    const uint32_t sums =
        (four[i] & 0xff00ff) * (256 - right[i]) + (four[i] >> 8 & 0xff00ff) * right[i];
    const uint32_t sum = (sums & 0xffff) * (256 - lower[i]) + (sums >> 16) * lower[i];
    bytes[i] = (uint8_t)((sum + (1 << 15)) >> 16);
  }
  for (int y = 0; y < SIDE; y++) memcpy(out + y * SIDE, bytes + y * STRIDE, SIDE);
}

// Copies an image so that pixel (x, y) comes from (x + dx, y + dy).
static void shift(const uint8_t* image, int dx, int dy, uint8_t* out) {
  memset(out, 0, SIDE * SIDE);
  const int left = dx < 0 ? -dx : 0, width = SIDE - left - (dx > 0 ? dx : 0);
  for (int y = 0; y < SIDE && width > 0; y++)
    if (y + dy >= 0 && y + dy < SIDE)
      memcpy(out + y * SIDE + left, image + (y + dy) * SIDE + left + dx, width);
}

INLINE bool is_shift(const int32_t* map) {
  return map[0] == 1 << 16 && map[4] == 1 << 16 && map[1] == 0 && map[3] == 0 &&
         ((map[2] | map[5]) & 0xffff) == 0;
}

// maps (count, 6): the position of pixel (x, y) is (m0 x + m1 y + m2, m3 x + m4 y + m5) / 2^16.
static void affine(const uint8_t* images, const int64_t* order, int64_t count, const int32_t* maps,
                   uint8_t* out) {
  Positions positions;
  for (int64_t n = 0; n < count; n++, maps += 6, out += SIDE * SIDE) {
    const uint8_t* image = images + order[n] * SIDE * SIDE;
    if (is_shift(maps)) {
      shift(image, maps[2] >> 16, maps[5] >> 16, out);
      continue;
    }
    for (int y = 0; y < SIDE; y++) {
      const int32_t x0 = maps[1] * y + maps[2], y0 = maps[4] * y + maps[5];
      for (int x = 0; x < STRIDE; x++) {
        positions.x[y][x] = (maps[0] * x + x0) >> 8;
        positions.y[y][x] = (maps[3] * x + y0) >> 8;
      }
    }
    sample(image, &positions, out);
  }
}

INLINE uint64_t random_word(uint64_t counter) {  // splitmix64
  counter = (counter ^ counter >> 30) * 0xbf58476d1ce4e5b9;
  counter = (counter ^ counter >> 27) * 0x94d049bb133111eb;
  return counter ^ counter >> 31;
}

// C (rows, 32) = A (rows, 28) B (28, 32); rows must be a multiple of 4.
INLINE void multiply(const float* a, int a_row, const float* b, float* c, int rows) {
  memset(c, 0, rows * STRIDE * sizeof(float));
  for (int row = 0; row < rows; row += 4)
    for (int v = 0; v < STRIDE; v += GEMM_VECTORS * 16)
      block<4, GEMM_VECTORS>(a + row * a_row, a_row, 1, b + v, STRIDE, c + row * STRIDE + v, STRIDE, SIDE);
}

// keys (count,): of the random words of each image. smooth and scale (28, 32): symmetric matrices that
// smooth the noise along the rows, and along the columns.
static void elastic(const uint8_t* images, const int64_t* order, int64_t count, const uint64_t* keys,
                    const float* smooth, const float* scale, int shift, uint8_t* out) {
  constexpr int WORDS = 2 * SIDE * SIDE / 8;
  Positions positions;
  alignas(64) uint64_t words[WORDS];
  alignas(64) float noise[2 * SIDE * SIDE];
  alignas(64) float rows[2 * SIDE][STRIDE];
  alignas(64) float fields[2][SIDE][STRIDE];
  const int32_t half = 1 << (shift - 1);
  for (int64_t n = 0; n < count; n++, out += SIDE * SIDE) {
    for (int i = 0; i < WORDS; i++)
      words[i] = random_word(keys[n] + (uint64_t)(i + 1) * 0x9e3779b97f4a7c15);
    for (int i = 0; i < WORDS; i++)
      for (int byte = 0; byte < 8; byte++)
        noise[i * 8 + byte] = (float)(2 * (int32_t)(words[i] >> 8 * byte & 255) - 255);
    multiply(noise, SIDE, smooth, rows[0], 2 * SIDE);
    for (int i = 0; i < 2 * SIDE; i++)
      for (int x = 0; x < STRIDE; x++)
        rows[i][x] = (float)(((int32_t)rows[i][x] + (1 << 11)) >> 12);
    for (int field = 0; field < 2; field++)
      multiply(scale, STRIDE, rows[field * SIDE], fields[field][0], SIDE);
    for (int y = 0; y < SIDE; y++) {
      for (int x = 0; x < STRIDE; x++) {
        positions.x[y][x] = 256 * x + (((int32_t)fields[0][y][x] + half) >> shift);
        positions.y[y][x] = 256 * y + (((int32_t)fields[1][y][x] + half) >> shift);
      }
    }
    sample(images + order[n] * SIDE * SIDE, &positions, out);
  }
}

}  // namespace LENET_ISA
