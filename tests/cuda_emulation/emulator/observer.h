// What happens in a launch, for whoever looks for more than the emulation does itself (../races).
#pragma once

#include <cstddef>

#include "cuda_emulation.h"

namespace cuda_emulation {

// `place` is where a kernel calls the function. Plain accesses are not among this: the compiler
// reports them to whoever wants them.
struct Observer {
  virtual ~Observer() = default;

  virtual void launch_begins(const unsigned char* /*shared*/, size_t /*bytes*/) {}
  virtual void block_begins(unsigned /*threads*/) {}
  // All threads of the block have come to a barrier; all named lanes of the warp that begins with
  // thread `first` to a collective.
  virtual void barrier() {}
  virtual void collective(Collective /*kind*/, unsigned /*first*/, unsigned /*mask*/) {}

  // Of the running thread.
  virtual void atomic(const void* /*address*/, size_t /*bytes*/, const void* /*place*/) {}
  virtual void fence() {}
  virtual void copy_begins(const void* /*shared*/, const void* /*global*/, size_t /*bytes*/,
                           const void* /*place*/) {}
  virtual void copy_ends(const void* /*shared*/, const void* /*global*/, size_t /*bytes*/) {}

  // After the launches of an entry point: throws what was found in them.
  virtual void finish() {}
};
extern Observer* observer;

}  // namespace cuda_emulation
