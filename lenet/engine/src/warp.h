// Images seen through affine maps; lenet.augment.warp is the same in PyTorch.
#pragma once

#include <cstdint>

namespace lenet {

// Floats of working memory that `warp` needs for images of that side.
constexpr int warp_memory(int side) { return (side + 3) * (side + 3); }

// From image to out, both uint8 (side, side): out(p) = image(A p + t), bilinear, 0 outside,
// rounded. map is A and t in rows of three; coordinates are (x, y) about the centre.
using Warp = void(const std::uint8_t* image, const float* map, int side, float* memory,
                  std::uint8_t* out);

namespace portable {
Warp warp;
}
namespace avx2 {
Warp warp;
}
namespace avx512 {
Warp warp;
}

}  // namespace lenet
