// The threads of the block that runs, each a fibre, and the order in which they get their turns.
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

// From global to shared memory, not yet there.
struct Copy {
  void* shared;
  const void* global;
  size_t bytes;
  uint64_t group;
};

struct Fibre : Thread {
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
  std::vector<std::unique_ptr<Fibre>> fibres;  // kept from block to block: the first `size` count
  unsigned size = 0, at_barrier = 0, returned = 0;
  Fibre* running = nullptr;
};
extern Team team;

// Runs `threads` times `body`, switching at random wherever a fibre leaves; throws what fail()
// said, or why the last fibres wait for ever.
void run_team(unsigned threads, const std::function<void()>& body);

// From within a fibre: another one's turn. It comes back after somebody has woken it.
void leave();
void wake(Fibre& fibre);

uint64_t random_number();

// "thread (1, 0, 0) of block (0, 0, 0)"
std::string where(const Fibre& fibre);

// Why no fibre can go on although some have not returned; of barriers and collectives.
std::string describe_deadlock();

}  // namespace cuda_emulation
