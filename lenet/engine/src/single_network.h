// A network for one image, built layer by layer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "single.h"
#include "thread_pool.h"

namespace lenet::single {

// Memory comes in cache lines, so that no vector crosses one.
constexpr int floats_per_line = 16;
struct alignas(64) Line {
  float values[floats_per_line];
};

// A network for one image at a time. Layers are added in their order; weights are copied from
// PyTorch's layout. Everything throws std::invalid_argument for sizes that do not fit.
class Network {
 public:
  // `isa` is one of `instruction_sets()`.
  explicit Network(const std::string& isa);

  // The input (size, size): the image (image_size, image_size) in the middle of pixels of value
  // `background`; or, with `left` and `fraction`, stretched to that size.
  void input(int image_size, int size, int border, float scale, float shift, float background,
             std::vector<int> left, std::vector<float> fraction);
  // weights (outputs, inputs, kernel, kernel), bias (outputs); no padding but the input's border.
  void convolve(const float* weights, const float* bias, int outputs, int kernel);
  void activate(Activation activation);
  // 2x2 with stride 2: the largest, or coefficient * sum + bias, with one of each for each channel
  // of the result. Channel k pools channel sources[k], or channel k without sources. The result
  // gets a border of zeros for a convolution with padding.
  void pool_largest(int border, std::vector<int> sources);
  void pool_sum(const float* coefficient, const float* bias, int border, std::vector<int> sources);
  // To (channels * height * width) units, in PyTorch's order.
  void flatten();
  // weights (outputs, inputs), bias (outputs).
  void multiply(const float* weights, const float* bias, int outputs);
  // codes (outputs, inputs).
  void distances(const float* codes, int outputs);

  // The place of the values of the latest layer (or the input) in a trace.
  Place place() const { return place_; }
  int pixels() const { return preparation_.image_size * preparation_.image_size; }
  int size() const { return static_cast<int>(buffer_.size()) * floats_per_line; }

  // Scores of `count` images, one row of classes each. Callers take turns.
  void scores(const std::uint8_t* images, std::int64_t count, float* scores);
  // All values of one image: `size()` floats.
  void trace(const std::uint8_t* image, float* values);

 private:
  int padded(int count) const;
  int reserve(std::int64_t floats);
  Place channels_in_lanes(int channels, int height, int width, int border);
  Place columns_in_lanes(int channels, int height, int width, int border);
  float* keep(std::int64_t floats);
  const float* keep_padded(const float* values, int count);
  void add(Layer layer, int border = 0);
  int pooled_channels(const std::vector<int>& sources) const;
  void pool(Pooling pooling, const float* coefficient, const float* bias, int border,
            std::vector<int> sources);
  void connect(Kind kind, const float* weights, const float* bias, int outputs);

  const Kernels* kernels_;
  Preparation preparation_{};
  std::vector<int> left_;
  std::vector<float> fraction_;
  std::vector<Layer> layers_;
  std::vector<std::vector<Line>> weights_;
  std::vector<std::vector<int>> sources_;
  std::vector<Line> buffer_;
  Place place_{};   // of the latest values
  int border_ = 0;  // zeros around them
  ForkSafeMutex turn_;
};

// The instruction sets of this processor, best first.
std::vector<std::string> instruction_sets();

}  // namespace lenet::single
