// LeNet-5 of 1998 at batch size 1: forward, backward with the update, and second derivatives.
//
// Names follow the paper. In a comment, "d" of a layer is the derivative of the loss with respect
// to the layer's weighted sums, so that d times an input is the gradient of a weight.

#include "sequential.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "denormals.h"
#include "vector.h"

namespace lenet::LENET_ISA {
namespace {

constexpr int kernel = 5, taps = kernel * kernel;
constexpr int input_side = 32;
constexpr int c1_side = 28, c1_row = 32;   // a row is padded to whole vectors
constexpr int s2_side = 14, s2_row = 16;
constexpr int c3_side = 10, c3_size = c3_side * c3_side;
constexpr int s4_side = 5, s4_size = s4_side * s4_side;
constexpr int s4_units = c3_maps * s4_size;  // 400
constexpr int c5_units = 120, c5_row = 128;
constexpr float background = -0.1f, foreground = 1.175f;

// ---------------------------------------------------------------------------------------------
// Parameters in the layout of the kernels. The same struct holds weights, step sizes and h. The
// padding of rows, and the pairs of maps that C3 does not connect, stay 0.

struct alignas(64) Parameters {
  float c1_weight[c1_maps][taps];
  float c1_bias[c1_maps];
  float s2_coefficient[c1_maps], s2_bias[c1_maps];
  alignas(64) float c3_weight[c1_maps][taps][c3_maps];
  float c3_bias[c3_maps];
  float s4_coefficient[c3_maps], s4_bias[c3_maps];
  float c5_weight[c5_units][s4_units];
  float c5_bias[c5_row];
  float f6_weight[features][c5_row];
  float f6_bias[feature_row];
};

// Calls visit(number of the array, place in the array, place in Parameters) for each parameter.
template <class Visit>
void for_each_parameter(Parameters& p, const bool* table, Visit visit) {
  const auto row = [&](int array, int offset, float* values, int size) {
    for (int i = 0; i < size; i++) visit(array, offset + i, values[i]);
  };
  row(0, 0, p.c1_weight[0], c1_maps * taps);
  row(1, 0, p.c1_bias, c1_maps);
  row(2, 0, p.s2_coefficient, c1_maps);
  row(3, 0, p.s2_bias, c1_maps);
  int connection = 0;
  for (int map = 0; map < c3_maps; map++)
    for (int input = 0; input < c1_maps; input++)
      if (table[map * c1_maps + input]) {
        for (int tap = 0; tap < taps; tap++)
          visit(4, connection * taps + tap, p.c3_weight[input][tap][map]);
        connection++;
      }
  row(5, 0, p.c3_bias, c3_maps);
  row(6, 0, p.s4_coefficient, c3_maps);
  row(7, 0, p.s4_bias, c3_maps);
  row(8, 0, p.c5_weight[0], c5_units * s4_units);
  row(9, 0, p.c5_bias, c5_units);
  for (int unit = 0; unit < features; unit++)
    row(10, unit * c5_units, p.f6_weight[unit], c5_units);
  row(11, 0, p.f6_bias, features);
}

void pack(const float* const* arrays, const bool* table, Parameters& p) {
  std::memset(&p, 0, sizeof p);
  for_each_parameter(p, table, [&](int array, int i, float& value) { value = arrays[array][i]; });
}

void unpack(Parameters& p, const bool* table, float* const* arrays) {
  for_each_parameter(p, table, [&](int array, int i, float& value) { arrays[array][i] = value; });
}

// ---------------------------------------------------------------------------------------------
// The state of the network for one pattern.

struct alignas(64) Activations {
  float input[input_side * input_side + 64];  // the padding is read, never used
  alignas(64) float c1[c1_maps][c1_side][c1_row];
  float s2_pooled[c1_maps][s2_side][s2_row], s2[c1_maps][s2_side + 2][s2_row];
  float c3[c3_size][c3_maps];
  float s4_pooled[s4_size][c3_maps], s4[s4_size][c3_maps];
  float s4_flat[s4_units];  // ordered by map, as C5's weights
  float c5[c5_row];
  float f6[feature_row];
  float penalties[classes];
};

constexpr float amplitude = 1.7159f, steepness = 2.0f / 3.0f;

// 1.7159 tanh(2a/3) with tanh z = (e^2z - 1) / (e^2z + 1).
LENET_INLINE Vector squashed(Vector a) {
  const PowerOfTwo power = exp2_parts(clamp(a, -20.0f, 20.0f) * (2 * steepness * log2e));
  const Vector minus_one = (power.scale - 1.0f) + power.scale * power.fraction;
  return amplitude * minus_one * reciprocal(minus_one + 2.0f);
}

// The derivative of the squashing where its value is f.
template <class Number>
LENET_INLINE Number slope(Number f) {
  return amplitude * steepness - (steepness / amplitude) * (f * f);
}

LENET_INLINE void squash(float* values, int size) {
  for (int i = 0; i < size; i += lanes) store(values + i, squashed(load(values + i)));
}

// ---------------------------------------------------------------------------------------------
// Input: prepared as in the paper.

void present(const Patterns& patterns, std::int64_t k, Activations& a) {
  constexpr int margin = (input_side - image_size) / 2;
  const std::uint8_t* image = patterns.images + patterns.order[k] * image_size * image_size;
  std::fill_n(a.input, input_side * input_side, background);
  for (int y = 0; y < image_size; y++)
    for (int x = 0; x < image_size; x++)
      a.input[(y + margin) * input_side + x + margin] =
          background + (foreground - background) / 255.0f * image[y * image_size + x];
}

// ---------------------------------------------------------------------------------------------
// Forward.

// Two rows of all maps at a time, columns in lanes: each input vector serves both rows.
void forward_c1(const Parameters& w, Activations& a) {
  for (int y = 0; y < c1_side; y += 2)
    for (int x = 0; x < c1_row; x += lanes) {
      Vector sums[2][c1_maps];
      LENET_UNROLL for (int map = 0; map < c1_maps; map++)
        sums[0][map] = sums[1][map] = splat(w.c1_bias[map]);
      LENET_UNROLL for (int row = 0; row <= kernel; row++)
        LENET_UNROLL for (int kx = 0; kx < kernel; kx++) {
          const Vector in = load(a.input + (y + row) * input_side + x + kx);
          LENET_UNROLL for (int map = 0; map < c1_maps; map++) {
            if (row < kernel) sums[0][map] += splat(w.c1_weight[map][row * kernel + kx]) * in;
            if (row > 0) sums[1][map] += splat(w.c1_weight[map][(row - 1) * kernel + kx]) * in;
          }
        }
      LENET_UNROLL for (int map = 0; map < c1_maps; map++) {
        store(&a.c1[map][y][x], squashed(sums[0][map]));
        store(&a.c1[map][y + 1][x], squashed(sums[1][map]));
      }
    }
}

void forward_s2(const Parameters& w, const Settings& settings, Activations& a) {
  for (int map = 0; map < c1_maps; map++)
    for (int y = 0; y < s2_side; y++) {
      const float *upper = a.c1[map][2 * y], *lower = a.c1[map][2 * y + 1];
      float* pooled = a.s2_pooled[map][y];
      float* out = a.s2[map][y];
      for (int x = 0; x < s2_row; x++)
        pooled[x] = settings.pooling_scale *
                    (upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1]);
      for (int x = 0; x < s2_row; x++)
        out[x] = w.s2_coefficient[map] * pooled[x] + w.s2_bias[map];
      squash(out, s2_row);
    }
}

// A row of all maps, maps in lanes.
void forward_c3(const Parameters& w, Activations& a) {
  for (int map = 0; map < c3_maps; map += lanes)
    for (int y = 0; y < c3_side; y++) {
      Vector sums[c3_side];
      LENET_UNROLL for (int x = 0; x < c3_side; x++) sums[x] = load(w.c3_bias + map);
      for (int input = 0; input < c1_maps; input++)
        for (int ky = 0; ky < kernel; ky++) {
          const float* row = a.s2[input][y + ky];
          LENET_UNROLL for (int kx = 0; kx < kernel; kx++) {
            const Vector weight = load(&w.c3_weight[input][ky * kernel + kx][map]);
            LENET_UNROLL for (int x = 0; x < c3_side; x++) sums[x] += weight * splat(row[x + kx]);
          }
        }
      LENET_UNROLL for (int x = 0; x < c3_side; x++)
        store(&a.c3[y * c3_side + x][map], squashed(sums[x]));
    }
}

// Positions of the four inputs of unit (y, x) of S4.
struct Quad {
  int place[4];
  Quad(int y, int x) {
    const int corner = 2 * y * c3_side + 2 * x;
    place[0] = corner, place[1] = corner + 1;
    place[2] = corner + c3_side, place[3] = corner + c3_side + 1;
  }
};

void forward_s4(const Parameters& w, const Settings& settings, Activations& a) {
  for (int y = 0; y < s4_side; y++)
    for (int x = 0; x < s4_side; x++) {
      const Quad quad(y, x);
      float* pooled = a.s4_pooled[y * s4_side + x];
      float* out = a.s4[y * s4_side + x];
      for (int map = 0; map < c3_maps; map++) {
        pooled[map] = settings.pooling_scale * (a.c3[quad.place[0]][map] + a.c3[quad.place[1]][map] +
                                                a.c3[quad.place[2]][map] + a.c3[quad.place[3]][map]);
        out[map] = w.s4_coefficient[map] * pooled[map] + w.s4_bias[map];
      }
      squash(out, c3_maps);
    }
  for (int map = 0; map < c3_maps; map++)
    for (int place = 0; place < s4_size; place++)
      a.s4_flat[map * s4_size + place] = a.s4[place][map];
}

// C5 and F6: out = squash(weight x + bias), four units at a time.
template <int units, int row, int padded>
void forward_full(const float (&weight)[units][row], const float (&bias)[padded],
                  const float (&x)[row], float (&out)[padded]) {
  static_assert(units % 4 == 0 && row % lanes == 0 && padded % lanes == 0);
  for (int unit = 0; unit < units; unit += 4) {
    Vector sums[4] = {};
    for (int i = 0; i < row; i += lanes) {
      const Vector in = load(x + i);
      LENET_UNROLL for (int u = 0; u < 4; u++) sums[u] += load(weight[unit + u] + i) * in;
    }
    LENET_UNROLL for (int u = 0; u < 4; u++) out[unit + u] = bias[unit + u] + sum(sums[u]);
  }
  std::fill(out + units, out + padded, 0.0f);
  squash(out, padded);
}

void forward(const Parameters& w, const Settings& settings, Activations& a) {
  forward_c1(w, a);
  forward_s2(w, settings, a);
  forward_c3(w, a);
  forward_s4(w, settings, a);
  forward_full(w.c5_weight, w.c5_bias, a.s4_flat, a.c5);
  forward_full(w.f6_weight, w.f6_bias, a.c5, a.f6);
  for (int c = 0; c < classes; c++) {
    Vector penalty = {};
    for (int i = 0; i < feature_row; i += lanes) {
      const Vector difference = load(a.f6 + i) - load(settings.codes + c * feature_row + i);
      penalty += difference * difference;
    }
    a.penalties[c] = sum(penalty);
  }
}

// ---------------------------------------------------------------------------------------------
// Criteria (8) and (9).

struct Criterion {
  double loss;
  float shares[classes];  // of e^-y in e^-j + the sum over all classes; 0 for criterion (8)
  float rubbish;          // the share of e^-j
};

Criterion criterion(const Activations& a, const Settings& settings, std::int64_t label) {
  Criterion c{a.penalties[label], {}, 1.0f};
  if (!settings.competitive) return c;
  const float least =
      std::min(settings.j, *std::min_element(a.penalties, a.penalties + classes));
  double total = std::exp(double(least) - settings.j);
  double terms[classes];
  for (int i = 0; i < classes; i++) total += terms[i] = std::exp(double(least) - a.penalties[i]);
  for (int i = 0; i < classes; i++) c.shares[i] = static_cast<float>(terms[i] / total);
  c.rubbish = static_cast<float>(std::exp(double(least) - settings.j) / total);
  c.loss += std::log(total) - least;
  return c;
}

// ---------------------------------------------------------------------------------------------
// Backward. Every function takes d of its layer, changes the layer's parameters and computes
// the derivative with respect to the layer's inputs, as before the change.

LENET_INLINE void times_slope(float* derivative, const float* value, int size) {
  for (int i = 0; i < size; i++) derivative[i] *= slope(value[i]);
}

// C5 and F6: the gradient of the inputs is summed in registers, `vectors` of them at a time.
template <int vectors, int units, int row, int padded>
void backward_full(float (&weight)[units][row], const float (&weight_step)[units][row],
                   float (&bias)[padded], const float (&bias_step)[padded], const float (&x)[row],
                   const float (&d)[padded], float (&of_input)[row]) {
  constexpr int chunk = vectors * lanes;
  static_assert(row % chunk == 0);
  for (int start = 0; start < row; start += chunk) {
    Vector sums[vectors] = {};
    for (int unit = 0; unit < units; unit++) {
      const Vector d_unit = splat(d[unit]);
      float* w = weight[unit] + start;
      const float* step = weight_step[unit] + start;
      LENET_UNROLL for (int v = 0; v < vectors; v++) {
        const Vector old = load(w + v * lanes);
        sums[v] += old * d_unit;
        store(w + v * lanes, old - load(step + v * lanes) * (d_unit * load(x + start + v * lanes)));
      }
    }
    LENET_UNROLL for (int v = 0; v < vectors; v++) store(of_input + start + v * lanes, sums[v]);
  }
  for (int unit = 0; unit < units; unit++) bias[unit] -= bias_step[unit] * d[unit];
}

// In: d of S4's units. Out: d of C3's.
void backward_s4(Parameters& w, const Parameters& step, const Settings& settings,
                 const Activations& a, const float (&d4)[s4_size][c3_maps],
                 float (&d3)[c3_size][c3_maps]) {
  alignas(64) float of_coefficient[c3_maps] = {}, of_bias[c3_maps] = {};
  for (int y = 0; y < s4_side; y++)
    for (int x = 0; x < s4_side; x++) {
      const Quad quad(y, x);
      const int place = y * s4_side + x;
      for (int map = 0; map < c3_maps; map++) {
        const float d = d4[place][map];
        of_bias[map] += d;
        of_coefficient[map] += d * a.s4_pooled[place][map];
      }
      for (const int from : quad.place)
        for (int map = 0; map < c3_maps; map++)
          d3[from][map] = d4[place][map] * settings.pooling_scale * w.s4_coefficient[map] *
                          slope(a.c3[from][map]);
    }
  for (int map = 0; map < c3_maps; map++) {
    w.s4_coefficient[map] -= step.s4_coefficient[map] * of_coefficient[map];
    w.s4_bias[map] -= step.s4_bias[map] * of_bias[map];
  }
}

// The derivative of C3's inputs. Columns in lanes; d3 by maps, 4 zeros before each row.
void c3_to_inputs(const float (&weight)[c1_maps][taps][c3_maps], const bool* table,
                  const float (&d3_rows)[c3_maps][c3_side][c1_row],
                  float (&of_input)[c1_maps][s2_side][s2_row]) {
  for (int input = 0; input < c1_maps; input++)
    for (int x = 0; x < s2_row; x += lanes) {
      Vector sums[s2_side] = {};
      for (int map = 0; map < c3_maps; map++) {
        if (!table[map * c1_maps + input]) continue;
        for (int kx = 0; kx < kernel; kx++) {
          Vector weights[kernel];
          LENET_UNROLL for (int ky = 0; ky < kernel; ky++)
            weights[ky] = splat(weight[input][ky * kernel + kx][map]);
          const float* d = &d3_rows[map][0][kernel - 1 - kx + x];
          LENET_UNROLL for (int y = 0; y < c3_side; y++) {
            const Vector row = load(d + y * c1_row);
            LENET_UNROLL for (int ky = 0; ky < kernel; ky++) sums[y + ky] += weights[ky] * row;
          }
        }
      }
      LENET_UNROLL for (int y = 0; y < s2_side; y++) store(&of_input[input][y][x], sums[y]);
    }
}

// C3's gradient and update, maps in lanes, `rows` rows of the kernels at a time.
void update_c3(Parameters& w, const Parameters& step, const Activations& a,
               const float (&d3)[c3_size][c3_maps]) {
  constexpr int rows = registers == 32 ? kernel : 1;
  for (int map = 0; map < c3_maps; map += lanes) {
    for (int input = 0; input < c1_maps; input++)
      for (int top = 0; top < kernel; top += rows) {
        Vector sums[rows * kernel] = {};
        for (int y = 0; y < c3_side; y++)
          for (int x = 0; x < c3_side; x++) {
            const Vector d = load(&d3[y * c3_side + x][map]);
            const float* in = &a.s2[input][y + top][x];
            LENET_UNROLL for (int ky = 0; ky < rows; ky++)
              LENET_UNROLL for (int kx = 0; kx < kernel; kx++)
                sums[ky * kernel + kx] += d * splat(in[ky * s2_row + kx]);
          }
        LENET_UNROLL for (int i = 0; i < rows * kernel; i++) {
          const int tap = top * kernel + i;
          float* weight = &w.c3_weight[input][tap][map];
          store(weight, load(weight) - load(&step.c3_weight[input][tap][map]) * sums[i]);
        }
      }
    Vector of_bias = {};
    for (int place = 0; place < c3_size; place++) of_bias += load(&d3[place][map]);
    store(w.c3_bias + map, load(w.c3_bias + map) - load(step.c3_bias + map) * of_bias);
  }
}

// In: d of S2's units, 0 in the padding. Out: d of C1's.
void backward_s2(Parameters& w, const Parameters& step, const Settings& settings,
                 const Activations& a, const float (&d2)[c1_maps][s2_side][s2_row],
                 float (&d1)[c1_maps][c1_side][c1_row]) {
  for (int map = 0; map < c1_maps; map++) {
    const float factor = settings.pooling_scale * w.s2_coefficient[map];
    Vector coefficient_sums = {}, bias_sums = {};
    for (int y = 0; y < s2_side; y++) {
      for (int x = 0; x < s2_row; x += lanes) {
        const Vector d = load(&d2[map][y][x]);
        bias_sums += d;
        coefficient_sums += d * load(&a.s2_pooled[map][y][x]);
      }
      alignas(64) float spread[c1_row];
      for (int x = 0; x < s2_row; x++) spread[2 * x] = spread[2 * x + 1] = factor * d2[map][y][x];
      for (int row = 2 * y; row < 2 * y + 2; row++)
        for (int x = 0; x < c1_row; x++) d1[map][row][x] = spread[x] * slope(a.c1[map][row][x]);
    }
    w.s2_coefficient[map] -= step.s2_coefficient[map] * sum(coefficient_sums);
    w.s2_bias[map] -= step.s2_bias[map] * sum(bias_sums);
  }
}

// C1's gradient and update: columns in lanes, a row of the kernels of three maps at a time.
void update_c1(Parameters& w, const Parameters& step, const Activations& a,
               const float (&d1)[c1_maps][c1_side][c1_row]) {
  constexpr int group = 3;
  for (int first = 0; first < c1_maps; first += group)
    for (int ky = 0; ky < kernel; ky++) {
      Vector sums[group][kernel] = {};
      for (int y = 0; y < c1_side; y++)
        for (int x = 0; x < c1_row; x += lanes) {
          Vector d[group];
          LENET_UNROLL for (int map = 0; map < group; map++) d[map] = load(&d1[first + map][y][x]);
          LENET_UNROLL for (int kx = 0; kx < kernel; kx++) {
            const Vector in = load(a.input + (y + ky) * input_side + x + kx);
            LENET_UNROLL for (int map = 0; map < group; map++) sums[map][kx] += in * d[map];
          }
        }
      for (int map = 0; map < group; map++)
        for (int kx = 0; kx < kernel; kx++) {
          const int tap = ky * kernel + kx;
          w.c1_weight[first + map][tap] -= step.c1_weight[first + map][tap] * sum(sums[map][kx]);
        }
    }
  for (int map = 0; map < c1_maps; map++) {
    Vector of_bias = {};
    for (int i = 0; i < c1_side * c1_row; i += lanes) of_bias += load(d1[map][0] + i);
    w.c1_bias[map] -= step.c1_bias[map] * sum(of_bias);
  }
}

struct alignas(64) Derivatives {
  float f6[feature_row];
  float c5[c5_row];
  float s4_flat[s4_units];
  float s4[s4_size][c3_maps];
  float c3[c3_size][c3_maps];
  float c3_rows[c3_maps][c3_side][c1_row];  // 4 zeros before each row, zeros after it
  float s2[c1_maps][s2_side][s2_row];
  float c1[c1_maps][c1_side][c1_row];
};

// From S4 in the order of C5's weights to maps in lanes.
void unflatten_s4(const float (&flat)[s4_units], float (&by_place)[s4_size][c3_maps]) {
  for (int place = 0; place < s4_size; place++)
    for (int map = 0; map < c3_maps; map++) by_place[place][map] = flat[map * s4_size + place];
}

void by_rows(const float (&c3)[c3_size][c3_maps], float (&rows)[c3_maps][c3_side][c1_row]) {
  for (int map = 0; map < c3_maps; map++)
    for (int y = 0; y < c3_side; y++)
      for (int x = 0; x < c3_side; x++) rows[map][y][kernel - 1 + x] = c3[y * c3_side + x][map];
}

// Vectors of 400 and of 128 numbers that are summed at a time in registers.
constexpr int c5_vectors = registers == 32 ? 25 : 10, f6_vectors = 8;

// Changes the parameters after the forward pass of one pattern.
void learn(Parameters& w, const Parameters& step, const Settings& settings, const Activations& a,
           std::int64_t label, const Criterion& c, Derivatives& d) {
  for (int i = 0; i < feature_row; i += lanes) {
    Vector sums = {};
    for (int k = 0; k < classes; k++) {
      const float of_penalty = (k == label ? 1.0f : 0.0f) - c.shares[k];
      sums += splat(2 * of_penalty) * (load(a.f6 + i) - load(settings.codes + k * feature_row + i));
    }
    store(d.f6 + i, sums);
  }
  times_slope(d.f6, a.f6, feature_row);
  backward_full<f6_vectors>(w.f6_weight, step.f6_weight, w.f6_bias, step.f6_bias, a.c5, d.f6, d.c5);
  times_slope(d.c5, a.c5, c5_row);
  backward_full<c5_vectors>(w.c5_weight, step.c5_weight, w.c5_bias, step.c5_bias, a.s4_flat, d.c5,
                            d.s4_flat);
  times_slope(d.s4_flat, a.s4_flat, s4_units);
  unflatten_s4(d.s4_flat, d.s4);
  backward_s4(w, step, settings, a, d.s4, d.c3);
  by_rows(d.c3, d.c3_rows);
  c3_to_inputs(w.c3_weight, settings.table, d.c3_rows, d.s2);
  update_c3(w, step, a, d.c3);
  for (int map = 0; map < c1_maps; map++)
    for (int y = 0; y < s2_side; y++) {
      times_slope(d.s2[map][y], a.s2[map][y], s2_row);
      for (int x = s2_side; x < s2_row; x++) d.s2[map][y][x] = 0;
    }
  backward_s2(w, step, settings, a, d.s2, d.c1);
  update_c1(w, step, a, d.c1);
}

// ---------------------------------------------------------------------------------------------
// Second derivatives (paper, eq. 20-27): the backward pass with every factor squared. Here "d" of a
// layer is d2E/da2. Plain loops are fast enough for a few hundred patterns a pass.

LENET_INLINE void times_slope_squared(float* derivative, const float* value, int size) {
  for (int i = 0; i < size; i++) derivative[i] *= slope(value[i]) * slope(value[i]);
}

template <int units, int row, int padded>
void curvature_full(const float (&weight)[units][row], const float (&x)[row],
                    const float (&d)[padded], float (&h_weight)[units][row],
                    float (&h_bias)[padded], float (&of_input)[row]) {
  std::fill_n(of_input, row, 0.0f);
  for (int unit = 0; unit < units; unit++) {
    h_bias[unit] += d[unit];
    for (int i = 0; i < row; i++) {
      h_weight[unit][i] += d[unit] * x[i] * x[i];
      of_input[i] += weight[unit][i] * weight[unit][i] * d[unit];
    }
  }
}

void add_curvature(const Parameters& w, const Settings& settings, const Activations& a,
                   const Criterion& c, Derivatives& d, Parameters& h) {
  const float pooling = settings.pooling_scale * settings.pooling_scale;
  std::fill_n(d.f6, feature_row, 0.0f);
  for (int i = 0; i < features; i++) {
    d.f6[i] = 2;
    if (settings.competitive && settings.exact) {
      float mean = 0, mean_square = 0;  // of F6 - code under the shares of all classes
      for (int k = 0; k < classes; k++) {
        const float difference = a.f6[i] - settings.codes[k * feature_row + i];
        mean += c.shares[k] * difference;
        mean_square += c.shares[k] * difference * difference;
      }
      d.f6[i] = 2 * c.rubbish + 4 * std::max(0.0f, mean_square - mean * mean);
    }
  }
  times_slope_squared(d.f6, a.f6, feature_row);
  curvature_full(w.f6_weight, a.c5, d.f6, h.f6_weight, h.f6_bias, d.c5);
  times_slope_squared(d.c5, a.c5, c5_row);
  curvature_full(w.c5_weight, a.s4_flat, d.c5, h.c5_weight, h.c5_bias, d.s4_flat);
  times_slope_squared(d.s4_flat, a.s4_flat, s4_units);
  unflatten_s4(d.s4_flat, d.s4);

  for (int y = 0; y < s4_side; y++)
    for (int x = 0; x < s4_side; x++) {
      const Quad quad(y, x);
      const int place = y * s4_side + x;
      for (int map = 0; map < c3_maps; map++) {
        const float of_sum = d.s4[place][map], pooled = a.s4_pooled[place][map];
        h.s4_bias[map] += of_sum;
        h.s4_coefficient[map] += of_sum * pooled * pooled;
        for (const int from : quad.place)
          d.c3[from][map] = of_sum * pooling * w.s4_coefficient[map] * w.s4_coefficient[map];
      }
    }
  times_slope_squared(d.c3[0], a.c3[0], c3_size * c3_maps);

  for (int y = 0; y < c3_side; y++)
    for (int x = 0; x < c3_side; x++) {
      const float* of_sum = d.c3[y * c3_side + x];
      for (int map = 0; map < c3_maps; map++) h.c3_bias[map] += of_sum[map];
      for (int input = 0; input < c1_maps; input++)
        for (int tap = 0; tap < taps; tap++) {
          const float in = a.s2[input][y + tap / kernel][x + tap % kernel];
          for (int map = 0; map < c3_maps; map++)
            h.c3_weight[input][tap][map] += of_sum[map] * in * in;
        }
    }
  alignas(64) float squares[c1_maps][taps][c3_maps];
  for (int input = 0; input < c1_maps; input++)
    for (int tap = 0; tap < taps; tap++)
      for (int map = 0; map < c3_maps; map++) {
        const float weight = w.c3_weight[input][tap][map];
        squares[input][tap][map] = weight * weight;
      }
  by_rows(d.c3, d.c3_rows);
  c3_to_inputs(squares, settings.table, d.c3_rows, d.s2);

  for (int map = 0; map < c1_maps; map++)
    for (int y = 0; y < s2_side; y++) {
      times_slope_squared(d.s2[map][y], a.s2[map][y], s2_row);
      for (int x = 0; x < s2_side; x++) {
        const float of_sum = d.s2[map][y][x], pooled = a.s2_pooled[map][y][x];
        h.s2_bias[map] += of_sum;
        h.s2_coefficient[map] += of_sum * pooled * pooled;
        const float of_input = of_sum * pooling * w.s2_coefficient[map] * w.s2_coefficient[map];
        for (int row = 2 * y; row < 2 * y + 2; row++)
          for (int column = 2 * x; column < 2 * x + 2; column++) {
            const float f = slope(a.c1[map][row][column]);
            d.c1[map][row][column] = of_input * f * f;
          }
      }
    }
  for (int map = 0; map < c1_maps; map++)
    for (int y = 0; y < c1_side; y++)
      for (int x = 0; x < c1_side; x++) {
        const float of_sum = d.c1[map][y][x];
        h.c1_bias[map] += of_sum;
        for (int tap = 0; tap < taps; tap++) {
          const float in = a.input[(y + tap / kernel) * input_side + x + tap % kernel];
          h.c1_weight[map][tap] += of_sum * in * in;
        }
      }
}

// ---------------------------------------------------------------------------------------------
// Entry points.

struct Workspace {
  Parameters w;
  Activations a;
  Derivatives d;
  Workspace(const float* const* parameters, const Settings& settings) : a{}, d{} {
    pack(parameters, settings.table, w);
  }
};

Result train(const Patterns& patterns, const Settings& settings, float* const* parameters,
             const float* const* steps) {
  const FlushDenormals flush;  // saturated units have denormal derivatives
  const auto work = std::make_unique<Workspace>(parameters, settings);
  const auto step = std::make_unique<Parameters>();
  pack(steps, settings.table, *step);
  Result result{};
  for (std::int64_t k = 0; k < patterns.count; k++) {
    const std::int64_t label = patterns.labels[patterns.order[k]];
    present(patterns, k, work->a);
    forward(work->w, settings, work->a);
    const float* penalties = work->a.penalties;
    result.errors += std::min_element(penalties, penalties + classes) - penalties != label;
    const Criterion c = criterion(work->a, settings, label);
    result.loss += c.loss;
    learn(work->w, *step, settings, work->a, label, c, work->d);
  }
  unpack(work->w, settings.table, parameters);
  return result;
}

void curvature(const Patterns& patterns, const Settings& settings, const float* const* parameters,
               float* const* h) {
  const FlushDenormals flush;
  const auto work = std::make_unique<Workspace>(parameters, settings);
  const auto sums = std::make_unique<Parameters>();
  pack(h, settings.table, *sums);
  for (std::int64_t k = 0; k < patterns.count; k++) {
    present(patterns, k, work->a);
    forward(work->w, settings, work->a);
    const Criterion c = criterion(work->a, settings, patterns.labels[patterns.order[k]]);
    add_curvature(work->w, settings, work->a, c, work->d, *sums);
  }
  unpack(*sums, settings.table, h);
}

}  // namespace

extern const Kernels kernels = {train, curvature};

}  // namespace lenet::LENET_ISA
