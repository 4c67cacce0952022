// Cross-entropy of upsampled scores on CPU, compiled once per instruction set
// (common/cpu/capability.h).
//
// A unit walks down the cell rows of a strip: it loads the next node row, reads the labels between
// the two, sums 2^score over the classes of every pixel, and adds the gradients to the node row
// above, which is then complete, and to the one below. Coarse scores and labels are read once,
// coarse gradients are written once; nothing is ever as large as the logits would be. Everything is
// summed in an order fixed by the shape alone.
#include "cross_entropy/cpu/finish.h"
#include "cross_entropy/cpu/pixels.h"
#include "cross_entropy/cpu/softmax.h"

namespace fcn_ext {
namespace {

template <typename element_t>
class Unit {
  using accumulate_t = AccumulateOf<element_t>;

 public:
  Unit(const CrossEntropyWork& given, Scratch& scratch)
      : work(given), strip(given, scratch), softmax(strip, scratch), gradients(strip, scratch) {
    const int64_t classes = work.problem.shape.channels;
    for (auto& row : node_rows) {
      row = {scratch.take<accumulate_t>(classes * strip.pitch),
             scratch.take<accumulate_t>(strip.pitch), scratch.take<accumulate_t>(strip.pitch)};
    }
    for (auto& row : row_sums) {
      row = gradients.take(strip, scratch);
    }
    differs = scratch.take<int32_t>(strip.rows.pitch);
    counts = scratch.take<int64_t>(classes);
  }

  void run(int64_t unit) {
    const int64_t chunk = unit % work.chunks, cell_rows = work.y.nodes + 1;
    const int64_t begin = chunk * cell_rows / work.chunks;
    const int64_t end = (chunk + 1) * cell_rows / work.chunks;
    softmax.log_sum2 = gradients.label_loss = 0;
    strip.start(unit);
    for (int64_t c = 0; c < strip.input.classes; ++c) {
      counts[c] = 0;
    }
    for (int64_t cell = 0; cell < work.x.nodes + 1; cell += work.strip_cells) {
      strip.move_to(cell);
      walk(begin, end);
    }
    work.loss[unit] = kLn2 * softmax.log_sum2 - gradients.label_loss;
    for (int64_t c = 0; c < strip.input.classes; ++c) {
      __atomic_fetch_add(work.counts + c, counts[c], __ATOMIC_RELAXED);
    }
  }

 private:
  const CrossEntropyWork& work;
  Strip<element_t> strip;
  Softmax<element_t> softmax;
  NodeGradients<element_t> gradients;
  NodeRow<accumulate_t> node_rows[2];
  RowSums<accumulate_t> row_sums[2];
  int32_t* differs;
  int64_t* counts;  // pixels of each class

  void load(int64_t q, int which) {
    load_row(strip.input, q, strip.first_cell, strip.cells + 1, strip.pitch, node_rows[which]);
    gradients.clear(row_sums[which]);
  }

  // Cell rows [begin, end) of the strip.
  void walk(int64_t begin, int64_t end) {
    const int64_t last = work.y.nodes;
    int above = 0;
    load(begin, above);
    for (int64_t q = begin; q < end; ++q, above = 1 - above) {
      const int below = 1 - above;
      load(q + 1, below);
      for (int64_t row = work.y.begin[q]; row < work.y.begin[q + 1]; row += kMostRows) {
        const int64_t left = work.y.begin[q + 1] - row;
        strip.rows.first_row = row;
        strip.rows.rows = left < kMostRows ? left : kMostRows;
        if (strip.rows.columns > 0) {
          pixel_rows(q, above, below);
        }
      }
      // A clamped pad is the border's row again.
      if (work.y.clamp && q == 0) {
        gradients.fold(row_sums[above], row_sums[below]);
      } else if (work.y.clamp && q == last) {
        gradients.fold(row_sums[below], row_sums[above]);
        gradients.finish(q, node_rows[above], row_sums[above], false);
      } else if (q > 0) {
        gradients.finish(q, node_rows[above], row_sums[above], false);
      }
    }
    if (end <= last) {
      gradients.finish(end, node_rows[above], row_sums[above], true);
    }
  }

  // The rows at hand, between padded node rows q and q + 1.
  void pixel_rows(int64_t q, int above, int below) {
    const RowSums<accumulate_t>& top = row_sums[above];
    const RowSums<accumulate_t>& bottom = row_sums[below];
    load_labels(work, strip.rows);
    strip.weigh_pixels();
    const LabelSplat splat{work.y, work.x, strip.rows, top.labels, bottom.labels, counts};
    const int64_t end_cell = strip.first_cell + strip.cells;
    if (work.result == CrossEntropyResult::kSum) {
      splat.run(strip.first_cell, end_cell, differs);
    } else if (work.result == CrossEntropyResult::kPixelsGradient) {
      splat.run_weighted(strip.first_cell, end_cell, strip.pixel_grad());
    }
    softmax.add(q, node_rows[above], node_rows[below],
                {top.left, top.right, bottom.left, bottom.right, strip.pitch});
    if (work.result == CrossEntropyResult::kPixels) {
      pixel_losses(strip, q, node_rows[above], node_rows[below]);
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
