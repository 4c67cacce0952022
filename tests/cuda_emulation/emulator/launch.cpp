// Launches: checks the limits of the device and runs one block after another, in random order.
#include <dlfcn.h>

#include <algorithm>
#include <mutex>
#include <numeric>
#include <vector>

#include "cuda_emulation.h"
#include "errors.h"
#include "fibers.h"
#include "memory.h"
#include "observer.h"

namespace cuda_emulation {

namespace {

std::mutex one_launch_at_a_time;
Observer nobody;

void check_limits(dim3 grid, dim3 size, size_t shared_bytes) {
  require(grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= 0x7fffffffu && grid.y <= 65535 &&
              grid.z <= 65535,
          "grid must be in [1, 2**31 - 1] x [1, 65535] x [1, 65535], got " + text(grid));
  require(size.x >= 1 && size.y >= 1 && size.z >= 1 && size.x <= 1024 && size.y <= 1024 &&
              size.z <= 64 && uint64_t{size.x} * size.y * size.z <= 1024,
          "block must have at most 1024 threads, got " + text(size));
  require(shared_bytes <= static_cast<size_t>(device().shared_bytes_per_block),
          "shared memory must be at most " + std::to_string(device().shared_bytes_per_block) +
              " bytes a block, got " + std::to_string(shared_bytes));
}

std::vector<uint32_t> in_random_order(size_t count) {
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = count; i > 1; --i) {
    std::swap(order[i - 1], order[random_number() % i]);
  }
  return order;
}

}  // namespace

Observer* observer = &nobody;

Device& device() {
  static Device values;
  return values;
}

Taker& taker() {
  static Taker nobody_takes = nullptr;
  return nobody_takes;
}

void run(const Launch& launch, const std::function<void()>& kernel) {
  const std::lock_guard<std::mutex> lock(one_launch_at_a_time);
  const dim3 grid = launch.grid, size = launch.block;
  const size_t shared_bytes = launch.shared_bytes;
  check_limits(grid, size, shared_bytes);
  if (taker() != nullptr) {
    const unsigned sizes[] = {grid.x, grid.y, grid.z, size.x, size.y, size.z};
    Dl_info info{};
    dladdr(launch.kernel, &info);
    require(info.dli_sname != nullptr, "a kernel has no name: is it no template?");
    taker()(info.dli_sname, sizes, shared_bytes, launch.parameters.data(),
            launch.parameters.size());
    return;
  }
  SharedMemory shared(shared_bytes);
  block.grid = grid;
  block.size = size;
  block.shared = shared.begin();
  observer->launch_begins(shared.begin(), shared_bytes);
  for (const uint32_t linear : in_random_order(size_t{grid.x} * grid.y * grid.z)) {
    block.index = dim3(linear % grid.x, linear / grid.x % grid.y, linear / grid.x / grid.y);
    shared.poison();
    observer->block_begins(size.x * size.y * size.z);
    run_team(size.x * size.y * size.z, kernel);
  }
  shared.check();
}

}  // namespace cuda_emulation
