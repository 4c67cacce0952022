// The threads of the running block, each a fiber, and the order in which they take turns.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "context.h"
#include "cuda_emulation.h"

namespace cuda_emulation {

enum class State { kReady, kBarrier, kCollective, kReturned };

// A copy from global to shared memory that has not been waited for.
struct Copy {
  void* shared;
  const void* global;
  size_t bytes;
  uint64_t group;
  bool there;
};

struct Fiber : Thread {
  Context context;
  std::unique_ptr<Stack> stack = std::make_unique<Stack>();
  void* fake_stack = nullptr;  // AddressSanitizer's
  State state = State::kReady;
  Site site{};
  // The collective that it waits in:
  Collective kind{};
  unsigned mask = 0;
  uint64_t value = 0, result = 0;
  int source = 0;
  std::vector<Copy> copies;  // in flight, oldest first
  uint64_t group = 0;        // the group of the next copy
};

struct Team {
  std::vector<std::unique_ptr<Fiber>> fibers;  // reused by later blocks: the first `size` count
  unsigned size = 0, at_barrier = 0, returned = 0;
  Fiber* running = nullptr;
};
extern Team team;

// Runs `body` in `threads` fibers, switching at random wherever a fiber leaves. Throws what fail()
// said, or why the last fibers wait forever.
void run_team(unsigned threads, const std::function<void()>& body);

// Called in a fiber: gives the turn to another. Returns after somebody has woken the fiber.
void leave();
void wake(Fiber& fiber);
// Now and then gives the turn to another fiber.
void maybe_yield();

uint64_t random_number();

// "thread (1, 0, 0) of block (0, 0, 0)"
std::string where(const Fiber& fiber);

// Why no fiber can continue although some have not returned: barriers and collectives.
std::string describe_deadlock();

}  // namespace cuda_emulation
