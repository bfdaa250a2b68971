// Convolution with a 5x5 kernel by Winograd's minimal filtering F(2, 5) along the rows: six
// multiplications for two outputs, where the definition takes ten.
//
// With the polynomial points 0, 1, -1, 2, -2 and infinity,
//
//   outputs = A (G weights * B inputs)
//
// for every row of five weights and six inputs, where * multiplies point by point. A, G and B are
// linear, so that the gradients are their transposes around the same products:
//
//   weight gradient = G^T (A^T deltas * B inputs),  input gradient = B^T (A^T deltas * G weights)
//
// and the transformed inputs of the forward pass serve the backward pass, too. A. Lavin, S. Gray,
// "Fast Algorithms for Convolutional Neural Networks", 2016.
//
// Below, a tile is a pair of neighbouring outputs. Whatever is transformed lies as
// [point][channel][row][tile], so that the middle of each pass streams through one point after
// the other, which fits the first-level cache. Rows of tiles follow each other without a gap, so
// that a row of the kernel is a shift by one row: products are computed in strips of five tiles,
// whatever the length of a row.
#pragma once

#include "convolution.h"
#include "vector.h"

namespace lenet::LENET_ISA {

constexpr int points = 6;
constexpr int strip = 5;          // tiles that are computed at once
constexpr int guard = strip - 1;  // vectors between planes, as the last strip may run over
constexpr int most_winograd = many_registers ? 4 : 2;  // channels in a block

// The convolution and how its channels lie in blocks.
struct Winograd : Convolution {
  int output_block, input_block;

  constexpr int tiles() const { return side / 2; }  // in a row
  constexpr int output_tiles() const { return side * tiles(); }
  constexpr int input_tiles() const { return input_side() * tiles(); }
  // From one transformed plane to the next, and from one point to the next.
  constexpr int output_stride() const { return output_tiles() + guard; }
  constexpr int input_stride() const { return input_tiles() + guard; }
  constexpr int output_point() const { return round_up(outputs, output_block) * output_stride(); }
  constexpr int input_point() const { return round_up(inputs, input_block) * input_stride(); }
  // Transformed weights of one point, for the forward pass and for the backward pass.
  constexpr int weight_point() const { return round_up(outputs, output_block) * inputs * kernel; }
  constexpr int transposed_point() const { return round_up(inputs, input_block) * outputs * kernel; }
};

// G: five weights -> six points.
LENET_INLINE void transform_weights(const float* g, float (&to)[points]) {
  const float even = g[0] + g[2] + g[4], odd = g[1] + g[3];
  const float even2 = g[0] + 4.0f * g[2] + 16.0f * g[4], odd2 = 2.0f * g[1] + 8.0f * g[3];
  to[0] = g[0] / 4.0f;
  to[1] = (even + odd) / -6.0f;
  to[2] = (even - odd) / -6.0f;
  to[3] = (even2 + odd2) / 24.0f;
  to[4] = (even2 - odd2) / 24.0f;
  to[5] = g[4];
}

// G transposed, added: six points -> five weights.
LENET_INLINE void add_transformed_back(const float (&t)[points], float* g) {
  const float sum1 = (t[1] + t[2]) / 6.0f, difference1 = (t[1] - t[2]) / 6.0f;
  const float sum2 = (t[3] + t[4]) / 24.0f, difference2 = (t[3] - t[4]) / 24.0f;
  g[0] += t[0] / 4.0f - sum1 + sum2;
  g[1] += 2.0f * difference2 - difference1;
  g[2] += 4.0f * sum2 - sum1;
  g[3] += 8.0f * difference2 - difference1;
  g[4] += 16.0f * sum2 - sum1 + t[5];
}

// weights (outputs, inputs, 5, 5) -> packed    [point][output block][input][row][output of block]
//                                and transposed [point][input block][row][output][input of block]
// Weights of channels that are made up stay zero.
static void pack_winograd(const Winograd& c, const float* weights, float* packed,
                          float* transposed) {
  const int output_block = c.output_block, input_block = c.input_block;
  for (int o = 0; o < c.outputs; o++)
    for (int i = 0; i < c.inputs; i++)
      for (int row = 0; row < c.kernel; row++, weights += c.kernel) {
        float transformed[points];
        transform_weights(weights, transformed);
        const int forward =
            ((o / output_block * c.inputs + i) * c.kernel + row) * output_block + o % output_block;
        const int back =
            ((i / input_block * c.kernel + row) * c.outputs + o) * input_block + i % input_block;
        for (int p = 0; p < points; p++) {
          packed[p * c.weight_point() + forward] = transformed[p];
          transposed[p * c.transposed_point() + back] = transformed[p];
        }
      }
}

// B: `rows` rows of inputs of one channel -> [point][row][tile].
LENET_INLINE void transform_inputs(const Vector* input, int rows, int tiles, int point_size,
                                   Vector* to) {
  for (int row = 0; row < rows; row++, input += 2 * tiles + 4)
    for (int tile = 0; tile < tiles; tile++, to++) {
      const Vector* d = input + 2 * tile;
      const Vector even1 = d[4] - 4.0f * d[2], odd1 = d[3] - 4.0f * d[1];
      const Vector even2 = d[4] - d[2], odd2 = 2.0f * (d[3] - d[1]);
      to[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
      to[point_size] = even1 + odd1;
      to[2 * point_size] = even1 - odd1;
      to[3 * point_size] = even2 + odd2;
      to[4 * point_size] = even2 - odd2;
      to[5 * point_size] = 4.0f * d[1] - 5.0f * d[3] + d[5];
    }
}

// G weights * B inputs, summed over the input channels: [point][output][row][tile].
template <int channels>
static void winograd_products(const Winograd& c, const Vector* inputs, const float* packed,
                              Vector* products) {
  constexpr int kernel = 5;
  const int tiles = c.tiles(), input_plane = c.input_stride(), plane = c.output_stride();
  for (int p = 0; p < points; p++, inputs += c.input_point())
    for (int o = 0; o < c.outputs; o += channels, products += channels * plane) {
      for (int position = 0; position < c.output_tiles(); position += strip) {
        const float* weights = packed;
        Vector sums[channels][strip] = {};
        for (int i = 0; i < c.inputs; i++) {
          const Vector* rows = inputs + i * input_plane + position;
          LENET_UNROLL for (int ky = 0; ky < kernel; ky++, weights += channels)
            LENET_UNROLL for (int j = 0; j < channels; j++) {
              const Vector weight = splat(weights[j]);
              LENET_UNROLL for (int t = 0; t < strip; t++)
                sums[j][t] += weight * rows[ky * tiles + t];
            }
        }
        LENET_UNROLL for (int j = 0; j < channels; j++)
          LENET_UNROLL for (int t = 0; t < strip; t++)
            products[j * plane + position + t] = sums[j][t];
      }
      packed += c.inputs * kernel * channels;
    }
}

// A, and the bias: all outputs of one channel from their `count` products.
LENET_INLINE void transform_products(const Vector* products, int point_size, int count, float bias,
                                     Vector* output) {
  for (int i = 0; i < count; i++) {
    const Vector* m = products + i;
    const Vector sum1 = m[point_size] + m[2 * point_size];
    const Vector difference1 = m[point_size] - m[2 * point_size];
    const Vector sum2 = m[3 * point_size] + m[4 * point_size];
    const Vector difference2 = m[3 * point_size] - m[4 * point_size];
    output[2 * i] = (m[0] + sum1) + (sum2 + bias);
    output[2 * i + 1] = (difference1 + 2.0f * difference2) + (m[5 * point_size] + bias);
  }
}

// A transposed: the deltas of one channel -> [point][row][tile], and zeros in the gaps around.
LENET_INLINE void transform_deltas(const Vector* deltas, int count, int point_size, Vector* to) {
  for (int p = 0; p < points; p++)
    for (int i = 0; i < guard; i++)
      to[p * point_size - guard + i] = to[p * point_size + count + i] = Vector{};
  for (int i = 0; i < count; i++, to++) {
    const Vector left = deltas[2 * i], right = deltas[2 * i + 1];
    to[0] = left;
    to[point_size] = left + right;
    to[2 * point_size] = left - right;
    to[3 * point_size] = left + 2.0f * right;
    to[4 * point_size] = left - 2.0f * right;
    to[5 * point_size] = right;
  }
}

// Adds A^T deltas * B inputs, lane by lane: gradient [point][output block][input][output of
// block][row].
template <int channels>
static void add_winograd_gradient(const Winograd& c, const Vector* inputs, const Vector* deltas,
                                  Vector* gradient) {
  constexpr int kernel = 5;
  const int tiles = c.tiles(), input_plane = c.input_stride(), plane = c.output_stride();
  for (int p = 0; p < points; p++, inputs += c.input_point())
    for (int o = 0; o < c.outputs; o += channels, deltas += channels * plane)
      for (int i = 0; i < c.inputs; i++, gradient += channels * kernel) {
        const Vector* rows = inputs + i * input_plane;
        Vector sums[channels][kernel];
        LENET_UNROLL for (int j = 0; j < channels; j++)
          LENET_UNROLL for (int ky = 0; ky < kernel; ky++) sums[j][ky] = gradient[j * kernel + ky];
        for (int position = 0; position < c.output_tiles(); position++) {
          Vector d[channels];
          LENET_UNROLL for (int j = 0; j < channels; j++) d[j] = deltas[j * plane + position];
          LENET_UNROLL for (int ky = 0; ky < kernel; ky++) {
            const Vector u = rows[position + ky * tiles];
            LENET_UNROLL for (int j = 0; j < channels; j++) sums[j][ky] += u * d[j];
          }
        }
        LENET_UNROLL for (int j = 0; j < channels; j++)
          LENET_UNROLL for (int ky = 0; ky < kernel; ky++) gradient[j * kernel + ky] = sums[j][ky];
      }
}

// Where the gradient of a point of (output, input, row) lies in what add_winograd_gradient adds.
LENET_INLINE int winograd_offset(const Winograd& c, int p, int output, int input, int row) {
  const int block = c.output_block;
  const int group = (p * blocks(c.outputs, block) + output / block) * c.inputs + input;
  return (group * block + output % block) * c.kernel + row;
}

// The gradient with respect to the transformed inputs, laid out like them. `guard` zeros lie in
// front of every plane of deltas and behind it.
template <int channels>
static void winograd_input_gradient(const Winograd& c, const Vector* deltas,
                                    const float* transposed, Vector* gradient) {
  constexpr int kernel = 5;
  const int tiles = c.tiles(), plane = c.output_stride(), input_plane = c.input_stride();
  for (int p = 0; p < points; p++, deltas += c.output_point())
    for (int i = 0; i < c.inputs; i += channels, gradient += channels * input_plane) {
      for (int position = 0; position < c.input_tiles(); position += strip) {
        // Rows of the kernel that meet deltas in any of the tiles.
        const int above = position - c.output_tiles(), below = (position + guard) / tiles;
        const int first = above < 0 ? 0 : above / tiles + 1, last = below < kernel ? below : kernel - 1;
        Vector sums[channels][strip] = {};
        for (int ky = first; ky <= last; ky++) {
          const Vector* row = deltas + position - ky * tiles;
          const float* weights = transposed + ky * c.outputs * channels;
          for (int o = 0; o < c.outputs; o++, row += plane, weights += channels) {
            Vector weight[channels];
            LENET_UNROLL for (int j = 0; j < channels; j++) weight[j] = splat(weights[j]);
            LENET_UNROLL for (int t = 0; t < strip; t++) {
              const Vector d = in_register(row[t]);
              LENET_UNROLL for (int j = 0; j < channels; j++) sums[j][t] += weight[j] * d;
            }
          }
        }
        LENET_UNROLL for (int j = 0; j < channels; j++)
          LENET_UNROLL for (int t = 0; t < strip; t++)
            gradient[j * input_plane + position + t] = sums[j][t];
      }
      transposed += kernel * c.outputs * channels;
    }
}

// B transposed: [point][row][tile] of one channel -> the gradient of its rows of inputs.
// Neighbouring tiles share four inputs.
LENET_INLINE void transform_inputs_back(const Vector* transformed, int rows, int tiles,
                                        int point_size, Vector* gradient) {
  for (int row = 0; row < rows; row++) {
    Vector carry[4] = {};
    for (int tile = 0; tile < tiles; tile++, gradient += 2, transformed++) {
      const Vector* m = transformed;
      const Vector m0 = m[0], m5 = m[5 * point_size];
      const Vector sum1 = m[point_size] + m[2 * point_size];
      const Vector difference1 = m[point_size] - m[2 * point_size];
      const Vector sum2 = m[3 * point_size] + m[4 * point_size];
      const Vector difference2 = 2.0f * (m[3 * point_size] - m[4 * point_size]);
      gradient[0] = carry[0] + 4.0f * m0;
      gradient[1] = carry[1] - 4.0f * difference1 - difference2 + 4.0f * m5;
      carry[0] = carry[2] - 5.0f * m0 - 4.0f * sum1 - sum2;
      carry[1] = carry[3] + difference1 + difference2 - 5.0f * m5;
      carry[2] = m0 + sum1 + sum2;
      carry[3] = m5;
    }
    LENET_UNROLL for (int j = 0; j < 4; j++) *gradient++ = carry[j];
  }
}

// The functions above for blocks of 0, 1, ... channels.
constexpr decltype(&winograd_products<1>) winograd_products_by_block[] = {
    nullptr, winograd_products<1>, winograd_products<2>, winograd_products<3>,
    winograd_products<4>};
constexpr decltype(&add_winograd_gradient<1>) add_winograd_gradient_by_block[] = {
    nullptr, add_winograd_gradient<1>, add_winograd_gradient<2>, add_winograd_gradient<3>,
    add_winograd_gradient<4>};
constexpr decltype(&winograd_input_gradient<1>) winograd_input_gradient_by_block[] = {
    nullptr, winograd_input_gradient<1>, winograd_input_gradient<2>, winograd_input_gradient<3>,
    winograd_input_gradient<4>};

}  // namespace lenet::LENET_ISA
