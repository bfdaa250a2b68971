// The shape of a convolution with stride 1.
//
// A plane holds one channel: rows of `side` vectors, lane i of every vector belonging to example
// i.
#pragma once

#include "vector.h"

namespace lenet::LENET_ISA {

struct Convolution {
  int inputs, outputs;  // channels
  int kernel;           // side of the kernel
  int side;             // of an output plane

  constexpr int plane() const { return side * side; }
  constexpr int input_side() const { return side + kernel - 1; }
  constexpr int input_plane() const { return input_side() * input_side(); }
  constexpr int weights() const { return outputs * inputs * kernel * kernel; }
};

}  // namespace lenet::LENET_ISA
