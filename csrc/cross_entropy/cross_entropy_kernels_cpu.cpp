// Cross-entropy of upsampled scores on CPU, compiled once per instruction set
// (common/cpu_capability.h).
//
// A unit walks down the cell rows of a strip: it loads the next node row, reads the labels between
// the two, sums 2^score over the classes of every pixel, and adds the gradients to the node row
// above, which is then complete, and to the one below. Coarse scores and labels are read once,
// coarse gradients are written once; nothing is ever as large as the logits would be. Everything is
// summed in an order fixed by the shape alone.
#include "cross_entropy/cross_entropy_exact_cpu.h"

namespace fcn_ext {
namespace {

// What of the gradient has gathered at a node row, lanes = cells: at their left and right nodes.
template <typename accumulate_t>
struct RowSums {
  accumulate_t* left;
  accumulate_t* right;
  LabelSums labels;
};

template <typename element_t>
class Unit {
  using accumulate_t = AccumulateOf<element_t>;
  using lanes_t = Register<accumulate_t>;
  static constexpr int64_t kStep = kWidth<accumulate_t>;

 public:
  Unit(const CrossEntropyWork& given, Scratch& scratch) : work(given) {
    const int64_t classes = work.problem.shape.channels;
    const int64_t cells = work.strip_cells;
    pitch = cells + kWidest;
    int64_t widest = 0;
    for (int64_t q = 0; q <= work.x.nodes; q += cells) {
      const int64_t end = q + cells < work.x.nodes + 1 ? q + cells : work.x.nodes + 1;
      const int64_t columns = work.x.begin[end] - work.x.begin[q];
      widest = columns > widest ? columns : widest;
    }
    rows.pitch = padded(widest);
    for (auto& row : node_rows) {
      row = {scratch.take<accumulate_t>(classes * pitch), scratch.take<accumulate_t>(pitch),
             scratch.take<accumulate_t>(pitch)};
    }
    for (auto& row : row_sums) {
      const int64_t size = work.gradient != nullptr ? classes * pitch : 0;
      row = {scratch.take<accumulate_t>(size),
             scratch.take<accumulate_t>(size),
             {scratch.take<double>(classes * pitch), pitch, scratch.take<uint8_t>(classes)}};
    }
    finished = scratch.take<accumulate_t>(pitch);
    smoothing = scratch.take<double>(pitch);
    rows.labels = scratch.take<int32_t>(kMostRows * rows.pitch);
    differs = scratch.take<int32_t>(rows.pitch);
    pixel_weight = scratch.take<accumulate_t>(kMostRows * rows.pitch);
    ln_sums = scratch.take<double>(
        work.result == CrossEntropyResult::kPixels ? kMostRows * rows.pitch : 0);
    sums = scratch.take<lanes_t>((kMostPhases + 1) * kMostRows);
    list.geometric = scratch.take<int32_t>(classes);
    list.direct = scratch.take<int32_t>(classes);
    list.progressions = scratch.take<Progression<accumulate_t>>(classes);
    list.running = scratch.take<lanes_t>(2 * classes);
    exact = ExactScratch::take(scratch, classes);
  }

  void run(int64_t unit) {
    const int64_t image = unit / work.chunks, chunk = unit % work.chunks;
    const int64_t cell_rows = work.y.nodes + 1;
    const int64_t begin = chunk * cell_rows / work.chunks;
    const int64_t end = (chunk + 1) * cell_rows / work.chunks;
    const BilinearShape& shape = work.problem.shape;
    const PlaneStrides& strides = work.problem.input_strides;
    input = {static_cast<const element_t*>(work.input) + image * strides.batch,
             strides,
             shape.y.input_size,
             shape.x.input_size,
             shape.channels,
             work.y.clamp};
    rows.image = image;
    index = unit;
    log_sum2 = label_loss = 0;
    for (int64_t first = 0; first <= work.x.nodes; first += work.strip_cells) {
      first_cell = first;
      cells =
          work.x.nodes + 1 - first < work.strip_cells ? work.x.nodes + 1 - first : work.strip_cells;
      rows.first_column = work.x.begin[first];
      rows.columns = work.x.begin[first + cells] - rows.first_column;
      walk(begin, end);
    }
    work.loss[unit] = kLn2 * log_sum2 - label_loss;
  }

 private:
  const CrossEntropyWork& work;
  Scores<element_t> input{};
  NodeRow<accumulate_t> node_rows[2];
  RowSums<accumulate_t> row_sums[2];
  LabelRows rows{};
  ClassList<accumulate_t> list{};
  ExactScratch exact{};
  accumulate_t* finished;
  double* smoothing;
  int32_t* differs;
  accumulate_t* pixel_weight;
  double* ln_sums;
  lanes_t* sums;
  int64_t pitch, index, first_cell, cells;
  double log_sum2, label_loss;

  bool wants_gradient() const { return work.gradient != nullptr; }

  // Cell rows [begin, end) of the strip.
  void walk(int64_t begin, int64_t end) {
    const int64_t nodes = cells + 1, last = work.y.nodes;
    int above = 0;
    load_row(input, begin, first_cell, nodes, pitch, node_rows[above]);
    clear(row_sums[above]);
    for (int64_t q = begin; q < end; ++q, above = 1 - above) {
      const int below = 1 - above;
      load_row(input, q + 1, first_cell, nodes, pitch, node_rows[below]);
      clear(row_sums[below]);
      for (int64_t row = work.y.begin[q]; row < work.y.begin[q + 1]; row += kMostRows) {
        const int64_t left = work.y.begin[q + 1] - row;
        rows.first_row = row;
        rows.rows = left < kMostRows ? left : kMostRows;
        if (rows.columns > 0) {
          cell_row(q, node_rows[above], node_rows[below], row_sums[above], row_sums[below]);
        }
      }
      // A clamped pad is the border's row again.
      if (work.y.clamp && q == 0) {
        fold(row_sums[above], row_sums[below]);
      } else if (work.y.clamp && q == last) {
        fold(row_sums[below], row_sums[above]);
        finish(q, node_rows[above], row_sums[above], false);
      } else if (q > 0) {
        finish(q, node_rows[above], row_sums[above], false);
      }
    }
    if (end <= last) {
      finish(end, node_rows[above], row_sums[above], true);
    }
  }

  void clear(const RowSums<accumulate_t>& row) {
    const int64_t classes = input.classes;
    for (int64_t i = 0; wants_gradient() && i < classes * pitch; i += kStep) {
      store_register(row.left + i, lanes_t{});
      store_register(row.right + i, lanes_t{});
    }
    for (int64_t c = 0; c < classes; ++c) {
      row.labels.touched[c] = 0;
    }
  }

  void fold(const RowSums<accumulate_t>& pad, const RowSums<accumulate_t>& border) {
    const int64_t classes = input.classes;
    for (int64_t i = 0; wants_gradient() && i < classes * pitch; ++i) {
      border.left[i] += pad.left[i];
      border.right[i] += pad.right[i];
    }
    for (int64_t c = 0; c < classes; ++c) {
      if (pad.labels.touched[c] != 0) {
        double* to = border.labels.row(static_cast<int32_t>(c));
        for (int64_t i = 0; i < pitch; ++i) {
          to[i] += pad.labels.sums[c * pitch + i];
        }
      }
    }
  }

  // The rows that `rows` names, between two node rows.
  void cell_row(int64_t q, const NodeRow<accumulate_t>& above, const NodeRow<accumulate_t>& below,
                const RowSums<accumulate_t>& above_sums, const RowSums<accumulate_t>& below_sums) {
    load_labels(work, rows);
    weigh_pixels();
    const LabelSplat splat{work.y, work.x, rows, above_sums.labels, below_sums.labels, work.counts};
    if (work.result == CrossEntropyResult::kSum) {
      splat.run(first_cell, first_cell + cells, differs);
    } else if (work.result == CrossEntropyResult::kPixelsGradient) {
      splat.run_weighted(first_cell, first_cell + cells, pixel_grad());
    }
    const CornerSums<accumulate_t> to{above_sums.left, above_sums.right, below_sums.left,
                                      below_sums.right, pitch};
    for (int64_t first = 0; first < cells; first += kStep) {
      const int64_t some = cells - first < kStep ? cells - first : kStep;
      Group<accumulate_t> group{above, below, pitch, first, some, input.classes, {}, false, {}};
      const int64_t columns =
          work.x.begin[first_cell + first + some] - work.x.begin[first_cell + first];
      if (columns == 0) {
        continue;
      }
      bound_sums(group);
      with_rows(rows.rows,
                [&](auto count) { softmax<decltype(count)::count>(group, columns, to); });
      for (int64_t lane = 0; group.any_exact && lane < some; ++lane) {
        if (group.exact[lane] != 0) {
          exact_cell(work, input, rows, group, q, first_cell + first + lane, first + lane,
                     pixel_weight, to, exact, [&](int64_t k, int64_t output, double ln_sum) {
                       const int64_t at = k * rows.pitch + output - rows.first_column;
                       log_sum2 += static_cast<double>(pixel_weight[at]) * ln_sum / kLn2;
                       if (work.result == CrossEntropyResult::kPixels) {
                         ln_sums[at] = ln_sum;
                       }
                     });
        }
      }
    }
    if (work.result == CrossEntropyResult::kPixels) {
      pixel_losses(q, above, below);
    }
  }

  // Of the first pixel that `rows` names.
  const accumulate_t* pixel_grad() const {
    return static_cast<const accumulate_t*>(work.pixel_grad) +
           (rows.image * work.y.outputs + rows.first_row) * work.x.outputs + rows.first_column;
  }

  // pixel_weight = a_y of every pixel, times its own gradient where there is one.
  void weigh_pixels() {
    const auto* table = static_cast<const accumulate_t*>(work.lse_weight) + 1;
    for (int64_t k = 0; k < rows.rows; ++k) {
      const int32_t* __restrict label = rows.row(k);
      accumulate_t* __restrict weight = pixel_weight + k * rows.pitch;
      if (work.plain) {
        for (int64_t x = 0; x < rows.columns; ++x) {
          weight[x] = label[x] < 0 ? accumulate_t(0) : accumulate_t(1);
        }
      } else {
        for (int64_t x = 0; x < rows.columns; ++x) {
          weight[x] = table[label[x]];
        }
      }
      if (work.result == CrossEntropyResult::kPixelsGradient) {
        const accumulate_t* grad = pixel_grad() + k * work.x.outputs;
        for (int64_t x = 0; x < rows.columns; ++x) {
          weight[x] = label[x] < 0 ? accumulate_t(0) : weight[x] * grad[x];
        }
      }
    }
  }

  // Whether every lane has every column and every pixel counts as one.
  bool uniform(const Group<accumulate_t>& group, int64_t columns) const {
    if (!work.plain || work.result != CrossEntropyResult::kSum || group.any_exact ||
        columns != kStep * work.x.phases) {
      return false;
    }
    int32_t joined = 0;
    for (int64_t k = 0; k < rows.rows; ++k) {
      const int32_t* label =
          rows.row(k) + work.x.begin[first_cell + group.first] - rows.first_column;
      for (int64_t x = 0; x < columns; ++x) {
        joined |= label[x];
      }
    }
    return joined >= 0;
  }

  template <int row_count>
  void softmax(const Group<accumulate_t>& group, int64_t columns,
               const CornerSums<accumulate_t>& to) {
    const int64_t cell = first_cell + group.first;
    const bool whole = uniform(group, columns);
    lanes_t logs = {};
    for (int64_t phase = 0; phase < work.x.phases; phase += kMostPhases) {
      const int64_t at = phase * work.x.pitch + cell;
      const int64_t left = work.x.phases - phase;
      const Patch<accumulate_t> patch{
          row_count,
          left < kMostPhases ? left : kMostPhases,
          static_cast<const accumulate_t*>(work.y.lower) + rows.first_row,
          static_cast<const accumulate_t*>(work.y.upper) + rows.first_row,
          static_cast<const accumulate_t*>(work.x.phase_lower) + at,
          static_cast<const accumulate_t*>(work.x.phase_upper) + at,
          work.x.pitch,
          static_cast<accumulate_t>(work.y.step),
          static_cast<accumulate_t>(work.x.step)};
      list_classes(group, patch, list);
      sum_powers<row_count>(group, patch, list, sums);
      for (int64_t column = 0; column < patch.columns; ++column) {
        lanes_t* sum = sums + column * kMostRows;
        if (whole) {
          logs += weigh_uniform<row_count>(sum);
        } else {
          logs += weigh<row_count>(group, work.x.output + at + column * work.x.pitch, sum);
        }
      }
      if (wants_gradient()) {
        add_gradients<row_count>(group, patch, list, sums, to);
      }
    }
    log_sum2 += sum_of<accumulate_t>(logs);
  }

  // Sums become weight over sum; returns the weighted logarithms of them. A sum is at least
  // 2^kExact, so that two of them multiply.
  template <int row_count>
  lanes_t weigh_uniform(lanes_t* sum) {
    lanes_t logs = {};
    for (int k = 0; k < row_count; k += 2) {
      logs += log2_lanes<accumulate_t>(k + 1 < row_count ? sum[k] * sum[k + 1] : sum[k]);
    }
    for (int k = 0; k < row_count; ++k) {
      sum[k] = reciprocal(sum[k]);
    }
    return logs;
  }

  template <int row_count>
  lanes_t weigh(const Group<accumulate_t>& group, const int32_t* output, lanes_t* sum) {
    lanes_t logs = {};
    for (int k = 0; k < row_count; ++k) {
      lanes_t weight =
          gather(pixel_weight + k * rows.pitch, output, static_cast<int32_t>(rows.first_column));
      weight = group.exact != 0 ? lanes_t{} : weight;
      const auto counts = weight != 0;
      const lanes_t safe = counts ? sum[k] : all_lanes<accumulate_t>(1);
      const lanes_t log = log2_lanes<accumulate_t>(safe);
      logs += weight * log;
      sum[k] = weight * reciprocal(safe);
      if (work.result == CrossEntropyResult::kPixels) {
        for (int64_t lane = 0; lane < group.cells; ++lane) {
          if (output[lane] >= 0 && group.exact[lane] == 0) {
            ln_sums[k * rows.pitch + output[lane] - rows.first_column] =
                kLn2 * static_cast<double>(log[lane]);
          }
        }
      }
    }
    return logs;
  }

  // loss(p) from ln S(p) and the pixel's own scores.
  void pixel_losses(int64_t q, const NodeRow<accumulate_t>& above,
                    const NodeRow<accumulate_t>& below) {
    for (int64_t k = 0; k < rows.rows; ++k) {
      const double y_upper = work.y.upper_number[rows.first_row + k] / work.y.denominator;
      auto* out = static_cast<accumulate_t*>(work.pixel_loss) +
                  (rows.image * work.y.outputs + rows.first_row + k) * work.x.outputs;
      for (int64_t cell = 0; cell < cells; ++cell) {
        const double peak[4] = {
            static_cast<double>(above.peak[cell]), static_cast<double>(above.peak[cell + 1]),
            static_cast<double>(below.peak[cell]), static_cast<double>(below.peak[cell + 1])};
        for (int64_t x = work.x.begin[first_cell + cell]; x < work.x.begin[first_cell + cell + 1];
             ++x) {
          const int32_t label = rows.row(k)[x - rows.first_column];
          if (label < 0) {
            out[x] = 0;
            continue;
          }
          const double x_upper = work.x.upper_number[x] / work.x.denominator;
          const double weight[4] = {(1 - y_upper) * (1 - x_upper), (1 - y_upper) * x_upper,
                                    y_upper * (1 - x_upper), y_upper * x_upper};
          const auto relative = [&](int64_t c) {
            double sum = 0;
            for (int i = 0; i < 4; ++i) {
              int64_t row = q + i / 2, column = first_cell + cell + i % 2;
              if (weight[i] != 0 && input.locate(row, column)) {
                const element_t* node = input.at(row, column) + c * input.strides.channel;
                sum += weight[i] * (static_cast<double>(load(*node)) - peak[i]);
              }
            }
            return sum;
          };
          const auto* lse_weight = static_cast<const accumulate_t*>(work.lse_weight) + 1;
          double loss = static_cast<double>(lse_weight[label]) *
                            ln_sums[k * rows.pitch + x - rows.first_column] -
                        work.label_weight[label] * relative(label);
          for (int64_t c = 0; work.smoothing_weight != nullptr && c < input.classes; ++c) {
            loss -= work.smoothing_weight[c] * relative(c);
          }
          out[x] = static_cast<accumulate_t>(loss);
        }
      }
    }
  }

  // Padded node row q is complete (`partial`: but for what the next unit adds). Subtracts what its
  // labels add, writes its gradient and takes its part of the loss.
  void finish(int64_t q, const NodeRow<accumulate_t>& nodes, const RowSums<accumulate_t>& row,
              bool partial) {
    const int64_t classes = input.classes;
    // Real nodes of the strip, by local number.
    const int64_t begin = first_cell == 0 ? 1 : 0;
    const int64_t end = first_cell + cells > work.x.nodes ? cells : cells + 1;
    const bool smooth = work.smoothing_weight != nullptr;
    for (int64_t i = 0; i < pitch; ++i) {
      smoothing[i] = 0;
    }
    for (int64_t c = 0; c < classes; ++c) {
      if (row.labels.touched[c] == 0) {
        continue;
      }
      fold_columns(row.labels.sums + c * pitch, begin, end);
      for (int64_t i = 0; smooth && i < pitch; ++i) {
        smoothing[i] += row.labels.sums[c * pitch + i];
      }
    }
    for (int64_t c = 0; c < classes; ++c) {
      const double* labels = row.labels.touched[c] != 0 ? row.labels.sums + c * pitch : nullptr;
      if (work.result == CrossEntropyResult::kSum) {
        if (labels != nullptr) {
          label_loss += work.label_weight[c] * dot(q, c, labels, begin, end, nodes);
        }
        if (smooth) {
          label_loss += work.smoothing_weight[c] * dot(q, c, smoothing, begin, end, nodes);
        }
      }
      if (wants_gradient()) {
        write_gradient(q, c, labels, row, begin, end, partial);
      }
    }
  }

  template <typename T>
  void fold_columns(T* values, int64_t begin, int64_t end) const {
    if (work.x.clamp && begin == 1) {
      values[1] += values[0];
    }
    if (work.x.clamp && end == cells) {
      values[cells - 1] += values[cells];
    }
  }

  double scale() const { return 1 / (work.x.denominator * work.y.denominator); }

  // Sum over nodes of labels * (score - peak).
  double dot(int64_t q, int64_t c, const double* labels, int64_t begin, int64_t end,
             const NodeRow<accumulate_t>& nodes) const {
    double sum = 0;
    const element_t* from = input.image + c * input.strides.channel + (q - 1) * input.strides.row;
    for (int64_t i = begin; i < end; ++i) {
      if (labels[i] != 0) {
        const element_t* node = from + (first_cell + i - 1) * input.strides.column;
        sum += labels[i] * (static_cast<double>(load(*node)) - static_cast<double>(nodes.peak[i]));
      }
    }
    return sum * scale();
  }

  void write_gradient(int64_t q, int64_t c, const double* labels, const RowSums<accumulate_t>& row,
                      int64_t begin, int64_t end, bool partial) {
    const accumulate_t* left = row.left + c * pitch;
    const accumulate_t* right = row.right + c * pitch;
    finished[0] = left[0];
    for (int64_t i = 1; i <= cells; ++i) {
      finished[i] = left[i] + right[i - 1];
    }
    fold_columns(finished, begin, end);
    if (labels != nullptr) {
      const double factor = work.label_weight[c] * scale();
      for (int64_t i = begin; i < end; ++i) {
        finished[i] -= static_cast<accumulate_t>(factor * labels[i]);
      }
    }
    if (work.smoothing_weight != nullptr) {
      const double factor = work.smoothing_weight[c] * scale();
      for (int64_t i = begin; i < end; ++i) {
        finished[i] -= static_cast<accumulate_t>(factor * smoothing[i]);
      }
    }
    const int64_t column = partial ? 1 : work.gradient_strides.column;
    auto* to =
        partial
            ? static_cast<accumulate_t*>(work.edge) + (index * input.classes + c) * input.columns
            : static_cast<accumulate_t*>(work.gradient) + rows.image * work.gradient_strides.batch +
                  c * work.gradient_strides.channel + (q - 1) * work.gradient_strides.row;
    to += (first_cell - 1) * column;
    // The node that strips share is the left one's too.
    if (begin == 0) {
      to[0] += finished[0];
    }
    for (int64_t i = 1; i < end; ++i) {
      to[i * column] = finished[i];
    }
  }
};

template <typename element_t>
int64_t scratch_bytes(const CrossEntropyWork& work) {
  Scratch scratch{nullptr};
  Unit<element_t> unit(work, scratch);
  return scratch.used;
}

template <typename element_t>
void run(const CrossEntropyWork& work, int64_t begin, int64_t end, void* memory) {
  Scratch scratch{static_cast<char*>(memory)};
  Unit<element_t> unit(work, scratch);
  for (int64_t index = begin; index < end; ++index) {
    unit.run(index);
  }
}

}  // namespace

extern const CrossEntropyKernels FCN_EXT_CAPABILITY_NAME(cross_entropy_kernels);
const CrossEntropyKernels FCN_EXT_CAPABILITY_NAME(cross_entropy_kernels) = {
    {scratch_bytes<float>, scratch_bytes<double>, scratch_bytes<HalfBits>,
     scratch_bytes<BFloat16Bits>},
    {run<float>, run<double>, run<HalfBits>, run<BFloat16Bits>}};

}  // namespace fcn_ext
