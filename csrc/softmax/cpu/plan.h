// Prepares the work of the CPU softmax engine from tensors: tables, units, shared node rows.
#pragma once

#include <algorithm>
#include <vector>

#include "bilinear/bilinear_checks.h"
#include "cells/cpu/cell_table.h"
#include "common/cpu/torch_parallel_for.h"
#include "softmax/cpu/work.h"

namespace fcn_ext {

// The approximate number of cell rows in a chunk: enough that the node row shared by two units
// costs little, few enough that many threads have work.
constexpr int64_t kChunkRows = 8;
constexpr int64_t kLeastChunks = 4;  // of an image

// Owns what a SoftmaxWork points to, except input and gradient. The caller sets `unweighted`,
// `finite` and `ln_sums`.
class SoftmaxPlan {
 public:
  SoftmaxWork work;

  // gradient: dense, in the accumulation type, or null.
  SoftmaxPlan(const torch::stable::Tensor& input, const BilinearAxes& axes,
              torch::stable::Tensor* gradient)
      : in_double_(input.scalar_type() == torch::headeronly::ScalarType::Double),
        y_(axes.y, in_double_, false),
        x_(axes.x, in_double_, true) {
    const int64_t cell_rows = axes.y.input_size + 1, classes = input.size(1);
    const int64_t bytes = in_double_ ? sizeof(double) : sizeof(float);
    work = {{input.size(0), classes, axes.y, axes.x},
            score_map(input),
            y_.view(),
            x_.view(),
            std::max(std::min(kLeastChunks, (cell_rows + 1) / 2), cell_rows / kChunkRows),
            strip_cells(axes.x, classes * 6 * bytes),
            false,
            true,
            false,
            nullptr,
            {},
            nullptr};
    if (gradient != nullptr) {
      work.gradient = gradient->mutable_data_ptr();
      work.gradient_strides = strides_of(*gradient);
      edge_.resize(units() * classes * axes.x.input_size * bytes);
      work.edge = edge_.data();
    }
  }

  SoftmaxPlan(const SoftmaxPlan&) = delete;
  SoftmaxPlan& operator=(const SoftmaxPlan&) = delete;

  int64_t units() const { return work.shape.batch * work.chunks; }
  // The number of pixels in a unit times the number of classes.
  int64_t unit_work() const {
    return std::max<int64_t>(1,
                             work.y.outputs * work.x.outputs * work.shape.channels / work.chunks);
  }

  // Adds what units found for node rows that the next units own. Call it when all units are done.
  void add_edges() const {
    if (work.edge != nullptr && work.chunks > 1) {
      in_double_ ? add_edges_of<double>() : add_edges_of<float>();
    }
  }

 private:
  template <typename accumulate_t>
  void add_edges_of() const {
    const PlaneStrides& to = work.gradient_strides;
    const int64_t joints = work.chunks - 1, columns = work.x.nodes, classes = work.shape.channels;
    parallel_for(work.shape.batch * joints, 1, [&](int64_t begin, int64_t end) {
      for (int64_t joint = begin; joint < end; ++joint) {
        const int64_t image = joint / joints, chunk = joint % joints;
        const int64_t row = first_cell_row(work, chunk + 1) - 1;
        const auto* edge = static_cast<const accumulate_t*>(work.edge) +
                           (image * work.chunks + chunk) * classes * columns;
        auto* gradient =
            static_cast<accumulate_t*>(work.gradient) + image * to.batch + row * to.row;
        for (int64_t c = 0; c < classes; ++c) {
          for (int64_t x = 0; x < columns; ++x) {
            gradient[c * to.channel + x * to.column] += edge[c * columns + x];
          }
        }
      }
    });
  }

  bool in_double_;
  CellTable y_, x_;
  std::vector<char> edge_;
};

}  // namespace fcn_ext
