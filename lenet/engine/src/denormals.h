// Denormal numbers, which are up to a hundred times slower than others, are 0 while this exists.
//
// For kernel files only, as vector.h.
#pragma once

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace lenet::LENET_ISA {

class FlushDenormals {
 public:
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
#if defined(__SSE2__)
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#else
  FlushDenormals() {}
  ~FlushDenormals() {}
#endif
};

}  // namespace lenet::LENET_ISA
