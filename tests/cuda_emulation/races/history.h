// What threads did to the memory of a launch: for every four bytes, the accesses that a later
// access may still collide with.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

namespace races {

enum class Kind : uint8_t { kRead, kWrite, kAtomic };

inline bool collide(Kind a, Kind b) { return a == Kind::kWrite || b == Kind::kWrite || a != b; }
// Whether everything that collides with `b` collides with `a`.
inline bool covers(Kind a, Kind b) { return a == b || a == Kind::kWrite; }

struct Access {
  uint32_t block;  // by number, in the order in which blocks begin
  uint32_t time;   // on a clock that advances with everything that orders accesses
  const void* place;
  uint32_t call;  // the chain of functions it is in, see CallTree
  uint32_t size;  // of the whole access
  uint16_t thread;
  uint8_t bytes;  // one bit for each of the four
  Kind kind;
  bool pending;  // part of a copy in flight: at any time from its beginning on
};

// The accesses to four bytes.
using Accesses = std::vector<Access>;

class History {
 public:
  static constexpr uintptr_t kBytes = 4;

  // Forgets everything.
  void clear() {
    ++generation_;
    if (pages_.size() > kMostPagesKept) {
      pages_.clear();
      last_ = nullptr;
    }
  }

  // The accesses to the four bytes at an address, which is a multiple of four.
  Accesses& at(uintptr_t address) {
    const uintptr_t number = address / kPageBytes;
    if (number != last_number_ || last_ == nullptr) {
      std::unique_ptr<Page>& page = pages_[number];
      if (page == nullptr) {
        page = std::make_unique<Page>();
      }
      last_number_ = number;
      last_ = page.get();
    }
    Entry& entry = (*last_)[address % kPageBytes / kBytes];
    if (entry.generation != generation_) {
      entry.generation = generation_;
      entry.accesses.clear();
    }
    return entry.accesses;
  }

 private:
  static constexpr uintptr_t kPageBytes = 4096;
  static constexpr size_t kMostPagesKept = 1024;
  struct Entry {
    uint32_t generation = 0;
    Accesses accesses;
  };
  using Page = std::array<Entry, kPageBytes / kBytes>;

  uint32_t generation_ = 1;
  uintptr_t last_number_ = 0;
  Page* last_ = nullptr;
  std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages_;
};

}  // namespace races
