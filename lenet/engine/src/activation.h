// Activation functions, alone and with the 2x2 pooling that follows them.
//
// The forward pass of a training step replaces every pre-activation by the derivative of what
// follows (the activation, or the pooled value) with respect to it. The backward pass is then one
// multiplication for every activation and pooling.
#pragma once

#include "fused.h"
#include "vector.h"

namespace lenet::LENET_ISA {

// Values and slopes of n vectors: one, or an even number, which is faster for each.
template <int n>
struct Activated {
  Vector value[n], slope[n];
};

template <Activation activation, int n>
LENET_INLINE Activated<n> activate(const Vector (&x)[n]) {
  Activated<n> a;
  if constexpr (activation == Activation::sigmoid) {
    Vector e[n];
    LENET_UNROLL for (int i = 0; i < n; i++) {
      e[i] = exp2(clamp(x[i] * -log2e, -60.0f, 60.0f));
      a.value[i] = 1.0f + e[i];
    }
    reciprocals(a.value);
    LENET_UNROLL for (int i = 0; i < n; i++)
      a.slope[i] = e[i] * a.value[i] * a.value[i];  // 1 - value would cancel
  } else if constexpr (activation == Activation::tanh) {
    Vector e[n];  // exp(2x) - 1
    LENET_UNROLL for (int i = 0; i < n; i++) {
      const PowerOfTwo power = exp2_parts(clamp(x[i] * (2.0f * log2e), -60.0f, 60.0f));
      e[i] = (power.scale - 1.0f) + power.scale * power.fraction;
      a.value[i] = e[i] + 2.0f;
    }
    reciprocals(a.value);
    LENET_UNROLL for (int i = 0; i < n; i++) {
      const Vector r = a.value[i];
      a.value[i] = e[i] * r;
      a.slope[i] = ((e[i] + 1.0f) * r) * (4.0f * r);
    }
  } else if constexpr (activation == Activation::scaled_tanh) {
    constexpr float amplitude = 1.7159f, steepness = 2.0f / 3.0f;
    Vector scaled[n];
    LENET_UNROLL for (int i = 0; i < n; i++) scaled[i] = x[i] * steepness;
    a = activate<Activation::tanh>(scaled);
    LENET_UNROLL for (int i = 0; i < n; i++) {
      a.value[i] *= amplitude;
      a.slope[i] *= amplitude * steepness;
    }
  } else if constexpr (activation == Activation::relu) {
    LENET_UNROLL for (int i = 0; i < n; i++) {
      a.value[i] = x[i] < 0.0f ? Vector{} : x[i];
      a.slope[i] = x[i] > 0.0f ? splat(1.0f) : Vector{};
    }
  } else {
    constexpr float steepness = activation == Activation::gelu ? 1.702f : 1.0f;
    Vector scaled[n];
    LENET_UNROLL for (int i = 0; i < n; i++) scaled[i] = x[i] * steepness;
    a = activate<Activation::sigmoid>(scaled);
    LENET_UNROLL for (int i = 0; i < n; i++) {
      a.slope[i] = a.value[i] + scaled[i] * a.slope[i];
      a.value[i] *= x[i];
    }
  }
  return a;
}

// One row of `columns` pooled values from two neighbouring rows of pre-activations.
template <Activation activation, Pooling pooling, bool training>
static void activate_and_pool(Vector* upper, Vector* lower, Vector* pooled, int columns) {
  for (int x = 0; x < columns; x++, upper += 2, lower += 2) {
    if constexpr (pooling != Pooling::max) {
      constexpr float share = pooling == Pooling::average ? 0.25f : 1.0f;
      const Activated a = activate<activation>({upper[0], upper[1], lower[0], lower[1]});
      pooled[x] = ((a.value[0] + a.value[1]) + (a.value[2] + a.value[3])) * share;
      if constexpr (training) {
        upper[0] = a.slope[0] * share;
        upper[1] = a.slope[1] * share;
        lower[0] = a.slope[2] * share;
        lower[1] = a.slope[3] * share;
      }
    } else {
      // The first in a tie, as in PyTorch. A monotone activation of the largest is the largest
      // activation, so only one of four is computed; GELU and SiLU are not monotone.
      constexpr bool monotone = activation != Activation::gelu && activation != Activation::silu;
      Activated<4> a = {{upper[0], upper[1], lower[0], lower[1]}, {}};
      if constexpr (!monotone) a = activate<activation>(a.value);
      const Vector(&from)[4] = a.value;
      Vector(&slope)[4] = a.slope;
      const Integers right_upper = from[1] > from[0], right_lower = from[3] > from[2];
      const Vector best_upper = right_upper ? from[1] : from[0];
      const Vector best_lower = right_lower ? from[3] : from[2];
      const Integers down = best_lower > best_upper;
      const Vector best = down ? best_lower : best_upper;
      if constexpr (monotone) {
        const Activated largest = activate<activation>({best});
        pooled[x] = largest.value[0];
        slope[0] = slope[1] = slope[2] = slope[3] = largest.slope[0];
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
  int i = 0;
  const auto some = [&]<int n>(const Vector(&values)[n]) {
    const Activated a = activate<activation>(values);
    LENET_UNROLL for (int j = 0; j < n; j++) {
      x[i + j] = a.value[j];
      slopes[i + j] = a.slope[j];
    }
  };
  for (; i + 4 <= count; i += 4) some({x[i], x[i + 1], x[i + 2], x[i + 3]});
  for (; i < count; i++) some({x[i]});
}

// Trainable subsampling: values[i] becomes the activation of coefficient * values[i] + bias.
// inputs[i] keeps the old value, slopes[i] the derivative of the activation.
template <Activation activation>
static void subsample(Vector* values, float coefficient, float bias, Vector* inputs,
                      Vector* slopes, int count) {
  for (int i = 0; i < count; i++) {
    inputs[i] = values[i];
    const Activated a = activate<activation>({values[i] * coefficient + bias});
    values[i] = a.value[0];
    slopes[i] = a.slope[0];
  }
}

// The functions above for one activation. A call computes whole rows, so that the choice at run
// time costs nothing.
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
