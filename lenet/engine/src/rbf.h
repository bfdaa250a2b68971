// The output units of 1998: squared Euclidean distances to fixed codes.
#pragma once

#include "vector.h"

namespace lenet::LENET_ISA {

// scores[k] = -sum over f of (x[f] - codes[k, f])^2. Four sums for accuracy, as
// differences of distances decide.
static void rbf_scores(const Vector* x, const float* codes, int features, int classes,
                       Vector* scores) {
  for (int k = 0; k < classes; k++, codes += features) {
    Vector sums[4] = {};
    for (int f = 0; f < features; f++) {
      const Vector difference = x[f] - codes[f];
      sums[f % 4] += difference * difference;
    }
    scores[k] = -((sums[0] + sums[1]) + (sums[2] + sums[3]));
  }
}

// The gradient with respect to x from that with respect to the scores.
static void rbf_gradient(const Vector* x, const float* codes, int features, int classes,
                         const Vector* deltas, Vector* gradient) {
  for (int f = 0; f < features; f++) {
    Vector total = {};
    for (int k = 0; k < classes; k++) total += deltas[k] * (codes[k * features + f] - x[f]);
    gradient[f] = 2.0f * total;
  }
}

}  // namespace lenet::LENET_ISA
