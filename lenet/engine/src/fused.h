// What the Python module and the kernels of the fused training step know of each other.
#pragma once

#include <cstdint>

#include "warp.h"

namespace lenet {

enum class Activation { sigmoid, tanh, scaled_tanh, relu, gelu, silu };
enum class Pooling { average, max };
enum class Loss { cross_entropy, squared_error };

// See lenet.engine.fused.Plan, which has the same fields.
struct Plan {
  int image_size, input_size, padding;
  int channels[2], kernel_sizes[2], hidden[2], classes;
  Activation activation;
  Pooling pooling;
  float mean, std;
  Loss loss;
  float label_smoothing;
  float distillation, temperature;
};

constexpr int parameter_arrays = 10;  // weight and bias of C1, C3, C5, F6 and output

struct Batch {
  const std::uint8_t* images;  // (anything, image_size, image_size)
  const std::int64_t* index;   // size numbers of images; null: the first `size` images
  const std::int64_t* labels;  // labels[number of the image] is its class
  int size;
  Distortions distortions;  // an entry for each example
  const float* targets;     // (size, classes): what teachers say; null without distillation
};

struct Result {
  double loss;  // mean over the batch
  int right;
};

// A network of one plan with its working memory. Not for two callers at once.
class Network {
 public:
  virtual ~Network();
  virtual Result step(const Batch& batch, const float* const* weights, float* const* gradients) = 0;
  virtual void scores(const Batch& batch, const float* const* weights, float* scores) = 0;
};

// The kernels of one instruction set. `create` returns null for a plan that they do not serve and
// throws std::bad_alloc; `threads` is the number of threads that share each step.
namespace portable {
Network* create(const Plan& plan, int threads);
}
namespace avx2 {
Network* create(const Plan& plan, int threads);
}
namespace avx512 {
Network* create(const Plan& plan, int threads);
}

}  // namespace lenet
