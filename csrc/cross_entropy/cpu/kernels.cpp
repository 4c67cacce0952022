// Cross-entropy of upsampled scores on CPU, compiled once per instruction set
// (common/cpu/capability.h).
//
// A unit walks down the cell rows of a strip: it loads the next node row, reads the labels between
// the two, sums 2^score over the classes of every pixel, and adds the gradients to the node row
// above, which is then complete, and to the one below. Coarse scores and labels are read once,
// coarse gradients are written once; nothing is ever as large as the logits would be. Everything is
// summed in an order fixed by the shape alone. If hits are wanted, the same walk counts the pixels
// whose label wins.
#include "cross_entropy/cpu/hits.h"
#include "cross_entropy/cpu/node_labels.h"
#include "cross_entropy/cpu/pixels.h"
#include "softmax/cpu/softmax.h"
#include "softmax/cpu/walk.h"

namespace fcn_ext {
namespace {

template <typename accumulate_t>
class Unit {
 public:
  Unit(const CrossEntropyWork& given, Scratch& scratch)
      : work(given),
        strip(given.softmax, scratch),
        softmax(strip, scratch),
        gradients(strip, scratch),
        node_labels(given, strip, gradients, scratch),
        nodes(given.problem.shape.channels, strip.pitch, scratch),
        hits(strip, given.hits != nullptr, scratch) {
    for (int which = 0; which < 2; ++which) {
      node_sums[which] = gradients.take(strip, scratch);
      label_sums[which] = node_labels.take(strip, scratch);
    }
    differs = scratch.take<int32_t>(strip.rows.pitch);
    counts = scratch.take<int64_t>(work.problem.shape.channels);
  }

  void run(int64_t unit) {
    const int64_t classes = work.problem.shape.channels;
    softmax.log_sum2 = node_labels.loss = 0;
    hits.counted = hits.right = 0;
    for (int64_t c = 0; c < classes; ++c) {
      counts[c] = 0;
    }
    walk_unit(strip, nodes, unit, *this);
    work.loss[unit] = kLn2 * softmax.log_sum2 - node_labels.loss;
    for (int64_t c = 0; c < classes; ++c) {
      __atomic_fetch_add(work.counts + c, counts[c], __ATOMIC_RELAXED);
    }
    if (work.hits != nullptr) {
      __atomic_fetch_add(work.hits, hits.counted, __ATOMIC_RELAXED);
      __atomic_fetch_add(work.hits + 1, hits.right, __ATOMIC_RELAXED);
    }
  }

  // ---- called by walk_unit

  void begin(int64_t q, int which) {
    if (work.hits != nullptr) {
      hits.load(q, which);
    }
    gradients.clear(node_sums[which]);
    node_labels.clear(label_sums[which]);
  }

  void pixels(int64_t q, int above, int below) {
    load_labels(
        {work.problem.target, work.problem.ignore_index, work.problem.shape.channels, work.invalid},
        strip.rows, work.softmax.y.outputs, work.softmax.x.outputs);
    weigh_pixels(work, strip);
    const LabelSplat splat{strip.work.y,      strip.work.x,      strip.rows,
                           label_sums[above], label_sums[below], counts};
    const int64_t end_cell = strip.first_cell + strip.cells;
    if (work.result == CrossEntropyResult::kSum) {
      splat.run(strip.first_cell, end_cell, differs);
    } else if (work.result == CrossEntropyResult::kPixelsGradient) {
      splat.run_weighted(strip.first_cell, end_cell, pixel_grad(work, strip));
    }
    softmax.add(q, nodes.row[above], nodes.row[below],
                {node_sums[above].left, node_sums[above].right, node_sums[below].left,
                 node_sums[below].right, strip.pitch});
    if (work.hits != nullptr) {
      hits.add(q, above, below);
    }
    if (work.result == CrossEntropyResult::kPixels) {
      pixel_losses(work, strip, q, nodes.row[above], nodes.row[below]);
    }
  }

  void fold(int pad, int border) {
    gradients.fold(node_sums[pad], node_sums[border]);
    node_labels.fold(label_sums[pad], label_sums[border]);
  }

  void finish(int64_t q, int which, bool partial) {
    node_labels.finish(q, nodes.row[which], label_sums[which], node_sums[which], partial);
  }

 private:
  const CrossEntropyWork& work;
  Strip<accumulate_t> strip;
  Softmax<accumulate_t> softmax;
  NodeGradients<accumulate_t> gradients;
  NodeLabels<accumulate_t> node_labels;
  NodeRows<accumulate_t> nodes;
  Hits<accumulate_t> hits;
  NodeSums<accumulate_t> node_sums[2];
  LabelSums label_sums[2];
  int32_t* differs;
  int64_t* counts;  // pixels of each class
};

}  // namespace

extern const CrossEntropyKernels FCN_EXT_CAPABILITY_NAME(cross_entropy_kernels);
const CrossEntropyKernels FCN_EXT_CAPABILITY_NAME(cross_entropy_kernels) = {
    {unit_scratch<Unit<float>>, unit_scratch<Unit<double>>},
    {run_units<Unit<float>>, run_units<Unit<double>>}};

}  // namespace fcn_ext
