// Fully connected layers: forward and input gradient a tile at a time, the weight gradient as one
// matrix product over the batch.
#pragma once

#include "activation.h"
#include "blocks.h"
#include "fused.h"
#include "memory.h"
#include "vector.h"

namespace lenet::LENET_ISA {

constexpr int most_units = many_registers ? 28 : 12;  // in a block

// weights (outputs, inputs) -> [output block][input][output of block], for some of the blocks
static void pack_dense(const float* weights, int outputs, int inputs, int block, int first,
                       int last, float* packed) {
  for (int o = first * block; o < last * block; o += block) {
    float* const to = packed + static_cast<long>(o) * inputs;
    if (block < lanes || inputs < lanes) {
      for (int i = 0; i < inputs; i++)
        for (int j = 0; j < block; j++)
          to[i * block + j] = o + j < outputs ? weights[(o + j) * inputs + i] : 0.0f;
      continue;
    }
    // In squares, the last of which overlaps the one before.
    for (int i = 0; i < inputs; i += lanes)
      for (int j = 0; j < block; j += lanes) {
        const int left = i + lanes < inputs ? i : inputs - lanes;
        const int top = j + lanes < block ? j : block - lanes;
        Vector square[lanes];
        for (int row = 0; row < lanes; row++) {
          const int unit = o + top + row;
          square[row] = unit < outputs ? load(weights + unit * inputs + left) : Vector{};
        }
        transpose(square);
        for (int row = 0; row < lanes; row++) store(to + (left + row) * block + top, square[row]);
      }
  }
}

// weights (outputs, inputs) -> [input block][output][input of block], for some of the blocks
static void pack_transposed_dense(const float* weights, int outputs, int inputs, int block,
                                  int first, int last, float* packed) {
  for (int i = first * block; i < last * block; i += block)
    for (int o = 0; o < outputs; o++) {
      const float* const from = weights + o * inputs + i;
      float* const to = packed + static_cast<long>(i) * outputs + o * block;
      if (block < lanes || i + block > inputs)
        for (int j = 0; j < block; j++) to[j] = i + j < inputs ? from[j] : 0.0f;
      else  // in vectors, the last of which overlaps the one before
        for (int j = 0; j < block; j += lanes) {
          const int start = j + lanes < block ? j : block - lanes;
          store(to + start, load(from + start));
        }
    }
}

// z[o] = start[o] + sum over i of packed weight (i, o) * x[i], in blocks of outputs. With
// transposed weights and no start it is the input gradient.
template <int block>
static void multiply_dense(const float* packed, const float* start, const Vector* x, int inputs,
                           int outputs, Vector* z) {
  for (int o = 0; o < outputs; o += block) {
    Vector sums[block];
    LENET_UNROLL for (int j = 0; j < block; j++) sums[j] = start ? splat(start[o + j]) : Vector{};
    for (int i = 0; i < inputs; i++, packed += block) {
      const Vector v = x[i];
      // The weights do not fit the first-level cache.
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
static void dense_weight_gradient(const Vector* deltas, int delta_stride, const float* rows,
                                  int stride, int tiles, int first, int last, float* gradient) {
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
          const auto* delta = reinterpret_cast<const float*>(
              deltas + static_cast<long>(tile) * delta_stride + o);
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

using MultiplyDense = decltype(&multiply_dense<1>);
static MultiplyDense multiply_dense_in(int block) {
  return for_block<most_units>(block, []<int block>() { return &multiply_dense<block>; });
}

// Register blocks of the weight gradient: units and vectors of inputs.
struct DenseBlock {
  int outputs, vectors;
  decltype(&dense_weight_gradient<1, 1>) gradient;

  constexpr int columns() const { return vectors * lanes; }
  constexpr long products(int units, int inputs) const {
    return static_cast<long>(round_up(units, outputs)) * round_up(inputs, columns());
  }
};

// The block that computes the fewest unneeded products.
static DenseBlock dense_block(int units, int inputs) {
  constexpr int rows = many_registers ? 4 : 2;
  constexpr DenseBlock candidates[] = {
      {rows, 5, dense_weight_gradient<rows, 5>},
      {rows, 4, dense_weight_gradient<rows, 4>},
#if LENET_ISA_AVX512
      {2, 6, dense_weight_gradient<2, 6>},
#endif
  };
  DenseBlock best = candidates[0];
  for (const DenseBlock& block : candidates)
    if (block.products(units, inputs) < best.products(units, inputs)) best = block;
  return best;
}

// A fully connected layer. It keeps the inputs of the whole batch, in rows for the matrix product
// of the weight gradient, and the deltas of its units.
class DenseLayer {
 public:
  explicit DenseLayer(const DensePlan& plan)
      : plan(plan),
        output_block_(best_block(plan.outputs, most_units)),
        input_block_(best_block(plan.inputs, most_units)),
        gradient_(dense_block(plan.outputs, plan.inputs)),
        stride_(round_up(plan.inputs, gradient_.columns())),
        delta_stride_(room() > round_up(plan.outputs, gradient_.outputs)
                          ? room()
                          : round_up(plan.outputs, gradient_.outputs)),
        multiply_(multiply_dense_in(output_block_)),
        multiply_back_(multiply_dense_in(input_block_)),
        activate_(activation_kernels(plan.activation).activate),
        whole_(plan.pieces ? static_cast<long>(plan.outputs) * plan.inputs : 0),
        packed_(static_cast<long>(room()) * plan.inputs),
        transposed_(static_cast<long>(input_room()) * plan.outputs),
        bias_(room()),
        product_(static_cast<long>(round_up(plan.outputs, gradient_.outputs)) * stride_) {}

  // Vectors that the outputs of a tile need, and the gradients of its inputs.
  int room() const { return round_up(plan.outputs, output_block_); }
  int input_room() const { return round_up(plan.inputs, input_block_); }

  void reserve(int tiles) {
    rows_.grow(static_cast<long>(tiles) * lanes * stride_);
    deltas_.grow(static_cast<long>(tiles) * delta_stride_);
  }
  Vector* deltas(int tile) const { return deltas_ + static_cast<long>(tile) * delta_stride_; }

  // Before a step: finds the weights, and puts those of single maps into their places.
  void begin(const float* const* weights) {
    biases_ = weights[plan.bias];
    weights_ = plan.pieces ? static_cast<const float*>(whole_) : weights[plan.weight];
    if (!plan.pieces) return;
    for (int o = 0; o < plan.outputs; o++)
      for (int i = 0; i < plan.inputs; i += plan.piece) {
        const Place from = piece(o, i);
        float* const to = whole_ + static_cast<long>(o) * plan.inputs + i;
        if (from.array >= 0)
          memcpy(to, weights[from.array] + from.offset, plan.piece * sizeof(float));
      }
  }

  // Thread `thread` of `threads` packs its share of the weights.
  template <bool training>
  void pack(int thread, int threads) {
    const auto share = [&](int count, int number) { return count * number / threads; };
    const int outputs = blocks(plan.outputs, output_block_);
    const int inputs = blocks(plan.inputs, input_block_);
    pack_dense(weights_, plan.outputs, plan.inputs, output_block_,
               share(outputs, thread), share(outputs, thread + 1), packed_);
    if (thread == 0) memcpy(bias_, biases_, plan.outputs * sizeof(float));
    if (training)
      pack_transposed_dense(weights_, plan.outputs, plan.inputs, input_block_,
                            share(inputs, thread), share(inputs, thread + 1), transposed_);
  }

  // The values of the units for x, and the derivatives of their activations.
  void forward(const Vector* x, Vector* values, Vector* slopes) const {
    multiply_(packed_, bias_, x, plan.inputs, plan.outputs, values);
    if (activate_) activate_(values, slopes, plan.outputs);
  }

  // Deltas from the gradient of the values, which they overwrite.
  void backward_activation(int tile, const Vector* slopes) const {
    if (activate_)
      for (int i = 0; i < plan.outputs; i++) deltas(tile)[i] *= slopes[i];
  }

  // Keeps x for the weight gradient, and computes the gradient with respect to x.
  void backward(int tile, const Vector* x, Vector* gradient) const {
    to_rows(x, plan.inputs, rows_ + static_cast<long>(tile) * lanes * stride_, stride_);
    multiply_back_(transposed_, nullptr, deltas(tile), plan.outputs, plan.inputs, gradient);
  }

  // Thread `thread` of `threads` writes its share of both gradients.
  void reduce(int tiles, int thread, int threads, float* const* gradients) {
    const int count = blocks(plan.outputs, gradient_.outputs);
    const int first = thread * count / threads * gradient_.outputs;
    const int last = (thread + 1) * count / threads * gradient_.outputs;
    gradient_.gradient(deltas_, delta_stride_, rows_, stride_, tiles, first, last, product_);
    float* const bias = gradients[plan.bias];
    for (int o = first; o < last && o < plan.outputs; o++) {
      const float* const of_unit = product_ + static_cast<long>(o) * stride_;
      for (int i = 0; i < plan.inputs; i += plan.piece) {
        const Place to = piece(o, i);
        if (to.array >= 0)
          memcpy(gradients[to.array] + to.offset, of_unit + i, plan.piece * sizeof(float));
      }
      Vector total = {};
      for (int tile = 0; tile < tiles; tile++) total += deltas(tile)[o];
      bias[o] = sum(total);
    }
  }

  const DensePlan plan;

 private:
  // Where the weights of unit o for the inputs from i are kept; without pieces, those for all.
  Place piece(int o, int i) const {
    if (!plan.pieces) return {plan.weight, o * plan.inputs};
    return plan.pieces[(o * plan.inputs + i) / plan.piece];
  }

  const int output_block_, input_block_;
  const DenseBlock gradient_;
  const int stride_, delta_stride_;
  const MultiplyDense multiply_, multiply_back_;
  void (*const activate_)(Vector* x, Vector* slopes, int count);
  const float *weights_ = nullptr, *biases_ = nullptr;  // of the current call
  Floats whole_, packed_, transposed_, bias_;
  Floats rows_;
  Vectors deltas_;
  Floats product_;
};

}  // namespace lenet::LENET_ISA
