// Finds accesses to the same memory that nothing orders.
//
// Kernels are compiled with -fsanitize=thread, which makes the compiler call a function before
// every access, and linked with callbacks.cpp instead of the sanitizer's own library. Nothing
// depends on the order in which the emulation happens to run threads: a race is found wherever both
// accesses are made in a launch, by these rules.
//
// Two accesses by different threads, to a byte of shared or global memory, one of them at least a
// write and not both atomic, are a race unless
//   - __syncthreads comes between them, or a __syncwarp whose mask names both lanes;
//   - a shuffle or a vote does that names both. CUDA does not promise that these order memory: by
//     the strict rule they do not;
//   - they are writes of the same size and leave the same value, as of threads that raise a flag.
//   - they are in different blocks, of which one arrives at an address and the other one meets it
//     there. A block arrives by an atomic operation after a __threadfence: with all that is before
//     the last barrier before the fence. A thread meets who arrived before at the address of its
//     own atomic operation, once a __threadfence follows; its block does with the next barrier.
//     What a block has met it arrives with, too.
// Threads of different blocks are in order in no other way, those of different launches always.
// A copy with __pipeline_memcpy_async writes at any time until its thread has waited for it, then
// like that thread: even its own thread must not touch it before, and others not before the next
// barrier. Memory on a thread's own stack is nobody else's, and is not looked at.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "calls.h"
#include "history.h"
#include "observer.h"

namespace races {

class Races : public cuda_emulation::Observer {
 public:
  // Whether, of the functions of a warp, __syncwarp alone orders memory.
  void set_strict(bool strict) { strict_ = strict; }

  // Of the running thread: an access that is about to happen, a call, and the return from it.
  void access(const void* address, size_t bytes, Kind kind, const void* place);
  void enter(const void* place);
  void leave();

  void launch_begins(const unsigned char* shared, size_t bytes) override;
  void block_begins(unsigned threads) override;
  void barrier() override;
  void fence() override;
  void collective(cuda_emulation::Collective kind, unsigned first, unsigned mask) override;
  void atomic(const void* address, size_t bytes, const void* place) override;
  void copy_begins(const void* shared, const void* global, size_t bytes,
                   const void* place) override;
  void copy_ends(const void* shared, const void* global, size_t bytes) override;
  void finish() override;

 private:
  struct Race {
    uintptr_t address;
    Access first, second;
  };
  // A write after one of the same size that nothing orders, and what was there before it.
  struct Doubt {
    std::vector<Race> races;
    const unsigned char* address = nullptr;
    std::vector<unsigned char> before;
  };
  // Of blocks: up to which time their accesses are in order with what comes.
  using Times = std::map<uint32_t, uint32_t>;
  struct Thread {
    uint32_t call = CallTree::kRoot;
    // Of each lane of its warp: up to which time its accesses are in order with this thread.
    std::array<uint32_t, 32> ordered{};
    Times met;       // by atomic operations, and by a fence behind them:
    Times acquired;  // since the last barrier
    Times released;  // by its last fence, to those who meet what it does to an address from then on
  };
  // One end of a race, for people.
  struct End {
    std::string who;
    std::vector<const void*> places;
  };
  struct Found {
    std::string where;
    End first, second;
  };

  void record(const void* address, size_t bytes, Kind kind, bool pending, const void* place);
  void record_in(Accesses& accesses, uintptr_t address, const Access& access);
  void end_pending(const void* address, size_t bytes);
  bool in_order(const Access& access, unsigned thread) const;
  bool in_order_with_block(const Access& access, const Thread& thread) const;
  void settle_doubt();
  void report(const Race& race);
  End end_of(const Access& access) const;

  bool strict_ = false;
  History history_;
  CallTree calls_;
  std::vector<Thread> threads_;
  Times acquired_;                       // by the running block, before its last barrier
  std::map<uintptr_t, Times> released_;  // to an address
  uint32_t time_ = 1, last_barrier_ = 0;
  std::vector<dim3> blocks_;  // of the launch, those that have begun
  uintptr_t shared_ = 0;
  size_t shared_bytes_ = 0;
  Doubt doubt_;
  std::set<std::tuple<const void*, const void*, Kind, Kind>> known_;
  std::vector<Found> found_;
};

// The one that observes.
Races& checker();

}  // namespace races
