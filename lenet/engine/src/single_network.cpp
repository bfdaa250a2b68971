// Building a network for one image: the layout of values, and weights in the order of the kernels.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "cpu.h"
#include "single_network.h"

namespace lenet::single {
namespace {

constexpr std::int64_t most_floats = 1 << 24;

std::vector<std::pair<std::string, const Kernels*>> choices() {
  std::vector<std::pair<std::string, const Kernels*>> usable;
#if LENET_HAS_AVX512
  if (has_avx512()) usable.emplace_back("avx512", &avx512::single_kernels);
#endif
#if LENET_HAS_AVX2
  if (has_avx2()) usable.emplace_back("avx2", &avx2::single_kernels);
#endif
  usable.emplace_back("portable", &portable::single_kernels);
  return usable;
}

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

int round_up(int count, int step) { return (count + step - 1) / step * step; }

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const auto& [name, kernels] : choices()) names.push_back(name);
  return names;
}

Network::Network(const std::string& isa) : kernels_(nullptr) {
  for (const auto& [name, kernels] : choices())
    if (name == isa) kernels_ = kernels;
  require(kernels_, "the instruction set is not available here");
}

// ---------------------------------------------------------------------------------------------
// Memory.

int Network::padded(int count) const { return round_up(count, kernels_->lanes); }

// Appends that many zeros to the buffer; returns the position of the first.
int Network::reserve(std::int64_t floats) {
  const std::int64_t first = size();
  require(first + floats <= most_floats, "the network is too large for the kernels of one image");
  buffer_.resize(buffer_.size() + (floats + floats_per_line - 1) / floats_per_line, Line{});
  return static_cast<int>(first);
}

Place Network::channels_in_lanes(int channels, int height, int width, int border) {
  const std::int64_t column = padded(channels), row = (width + 2 * border) * column;
  const int first = reserve((height + 2 * border) * row);
  const int corner = static_cast<int>(border * (row + column));
  return {channels, height, width, first + corner, 1, static_cast<int>(row),
          static_cast<int>(column)};
}

// Kernels read and write whole vectors and pairs of rows: a plane has room for them, and there is
// space after the last.
Place Network::columns_in_lanes(int channels, int height, int width, int border) {
  const std::int64_t row = padded(width) + 2 * border;
  const std::int64_t plane = (round_up(height, 2) + 2 * border) * row;
  const int first = reserve(channels * plane + 2 * row + 4 * kernels_->lanes);
  const int corner = static_cast<int>(border * (row + 1));
  return {channels, height, width, first + corner, static_cast<int>(plane), static_cast<int>(row),
          1};
}

// Space for that many weights, initially zero.
float* Network::keep(std::int64_t floats) {
  require(floats <= most_floats, "the network is too large for the kernels of one image");
  weights_.emplace_back((floats + floats_per_line - 1) / floats_per_line, Line{});
  return weights_.back().data()->values;
}

const float* Network::keep_padded(const float* values, int count) {
  float* kept = keep(padded(count));
  std::copy_n(values, count, kept);
  return kept;
}

void Network::add(Layer layer, int border) {
  layers_.push_back(layer);
  place_ = layer.out;
  border_ = border;
}

// ---------------------------------------------------------------------------------------------
// Layers.

void Network::input(int image_size, int size, int border, float scale, float shift,
                    float background, std::vector<int> left, std::vector<float> fraction) {
  require(buffer_.empty(), "a network has one input");
  require(0 < image_size && image_size <= size && size <= 4096 && 0 <= border && border <= 4096,
          "the sizes of the input are out of range");
  const auto n = static_cast<std::size_t>(size);
  require(left.size() == fraction.size() && (left.empty() || left.size() == n),
          "left and fraction need one value for each pixel of a side of the input");
  for (const int l : left)
    require(0 <= l && l < image_size, "left names a pixel that does not exist");
  left_ = std::move(left);
  fraction_ = std::move(fraction);
  place_ = columns_in_lanes(1, size, size, border);
  border_ = border;
  for (int y = 0; y < size; y++)
    std::fill_n(buffer_.data()->values + place_.at(0, y, 0), size, background);
  const int margin = left_.empty() ? (size - image_size) / 2 : 0;
  Place inner = place_;
  inner.start = place_.at(0, margin, margin);
  preparation_ = {image_size, scale,
                  shift,      left_.empty() ? nullptr : left_.data(),
                  fraction_.data(), inner};
}

void Network::convolve(const float* weights, const float* bias, int outputs, int kernel) {
  const int inputs = place_.channels;
  const int height = place_.height + 2 * border_ - kernel + 1;
  const int width = place_.width + 2 * border_ - kernel + 1;
  require(outputs > 0 && kernel > 0 && height > 0 && width > 0, "a convolution does not fit");
  Place in = place_;
  in.start = place_.at(0, -border_, -border_);

  const int taps = kernel * kernel;
  const auto weight = [&](int output, int input, int tap) {
    return weights[(static_cast<std::int64_t>(output) * inputs + input) * taps + tap];
  };
  const int columns = padded(width) * round_up(height, 2), channels = padded(outputs);
  const bool by_columns = place_.column_stride == 1 &&
                          static_cast<double>(columns) * outputs <
                              static_cast<double>(channels) * width * height;
  if (by_columns) {  // [block of outputs][input][tap][output of the block]
    float* packed = keep(static_cast<std::int64_t>(outputs) * inputs * taps);
    const float* const kept = packed;
    for (int first = 0; first < outputs; first += block_channels)
      for (int input = 0; input < inputs; input++)
        for (int tap = 0; tap < taps; tap++)
          for (int o = first; o < std::min(outputs, first + block_channels); o++)
            *packed++ = weight(o, input, tap);
    add({.kind = Kind::convolve_columns,
         .in = in,
         .out = columns_in_lanes(outputs, height, width, 0),
         .kernel = kernel,
         .weights = kept,
         .bias = keep_padded(bias, outputs)});
  } else {  // [vector of outputs][input][tap][lane]
    const int lanes = kernels_->lanes;
    float* packed = keep(static_cast<std::int64_t>(channels) * inputs * taps);
    const float* const kept = packed;
    for (int first = 0; first < outputs; first += lanes)
      for (int input = 0; input < inputs; input++)
        for (int tap = 0; tap < taps; tap++, packed += lanes)
          for (int o = first; o < std::min(outputs, first + lanes); o++)
            packed[o - first] = weight(o, input, tap);
    add({.kind = Kind::convolve_channels,
         .in = in,
         .out = channels_in_lanes(outputs, height, width, 0),
         .kernel = kernel,
         .weights = kept,
         .bias = keep_padded(bias, outputs)});
  }
}

void Network::activate(Activation activation) {
  require(!layers_.empty() && border_ == 0, "an activation needs a layer before it");
  Place out = place_;
  out.start += reserve(0) - place_.start;
  const std::int64_t extent = place_.channel_stride == 1
                                  ? std::int64_t{place_.height} * place_.row_stride
                                  : std::int64_t{place_.channels} * place_.channel_stride;
  reserve(extent + 2 * place_.row_stride + 4 * kernels_->lanes);
  add({.kind = Kind::activate, .in = place_, .out = out, .activation = activation});
}

void Network::pool_largest(int border, std::vector<int> sources) {
  pool(Pooling::max, nullptr, nullptr, border, std::move(sources));
}

void Network::pool_sum(const float* coefficient, const float* bias, int border,
                       std::vector<int> sources) {
  const int channels = pooled_channels(sources);
  pool(Pooling::average, keep_padded(coefficient, channels), keep_padded(bias, channels), border,
       std::move(sources));
}

int Network::pooled_channels(const std::vector<int>& sources) const {
  return sources.empty() ? place_.channels : static_cast<int>(sources.size());
}

void Network::pool(Pooling pooling, const float* coefficient, const float* bias, int border,
                   std::vector<int> sources) {
  const int height = place_.height / 2, width = place_.width / 2;
  require(height > 0 && width > 0 && border_ == 0 && 0 <= border && border <= 4096,
          "a pooling does not fit");
  for (const int source : sources)
    require(0 <= source && source < place_.channels, "sources name a map that does not exist");
  const int channels = pooled_channels(sources);
  const int* kept = nullptr;
  if (!sources.empty()) kept = sources_.emplace_back(std::move(sources)).data();
  const Place out = place_.column_stride == 1 ? columns_in_lanes(channels, height, width, border)
                                              : channels_in_lanes(channels, height, width, border);
  add({.kind = Kind::pool,
       .in = place_,
       .out = out,
       .kernel = border,
       .pooling = pooling,
       .weights = coefficient,
       .bias = bias,
       .sources = kept},
      border);
}

void Network::flatten() {
  const std::int64_t units = std::int64_t{place_.channels} * place_.height * place_.width;
  require(units <= most_floats, "the network is too large for the kernels of one image");
  add({.kind = Kind::flatten,
       .in = place_,
       .out = channels_in_lanes(static_cast<int>(units), 1, 1, 0)});
}

void Network::multiply(const float* weights, const float* bias, int outputs) {
  connect(Kind::multiply, weights, keep_padded(bias, outputs), outputs);
}

void Network::distances(const float* codes, int outputs) {
  connect(Kind::distances, codes, nullptr, outputs);
}

// Weights become [block of units][input][unit of the block].
void Network::connect(Kind kind, const float* weights, const float* bias, int outputs) {
  require(outputs > 0 && place_.height == 1 && place_.width == 1 && place_.channel_stride == 1,
          "a fully connected layer needs units before it");
  const int inputs = place_.channels, all = padded(outputs);
  const int block = block_vectors * kernels_->lanes;
  float* packed = keep(static_cast<std::int64_t>(all) * inputs);
  const float* const kept = packed;
  for (int first = 0; first < all; first += block) {
    const int width = std::min(block, all - first);
    for (int input = 0; input < inputs; input++, packed += width)
      for (int o = first; o < std::min(outputs, first + width); o++)
        packed[o - first] = weights[static_cast<std::int64_t>(o) * inputs + input];
  }
  add({.kind = kind,
       .in = place_,
       .out = channels_in_lanes(outputs, 1, 1, 0),
       .weights = kept,
       .bias = bias});
}

// ---------------------------------------------------------------------------------------------
// Scores and traces.

void Network::scores(const std::uint8_t* images, std::int64_t count, float* scores) {
  require(!layers_.empty(), "a network needs layers");
  const std::lock_guard lock(turn_);
  float* const buffer = buffer_.data()->values;
  for (std::int64_t i = 0; i < count; i++) {
    kernels_->run(preparation_, layers_.data(), static_cast<int>(layers_.size()),
                  images + i * pixels(), buffer);
    std::copy_n(buffer + place_.start, place_.channels, scores + i * place_.channels);
  }
}

void Network::trace(const std::uint8_t* image, float* values) {
  require(!layers_.empty(), "a network needs layers");
  const std::lock_guard lock(turn_);
  float* const buffer = buffer_.data()->values;
  kernels_->run(preparation_, layers_.data(), static_cast<int>(layers_.size()), image, buffer);
  std::copy_n(buffer, size(), values);
}

}  // namespace lenet::single
