// A stage of the network for one tile: convolution, activation, 2x2 pooling and, in some networks,
// the trainable units of the subsampling.
#pragma once

#include "activation.h"
#include "convolution.h"
#include "fused.h"
#include "memory.h"
#include "vector.h"
#include "winograd.h"

namespace lenet::LENET_ISA {

// Channels as planes of rows, somewhere in memory.
struct Planes {
  Vector* first;
  int pitch, plane;  // from row to row, from channel to channel

  Vector* row(int channel, int y) const { return first + channel * plane + y * pitch; }
};

template <class Number>
Number& at(const Place& place, Number* const* arrays) {
  return arrays[place.array][place.offset];
}

class Stage {
 public:
  virtual ~Stage() = default;

  // The input of a thread's tile with its padding, and the inside without it.
  Vector* input(int thread) const { return works_[thread].input; }
  int input_pitch() const { return input_pitch_; }
  Planes inside(int thread) const { return inside_of(works_[thread].input); }
  Planes inside_gradient(int thread) const { return inside_of(works_[thread].input_gradient); }

  // Brings the weights into the order in which the kernels read them. For one thread.
  void pack(const float* const* weights) {
    const int size = c_.kernel_size();
    const Place* place = plan_.kernels;
    for (int connection = 0; connection < c_.outputs * c_.inputs; connection++, place++)
      if (place->array >= 0)
        memcpy(weights_ + connection * size, weights[place->array] + place->offset,
               size * sizeof(float));
    for (int o = 0; o < c_.outputs; o++) bias_[o] = at(plan_.biases[o], weights);
    if (subsample_) {
      coefficients_ = weights[plan_.coefficients];
      shifts_ = weights[plan_.shifts];
    }
    pack_kernels();
  }

  // Sets a thread's sums over its tiles to zero.
  virtual void begin(int thread) {
    Work& w = works_[thread];
    memset(w.bias_gradient, 0, c_.outputs * sizeof(Vector));
    memset(w.coefficient_gradient, 0, c_.outputs * sizeof(Vector));
    memset(w.shift_gradient, 0, c_.outputs * sizeof(Vector));
  }

  virtual void forward(int thread, bool training, const Planes& pooled) = 0;

  // From the gradients of the pooled values, which are overwritten: adds those of the parameters
  // and, except in the first stage, computes those of the input.
  virtual void backward(int thread, const Planes& pooled_gradient) = 0;

  // Thread `thread` of the `team` that shared the tiles writes its share of the gradients.
  void reduce(int thread, int team, float* const* gradients) const {
    // Connections that share a kernel are added up by one thread.
    const int first = plan_.shared ? (thread ? c_.outputs : 0) : c_.outputs * thread / team;
    const int last = plan_.shared ? c_.outputs : c_.outputs * (thread + 1) / team;
    const Place* const kernels = plan_.kernels + first * c_.inputs;
    const Place* const end = plan_.kernels + last * c_.inputs;
    for (const Place* place = kernels; place < end; place++)
      if (place->array >= 0) memset(&at(*place, gradients), 0, c_.kernel_size() * sizeof(float));
    for (int o = first; o < last; o++) at(plan_.biases[o], gradients) = 0.0f;
    const Place* place = kernels;
    for (int o = first; o < last; o++) {
      for (int i = 0; i < c_.inputs; i++, place++)
        if (place->array >= 0) add_kernel_gradient(team, o, i, &at(*place, gradients));
      at(plan_.biases[o], gradients) += total(team, &Work::bias_gradient, o);
      if (!subsample_) continue;
      gradients[plan_.coefficients][o] = total(team, &Work::coefficient_gradient, o);
      gradients[plan_.shifts][o] = total(team, &Work::shift_gradient, o);
    }
  }

 protected:
  // What a thread needs for one tile, and its sums over its tiles.
  struct Work {
    explicit Work(const Stage& stage)
        : input(stage.c_.inputs * stage.input_plane_),
          input_gradient(stage.plan_.first ? 0 : stage.input_channels_ * stage.input_plane_),
          planes(stage.output_channels_ * stage.plane_),
          pooled(stage.subsample_ ? stage.c_.outputs * stage.c_.plane() / 4 : 0),
          pooled_slopes(stage.subsample_ ? stage.c_.outputs * stage.c_.plane() / 4 : 0),
          bias_gradient(stage.c_.outputs),
          coefficient_gradient(stage.c_.outputs),
          shift_gradient(stage.c_.outputs) {}

    Vectors input, input_gradient;
    Vectors planes;                 // pre-activations, then slopes, then, for some kernels, deltas
    Vectors pooled, pooled_slopes;  // of the subsampling
    Vectors bias_gradient, coefficient_gradient, shift_gradient;
  };

  // Channels include those that only fill blocks; rows of inputs and of outputs are the pitches
  // apart.
  Stage(const StagePlan& plan, int input_channels, int output_channels, int input_pitch, int pitch,
        int threads)
      : plan_(plan),
        c_{plan.inputs, plan.outputs, plan.kernel, plan.side},
        activations_(activation_kernels(plan.activation, plan.pooling)),
        subsample_(activation_kernels(plan.subsampling).subsample),
        input_channels_(input_channels),
        output_channels_(output_channels),
        input_pitch_(input_pitch),
        input_plane_(input_pitch * c_.input_side()),
        pitch_(pitch),
        plane_(pitch * c_.side),
        weights_(c_.weights()),
        bias_(output_channels),
        works_(threads, *this) {}

  virtual void pack_kernels() = 0;
  virtual void add_kernel_gradient(int team, int output, int input, float* gradient) const = 0;

  // Activates and pools two rows of a channel.
  void pool(const Work& w, bool training, int channel, int y, const Planes& pooled) const {
    const int side = c_.side / 2;
    Vector* upper = w.planes + channel * plane_ + 2 * y * pitch_;
    Vector* values = pooled.row(channel, y);
    (training ? activations_.pool_training : activations_.pool_inference)(upper, upper + pitch_,
                                                                          values, side);
    if (!subsample_) return;
    const int row = (channel * side + y) * side;
    subsample_(values, coefficients_[channel], shifts_[channel], w.pooled + row,
               w.pooled_slopes + row, side);
  }

  // Back through the subsampling, if there is one: makes the gradients of row y into those of
  // the pooled values.
  Vector* before_subsampling(const Work& w, int channel, int y,
                             const Planes& pooled_gradient) const {
    const int side = c_.side / 2;
    Vector* gradient = pooled_gradient.row(channel, y);
    if (subsample_) {
      const int row = (channel * side + y) * side;
      const Vector *pooled = w.pooled + row, *slopes = w.pooled_slopes + row;
      Vector of_coefficient = {}, of_shift = {};
      for (int x = 0; x < side; x++) {
        const Vector delta = gradient[x] * slopes[x];
        of_shift += delta;
        of_coefficient += delta * pooled[x];
        gradient[x] = delta * coefficients_[channel];
      }
      w.coefficient_gradient[channel] += of_coefficient;
      w.shift_gradient[channel] += of_shift;
    }
    return gradient;
  }

  Planes inside_of(Vector* planes) const {
    return {planes + plan_.padding * (input_pitch_ + 1), input_pitch_, input_plane_};
  }

  float total(int team, Vectors Work::*sums, int i) const {
    Vector total = (works_[0].*sums)[i];
    for (int thread = 1; thread < team; thread++) total += (works_[thread].*sums)[i];
    return sum(total);
  }

  const StagePlan plan_;
  const Convolution c_;
  const ActivationKernels activations_;
  const decltype(ActivationKernels::subsample) subsample_;
  const int input_channels_, output_channels_;
  const int input_pitch_, input_plane_, pitch_, plane_;
  Floats weights_;  // (outputs, inputs, kernel, kernel), zero where there is no connection
  Floats bias_;
  const float *coefficients_ = nullptr, *shifts_ = nullptr;
  PerThread<Work> works_;
};

// Convolution by its definition, for kernels other than 5x5.
class DirectStage final : public Stage {
 public:
  DirectStage(const StagePlan& plan, int threads)
      : Stage(plan, round_up(plan.inputs, best_block(plan.inputs, most_convolved)),
              round_up(plan.outputs, best_block(plan.outputs, most_convolved)),
              plan.side + plan.kernel - 1, plan.side, threads),
        back_{c_.outputs, c_.inputs, c_.kernel, c_.input_side()},
        output_block_(best_block(c_.outputs, most_convolved)),
        input_block_(best_block(c_.inputs, most_convolved)),
        gradient_block_(best_block(c_.outputs, most_gradients)),
        convolve_(convolve_row_in(output_block_, c_.kernel)),
        convolve_back_(convolve_row_in(input_block_, c_.kernel)),
        add_gradient_(add_weight_gradient_in(gradient_block_)),
        packed_(round_up(c_.outputs, output_block_) * c_.inputs * c_.kernel_size()),
        transposed_(round_up(c_.inputs, input_block_) * c_.outputs * c_.kernel_size()),
        no_bias_(round_up(c_.inputs, input_block_)),
        works_(threads, *this) {}

  void begin(int thread) override {
    Stage::begin(thread);
    memset(works_[thread].weight_gradient, 0, gradient_size() * sizeof(Vector));
  }

  // Pairs of rows are pooled while they are in the first-level cache.
  void forward(int thread, bool training, const Planes& pooled) override {
    const Stage::Work& w = Stage::works_[thread];
    for (int y = 0; y < c_.side; y++) {
      convolve_(c_, w.input + y * c_.input_side(), packed_, bias_, 0, c_.kernel,
                w.planes + y * c_.side);
      if (y % 2)
        for (int o = 0; o < c_.outputs; o++) pool(w, training, o, y / 2, pooled);
    }
  }

  void backward(int thread, const Planes& pooled_gradient) override {
    const Stage::Work& w = Stage::works_[thread];
    const Work& own = works_[thread];
    if (plan_.first) {  // deltas of two rows
      for (int y = 0; y < c_.side; y += 2) {
        for (int o = 0; o < c_.outputs; o++)
          unpool(w, o, y / 2, pooled_gradient, own.deltas + o * 2 * c_.side, c_.side);
        add_gradient_(c_, 2, w.input + y * c_.input_side(), own.deltas, c_.side, 2 * c_.side,
                      own.weight_gradient);
      }
      return;
    }
    const int pitch = back_.input_side(), plane = back_.input_plane(), border = c_.kernel - 1;
    Vector* const deltas = own.deltas + border * (pitch + 1);
    for (int o = 0; o < c_.outputs; o++)
      for (int y = 0; y < c_.side; y += 2)
        unpool(w, o, y / 2, pooled_gradient, deltas + o * plane + y * pitch, pitch);
    add_gradient_(c_, c_.side, w.input, deltas, pitch, plane, own.weight_gradient);
    for (int y = 0; y < back_.side; y++) {
      const int first = y < border ? border - y : 0;
      const int last = y < c_.side ? c_.kernel : c_.input_side() - y;
      convolve_back_(back_, own.deltas + y * pitch, transposed_, no_bias_, first, last,
                     w.input_gradient + y * back_.side);
    }
  }

 private:
  struct Work {
    explicit Work(const DirectStage& s)
        : deltas(round_up(s.c_.outputs, s.gradient_block_) *
                 (s.plan_.first ? 2 * s.c_.side : s.back_.input_plane())),
          weight_gradient(s.gradient_size()) {}

    Vectors deltas;  // of all rows, surrounded by zeros, for `back`; in the first stage of two
    Vectors weight_gradient;
  };

  int gradient_size() const {
    return round_up(c_.outputs, gradient_block_) * c_.inputs * c_.kernel_size();
  }

  // From the gradient of the pooled values to two rows of deltas, `pitch` vectors apart.
  void unpool(const Stage::Work& w, int channel, int y, const Planes& pooled_gradient,
              Vector* deltas, int pitch) const {
    w.bias_gradient[channel] +=
        unpool_rows(before_subsampling(w, channel, y, pooled_gradient), c_.side / 2,
                    w.planes + channel * plane_ + 2 * y * pitch_, pitch_, deltas, pitch);
  }

  void pack_kernels() override {
    pack_convolution(c_, output_block_, weights_, packed_);
    if (!plan_.first) pack_transposed_convolution(c_, input_block_, weights_, transposed_);
  }

  void add_kernel_gradient(int team, int output, int input, float* gradient) const override {
    for (int y = 0; y < c_.kernel; y++)
      for (int x = 0; x < c_.kernel; x++) {
        const int i = gradient_offset(c_, gradient_block_, output, input, y, x);
        Vector total = works_[0].weight_gradient[i];
        for (int thread = 1; thread < team; thread++) total += works_[thread].weight_gradient[i];
        *gradient++ += sum(total);
      }
  }

  const Convolution back_;  // from deltas to the gradient of the input
  const int output_block_, input_block_, gradient_block_;
  const ConvolveRow convolve_, convolve_back_;
  const AddWeightGradient add_gradient_;
  Floats packed_, transposed_, no_bias_;
  PerThread<Work> works_;
};

// Winograd's filtering of 5x5 kernels, m outputs at a time. The first stage has few products for
// each transformation: it goes by two rows of a block of outputs, which stay in the first-level
// cache.
template <int m>
class WinogradStage final : public Stage {
 public:
  WinogradStage(const StagePlan& plan, int threads)
      : Stage(plan, plan.inputs, plan.outputs, columns(plan) + plan.kernel - 1, columns(plan),
              threads),
        winograd_{c_,
                  filter<m>.points,
                  columns(plan) / m,
                  plan.first ? 2 : plan.side,
                  plan.first ? best_block(c_.outputs, most_winograd) : c_.outputs,
                  best_block(c_.outputs, most_winograd),
                  best_block(c_.inputs, most_winograd_back)},
        products_(winograd_products_of(winograd_)),
        add_gradient_(add_winograd_gradient_in(winograd_.output_block)),
        input_gradient_(winograd_input_gradient_in(winograd_.input_block)),
        packed_(winograd_.transformed_weights()),
        transposed_(plan.first ? 0 : filter<m>.points * winograd_.transposed_point()),
        works_(threads, winograd_) {}

  // Multiplications for a row of outputs, of one input channel and one row of its kernel.
  static int cost(const StagePlan& plan) { return blocks(plan.side, m) * filter<m>.points; }

  void begin(int thread) override {
    Stage::begin(thread);
    memset(works_[thread].gradient, 0, winograd_.transformed_weights() * sizeof(Vector));
  }

  void forward(int thread, bool training, const Planes& pooled) override {
    const Stage::Work& w = Stage::works_[thread];
    const Work& own = works_[thread];
    const Winograd& c = winograd_;
    for (int i = 0; i < c.inputs; i++)
      transform_inputs<m>(w.input + i * input_plane_, c.input_side(), c.tiles, c.input_point(),
                          own.inputs + i * c.input_stride());
    for_groups([&](int y, int o, int count, int weights) {
      products_(c, own.inputs + y * c.tiles, packed_ + weights, own.outputs());
      for (int i = 0; i < count; i++) {
        transform_products<m>(own.outputs() + i * c.output_stride(), c.output_point(),
                              c.output_tiles(), bias_[o + i],
                              w.planes + (o + i) * plane_ + y * pitch_);
        for (int row = y; row < y + c.rows; row += 2) pool(w, training, o + i, row / 2, pooled);
      }
    });
  }

  void backward(int thread, const Planes& pooled_gradient) override {
    const Stage::Work& w = Stage::works_[thread];
    const Work& own = works_[thread];
    const Winograd& c = winograd_;
    for_groups([&](int y, int o, int count, int weights) {
      for (int i = 0; i < count; i++) {
        Vector* const deltas = own.outputs() + i * c.output_stride();
        for (int row = y; row < y + c.rows; row++) {
          const Vector* gradient =
              row % 2 ? pooled_gradient.row(o + i, row / 2)
                      : before_subsampling(w, o + i, row / 2, pooled_gradient);
          w.bias_gradient[o + i] += unpool_row<m>(
              gradient, w.planes + (o + i) * plane_ + row * pitch_, c.tiles, c.side,
              c.output_point(), deltas + (row - y) * c.tiles);
        }
      }
      add_gradient_(c, own.inputs + y * c.tiles, own.outputs(), own.gradient + weights);
    });
    if (plan_.first) return;
    for (int o = 0; o < c.outputs; o++) clear_guard(c, own.outputs() + o * c.output_stride());
    input_gradient_(c, own.outputs(), transposed_, own.inputs);
    for (int i = 0; i < c.inputs; i++)
      transform_inputs_back<m>(own.inputs + i * c.input_stride(), c.input_side(), c.tiles,
                               c.input_point(), w.input_gradient + i * input_plane_);
  }

 private:
  struct Work {
    explicit Work(const Winograd& c)
        : inputs(c.points * c.input_point()),
          guarded_outputs(guard + c.points * c.output_point()),
          gradient(c.transformed_weights()) {}

    Vector* outputs() const { return guarded_outputs + guard; }

    Vectors inputs;           // transformed; then their gradient
    Vectors guarded_outputs;  // products; then transformed deltas
    Vectors gradient;
  };

  // do_group(first row, first output, outputs, where their weights begin) for all outputs.
  template <class Do>
  void for_groups(const Do& do_group) const {
    const Winograd& c = winograd_;
    for (int y = 0; y < c.side; y += c.rows)
      for (int o = 0, weights = 0; o < c.outputs; o += c.group, weights += c.group_weights())
        do_group(y, o, o + c.group < c.outputs ? c.group : c.outputs - o, weights);
  }

  // Of a row of outputs, with those of the last tile that hang over.
  static int columns(const StagePlan& plan) { return round_up(plan.side, m); }

  void pack_kernels() override {
    pack_winograd<m>(winograd_, weights_, packed_,
                     plan_.first ? nullptr : static_cast<float*>(transposed_));
  }

  void add_kernel_gradient(int team, int output, int input, float* gradient) const override {
    for (int row = 0; row < c_.kernel; row++, gradient += c_.kernel) {
      Vector transformed[filter<m>.points];
      for (int p = 0; p < filter<m>.points; p++) {
        const int i = winograd_offset(winograd_, p, output, input, row);
        transformed[p] = works_[0].gradient[i];
        for (int thread = 1; thread < team; thread++) transformed[p] += works_[thread].gradient[i];
      }
      add_transformed_back<m>(transformed, gradient);
    }
  }

  const Winograd winograd_;
  const WinogradProducts products_;
  const AddWinogradGradient add_gradient_;
  const WinogradInputGradient input_gradient_;
  Floats packed_, transposed_;
  PerThread<Work> works_;
};

static Stage* make_stage(const StagePlan& plan, int threads) {
  if (plan.kernel != 5) return new DirectStage(plan, threads);
  const bool by_four =
      plan.side % 4 == 0 || WinogradStage<4>::cost(plan) < WinogradStage<5>::cost(plan);
  if (by_four && plan.side % 5 != 0) return new WinogradStage<4>(plan, threads);
  return new WinogradStage<5>(plan, threads);
}

}  // namespace lenet::LENET_ISA
