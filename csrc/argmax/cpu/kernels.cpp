// Argmax of upsampled scores on CPU, compiled once per instruction set (common/cpu/capability.h).
//
// A unit is a cell row: it loads the node rows above and below, decides cell by cell which classes
// can win, and passes whole output rows of labels to a sink. It reads coarse scores and writes
// labels; nothing is ever as large as the logits would be.
#include "argmax/cpu/kernels.h"

#include "argmax/cpu/cells.h"
#include "argmax/cpu/exact.h"

namespace fcn_ext {
namespace {

template <typename accumulate_t>
class CellRow {
  using lanes_t = Register<accumulate_t>;
  using integers_t = Integers<accumulate_t>;
  static constexpr int64_t kStep = kWidth<accumulate_t>;

 public:
  CellRow(const ArgmaxWork& given, Scratch& scratch)
      : work(given), pitch(given.strip_cells + kWidest) {
    const int64_t classes = work.shape.channels;
    for (auto& row : node_rows) {
      row = {scratch.take<accumulate_t>(classes * pitch), scratch.take<accumulate_t>(pitch)};
    }
    label_pitch = padded(work.x.outputs);
    labels = scratch.take<int32_t>(kMostRows * label_pitch);
    survivors = scratch.take<int32_t>(classes);
  }

  void run(int64_t unit, const RowSink& sink) {
    const int64_t cell_rows = work.y.nodes + 1;
    image = unit / cell_rows;
    cell_row = unit % cell_rows;
    input = {work.input, work.shape, image, work.y.clamp};
    const int64_t end = work.y.begin[cell_row + 1];
    for (first_row = work.y.begin[cell_row]; first_row < end; first_row += kMostRows) {
      rows = end - first_row < kMostRows ? end - first_row : kMostRows;
      for (first_cell = 0; first_cell <= work.x.nodes; first_cell += work.strip_cells) {
        const int64_t left = work.x.nodes + 1 - first_cell;
        strip(left < work.strip_cells ? left : work.strip_cells);
      }
      for (int64_t k = 0; k < rows; ++k) {
        sink.take(sink.context, image, first_row + k, labels + k * label_pitch);
      }
    }
  }

 private:
  const ArgmaxWork& work;
  Scores<accumulate_t> input{};
  ScoreRow<accumulate_t> node_rows[2];
  int64_t held[2] = {-1, -1};  // which node row of which image and strip each one holds
  int32_t* labels;             // [k * label_pitch + output]
  int32_t* survivors;
  int64_t pitch, label_pitch, image, cell_row, first_row, rows, first_cell;

  void strip(int64_t cells) {
    hold_rows(cells);
    for (int64_t first = 0; first < cells; first += kStep) {
      const int64_t some = cells - first < kStep ? cells - first : kStep;
      const CellGroup<accumulate_t> group{node_rows[0],
                                          node_rows[1],
                                          pitch,
                                          first,
                                          some,
                                          work.shape.channels,
                                          work.x.on_nodes || work.y.on_nodes};
      const int64_t begin = work.x.begin[first_cell + first];
      const int64_t end = work.x.begin[first_cell + first + some];
      if (begin == end) {
        continue;
      }
      const int64_t count = list_survivors(group, survivors);
      const bool masked = may_be_masked(group, survivors);
      if (count == 1 && !masked && work.probability == nullptr) {
        fill(begin, end);
      } else {
        with_rows(rows,
                  [&](auto number) { pixels<decltype(number)::count>(group, count, masked); });
      }
      const lanes_t unfit = group.unfit_lanes();
      for (int64_t lane = 0; any_lane(unfit != 0) && lane < some; ++lane) {
        if (unfit[lane] != 0) {
          exact_cell(first_cell + first + lane);
        }
      }
    }
  }

  // Loads the node rows above and below, unless they are held already: between the rows of a tall
  // cell, and from one cell row to the next if there is only one strip.
  void hold_rows(int64_t cells) {
    const int64_t strips = (work.x.nodes + work.strip_cells) / work.strip_cells;
    const int64_t above =
        (image * (work.y.nodes + 2) + cell_row) * strips + first_cell / work.strip_cells;
    const int64_t wanted[2] = {above, above + strips};
    if (held[1] == wanted[0]) {
      const ScoreRow<accumulate_t> swapped = node_rows[0];
      node_rows[0] = node_rows[1];
      node_rows[1] = swapped;
      held[0] = held[1];
      held[1] = -1;
    }
    for (int i = 0; i < 2; ++i) {
      if (held[i] != wanted[i]) {
        load_row(input, cell_row + i, first_cell, cells + 1, pitch, node_rows[i]);
        held[i] = wanted[i];
      }
    }
  }

  void fill(int64_t begin, int64_t end) {
    for (int64_t k = 0; k < rows; ++k) {
      int32_t* __restrict to = labels + k * label_pitch;
      const int32_t label = survivors[0];
      for (int64_t x = begin; x < end; ++x) {
        to[x] = label;
      }
    }
  }

  // masked: at some pixel all survivors may be masked; else the first one never is.
  template <int row_count>
  void pixels(const CellGroup<accumulate_t>& group, int64_t count, bool masked) {
    for (int64_t phase = 0; phase < work.x.phases; ++phase) {
      const int64_t at = phase * work.x.pitch + first_cell + group.first;
      const int32_t* output = work.x.output + at;
      if (!any_output<accumulate_t>(output)) {
        continue;
      }
      const ColumnWeights<accumulate_t> weight(work.y, work.x, first_row, at);
      lanes_t best[row_count], sums[row_count];
      integers_t winner[row_count];
      greatest<row_count>(group, weight, survivors, count, best, winner);
      if (work.probability != nullptr) {
        sum_exponentials<row_count>(group, weight, best, sums);
      }
      for (int k = 0; k < row_count; ++k) {
        for (int64_t lane = 0; lane < group.cells; ++lane) {
          if (output[lane] >= 0) {
            labels[k * label_pitch + output[lane]] = static_cast<int32_t>(winner[k][lane]);
          }
        }
        for (int64_t lane = 0; work.probability != nullptr && lane < group.cells; ++lane) {
          if (output[lane] >= 0) {
            *probability(k, output[lane]) = 1 / sums[k][lane];
          }
        }
        // If even the best class is masked, all classes may be, and then they look equal.
        if (masked && any_lane(best[k] < kLeastBest<accumulate_t>)) {
          for (int64_t lane = 0; lane < group.cells; ++lane) {
            if (best[k][lane] < kLeastBest<accumulate_t> && output[lane] >= 0) {
              exact_pixel(first_cell + group.first + lane, k, output[lane]);
            }
          }
        }
      }
    }
  }

  accumulate_t* probability(int64_t k, int64_t x) const {
    return static_cast<accumulate_t*>(work.probability) +
           (image * work.y.outputs + first_row + k) * work.x.outputs + x;
  }

  void exact_cell(int64_t cell) {
    for (int64_t k = 0; k < rows; ++k) {
      for (int64_t x = work.x.begin[cell]; x < work.x.begin[cell + 1]; ++x) {
        exact_pixel(cell, k, x);
      }
    }
  }

  void exact_pixel(int64_t cell, int64_t k, int64_t x) {
    const ExactPixel<accumulate_t> pixel(input, work.y, work.x, cell_row, cell, first_row + k, x);
    const int64_t winner = pixel.winner();
    labels[k * label_pitch + x] = static_cast<int32_t>(winner);
    if (work.probability == nullptr) {
      return;
    }
    const double best = pixel.score(winner);
    double sum = 0;
    for (int64_t c = 0; c < input.classes; ++c) {
      sum += __builtin_exp(pixel.score(c) - best);
    }
    *probability(k, x) = static_cast<accumulate_t>(1 / sum);
  }
};

template <typename accumulate_t>
int64_t scratch_bytes(const ArgmaxWork& work) {
  Scratch scratch{nullptr};
  CellRow<accumulate_t> row(work, scratch);
  return scratch.used;
}

template <typename accumulate_t>
void run(const ArgmaxWork& work, int64_t begin, int64_t end, const RowSink& sink, void* memory) {
  Scratch scratch{static_cast<char*>(memory)};
  CellRow<accumulate_t> row(work, scratch);
  for (int64_t unit = begin; unit < end; ++unit) {
    row.run(unit, sink);
  }
}

}  // namespace

extern const ArgmaxKernels FCN_EXT_CAPABILITY_NAME(argmax_kernels);
const ArgmaxKernels FCN_EXT_CAPABILITY_NAME(argmax_kernels) = {
    {scratch_bytes<float>, scratch_bytes<double>}, {run<float>, run<double>}};

}  // namespace fcn_ext
