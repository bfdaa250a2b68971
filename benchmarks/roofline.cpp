// Times the parts of a training step of the d2l network on one thread, each between its neighbours
// as in a real step, and what the processor can do. benchmarks/roofline.py compiles and runs it.
#include <math.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

#include "dense.h"
#include "loss.h"
#include "stage.h"
#include "tile_loader.h"

using namespace lenet;
using namespace lenet::LENET_ISA;

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

volatile float sink;

// Multiply-adds between registers: GFLOP/s.
double register_rate() {
  constexpr int chains = many_registers ? 24 : 12, rounds = 200'000;
  std::vector<double> rates;
  const Vector factor = in_register(splat(0.5f)), term = in_register(splat(1.0f));
  for (int repetition = 0; repetition < 15; repetition++) {
    Vector sums[chains] = {};
    const auto start = Clock::now();
    for (int i = 0; i < rounds; i++)
      LENET_UNROLL for (int j = 0; j < chains; j++) sums[j] = in_register(sums[j] * factor + term);
    rates.push_back(2e-9 * rounds * chains * lanes / since(start));
    for (const Vector& s : sums) sink = s[0];
  }
  return median(rates);
}

// Reading memory of so many bytes again and again: GB/s.
double read_rate(long bytes) {
  const long count = bytes / static_cast<long>(sizeof(Vector)) / 8 * 8;
  const Vectors memory(count);
  std::vector<double> rates;
  const long passes = std::max(1L, (256L << 20) / bytes);
  for (int repetition = 0; repetition < 7; repetition++) {
    Vector sums[8] = {};
    const auto start = Clock::now();
    for (long pass = 0; pass < passes; pass++)
      for (long i = 0; i < count; i += 8)
        LENET_UNROLL for (int j = 0; j < 8; j++) sums[j] = in_register(sums[j] + memory[i + j]);
    rates.push_back(1e-9 * static_cast<double>(passes * count * sizeof(Vector)) / since(start));
    for (const Vector& s : sums) sink = s[0];
  }
  return median(rates);
}

// One batch after the other through stages and layers, as fused_kernels.cpp has it.
void time_parts() {
  constexpr int batch = 256, images = 15'360, tiles = batch / lanes, repetitions = 80;
  const int sizes[] = {150, 6, 2400, 16, 48000, 120, 10080, 84, 840, 10};
  const int fan_in[] = {25, 25, 150, 150, 400, 400, 120, 120, 84, 84};
  std::mt19937 random(0);
  std::vector<std::vector<float>> weights, gradients;
  std::vector<const float*> w;
  std::vector<float*> g;
  for (int i = 0; i < 10; i++) {
    weights.emplace_back(sizes[i]);
    gradients.emplace_back(sizes[i]);
    for (float& x : weights[i])
      x = (static_cast<float>(random() % 2001) / 1000.0f - 1.0f) *
          sqrtf(3.0f / static_cast<float>(fan_in[i]));
    w.push_back(weights[i].data());
    g.push_back(gradients[i].data());
  }
  std::vector<Place> kernels[2], biases[2];
  for (int i = 0; i < 6; i++) kernels[0].push_back({0, 25 * i}), biases[0].push_back({1, i});
  for (int i = 0; i < 96; i++) kernels[1].push_back({2, 25 * i});
  for (int i = 0; i < 16; i++) biases[1].push_back({3, i});
  Plan plan{};
  plan.image_size = plan.input_size = 28;
  plan.std = 1.0f;
  plan.stages = 2;
  const Activation sigmoid = Activation::sigmoid, none = Activation::none;
  plan.stage[0] = {true, 1, 6, 5, 2, 28, 28, sigmoid, Pooling::average, none,
                   kernels[0].data(), biases[0].data(), false, 0, 0};
  plan.stage[1] = {false, 6, 16, 5, 0, 14, 10, sigmoid, Pooling::average, none,
                   kernels[1].data(), biases[1].data(), false, 0, 0};
  Stage *const C1 = make_stage(plan.stage[0], 1), *const C3 = make_stage(plan.stage[1], 1);
  DenseLayer layers[] = {DenseLayer({400, 120, sigmoid, 4, 5}), DenseLayer({120, 84, sigmoid, 6, 7}),
                         DenseLayer({84, 10, none, 8, 9})};
  const TileLoader loader(plan, C1->input_pitch());
  loader.fill_border(C1->input(0));
  const Vectors maps(400), maps_gradient(layers[0].input_room()), values[] = {
      Vectors(layers[0].room()), Vectors(layers[1].room()), Vectors(layers[2].room())};
  const Vectors slopes_of[] = {Vectors(layers[0].room()), Vectors(layers[1].room()),
                               Vectors(layers[2].room())};
  std::vector<std::uint8_t> pixels(images * 784);
  for (auto& pixel : pixels) pixel = static_cast<std::uint8_t>(random());
  for (DenseLayer& layer : layers) layer.reserve(tiles);

  enum { packing, loading, C1_forward, C3_forward, dense_forward, scoring, dense_backward,
         C3_backward, C1_backward, dense_weights, adding, parts };
  const char* const names[] = {"packing", "loading", "C1 forward", "C3 forward", "dense forward",
                               "loss", "dense backward", "C3 backward", "C1 backward",
                               "dense weights", "adding up"};
  std::vector<double> seconds[parts];
  for (int repetition = 0; repetition < repetitions; repetition++) {
    double spent[parts] = {};
    auto last = Clock::now();
    const auto mark = [&](int part) {
      spent[part] += since(last);
      last = Clock::now();
    };
    C1->pack(w.data());
    C3->pack(w.data());
    for (DenseLayer& layer : layers) layer.pack<true>(w.data(), 0, 1);
    C1->begin(0);
    C3->begin(0);
    mark(packing);
    for (int tile = 0; tile < tiles; tile++) {
      const std::uint8_t* chosen[lanes];
      for (auto& image : chosen) image = pixels.data() + random() % images * 784;
      loader.load(chosen, nullptr, C1->input(0));
      mark(loading);
      C1->forward(0, true, C3->inside(0));
      mark(C1_forward);
      C3->forward(0, true, {maps, 5, 25});
      mark(C3_forward);
      for (int l = 0; l < 3; l++) layers[l].forward(l ? values[l - 1] : maps, values[l], slopes_of[l]);
      mark(dense_forward);
      std::int64_t labels[lanes] = {};
      cross_entropy(values[2], 10, labels, lanes, 0.0f, -INFINITY, splat(1.0f / batch),
                    layers[2].deltas(tile));
      mark(scoring);
      for (int l = 2; l >= 0; l--) {
        layers[l].backward_activation(tile, slopes_of[l]);
        layers[l].backward(tile, l ? values[l - 1] : maps,
                           l ? layers[l - 1].deltas(tile) : maps_gradient);
      }
      mark(dense_backward);
      C3->backward(0, {maps_gradient, 5, 25});
      mark(C3_backward);
      C1->backward(0, C3->inside_gradient(0));
      mark(C1_backward);
    }
    for (DenseLayer& layer : layers) layer.reduce(tiles, 0, 1, g.data());
    mark(dense_weights);
    C1->reduce(0, 1, g.data());
    C3->reduce(0, 1, g.data());
    mark(adding);
    for (int part = 0; part < parts; part++) seconds[part].push_back(spent[part] / batch);
  }
  for (int part = 0; part < parts; part++) printf("part,%s,%.4e\n", names[part], median(seconds[part]));
}

}  // namespace

int main() {
  printf("roof,registers,%.2f\n", register_rate());
  printf("roof,first-level cache,%.2f\n", read_rate(24 << 10));
  printf("roof,second-level cache,%.2f\n", read_rate(768 << 10));
  printf("roof,beyond,%.2f\n", read_rate(512L << 20));
  time_parts();
}
