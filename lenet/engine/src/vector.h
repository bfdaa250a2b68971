// Vectors of float32 lanes, and the few operations on them that C++ has no operators for.
//
// For kernel files only: everything is in the namespace of the instruction set that the file is
// compiled for, so that the linker can never use one processor's code on another.
#pragma once

#include <cstdint>
#include <cstring>

#if LENET_ISA_AVX512 || LENET_ISA_AVX2
#include <immintrin.h>
#endif

#define LENET_INLINE [[gnu::always_inline]] static inline
#ifdef __clang__
#define LENET_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LENET_UNROLL _Pragma("GCC unroll 64")
#endif

namespace lenet::LENET_ISA {

#if LENET_ISA_AVX512
constexpr int lanes = 16;
constexpr int registers = 32;
#elif LENET_ISA_AVX2
constexpr int lanes = 8;
constexpr int registers = 16;
#else
constexpr int lanes = 4;
#ifdef __aarch64__
constexpr int registers = 32;
#else
constexpr int registers = 16;
#endif
#endif

using Vector [[gnu::vector_size(lanes * 4), gnu::may_alias]] = float;
using Unaligned [[gnu::vector_size(lanes * 4), gnu::may_alias, gnu::aligned(4)]] = float;
using Integers [[gnu::vector_size(lanes * 4), gnu::may_alias]] = std::int32_t;
using Bytes [[gnu::vector_size(lanes), gnu::may_alias, gnu::aligned(1)]] = std::uint8_t;
using UnsignedIntegers [[gnu::vector_size(lanes * 4), gnu::may_alias]] = std::uint32_t;

// All lanes equal. Written out, because `Vector{} + x` becomes an addition and a shuffle.
LENET_INLINE Vector splat(float x) {
#if LENET_ISA_AVX512
  return Vector{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
#elif LENET_ISA_AVX2
  return Vector{x, x, x, x, x, x, x, x};
#else
  return Vector{x, x, x, x};
#endif
}

// The same value, held in a register: GCC otherwise may load an operand again for each use.
LENET_INLINE Vector in_register(Vector v) {
#ifdef __x86_64__
  asm("" : "+v"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
  return v;
}

LENET_INLINE Vector load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
LENET_INLINE void store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }

// The second operand where one is NaN. Intrinsics, as `a < b ? a : b` becomes two instructions.
LENET_INLINE Vector minimum(Vector a, Vector b) {
#if LENET_ISA_AVX512
  return reinterpret_cast<Vector>(
      _mm512_min_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#elif LENET_ISA_AVX2
  return reinterpret_cast<Vector>(
      _mm256_min_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
#else
  return a < b ? a : b;
#endif
}
LENET_INLINE Vector maximum(Vector a, Vector b) {
#if LENET_ISA_AVX512
  return reinterpret_cast<Vector>(
      _mm512_max_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#elif LENET_ISA_AVX2
  return reinterpret_cast<Vector>(
      _mm256_max_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
#else
  return a > b ? a : b;
#endif
}
LENET_INLINE Vector clamp(Vector x, float low, float high) {
  return minimum(splat(high), maximum(splat(low), x));
}

// For each lane the byte at its offset and the next one, as numbers. May read two bytes more.
struct Pair {
  Vector first, second;
};
LENET_INLINE Pair gather_pair(const std::uint8_t* bytes, Integers offsets) {
  Integers found;
#if LENET_ISA_AVX512
  found = reinterpret_cast<Integers>(
      _mm512_i32gather_epi32(reinterpret_cast<__m512i>(offsets), bytes, 1));
#elif LENET_ISA_AVX2
  found = reinterpret_cast<Integers>(_mm256_i32gather_epi32(
      reinterpret_cast<const int*>(bytes), reinterpret_cast<__m256i>(offsets), 1));
#else
  for (int i = 0; i < lanes; i++) found[i] = bytes[offsets[i]] | bytes[offsets[i] + 1] << 8;
#endif
  return {__builtin_convertvector(found & 255, Vector),
          __builtin_convertvector(found >> 8 & 255, Vector)};
}

// Sum of the lanes, pairwise.
LENET_INLINE float sum(Vector v) {
#if LENET_ISA_AVX512
  return _mm512_reduce_add_ps(reinterpret_cast<__m512>(v));
#else
  LENET_UNROLL for (int width = lanes / 2; width > 0; width /= 2)
    LENET_UNROLL for (int i = 0; i < width; i++) v[i] += v[i + width];
  return v[0];
#endif
}

// 1 / d to one or two units in the last place: an estimate and one Newton step, if the processor
// has an estimate, as a division takes as long as the rest of a sigmoid.
LENET_INLINE Vector reciprocal(Vector d) {
#if LENET_ISA_AVX512
  const Vector r = reinterpret_cast<Vector>(_mm512_rcp14_ps(reinterpret_cast<__m512>(d)));
  return r * (2.0f - d * r);
#elif LENET_ISA_AVX2
  const Vector r = reinterpret_cast<Vector>(_mm256_rcp_ps(reinterpret_cast<__m256>(d)));
  return r * (2.0f - d * r);
#else
  return 1.0f / d;
#endif
}

// 1 / d for even n, two at a time from one reciprocal: 1 / a = b / (a b). For 1 <= d <= 2^62.
template <int n>
LENET_INLINE void reciprocals(Vector (&d)[n]) {
  if constexpr (n == 1) {
    d[0] = reciprocal(d[0]);
  } else {
    static_assert(n % 2 == 0);
    LENET_UNROLL for (int i = 0; i < n; i += 2) {
      const Vector both = reciprocal(d[i] * d[i + 1]), first = both * d[i + 1];
      d[i + 1] = both * d[i];
      d[i] = first;
    }
  }
}

// 2^(whole + rest), where `whole` is a whole number and the rest is from -1/2 to 1/2.
struct Exponent {
  Vector rest;
#if LENET_ISA_AVX512
  Vector whole;
#else
  Integers whole;
#endif

  // 2^whole * v, for positive v; v and the product must be normal numbers.
  Vector scale(Vector v) const {
#if LENET_ISA_AVX512
    return reinterpret_cast<Vector>(
        _mm512_scalef_ps(reinterpret_cast<__m512>(v), reinterpret_cast<__m512>(whole)));
#else
    return reinterpret_cast<Vector>(reinterpret_cast<Integers>(v) + (whole << 23));
#endif
  }
};
LENET_INLINE Exponent split_exponent(Vector x) {
#if LENET_ISA_AVX512
  constexpr int nearest = 0;
  const Vector rest =
      reinterpret_cast<Vector>(_mm512_reduce_ps(reinterpret_cast<__m512>(x), nearest));
  return {rest, x - rest};
#else
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Vector shifted = x + magic;
  return {x - (shifted - magic), reinterpret_cast<Integers>(shifted)};
#endif
}

// 2^x for |x| <= 120, with a relative error of at most 1.7e-7.
LENET_INLINE Vector exp2(Vector x) {
  const Exponent exponent = split_exponent(x);
  const Vector f = exponent.rest;
  Vector p = splat(0.00132647320f);
  p = p * f + 0.00967151299f;
  p = p * f + 0.0555073358f;
  p = p * f + 0.240222424f;
  p = p * f + 0.693147004f;
  return exponent.scale(p * f + 1.0f);
}

// 2^x = scale * (1 + fraction) for |x| <= 120, with scale an integer power of two. The fraction, in
// [-0.30, 0.42], is a polynomial without a constant term (relative error 7e-8), so that it stays
// exact for tiny x, where 2^x - 1 would cancel.
struct PowerOfTwo {
  Vector scale, fraction;
};
LENET_INLINE PowerOfTwo exp2_parts(Vector x) {
  const Exponent exponent = split_exponent(x);
  const Vector f = exponent.rest;
  Vector p = splat(0.000154035128f);
  p = p * f + 0.00133907355f;
  p = p * f + 0.00961823749f;
  p = p * f + 0.0555035743f;
  p = p * f + 0.240226498f;
  p = p * f + 0.693147188f;
  return {exponent.scale(splat(1.0f)), p * f};
}

constexpr float log2e = 1.44269504f;

// e^x for x <= 0; results below e^-80 become e^-80.
LENET_INLINE Vector exp(Vector x) { return exp2(clamp(x, -80.0f, 0.0f) * log2e); }

// Transposes a square of lanes x lanes floats in registers.
LENET_INLINE void transpose(Vector (&rows)[lanes]) {
  LENET_UNROLL for (int stride = lanes / 2; stride > 0; stride /= 2) {
    Integers low, high;
    LENET_UNROLL for (int i = 0; i < lanes; i++) {
      low[i] = (i & stride) ? lanes + (i ^ stride) : i;
      high[i] = (i & stride) ? lanes + i : (i ^ stride);
    }
    LENET_UNROLL for (int i = 0; i < lanes; i++) {
      if (i & stride) continue;
      const Vector a = rows[i], b = rows[i + stride];
#ifdef __clang__
      LENET_UNROLL for (int j = 0; j < lanes; j++) {
        rows[i][j] = (j & stride) ? b[j ^ stride] : a[j];
        rows[i + stride][j] = (j & stride) ? b[j] : a[j ^ stride];
      }
#else
      rows[i] = __builtin_shuffle(a, b, low);
      rows[i + stride] = __builtin_shuffle(a, b, high);
#endif
    }
  }
}

}  // namespace lenet::LENET_ISA
