// Activation functions, alone and with the 2x2 pooling that follows them.
//
// The forward pass of a training step leaves in place of every pre-activation the derivative of
// what comes next (the activation, or the pooled value) with respect to it. The backward pass then
// is one multiplication, the same for every activation and pooling.
#pragma once

#include "fused.h"
#include "vector.h"

namespace lenet::LENET_ISA {

struct Activated {
  Vector value, slope;
};

template <Activation activation>
LENET_INLINE Activated activate(Vector x) {
  if constexpr (activation == Activation::sigmoid) {
    const PowerOfTwo power = exp2(clamp(x, -80.0f, 80.0f), -log2e);
    const Vector e = power.scale + power.scale * power.fraction;  // exp(-x)
    const Vector y = reciprocal(1.0f + e);
    return {y, e * y * y};  // 1 - y would cancel
  } else if constexpr (activation == Activation::tanh) {
    const PowerOfTwo power = exp2(clamp(x, -40.0f, 40.0f), 2.0f * log2e);
    const Vector e = (power.scale - 1.0f) + power.scale * power.fraction;  // exp(2x) - 1
    const Vector r = reciprocal(e + 2.0f);
    return {e * r, ((e + 1.0f) * r) * (4.0f * r)};
  } else if constexpr (activation == Activation::scaled_tanh) {
    constexpr float amplitude = 1.7159f, steepness = 2.0f / 3.0f;
    const Activated t = activate<Activation::tanh>(x * steepness);
    return {t.value * amplitude, t.slope * (amplitude * steepness)};
  } else if constexpr (activation == Activation::relu) {
    return {x < 0.0f ? Vector{} : x, x > 0.0f ? splat(1.0f) : Vector{}};
  } else {
    constexpr float steepness = activation == Activation::gelu ? 1.702f : 1.0f;
    const Activated s = activate<Activation::sigmoid>(x * steepness);
    return {x * s.value, s.value + x * s.slope * steepness};
  }
}

// One row of `columns` pooled values from the two rows of pre-activations above each other.
template <Activation activation, Pooling pooling, bool training>
static void activate_and_pool(Vector* upper, Vector* lower, Vector* pooled, int columns) {
  for (int x = 0; x < columns; x++, upper += 2, lower += 2) {
    if constexpr (pooling != Pooling::max) {
      constexpr float share = pooling == Pooling::average ? 0.25f : 1.0f;
      const Activated a = activate<activation>(upper[0]), b = activate<activation>(upper[1]);
      const Activated c = activate<activation>(lower[0]), d = activate<activation>(lower[1]);
      pooled[x] = ((a.value + b.value) + (c.value + d.value)) * share;
      if constexpr (training) {
        upper[0] = a.slope * share;
        upper[1] = b.slope * share;
        lower[0] = c.slope * share;
        lower[1] = d.slope * share;
      }
    } else {
      // The first of equals wins, as in PyTorch. A monotone activation of the largest is the
      // largest activation, so that one of four is computed; GELU and SiLU are not monotone.
      constexpr bool monotone = activation != Activation::gelu && activation != Activation::silu;
      Vector from[4] = {upper[0], upper[1], lower[0], lower[1]}, slope[4];
      if constexpr (!monotone)
        LENET_UNROLL for (int i = 0; i < 4; i++) {
          const Activated a = activate<activation>(from[i]);
          from[i] = a.value;
          slope[i] = a.slope;
        }
      const Integers right_upper = from[1] > from[0], right_lower = from[3] > from[2];
      const Vector best_upper = right_upper ? from[1] : from[0];
      const Vector best_lower = right_lower ? from[3] : from[2];
      const Integers down = best_lower > best_upper;
      const Vector best = down ? best_lower : best_upper;
      if constexpr (monotone) {
        const Activated a = activate<activation>(best);
        pooled[x] = a.value;
        slope[0] = slope[1] = slope[2] = slope[3] = a.slope;
      } else {
        pooled[x] = best;
      }
      if constexpr (training) {
        upper[0] = (down | right_upper) ? Vector{} : slope[0];
        upper[1] = (~down & right_upper) ? slope[1] : Vector{};
        lower[0] = (down & ~right_lower) ? slope[2] : Vector{};
        lower[1] = (down & right_lower) ? slope[3] : Vector{};
      }
    }
  }
}

// x[i] becomes its activation, slopes[i] the derivative.
template <Activation activation>
static void activate_all(Vector* x, Vector* slopes, int count) {
  for (int i = 0; i < count; i++) {
    const Activated a = activate<activation>(x[i]);
    x[i] = a.value;
    slopes[i] = a.slope;
  }
}

// Trainable subsampling: values[i] becomes the activation of coefficient * values[i] + bias.
// inputs[i] keeps what it was, slopes[i] the derivative of the activation.
template <Activation activation>
static void subsample(Vector* values, float coefficient, float bias, Vector* inputs,
                      Vector* slopes, int count) {
  for (int i = 0; i < count; i++) {
    inputs[i] = values[i];
    const Activated a = activate<activation>(values[i] * coefficient + bias);
    values[i] = a.value;
    slopes[i] = a.slope;
  }
}

// The functions above for one activation. A call serves whole rows, so that it costs nothing to
// choose at run time.
struct ActivationKernels {
  void (*pool_training)(Vector* upper, Vector* lower, Vector* pooled, int columns);
  void (*pool_inference)(Vector* upper, Vector* lower, Vector* pooled, int columns);
  void (*activate)(Vector* x, Vector* slopes, int count);
  void (*subsample)(Vector* values, float coefficient, float bias, Vector* inputs, Vector* slopes,
                    int count);
};

template <Activation activation, Pooling pooling>
static ActivationKernels activation_kernels() {
  return {activate_and_pool<activation, pooling, true>,
          activate_and_pool<activation, pooling, false>, activate_all<activation>,
          subsample<activation>};
}

template <Activation activation>
static ActivationKernels activation_kernels(Pooling pooling) {
  switch (pooling) {
    case Pooling::average:
      return activation_kernels<activation, Pooling::average>();
    case Pooling::sum:
      return activation_kernels<activation, Pooling::sum>();
    default:
      return activation_kernels<activation, Pooling::max>();
  }
}

static ActivationKernels activation_kernels(Activation activation,
                                            Pooling pooling = Pooling::average) {
  switch (activation) {
    case Activation::sigmoid:
      return activation_kernels<Activation::sigmoid>(pooling);
    case Activation::tanh:
      return activation_kernels<Activation::tanh>(pooling);
    case Activation::scaled_tanh:
      return activation_kernels<Activation::scaled_tanh>(pooling);
    case Activation::relu:
      return activation_kernels<Activation::relu>(pooling);
    case Activation::gelu:
      return activation_kernels<Activation::gelu>(pooling);
    case Activation::silu:
      return activation_kernels<Activation::silu>(pooling);
    default:
      return {};
  }
}

}  // namespace lenet::LENET_ISA
