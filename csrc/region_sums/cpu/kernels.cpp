// Sums of probabilities over regions on CPU, and their gradient, compiled once per instruction set
// (common/cpu/capability.h).
//
// A unit walks down the cell rows of a strip, as in the cross-entropy: node rows are loaded once,
// gradients written once. Forward: S of every pixel, then for every class the sum over pixels of
// 2^score / S. Backward, from the gradients of those sums: for every pixel S and the mean of the
// classes' gradients, then the gradients of the nodes. Everything is summed in an order fixed by
// the shape alone.
#include "region_sums/cpu/regions.h"
#include "softmax/cpu/node_gradients.h"
#include "softmax/cpu/walk.h"
#include "target/cpu/pixel_labels.h"

namespace fcn_ext {
namespace {

template <typename accumulate_t>
class Unit {
 public:
  Unit(const RegionSumsWork& given, Scratch& scratch)
      : work(given),
        strip(given.softmax, scratch),
        regions(given, strip, scratch),
        gradients(strip, scratch),
        nodes(given.problem.shape.channels, strip.pitch, scratch) {
    for (auto& sums : node_sums) {
      sums = gradients.take(strip, scratch);
    }
    counts = scratch.take<int64_t>(given.problem.shape.channels + 1) + 1;
  }

  void run(int64_t unit) {
    const int64_t classes = strip.work.shape.channels, image = unit / strip.work.chunks;
    if (strip.wants_gradient()) {
      regions.gradients = {
          of_image(work.grad_probability, image), of_image(work.grad_intersection, image),
          work.squared ? of_image(work.grad_squared, image) : nullptr,
          work.losses ? static_cast<const accumulate_t*>(work.grad_loss)[image] : accumulate_t(0)};
      walk_unit(strip, nodes, unit, *this);
      return;
    }
    double* const sums = work.sums + unit * 3 * classes;
    for (int64_t i = 0; i < 3 * classes; ++i) {
      sums[i] = 0;
    }
    for (int64_t label = -1; label < classes; ++label) {
      counts[label] = 0;
    }
    regions.sums = {sums, sums + classes, work.squared ? sums + 2 * classes : nullptr};
    regions.loss = 0;
    walk_unit(strip, nodes, unit, *this);
    work.loss[unit] = regions.loss;
    for (int64_t c = 0; c < classes; ++c) {
      __atomic_fetch_add(work.counts + image * classes + c, counts[c], __ATOMIC_RELAXED);
    }
  }

  // ---- called by walk_unit

  void begin(int64_t, int which) {
    gradients.clear(node_sums[which]);
    regions.begin(nodes.row[which], which);
  }

  void pixels(int64_t q, int above, int below) {
    load_labels(
        {work.problem.target, work.problem.ignore_index, strip.work.shape.channels, work.invalid},
        strip.rows, strip.work.y.outputs, strip.work.x.outputs);
    if (work.losses) {
      weigh_pixels();
    }
    if (strip.wants_gradient()) {
      regions.add_gradients(q, nodes, above, below,
                            {node_sums[above].left, node_sums[above].right, node_sums[below].left,
                             node_sums[below].right, strip.pitch});
    } else {
      count_pixels();
      regions.add_sums(q, nodes, above, below);
    }
  }

  void fold(int pad, int border) {
    regions.join(pad, node_sums[pad]);
    gradients.fold(node_sums[pad], node_sums[border]);
  }

  void finish(int64_t q, int which, bool partial) {
    regions.join(which, node_sums[which]);
    for (int64_t c = 0; strip.wants_gradient() && c < strip.input.classes; ++c) {
      gradients.gather(c, node_sums[which]);
      gradients.write(q, c, partial);
    }
  }

 private:
  const RegionSumsWork& work;
  Strip<accumulate_t> strip;
  Regions<accumulate_t> regions;
  NodeGradients<accumulate_t> gradients;
  NodeRows<accumulate_t> nodes;
  NodeSums<accumulate_t> node_sums[2];
  int64_t* counts;  // pixels of each label; those that do not count at -1

  const accumulate_t* of_image(const void* gradient, int64_t image) const {
    return static_cast<const accumulate_t*>(gradient) + image * strip.work.shape.channels;
  }

  void weigh_pixels() {
    const auto* table = static_cast<const accumulate_t*>(work.weight) + 1;
    for (int64_t k = 0; k < strip.rows.rows; ++k) {
      const int32_t* __restrict label = strip.rows.row(k);
      accumulate_t* __restrict weight = strip.pixel_weight + k * strip.rows.pitch;
      for (int64_t x = 0; x < strip.rows.columns; ++x) {
        weight[x] = table[label[x]];
      }
    }
  }

  // Counts runs of one label at once.
  void count_pixels() {
    constexpr int64_t kStep = kWidth<float>;
    const int64_t columns = strip.rows.columns;
    for (int64_t k = 0; k < strip.rows.rows; ++k) {
      const int32_t* label = strip.rows.row(k);
      int64_t run = 0, x = 0;
      const auto end_run = [&](int64_t end) {
        counts[label[run]] += end - run;
        run = end;
      };
      for (; x + kStep < columns; x += kStep) {
        const Int32Register differs = row_of_labels(label + x) != row_of_labels(label + x + 1);
        for (uint32_t left = lane_bits<float>(differs); left != 0; left &= left - 1) {
          end_run(x + __builtin_ctz(left) + 1);
        }
      }
      for (; x + 1 < columns; ++x) {
        if (label[x] != label[x + 1]) {
          end_run(x + 1);
        }
      }
      end_run(columns);
    }
  }

  static Int32Register row_of_labels(const int32_t* from) {
    Int32Register lanes;
    __builtin_memcpy(&lanes, from, sizeof(lanes));
    return lanes;
  }
};

}  // namespace

extern const RegionSumsKernels FCN_EXT_CAPABILITY_NAME(region_sums_kernels);
const RegionSumsKernels FCN_EXT_CAPABILITY_NAME(region_sums_kernels) = {
    {unit_scratch<Unit<float>>, unit_scratch<Unit<double>>},
    {run_units<Unit<float>>, run_units<Unit<double>>}};

}  // namespace fcn_ext
