// The events of a launch, for those who check more than the emulation does itself (../races).
#pragma once

#include <cstddef>

#include "cuda_emulation.h"

namespace cuda_emulation {

// `place` is where a kernel calls the function. Plain accesses are not among these events: the
// compiler reports them.
struct Observer {
  virtual ~Observer() = default;

  virtual void launch_begins(const unsigned char* /*shared*/, size_t /*bytes*/) {}
  virtual void block_begins(unsigned /*threads*/) {}
  // All threads of the block have reached a barrier; all named lanes of the warp that begins with
  // thread `first` have reached a collective.
  virtual void barrier() {}
  virtual void collective(Collective /*kind*/, unsigned /*first*/, unsigned /*mask*/) {}

  // By the running thread:
  virtual void atomic(const void* /*address*/, size_t /*bytes*/, const void* /*place*/) {}
  virtual void fence() {}
  virtual void copy_begins(const void* /*shared*/, const void* /*global*/, size_t /*bytes*/,
                           const void* /*place*/) {}
  virtual void copy_ends(const void* /*shared*/, const void* /*global*/, size_t /*bytes*/) {}

  // Called after the launches of an entry point: throws what was found in them.
  virtual void finish() {}
};
extern Observer* observer;

}  // namespace cuda_emulation
