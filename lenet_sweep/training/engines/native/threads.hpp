// A pool of threads that runs the phases of a computation.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "network.hpp"

namespace lenet {

// During the lifetime of an instance, this thread treats floats below 2^-126 as zero, both operands and
// results. Arithmetic with such subnormal numbers takes a hundred times as long, and the Adam moments of
// dead units and decaying weights reach them. The destructor restores the caller's setting.
class FlushSubnormals {
 public:
  FlushSubnormals();
  ~FlushSubnormals();

 private:
  const uint64_t before_;
};

// The threads of one run. They are started when they are first needed and then wait for work.
//
// Each thread takes the same units in every phase of a kind, whose data is then in its cache, and takes
// over units of other threads when it has none left. So a thread that is not scheduled delays a phase
// only if it holds a unit. A thread without a unit waits actively for a while, giving way to threads that
// need its core, and then sleeps.
class ThreadPool {
 public:
  ThreadPool() = default;
  ThreadPool(const ThreadPool&) = delete;
  ~ThreadPool();

  // Runs all phases on the given number of threads, including the calling thread.
  void run(const Phases& phases, int threads);

 private:
  void start(int threads);
  void help(int thread);
  void work(int thread);
  int take(int thread);
  void publish(int units);
  void wait(uint64_t phase);

  std::vector<std::thread> helpers_;
  Phases phases_{};
  // The units of the current phase that belong to a thread: its own number, and every threads-th after
  // it. A value has the number of threads (16 bits), of units (24) and of units taken (24), so that one
  // atomic operation takes a unit, and a late thread cannot mistake the phase.
  struct alignas(64) Units {
    std::atomic<uint64_t> value{0};
  };
  Units units_[MAX_THREADS];
  std::atomic<uint64_t> phase_{0};  // its number
  int total_ = 0;                   // units of the phase
  std::atomic<int> finished_{0};    // of these
  std::atomic<int> threads_{1};     // that may take units
  std::atomic<bool> running_{false}, stop_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<int> sleeping_{0};
};

}  // namespace lenet
