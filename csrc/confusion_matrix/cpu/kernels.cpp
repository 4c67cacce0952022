// Confusion counts on CPU, compiled once per instruction set (common/cpu/capability.h).
//
// Label maps are piecewise constant: a block of pixels with one (target, prediction) pair is
// recognized by vector compares and counted in one step. Any other block computes its bins as a
// vector, then increments them one by one, over several histograms in turn so that consecutive
// pixels of one class do not wait for each other.
#include "confusion_matrix/cpu/kernels.h"

#include "common/cpu/element.h"

namespace fcn_ext {
namespace {

constexpr int64_t kBlock = 32;
constexpr int64_t kAheadBytes = 8192;

// Labels are compared in the narrowest type that holds both, so that more of them fit a register.
template <int bytes>
struct Wide {
  using signed_t = int32_t;
  using unsigned_t = uint32_t;
};
template <>
struct Wide<8> {
  using signed_t = int64_t;
  using unsigned_t = uint64_t;
};

template <typename prediction_t, typename target_t>
struct Pixels {
  using wide =
      Wide<(sizeof(prediction_t) > sizeof(target_t) ? sizeof(prediction_t) : sizeof(target_t))>;
  using signed_t = typename wide::signed_t;
  using unsigned_t = typename wide::unsigned_t;

  const prediction_t* __restrict prediction;
  const target_t* __restrict target;

  // Prefetches labels two pages ahead: the processor's prefetchers stop at the end of a page, and
  // the counting in between is too long for loads to run ahead.
  void fetch_ahead(int64_t begin) const {
    fetch_block(prediction + begin);
    fetch_block(target + begin);
  }

  bool uniform(int64_t begin) const {
    const prediction_t p = prediction[begin];
    const target_t t = target[begin];
    signed_t differs = 0;
    for (int64_t i = 0; i < kBlock; ++i) {
      differs |= static_cast<signed_t>(prediction[begin + i] ^ p) |
                 static_cast<signed_t>(target[begin + i] ^ t);
    }
    return differs == 0;
  }

  template <typename label_t>
  static void fetch_block(const label_t* block) {
    const auto* ahead = reinterpret_cast<const char*>(block) + kAheadBytes;
    for (uint64_t byte = 0; byte < kBlock * sizeof(label_t); byte += 64) {
      __builtin_prefetch(ahead + byte, 0, 2);
    }
  }

  // The bin of pixel i: num_classes^2 if it is ignored, one more if it is invalid.
  uint32_t bin(int64_t i, unsigned_t classes, bool ignores, signed_t ignored) const {
    const auto t = static_cast<signed_t>(target[i]);
    const auto p = static_cast<signed_t>(prediction[i]);
    const bool valid =
        (static_cast<unsigned_t>(t) < classes) & (static_cast<unsigned_t>(p) < classes);
    const auto counted =
        static_cast<uint32_t>(t) * static_cast<uint32_t>(classes) + static_cast<uint32_t>(p);
    const auto dropped = static_cast<uint32_t>(classes) * static_cast<uint32_t>(classes);
    const uint32_t bin = valid ? counted : dropped + 1;
    return (ignores & (t == ignored)) ? dropped : bin;
  }
};

inline void add_atomically(ConfusionCounts& counts, uint32_t bin, int64_t pixels) {
  const auto dropped = static_cast<uint32_t>(counts.num_classes * counts.num_classes);
  if (bin < dropped) {
    __atomic_fetch_add(counts.matrix + bin, pixels, __ATOMIC_RELAXED);
  } else if (bin > dropped) {
    counts.invalid += pixels;
  }
}

inline void add_run(ConfusionCounts& counts, uint32_t bin, int64_t pixels) {
  if (counts.histogram != nullptr) {
    counts.histogram[bin] += static_cast<uint32_t>(pixels);
  } else {
    add_atomically(counts, bin, pixels);
  }
}

template <typename prediction_t, typename target_t>
void count(const void* prediction, const void* target, int64_t n, ConfusionCounts& counts) {
  using pixels_t = Pixels<prediction_t, target_t>;
  using signed_t = typename pixels_t::signed_t;
  const pixels_t pixels{static_cast<const prediction_t*>(prediction),
                        static_cast<const target_t*>(target)};
  const auto classes = static_cast<typename pixels_t::unsigned_t>(counts.num_classes);
  const auto ignored = static_cast<signed_t>(counts.ignore_index);
  const bool ignores = static_cast<int64_t>(ignored) == counts.ignore_index;
  const int64_t bins = counts.num_classes * counts.num_classes + 2;
  const auto dropped = static_cast<uint32_t>(counts.num_classes * counts.num_classes);

  uint32_t region = dropped;  // the bin of the latest uniform blocks
  int64_t in_region = 0;
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    pixels.fetch_ahead(i);
    if (pixels.uniform(i)) {
      const uint32_t bin = pixels.bin(i, classes, ignores, ignored);
      if (bin != region) {
        add_run(counts, region, in_region);
        region = bin;
        in_region = 0;
      }
      in_region += kBlock;
      continue;
    }
    uint32_t bin[kBlock];
    for (int64_t k = 0; k < kBlock; ++k) {
      bin[k] = pixels.bin(i + k, classes, ignores, ignored);
    }
    if (counts.histogram != nullptr) {
      for (int64_t k = 0; k < kBlock; ++k) {
        ++counts.histogram[k % ConfusionCounts::kCopies * bins + bin[k]];
      }
    } else if (counts.bytes != nullptr) {
      for (int64_t k = 0; k < kBlock; ++k) {
        if (++counts.bytes[bin[k]] == 0) {
          add_atomically(counts, bin[k], UINT8_MAX + 1);
        }
      }
    } else {
      // An atomic addition waits for its memory. Prefetched together, all bins arrive together.
      for (int64_t k = 0; k < kBlock; ++k) {
        __builtin_prefetch(counts.matrix + (bin[k] < dropped ? bin[k] : 0), 1);
      }
      int64_t run = 1;
      for (int64_t k = 1; k <= kBlock; ++k, ++run) {
        if (k == kBlock || bin[k] != bin[k - 1]) {
          add_atomically(counts, bin[k - 1], run);
          run = 0;
        }
      }
    }
  }
  add_run(counts, region, in_region);
  for (; i < n; ++i) {
    add_run(counts, pixels.bin(i, classes, ignores, ignored), 1);
  }
}

// Compares n pixels, `column` elements apart, of channel `index` with the best so far.
template <bool first, typename element_t, typename accumulate_t, typename index_t>
inline void compare_channel(const element_t* __restrict from, int64_t column, int64_t n,
                            index_t index, accumulate_t* __restrict best,
                            index_t* __restrict winner) {
  for (int64_t i = 0; i < n; ++i) {
    const accumulate_t value = load(from[i * column]);
    const bool better = first || (!(value <= best[i]) & (best[i] == best[i]));
    best[i] = better ? value : best[i];
    winner[i] = better ? index : winner[i];
  }
}

template <typename element_t>
void argmax(const LogitsRun& run, int64_t n, int32_t* __restrict prediction) {
  using accumulate_t = typename Accumulate<element_t>::type;
  using index_t = typename Wide<sizeof(accumulate_t)>::signed_t;
  accumulate_t best[kArgmaxRun];
  index_t winner[kArgmaxRun];
  for (int64_t c = 0; c < run.channels; ++c) {
    const element_t* from = static_cast<const element_t*>(run.data) + c * run.channel;
    const auto index = static_cast<index_t>(c);
    if (run.column != 1) {
      c == 0 ? compare_channel<true>(from, run.column, n, index, best, winner)
             : compare_channel<false>(from, run.column, n, index, best, winner);
      continue;
    }
    // The next channel is pages away: too far for the processor's prefetchers.
    for (int64_t i = 0; i < n; i += 64 / sizeof(element_t)) {
      __builtin_prefetch(from + run.channel + i, 0, 2);
    }
    c == 0 ? compare_channel<true>(from, 1, n, index, best, winner)
           : compare_channel<false>(from, 1, n, index, best, winner);
  }
  for (int64_t i = 0; i < n; ++i) {
    prediction[i] = static_cast<int32_t>(winner[i]);
  }
}

}  // namespace

extern const ConfusionMatrixKernels FCN_EXT_CAPABILITY_NAME(confusion_matrix_kernels);
const ConfusionMatrixKernels FCN_EXT_CAPABILITY_NAME(confusion_matrix_kernels) = {
    {{count<uint8_t, uint8_t>, count<uint8_t, int16_t>, count<uint8_t, int32_t>,
      count<uint8_t, int64_t>},
     {count<int16_t, uint8_t>, count<int16_t, int16_t>, count<int16_t, int32_t>,
      count<int16_t, int64_t>},
     {count<int32_t, uint8_t>, count<int32_t, int16_t>, count<int32_t, int32_t>,
      count<int32_t, int64_t>},
     {count<int64_t, uint8_t>, count<int64_t, int16_t>, count<int64_t, int32_t>,
      count<int64_t, int64_t>}},
    {argmax<float>, argmax<double>, argmax<HalfBits>, argmax<BFloat16Bits>}};

}  // namespace fcn_ext
