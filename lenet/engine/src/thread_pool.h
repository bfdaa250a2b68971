// Worker threads that live as long as the process.
#pragma once

#include <atomic>
#include <mutex>
#include <sys/types.h>

namespace lenet {

// Calls work(0), ..., work(threads - 1) in that many threads, the caller's being the first; returns
// when all are done. The caller does what other threads have not started by then. Callers take
// turns. Also works in a forked child.
void run_parallel(int threads, void (*work)(int thread, void* context), void* context);

// A mutex that is unlocked in a forked child, whatever the parent's threads were doing.
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
