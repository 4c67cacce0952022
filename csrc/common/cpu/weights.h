// A table of weights in the accumulation type of a map, as CPU kernels read it.
#pragma once

#include <cstdint>
#include <vector>

namespace fcn_ext {

class WeightTable {
 public:
  WeightTable() = default;
  WeightTable(int64_t count, bool in_double)
      : in_double_(in_double), bytes_(count * (in_double ? sizeof(double) : sizeof(float))) {}

  void set(int64_t index, double weight) {
    if (in_double_) {
      reinterpret_cast<double*>(bytes_.data())[index] = weight;
    } else {
      reinterpret_cast<float*>(bytes_.data())[index] = static_cast<float>(weight);
    }
  }
  const void* data() const { return bytes_.data(); }

 private:
  bool in_double_ = false;
  std::vector<char> bytes_;
};

}  // namespace fcn_ext
