// What the Python module and the kernels of the fused training step share: the description of a
// network, which the kernels walk through layer by layer.
#pragma once

#include <cstdint>

#include "choices.h"
#include "warp.h"

namespace lenet {

// Where something begins in the caller's arrays of weights, and of gradients: in array number
// `array`, after `offset` floats.
struct Place {
  int array, offset;
};

// A convolution with stride 1, its activation and a 2x2 pooling, which ignores a last odd row and
// column: they are not computed.
struct StagePlan {
  bool first;             // its input is the image
  int inputs, outputs;    // channels
  int kernel;             // side
  int padding;            // zeros around the input
  int input_side;         // what is read of it, without the padding
  int side;               // of the computed output planes: even
  Activation activation;  // before the pooling
  Pooling pooling;
  Activation subsampling;    // f in f(coefficient * pooled + bias), or none
  const Place* kernels;      // (outputs, inputs) connections; array -1: not connected
  const Place* biases;       // (outputs)
  bool shared;               // whether several connections have the same kernel
  int coefficients, shifts;  // arrays (outputs) of the subsampling
};

// A fully connected layer and its activation; or one whose units read some of the maps.
struct DensePlan {
  int inputs, outputs;
  Activation activation;
  int weight, bias;     // arrays
  int piece;            // inputs of a map
  const Place* pieces;  // (outputs, maps) pieces of the weights, array -1: 0; null: all of `weight`
};

constexpr int most_stages = 8, most_layers = 8;

// See lenet.engine.plan. The network is stages, then layers; its scores are the output of the last
// layer, or the negative squared distances of that from the codes. Whatever is pointed to must live
// as long as the kernels.
struct Plan {
  int image_size, input_size;
  const float* resampling;  // (input_size, image_size): resizes rows and columns; null: pads
  float mean, std;
  int stages, layers;
  StagePlan stage[most_stages];
  DensePlan layer[most_layers];
  const float* codes;  // (classes, outputs of the last layer), or null
  int classes;
  Loss loss;
  float label_smoothing, j;
  float distillation, temperature;
};

struct Batch {
  const std::uint8_t* images;  // (anything, image_size, image_size)
  const std::int64_t* index;   // size numbers of images; null: the first `size` images
  const std::int64_t* labels;  // labels[number of the image] is its class
  int size;
  Distortions distortions;  // an entry for each example
  const float* targets;     // (size, classes): from teachers; null without distillation
};

struct Result {
  double loss;  // mean over the batch
  int right;
};

// How the weights change after a step. All arrays are flat: all parameters in their order.
struct Update {
  Optimizer optimizer;
  const float* coefficients;  // from the optimizer's class, for this step
  float* weights;
  const float* gradients;
  float* state;         // (any number of arrays of `size`), or null: SGD without momentum
  float* average;       // of the weights over the steps, or null
  float average_share;  // of the new weights in it
  long size;
};

// A network of one plan with its working memory. Not thread-safe.
class Network {
 public:
  virtual ~Network();
  // Overwrites the gradients; then changes the weights, unless `update` is null.
  virtual Result step(const Batch& batch, const float* const* weights, float* const* gradients,
                      const Update* update) = 0;
  virtual void scores(const Batch& batch, const float* const* weights, float* scores) = 0;
};

// The kernels of one instruction set. `create` throws std::bad_alloc; `threads` is the number of
// threads that share each step.
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
