// Barriers of a block and collectives of a warp: who waits for whom, and what can go wrong.
#include <cstring>

#include "errors.h"
#include "fibers.h"
#include "observer.h"

namespace cuda_emulation {

namespace {

bool names(unsigned mask, unsigned lane) { return (mask >> lane & 1) != 0; }

// The fiber of a lane in the warp that begins with thread `first`; null past the block's end.
Fiber* lane_of(unsigned first, unsigned lane) {
  return first + lane < team.size ? team.fibers[first + lane].get() : nullptr;
}

bool wait_together(const Fiber& a, const Fiber& b) {
  return a.state == State::kCollective && b.state == State::kCollective && a.kind == b.kind &&
         a.mask == b.mask && a.site.line == b.site.line;
}

uint64_t result_for(const Fiber& fiber, unsigned first) {
  if (fiber.kind == Collective::kSyncWarp) {
    return 0;
  }
  if (fiber.kind == Collective::kShuffle) {
    return team.fibers[first + static_cast<unsigned>(fiber.source)]->value;
  }
  uint64_t lanes = 0;
  for (unsigned from = 0; from < 32; ++from) {
    if (names(fiber.mask, from)) {
      const uint64_t other = team.fibers[first + from]->value;
      const bool set = fiber.kind == Collective::kBallot ? other != 0 : other == fiber.value;
      lanes |= uint64_t{set} << from;
    }
  }
  return lanes;
}

std::string describe_missing_lanes(const Fiber& fiber) {
  std::string missing;
  for (unsigned lane = 0; lane < 32; ++lane) {
    const Fiber* other = lane_of(fiber.linear / 32 * 32, lane);
    if (!names(fiber.mask, lane) || (other != nullptr && wait_together(fiber, *other))) {
      continue;
    }
    const bool returned = other == nullptr || other->state == State::kReturned;
    missing = "lane " + std::to_string(lane) +
              (returned ? " has returned" : " waits at " + text(other->site));
  }
  return "warp divergence: " + where(fiber) + " waits at " + text(fiber.site) +
         " for lanes that do not come: " + missing;
}

}  // namespace

std::string describe_deadlock() {
  for (unsigned i = 0; i < team.size; ++i) {
    if (team.fibers[i]->state == State::kCollective) {
      return describe_missing_lanes(*team.fibers[i]);
    }
  }
  for (unsigned i = 0; i < team.size; ++i) {
    const Fiber& fiber = *team.fibers[i];
    if (fiber.state == State::kBarrier) {
      return "barrier divergence: " + where(fiber) + " waits at " + text(fiber.site) + " while " +
             std::to_string(team.returned) + " threads of the block have returned";
    }
  }
  return "";
}

void barrier(Site site) {
  for (unsigned i = 0; i < team.size && team.at_barrier > 0; ++i) {
    const Fiber& other = *team.fibers[i];
    if (other.state == State::kBarrier) {
      if (other.site.line != site.line || std::strcmp(other.site.file, site.file) != 0) {
        fail("barrier divergence: a thread waits at " + text(other.site) + ", another at " +
             text(site));
      }
      break;
    }
  }
  Fiber& self = *team.running;
  self.state = State::kBarrier;
  self.site = site;
  if (++team.at_barrier == team.size) {
    team.at_barrier = 0;
    observer->barrier();
    for (unsigned i = 0; i < team.size; ++i) {
      wake(*team.fibers[i]);
    }
  }
  leave();
}

uint64_t collective(Collective kind, unsigned mask, uint64_t value, int source, Site site) {
  Fiber& self = *team.running;
  const unsigned lane = self.linear % 32;
  const unsigned first = self.linear - lane;
  if (!names(mask, lane)) {
    fail("warp divergence: lane " + std::to_string(lane) + " takes part at " + text(site) +
         " but its mask does not name it");
  }
  if (kind == Collective::kShuffle && !names(mask, static_cast<unsigned>(source))) {
    fail("a shuffle at " + text(site) + " reads lane " + std::to_string(source) +
         ", which its mask does not name");
  }
  self.state = State::kCollective;
  self.site = site;
  self.kind = kind;
  self.mask = mask;
  self.value = value;
  self.source = source;

  bool complete = true;
  for (unsigned other = 0; other < 32 && complete; ++other) {
    const Fiber* fiber = lane_of(first, other);
    complete = !names(mask, other) || (fiber != nullptr && wait_together(self, *fiber));
  }
  if (complete) {
    observer->collective(kind, first, mask);
    for (unsigned to = 0; to < 32; ++to) {
      if (names(mask, to)) {
        Fiber& fiber = *team.fibers[first + to];
        fiber.result = result_for(fiber, first);
        wake(fiber);
      }
    }
  }
  leave();
  return self.result;
}

}  // namespace cuda_emulation
