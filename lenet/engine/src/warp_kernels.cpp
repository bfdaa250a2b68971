// The warp for one instruction set: a row of output pixels in the lanes of vectors.
#include "warp.h"

#include <math.h>
#include <string.h>

#include "vector.h"

namespace lenet::LENET_ISA {
namespace {

// The cubic B-spline around 0, its knots 1 apart.
float spline(float x) {
  x = fabsf(x);
  if (x < 1.0f) return 2.0f / 3.0f + x * x * (0.5f * x - 1.0f);
  return x < 2.0f ? (2.0f - x) * (2.0f - x) * (2.0f - x) / 6.0f : 0.0f;
}

float centre(int side) { return 0.5f * static_cast<float>(side - 1); }

// The position of pixel i among the knots.
float among_knots(int i, int side) {
  return (static_cast<float>(i) - centre(side)) / knot_spacing +
         0.5f * static_cast<float>(warp_knots(side) - 1);
}

// NaN becomes the lower bound, so that every coordinate can be an index.
LENET_INLINE Vector between(Vector x, float low, float high) {
  return minimum(maximum(x, splat(low)), splat(high));
}

// Pseudo-random numbers, as scramble in lenet.training.autograd_warp.
LENET_INLINE UnsignedIntegers scramble(UnsignedIntegers x) {
  x = (x >> 16 ^ x) * 0x45D9F3Bu;
  x = (x >> 16 ^ x) * 0x45D9F3Bu;
  return x >> 16 ^ x;
}

// The parts of the working memory.
struct Memory {
  Memory(int side, float* memory)
      : stride(warp_stride(side)),
        basis(memory),
        displacements(basis + warp_knots(side) * stride),
        padded(reinterpret_cast<std::uint8_t*>(displacements + 2 * warp_knots(side) * stride)) {}

  int stride;
  float* basis;          // (knots, stride): the spline of each knot at each pixel of a row
  float* displacements;  // (2, knots, stride): the splines of each row of knots along x
  std::uint8_t* padded;  // the image in a border of zeros, 1 before and 2 after
};

// The rows of knots as splines along x.
void spline_rows(const float* knots, int count, const Memory& m) {
  for (int row = 0; row < 2 * count; row++, knots += count)
    for (int x = 0; x < m.stride; x += lanes) {
      Vector total = {};
      for (int k = 0; k < count; k++) total += knots[k] * load(m.basis + k * m.stride + x);
      store(m.displacements + row * m.stride + x, total);
    }
}

}  // namespace

void prepare_warp(int side, float* memory) {
  const Memory m(side, memory);
  memset(memory, 0, sizeof(float) * warp_memory(side));
  for (int k = 0; k < warp_knots(side); k++)
    for (int x = 0; x < side; x++)
      m.basis[k * m.stride + x] = spline(among_knots(x, side) - static_cast<float>(k));
}

void warp(const std::uint8_t* image, const Distortions& distortions, long number, int side,
          float* memory, std::uint8_t* out) {
  const Memory m(side, memory);
  const int width = side + 3, count = warp_knots(side);
  for (int y = 0; y < side; y++) memcpy(m.padded + (y + 1) * width + 1, image + y * side, side);
  if (distortions.knots) spline_rows(distortions.knots + number * 2 * count * count, count, m);

  Integers numbers;
  for (int i = 0; i < lanes; i++) numbers[i] = i;
  const Vector ramp = __builtin_convertvector(numbers, Vector);
  const float* map = distortions.maps + number * 6;
  const float* shades = distortions.shades ? distortions.shades + number * 2 : nullptr;
  const float paper = shades ? shades[0] : 0.0f, contrast = shades ? shades[1] : 1.0f;
  const std::int64_t* noise = distortions.noise ? distortions.noise + number * 2 : nullptr;
  const auto seed = static_cast<std::uint32_t>(noise ? noise[0] : 0);
  const auto chance = static_cast<std::int32_t>(noise ? noise[1] - 1 : -1);  // 2^31 - 1 at most
  const float limit = static_cast<float>(side + 1);
  for (int y = 0; y < side; y++) {
    const float py = static_cast<float>(y) - centre(side);
    // Of the padded image, hence + 1.
    const float u0 = map[1] * py + map[2] + centre(side) + 1.0f;
    const float v0 = map[4] * py + map[5] + centre(side) + 1.0f;
    const int knot = static_cast<int>(among_knots(y, side)) - 1;  // first of four that reach y
    for (int x = 0; x < side; x += lanes) {
      const Vector px = ramp + (static_cast<float>(x) - centre(side));
      Vector u = map[0] * px + u0, v = map[3] * px + v0;
      if (distortions.knots)
        for (int k = knot; k < knot + 4; k++) {
          const float share = m.basis[k * m.stride + y];
          u += share * load(m.displacements + k * m.stride + x);
          v += share * load(m.displacements + (count + k) * m.stride + x);
        }
      u = between(u, 0.0f, limit);
      v = between(v, 0.0f, limit);
      // Not negative, so that truncation rounds down.
      const auto left = __builtin_convertvector(u, Integers);
      const auto top = __builtin_convertvector(v, Integers);
      const Vector right_share = u - __builtin_convertvector(left, Vector);
      const Vector lower_share = v - __builtin_convertvector(top, Vector);
      const Integers corner = top * width + left;
      const Pair upper = gather_pair(m.padded, corner);
      const Pair lower = gather_pair(m.padded, corner + width);
      const Vector above = upper.first + right_share * (upper.second - upper.first);
      const Vector below = lower.first + right_share * (lower.second - lower.first);
      const Vector value = paper + contrast * (above + lower_share * (below - above)) + 0.5f;
      auto pixels = __builtin_convertvector(value, Integers);
      if (chance >= 0) {
        const UnsignedIntegers pixel = reinterpret_cast<UnsignedIntegers>(numbers) +
                                       (seed + static_cast<std::uint32_t>(y * side + x));
        const auto drawn = scramble(pixel);
        const auto spots = reinterpret_cast<Integers>(drawn & 1) * 255;
        pixels = reinterpret_cast<Integers>(drawn >> 1) <= chance ? spots : pixels;
      }
      const auto bytes = __builtin_convertvector(pixels, Bytes);
      if (x + lanes <= side)
        *reinterpret_cast<Bytes*>(out + y * side + x) = bytes;
      else
        memcpy(out + y * side + x, &bytes, side - x);
    }
  }
}

}  // namespace lenet::LENET_ISA
