// One image through a network, for one instruction set.
#include "activation.h"
#include "single.h"
#include "vector.h"

namespace lenet::LENET_ISA {
namespace {

using single::Kind;
using single::Layer;
using single::Place;
using single::Preparation;

// The input, pixel by pixel or stretched between pixels, first along the columns.
void prepare(const Preparation& p, const std::uint8_t* image, float* buffer) {
  const int size = p.image_size;
  if (!p.left) {
    for (int y = 0; y < size; y++) {
      float* row = buffer + p.input.at(0, y, 0);
      for (int x = 0; x < size; x++) row[x] = p.scale * image[y * size + x] + p.shift;
    }
    return;
  }
  for (int y = 0; y < p.input.height; y++) {
    const std::uint8_t* upper = image + p.left[y] * size;
    const std::uint8_t* lower = p.left[y] + 1 < size ? upper + size : upper;
    const float lower_share = p.fraction[y];
    float* row = buffer + p.input.at(0, y, 0);
    for (int x = 0; x < p.input.width; x++) {
      const int left = p.left[x], right = left + 1 < size ? left + 1 : left;
      const float a = upper[left], b = upper[right], c = lower[left], d = lower[right];
      const float above = a + p.fraction[x] * (b - a), below = c + p.fraction[x] * (d - c);
      row[x] = p.scale * (above + lower_share * (below - above)) + p.shift;
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Convolution. Two rows of a block of maps, columns in lanes: each input vector serves both rows.

// One input row; `weights` are those of the upper row, and those of the lower row come before them.
template <bool upper, bool lower, int maps>
LENET_INLINE void add_taps(const float* input, const float* weights, int kernel,
                           Vector (&sums)[2][maps]) {
  for (int kx = 0; kx < kernel; kx++) {
    const Vector in = in_register(load(input + kx));
    LENET_UNROLL for (int map = 0; map < maps; map++) {
      const int i = kx * maps + map;
      if constexpr (upper) sums[0][map] += splat(weights[i]) * in;
      if constexpr (lower) sums[1][map] += splat(weights[i - kernel * maps]) * in;
    }
  }
}

template <int maps>
void convolve_columns(const Layer& layer, int first, float* buffer) {
  const Place &in = layer.in, &out = layer.out;
  const int kernel = layer.kernel;
  const float* const weights = layer.weights + first * in.channels * kernel * kernel;
  for (int y = 0; y < out.height; y += 2)
    for (int x = 0; x < out.width; x += lanes) {
      Vector sums[2][maps];
      LENET_UNROLL for (int map = 0; map < maps; map++)
        sums[0][map] = sums[1][map] = splat(layer.bias[first + map]);
      const float* w = weights;
      for (int channel = 0; channel < in.channels; channel++) {
        const float* row = buffer + in.at(channel, y, x);
        add_taps<true, false>(row, w, kernel, sums);
        for (int ky = 1; ky < kernel; ky++) {
          w += kernel * maps;
          add_taps<true, true>(row + ky * in.row_stride, w, kernel, sums);
        }
        w += kernel * maps;
        add_taps<false, true>(row + kernel * in.row_stride, w, kernel, sums);
      }
      LENET_UNROLL for (int map = 0; map < maps; map++)
        LENET_UNROLL for (int row = 0; row < 2; row++)
          store(buffer + out.at(first + map, y + row, x), sums[row][map]);
    }
}

void convolve_columns(const Layer& layer, float* buffer) {
  using Block = void(const Layer&, int, float*);
  constexpr Block* blocks[] = {nullptr,
                               convolve_columns<1>,
                               convolve_columns<2>,
                               convolve_columns<3>,
                               convolve_columns<4>,
                               convolve_columns<5>,
                               convolve_columns<6>};
  constexpr int block = single::block_channels;
  static_assert(sizeof blocks == (block + 1) * sizeof blocks[0]);
  for (int first = 0; first < layer.out.channels; first += block) {
    const int left = layer.out.channels - first;
    blocks[left < block ? left : block](layer, first, buffer);
  }
}

// A block of columns of one row, maps in lanes: each vector of weights serves all of them.
template <bool neighbours, int columns>
void convolve_channels(const Layer& layer, int first, int y, int x, float* buffer) {
  const Place& in = layer.in;
  const int kernel = layer.kernel;
  const int step = neighbours ? 1 : in.column_stride;
  const float* weights = layer.weights + first * in.channels * kernel * kernel;
  Vector sums[columns];
  LENET_UNROLL for (int j = 0; j < columns; j++) sums[j] = load(layer.bias + first);
  for (int channel = 0; channel < in.channels; channel++)
    for (int ky = 0; ky < kernel; ky++) {
      const float* row = buffer + in.at(channel, y + ky, x);
      for (int kx = 0; kx < kernel; kx++, row += step, weights += lanes) {
        const Vector weight = in_register(load(weights));
        LENET_UNROLL for (int j = 0; j < columns; j++) sums[j] += weight * splat(row[j * step]);
      }
    }
  LENET_UNROLL for (int j = 0; j < columns; j++)
    store(buffer + layer.out.at(first, y, x + j), sums[j]);
}

template <bool neighbours>
void convolve_channels(const Layer& layer, float* buffer) {
  using Block = void(const Layer&, int, int, int, float*);
  constexpr Block* blocks[] = {nullptr,
                               convolve_channels<neighbours, 1>,
                               convolve_channels<neighbours, 2>,
                               convolve_channels<neighbours, 3>,
                               convolve_channels<neighbours, 4>,
                               convolve_channels<neighbours, 5>,
                               convolve_channels<neighbours, 6>,
                               convolve_channels<neighbours, 7>,
                               convolve_channels<neighbours, 8>,
                               convolve_channels<neighbours, 9>,
                               convolve_channels<neighbours, 10>};
  constexpr int most = sizeof blocks / sizeof blocks[0] - 1;
  const Place& out = layer.out;
  const int parts = (out.width + most - 1) / most;  // of nearly equal widths
  for (int first = 0; first < out.channels; first += lanes)
    for (int y = 0; y < out.height; y++)
      for (int part = 0; part < parts; part++) {
        const int x = out.width * part / parts, end = out.width * (part + 1) / parts;
        blocks[end - x](layer, first, y, x, buffer);
      }
}

// ---------------------------------------------------------------------------------------------
// Activation: all values of the layer, and their padding.

template <Activation activation>
void activate_values(const float* in, float* out, int count) {
  for (int i = 0; i < count; i += lanes) store(out + i, activate<activation>({load(in + i)}).value[0]);
}

void activate_layer(const Layer& layer, float* buffer) {
  const Place& place = layer.in;
  const int count = place.channel_stride == 1 ? place.height * place.row_stride
                                              : place.channels * place.channel_stride;
  const float* in = buffer + place.start;
  float* out = buffer + layer.out.start;
  switch (layer.activation) {
    case Activation::sigmoid:
      return activate_values<Activation::sigmoid>(in, out, count);
    case Activation::tanh:
      return activate_values<Activation::tanh>(in, out, count);
    case Activation::scaled_tanh:
      return activate_values<Activation::scaled_tanh>(in, out, count);
    case Activation::relu:
      return activate_values<Activation::relu>(in, out, count);
    case Activation::gelu:
      return activate_values<Activation::gelu>(in, out, count);
    case Activation::silu:
      return activate_values<Activation::silu>(in, out, count);
  }
}

// ---------------------------------------------------------------------------------------------
// Pooling, 2x2 with stride 2.

// Lanes 0, 2, 4 ... (or 1, 3, 5 ...) of a, then of b.
template <int odd>
LENET_INLINE Vector every_other(Vector a, Vector b) {
#ifdef __clang__
  Vector result;
  LENET_UNROLL for (int i = 0; i < lanes; i++)
    result[i] = 2 * i < lanes ? a[2 * i + odd] : b[2 * i + odd - lanes];
  return result;
#else
  Integers from;
  LENET_UNROLL for (int i = 0; i < lanes; i++) from[i] = 2 * i + odd;
  return __builtin_shuffle(a, b, from);
#endif
}

template <Pooling pooling>
LENET_INLINE Vector combine(Vector a, Vector b) {
  return pooling == Pooling::max ? maximum(a, b) : a + b;
}
template <Pooling pooling>
LENET_INLINE float combine(float a, float b) {
  return pooling == Pooling::max ? (a > b ? a : b) : a + b;
}

template <Pooling pooling>
void pool_columns(const Layer& layer, float* buffer) {
  const Place &in = layer.in, &out = layer.out;
  for (int c = 0; c < out.channels; c++)
    for (int y = 0; y < out.height; y++) {
      const float* upper = buffer + in.at(layer.sources ? layer.sources[c] : c, 2 * y, 0);
      const float* lower = upper + in.row_stride;
      float* to = buffer + out.at(c, y, 0);
      for (int x = 0; x < out.width; x += lanes) {
        const Vector left = combine<pooling>(load(upper + 2 * x), load(lower + 2 * x));
        const Vector right =
            combine<pooling>(load(upper + 2 * x + lanes), load(lower + 2 * x + lanes));
        Vector pooled = combine<pooling>(every_other<0>(left, right), every_other<1>(left, right));
        if constexpr (pooling == Pooling::average)
          pooled = layer.weights[c] * pooled + layer.bias[c];
        store(to + x, pooled);
      }
      for (int x = 0; x < layer.kernel; x++) to[out.width + x] = 0.0f;  // the border again
    }
}

template <Pooling pooling>
void pool_channels(const Layer& layer, float* buffer) {
  const Place &in = layer.in, &out = layer.out;
  for (int y = 0; y < out.height; y++)
    for (int x = 0; x < out.width; x++) {
      const float* upper = buffer + in.at(0, 2 * y, 2 * x);
      const float* lower = upper + in.row_stride;
      float* to = buffer + out.at(0, y, x);
      for (int c = 0; layer.sources && c < out.channels; c++) {
        const int s = layer.sources[c];
        const float pooled = combine<pooling>(
            combine<pooling>(upper[s], upper[in.column_stride + s]),
            combine<pooling>(lower[s], lower[in.column_stride + s]));
        to[c] = pooling == Pooling::average ? layer.weights[c] * pooled + layer.bias[c] : pooled;
      }
      for (int c = 0; !layer.sources && c < out.channels; c += lanes) {
        Vector pooled = combine<pooling>(
            combine<pooling>(load(upper + c), load(upper + in.column_stride + c)),
            combine<pooling>(load(lower + c), load(lower + in.column_stride + c)));
        if constexpr (pooling == Pooling::average)
          pooled = load(layer.weights + c) * pooled + load(layer.bias + c);
        store(to + c, pooled);
      }
    }
}

template <Pooling pooling>
void pool(const Layer& layer, float* buffer) {
  if (layer.in.column_stride == 1)
    pool_columns<pooling>(layer, buffer);
  else
    pool_channels<pooling>(layer, buffer);
}

// ---------------------------------------------------------------------------------------------
// Fully connected layers.

void flatten(const Layer& layer, float* buffer) {
  const Place& in = layer.in;
  float* to = buffer + layer.out.start;
  for (int c = 0; c < in.channels; c++)
    for (int y = 0; y < in.height; y++)
      for (int x = 0; x < in.width; x++) *to++ = buffer[in.at(c, y, x)];
}

template <Kind kind, int vectors>
void connect(const Layer& layer, int first, float* buffer) {
  const float* in = buffer + layer.in.start;
  const float* weights = layer.weights + first * layer.in.channels;
  Vector sums[vectors];
  LENET_UNROLL for (int v = 0; v < vectors; v++)
    sums[v] = kind == Kind::multiply ? load(layer.bias + first + v * lanes) : Vector{};
  for (int i = 0; i < layer.in.channels; i++, weights += vectors * lanes) {
    const Vector x = splat(in[i]);
    LENET_UNROLL for (int v = 0; v < vectors; v++) {
      if constexpr (kind == Kind::multiply) {
        sums[v] += load(weights + v * lanes) * x;
      } else {
        const Vector difference = load(weights + v * lanes) - x;
        sums[v] -= difference * difference;
      }
    }
  }
  float* out = buffer + layer.out.start + first;
  LENET_UNROLL for (int v = 0; v < vectors; v++) store(out + v * lanes, sums[v]);
}

template <Kind kind>
void connect(const Layer& layer, float* buffer) {
  using Block = void(const Layer&, int, float*);
  constexpr Block* blocks[] = {nullptr,          connect<kind, 1>, connect<kind, 2>,
                               connect<kind, 3>, connect<kind, 4>, connect<kind, 5>,
                               connect<kind, 6>, connect<kind, 7>, connect<kind, 8>};
  constexpr int block = single::block_vectors;
  static_assert(sizeof blocks == (block + 1) * sizeof blocks[0]);
  const int vectors = (layer.out.channels + lanes - 1) / lanes;
  for (int first = 0; first < vectors; first += block) {
    const int left = vectors - first;
    blocks[left < block ? left : block](layer, first * lanes, buffer);
  }
}

void run(const Preparation& preparation, const Layer* layers, int count, const std::uint8_t* image,
         float* buffer) {
  prepare(preparation, image, buffer);
  for (int i = 0; i < count; i++) {
    const Layer& layer = layers[i];
    switch (layer.kind) {
      case Kind::convolve_columns:
        convolve_columns(layer, buffer);
        break;
      case Kind::convolve_channels:
        if (layer.in.column_stride == 1)
          convolve_channels<true>(layer, buffer);
        else
          convolve_channels<false>(layer, buffer);
        break;
      case Kind::activate:
        activate_layer(layer, buffer);
        break;
      case Kind::pool:
        if (layer.pooling == Pooling::max)
          pool<Pooling::max>(layer, buffer);
        else
          pool<Pooling::average>(layer, buffer);
        break;
      case Kind::flatten:
        flatten(layer, buffer);
        break;
      case Kind::multiply:
        connect<Kind::multiply>(layer, buffer);
        break;
      case Kind::distances:
        connect<Kind::distances>(layer, buffer);
        break;
    }
  }
}

}  // namespace

extern const single::Kernels single_kernels = {lanes, run};

}  // namespace lenet::LENET_ISA
