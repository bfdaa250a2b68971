// Convolution with a 5x5 kernel by Winograd's minimal filtering F(m, 5) along the rows: m + 4
// multiplications for m neighbouring outputs, where the definition takes 5 m.
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
// The finite points are pairs p, -p, and 0 where their number is odd: then even and odd powers
// separate, which halves the work of the transformations. The points, few bits each, are those of
// all eighths that let the least rounding error through.
//
// Below, a tile is m neighbouring outputs. Whatever is transformed lies as
// [point][channel][row][tile], so that the middle of each pass streams through one point after
// the other, and all rows of a plane are one sequence of tiles, in which the next row of the kernel
// is one row of tiles further.
#pragma once

#include "convolution.h"
#include "vector.h"

namespace lenet::LENET_ISA {

// The points of F(m, 5) and what follows from them. Pair k has the places 2k and 2k + 1 among the
// points; 0, if it is one, and infinity are last.
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

// weights (outputs, inputs, 5, 5) -> packed    [point][output block][input][row][output of block]
//                                and transposed [point][input block][row][output][input of block]
// if there is one.
template <int m, int output_block, int input_block>
static void pack_winograd(const Convolution& c, const float* weights, float* packed,
                          float* transposed) {
  constexpr Filter<m> f = filter<m>;
  const int point_size = c.outputs * c.inputs * c.kernel;
  for (int o = 0; o < c.outputs; o++)
    for (int i = 0; i < c.inputs; i++)
      for (int row = 0; row < c.kernel; row++, weights += c.kernel) {
        const int forward =
            ((o / output_block * c.inputs + i) * c.kernel + row) * output_block + o % output_block;
        const int back =
            ((i / input_block * c.kernel + row) * c.outputs + o) * input_block + i % input_block;
        LENET_UNROLL for (int p = 0; p < f.points; p++) {
          double sum = 0.0;
          LENET_UNROLL for (int j = 0; j < f.kernel; j++) sum += f.weights[p][j] * weights[j];
          packed[p * point_size + forward] = static_cast<float>(sum);
          if (transposed) transposed[p * point_size + back] = static_cast<float>(sum);
        }
      }
}

// G transposed: points -> five weights.
template <int m>
LENET_INLINE void transform_weights_back(const float* t, float* g) {
  constexpr Filter<m> f = filter<m>;
  LENET_UNROLL for (int j = 0; j < f.kernel; j++) {
    double sum = 0.0;
    LENET_UNROLL for (int p = 0; p < f.points; p++) sum += f.weights[p][j] * t[p];
    g[j] = static_cast<float>(sum);
  }
}

// B: `rows` rows of inputs -> [point][row][tile].
template <int m, int tiles>
LENET_INLINE void transform_inputs(const Vector* input, int rows, int point_size, Vector* to) {
  constexpr Filter<m> f = filter<m>;
  for (int row = 0; row < rows; row++, input += m * tiles + f.kernel - 1)
    LENET_UNROLL for (int tile = 0; tile < tiles; tile++, to++) {
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

// B transposed: [point][row][tile] -> the gradient of every row of inputs. Neighbouring tiles
// share four inputs.
template <int m, int tiles>
LENET_INLINE void transform_inputs_back(const Vector* transformed, int rows, Vector* gradient) {
  constexpr Filter<m> f = filter<m>;
  const int point_size = rows * tiles;
  for (int row = 0; row < rows; row++) {
    Vector carry[f.kernel - 1] = {};
    LENET_UNROLL for (int tile = 0; tile < tiles; tile++, gradient += m, transformed++) {
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

// One row of deltas of one channel, transformed, from the row of gradients of their pooled values
// and the slopes that the forward pass left. Returns the sum of the deltas.
template <int m, int tiles>
LENET_INLINE Vector unpool_row(const Vector* pooled_gradient, const Vector* slopes, int point_size,
                               Vector* to) {
  Vector total = {};
  LENET_UNROLL for (int tile = 0; tile < tiles; tile++) {
    Vector d[m];
    LENET_UNROLL for (int i = 0; i < m; i++) {
      d[i] = pooled_gradient[(m * tile + i) / 2] * slopes[m * tile + i];
      total += d[i];
    }
    transform_deltas<m>(d, point_size, to + tile);
  }
  return total;
}

// How the planes of a pass lie: `positions` are tiles, row by row; from one channel to the next
// and from one point to the next lie so many vectors.
struct TransformedPlanes {
  int positions, input_plane, input_point, output_plane, output_point;
};

// G weights * B inputs, summed over the input channels, `block` positions at a time.
template <int m, int tiles, int channels, int block>
LENET_INLINE void winograd_products(const Convolution& c, const TransformedPlanes& planes,
                                    const Vector* inputs, const float* packed, Vector* products) {
  constexpr int kernel = 5;
  for (int p = 0; p < filter<m>.points; p++, inputs += planes.input_point)
    for (int o = 0; o < c.outputs; o += channels, packed += c.inputs * kernel * channels)
      for (int position = 0; position < planes.positions; position += block) {
        const float* weights = packed;
        Vector sums[channels][block] = {};
        for (int i = 0; i < c.inputs; i++) {
          const Vector* rows = inputs + i * planes.input_plane + position;
          LENET_UNROLL for (int ky = 0; ky < kernel; ky++, weights += channels)
            LENET_UNROLL for (int j = 0; j < channels; j++) {
              const Vector weight = splat(weights[j]);
              LENET_UNROLL for (int t = 0; t < block; t++)
                sums[j][t] += weight * rows[ky * tiles + t];
            }
        }
        Vector* to = products + p * planes.output_point + o * planes.output_plane + position;
        LENET_UNROLL for (int j = 0; j < channels; j++)
          LENET_UNROLL for (int t = 0; t < block; t++) to[j * planes.output_plane + t] = sums[j][t];
      }
}

// Adds A^T deltas * B inputs, lane by lane: gradient [point][output block][input][output of
// block][row].
template <int m, int tiles, int channels>
LENET_INLINE void add_winograd_gradient(const Convolution& c, const TransformedPlanes& planes,
                                        const Vector* inputs, const Vector* deltas,
                                        Vector* gradient) {
  constexpr int kernel = 5;
  for (int p = 0; p < filter<m>.points; p++, inputs += planes.input_point)
    for (int o = 0; o < c.outputs; o += channels)
      for (int i = 0; i < c.inputs; i++, gradient += channels * kernel) {
        const Vector* rows = inputs + i * planes.input_plane;
        const Vector* delta = deltas + p * planes.output_point + o * planes.output_plane;
        Vector sums[channels][kernel];
        LENET_UNROLL for (int j = 0; j < channels; j++)
          LENET_UNROLL for (int ky = 0; ky < kernel; ky++) sums[j][ky] = gradient[j * kernel + ky];
        for (int position = 0; position < planes.positions; position++) {
          Vector d[channels];
          LENET_UNROLL for (int j = 0; j < channels; j++)
            d[j] = delta[j * planes.output_plane + position];
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
template <int channels>
LENET_INLINE int winograd_offset(const Convolution& c, int p, int output, int input, int row) {
  const int block = (p * c.outputs + output) / channels * c.inputs + input;
  return (block * channels + output % channels) * c.kernel + row;
}

// The gradient with respect to the transformed inputs, laid out like them.
template <int m, int tiles, int channels>
LENET_INLINE void winograd_input_gradient(const Convolution& c, const Vector* deltas,
                                          const float* transposed, Vector* gradient) {
  constexpr int kernel = 5;
  const int plane = c.side * tiles, input_plane = c.input_side() * tiles;
  for (int p = 0; p < filter<m>.points; p++, deltas += c.outputs * plane)
    for (int i = 0; i < c.inputs; i += channels, gradient += channels * input_plane) {
      for (int y = 0; y < c.input_side(); y++) {
        const int first = y < c.side ? 0 : y - c.side + 1, last = y < kernel ? y : kernel - 1;
        Vector sums[channels][tiles] = {};
        for (int ky = first; ky <= last; ky++) {
          const Vector* row = deltas + (y - ky) * tiles;
          const float* weights = transposed + ky * c.outputs * channels;
          for (int o = 0; o < c.outputs; o++, row += plane, weights += channels) {
            Vector d[tiles];
            LENET_UNROLL for (int t = 0; t < tiles; t++) d[t] = in_register(row[t]);
            LENET_UNROLL for (int j = 0; j < channels; j++) {
              const Vector weight = in_register(splat(weights[j]));
              LENET_UNROLL for (int t = 0; t < tiles; t++) sums[j][t] += weight * d[t];
            }
          }
        }
        LENET_UNROLL for (int j = 0; j < channels; j++)
          LENET_UNROLL for (int t = 0; t < tiles; t++)
            gradient[j * input_plane + y * tiles + t] = sums[j][t];
      }
      transposed += kernel * c.outputs * channels;
    }
}

}  // namespace lenet::LENET_ISA
