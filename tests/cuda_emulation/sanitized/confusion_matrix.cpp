// The confusion kernels on memory of exactly the size that they may touch.
#include <vector>

#include "cases.h"
#include "confusion_matrix/cuda/kernels.cuh"

namespace {

using namespace fcn_ext;

constexpr int64_t kClasses = 9;

// `count` elements that start `skipped` elements past a 16-byte boundary, with nothing accessible
// after them.
template <typename T>
class Elements {
 public:
  Elements(int64_t count, int64_t skipped)
      : skipped_(skipped),
        memory_(filled<T>(count + skipped, [](int64_t k) { return k / 5 % kClasses; })) {}
  const T* begin() const { return memory_.get() + skipped_; }

 private:
  int64_t skipped_;
  std::unique_ptr<T[]> memory_;
};

struct Result {
  std::vector<int64_t> matrix = std::vector<int64_t>(kClasses * kClasses);
  std::unique_ptr<int64_t> invalid = std::make_unique<int64_t>(0);
};

template <typename prediction_t, typename target_t>
void count_labels(int prediction_type, int target_type) {
  for (const int64_t width : {1, 17, 512, 555}) {
    for (const int64_t skipped : {0, 1}) {
      const Elements<prediction_t> prediction(2 * width, skipped);
      const Elements<target_t> target(2 * width, 0);
      Result result;
      launch_count_labels({1, 2, width}, {prediction.begin(), prediction_type, {0, width, 1}},
                          {target.begin(), target_type, {0, width, 1}}, kClasses, 255,
                          result.matrix.data(), result.invalid.get(), nullptr);
      // Column-major: no two pixels of a row are neighbors.
      launch_count_labels({1, 2, width}, {prediction.begin(), prediction_type, {0, 1, 2}},
                          {target.begin(), target_type, {0, width, 1}}, kClasses, 255,
                          result.matrix.data(), result.invalid.get(), nullptr);
    }
  }
}

template <typename scalar_t>
void count_logits(int type) {
  for (const int64_t width : {1, 13, 32, 70}) {
    for (const int64_t skipped : {0, 1}) {
      const Elements<scalar_t> scores(kClasses * 2 * width, skipped);
      const Elements<uint8_t> target(2 * width, 0);
      const LabelMap labels{target.begin(), 0, {0, width, 1}};
      Result result;
      launch_count_logits({1, 2, width}, {scores.begin(), type, kClasses, {0, 2 * width, width, 1}},
                          labels, 255, result.matrix.data(), result.invalid.get(), nullptr);
      launch_count_logits({1, 2, width},
                          {scores.begin(), type, kClasses, {0, 1, width * kClasses, kClasses}},
                          labels, 255, result.matrix.data(), result.invalid.get(), nullptr);
    }
  }
}

void run() {
  cuda_emulation::device().multiprocessors = 1;
  count_labels<uint8_t, uint8_t>(0, 0);
  count_labels<uint8_t, int64_t>(0, 3);
  count_labels<int32_t, int16_t>(2, 1);
  count_logits<float>(0);
  count_logits<double>(1);
  count_logits<c10::Half>(2);
}

const bool added = add_case("confusion_matrix", run);

}  // namespace
