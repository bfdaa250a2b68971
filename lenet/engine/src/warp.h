// Images seen through affine maps and elastic displacements, in other shades and with noise;
// lenet.training.autograd_warp is the same in PyTorch.
#pragma once

#include <cstdint>

namespace lenet {

// The displacement is a cubic B-spline over a grid of knots that are this many pixels apart, about
// the centre of the image. Such a spline smooths like a Gaussian of 7 / sqrt(3) = 4.04 pixels.
constexpr int knot_spacing = 7;

// Knots along each side of an image, such that four reach every pixel.
constexpr int warp_knots(int side) { return (side - 1) / knot_spacing + 4; }

// How images are distorted, an entry for each: out(p) = a + b image(A p + t + d(p)), with
// coordinates (x, y) in pixels about the centre; then pixel i becomes 0 or 255, by
// its last bit, if scramble(seed + i) < 2 c.
struct Distortions {
  const float* maps;   // (2, 3): A and t in rows; null: no distortion at all
  const float* knots;  // (2, knots, knots): the spline's x, then y, in rows; null: d = 0
  const float* shades;  // (2): a and b, so that 0 and 255 stay in 0 .. 255; null: 0 and 1
  const std::int64_t* noise;  // (2): the seed, below 2^32, and c, 0 to 2^31; null: no noise
};

// Floats of a row of working memory, and of all of it, for images of that side.
constexpr int warp_stride(int side) { return (side + 15) / 16 * 16; }
constexpr int warp_memory(int side) {
  return 3 * warp_knots(side) * warp_stride(side) + ((side + 3) * (side + 3) + 3) / 4 + 1;
}

// Prepares the working memory for images of that side.
using PrepareWarp = void(int side, float* memory);

// From image to out, both uint8 (side, side): bilinear, 0 outside, rounded. `number` is the entry
// of distortions.
using Warp = void(const std::uint8_t* image, const Distortions& distortions, long number, int side,
                  float* memory, std::uint8_t* out);

namespace portable {
PrepareWarp prepare_warp;
Warp warp;
}
namespace avx2 {
PrepareWarp prepare_warp;
Warp warp;
}
namespace avx512 {
PrepareWarp prepare_warp;
Warp warp;
}

}  // namespace lenet
