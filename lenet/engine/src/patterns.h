// Training one pattern at a time for networks of squashed layers, map by map: weighted sums of
// windows (convolutions, full connections) and subsampling. Slower than sequential_kernels.cpp,
// which knows LeNet-5, and the same for every network.
#pragma once

#include <math.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace lenet {

struct Wire {
  int output, input, kernel;  // maps, and where the kernel or coefficient begins in the weights
};

// A layer and what it computes for one pattern. Maps are square.
struct MapLayer {
  bool subsampling, unit_biases;
  int inputs, side, outputs, out_side, kernel, stride, padding;
  float border, share;  // share of each of the four inputs of a subsampling
  std::vector<Wire> wires;
  std::vector<int> biases;  // where each map's bias or biases begin in the weights
  std::vector<float> x, dx;               // the input in its border, and derivatives
  std::vector<float> y, slope, delta, row;  // of the units; of one row

  int pitch() const { return side + 2 * padding; }
  int area() const { return out_side * out_side; }
  const float* window(int map, int i) const { return &x[(map * pitch() + i * stride) * pitch()]; }

  void reserve() {
    x.assign(inputs * pitch() * pitch(), border);
    dx.resize(x.size());
    for (auto* of_units : {&y, &slope, &delta}) of_units->resize(outputs * area());
    row.resize(out_side);
  }

  // visit(value of x, value of dx) for the inputs without the border, in order
  template <class Visit>
  void each_input(Visit visit) {
    for (int map = 0; map < inputs; map++)
      for (int i = padding; i < side + padding; i++)
        for (int j = padding; j < side + padding; j++) {
          const int k = (map * pitch() + i) * pitch() + j;
          visit(x[k], dx[k]);
        }
  }

  void forward(const float* weights) {
    for (int map = 0; map < outputs; map++)
      for (int i = 0; i < area(); i++)
        y[map * area() + i] = weights[biases[map] + (unit_biases ? i : 0)];
    for (const Wire& wire : wires) add_sums(wire, weights + wire.kernel);
    for (std::size_t i = 0; i < y.size(); i++) {
      const float t = tanhf(2.0f / 3.0f * y[i]);
      y[i] = 1.7159f * t;
      slope[i] = 1.7159f * 2.0f / 3.0f * (1.0f - t * t);
    }
  }

  void add_sums(const Wire& wire, const float* w) {
    for (int i = 0; i < out_side; i++) {
      const float* const from = window(wire.input, i);
      float* const to = &y[wire.output * area() + i * out_side];
      if (subsampling) {
        for (int j = 0; j < out_side; j++) to[j] += *w * share * sum4(from + 2 * j);
        continue;
      }
      for (int u = 0; u < kernel; u++)
        for (int v = 0; v < kernel; v++) {
          const float weight = w[u * kernel + v];
          const float* const tap = from + u * pitch() + v;
          for (int j = 0; j < out_side; j++) to[j] += weight * tap[j * stride];
        }
    }
  }

  float sum4(const float* corner) const {
    return corner[0] + corner[1] + corner[pitch()] + corner[pitch() + 1];
  }

  // From delta, derivatives with respect to the sums, adds those of the weights to the gradient and
  // computes dx. With the squares of weights, x and slopes, second derivatives take this way, too.
  void backward(const float* weights, float* gradient, bool squares) {
    std::fill(dx.begin(), dx.end(), 0.0f);
    for (int map = 0; map < outputs; map++)
      for (int i = 0; i < area(); i++)
        gradient[biases[map] + (unit_biases ? i : 0)] += delta[map * area() + i];
    for (const Wire& wire : wires)
      if (subsampling)
        subsampling_backward(wire, weights[wire.kernel], gradient[wire.kernel], squares);
      else
        sums_backward(wire, weights + wire.kernel, gradient + wire.kernel);
  }

  void subsampling_backward(const Wire& wire, float weight, float& gradient, bool squares) {
    const float each = weight * (squares ? share * share : share);
    for (int i = 0; i < out_side; i++)
      for (int j = 0; j < out_side; j++) {
        const float d = delta[wire.output * area() + i * out_side + j];
        const float* const corner = window(wire.input, i) + 2 * j;
        const float pooled = share * sum4(corner);
        gradient += d * (squares ? pooled * pooled : pooled);
        float* const to = &dx[corner - x.data()];
        for (const int k : {0, 1, pitch(), pitch() + 1}) to[k] += each * d;
      }
  }

  void sums_backward(const Wire& wire, const float* w, float* gradient) {
    for (int u = 0; u < kernel; u++)
      for (int v = 0; v < kernel; v++) {
        const float weight = w[u * kernel + v];
        std::fill(row.begin(), row.end(), 0.0f);
        for (int i = 0; i < out_side; i++) {
          const float* const d = &delta[wire.output * area() + i * out_side];
          const float* const tap = window(wire.input, i) + u * pitch() + v;
          float* const to = &dx[tap - x.data()];
          for (int j = 0; j < out_side; j++) {
            row[j] += d[j] * tap[j * stride];
            to[j * stride] += weight * d[j];
          }
        }
        for (const float part : row) gradient[u * kernel + v] += part;
      }
  }
};

// A network whose criterion is the mean squared error to +1 for the right class, -1 for others.
struct MapNetwork {
  std::vector<MapLayer> layers;
  std::vector<float> gradient, squares;

  void forward(const float* weights, const float* input) {
    for (MapLayer& layer : layers) {
      layer.each_input([&](float& x, float&) { x = *input++; });
      layer.forward(weights);
      input = layer.y.data();
    }
  }

  // From the last layer's delta.
  void backward(const float* weights, bool squares) {
    for (std::size_t k = layers.size(); k-- > 0;) {
      MapLayer& layer = layers[k];
      if (squares && !layer.subsampling)
        for (float& x : layer.x) x *= x;
      layer.backward(weights, gradient.data(), squares);
      if (squares) std::fill(layer.x.begin(), layer.x.end(), layer.border);
      if (k == 0) break;
      const float* slope = layers[k - 1].slope.data();
      float* delta = layers[k - 1].delta.data();
      layer.each_input([&](float&, float& dx) {
        *delta++ = dx * (squares ? *slope * *slope : *slope);
        slope++;
      });
    }
  }

  // Changes the weights by one pattern; adds to the loss, and returns whether the answer is wrong.
  bool train(const float* input, std::int64_t label, float* weights, const float* steps,
             double& loss) {
    forward(weights, input);
    MapLayer& output = layers.back();
    const int classes = static_cast<int>(output.y.size());
    for (int k = 0; k < classes; k++) {
      const float error = output.y[k] - (k == label ? 1.0f : -1.0f);
      loss += error * error / static_cast<float>(classes);
      output.delta[k] = 2.0f / static_cast<float>(classes) * error * output.slope[k];
    }
    std::fill(gradient.begin(), gradient.end(), 0.0f);
    backward(weights, false);
    for (std::size_t i = 0; i < gradient.size(); i++) weights[i] -= steps[i] * gradient[i];
    return std::max_element(output.y.begin(), output.y.end()) - output.y.begin() != label;
  }

  // Adds h of every parameter for one pattern to `gradient`.
  void curvature(const float* input, const float* weights) {
    forward(weights, input);
    MapLayer& output = layers.back();
    const float of_unit = 2.0f / static_cast<float>(output.y.size());
    for (std::size_t k = 0; k < output.y.size(); k++)
      output.delta[k] = of_unit * output.slope[k] * output.slope[k];
    backward(squares.data(), true);
  }
};

}  // namespace lenet
