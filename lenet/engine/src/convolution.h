// Convolution with stride 1 by its definition: forward and, with the transposed weights, the
// gradient of the inputs; and the gradient of the weights.
//
// A plane holds one channel: rows of `side` vectors, lane i of every vector belonging to example
// i. Each kernel keeps a block of up to 24 accumulators in registers, so that it needs less than
// one load for each multiply-add.
#pragma once

#include "blocks.h"
#include "vector.h"

namespace lenet::LENET_ISA {

// Channels in a block, forward and for the gradient of the weights.
constexpr int most_convolved = 6, most_gradients = many_registers ? 4 : 2;

struct Convolution {
  int inputs, outputs;  // channels
  int kernel;           // side of the kernel
  int side;             // of an output plane

  constexpr int plane() const { return side * side; }
  constexpr int input_side() const { return side + kernel - 1; }
  constexpr int input_plane() const { return input_side() * input_side(); }
  constexpr int kernel_size() const { return kernel * kernel; }
  constexpr int weights() const { return outputs * inputs * kernel_size(); }
};

// weights (outputs, inputs, kernel, kernel) -> [output block][input][row][column][output of block]
static void pack_convolution(const Convolution& c, int block, const float* weights, float* packed) {
  const int size = c.inputs * c.kernel_size();
  for (int first = 0; first < c.outputs; first += block)
    for (int i = 0; i < size; i++)
      for (int o = first; o < first + block; o++)
        *packed++ = o < c.outputs ? weights[o * size + i] : 0.0f;
}

// The same for the convolution `back` that computes the gradient of the inputs of `c`: channels are
// swapped, and kernels are rotated by half a turn.
static void pack_transposed_convolution(const Convolution& c, int block, const float* weights,
                                        float* packed) {
  for (int first = 0; first < c.inputs; first += block)
    for (int o = 0; o < c.outputs; o++)
      for (int position = c.kernel_size() - 1; position >= 0; position--)
        for (int i = first; i < first + block; i++)
          *packed++ = i < c.inputs ? weights[(o * c.inputs + i) * c.kernel_size() + position] : 0.0f;
}

// A strip of `columns` outputs of a block of channels, by the rows of the kernel from `first` to
// `last`. `packed` are the weights of the block; `input` is its window in the first plane. The side
// of the kernel is a multiple of `taps`, which are unrolled.
template <int taps, int channels, int columns>
LENET_INLINE void convolve_strip(const Convolution& c, const Vector* input, const float* packed,
                                 const float* bias, int first, int last, Vector* output) {
  Vector sums[channels][columns];
  LENET_UNROLL for (int i = 0; i < channels; i++)
    LENET_UNROLL for (int j = 0; j < columns; j++) sums[i][j] = splat(bias[i]);
  for (int channel = 0; channel < c.inputs; channel++) {
    const Vector* row = input + channel * c.input_plane() + first * c.input_side();
    const float* w = packed + (channel * c.kernel + first) * c.kernel * channels;
    for (int ky = first; ky < last; ky++, row += c.input_side())
      for (int kx = 0; kx < c.kernel; kx += taps, w += taps * channels)
        LENET_UNROLL for (int tap = 0; tap < taps; tap++)
          LENET_UNROLL for (int i = 0; i < channels; i++) {
            const Vector weight = splat(w[tap * channels + i]);
            LENET_UNROLL for (int j = 0; j < columns; j++)
              sums[i][j] += weight * row[kx + tap + j];
          }
  }
  LENET_UNROLL for (int i = 0; i < channels; i++)
    LENET_UNROLL for (int j = 0; j < columns; j++) output[i * c.plane() + j] = sums[i][j];
}

// One row of all output channels. `input` and `output` point at the row in the first plane; bias
// has a value for every channel of the blocks.
template <int taps, int channels>
static void convolve_row(const Convolution& c, const Vector* input, const float* packed,
                         const float* bias, int first, int last, Vector* output) {
  constexpr int columns = many_registers ? 4 : 2;
  for (int o = 0; o < c.outputs; o += channels) {
    int x = 0;
    for (; x + columns <= c.side; x += columns)
      convolve_strip<taps, channels, columns>(c, input + x, packed, bias + o, first, last, output + x);
    if constexpr (columns > 2)
      for (; x + 2 <= c.side; x += 2)
        convolve_strip<taps, channels, 2>(c, input + x, packed, bias + o, first, last, output + x);
    for (; x < c.side; x++)
      convolve_strip<taps, channels, 1>(c, input + x, packed, bias + o, first, last, output + x);
    packed += c.inputs * c.kernel_size() * channels;
    output += channels * c.plane();
  }
}

using ConvolveRow = decltype(&convolve_row<1, 1>);
static ConvolveRow convolve_row_in(int block, int kernel) {
  return for_block<most_convolved>(block, [&]<int block>() {
    return kernel % 5 == 0   ? &convolve_row<5, block>
           : kernel % 3 == 0 ? &convolve_row<3, block>
                             : &convolve_row<1, block>;
  });
}

// The position of the gradient of weight (output, input, row, column) below.
LENET_INLINE int gradient_offset(const Convolution& c, int block, int output, int input, int row,
                                 int column) {
  const int group = (output / block * c.inputs + input) * c.kernel + row;
  return (group * block + output % block) * c.kernel + column;
}

// Adds the gradients of `taps` neighbouring weights of one row of one input channel's kernels.
template <int channels, int taps>
LENET_INLINE void add_tap_gradients(const Convolution& c, int rows, const Vector* input,
                                    const Vector* deltas, int delta_pitch, int delta_plane,
                                    Vector* gradient) {
  Vector sums[channels][taps];
  LENET_UNROLL for (int i = 0; i < channels; i++)
    LENET_UNROLL for (int kx = 0; kx < taps; kx++) sums[i][kx] = gradient[i * c.kernel + kx];
  for (int y = 0; y < rows; y++, input += c.input_side(), deltas += delta_pitch)
    for (int x = 0; x < c.side; x++) {
      Vector d[channels];
      LENET_UNROLL for (int i = 0; i < channels; i++) d[i] = deltas[i * delta_plane + x];
      LENET_UNROLL for (int kx = 0; kx < taps; kx++) {
        const Vector v = input[x + kx];
        LENET_UNROLL for (int i = 0; i < channels; i++) sums[i][kx] += v * d[i];
      }
    }
  LENET_UNROLL for (int i = 0; i < channels; i++)
    LENET_UNROLL for (int kx = 0; kx < taps; kx++) gradient[i * c.kernel + kx] = sums[i][kx];
}

// Adds the weight gradient of `rows` output rows, lane by lane. `input` and `deltas` point at the
// first of the rows in the first plane; rows of deltas are `delta_pitch` vectors apart, planes
// `delta_plane`.
template <int channels>
static void add_weight_gradient(const Convolution& c, int rows, const Vector* input,
                                const Vector* deltas, int delta_pitch, int delta_plane,
                                Vector* gradient) {
  const int most = blocks(c.kernel, blocks(c.kernel, 5));
  for (int o = 0; o < c.outputs; o += channels)
    for (int channel = 0; channel < c.inputs; channel++)
      for (int ky = 0; ky < c.kernel; ky++, gradient += channels * c.kernel)
        for (int kx = 0; kx < c.kernel; kx += most) {
          const Vector* from = input + channel * c.input_plane() + ky * c.input_side() + kx;
          const Vector* delta = deltas + o * delta_plane;
          for_block<5>(c.kernel - kx < most ? c.kernel - kx : most, [&]<int taps>() {
            add_tap_gradients<channels, taps>(c, rows, from, delta, delta_pitch, delta_plane,
                                              gradient + kx);
          });
        }
}

using AddWeightGradient = decltype(&add_weight_gradient<1>);
static AddWeightGradient add_weight_gradient_in(int block) {
  return for_block<most_gradients>(block, []<int block>() { return &add_weight_gradient<block>; });
}

// Two rows of deltas of one channel from the gradients of their `columns` pooled values and the
// slopes that the forward pass left. Returns the sum of the deltas. `deltas` may be `slopes`.
LENET_INLINE Vector unpool_rows(const Vector* pooled_gradient, int columns, const Vector* slopes,
                                int slope_pitch, Vector* deltas, int delta_pitch) {
  Vector total[2] = {};
  LENET_UNROLL for (int row = 0; row < 2; row++, slopes += slope_pitch, deltas += delta_pitch)
    for (int x = 0; x < columns; x++) {
      const Vector left = pooled_gradient[x] * slopes[2 * x];
      const Vector right = pooled_gradient[x] * slopes[2 * x + 1];
      deltas[2 * x] = left;
      deltas[2 * x + 1] = right;
      total[row] += left + right;
    }
  return total[0] + total[1];
}

}  // namespace lenet::LENET_ISA
