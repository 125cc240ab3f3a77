#include "threads.hpp"

#include <chrono>

#if defined(LENET_X86)
#include <immintrin.h>
#endif
#ifndef _WIN32
#include <csignal>
#endif

namespace lenet {

namespace {

#if defined(LENET_X86)
constexpr uint64_t FLUSH = 1u << 15 | 1u << 6;  // flush to zero, and denormals are zero
uint64_t control() { return _mm_getcsr(); }
void set_control(uint64_t value) { _mm_setcsr(static_cast<unsigned>(value)); }
#elif defined(__aarch64__)
constexpr uint64_t FLUSH = 1u << 24;  // for both operands and results
uint64_t control() {
  uint64_t value;
  asm volatile("mrs %0, fpcr" : "=r"(value));
  return value;
}
void set_control(uint64_t value) { asm volatile("msr fpcr, %0" : : "r"(value) : "memory"); }
#else
constexpr uint64_t FLUSH = 0;
uint64_t control() { return 0; }
void set_control(uint64_t) {}
#endif

void relax() {
#if defined(LENET_X86)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

constexpr uint64_t pack(int threads, int end) {
  return static_cast<uint64_t>(threads) << 48 | static_cast<uint64_t>(end) << 24;
}
constexpr int threads_of(uint64_t units) { return static_cast<int>(units >> 48); }
constexpr int end_of(uint64_t units) { return static_cast<int>(units >> 24 & 0xffffff); }
constexpr int next_of(uint64_t units) { return static_cast<int>(units & 0xffffff); }

constexpr std::chrono::microseconds ACTIVE_WAIT{500};

// Python must handle signals in its main thread, so the helpers inherit a mask that blocks all of them.
class BlockSignals {
 public:
#ifdef _WIN32
  BlockSignals() {}
  ~BlockSignals() {}
#else
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
#endif
};

}  // namespace

FlushSubnormals::FlushSubnormals() : before_(control()) { set_control(before_ | FLUSH); }
FlushSubnormals::~FlushSubnormals() { set_control(before_); }

void run(ThreadPool* pool, const Phases& phases, int threads) { pool->run(phases, threads); }

ThreadPool::~ThreadPool() {
  stop_ = true;
  publish(0);
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadPool::run(const Phases& phases, int threads) {
  const FlushSubnormals flush;
  if (threads == 1) {
    while (const int units = phases.next_phase(phases.work))
      for (int unit = 0; unit < units; unit++) phases.run_unit(phases.work, unit, 0);
    return;
  }
  start(threads);
  phases_ = phases;
  const int units = phases.next_phase(phases.work);
  if (units == 0) return;
  running_ = true;
  publish(units);
  work(0);
}

// Starts the helpers that are missing.
void ThreadPool::start(int threads) {
  threads_ = threads;
  const BlockSignals blocked;
  while (static_cast<int>(helpers_.size()) < threads - 1) {
    const int thread = static_cast<int>(helpers_.size()) + 1;
    helpers_.emplace_back([this, thread] { help(thread); });
  }
}

void ThreadPool::help(int thread) {
  const FlushSubnormals flush;
  while (true) {
    const uint64_t phase = phase_;  // read first, so that wait notices every later change
    if (stop_) return;
    if (running_ && thread < threads_) work(thread);
    else wait(phase);
  }
}

// Runs units until there is no further phase.
void ThreadPool::work(int thread) {
  while (true) {
    const uint64_t phase = phase_;  // read first, so that wait notices every later change
    if (!running_ || thread >= threads_) return;
    const int unit = take(thread);
    if (unit < 0) {
      wait(phase);
      continue;
    }
    phases_.run_unit(phases_.work, unit, thread);
    const int total = total_;  // read before the phase can end
    if (++finished_ < total) continue;
    const int units = phases_.next_phase(phases_.work);  // this thread finished the last unit
    if (units == 0) running_ = false;
    publish(units);
  }
}

// A unit of the current phase, preferably one of the thread's own; -1 if there is none left.
int ThreadPool::take(int thread) {
  const int threads = threads_;
  for (int k = 0; k < threads; k++) {
    const int owner = (thread + k) % threads;
    std::atomic<uint64_t>& own = units_[owner].value;
    uint64_t value = own;
    if (next_of(value) < end_of(value)) value = own++;
    if (next_of(value) < end_of(value)) return owner + next_of(value) * threads_of(value);
  }
  return -1;
}

void ThreadPool::publish(int units) {
  const int threads = threads_;
  total_ = units;
  finished_ = 0;
  // The units of thread 0 come last: the phase cannot end, and another one be published, before.
  for (int thread = threads - 1; thread >= 0; thread--)
    units_[thread].value = pack(threads, (units - thread + threads - 1) / threads);
  phase_++;
  if (sleeping_ == 0) return;
  { const std::lock_guard<std::mutex> lock(mutex_); }
  changed_.notify_all();
}

// Returns when the given phase is over.
void ThreadPool::wait(uint64_t phase) {
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; std::chrono::steady_clock::now() - start < ACTIVE_WAIT; round++) {
    for (int i = 0; i < 16; i++) {
      if (phase_ != phase) return;
      relax();
    }
    if (round >= 4) std::this_thread::yield();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  sleeping_++;
  while (phase_ == phase) changed_.wait(lock);
  sleeping_--;
}

}  // namespace lenet
