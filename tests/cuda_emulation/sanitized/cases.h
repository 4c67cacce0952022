// Cases of the program that runs kernels under AddressSanitizer, one case per process. A file
// registers its own with `const bool added = add_case("name", function);`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

bool add_case(const char* name, void (*run)());

// `count` elements with nothing accessible before or after them; the k-th is value_of(k), a float.
template <typename T, typename ValueOf>
std::unique_ptr<T[]> filled(int64_t count, ValueOf value_of) {
  auto memory = std::make_unique<T[]>(static_cast<size_t>(count));
  for (int64_t k = 0; k < count; ++k) {
    memory[k] = static_cast<T>(static_cast<float>(value_of(k)));
  }
  return memory;
}
