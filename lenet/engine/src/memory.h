// Working memory of the kernels, aligned for vectors.
#pragma once

#include <stdlib.h>

#include <new>

#include "vector.h"

namespace lenet::LENET_ISA {

// Initially zero.
class Memory {
 public:
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

 protected:
  Memory() = default;
  ~Memory() { free(data_); }

  // Resizes; the contents are lost.
  void grow(long bytes) {
    bytes = (bytes + 63) / 64 * 64;
    if (bytes <= bytes_) return;
    void* data = aligned_alloc(64, bytes);
    if (!data) throw std::bad_alloc();
    memset(data, 0, bytes);
    free(data_);
    data_ = data;
    bytes_ = bytes;
  }

  void* data_ = nullptr;
  long bytes_ = 0;
};

struct Floats : Memory {
  Floats() = default;
  explicit Floats(long count) { grow(count); }
  void grow(long count) { Memory::grow(count * sizeof(float)); }
  operator float*() const { return static_cast<float*>(data_); }
};

struct Vectors : Memory {
  Vectors() = default;
  explicit Vectors(long count) { grow(count); }
  void grow(long count) { Memory::grow(count * sizeof(Vector)); }
  operator Vector*() const { return static_cast<Vector*>(data_); }
};

// One T for each thread, made from the same arguments.
template <class T>
class PerThread {
 public:
  template <class... Arguments>
  explicit PerThread(int threads, const Arguments&... arguments) : threads_(new T*[threads]{}), count_(threads) {
    for (int i = 0; i < threads; i++) threads_[i] = new T(arguments...);
  }
  ~PerThread() {
    for (int i = 0; i < count_; i++) delete threads_[i];
    delete[] threads_;
  }
  PerThread(const PerThread&) = delete;
  PerThread& operator=(const PerThread&) = delete;
  T& operator[](int thread) const { return *threads_[thread]; }

 private:
  T** threads_;
  int count_;
};

}  // namespace lenet::LENET_ISA
