// The affine warp for one instruction set; the compiler makes vectors of the plain loops.
#include "warp.h"

#include <string.h>

namespace lenet::LENET_ISA {
namespace {

// NaN becomes the lower bound, so that every coordinate can be an index.
inline float between(float x, float low, float high) {
  return x > low ? (x < high ? x : high) : low;
}

}  // namespace

void warp(const std::uint8_t* image, const float* map, int side, float* padded,
          std::uint8_t* out) {
  // A border of zeros, 1 before and 2 behind, spares the inner loop all questions.
  const int width = side + 3;
  memset(padded, 0, sizeof(float) * warp_memory(side));
  for (int y = 0; y < side; y++)
    for (int x = 0; x < side; x++) padded[(y + 1) * width + x + 1] = image[y * side + x];

  const float centre = 0.5f * static_cast<float>(side - 1);
  const float limit = static_cast<float>(side + 1);
  for (int y = 0; y < side; y++) {
    const float py = static_cast<float>(y) - centre;
    for (int x = 0; x < side; x++) {
      const float px = static_cast<float>(x) - centre;
      // Of the padded image, hence + 1; not negative, so that truncation rounds down.
      const float u = between(map[0] * px + map[1] * py + map[2] + centre + 1.0f, 0.0f, limit);
      const float v = between(map[3] * px + map[4] * py + map[5] + centre + 1.0f, 0.0f, limit);
      const int left = static_cast<int>(u), top = static_cast<int>(v);
      const float right_share = u - static_cast<float>(left);
      const float lower_share = v - static_cast<float>(top);
      const float* corner = padded + top * width + left;
      const float upper = corner[0] + right_share * (corner[1] - corner[0]);
      const float lower = corner[width] + right_share * (corner[width + 1] - corner[width]);
      out[y * side + x] =
          static_cast<std::uint8_t>(static_cast<int>(upper + lower_share * (lower - upper) + 0.5f));
    }
  }
}

}  // namespace lenet::LENET_ISA
