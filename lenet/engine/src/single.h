// One image through a network, without a batch to fill the lanes of vectors: what the kernels and
// the network made of them share.
//
// Lanes hold neighbouring columns of a map if there are few maps, and maps or units otherwise. A
// network is a list of layers, built once; every layer's values have their own place in one buffer,
// so that all of them can be read after an image.
#pragma once

#include <cstdint>

#include "fused.h"

namespace lenet::single {

// Where values lie in the buffer: (channel, y, x) at start + the sum of index times stride. Units
// of a fully connected layer are channels of one pixel.
struct Place {
  int channels, height, width;
  int start, channel_stride, row_stride, column_stride;

  int at(int channel, int y, int x) const {
    return start + channel * channel_stride + y * row_stride + x * column_stride;
  }
};

enum class Kind {
  convolve_columns,   // lanes are columns; so are those of the input
  convolve_channels,  // lanes are output channels; the input may be either
  activate,
  pool,
  flatten,
  multiply,   // fully connected, lanes are units
  distances,  // minus the squared distances to the columns of the weights
};

struct Layer {
  Kind kind;
  Place in, out;
  int kernel;             // side of a convolution's kernels
  Activation activation;
  Pooling pooling;
  const float* weights;   // in the order in which the kernels read them; of an average pooling
                          // the coefficient of each channel's sum of four
  const float* bias;      // one for each channel, padded to whole vectors
  const int* sources;     // of a pooling: the input map of each map; null: the same
};

// How pixels become the input: stretched by linear interpolation if `left` is not null, then
// scale * pixel + shift.
struct Preparation {
  int image_size;
  float scale, shift;
  const int* left;        // (size of the input): the left or upper of the two pixels ...
  const float* fraction;  // ... and the share of the other one
  Place input;
};

constexpr int block_channels = 6;  // output channels at once, where lanes are columns
constexpr int block_vectors = 8;   // vectors of units at once in a fully connected layer

// The kernels of one instruction set.
struct Kernels {
  int lanes;
  void (*run)(const Preparation&, const Layer* layers, int count, const std::uint8_t* image,
              float* buffer);
};

}  // namespace lenet::single

namespace lenet::portable {
extern const single::Kernels single_kernels;
}
namespace lenet::avx2 {
extern const single::Kernels single_kernels;
}
namespace lenet::avx512 {
extern const single::Kernels single_kernels;
}
