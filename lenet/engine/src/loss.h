// The loss of one tile of examples, and its derivative with respect to the scores.
#pragma once

#include <math.h>

#include "fused.h"
#include "vector.h"

namespace lenet::LENET_ISA {

// Sum over the first `count` lanes of -sum_k t_k log softmax(scores)_k, where the target t is
// 1 - smoothing at the label plus smoothing / classes everywhere. One more class, never right, has
// the score `rubbish` everywhere; -INFINITY for none. deltas = weight * derivative.
//
// If the label is nearly certain, loss and derivative are computed from the other classes alone, as
// 1 - p would cancel.
static double cross_entropy(const Vector* scores, int classes, const std::int64_t* labels,
                            int count, float smoothing, float rubbish, Vector weight,
                            Vector* deltas) {
  const float everywhere = smoothing / static_cast<float>(classes), at_label = 1.0f - smoothing;
  Vector best = splat(rubbish), below_best = {};
  for (int k = 0; k < classes; k++) best = maximum(best, scores[k]);
  const Vector of_rubbish = rubbish > -INFINITY ? exp(rubbish - best) : Vector{};
  Vector total = of_rubbish;
  for (int k = 0; k < classes; k++) {
    deltas[k] = exp(scores[k] - best);
    total += deltas[k];
    below_best += best - scores[k];
  }
  double loss = 0.0;
  float at_labels[lanes];
  for (int lane = 0; lane < count; lane++) {
    const auto label = labels[lane];
    float others = of_rubbish[lane];
    for (int k = 0; k < classes; k++)
      if (k != label) others += deltas[k][lane];
    const float below = best[lane] - scores[label][lane];
    at_labels[lane] = smoothing - everywhere - others / total[lane];
    loss += (below == 0.0f ? log1pf(others) : logf(total[lane]) + at_label * below) +
            everywhere * below_best[lane];
  }
  for (int k = 0; k < classes; k++) deltas[k] = (deltas[k] / total - everywhere) * weight;
  for (int lane = 0; lane < count; lane++)
    deltas[labels[lane]][lane] = at_labels[lane] * weight[lane];
  return loss;
}

// Sum over the first `count` lanes of the negative score of the label.
static double penalty(const Vector* scores, int classes, const std::int64_t* labels, int count,
                      Vector weight, Vector* deltas) {
  for (int k = 0; k < classes; k++) deltas[k] = Vector{};
  double loss = 0.0;
  for (int lane = 0; lane < count; lane++) {
    deltas[labels[lane]][lane] = -weight[lane];
    loss -= scores[labels[lane]][lane];
  }
  return loss;
}

// Sum over the first `count` lanes of -T^2 sum_k t_k log softmax(scores / T)_k, where T is the
// temperature and the rows of targets (lanes, classes) sum to 1. deltas += weight * derivative.
static double distillation(const Vector* scores, int classes, const float* targets, int count,
                           float temperature, Vector weight, Vector* deltas) {
  Vector best = scores[0], total = {}, expected = {};
  for (int k = 1; k < classes; k++) best = maximum(best, scores[k]);
  for (int k = 0; k < classes; k++) total += exp((scores[k] - best) / temperature);
  for (int k = 0; k < classes; k++) {
    Vector target = {};
    for (int lane = 0; lane < count; lane++) target[lane] = targets[lane * classes + k];
    expected += target * (best - scores[k]);
    deltas[k] +=
        (exp((scores[k] - best) / temperature) / total - target) * weight * temperature;
  }
  double loss = 0.0;
  for (int lane = 0; lane < count; lane++)
    loss += temperature * (temperature * logf(total[lane]) + expected[lane]);
  return loss;
}

// Sum over the first `count` lanes of the mean over the classes of (score - target)^2, where the
// target is 1 at the label and `elsewhere` for the other classes.
static double squared_error(const Vector* scores, int classes, const std::int64_t* labels,
                            int count, float elsewhere, Vector weight, Vector* deltas) {
  for (int k = 0; k < classes; k++) deltas[k] = scores[k] - elsewhere;
  for (int lane = 0; lane < count; lane++) deltas[labels[lane]][lane] -= 1.0f - elsewhere;
  Vector squares = {};
  for (int k = 0; k < classes; k++) {
    squares += deltas[k] * deltas[k];
    deltas[k] *= weight * (2.0f / static_cast<float>(classes));
  }
  double loss = 0.0;
  for (int lane = 0; lane < count; lane++) loss += squares[lane] / static_cast<float>(classes);
  return loss;
}

// How many of the first `count` lanes have their label as argmax, the first in a tie. A NaN is
// never right.
static int count_right(const Vector* scores, int classes, const std::int64_t* labels, int count) {
  int right = 0;
  for (int lane = 0; lane < count; lane++) {
    const float score = scores[labels[lane]][lane];
    bool best = true;
    for (int k = 0; k < classes; k++)
      best &= k < labels[lane] ? scores[k][lane] < score : scores[k][lane] <= score;
    right += best;
  }
  return right;
}

}  // namespace lenet::LENET_ISA
