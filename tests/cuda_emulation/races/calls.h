// Where an access is: the calls that led there, and their places in the source.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace races {

// Numbered chains of calls, which share most of their calls.
class CallTree {
 public:
  static constexpr uint32_t kRoot = 0;

  // The chain `call` followed by a function that is called at `place`.
  uint32_t enter(uint32_t call, const void* place);
  uint32_t caller(uint32_t call) const { return nodes_[call].caller; }
  // Innermost first.
  std::vector<const void*> places(uint32_t call) const;

 private:
  struct Node {
    uint32_t caller;
    const void* place;
  };
  struct Key {
    uint32_t caller;
    const void* place;
    bool operator==(const Key& other) const {
      return caller == other.caller && place == other.place;
    }
  };
  struct Hash {
    size_t operator()(const Key& key) const {
      return (reinterpret_cast<uintptr_t>(key.place) ^ (size_t{key.caller} << 32)) *
             size_t{0x9e3779b97f4a7c15};
    }
  };
  std::vector<Node> nodes_{{kRoot, nullptr}};
  std::unordered_map<Key, uint32_t, Hash> numbers_;
};

struct Place {
  std::string kernel;
  std::string lines;  // "argmax/cuda/cells.cuh:80 < argmax/cuda/kernels.cuh:45", innermost first
};

// Finds the return addresses of calls, innermost first, in this project's sources. Runs addr2line.
Place place_of(const std::vector<const void*>& places);

}  // namespace races
