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

constexpr uint64_t ticket(uint64_t phase, int units) {
  return phase << 32 | static_cast<uint64_t>(units) << 16;
}
constexpr uint64_t phase_of(uint64_t ticket) { return ticket >> 32; }
constexpr int units_of(uint64_t ticket) { return static_cast<int>(ticket >> 16 & 0xffff); }
constexpr int next_of(uint64_t ticket) { return static_cast<int>(ticket & 0xffff); }

constexpr std::chrono::microseconds ACTIVE_WAIT{20};

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
  publish(ticket(phase_of(ticket_) + 1, 0));
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
  finished_ = 0;
  running_ = true;
  publish(ticket(phase_of(ticket_) + 1, units));
  work(0);
}

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
    const uint64_t phase = phase_of(ticket_);  // read first, so that wait sees every later change
    if (stop_) return;
    if (running_ && thread < threads_) work(thread);
    else wait(phase);
  }
}

// Takes units until there is no further phase.
void ThreadPool::work(int thread) {
  while (true) {
    uint64_t current = ticket_;  // read first, so that wait sees every later change
    if (!running_ || thread >= threads_) return;
    if (next_of(current) < units_of(current)) current = ticket_++;
    if (next_of(current) >= units_of(current)) {
      wait(phase_of(current));
      continue;
    }
    phases_.run_unit(phases_.work, next_of(current), thread);
    if (++finished_ < units_of(current)) continue;
    const int units = phases_.next_phase(phases_.work);  // this thread finished the last unit
    finished_ = 0;
    if (units == 0) running_ = false;
    publish(ticket(phase_of(current) + 1, units));
  }
}

void ThreadPool::publish(uint64_t ticket) {
  ticket_ = ticket;
  if (sleeping_ == 0) return;
  { const std::lock_guard<std::mutex> lock(mutex_); }
  changed_.notify_all();
}

// Returns when the given phase is over.
void ThreadPool::wait(uint64_t phase) {
  const auto until = std::chrono::steady_clock::now() + ACTIVE_WAIT;
  while (std::chrono::steady_clock::now() < until)
    for (int i = 0; i < 16; i++) {
      if (phase_of(ticket_) != phase) return;
      relax();
    }
  std::unique_lock<std::mutex> lock(mutex_);
  sleeping_++;
  while (phase_of(ticket_) == phase) changed_.wait(lock);
  sleeping_--;
}

}  // namespace lenet
