#include "fibers.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#include <utility>

#include "errors.h"

namespace cuda_emulation {

Block block;
const Thread* thread = nullptr;
Team team;

namespace {

std::vector<Fiber*> ready;
Context scheduler;
const std::function<void()>* body = nullptr;
std::string error;
uint64_t random_state = 0;

#if defined(__SANITIZE_ADDRESS__)
const void* scheduler_stack;
size_t scheduler_stack_bytes;
void* scheduler_fake_stack;
#endif

void enter(Fiber& fiber) {
  team.running = &fiber;
  thread = &fiber;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber.stack->bottom(), Stack::kBytes);
#endif
  scheduler.switch_to(fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
  team.running = nullptr;
}

void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
  try {
    (*body)();
  } catch (const std::exception& exception) {
    error = exception.what();
  }
  team.running->state = State::kReturned;
  ++team.returned;
  leave();
}

void start(Fiber& fiber, unsigned linear) {
  fiber.linear = linear;
  fiber.index = dim3(linear % block.size.x, linear / block.size.x % block.size.y,
                     linear / (block.size.x * block.size.y));
  fiber.copies.clear();
  fiber.group = 0;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber.stack->bottom(), Stack::kBytes);
#endif
  fiber.context.prepare(*fiber.stack, fiber_main);
  wake(fiber);
}

}  // namespace

void run_team(unsigned threads, const std::function<void()>& kernel) {
  body = &kernel;
  error.clear();
  ready.clear();
  while (team.fibers.size() < threads) {
    team.fibers.push_back(std::make_unique<Fiber>());
  }
  team.size = threads;
  team.at_barrier = team.returned = 0;
  for (unsigned i = 0; i < threads; ++i) {
    start(*team.fibers[i], i);
  }
  while (!ready.empty()) {
    std::swap(ready[random_number() % ready.size()], ready.back());
    Fiber* next = ready.back();
    ready.pop_back();
    enter(*next);
    require(error.empty(), error);
  }
  if (team.returned != threads) {
    throw std::runtime_error(describe_deadlock());
  }
}

void leave() {
  Fiber& fiber = *team.running;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fiber.state == State::kReturned ? nullptr : &fiber.fake_stack,
                                 scheduler_stack, scheduler_stack_bytes);
#endif
  fiber.context.switch_to(scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber.fake_stack, nullptr, nullptr);
#endif
}

void wake(Fiber& fiber) {
  fiber.state = State::kReady;
  ready.push_back(&fiber);
}

void maybe_yield() {
  if (random_number() % 8 == 0) {
    wake(*team.running);
    leave();
  }
}

void set_seed(uint64_t seed) { random_state = seed; }

uint64_t random_number() {  // splitmix64
  uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::string where(const Fiber& fiber) {
  return "thread " + text(fiber.index) + " of block " + text(block.index);
}

void fail(const std::string& message) {
  if (team.running == nullptr) {
    throw std::runtime_error(message);
  }
  error = message + " (" + where(*team.running) + ")";
  team.running->state = State::kReturned;
  leave();
  __builtin_unreachable();
}

}  // namespace cuda_emulation
