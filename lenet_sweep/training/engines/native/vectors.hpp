// Vectors of 16 and 8 floats, built from the registers of the instruction set: v16 is one AVX-512
// register, two AVX2 registers, or four SSE or NEON registers. GCC's own vector types are not used for
// this because some versions split vectors larger than a register into single floats.
#pragma once

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

namespace LENET_ISA {

#if defined(__AVX512F__)
constexpr int REGISTER = 16;  // floats
#elif defined(__AVX2__)
constexpr int REGISTER = 8;
#else
constexpr int REGISTER = 4;
#endif

template <int N>
struct Lanes {  // N floats, in P registers
  static constexpr int R = N < REGISTER ? N : REGISTER, P = N / R;
  typedef float Floats __attribute__((vector_size(R * 4)));
  typedef int32_t Ints __attribute__((vector_size(R * 4)));
  typedef float Loaded __attribute__((vector_size(R * 4), aligned(4), may_alias));
  typedef int32_t LoadedInts __attribute__((vector_size(R * 4), aligned(4), may_alias));
};

template <int N>
struct Float {
  typename Lanes<N>::Floats part[Lanes<N>::P];
};

template <int N>
struct Int {  // also the result of a comparison: all bits are set where it is true
  typename Lanes<N>::Ints part[Lanes<N>::P];
};

#define EACH_PART _Pragma("GCC unroll 4") for (int i = 0; i < Lanes<N>::P; i++)

template <int N>
INLINE Float<N> splat(float x) {
  Float<N> v;
  EACH_PART v.part[i] = x - (typename Lanes<N>::Floats){};
  return v;
}
template <int N>
INLINE Int<N> splat_int(int32_t x) {
  Int<N> v;
  EACH_PART v.part[i] = x - (typename Lanes<N>::Ints){};
  return v;
}
template <int N>
INLINE Float<N> load(const float* p) {
  Float<N> v;
  EACH_PART v.part[i] = *(const typename Lanes<N>::Loaded*)(p + i * Lanes<N>::R);
  return v;
}
template <int N>
INLINE void store(float* p, Float<N> v) {
  EACH_PART *(typename Lanes<N>::Loaded*)(p + i * Lanes<N>::R) = v.part[i];
}
template <int N>
INLINE void store(int32_t* p, Int<N> v) {
  EACH_PART *(typename Lanes<N>::LoadedInts*)(p + i * Lanes<N>::R) = v.part[i];
}

#define BINARY(op)                                     \
  template <int N>                                     \
  INLINE Float<N> operator op(Float<N> a, Float<N> b) { \
    EACH_PART a.part[i] = a.part[i] op b.part[i];      \
    return a;                                          \
  }                                                    \
  template <int N>                                     \
  INLINE Float<N> operator op(Float<N> a, float b) {   \
    EACH_PART a.part[i] = a.part[i] op b;              \
    return a;                                          \
  }                                                    \
  template <int N>                                     \
  INLINE Float<N> operator op(float a, Float<N> b) {   \
    EACH_PART b.part[i] = a op b.part[i];              \
    return b;                                          \
  }
BINARY(+)
BINARY(-)
BINARY(*)
BINARY(/)
#undef BINARY

#define COMPARE(op)                                    \
  template <int N>                                     \
  INLINE Int<N> operator op(Float<N> a, Float<N> b) {  \
    Int<N> m;                                          \
    EACH_PART m.part[i] = a.part[i] op b.part[i];      \
    return m;                                          \
  }
COMPARE(<)
COMPARE(>)
COMPARE(!=)
#undef COMPARE

#define INTEGER(op)                                    \
  template <int N>                                     \
  INLINE Int<N> operator op(Int<N> a, Int<N> b) {      \
    EACH_PART a.part[i] = a.part[i] op b.part[i];      \
    return a;                                          \
  }                                                    \
  template <int N>                                     \
  INLINE Int<N> operator op(Int<N> a, int32_t b) {     \
    EACH_PART a.part[i] = a.part[i] op b;              \
    return a;                                          \
  }
INTEGER(+)
INTEGER(*)
INTEGER(&)
INTEGER(|)
INTEGER(>>)
INTEGER(<<)
#undef INTEGER

template <int N>
INLINE Float<N>& operator+=(Float<N>& a, Float<N> b) {
  EACH_PART a.part[i] += b.part[i];
  return a;
}
template <int N>
INLINE Float<N> operator-(Float<N> a) {
  EACH_PART a.part[i] = -a.part[i];
  return a;
}
// a + b * x, with a single rounding if the instruction set has fused multiply-add.
template <int N>
INLINE void add_product(Float<N>& a, float b, Float<N> x) {
  EACH_PART a.part[i] += b * x.part[i];
}
template <int N>
INLINE Float<N> select(Int<N> where, Float<N> yes, Float<N> no) {
  EACH_PART yes.part[i] = where.part[i] ? yes.part[i] : no.part[i];
  return yes;
}
template <int N>
INLINE Int<N> select(Int<N> where, Int<N> yes, Int<N> no) {
  EACH_PART yes.part[i] = where.part[i] ? yes.part[i] : no.part[i];
  return yes;
}
template <int N>
INLINE Int<N> truncate(Float<N> x) {
  Int<N> v;
  EACH_PART v.part[i] = __builtin_convertvector(x.part[i], typename Lanes<N>::Ints);
  return v;
}
template <int N>
INLINE Float<N> to_float(Int<N> x) {
  Float<N> v;
  EACH_PART v.part[i] = __builtin_convertvector(x.part[i], typename Lanes<N>::Floats);
  return v;
}
template <int N>
INLINE Float<N> as_float(Int<N> bits) {
  Float<N> v;
  EACH_PART v.part[i] = (typename Lanes<N>::Floats)bits.part[i];
  return v;
}

typedef Float<16> v16;
typedef Float<8> v8;
typedef Int<16> i16;

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (Lanes<16>::Ints){__VA_ARGS__})
#endif
#if defined(__AVX512F__)
#define LOW_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define LOW_HALVES 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#else
#define LOW_HALVES 0, 4, 1, 5
#define HIGH_HALVES 2, 6, 3, 7
#endif

// Interleave the lanes of a and b: first is a0 b0 a1 b1 ... a7 b7, second the other eight of each.
INLINE void interleave(v16 a, v16 b, v16* first, v16* second) {
  constexpr int P = Lanes<16>::P;
  v16 both[2];
#pragma GCC unroll 4
  for (int i = 0; i < P; i++) {
    both[2 * i / P].part[2 * i % P] = SHUFFLE(a.part[i], b.part[i], LOW_HALVES);
    both[(2 * i + 1) / P].part[(2 * i + 1) % P] = SHUFFLE(a.part[i], b.part[i], HIGH_HALVES);
  }
  *first = both[0];
  *second = both[1];
}

// Transpose (COUNT, 16) -> (16, COUNT), stored in the same vectors. Each round of interleaving moves
// one bit of a value's index from its row to its lane.
template <int COUNT>
INLINE void turn(v16* rows) {
#pragma GCC unroll 4
  for (int left = COUNT; left > 1; left /= 2) {
    v16 turned[COUNT];
#pragma GCC unroll 8
    for (int i = 0; i < COUNT / 2; i++)
      interleave(rows[i], rows[i + COUNT / 2], &turned[2 * i], &turned[2 * i + 1]);
#pragma GCC unroll 16
    for (int i = 0; i < COUNT; i++) rows[i] = turned[i];
  }
}

INLINE v16 load16(const float* p) { return load<16>(p); }
INLINE v8 load8(const float* p) { return load<8>(p); }
INLINE v16 splat16(float x) { return splat<16>(x); }

// Store 16 integers as bytes, and load them.
INLINE void store_bytes(uint8_t* p, i16 v) {
  int32_t lanes[16];
  __builtin_memcpy(lanes, &v, sizeof lanes);
  for (int i = 0; i < 16; i++) p[i] = (uint8_t)lanes[i];
}
INLINE i16 load_bytes(const uint8_t* p) {
  int32_t lanes[16];
  for (int i = 0; i < 16; i++) lanes[i] = p[i];
  i16 v;
  __builtin_memcpy(&v, lanes, sizeof lanes);
  return v;
}
// Load 16 pairs of bytes, with the first byte of each pair in the low bits.
INLINE i16 load_byte_pairs(const uint8_t* p) {
  uint16_t pairs[16];
  int32_t lanes[16];
  __builtin_memcpy(pairs, p, sizeof pairs);
  for (int i = 0; i < 16; i++) lanes[i] = pairs[i];
  i16 v;
  __builtin_memcpy(&v, lanes, sizeof lanes);
  return v;
}

}  // namespace LENET_ISA
