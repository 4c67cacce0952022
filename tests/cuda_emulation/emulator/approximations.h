// Functions of one number as hardware computes them: within some ulp of the exact result.
//
// The largest documented errors, in ulp of the correctly rounded result:
//   ex2.approx.ftz.f32   2; of zeros 1, of infinities 0 and infinity   (PTX ISA)
//   rcp.approx.ftz.f32   1; of zeros infinities, of infinities zeros   (PTX ISA)
//   expf 2, logf 1, exp 1, log 1; exp of 0 is 1, log of 1 is 0         (CUDA programming guide)
// The last four are for nvcc's default flags, with which + - * / and fma round correctly. With
// .ftz, arguments and results below the normal range are zero. How a GPU's errors are distributed
// within these bounds is not documented, so a kernel must keep its precision under each of:
#pragma once

#include <cstdint>

namespace cuda_emulation {

enum class Approximation {
  kExact,   // rounded correctly
  kRandom,  // off by whole ulp within the bounds, drawn for each argument from the seed
  kUp,      // always off by the most there may be, towards infinity
  kDown,    // likewise towards minus infinity
  kSpread,  // upwards by zero up to the most there may be, drawn likewise
};

void set_approximation(Approximation approximation, uint64_t seed);

float ex2_approx_ftz(float x);
float rcp_approx_ftz(float x);

}  // namespace cuda_emulation
