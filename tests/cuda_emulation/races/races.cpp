#include "races.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "errors.h"
#include "fibers.h"

namespace races {

namespace {

bool on_own_stack(const void* address) {
  const unsigned char* bottom = cuda_emulation::team.running->stack->bottom();
  return address >= bottom && address < bottom + cuda_emulation::Stack::kBytes;
}

// Whether everything in order with both of a block's accesses since its last barrier is also in
// order with a third: what their warps do not order, a barrier does, and that orders all three.
bool meet_nowhere(const Access& a, const Access& b) { return a.thread / 32 != b.thread / 32; }

void merge(std::map<uint32_t, uint32_t>& to, const std::map<uint32_t, uint32_t>& from) {
  for (const auto& [block, time] : from) {
    uint32_t& known = to[block];
    known = std::max(known, time);
  }
}

const char* name_of(const Access& access) {
  switch (access.kind) {
    case Kind::kAtomic:
      return "an atomic operation";
    case Kind::kWrite:
      return access.pending ? "an unfinished copy's write" : "a write";
    default:
      return access.pending ? "an unfinished copy's read" : "a read";
  }
}

}  // namespace

// ---------------------------------------------------------------- what orders accesses

void Races::launch_begins(const unsigned char* shared, size_t bytes) {
  history_.clear();
  doubt_.races.clear();
  time_ = 1;
  last_barrier_ = 0;
  blocks_.clear();
  released_.clear();
  shared_ = reinterpret_cast<uintptr_t>(shared);
  shared_bytes_ = bytes;
}

void Races::block_begins(unsigned threads) {
  // Every block has shared memory of its own, although all blocks have it at one address here.
  for (uintptr_t at = shared_; at < shared_ + shared_bytes_; at += History::kBytes) {
    history_.at(at).clear();
  }
  blocks_.push_back(cuda_emulation::block.index);
  threads_.assign(threads, Thread());
  acquired_.clear();
}

void Races::barrier() {
  last_barrier_ = time_++;
  for (Thread& thread : threads_) {
    merge(acquired_, thread.acquired);
    thread.acquired.clear();
  }
}

void Races::fence() {
  Thread& thread = threads_[cuda_emulation::team.running->linear];
  merge(thread.acquired, thread.met);
  thread.met.clear();
  thread.released = acquired_;
  merge(thread.released, thread.acquired);
  thread.released[static_cast<uint32_t>(blocks_.size() - 1)] = last_barrier_;
}

void Races::collective(cuda_emulation::Collective kind, unsigned first, unsigned mask) {
  if (strict_ && kind != cuda_emulation::Collective::kSyncWarp) {
    return;
  }
  std::array<uint32_t, 32> ordered{};
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) != 0) {
      for (unsigned other = 0; other < 32; ++other) {
        ordered[other] = std::max(ordered[other], threads_[first + lane].ordered[other]);
      }
    }
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    ordered[lane] = (mask >> lane & 1) != 0 ? time_ : ordered[lane];
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) != 0) {
      threads_[first + lane].ordered = ordered;
    }
  }
  ++time_;
}

bool Races::in_order(const Access& access, unsigned thread) const {
  if (access.pending) {
    return false;
  }
  if (access.block + 1 != blocks_.size()) {
    return in_order_with_block(access, threads_[thread]);
  }
  return access.thread == thread || access.time <= last_barrier_ ||
         (access.thread / 32 == thread / 32 &&
          access.time <= threads_[thread].ordered[access.thread % 32]);
}

bool Races::in_order_with_block(const Access& access, const Thread& thread) const {
  for (const Times* times : {&acquired_, &thread.acquired}) {
    const auto known = times->find(access.block);
    if (known != times->end() && access.time <= known->second) {
      return true;
    }
  }
  return false;
}

// ---------------------------------------------------------------- accesses

void Races::access(const void* address, size_t bytes, Kind kind, const void* place) {
  if (cuda_emulation::team.running != nullptr && bytes > 0 && !on_own_stack(address)) {
    record(address, bytes, kind, false, place);
  }
}

void Races::atomic(const void* address, size_t bytes, const void* place) {
  access(address, bytes, Kind::kAtomic, place);
  Thread& thread = threads_[cuda_emulation::team.running->linear];
  Times& released = released_[reinterpret_cast<uintptr_t>(address)];
  merge(thread.met, released);
  merge(released, thread.released);
}

void Races::copy_begins(const void* shared, const void* global, size_t bytes, const void* place) {
  record(global, bytes, Kind::kRead, true, place);
  record(shared, bytes, Kind::kWrite, true, place);
}

void Races::copy_ends(const void* shared, const void* global, size_t bytes) {
  end_pending(global, bytes);
  end_pending(shared, bytes);
}

void Races::record(const void* address, size_t bytes, Kind kind, bool pending, const void* place) {
  settle_doubt();
  const unsigned thread = cuda_emulation::team.running->linear;
  Access access{};
  access.block = static_cast<uint32_t>(blocks_.size() - 1);
  access.time = time_;
  access.call = threads_[thread].call;
  access.place = place;
  access.thread = static_cast<uint16_t>(thread);
  access.size = static_cast<uint32_t>(bytes);
  access.kind = kind;
  access.pending = pending;
  const auto begin = reinterpret_cast<uintptr_t>(address), end = begin + bytes;
  for (uintptr_t at = begin / History::kBytes * History::kBytes; at < end; at += History::kBytes) {
    const uintptr_t from = at < begin ? begin - at : 0;
    const uintptr_t to = end - at < History::kBytes ? end - at : History::kBytes;
    access.bytes = static_cast<uint8_t>((1u << to) - (1u << from));
    record_in(history_.at(at), at + from, access);
  }
  if (!doubt_.races.empty()) {
    doubt_.address = static_cast<const unsigned char*>(address);
    doubt_.before.assign(doubt_.address, doubt_.address + bytes);
  }
}

void Races::record_in(Accesses& accesses, uintptr_t address, const Access& access) {
  const Access* apart = nullptr;  // an old access that collides with all that this one does
  bool redundant = false;
  size_t kept = 0;
  for (size_t k = 0; k < accesses.size(); ++k) {
    const Access& old = accesses[k];
    const bool ordered = in_order(old, access.thread);
    if (!ordered && (old.bytes & access.bytes) != 0 && collide(old.kind, access.kind)) {
      const bool writes = old.kind == Kind::kWrite && access.kind == Kind::kWrite;
      if (writes && !old.pending && !access.pending && old.size == access.size &&
          old.bytes == access.bytes) {
        doubt_.races.push_back({address, old, access});
      } else {
        report({address, old, access});
      }
    }
    if (ordered && covers(access.kind, old.kind) && (old.bytes & ~access.bytes) == 0) {
      continue;  // what collides with the old one collides with the new one
    }
    if (!ordered && covers(old.kind, access.kind) && (access.bytes & ~old.bytes) == 0) {
      if (old.block == access.block) {
        redundant = redundant || (apart != nullptr && meet_nowhere(*apart, old));
        apart = apart == nullptr ? &accesses[kept] : apart;
      }
    }
    accesses[kept++] = old;
  }
  accesses.resize(kept);
  if (!redundant) {
    accesses.push_back(access);
  }
}

void Races::end_pending(const void* address, size_t bytes) {
  settle_doubt();
  const auto begin = reinterpret_cast<uintptr_t>(address);
  const unsigned thread = cuda_emulation::team.running->linear;
  for (uintptr_t at = begin; at < begin + bytes; at += History::kBytes) {
    for (Access& access : history_.at(at)) {
      if (access.pending && access.thread == thread && access.block + 1 == blocks_.size()) {
        access.pending = false;
        access.time = time_;
      }
    }
  }
}

// ---------------------------------------------------------------- what was found

void Races::settle_doubt() {
  if (doubt_.races.empty()) {
    return;
  }
  if (std::memcmp(doubt_.address, doubt_.before.data(), doubt_.before.size()) != 0) {
    for (const Race& race : doubt_.races) {
      report(race);
    }
  }
  doubt_.races.clear();
}

void Races::report(const Race& race) {
  const Access &first = race.first, &second = race.second;
  if (!known_.emplace(first.place, second.place, first.kind, second.kind).second) {
    return;
  }
  const bool shared = race.address >= shared_ && race.address < shared_ + shared_bytes_;
  char place[64];
  std::snprintf(place, sizeof(place),
                shared ? "byte %zu of shared memory" : "global memory at 0x%zx",
                static_cast<size_t>(shared ? race.address - shared_ : race.address));
  found_.push_back({place, end_of(first), end_of(second)});
}

Races::End Races::end_of(const Access& access) const {
  const dim3 size = cuda_emulation::block.size;
  const dim3 thread(access.thread % size.x, access.thread / size.x % size.y,
                    access.thread / (size.x * size.y));
  End end;
  end.who = std::string(name_of(access)) + " of " + std::to_string(access.size) +
            (access.size == 1 ? " byte" : " bytes") + " by thread " + cuda_emulation::text(thread) +
            " of block " + cuda_emulation::text(blocks_[access.block]);
  end.places = calls_.places(access.call);
  end.places.insert(end.places.begin(), access.place);
  return end;
}

void Races::enter(const void* place) {
  if (cuda_emulation::team.running != nullptr) {
    uint32_t& call = threads_[cuda_emulation::team.running->linear].call;
    call = calls_.enter(call, place);
  }
}

void Races::leave() {
  if (cuda_emulation::team.running != nullptr) {
    settle_doubt();
    uint32_t& call = threads_[cuda_emulation::team.running->linear].call;
    call = calls_.caller(call);
  }
}

void Races::finish() {
  std::string message;
  for (const Found& found : found_) {
    const Place first = place_of(found.first.places), second = place_of(found.second.places);
    message += "race in " + second.kernel + ", " + found.where + ":\n  " + found.first.who +
               "\n    at " + first.lines + "\n  " + found.second.who + "\n    at " + second.lines +
               "\n";
  }
  found_.clear();
  known_.clear();
  if (!message.empty()) {
    throw std::runtime_error(message);
  }
}

Races& checker() {
  static Races races;
  return races;
}

namespace {
const bool observing = (cuda_emulation::observer = &checker()) != nullptr;
}

}  // namespace races

extern "C" int races_set_strict(int64_t strict) {
  races::checker().set_strict(strict != 0);
  return 0;
}
