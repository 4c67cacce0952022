// Finds accesses to the same memory that nothing orders.
//
// Kernels are compiled with -fsanitize=thread, which makes the compiler call a function before
// every access, and linked with callbacks.cpp instead of the sanitizer's own library. Nothing
// depends on the order in which the emulation happens to run threads: a race is found whenever a
// launch makes both accesses, by these rules.
//
// Two accesses by different threads to a byte of shared or global memory, at least one of them a
// write and not both atomic, are a race unless
//   - a __syncthreads comes between them, or a __syncwarp whose mask names both lanes;
//   - a shuffle or vote that names both lanes comes between them. CUDA does not promise that these
//     order memory; by the strict rule they do not;
//   - they are writes of the same size that leave the same value, as by threads that set a flag;
//   - they are in different blocks, one of which arrives at an address where the other meets it. A
//     block arrives by an atomic operation after a __threadfence, with everything that precedes the
//     last barrier before the fence. A thread meets those that arrived before at the address of its
//     own atomic operation, once a __threadfence follows; its block meets them at the next barrier.
//     A block also arrives with everything that it has met.
// Nothing else orders threads of different blocks; different launches are always ordered. A copy
// with __pipeline_memcpy_async may write at any time until its thread has waited for it, and then
// counts as that thread's write: its own thread must not touch the memory before, and other threads
// not before the next barrier. Memory on a thread's own stack is private and not checked.
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
  // Whether __syncwarp is the only warp function that orders memory.
  void set_strict(bool strict) { strict_ = strict; }

  // By the running thread: an access that is about to happen, a call, and the return from it.
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
  // Unordered writes of the same size to one place, and what was there before the last one.
  struct Doubt {
    std::vector<Race> races;
    const unsigned char* address = nullptr;
    std::vector<unsigned char> before;
  };
  // Per block: up to which time its accesses are in order with what comes.
  using Times = std::map<uint32_t, uint32_t>;
  struct Thread {
    uint32_t call = CallTree::kRoot;
    // Per lane of its warp: up to which time the lane's accesses are in order with this thread.
    std::array<uint32_t, 32> ordered{};
    Times met;       // by atomic operations, and by a fence after them:
    Times acquired;  // since the last barrier
    Times released;  // by its last fence, to those who meet its later atomic operations
  };
  // One end of a race, for the message.
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
  std::map<uintptr_t, Times> released_;  // per address
  uint32_t time_ = 1, last_barrier_ = 0;
  std::vector<dim3> blocks_;  // the blocks of the launch that have begun
  uintptr_t shared_ = 0;
  size_t shared_bytes_ = 0;
  Doubt doubt_;
  std::set<std::tuple<const void*, const void*, Kind, Kind>> known_;
  std::vector<Found> found_;
};

// The instance that observes launches.
Races& checker();

}  // namespace races
