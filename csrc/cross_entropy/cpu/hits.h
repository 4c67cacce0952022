// Counts the pixels whose label has the greatest score, by the rules of argmax/cpu/cells.h, while
// the labels of the current rows are loaded. No predictions are needed, which saves much of the
// work: among the classes below and above the labels of a group only the highest score matters, and
// the cells of a group mostly share a label. For kernels.cpp only.
#pragma once

#include "argmax/cpu/cells.h"
#include "argmax/cpu/exact.h"
#include "softmax/cpu/strip.h"

namespace fcn_ext {
namespace {

// Lane i: labels[at[i] - base], -1 where at[i] < 0.
template <typename accumulate_t>
inline Integers<accumulate_t> gather_labels(const int32_t* labels, const int32_t* at,
                                            int32_t base) {
#if defined(__AVX512F__)
  if constexpr (sizeof(accumulate_t) == 4) {
    const __m512i index = _mm512_loadu_si512(at);
    const __mmask16 present = _mm512_cmpge_epi32_mask(index, _mm512_setzero_si512());
    return (Integers<accumulate_t>)_mm512_mask_i32gather_epi32(
        _mm512_set1_epi32(-1), present, _mm512_sub_epi32(index, _mm512_set1_epi32(base)), labels,
        4);
  }
#endif
  Integers<accumulate_t> lanes;
  for (int64_t i = 0; i < kWidth<accumulate_t>; ++i) {
    lanes[i] = at[i] < 0 ? -1 : labels[at[i] - base];
  }
  return lanes;
}

template <typename accumulate_t>
class Hits {
  using lanes_t = Register<accumulate_t>;
  using integers_t = Integers<accumulate_t>;
  using integer_t = typename IntegersOf<accumulate_t>::one;
  static constexpr int64_t kStep = kWidth<accumulate_t>;

 public:
  int64_t counted = 0, right = 0;  // pixels

  // Takes no memory unless hits are `wanted`.
  Hits(const Strip<accumulate_t>& given, bool wanted, Scratch& scratch) : strip(given) {
    const int64_t classes = wanted ? strip.work.shape.channels : 0;
    for (auto& row : rows) {
      row = {scratch.take<accumulate_t>(classes * strip.pitch),
             scratch.take<accumulate_t>(wanted ? strip.pitch : 0)};
    }
    survivors = scratch.take<int32_t>(classes);
  }

  // Loads padded node row q, `which` of two.
  void load(int64_t q, int which) const {
    load_row(strip.input, q, strip.first_cell, strip.cells + 1, strip.pitch, rows[which]);
  }

  // Counts in the current rows, which lie between padded node rows q and q + 1.
  void add(int64_t q, int above, int below) {
    const CellAxis &y = strip.work.y, &x = strip.work.x;
    for (int64_t first = 0; first < strip.cells; first += kStep) {
      const int64_t some = strip.cells - first < kStep ? strip.cells - first : kStep;
      const int64_t cell = strip.first_cell + first;
      const Labels labels = labels_of(x.begin[cell], x.begin[cell + some]);
      counted += labels.counted;
      if (labels.counted == 0) {
        continue;
      }
      const CellGroup<accumulate_t> group{rows[above],
                                          rows[below],
                                          strip.pitch,
                                          first,
                                          some,
                                          strip.input.classes,
                                          x.on_nodes || y.on_nodes};
      const integers_t fit = group.unfit_lanes() == 0;
      const bool all_fit = !any_lane(~fit);
      const int64_t count = list_survivors(group, survivors);
      const bool masked = may_be_masked(group, survivors);
      if (all_fit && !masked && count == 1) {
        right += pixels_of(labels, survivors[0]);
      } else {
        with_rows(strip.rows.rows, [&](auto number) {
          count_pixels<decltype(number)::count>(q, group, labels, fit, count, masked);
        });
      }
      for (int64_t lane = 0; !all_fit && lane < some; ++lane) {
        if (fit[lane] == 0) {
          add_exact_cell(q, cell + lane);
        }
      }
    }
  }

 private:
  // The labels of some columns of the current rows.
  struct Labels {
    int64_t begin, end;       // columns of the output
    int64_t counted;          // pixels that count
    int32_t least, greatest;  // their labels
  };

  const Strip<accumulate_t>& strip;
  ScoreRow<accumulate_t> rows[2];
  int32_t* survivors;

  const int32_t* label_row(int64_t k) const { return strip.rows.row(k) - strip.rows.first_column; }

  Labels labels_of(int64_t begin, int64_t end) const {
    uint32_t least = UINT32_MAX;  // what a pixel that does not count is as unsigned
    int32_t greatest = -1;
    int64_t pixels = 0;
    for (int64_t k = 0; k < strip.rows.rows; ++k) {
      const int32_t* __restrict label = label_row(k);
      int32_t in_row = 0;
      for (int64_t column = begin; column < end; ++column) {
        const auto code = static_cast<uint32_t>(label[column]);
        least = code < least ? code : least;
        greatest = label[column] > greatest ? label[column] : greatest;
        in_row += label[column] >= 0 ? 1 : 0;
      }
      pixels += in_row;
    }
    return {begin, end, pixels, static_cast<int32_t>(least), greatest};
  }

  int64_t pixels_of(const Labels& labels, int32_t winner) const {
    if (labels.least == labels.greatest) {
      return labels.least == winner ? labels.counted : 0;
    }
    int64_t found = 0;
    for (int64_t k = 0; k < strip.rows.rows; ++k) {
      const int32_t* __restrict label = label_row(k);
      int32_t in_row = 0;
      for (int64_t column = labels.begin; column < labels.end; ++column) {
        in_row += label[column] == winner ? 1 : 0;
      }
      found += in_row;
    }
    return found;
  }

  // Calls body(output, weight) for every column of a group that has pixels.
  template <typename Body>
  void each_column(const CellGroup<accumulate_t>& group, const Body& body) const {
    const CellAxis& x = strip.work.x;
    for (int64_t phase = 0; phase < x.phases; ++phase) {
      const int64_t at = phase * x.pitch + strip.first_cell + group.first;
      if (any_output<accumulate_t>(x.output + at)) {
        body(x.output + at, ColumnWeights<accumulate_t>(strip.work.y, x, strip.rows.first_row, at));
      }
    }
  }

  integers_t labels_at(int64_t k, const int32_t* output) const {
    return gather_labels<accumulate_t>(strip.rows.row(k), output,
                                       static_cast<int32_t>(strip.rows.first_column));
  }

  static integers_t lanes_present(const int32_t* output) {
    integers_t places;
    if constexpr (sizeof(places) == kStep * sizeof(int32_t)) {
      __builtin_memcpy(&places, output, sizeof(places));
    } else {
      for (int64_t lane = 0; lane < kStep; ++lane) {
        places[lane] = output[lane];
      }
    }
    return places >= 0;
  }

  // The greatest score of some classes in one column of cells; -infinity if there are none.
  template <int row_count>
  static void highest(const CellGroup<accumulate_t>& group,
                      const ColumnWeights<accumulate_t>& weight, const int32_t* classes,
                      int64_t count, lanes_t* most_of_rows) {
    lanes_t most[row_count];
    for (int k = 0; k < row_count; ++k) {
      most[k] = all_lanes(static_cast<accumulate_t>(-kInf));
    }
    for (int64_t j = 0; j < count; ++j) {
      column_scores<row_count>(group, weight, classes[j], [&](int k, const lanes_t& score) {
        most[k] = larger(score, most[k]);
      });
    }
    for (int k = 0; k < row_count; ++k) {
      most_of_rows[k] = most[k];
    }
  }

  // Counts hits in the lanes that are `fit`. masked: at some pixel all classes may be masked.
  template <int row_count>
  void count_pixels(int64_t q, const CellGroup<accumulate_t>& group, const Labels& labels,
                    const integers_t& fit, int64_t count, bool masked) {
    int64_t first = 0, end = count;  // the survivors that may be a pixel's label
    while (first < count && survivors[first] < labels.least) {
      ++first;
    }
    while (end > first && survivors[end - 1] > labels.greatest) {
      --end;
    }
    if (first == end && !masked) {
      return;
    }
    // If all pixels have one label, no pixel's own label is read.
    const bool one = labels.least == labels.greatest &&
                     labels.counted == strip.rows.rows * (labels.end - labels.begin);
    integers_t found = {};
    each_column(group, [&](const int32_t* output, const ColumnWeights<accumulate_t>& weight) {
      lanes_t best[row_count], above[row_count];
      integers_t winner[row_count];
      highest<row_count>(group, weight, survivors, first, best);
      greatest_above<row_count>(group, weight, survivors + first, end - first, best, winner);
      highest<row_count>(group, weight, survivors + end, count - end, above);
      const integers_t present = lanes_present(output) & fit;
      for (int k = 0; k < row_count; ++k) {
        integers_t hit = best[k] >= above[k];
        hit &= one ? winner[k] == labels.least : winner[k] == labels_at(k, output);
        if (masked) {
          const lanes_t most = larger(best[k], above[k]);
          hit &= most >= kLeastBest<accumulate_t>;
          for (int64_t lane = 0; lane < group.cells; ++lane) {
            if (most[lane] < kLeastBest<accumulate_t> && present[lane] != 0) {
              add_exact(q, strip.first_cell + group.first + lane, k, output[lane]);
            }
          }
        }
        found -= hit & present;
      }
    });
    for (int64_t lane = 0; lane < kStep; ++lane) {
      right += found[lane];
    }
  }

  // Among `classes`, in order, finds the first with the greatest score above `best_of_rows`, which
  // becomes the greatest of all. The class is -2 if there is none.
  template <int row_count>
  static void greatest_above(const CellGroup<accumulate_t>& group,
                             const ColumnWeights<accumulate_t>& weight, const int32_t* classes,
                             int64_t count, lanes_t* best_of_rows, integers_t* class_of_rows) {
    lanes_t best[row_count];
    integers_t winner[row_count];
    for (int k = 0; k < row_count; ++k) {
      best[k] = best_of_rows[k];
      winner[k] = integers_t{} - 2;
    }
    for (int64_t j = 0; j < count; ++j) {
      const integers_t label = integers_t{} + static_cast<integer_t>(classes[j]);
      column_scores<row_count>(group, weight, classes[j], [&](int k, const lanes_t& score) {
        winner[k] = score > best[k] ? label : winner[k];
        best[k] = larger(score, best[k]);
      });
    }
    for (int k = 0; k < row_count; ++k) {
      best_of_rows[k] = best[k];
      class_of_rows[k] = winner[k];
    }
  }

  void add_exact_cell(int64_t q, int64_t cell) {
    for (int64_t k = 0; k < strip.rows.rows; ++k) {
      for (int64_t x = strip.work.x.begin[cell]; x < strip.work.x.begin[cell + 1]; ++x) {
        add_exact(q, cell, k, x);
      }
    }
  }

  // Counts pixel x of row k of the current rows, computed on its own.
  void add_exact(int64_t q, int64_t cell, int64_t k, int64_t x) {
    const int32_t label = label_row(k)[x];
    if (label >= 0) {
      const ExactPixel<accumulate_t> pixel(strip.input, strip.work.y, strip.work.x, q, cell,
                                           strip.rows.first_row + k, x);
      right += pixel.winner() == label ? 1 : 0;
    }
  }
};

}  // namespace
}  // namespace fcn_ext
