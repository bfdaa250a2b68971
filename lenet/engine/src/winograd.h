// Convolution with a 5x5 kernel by Winograd's minimal filtering F(m, 5) along the rows: m + 4
// multiplications for m neighbouring outputs, where the definition needs 5 m.
//
// A row of m + 4 inputs d and five weights g meet at m + 4 points, finite ones p_j and infinity:
//
//   outputs = A (G g * B d),  A_ij = p_j^i,  G_ji = p_j^i / M'(p_j),
//
// where * multiplies point by point, M(x) is the product of all x - p_j, and row j of B has the
// coefficients of M(x) / (x - p_j). Infinity contributes the leading terms: the last output and the
// last weight, and the coefficients of M itself. All are linear, so that the gradients are their
// transposes around the same products:
//
//   weight gradient = G^T (A^T deltas * B d),  input gradient = B^T (A^T deltas * G g)
//
// and the transformed inputs of the forward pass serve the backward pass, too. A. Lavin, S. Gray,
// "Fast Algorithms for Convolutional Neural Networks", 2016.
//
// The finite points are pairs p, -p, and 0 if their number is odd: then even and odd powers
// separate, which halves the work of the transformations. The points, of few bits each, are those
// of all eighths with the smallest rounding error.
//
// Below, a tile is m neighbouring outputs; the last tile of a row may extend beyond it. Transformed
// values are laid out as [point][channel][row][tile], so that the middle of each pass streams
// through one point after another, which fits the first-level cache. As rows of tiles follow each
// other without a gap, a row of the kernel is a shift, and products are computed in strips of a
// fixed number of tiles, whatever the length of a row.
#pragma once

#include "blocks.h"
#include "convolution.h"
#include "vector.h"

namespace lenet::LENET_ISA {

// The points of F(m, 5) and what follows from them. Pair k has the positions 2k and 2k + 1 among
// the points; 0, if it is a point, and infinity are last.
template <int m>
struct Filter {
  static constexpr int kernel = 5, points = m + kernel - 1;
  static constexpr int pairs = (points - 1) / 2, zero = (points - 1) % 2;
  static constexpr int at_zero = 2 * pairs, at_infinity = points - 1;

  double p[pairs] = {};
  double powers[pairs][points] = {};      // of p^2
  double others[pairs][pairs] = {};       // coefficients of the product of x^2 - q^2, q != p
  double all[pairs + 1] = {};             // and of all x^2 - q^2
  double weights[points][kernel] = {};    // G

  constexpr Filter() {
    constexpr double four[] = {0.25, 0.625, 1.125, 2.0}, three[] = {0.5, 1.0, 2.0};
    static_assert(pairs == 4 || pairs == 3, "no points have been chosen for this number of outputs");
    for (int k = 0; k < pairs; k++) p[k] = pairs == 4 ? four[k] : three[k];
    for (int k = 0; k < pairs; k++) {
      powers[k][0] = 1.0;
      for (int i = 1; i < points; i++) powers[k][i] = powers[k][i - 1] * p[k] * p[k];
    }
    for (int left_out = 0; left_out <= pairs; left_out++) {
      double product[pairs + 1] = {1.0};
      for (int k = 0; k < pairs; k++) {
        if (k == left_out) continue;
        for (int i = pairs; i >= 0; i--)
          product[i] = (i ? product[i - 1] : 0.0) - powers[k][1] * product[i];
      }
      for (int i = 0; i <= pairs; i++)
        if (left_out == pairs)
          all[i] = product[i];
        else if (i < pairs)
          others[left_out][i] = product[i];
    }
    for (int k = 0; k < pairs; k++) {
      double slope = zero ? 2.0 * powers[k][1] : 2.0 * p[k];  // M'(p)
      for (int l = 0; l < pairs; l++)
        if (l != k) slope *= powers[k][1] - powers[l][1];
      double power = 1.0 / slope;
      for (int i = 0; i < kernel; i++, power *= p[k]) {
        weights[2 * k][i] = power;
        weights[2 * k + 1][i] = (i + zero) % 2 ? power : -power;
      }
    }
    if (zero) {
      for (int i = 0; i < kernel; i++) weights[at_zero][i] = i ? 0.0 : 1.0 / all[0];
    }
    weights[at_infinity][kernel - 1] = 1.0;
  }
};
template <int m>
constexpr Filter<m> filter;

// Tiles that are computed at once, forward (4, 5 or 7) and backward.
constexpr int most_strip = 7, back_strip = 2;
// Vectors between planes, as the last strip may extend beyond them.
constexpr int guard = most_strip - 1;
// Channels in a block, forward and backward.
constexpr int most_winograd = many_registers ? 4 : 2, most_winograd_back = 6;

// The convolution, and the layout of tiles and channels.
struct Winograd : Convolution {
  int points, tiles;  // tiles of a row
  int rows, group;    // rows and channels of outputs that are computed at once
  int output_block, input_block;

  constexpr int output_tiles() const { return rows * tiles; }
  constexpr int input_tiles() const { return input_side() * tiles; }
  // From one transformed plane to the next, and from one point to the next.
  constexpr int output_stride() const { return output_tiles() + guard; }
  constexpr int input_stride() const { return input_tiles() + guard; }
  constexpr int output_point() const { return round_up(group, output_block) * output_stride(); }
  constexpr int input_point() const { return round_up(inputs, input_block) * input_stride(); }
  // Transformed weights of one point and group, of a group, and of all.
  constexpr int weight_point() const { return round_up(group, output_block) * inputs * kernel; }
  constexpr int group_weights() const { return points * weight_point(); }
  constexpr int transformed_weights() const { return blocks(outputs, group) * group_weights(); }
  // Of one point, for the backward pass.
  constexpr int transposed_point() const {
    return round_up(inputs, input_block) * outputs * kernel;
  }
};

// weights (outputs, inputs, 5, 5) -> packed
//   [group][point][output block][input][row][output of block]
// and transposed, if there is one,
//   [point][input block][row][output][input of block].
// Weights of channels that only fill a block stay zero.
template <int m>
static void pack_winograd(const Winograd& c, const float* weights, float* packed,
                          float* transposed) {
  constexpr Filter<m> f = filter<m>;
  const int output_block = c.output_block, input_block = c.input_block;
  for (int o = 0; o < c.outputs; o++)
    for (int i = 0; i < c.inputs; i++)
      for (int row = 0; row < c.kernel; row++, weights += c.kernel) {
        const int of_group = o % c.group;
        const int forward =
            o / c.group * c.group_weights() + of_group % output_block +
            ((of_group / output_block * c.inputs + i) * c.kernel + row) * output_block;
        const int back =
            ((i / input_block * c.kernel + row) * c.outputs + o) * input_block + i % input_block;
        LENET_UNROLL for (int p = 0; p < f.points; p++) {
          double sum = 0.0;
          LENET_UNROLL for (int j = 0; j < f.kernel; j++) sum += f.weights[p][j] * weights[j];
          packed[p * c.weight_point() + forward] = static_cast<float>(sum);
          if (transposed) transposed[p * c.transposed_point() + back] = static_cast<float>(sum);
        }
      }
}

// Adds G transposed and summed over the lanes: points -> five weights.
template <int m>
LENET_INLINE void add_transformed_back(const Vector (&t)[filter<m>.points], float* g) {
  constexpr Filter<m> f = filter<m>;
  LENET_UNROLL for (int j = 0; j < f.kernel; j++) {
    Vector total = {};
    LENET_UNROLL for (int p = 0; p < f.points; p++)
      total += static_cast<float>(f.weights[p][j]) * t[p];
    g[j] += sum(total);
  }
}

// B: the rows of inputs of one channel -> [point][row][tile].
template <int m>
LENET_INLINE void transform_inputs(const Vector* input, int rows, int tiles, int point_size,
                                   Vector* to) {
  constexpr Filter<m> f = filter<m>;
  for (int row = 0; row < rows; row++, input += m * tiles + f.kernel - 1)
    for (int tile = 0; tile < tiles; tile++, to++) {
      const Vector* d = input + m * tile;
      LENET_UNROLL for (int k = 0; k < f.pairs; k++) {
        constexpr int last = f.zero + 2 * (f.pairs - 1);
        Vector even = d[last], odd = d[last + 1];
        LENET_UNROLL for (int i = 0; i < f.pairs - 1; i++) {
          even += static_cast<float>(f.others[k][i]) * d[f.zero + 2 * i];
          odd += static_cast<float>(f.others[k][i]) * d[f.zero + 2 * i + 1];
        }
        to[2 * k * point_size] = odd + static_cast<float>(f.p[k]) * even;
        to[(2 * k + 1) * point_size] = odd - static_cast<float>(f.p[k]) * even;
      }
      LENET_UNROLL for (int end = 0; end <= f.zero; end++) {  // 0 and infinity, or infinity
        Vector sum = d[end + 2 * f.pairs];
        LENET_UNROLL for (int i = 0; i < f.pairs; i++)
          sum += static_cast<float>(f.all[i]) * d[end + 2 * i];
        to[(f.at_zero + end) * point_size] = sum;
      }
    }
}

// B transposed: [point][row][tile] -> the gradient of the rows of inputs of one channel.
// Neighbouring tiles share four inputs.
template <int m>
LENET_INLINE void transform_inputs_back(const Vector* transformed, int rows, int tiles,
                                        int point_size, Vector* gradient) {
  constexpr Filter<m> f = filter<m>;
  for (int row = 0; row < rows; row++) {
    Vector carry[f.kernel - 1] = {};
    for (int tile = 0; tile < tiles; tile++, gradient += m, transformed++) {
      Vector d[f.points] = {};
      LENET_UNROLL for (int i = 0; i < f.kernel - 1; i++) d[i] = carry[i];
      LENET_UNROLL for (int k = 0; k < f.pairs; k++) {
        const Vector plus = transformed[2 * k * point_size];
        const Vector minus = transformed[(2 * k + 1) * point_size];
        const Vector even = static_cast<float>(f.p[k]) * (plus - minus), odd = plus + minus;
        LENET_UNROLL for (int i = 0; i < f.pairs; i++) {
          d[f.zero + 2 * i] += static_cast<float>(f.others[k][i]) * even;
          d[f.zero + 2 * i + 1] += static_cast<float>(f.others[k][i]) * odd;
        }
      }
      LENET_UNROLL for (int end = 0; end <= f.zero; end++) {
        const Vector t = transformed[(f.at_zero + end) * point_size];
        LENET_UNROLL for (int i = 0; i <= f.pairs; i++)
          d[end + 2 * i] += static_cast<float>(f.all[i]) * t;
      }
      LENET_UNROLL for (int i = 0; i < m; i++) gradient[i] = d[i];
      LENET_UNROLL for (int i = 0; i < f.kernel - 1; i++) carry[i] = d[m + i];
    }
    LENET_UNROLL for (int i = 0; i < f.kernel - 1; i++) *gradient++ = carry[i];
  }
}

// A, and the bias: `count` tiles of outputs of one channel from their products.
template <int m>
LENET_INLINE void transform_products(const Vector* products, int point_size, int count, float bias,
                                     Vector* output) {
  constexpr Filter<m> f = filter<m>;
  for (int tile = 0; tile < count; tile++, products++, output += m) {
    Vector y[m];
    LENET_UNROLL for (int i = 0; i < m; i++) y[i] = splat(bias);
    LENET_UNROLL for (int k = 0; k < f.pairs; k++) {
      const Vector plus = products[2 * k * point_size];
      const Vector minus = products[(2 * k + 1) * point_size];
      const Vector even = plus + minus, odd = static_cast<float>(f.p[k]) * (plus - minus);
      LENET_UNROLL for (int i = 0; i < m; i++)
        y[i] += static_cast<float>(f.powers[k][i / 2]) * (i % 2 ? odd : even);
    }
    if constexpr (f.zero) y[0] += products[f.at_zero * point_size];
    y[m - 1] += products[f.at_infinity * point_size];
    LENET_UNROLL for (int i = 0; i < m; i++) output[i] = y[i];
  }
}

// A transposed: a tile of deltas -> its points.
template <int m>
LENET_INLINE void transform_deltas(const Vector (&d)[m], int point_size, Vector* to) {
  constexpr Filter<m> f = filter<m>;
  LENET_UNROLL for (int k = 0; k < f.pairs; k++) {
    Vector even = d[0], odd = d[1];
    LENET_UNROLL for (int i = 2; i < m; i++)
      (i % 2 ? odd : even) += static_cast<float>(f.powers[k][i / 2]) * d[i];
    to[2 * k * point_size] = even + static_cast<float>(f.p[k]) * odd;
    to[(2 * k + 1) * point_size] = even - static_cast<float>(f.p[k]) * odd;
  }
  if constexpr (f.zero) to[f.at_zero * point_size] = d[0];
  to[f.at_infinity * point_size] = d[m - 1];
}

// Tile number `tile` of a row of deltas of one channel, transformed, from the gradients of the
// row's pooled values and the slopes that the forward pass left. `count` deltas are in the row, and
// zeros behind them. Adds to `total`. Whether the tile begins within a pair is `odd`.
template <int m, bool odd>
LENET_INLINE void unpool_tile(const Vector* pooled_gradient, const Vector* slopes, int tile,
                              int count, int point_size, Vector* to, Vector& total) {
  pooled_gradient += m * tile / 2;
  slopes += m * tile;
  const int rest = count - m * tile;
  Vector d[m];
  if (rest >= m)
    LENET_UNROLL for (int i = 0; i < m; i++) d[i] = pooled_gradient[(i + odd) / 2] * slopes[i];
  else
    for (int i = 0; i < m; i++)
      d[i] = i < rest ? pooled_gradient[(i + odd) / 2] * slopes[i] : Vector{};
  LENET_UNROLL for (int i = 0; i < m; i++) total += d[i];
  transform_deltas<m>(d, point_size, to + tile);
}

// A row of deltas of one channel, transformed. Returns the sum of the deltas.
template <int m>
LENET_INLINE Vector unpool_row(const Vector* pooled_gradient, const Vector* slopes, int tiles,
                               int count, int point_size, Vector* to) {
  Vector total = {};
  for (int tile = 0; tile < tiles; tile += 2) {
    unpool_tile<m, false>(pooled_gradient, slopes, tile, count, point_size, to, total);
    if (tile + 1 < tiles)
      unpool_tile<m, m % 2>(pooled_gradient, slopes, tile + 1, count, point_size, to, total);
  }
  return total;
}

// Zeros around a plane of deltas, where a strip of the backward pass may extend beyond it.
LENET_INLINE void clear_guard(const Winograd& c, Vector* plane) {
  for (int p = 0; p < c.points; p++, plane += c.output_point())
    for (int i = 0; i < back_strip - 1; i++) plane[-1 - i] = plane[c.output_tiles() + i] = Vector{};
}

// G weights * B inputs, summed over the input channels: [point][output][row][tile] of a group.
template <int strip, int channels>
static void winograd_products(const Winograd& c, const Vector* inputs, const float* packed,
                              Vector* products) {
  constexpr int kernel = 5;
  const long tiles = c.tiles, input_plane = c.input_stride(), plane = c.output_stride();
  for (int p = 0; p < c.points; p++, inputs += c.input_point())
    for (int o = 0; o < c.group; o += channels, products += channels * plane) {
      for (int position = 0; position < c.output_tiles(); position += strip) {
        const float* weights = packed;
        Vector sums[channels][strip] = {};
        for (int i = 0; i < c.inputs; i++) {
          const Vector* row = inputs + i * input_plane + position;
          LENET_UNROLL for (int ky = 0; ky < kernel; ky++, row += tiles, weights += channels)
            LENET_UNROLL for (int j = 0; j < channels; j++) {
              const Vector weight = splat(weights[j]);
              LENET_UNROLL for (int t = 0; t < strip; t++) sums[j][t] += weight * row[t];
            }
        }
        LENET_UNROLL for (int j = 0; j < channels; j++)
          LENET_UNROLL for (int t = 0; t < strip; t++)
            products[j * plane + position + t] = sums[j][t];
      }
      packed += c.inputs * kernel * channels;
    }
}

// In the strips that fit the number of tiles.
using WinogradProducts = decltype(&winograd_products<1, 1>);
static WinogradProducts winograd_products_of(const Winograd& c) {
  const int tiles = c.output_tiles();
  return for_block<most_winograd>(c.output_block, [&]<int block>() {
    if (block < most_winograd || !many_registers)  // more would not fit the registers
      if (tiles % 7 == 0) return &winograd_products<7, block>;
    return round_up(tiles, 4) < round_up(tiles, 5) ? &winograd_products<4, block>
                                                   : &winograd_products<5, block>;
  });
}

// Adds A^T deltas * B inputs, lane by lane: gradient [point][output block][input][output of
// block][row] of a group.
template <int channels>
static void add_winograd_gradient(const Winograd& c, const Vector* inputs, const Vector* deltas,
                                  Vector* gradient) {
  constexpr int kernel = 5;
  const long tiles = c.tiles, input_plane = c.input_stride(), plane = c.output_stride();
  for (int p = 0; p < c.points; p++, inputs += c.input_point())
    for (int o = 0; o < c.group; o += channels, deltas += channels * plane)
      for (int i = 0; i < c.inputs; i++, gradient += channels * kernel) {
        const Vector* rows = inputs + i * input_plane;
        Vector sums[channels][kernel];
        LENET_UNROLL for (int j = 0; j < channels; j++)
          LENET_UNROLL for (int ky = 0; ky < kernel; ky++) sums[j][ky] = gradient[j * kernel + ky];
        for (int position = 0; position < c.output_tiles(); position++) {
          Vector d[channels];
          LENET_UNROLL for (int j = 0; j < channels; j++) d[j] = deltas[j * plane + position];
          const Vector* row = rows + position;
          LENET_UNROLL for (int ky = 0; ky < kernel; ky++, row += tiles) {
            const Vector u = *row;
            LENET_UNROLL for (int j = 0; j < channels; j++) sums[j][ky] += u * d[j];
          }
        }
        LENET_UNROLL for (int j = 0; j < channels; j++)
          LENET_UNROLL for (int ky = 0; ky < kernel; ky++) gradient[j * kernel + ky] = sums[j][ky];
      }
}

using AddWinogradGradient = decltype(&add_winograd_gradient<1>);
static AddWinogradGradient add_winograd_gradient_in(int block) {
  return for_block<most_winograd>(block, []<int block>() { return &add_winograd_gradient<block>; });
}

// The position of the gradient of a point of (output, input, row) in add_winograd_gradient.
LENET_INLINE int winograd_offset(const Winograd& c, int p, int output, int input, int row) {
  const int block = c.output_block, of_group = output % c.group;
  const int kernel = (of_group / block * c.inputs + input) * block + of_group % block;
  return output / c.group * c.group_weights() + p * c.weight_point() + kernel * c.kernel + row;
}

// The gradient with respect to the transformed inputs, laid out like them.
template <int channels>
static void winograd_input_gradient(const Winograd& c, const Vector* deltas,
                                    const float* transposed, Vector* gradient) {
  constexpr int kernel = 5, strip = back_strip;
  const long tiles = c.tiles, plane = c.output_stride(), input_plane = c.input_stride();
  for (int p = 0; p < c.points; p++, deltas += c.output_point())
    for (int i = 0; i < c.inputs; i += channels, gradient += channels * input_plane) {
      for (int position = 0; position < c.input_tiles(); position += strip) {
        // The rows of the kernel that meet deltas in any tile of the strip.
        const int above = position - c.output_tiles(), below = (position + strip - 1) / c.tiles;
        const int first = above < 0 ? 0 : above / c.tiles + 1;
        const int last = below < kernel ? below : kernel - 1;
        Vector sums[channels][strip] = {};
        for (int ky = first; ky <= last; ky++) {
          const Vector* row = deltas + position - ky * tiles;
          const float* weights = transposed + ky * c.outputs * channels;
          for (int o = 0; o < c.outputs; o++, row += plane, weights += channels) {
            Vector d[strip];
            LENET_UNROLL for (int t = 0; t < strip; t++) d[t] = in_register(row[t]);
            LENET_UNROLL for (int j = 0; j < channels; j++) {
              const Vector weight = in_register(splat(weights[j]));
              LENET_UNROLL for (int t = 0; t < strip; t++) sums[j][t] += weight * d[t];
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

using WinogradInputGradient = decltype(&winograd_input_gradient<1>);
static WinogradInputGradient winograd_input_gradient_in(int block) {
  return for_block<most_winograd_back>(block,
                                       []<int block>() { return &winograd_input_gradient<block>; });
}

}  // namespace lenet::LENET_ISA
