#include "common/cpu/capability.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace fcn_ext {
namespace {

CpuCapability chosen() {
  const CpuCapability best = best_cpu_capability();
  const char* wanted = std::getenv("FCN_EXT_CPU_CAPABILITY");
  for (CpuCapability lower : {CpuCapability::kPlain, CpuCapability::kAvx2}) {
    if (wanted != nullptr && lower < best && std::strcmp(wanted, cpu_capability_name(lower)) == 0) {
      return lower;
    }
  }
  return best;
}

// Read when the library is loaded, so that one process has one answer.
const CpuCapability kChosen = chosen();

}  // namespace

CpuCapability best_cpu_capability() {
#if defined(FCN_EXT_X86_CAPABILITIES)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      return CpuCapability::kAvx512;
    }
    return CpuCapability::kAvx2;
  }
#endif
  return CpuCapability::kPlain;
}

CpuCapability cpu_capability() { return kChosen; }

const char* cpu_capability_name(CpuCapability capability) {
  switch (capability) {
    case CpuCapability::kAvx512:
      return "avx512";
    case CpuCapability::kAvx2:
      return "avx2";
    default:
      return "plain";
  }
}

}  // namespace fcn_ext
