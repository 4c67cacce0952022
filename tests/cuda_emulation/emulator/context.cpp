#include "context.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>

#if defined(__x86_64__)
// Saves the registers that a call must preserve on the current stack, and restores the other's.
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
#endif

namespace cuda_emulation {

Stack::Stack() {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  mapped_bytes_ = kBytes + page;
  void* mapped = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED || mprotect(mapped, page, PROT_NONE) != 0) {
    throw std::runtime_error("no memory for the stacks of emulated threads");
  }
  mapped_ = static_cast<unsigned char*>(mapped);
  bottom_ = mapped_ + page;
}

Stack::~Stack() { munmap(mapped_, mapped_bytes_); }

#if defined(__x86_64__)

void Context::prepare(const Stack& stack, void (*entry)()) {
  // As after a call, the stack is 8 short of a multiple of 16 once `ret` has popped the entry.
  auto* top = reinterpret_cast<void**>(stack.bottom() + Stack::kBytes) - 1;
  *--top = reinterpret_cast<void*>(entry);
  stack_pointer_ = top - 6;
  std::fill_n(static_cast<void**>(stack_pointer_), 6, nullptr);
}

void Context::switch_to(Context& next) {
  cuda_emulation_switch(&stack_pointer_, next.stack_pointer_);
}

#else

void Context::prepare(const Stack& stack, void (*entry)()) {
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack.bottom();
  context_.uc_stack.ss_size = Stack::kBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
}

void Context::switch_to(Context& next) { swapcontext(&context_, &next.context_); }

#endif

}  // namespace cuda_emulation
