#include "fibres.h"

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

std::vector<Fibre*> ready;
Context scheduler;
const std::function<void()>* body = nullptr;
std::string error;
uint64_t random_state = 0;

#if defined(__SANITIZE_ADDRESS__)
const void* scheduler_stack;
size_t scheduler_stack_bytes;
void* scheduler_fake_stack;
#endif

void enter(Fibre& fibre) {
  team.running = &fibre;
  thread = &fibre;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_fake_stack, fibre.stack->bottom(), Stack::kBytes);
#endif
  scheduler.switch_to(fibre.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
  team.running = nullptr;
}

void fibre_main() {
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

void start(Fibre& fibre, unsigned linear) {
  fibre.linear = linear;
  fibre.index = dim3(linear % block.size.x, linear / block.size.x % block.size.y,
                     linear / (block.size.x * block.size.y));
  fibre.copies.clear();
  fibre.group = 0;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fibre.stack->bottom(), Stack::kBytes);
#endif
  fibre.context.prepare(*fibre.stack, fibre_main);
  wake(fibre);
}

}  // namespace

void run_team(unsigned threads, const std::function<void()>& kernel) {
  body = &kernel;
  error.clear();
  ready.clear();
  while (team.fibres.size() < threads) {
    team.fibres.push_back(std::make_unique<Fibre>());
  }
  team.size = threads;
  team.at_barrier = team.returned = 0;
  for (unsigned i = 0; i < threads; ++i) {
    start(*team.fibres[i], i);
  }
  while (!ready.empty()) {
    std::swap(ready[random_number() % ready.size()], ready.back());
    Fibre* next = ready.back();
    ready.pop_back();
    enter(*next);
    require(error.empty(), error);
  }
  if (team.returned != threads) {
    throw std::runtime_error(describe_deadlock());
  }
}

void leave() {
  Fibre& fibre = *team.running;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fibre.state == State::kReturned ? nullptr : &fibre.fake_stack,
                                 scheduler_stack, scheduler_stack_bytes);
#endif
  fibre.context.switch_to(scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fibre.fake_stack, nullptr, nullptr);
#endif
}

void wake(Fibre& fibre) {
  fibre.state = State::kReady;
  ready.push_back(&fibre);
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

std::string where(const Fibre& fibre) {
  return "thread " + text(fibre.index) + " of block " + text(block.index);
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
