// Run-time choice between the instruction sets that the CPU kernels are compiled for.
//
// A file named *kernels.cpp is compiled once for each set, with FCN_EXT_CAPABILITY naming it
// and its code in an anonymous namespace: a weak symbol shared between the copies would let the
// linker pick one with instructions the machine lacks. Such a file includes no torch and no
// standard header with code in it, and exports one table of function pointers:
//
//     extern const BilinearKernels FCN_EXT_CAPABILITY_NAME(bilinear_kernels);
#pragma once

#define FCN_EXT_PASTE_(a, b) a##_##b
#define FCN_EXT_PASTE(a, b) FCN_EXT_PASTE_(a, b)
#define FCN_EXT_CAPABILITY_NAME(name) FCN_EXT_PASTE(name, FCN_EXT_CAPABILITY)

namespace fcn_ext {

enum class CpuCapability { kPlain, kAvx2, kAvx512 };

// The best set that this processor supports and this build contains.
CpuCapability best_cpu_capability();

// The set in use: the best, or the lower one that FCN_EXT_CPU_CAPABILITY=plain|avx2|avx512 named
// in the environment when the library was loaded. Other values are refused in Python, where they
// can be named (fcn_ext/_library.py).
CpuCapability cpu_capability();

const char* cpu_capability_name(CpuCapability capability);

#if defined(FCN_EXT_X86_CAPABILITIES)
#define FCN_EXT_DECLARE_KERNELS(Type, name)                   \
  extern const Type name##_plain, name##_avx2, name##_avx512; \
  inline const Type& name() {                                 \
    switch (cpu_capability()) {                               \
      case CpuCapability::kAvx512:                            \
        return name##_avx512;                                 \
      case CpuCapability::kAvx2:                              \
        return name##_avx2;                                   \
      default:                                                \
        return name##_plain;                                  \
    }                                                         \
  }
#else
#define FCN_EXT_DECLARE_KERNELS(Type, name) \
  extern const Type name##_plain;           \
  inline const Type& name() { return name##_plain; }
#endif

}  // namespace fcn_ext
