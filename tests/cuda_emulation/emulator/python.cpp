// What library.py's Emulation calls, besides the kernels' entry points.
#include <exception>

#include "cuda_emulation.h"
#include "observer.h"

namespace {
std::string last_error;
}

namespace cuda_emulation {

int guarded(const std::function<void()>& work) {
  int failed = 0;
  last_error.clear();
  for (const auto& step : {work, std::function<void()>([] { observer->finish(); })}) {
    try {
      step();
    } catch (const std::exception& exception) {
      last_error += (failed ? "\n" : "") + std::string(exception.what());
      failed = 1;
    }
  }
  return failed;
}

}  // namespace cuda_emulation

extern "C" {
const char* cuda_emulation_error() { return last_error.c_str(); }

void cuda_emulation_set_seed(uint64_t seed) { cuda_emulation::set_seed(seed); }

// `approximation` is the number of an Approximation.
void cuda_emulation_set_approximation(int approximation, uint64_t seed) {
  cuda_emulation::set_approximation(static_cast<cuda_emulation::Approximation>(approximation),
                                    seed);
}

void cuda_emulation_set_device(int multiprocessors, int shared_bytes_per_block, int capability) {
  cuda_emulation::device() = {multiprocessors, shared_bytes_per_block, capability};
}

// With null, launches are emulated again.
void cuda_emulation_set_taker(cuda_emulation::Taker taker) { cuda_emulation::taker() = taker; }

// Writes loaded, stored, vector_loads and vector_stores since the last call.
void cuda_emulation_take_traffic(uint64_t* counts) {
  const cuda_emulation::Traffic& traffic = cuda_emulation::traffic();
  counts[0] = traffic.loaded;
  counts[1] = traffic.stored;
  counts[2] = traffic.vector_loads;
  counts[3] = traffic.vector_stores;
  cuda_emulation::traffic() = {};
}
}
