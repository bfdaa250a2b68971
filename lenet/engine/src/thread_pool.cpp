#include "thread_pool.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <unistd.h>
#include <vector>

namespace lenet {
namespace {

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until `value` differs from `old`. The phases of a step follow each other within
// microseconds, steps within some hundred. A thread that sleeps between them may wake up on the
// core of the one that woke it, and both then take turns there while another core idles. So it
// stays awake for a while, at first without pause, then yielding the core, so that the scheduler
// sees that there is one thread too many.
template <class T>
T wait_for_change(std::atomic<T>& value, T old) {
  using Clock = std::chrono::steady_clock;
  constexpr auto impatience = std::chrono::microseconds(50);
  constexpr auto patience = std::chrono::microseconds(1000);
  const auto start = Clock::now();
  for (auto waited = Clock::duration::zero(); waited < patience; waited = Clock::now() - start) {
    for (int i = 0; i < 32; i++) {
      if (const T now = value.load(std::memory_order_acquire); now != old) return now;
      relax();
    }
    if (waited > impatience) std::this_thread::yield();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

struct alignas(64) Worker {
  std::atomic<std::uint32_t> calls{0};  // how often it was called to work
  std::atomic<std::uint32_t> taken{0};  // how many of its shares of the work were taken

  // Whether the share of call number `call` is the caller's to do.
  bool take(std::uint32_t call) {
    std::uint32_t before = call - 1;
    return taken.compare_exchange_strong(before, call, std::memory_order_acq_rel);
  }
};

struct Pool {
  pid_t owner;  // threads do not survive a fork: a child starts with a pool of its own
  std::vector<std::unique_ptr<Worker>> workers;
  void (*work)(int, void*) = nullptr;
  void* context = nullptr;
  alignas(64) std::atomic<int> busy{0};
};

void serve(Pool& pool, Worker& worker, int thread) {
  for (std::uint32_t call = 0;;) {
    call = wait_for_change(worker.calls, call);
    if (!worker.take(call)) continue;
    pool.work(thread, pool.context);
    if (pool.busy.fetch_sub(1, std::memory_order_acq_rel) == 1) pool.busy.notify_one();
  }
}

// Never destroyed: the workers use it until the process ends.
Pool* pool = nullptr;
ForkSafeMutex* const turn = new ForkSafeMutex;

}  // namespace

void run_parallel(int threads, void (*work)(int, void*), void* context) {
  if (threads == 1) return work(0, context);
  const std::lock_guard lock(*turn);
  if (!pool || pool->owner != getpid()) pool = new Pool{.owner = getpid(), .workers = {}};
  pool->workers.reserve(threads - 1);
  while (static_cast<int>(pool->workers.size()) < threads - 1) {
    auto worker = std::make_unique<Worker>();
    const int thread = static_cast<int>(pool->workers.size()) + 1;
    std::thread(serve, std::ref(*pool), std::ref(*worker), thread).detach();
    pool->workers.push_back(std::move(worker));
  }
  pool->work = work;
  pool->context = context;
  pool->busy.store(threads - 1, std::memory_order_relaxed);
  for (int i = 0; i < threads - 1; i++) {
    pool->workers[i]->calls.fetch_add(1, std::memory_order_release);
    pool->workers[i]->calls.notify_one();
  }
  work(0, context);
  // Shares that a worker has not started are done here: it may be asleep, or another process may
  // have its core.
  for (int i = 0; i < threads - 1; i++) {
    Worker& worker = *pool->workers[i];
    if (!worker.take(worker.calls.load(std::memory_order_relaxed))) continue;
    work(i + 1, context);
    pool->busy.fetch_sub(1, std::memory_order_relaxed);
  }
  for (int busy = pool->busy.load(std::memory_order_acquire); busy;)
    busy = wait_for_change(pool->busy, busy);
}

// The exchange is not locked: a thread that held the lock during a fork would hold it forever in
// the child. The parent's mutex may be locked there, too, and is not touched.
void ForkSafeMutex::lock() {
  const pid_t process = getpid();
  Own* own = own_.load(std::memory_order_acquire);
  if (!own || own->process != process) {
    std::unique_ptr<Own> fresh(new Own{.process = process, .mutex = {}});
    if (own_.compare_exchange_strong(own, fresh.get(), std::memory_order_acq_rel))
      own = fresh.release();
  }
  own->mutex.lock();
}

ForkSafeMutex::~ForkSafeMutex() {
  Own* own = own_.load(std::memory_order_relaxed);
  if (own && own->process == getpid()) delete own;
}

}  // namespace lenet
