#include "common/cpu/capability.h"

#include <cstdlib>
#include <cstring>

namespace fcn_ext {
namespace {

CpuCapability detect() {
#if defined(FCN_EXT_X86_CAPABILITIES)
  __builtin_cpu_init();
  CpuCapability best = CpuCapability::kPlain;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    best = CpuCapability::kAvx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      best = CpuCapability::kAvx512;
    }
  }
  const char* wanted = std::getenv("FCN_EXT_CPU_CAPABILITY");
  if (wanted != nullptr && std::strcmp(wanted, "plain") == 0) {
    return CpuCapability::kPlain;
  }
  if (wanted != nullptr && std::strcmp(wanted, "avx2") == 0 && best == CpuCapability::kAvx512) {
    return CpuCapability::kAvx2;
  }
  return best;
#else
  return CpuCapability::kPlain;
#endif
}

}  // namespace

CpuCapability cpu_capability() {
  static const CpuCapability capability = detect();
  return capability;
}

const char* cpu_capability_name() {
  switch (cpu_capability()) {
    case CpuCapability::kAvx512:
      return "avx512";
    case CpuCapability::kAvx2:
      return "avx2";
    default:
      return "plain";
  }
}

}  // namespace fcn_ext
