// Convolution with stride 1 by its definition: forward and, with the transposed weights, the
// gradient of the inputs; and the gradient of the weights.
//
// A plane holds one channel: rows of `side` vectors, lane i of every vector belonging to example
// i. Each kernel keeps a block of 10 to 24 accumulators in registers, so that it needs less than
// one load for each multiply-add. Channels beyond the last block are made up: their weights are
// zero, and what is computed of them is read by nobody.
#pragma once

#include "vector.h"

namespace lenet::LENET_ISA {

constexpr bool many_registers = registers >= 32;

constexpr int blocks(int n, int block) { return (n + block - 1) / block; }
constexpr int round_up(int n, int block) { return blocks(n, block) * block; }

// The size of the blocks, up to `most`, in which n channels or units take the least time; a block
// costs one and a half channels more than its own.
constexpr int best_block(int n, int most) {
  int best = 1;
  for (int block = 2; block <= most; block++)
    if (blocks(n, block) * (2 * block + 3) <= blocks(n, best) * (2 * best + 3)) best = block;
  return best;
}

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

// The same for the convolution `back` that gives the gradient of the inputs of `c`: channels
// change places, and kernels are turned round.
static void pack_transposed_convolution(const Convolution& c, int block, const float* weights,
                                        float* packed) {
  for (int first = 0; first < c.inputs; first += block)
    for (int o = 0; o < c.outputs; o++)
      for (int position = c.kernel_size() - 1; position >= 0; position--)
        for (int i = first; i < first + block; i++)
          *packed++ = i < c.inputs ? weights[(o * c.inputs + i) * c.kernel_size() + position] : 0.0f;
}

// A strip of `columns` outputs of a block of channels, by the rows of the kernel from `first` to
// `last`. `packed` are the weights of the block; `input` is its window in the first plane.
template <int channels, int columns>
LENET_INLINE void convolve_strip(const Convolution& c, const Vector* input, const float* packed,
                                 const float* bias, int first, int last, Vector* output) {
  Vector sums[channels][columns];
  LENET_UNROLL for (int i = 0; i < channels; i++)
    LENET_UNROLL for (int j = 0; j < columns; j++) sums[i][j] = splat(bias[i]);
  for (int channel = 0; channel < c.inputs; channel++) {
    const Vector* row = input + channel * c.input_plane() + first * c.input_side();
    const float* w = packed + (channel * c.kernel + first) * c.kernel * channels;
    for (int ky = first; ky < last; ky++, row += c.input_side())
      for (int kx = 0; kx < c.kernel; kx++, w += channels)
        LENET_UNROLL for (int i = 0; i < channels; i++) {
          const Vector weight = splat(w[i]);
          LENET_UNROLL for (int j = 0; j < columns; j++) sums[i][j] += weight * row[kx + j];
        }
  }
  LENET_UNROLL for (int i = 0; i < channels; i++)
    LENET_UNROLL for (int j = 0; j < columns; j++) output[i * c.plane() + j] = sums[i][j];
}

// One row of all output channels. `input` and `output` point at the row in the first plane; bias
// has a value for every channel of the blocks.
template <int channels>
static void convolve_row(const Convolution& c, const Vector* input, const float* packed,
                         const float* bias, int first, int last, Vector* output) {
  constexpr int columns = many_registers ? 4 : 2;
  for (int o = 0; o < c.outputs; o += channels) {
    int x = 0;
    for (; x + columns <= c.side; x += columns)
      convolve_strip<channels, columns>(c, input + x, packed, bias + o, first, last, output + x);
    if constexpr (columns > 2)
      for (; x + 2 <= c.side; x += 2)
        convolve_strip<channels, 2>(c, input + x, packed, bias + o, first, last, output + x);
    for (; x < c.side; x++)
      convolve_strip<channels, 1>(c, input + x, packed, bias + o, first, last, output + x);
    packed += c.inputs * c.kernel_size() * channels;
    output += channels * c.plane();
  }
}

constexpr int most_convolved = 6;  // channels in a block
using ConvolveRow = void(const Convolution& c, const Vector* input, const float* packed,
                         const float* bias, int first, int last, Vector* output);
constexpr ConvolveRow* convolve_rows[most_convolved + 1] = {
    nullptr, convolve_row<1>, convolve_row<2>, convolve_row<3>,
    convolve_row<4>, convolve_row<5>, convolve_row<6>};

// Where the gradient of weight (output, input, row, column) lies in what follows.
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
          const auto add = [&]<int taps>() {
            add_tap_gradients<channels, taps>(c, rows, from, delta, delta_pitch, delta_plane,
                                              gradient + kx);
          };
          switch (c.kernel - kx < most ? c.kernel - kx : most) {
            case 1: add.template operator()<1>(); break;
            case 2: add.template operator()<2>(); break;
            case 3: add.template operator()<3>(); break;
            case 4: add.template operator()<4>(); break;
            default: add.template operator()<5>();
          }
        }
}

constexpr int most_gradients = many_registers ? 4 : 2;  // channels in a block
using AddWeightGradient = void(const Convolution& c, int rows, const Vector* input,
                               const Vector* deltas, int delta_pitch, int delta_plane,
                               Vector* gradient);
constexpr AddWeightGradient* add_weight_gradients[] = {
    nullptr, add_weight_gradient<1>, add_weight_gradient<2>, add_weight_gradient<3>,
    add_weight_gradient<4>};

// Two rows of deltas of one channel from the row of gradients of their pooled values and the
// slopes that the forward pass left. Returns the sum of the deltas. `deltas` may be `slopes`.
LENET_INLINE Vector unpool_rows(const Convolution& c, const Vector* pooled_gradient,
                                const Vector* slopes, Vector* deltas, int delta_pitch) {
  Vector total[2] = {};
  LENET_UNROLL for (int row = 0; row < 2; row++, slopes += c.side, deltas += delta_pitch)
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
