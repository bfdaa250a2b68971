// From images to the input of the network: a tile is gathered, resized or padded, normalised and
// transposed, so that lane i of every vector belongs to example i.
#pragma once

#include "fused.h"
#include "memory.h"
#include "vector.h"

namespace lenet::LENET_ISA {

class TileLoader {
 public:
  // Rows of the input are `pitch` vectors apart.
  TileLoader(const Plan& plan, int pitch)
      : plan_(plan),
        first_(plan.stage[0]),
        pitch_(pitch),
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

  // The part that no image changes: the padding of the first convolution is zero; inside it are the
  // pixels of value 0 that enlarge the image to input_size, after normalisation.
  void fill_border(Vector* input) const {
    for (int y = 0; y < first_.side + first_.kernel - 1; y++)
      for (int x = 0; x < pitch_; x++) {
        const int low = first_.padding, high = first_.padding + first_.input_side;
        const bool inside = y >= low && y < high && x >= low && x < high;
        input[y * pitch_ + x] = splat(inside ? shift_ : 0.0f);
      }
  }

  void load(const std::uint8_t* const (&images)[lanes], Vector* scratch, Vector* input) const {
    if (plan_.resampling) return resample(images, scratch, inside(input));
    const int end = first_.input_side - border_;
    Vector* const to = inside(input) + border_ * (pitch_ + 1);
    for_pixels(images, [&](int y, int x, Vector pixel) {
      if (y < end && x < end) to[y * pitch_ + x] = pixel * scale_ + shift_;
    });
  }

 private:
  // The pixels whose mean is one resized pixel: `count` weights from number `first` on.
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

  // do_pixel(y, x, value) for every pixel. Four neighbours are transposed as one number of 32 bits.
  template <class DoPixel>
  void for_pixels(const std::uint8_t* const (&images)[lanes], const DoPixel& do_pixel) const {
    constexpr int chunk = 4 * lanes;
    const int side = plan_.image_size, pixels = side * side;
    for (int start = 0; start < pixels; start += chunk) {
      const int first = start + chunk < pixels ? start : pixels - chunk;
      Vector fours[lanes];
      for (int lane = 0; lane < lanes; lane++)
        memcpy(&fours[lane], images[lane] + first, sizeof(Vector));
      transpose(fours);
      int y = first / side, x = first % side;
      for (int i = 0; i < lanes; i++) {
        const auto four = reinterpret_cast<UnsignedIntegers>(fours[i]);
        LENET_UNROLL for (int byte = 0; byte < 4; byte++) {
          const auto pixel = reinterpret_cast<Integers>((four >> (8 * byte)) & 255);
          if (first + 4 * i + byte >= start)  // the last chunk overlaps the one before
            do_pixel(y, x, __builtin_convertvector(pixel, Vector));
          if (++x == side) {
            x = 0;
            y++;
          }
        }
      }
    }
  }

  // Rows first, then columns.
  void resample(const std::uint8_t* const (&images)[lanes], Vector* scratch, Vector* to) const {
    const int size = plan_.image_size, side = first_.input_side;
    Vector* const row = scratch + size * side;
    for_pixels(images, [&](int y, int x, Vector pixel) {
      row[x] = pixel;
      if (x == size - 1)
        for (int i = 0; i < side; i++) scratch[y * side + i] = mean(i, row, 1);
    });
    for (int y = 0; y < side; y++)
      for (int x = 0; x < side; x++)
        to[y * pitch_ + x] = mean(y, scratch + x, side) * scale_ + shift_;
  }

  // Resized pixel i of pixels that are `pitch` vectors apart.
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
