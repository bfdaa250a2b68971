// Worker threads that live as long as the process.
#pragma once

#include <atomic>
#include <mutex>
#include <sys/types.h>

namespace lenet {

// Calls work(0), ..., work(threads - 1) in so many threads, the caller's being the first; returns
// when all are done. The caller does what a thread has not begun by then. Callers take turns.
// Works in a forked child, too.
void run_parallel(int threads, void (*work)(int thread, void* context), void* context);

// A mutex that a forked child finds unlocked, whatever the parent's threads were doing.
class ForkSafeMutex {
 public:
  ForkSafeMutex() = default;
  ~ForkSafeMutex();
  ForkSafeMutex(const ForkSafeMutex&) = delete;
  ForkSafeMutex& operator=(const ForkSafeMutex&) = delete;

  void lock();
  void unlock() { own_.load(std::memory_order_relaxed)->mutex.unlock(); }

 private:
  struct Own {
    pid_t process;
    std::mutex mutex;
  };
  std::atomic<Own*> own_ = nullptr;  // of the process that locked it last
};

}  // namespace lenet
