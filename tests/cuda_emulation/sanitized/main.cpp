// Runs the case named on the command line. Some have mistakes that must be found.
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "cases.h"
#include "common/cuda/launch.cuh"

namespace {

std::map<std::string, void (*)()>& cases() {
  static std::map<std::string, void (*)()> all;
  return all;
}

using fcn_ext::launch;
using fcn_ext::shared_memory;

// Every thread reads its neighbors' values through shared memory and stores some in an array of its
// own. `beyond` moves one of the accesses out of bounds.
enum class Beyond { kNowhere, kShared, kGlobal, kLocal };

__global__ void neighbor_kernel(const int* in, int* out, int count, Beyond beyond, int by) {
  int* staged = shared_memory<int>();
  const int thread = static_cast<int>(threadIdx.x);
  staged[thread + (beyond == Beyond::kShared ? by : 0)] = in[thread];
  __syncthreads();
  int own[4] = {};
  int* volatile opaque = own;  // or the compiler sees the mistake first
  for (int i = 0; i < 4; ++i) {
    opaque[i + (beyond == Beyond::kLocal ? by : 0)] = staged[(thread + i) % count];
    __syncthreads();
  }
  out[thread + (beyond == Beyond::kGlobal ? by : 0)] = own[1];
}

template <Beyond beyond>
void run_neighbors() {
  constexpr int kCount = 64;
  std::vector<int> in(kCount, 3), out(kCount);
  launch(neighbor_kernel, dim3(1), dim3(kCount), kCount * sizeof(int), nullptr, in.data(),
         out.data(), kCount, beyond, 2);
}

const bool added = add_case("clean", run_neighbors<Beyond::kNowhere>) &&
                   add_case("shared", run_neighbors<Beyond::kShared>) &&
                   add_case("global", run_neighbors<Beyond::kGlobal>) &&
                   add_case("local", run_neighbors<Beyond::kLocal>);

}  // namespace

bool add_case(const char* name, void (*run)()) { return cases().emplace(name, run).second; }

int main(int argc, char** argv) {
  if (argc != 2 || cases().count(argv[1]) == 0) {
    std::fprintf(stderr, "usage: sanitized CASE, one of:\n");
    for (const auto& [name, run] : cases()) {
      std::fprintf(stderr, "  %s\n", name.c_str());
    }
    return 2;
  }
  try {
    cases()[argv[1]]();
  } catch (const std::exception& exception) {
    std::fprintf(stderr, "%s\n", exception.what());
    return 1;
  }
  return 0;
}
