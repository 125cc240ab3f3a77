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
// The threads take the units of a phase one by one, so a thread that is not scheduled delays the phase
// only if it holds a unit. A thread without a unit waits actively for a few microseconds, which is how
// long a phase takes, and then sleeps, so that it does not occupy a core that another thread needs.
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
  void publish(uint64_t ticket);
  void wait(uint64_t phase);

  std::vector<std::thread> helpers_;
  Phases phases_{};
  // The number of the phase (32 bits), its number of units and the next unit (16 bits each). A single
  // atomic operation takes a unit, so a late thread cannot take one of the wrong phase.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<int> finished_{0};  // units of the current phase
  std::atomic<int> threads_{1};   // that may take units
  std::atomic<bool> running_{false}, stop_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<int> sleeping_{0};
};

}  // namespace lenet
