// Convolution with stride 1 by its definition: forward, and the gradient of the weights.
//
// A plane holds one channel: rows of `side` vectors, lane i of every vector belonging to example
// i. Each kernel keeps a block of 15 to 24 accumulators in registers, so that it needs less than
// one load for each multiply-add.
#pragma once

#include "vector.h"

namespace lenet::LENET_ISA {

struct Convolution {
  int inputs, outputs;  // channels
  int kernel;           // side of the kernel
  int side;             // of an output plane

  constexpr int plane() const { return side * side; }
  constexpr int input_side() const { return side + kernel - 1; }
  constexpr int input_plane() const { return input_side() * input_side(); }
  constexpr int weights() const { return outputs * inputs * kernel * kernel; }
};

// weights (outputs, inputs, kernel, kernel) -> [output block][input][row][column][output of block]
template <int channels>
static void pack_convolution(const Convolution& c, const float* weights, float* packed) {
  const int size = c.inputs * c.kernel * c.kernel;
  for (int block = 0; block < c.outputs; block += channels)
    for (int i = 0; i < size; i++)
      for (int o = block; o < block + channels; o++)
        *packed++ = weights[o * size + i];
}

// One row of all output channels. `input` and `output` point at the row in the first plane.
template <int kernel, int channels, int columns>
LENET_INLINE void convolve_row(const Convolution& c, const Vector* input, const float* packed,
                               const float* bias, Vector* output) {
  for (int o = 0; o < c.outputs; o += channels) {
    for (int x = 0; x < c.side; x += columns) {
      Vector sums[channels][columns];
      LENET_UNROLL for (int i = 0; i < channels; i++)
        LENET_UNROLL for (int j = 0; j < columns; j++) sums[i][j] = splat(bias[o + i]);
      const float* w = packed + o * c.inputs * kernel * kernel;
      for (int channel = 0; channel < c.inputs; channel++) {
        const Vector* row = input + channel * c.input_plane() + x;
        for (int ky = 0; ky < kernel; ky++, row += c.input_side(), w += kernel * channels)
          LENET_UNROLL for (int kx = 0; kx < kernel; kx++)
            LENET_UNROLL for (int i = 0; i < channels; i++) {
              const Vector weight = splat(w[kx * channels + i]);
              LENET_UNROLL for (int j = 0; j < columns; j++) sums[i][j] += weight * row[kx + j];
            }
      }
      LENET_UNROLL for (int i = 0; i < channels; i++)
        LENET_UNROLL for (int j = 0; j < columns; j++)
          output[(o + i) * c.plane() + x + j] = sums[i][j];
    }
  }
}

// Where the gradient of weight (output, input, row, column) lies in what follows.
template <int channels>
LENET_INLINE int gradient_offset(const Convolution& c, int output, int input, int row, int column) {
  const int block = (output / channels * c.inputs + input) * c.kernel + row;
  return (block * channels + output % channels) * c.kernel + column;
}

// Adds the weight gradient of `rows` output rows, lane by lane. `input` and `deltas` point at the
// first of the rows in the first plane; planes of deltas are `delta_plane` vectors apart.
template <int kernel, int channels>
LENET_INLINE void add_weight_gradient(const Convolution& c, int rows, const Vector* input,
                                      const Vector* deltas, int delta_plane, Vector* gradient) {
  for (int o = 0; o < c.outputs; o += channels)
    for (int channel = 0; channel < c.inputs; channel++)
      for (int ky = 0; ky < kernel; ky++, gradient += channels * kernel) {
        Vector sums[channels][kernel];
        LENET_UNROLL for (int i = 0; i < channels; i++)
          LENET_UNROLL for (int kx = 0; kx < kernel; kx++) sums[i][kx] = gradient[i * kernel + kx];
        for (int y = 0; y < rows; y++) {
          const Vector* row = input + channel * c.input_plane() + (y + ky) * c.input_side();
          const Vector* delta = deltas + o * delta_plane + y * c.side;
          for (int x = 0; x < c.side; x++) {
            Vector d[channels];
            LENET_UNROLL for (int i = 0; i < channels; i++) d[i] = delta[i * delta_plane + x];
            LENET_UNROLL for (int kx = 0; kx < kernel; kx++) {
              const Vector v = row[x + kx];
              LENET_UNROLL for (int i = 0; i < channels; i++) sums[i][kx] += v * d[i];
            }
          }
        }
        LENET_UNROLL for (int i = 0; i < channels; i++)
          LENET_UNROLL for (int kx = 0; kx < kernel; kx++) gradient[i * kernel + kx] = sums[i][kx];
      }
}

// Two rows of deltas of one channel from the row of gradients of their pooled values and the
// slopes that the forward pass left. Returns the sum of the deltas. `deltas` may be `slopes`.
LENET_INLINE Vector unpool_rows(const Convolution& c, const Vector* pooled_gradient,
                                const Vector* slopes, Vector* deltas) {
  Vector total[2] = {};
  LENET_UNROLL for (int row = 0; row < 2; row++, slopes += c.side, deltas += c.side)
    for (int x = 0; x < c.side / 2; x++) {
      const Vector left = pooled_gradient[x] * slopes[2 * x];
      const Vector right = pooled_gradient[x] * slopes[2 * x + 1];
      deltas[2 * x] = left;
      deltas[2 * x + 1] = right;
      total[row] += left + right;
    }
  return total[0] + total[1];
}

}  // namespace lenet::LENET_ISA
