// Register blocks: how many channels, units or columns a kernel computes at once. A block's size is
// a template argument, so that its accumulators are registers; the block for a layer is
// chosen once, when its sizes are known.
//
// Items beyond the last of a layer, in its last block, only fill it: their weights are zero, and
// their results are never read.
#pragma once

#include "vector.h"

namespace lenet::LENET_ISA {

constexpr bool many_registers = registers >= 32;

constexpr int blocks(int n, int block) { return (n + block - 1) / block; }
constexpr int round_up(int n, int block) { return blocks(n, block) * block; }

// The block, up to `most`, in which n items take the least time: a block costs as much as its items
// and one and a half more.
constexpr int best_block(int n, int most) {
  int best = 1;
  for (int block = 2; block <= most; block++)
    if (blocks(n, block) * (2 * block + 3) <= blocks(n, best) * (2 * best + 3)) best = block;
  return best;
}

// make<block>() for a block of 1 to `most` that is known at run time.
template <int most, class Make>
static auto for_block(int block, const Make& make) {
  if constexpr (most > 1)
    if (block < most) return for_block<most - 1>(block, make);
  return make.template operator()<most>();
}

}  // namespace lenet::LENET_ISA
