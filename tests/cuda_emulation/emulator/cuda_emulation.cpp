#include "cuda_emulation.h"

#include <sys/mman.h>
#include <unistd.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#include <algorithm>
#include <memory>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace cuda_emulation {

Block block;
const Thread* thread = nullptr;

namespace {

// ---------------------------------------------------------------- fibres

#if defined(__x86_64__)
// Keeps the registers that a call must preserve on the stack it leaves, takes the others' back.
extern "C" void cuda_emulation_switch(void** from, void* to);
asm(R"(
.text
.p2align 4
.type cuda_emulation_switch, @function
cuda_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_emulation_switch, .-cuda_emulation_switch
)");

struct Context {
  void* stack_pointer = nullptr;

  void prepare(unsigned char* stack, size_t size, void (*entry)()) {
    // As after a call, the stack is 8 short of a multiple of 16 once `ret` has taken the entry.
    auto* top = reinterpret_cast<void**>(stack + size) - 1;
    *--top = reinterpret_cast<void*>(entry);
    stack_pointer = top - 6;
    std::fill_n(static_cast<void**>(stack_pointer), 6, nullptr);
  }
  void switch_to(Context& next) { cuda_emulation_switch(&stack_pointer, next.stack_pointer); }
};
#else
struct Context {
  ucontext_t context;

  void prepare(unsigned char* stack, size_t size, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = size;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
  }
  void switch_to(Context& next) { swapcontext(&context, &next.context); }
};
#endif

constexpr size_t kStackBytes = size_t{256} << 10;

// Memory that costs nothing until it is touched, with a page below that stops an overflow.
class Stack {
 public:
  Stack() {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    mapped_bytes_ = kStackBytes + page;
    void* mapped = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED || mprotect(mapped, page, PROT_NONE) != 0) {
      throw std::runtime_error("no memory for the stacks of emulated threads");
    }
    mapped_ = static_cast<unsigned char*>(mapped);
    bottom_ = mapped_ + page;
  }
  ~Stack() { munmap(mapped_, mapped_bytes_); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  unsigned char* bottom() const { return bottom_; }

 private:
  unsigned char *mapped_, *bottom_;
  size_t mapped_bytes_;
};

struct Copy {
  void* shared;
  const void* global;
  size_t bytes;
  uint64_t group;
};

enum class State { kReady, kBarrier, kCollective, kReturned };

struct Fibre : Thread {
  Context context;
  std::unique_ptr<Stack> stack = std::make_unique<Stack>();
  void* fake_stack = nullptr;
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

std::vector<std::unique_ptr<Fibre>> fibres;  // kept from block to block
std::vector<Fibre*> ready;
unsigned num_threads, num_at_barrier, num_returned;
Fibre* current = nullptr;
Context scheduler;
const std::function<void()>* body = nullptr;
std::string error;
uint64_t random_state = 0;
std::mutex one_launch_at_a_time;

#if defined(__SANITIZE_ADDRESS__)
const void* scheduler_stack;
size_t scheduler_stack_bytes;
void* scheduler_fake_stack;
#endif

uint64_t random_number() {  // splitmix64
  uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void enter(Fibre* fibre) {
  current = fibre;
  thread = fibre;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_fake_stack, fibre->stack->bottom(), kStackBytes);
#endif
  scheduler.switch_to(fibre->context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
  current = nullptr;
}

void leave() {
  [[maybe_unused]] Fibre* fibre = current;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fibre->state == State::kReturned ? nullptr : &fibre->fake_stack,
                                 scheduler_stack, scheduler_stack_bytes);
#endif
  fibre->context.switch_to(scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fibre->fake_stack, nullptr, nullptr);
#endif
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
  current->state = State::kReturned;
  ++num_returned;
  leave();
}

void start(Fibre* fibre, unsigned linear) {
  fibre->linear = linear;
  fibre->index = dim3(linear % block.size.x, linear / block.size.x % block.size.y,
                      linear / (block.size.x * block.size.y));
  fibre->state = State::kReady;
  fibre->copies.clear();
  fibre->group = 0;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fibre->stack->bottom(), kStackBytes);
#endif
  fibre->context.prepare(fibre->stack->bottom(), kStackBytes, fibre_main);
  ready.push_back(fibre);
}

// ---------------------------------------------------------------- errors

std::string text(dim3 size) {
  return "(" + std::to_string(size.x) + ", " + std::to_string(size.y) + ", " +
         std::to_string(size.z) + ")";
}

std::string text(Site site) {
  const std::string file = site.file;
  return file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(site.line);
}

std::string where(const Fibre& fibre) {
  return "thread " + text(fibre.index) + " of block " + text(block.index);
}

// No thread can go on although some have not returned.
std::string describe_deadlock() {
  for (unsigned i = 0; i < num_threads; ++i) {
    const Fibre& fibre = *fibres[i];
    if (fibre.state == State::kCollective) {
      std::string missing;
      for (unsigned lane = 0; lane < 32; ++lane) {
        const unsigned linear = fibre.linear / 32 * 32 + lane;
        if ((fibre.mask >> lane & 1) == 0 ||
            (linear < num_threads && fibres[linear]->state == State::kCollective &&
             fibres[linear]->mask == fibre.mask && fibres[linear]->kind == fibre.kind)) {
          continue;
        }
        const bool returned = linear >= num_threads || fibres[linear]->state == State::kReturned;
        missing = "lane " + std::to_string(lane) +
                  (returned ? " has returned" : " waits at " + text(fibres[linear]->site));
      }
      return "warp divergence: " + where(fibre) + " waits at " + text(fibre.site) +
             " for lanes that do not come: " + missing;
    }
  }
  for (unsigned i = 0; i < num_threads; ++i) {
    if (fibres[i]->state == State::kBarrier) {
      return "barrier divergence: " + where(*fibres[i]) + " waits at " + text(fibres[i]->site) +
             " while " + std::to_string(num_returned) + " threads of the block have returned";
    }
  }
  return "";
}

void require(bool condition, const std::string& message) {
  if (!condition) {
    throw std::runtime_error(message);
  }
}

// ---------------------------------------------------------------- blocks

constexpr size_t kRedZone = 256;
constexpr unsigned char kRedZoneByte = 0xa5;

void run_block(unsigned char* shared, size_t shared_bytes) {
  std::fill_n(shared, shared_bytes, 0xff);
  num_at_barrier = num_returned = 0;
  ready.clear();
  for (unsigned i = 0; i < num_threads; ++i) {
    start(fibres[i].get(), i);
  }
  while (!ready.empty()) {
    std::swap(ready[random_number() % ready.size()], ready.back());
    Fibre* next = ready.back();
    ready.pop_back();
    enter(next);
    require(error.empty(), error);
  }
  require(num_returned == num_threads, describe_deadlock());
}

}  // namespace

Device& device() {
  static Device values;
  return values;
}

Traffic& traffic() {
  static Traffic values;
  return values;
}

void set_seed(uint64_t seed) { random_state = seed; }

void fail(const std::string& message) {
  if (current == nullptr) {
    throw std::runtime_error(message);
  }
  error = message + " (" + where(*current) + ")";
  current->state = State::kReturned;
  leave();
  __builtin_unreachable();
}

void fail_misaligned(const void* address, size_t alignment) {
  fail("misaligned access: an address ending in " +
       std::to_string(reinterpret_cast<uintptr_t>(address) % 64) + " must be a multiple of " +
       std::to_string(alignment));
}

void run(dim3 grid, dim3 size, size_t shared_bytes, const std::function<void()>& kernel) {
  const std::lock_guard<std::mutex> lock(one_launch_at_a_time);
  require(grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= 0x7fffffffu && grid.y <= 65535 &&
              grid.z <= 65535,
          "grid must be in [1, 2**31 - 1] x [1, 65535] x [1, 65535], got " + text(grid));
  require(size.x >= 1 && size.y >= 1 && size.z >= 1 && size.x <= 1024 && size.y <= 1024 &&
              size.z <= 64 && uint64_t{size.x} * size.y * size.z <= 1024,
          "block must have at most 1024 threads, got " + text(size));
  require(shared_bytes <= static_cast<size_t>(device().shared_bytes_per_block),
          "shared memory must be at most " + std::to_string(device().shared_bytes_per_block) +
              " bytes a block, got " + std::to_string(shared_bytes));

  body = &kernel;
  error.clear();
  num_threads = size.x * size.y * size.z;
  while (fibres.size() < num_threads) {
    fibres.push_back(std::make_unique<Fibre>());
  }
  const size_t red_zone_begin = (shared_bytes + 15) / 16 * 16;
  auto* shared = static_cast<unsigned char*>(
      std::aligned_alloc(256, (red_zone_begin + kRedZone + 255) / 256 * 256));
  const std::unique_ptr<unsigned char, decltype(&std::free)> owner(shared, std::free);
  std::fill_n(shared + shared_bytes, red_zone_begin + kRedZone - shared_bytes, kRedZoneByte);
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(shared + shared_bytes, red_zone_begin + kRedZone - shared_bytes);
#endif
  block.grid = grid;
  block.size = size;
  block.shared = shared;

  std::vector<uint32_t> order(size_t{grid.x} * grid.y * grid.z);
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[random_number() % i]);
  }
  for (const uint32_t linear : order) {
    block.index = dim3(linear % grid.x, linear / grid.x % grid.y, linear / grid.x / grid.y);
    run_block(shared, shared_bytes);
  }
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(shared + shared_bytes, red_zone_begin + kRedZone - shared_bytes);
#endif
  require(std::all_of(shared + shared_bytes, shared + red_zone_begin + kRedZone,
                      [](unsigned char byte) { return byte == kRedZoneByte; }),
          "a kernel wrote behind its " + std::to_string(shared_bytes) + " bytes of shared memory");
}

// ---------------------------------------------------------------- barriers and collectives

void barrier(Site site) {
  if (num_at_barrier > 0) {
    for (unsigned i = 0; i < num_threads; ++i) {
      const Fibre& other = *fibres[i];
      if (other.state == State::kBarrier) {
        if (other.site.line != site.line || std::strcmp(other.site.file, site.file) != 0) {
          fail("barrier divergence: a thread waits at " + text(other.site) + ", another at " +
               text(site));
        }
        break;
      }
    }
  }
  Fibre* self = current;
  self->state = State::kBarrier;
  self->site = site;
  if (++num_at_barrier == num_threads) {
    num_at_barrier = 0;
    for (unsigned i = 0; i < num_threads; ++i) {
      fibres[i]->state = State::kReady;
      ready.push_back(fibres[i].get());
    }
  }
  leave();
}

uint64_t collective(Collective kind, unsigned mask, uint64_t value, int source, Site site) {
  Fibre* self = current;
  const unsigned lane = self->linear % 32;
  const unsigned first = self->linear - lane;
  if ((mask >> lane & 1) == 0) {
    fail("warp divergence: lane " + std::to_string(lane) + " takes part at " + text(site) +
         " but its mask does not name it");
  }
  if (kind == Collective::kShuffle && (mask >> source & 1) == 0) {
    fail("a shuffle at " + text(site) + " reads lane " + std::to_string(source) +
         ", which its mask does not name");
  }
  self->state = State::kCollective;
  self->site = site;
  self->kind = kind;
  self->mask = mask;
  self->value = value;
  self->source = source;

  bool complete = true;
  for (unsigned other = 0; other < 32 && complete; ++other) {
    if ((mask >> other & 1) == 0) {
      continue;
    }
    const unsigned linear = first + other;
    complete = linear < num_threads && fibres[linear]->state == State::kCollective &&
               fibres[linear]->kind == kind && fibres[linear]->mask == mask &&
               fibres[linear]->site.line == site.line;
  }
  if (complete) {
    for (unsigned to = 0; to < 32; ++to) {
      if ((mask >> to & 1) == 0) {
        continue;
      }
      Fibre& fibre = *fibres[first + to];
      fibre.result = 0;
      if (kind == Collective::kShuffle) {
        fibre.result = fibres[first + fibre.source]->value;
      } else if (kind != Collective::kSyncWarp) {
        for (unsigned from = 0; from < 32; ++from) {
          if ((mask >> from & 1) != 0) {
            const uint64_t other = fibres[first + from]->value;
            const bool set = kind == Collective::kBallot ? other != 0 : other == fibre.value;
            fibre.result |= uint64_t{set} << from;
          }
        }
      }
    }
    for (unsigned to = 0; to < 32; ++to) {
      if ((mask >> to & 1) != 0) {
        fibres[first + to]->state = State::kReady;
        ready.push_back(fibres[first + to].get());
      }
    }
  }
  leave();
  return self->result;
}

void maybe_yield() {
  if (random_number() % 8 == 0) {
    ready.push_back(current);
    leave();
  }
}

void copy_async(void* shared, const void* global, size_t bytes) {
  for (const void* address : {static_cast<const void*>(shared), global}) {
    if ((bytes != 4 && bytes != 8 && bytes != 16) ||
        reinterpret_cast<uintptr_t>(address) % bytes != 0) {
      fail_misaligned(address, bytes);
    }
  }
  traffic().loaded += bytes;
  if (random_number() % 2 == 0) {
    std::memcpy(shared, global, bytes);
  } else {
    current->copies.push_back({shared, global, bytes, current->group});
  }
}

void commit_copies() { ++current->group; }

void wait_for_copies(size_t groups_left) {
  auto& copies = current->copies;
  auto copy = copies.begin();
  for (; copy != copies.end() && copy->group + groups_left < current->group; ++copy) {
    std::memcpy(copy->shared, copy->global, copy->bytes);
  }
  copies.erase(copies.begin(), copy);
}

namespace {
std::string last_error;
}

int guarded(const std::function<void()>& work) {
  try {
    work();
    return 0;
  } catch (const std::exception& exception) {
    last_error = exception.what();
    return 1;
  }
}

}  // namespace cuda_emulation

extern "C" {
const char* cuda_emulation_error() { return cuda_emulation::last_error.c_str(); }

void cuda_emulation_set_seed(uint64_t seed) { cuda_emulation::set_seed(seed); }

void cuda_emulation_set_device(int multiprocessors, int shared_bytes_per_block) {
  cuda_emulation::device() = {multiprocessors, shared_bytes_per_block};
}

// loaded, stored, vector_loads, vector_stores since the last call.
void cuda_emulation_take_traffic(uint64_t* counts) {
  const cuda_emulation::Traffic& traffic = cuda_emulation::traffic();
  counts[0] = traffic.loaded;
  counts[1] = traffic.stored;
  counts[2] = traffic.vector_loads;
  counts[3] = traffic.vector_stores;
  cuda_emulation::traffic() = {};
}
}
