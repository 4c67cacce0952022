// Stacks, and switching between them: all that a fiber is to the processor.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace cuda_emulation {

// Memory that costs nothing until it is touched, with a guard page below that stops an overflow.
class Stack {
 public:
  static constexpr size_t kBytes = size_t{256} << 10;

  Stack();
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  unsigned char* bottom() const { return bottom_; }

 private:
  unsigned char *mapped_, *bottom_;
  size_t mapped_bytes_;
};

// A suspended computation. The running one has none: switch_to() suspends it here.
class Context {
 public:
  // Prepares to start `entry`, which must not return, on this stack.
  void prepare(const Stack& stack, void (*entry)());
  void switch_to(Context& next);

 private:
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
};

}  // namespace cuda_emulation
