// Memory for the kernels.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

namespace lenet {

constexpr std::align_val_t CACHE_LINE{64};  // also the size of the widest registers

struct Free {
  void operator()(float* p) const { ::operator delete(p, CACHE_LINE); }
};
typedef std::unique_ptr<float, Free> Floats;

// Zeros, aligned and padded to whole cache lines.
inline Floats zeros(int64_t count) {
  const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(float) + 63) / 64 * 64;
  void* p = ::operator new(bytes, CACHE_LINE);
  std::memset(p, 0, bytes);
  return Floats(static_cast<float*>(p));
}

}  // namespace lenet
