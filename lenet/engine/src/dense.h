// Fully connected layers: forward and input gradient a tile at a time, the weight gradient as one
// matrix product over the batch.
#pragma once

#include "vector.h"

namespace lenet::LENET_ISA {

// weights (outputs, inputs) -> [output block][input][output of block], for some of the outputs
template <int block>
static void pack_dense(const float* weights, int inputs, int first, int last, float* packed) {
  for (int o = first; o < last; o += block)
    for (int i = 0; i < inputs; i++)
      for (int j = 0; j < block; j++)
        packed[o * inputs + i * block + j] = weights[(o + j) * inputs + i];
}

// weights (outputs, inputs) -> [input block][output][input of block], for some of the inputs
template <int block>
static void pack_transposed_dense(const float* weights, int outputs, int inputs, int first,
                                  int last, float* packed) {
  for (int i = first; i < last; i += block)
    for (int o = 0; o < outputs; o++) {
      float* to = packed + i * outputs + o * block;
      for (int j = 0; j < block; j++) to[j] = weights[o * inputs + i + j];
    }
}

// z[o] = start[o] + sum over i of packed weight (i, o) * x[i], in blocks of outputs. With
// transposed weights and no start it is the input gradient.
template <int block>
LENET_INLINE void multiply_dense(const float* packed, const float* start, const Vector* x,
                                 int inputs, int outputs, Vector* z) {
  for (int o = 0; o < outputs; o += block) {
    Vector sums[block];
    LENET_UNROLL for (int j = 0; j < block; j++) sums[j] = start ? splat(start[o + j]) : Vector{};
    for (int i = 0; i < inputs; i++, packed += block) {
      const Vector v = x[i];
      // Weights are too many for the first-level cache.
      LENET_UNROLL for (int j = 0; j < block; j += 16) __builtin_prefetch(packed + 512 + j);
      LENET_UNROLL for (int j = 0; j < block; j++) sums[j] += v * splat(packed[j]);
    }
    LENET_UNROLL for (int j = 0; j < block; j++) z[o + j] = sums[j];
  }
}

// From lanes to rows: [count] vectors -> (lanes, stride) floats, one row an example.
static void to_rows(const Vector* vectors, int count, float* rows, int stride) {
  for (int first = 0; first < count; first += lanes) {
    Vector square[lanes];
    for (int i = 0; i < lanes; i++) square[i] = first + i < count ? vectors[first + i] : Vector{};
    transpose(square);
    LENET_UNROLL for (int i = 0; i < lanes; i++)
      *reinterpret_cast<Vector*>(rows + i * stride + first) = square[i];
  }
}

// gradient (outputs, stride) = sum over examples of delta (output) * input row, for the outputs
// from `first` to `last`. deltas [tile][delta_stride] are vectors, rows (examples, stride) floats.
// 64 examples at a time, so that a block of columns of their rows stays in the first-level cache.
template <int outputs, int vectors>
LENET_INLINE void dense_weight_gradient(const Vector* deltas, int delta_stride, const float* rows,
                                        int stride, int tiles, int first, int last,
                                        float* gradient) {
  constexpr int chunk = 64 / lanes;
  for (int start = 0; start < tiles; start += chunk) {
    const int end = start + chunk < tiles ? start + chunk : tiles;
    for (int column = 0; column < stride; column += vectors * lanes)
      for (int o = first; o < last; o += outputs) {
        float* g = gradient + o * stride + column;
        Vector sums[outputs][vectors];
        LENET_UNROLL for (int i = 0; i < outputs; i++)
          LENET_UNROLL for (int j = 0; j < vectors; j++)
            sums[i][j] = start ? load(g + i * stride + j * lanes) : Vector{};
        for (int tile = start; tile < end; tile++) {
          const float* delta = reinterpret_cast<const float*>(deltas + tile * delta_stride + o);
          const float* row = rows + static_cast<long>(tile) * lanes * stride + column;
          for (int lane = 0; lane < lanes; lane++, row += stride) {
            Vector v[vectors];
            LENET_UNROLL for (int j = 0; j < vectors; j++) v[j] = load(row + j * lanes);
            LENET_UNROLL for (int i = 0; i < outputs; i++) {
              const Vector d = splat(delta[i * lanes + lane]);
              LENET_UNROLL for (int j = 0; j < vectors; j++) sums[i][j] += d * v[j];
            }
          }
        }
        LENET_UNROLL for (int i = 0; i < outputs; i++)
          LENET_UNROLL for (int j = 0; j < vectors; j++)
            store(g + i * stride + j * lanes, sums[i][j]);
      }
  }
}

}  // namespace lenet::LENET_ISA
