// The threads of the block that runs, each a fiber, and the order in which they get their turns.
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

// From global to shared memory, not yet waited for.
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
  // Of the collective it waits in.
  Collective kind{};
  unsigned mask = 0;
  uint64_t value = 0, result = 0;
  int source = 0;
  std::vector<Copy> copies;  // under way, oldest first
  uint64_t group = 0;        // that the next copy belongs to
};

struct Team {
  std::vector<std::unique_ptr<Fiber>> fibers;  // kept from block to block: the first `size` count
  unsigned size = 0, at_barrier = 0, returned = 0;
  Fiber* running = nullptr;
};
extern Team team;

// Runs `threads` times `body`, switching at random wherever a fiber leaves; throws what fail()
// said, or why the last fibers wait for ever.
void run_team(unsigned threads, const std::function<void()>& body);

// From within a fiber: another one's turn. It comes back after somebody has woken it.
void leave();
void wake(Fiber& fiber);
// Now and then another one's turn.
void maybe_yield();

uint64_t random_number();

// "thread (1, 0, 0) of block (0, 0, 0)"
std::string where(const Fiber& fiber);

// Why no fiber can go on although some have not returned; of barriers and collectives.
std::string describe_deadlock();

}  // namespace cuda_emulation
