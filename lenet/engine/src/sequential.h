// What the Python module and the kernels of sequential training share.
//
// LeNet-5 of 1998, one pattern at a time: every pattern changes the weights before the next one is
// presented, so there is no batch to spread over lanes or threads. Lanes hold neighbouring columns
// or output maps instead, and a run uses one thread.
#pragma once

#include <cstdint>

namespace lenet {

// Weight (or coefficient) and bias of C1, S2, C3, S4, C5 and F6, each in PyTorch's layout; the
// weights of C3 are those of the connected pairs only, ordered by output map, then input map.
constexpr int parameter_arrays = 12;

constexpr int classes = 10, features = 84;
constexpr int feature_row = 96;  // padded to whole vectors
constexpr int c1_maps = 6, c3_maps = 16;
constexpr int image_size = 28;

struct Settings {
  const float* codes;              // (classes, feature_row), padded with 0
  const bool* table;               // (c3_maps, c1_maps): C3's connections
  float pooling_scale;             // weight of each of 2x2 inputs: 1 in a sum, 0.25 in an average
  bool competitive;                // criterion (9), the loss map; else (8), penalty
  float j;                         // constant of criterion (9)
  bool exact;                      // curvature of criterion (9) at F6, else 2
};

struct Patterns {
  const std::uint8_t* images;      // (anything, image_size, image_size)
  const std::int64_t* labels;      // labels[number of the image]
  const std::int64_t* order;       // numbers of the images
  std::int64_t count;              // of them
};

struct Result {
  double loss;  // summed
  std::int64_t errors;
};

// The two entry points, once for each instruction set. `parameters` and the like are
// `parameter_arrays` pointers; what is not const is changed in place.
struct Kernels {
  // Forward, backward and w -= step * gradient, pattern by pattern.
  Result (*train)(const Patterns&, const Settings&, float* const* parameters,
                  const float* const* steps);
  // Adds the Gauss-Newton diagonal of every pattern to h.
  void (*curvature)(const Patterns&, const Settings&, const float* const* parameters,
                    float* const* h);
};

namespace portable {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}

}  // namespace lenet
