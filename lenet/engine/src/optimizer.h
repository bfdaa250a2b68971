// The update of the weights, element by element. lenet.engine.optimizers has the same formulas in
// NumPy and computes the coefficients.
//
// For kernel files only, as vector.h. The loops are plain: the compiler vectorises them.
#pragma once

#include <cmath>

#include "denormals.h"
#include "fused.h"

namespace lenet::LENET_ISA {

inline void update_by_sgd(float* __restrict weights, const float* __restrict gradients,
                          const float* coefficients, int count) {
  const float rate = coefficients[0], decay = coefficients[1];
  for (int i = 0; i < count; i++) weights[i] -= rate * (gradients[i] + decay * weights[i]);
}

inline void update_by_momentum(float* __restrict weights, const float* __restrict gradients,
                               float* __restrict velocity, const float* coefficients, int count) {
  const float rate = coefficients[0], decay = coefficients[1], momentum = coefficients[2];
  for (int i = 0; i < count; i++) {
    velocity[i] = momentum * velocity[i] + (gradients[i] + decay * weights[i]);
    weights[i] -= rate * velocity[i];
  }
}

inline void update_by_adamw(float* __restrict weights, const float* __restrict gradients,
                            float* __restrict mean, float* __restrict mean_square,
                            const float* coefficients, int count) {
  const float rate = coefficients[0], decay = coefficients[1], share = coefficients[2],
              share_of_square = coefficients[3], eps = coefficients[4];
  for (int i = 0; i < count; i++) {
    mean[i] += share * (gradients[i] - mean[i]);
    mean_square[i] += share_of_square * (gradients[i] * gradients[i] - mean_square[i]);
    weights[i] -= decay * weights[i] + rate * (mean[i] / (std::sqrt(mean_square[i]) + eps));
  }
}

inline void add_to_average(float* __restrict average, const float* __restrict weights, float share,
                           int count) {
  for (int i = 0; i < count; i++) average[i] += share * (weights[i] - average[i]);
}

// Thread `thread` of `threads` does its share.
inline void update(const Update& u, int thread, int threads) {
  constexpr long block = 256;  // stays in the first-level cache until its average is done
  const FlushDenormals flush;  // a moment becomes one if its gradients stay 0
  const long blocks = (u.size + block - 1) / block;
  for (long b = blocks * thread / threads; b < blocks * (thread + 1) / threads; b++) {
    const long start = b * block;
    const int count = static_cast<int>(u.size - start < block ? u.size - start : block);
    float* const weights = u.weights + start;
    const float* const gradients = u.gradients + start;
    if (u.optimizer == Optimizer::adamw)
      update_by_adamw(weights, gradients, u.state + start, u.state + u.size + start,
                      u.coefficients, count);
    else if (u.state)
      update_by_momentum(weights, gradients, u.state + start, u.coefficients, count);
    else
      update_by_sgd(weights, gradients, u.coefficients, count);
    if (u.average) add_to_average(u.average + start, weights, u.average_share, count);
  }
}

}  // namespace lenet::LENET_ISA
