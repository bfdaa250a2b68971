// From images to the input of the network: a tile is gathered, resized or padded, normalised and
// transposed, so that lane i of every vector belongs to example i.
#pragma once

#include "fused.h"
#include "memory.h"
#include "vector.h"

namespace lenet::LENET_ISA {

class TileLoader {
 public:
  explicit TileLoader(const Plan& plan)
      : plan_(plan),
        first_(plan.stage[0]),
        pitch_(first_.side + first_.kernel - 1),
        border_(plan.resampling ? 0 : (plan.input_size - plan.image_size) / 2),
        scale_(1.0f / (255.0f * plan.std)),
        shift_(-plan.mean / plan.std),
        taps_(new Taps[plan.input_size]) {
    if (plan.resampling) find_taps();
  }
  ~TileLoader() { delete[] taps_; }
  TileLoader(const TileLoader&) = delete;
  TileLoader& operator=(const TileLoader&) = delete;

  // Vectors of working memory that `load` needs.
  int scratch_size() const {
    return plan_.resampling ? plan_.image_size * (first_.input_side + 1) : 0;
  }

  // What no image changes: the padding of the first convolution is zero; within it lie the pixels
  // of value 0 that enlarge the image to input_size, after normalisation.
  void fill_border(Vector* input) const {
    for (int y = 0; y < pitch_; y++)
      for (int x = 0; x < pitch_; x++) {
        const int low = first_.padding, high = first_.padding + first_.input_side;
        const bool inside = y >= low && y < high && x >= low && x < high;
        input[y * pitch_ + x] = splat(inside ? shift_ : 0.0f);
      }
  }

  void load(const std::uint8_t* const (&images)[lanes], Vector* scratch, Vector* input) const {
    if (plan_.resampling) return resample(images, scratch, inside(input));
    const int size = plan_.image_size, end = first_.input_side - border_;
    for (int y = 0; y < size && y < end; y++)
      load_row(images, y, size < end ? size : end, scale_, shift_,
               inside(input) + (y + border_) * pitch_ + border_);
  }

 private:
  // The pixels that one resized pixel is a mean of: `count` weights from number `first` on.
  struct Taps {
    int first, count;
  };

  void find_taps() {
    for (int i = 0; i < plan_.input_size; i++) {
      const float* weights = row_of_weights(i);
      int first = 0, last = plan_.image_size - 1;
      while (first < last && weights[first] == 0.0f) first++;
      while (first < last && weights[last] == 0.0f) last--;
      taps_[i] = {first, last - first + 1};
    }
  }
  const float* row_of_weights(int i) const { return plan_.resampling + i * plan_.image_size; }

  Vector* inside(Vector* input) const { return input + first_.padding * (pitch_ + 1); }

  // The first `columns` pixels of row y, times scale plus shift.
  void load_row(const std::uint8_t* const (&images)[lanes], int y, int columns, float scale,
                float shift, Vector* row) const {
    const int side = plan_.image_size;
    for (int start = 0; start < columns; start += lanes) {
      const int x = start + lanes < side ? start : side - lanes;
      Vector square[lanes];
      for (int lane = 0; lane < lanes; lane++) {
        const auto bytes = *reinterpret_cast<const Bytes*>(images[lane] + y * side + x);
        const auto integers = __builtin_convertvector(bytes, Integers);
        square[lane] = __builtin_convertvector(integers, Vector) * scale + shift;
      }
      transpose(square);
      for (int i = 0; i < lanes && x + i < columns; i++) row[x + i] = square[i];
    }
  }

  // Rows first, then columns.
  void resample(const std::uint8_t* const (&images)[lanes], Vector* scratch, Vector* to) const {
    const int size = plan_.image_size, side = first_.input_side;
    Vector* const row = scratch + size * side;
    for (int y = 0; y < size; y++) {
      load_row(images, y, size, 1.0f, 0.0f, row);
      for (int x = 0; x < side; x++) scratch[y * side + x] = mean(x, row, 1);
    }
    for (int y = 0; y < side; y++)
      for (int x = 0; x < side; x++)
        to[y * pitch_ + x] = mean(y, scratch + x, side) * scale_ + shift_;
  }

  // Resized pixel i of the pixels that lie `pitch` vectors apart.
  Vector mean(int i, const Vector* pixels, int pitch) const {
    const float* weights = row_of_weights(i);
    Vector total = {};
    for (int j = taps_[i].first; j < taps_[i].first + taps_[i].count; j++)
      total += pixels[j * pitch] * weights[j];
    return total;
  }

  const Plan& plan_;
  const StagePlan& first_;
  const int pitch_, border_;
  const float scale_, shift_;
  Taps* const taps_;
};

}  // namespace lenet::LENET_ISA
