// The walk: sums and gradient of masks in one pass over their pixels.
//
// A block takes a tile of a mask's nodes and all outputs that read one of them. A thread is a
// column of outputs: it holds the two node rows around it, blended to its column, goes down the
// outputs between them and adds up what their slopes give to each of the two. After each node row,
// the block adds up the columns of every node. Outputs that read nodes of two tiles are visited by
// both, and counted by the tile that has the node before them. So each node is complete, and
// everything is summed in an order fixed by the shape.
//
// Memory touched: targets once, except at the seams of tiles; two nodes of each node row per
// column; the gradient once.
#pragma once

#include "sigmoid_sums/cuda/columns.cuh"

namespace fcn_ext {
namespace sigmoid_sums {

// The pixels of a walk: labels, or numbers that are mostly zero or one, both for the cross-entropy
// alone; or anything.
enum class PixelKind { kLabels, kNumbers, kAny };

template <typename scalar_t>
struct WalkArgs {
  SigmoidSums problem;
  const scalar_t* input;
  Walk walk;
  double* partials;      // [masks][parts][kSigmoidSums]; null: sums are not wanted
  const float* weights;  // [weight_masks][kSigmoidSums]; mask m has row m % weight_masks
  int64_t weight_masks;
  float* gradient;  // null: not wanted
  PlaneStrides gradient_strides;
};

__host__ __device__ __forceinline__ constexpr int spread(int column) {
  return column + column / kWarp;
}

// The block's shared memory.
struct WalkShared {
  double scratch[kMostColumns / kWarp];
  Vector<float, 2> weights[kMostRows];  // of the node rows above and below
  // What columns add to the nodes beside them.
  float left[2][spread(kMostColumns)], right[2][spread(kMostColumns)];
  // Where bands begin, counted from the tile's first output.
  int rows[kMostNodes + 2], columns[kMostNodes + 2];
};

// Grid: masks along x, their parts along y; threads are the columns of a tile.
template <typename scalar_t, PixelKind pixels>
__global__ void __launch_bounds__(kMostColumns, pixels == PixelKind::kAny ? 1 : 2)
    walk_kernel(const WalkArgs<scalar_t> args) {
  const SigmoidSums& problem = args.problem;
  const BilinearAxis &y_axis = problem.shape.y, &x_axis = problem.shape.x;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int tiles_x = static_cast<int>(args.walk.x.tiles), part = static_cast<int>(blockIdx.y);
  const TileOutputs rows(y_axis, args.walk.y, part / tiles_x);
  const TileOutputs columns(x_axis, args.walk.x, part % tiles_x);
  WalkShared& shared = *shared_memory<WalkShared>();
  for (int i = thread; i < rows.nodes + 2; i += threads) {
    shared.rows[i] = static_cast<int>(first_output(y_axis, rows.node - 1 + i) - rows.begin);
  }
  for (int i = thread; i < columns.nodes + 2; i += threads) {
    shared.columns[i] =
        static_cast<int>(first_output(x_axis, columns.node - 1 + i) - columns.begin);
  }
  for (int i = thread; i < static_cast<int>(rows.end - rows.begin); i += threads) {
    const auto tap = weighted_tap<float>(y_axis, rows.begin + i);
    shared.weights[i] = {{tap.lower, tap.upper}};
  }

  const int64_t number = blockIdx.x, masks = problem.shape.channels;
  const MaskView<scalar_t> mask(problem, args.input, number);
  // Threads beyond the tile take part in loops that are the same for all, and add nothing.
  const bool active = columns.begin + thread < columns.end;
  const int64_t column = smaller(columns.begin + thread, x_axis.output_size - 1);
  WeightedTap<float> x{0, 0, 0};
  if (active) {
    x = weighted_tap<float>(x_axis, column);
  }
  float weight[kSigmoidSums] = {};
  bool moderate = true;
  if (args.gradient != nullptr) {
    const float* const from = args.weights + number % args.weight_masks * kSigmoidSums;
#pragma unroll
    for (int kind = 0; kind < kSigmoidSums; ++kind) {
      const bool reached = pixels == PixelKind::kAny || kind == kPositive || kind == kNegative;
      if (reached && is_summed(kind, problem.regions, problem.focal)) {
        weight[kind] = from[kind];
        moderate = moderate && std::abs(weight[kind]) < INFINITY;
      }
    }
  }
  // The node rows at this column, from the one above the tile's first node row on.
  const scalar_t* scores = mask.scores + (rows.node - 1) * problem.input_strides.row +
                           x.node * problem.input_strides.column;
  int node = static_cast<int>(rows.node) - 1;
  const auto next_row = [&]() {
    float value = 0;
    if (node >= 0 && node < y_axis.input_size) {
      value = x.lower != 0 ? x.lower * static_cast<float>(scores[0]) : 0;
      const scalar_t* const right = scores + problem.input_strides.column;
      value += x.upper != 0 ? x.upper * static_cast<float>(*right) : 0;
    }
    ++node;
    scores += problem.input_strides.row;
    return value;
  };
  const int void_label = void_label_of(problem.ignore_index);
  const int64_t step = problem.target.strides.row;
  int64_t band_at = mask.target + rows.begin * step + column * problem.target.strides.column;
  float* to = args.gradient == nullptr
                  ? nullptr
                  : args.gradient + number / masks * args.gradient_strides.batch +
                        number % masks * args.gradient_strides.channel +
                        rows.node * args.gradient_strides.row +
                        columns.node * args.gradient_strides.column;
  ColumnSums sums;
  float above = next_row(), below = next_row(), to_here = 0;
  __syncthreads();

#pragma unroll 1
  for (int band = 0; band <= rows.nodes; ++band) {
    const float next = next_row();
    const bool finite = std::abs(above) < INFINITY && std::abs(below) < INFINITY;
    float to_above = 0, to_below = 0;
    int others = 0;  // bits of labels that are neither void nor zero
    const auto take_rows = [&](auto careful) {
      const int begin = shared.rows[band], end = shared.rows[band + 1];
      int64_t at = band_at;
      band_at += (end - begin) * step;
#pragma unroll 1
      for (int row = begin; row < end; row += kGroup) {
        const int some = smaller(kGroup, end - row);
        std::conditional_t<pixels == PixelKind::kLabels, int, float> target[kGroup];
        if constexpr (pixels == PixelKind::kLabels) {
          load_labels(problem, at, step, some, target);
        } else {
          load_numbers(problem, at, step, some, target);
        }
        at += kGroup * step;
        const Vector<float, 2>* const shares = shared.weights + row;
#pragma unroll
        for (int j = 0; j < kGroup; ++j) {
          if (j >= some) {
            break;
          }
          // A weight of zero reads nothing.
          const float of_above = shares[j].values[0], of_below = shares[j].values[1];
          const auto share_of = [&](float share, float value) {
            return !decltype(careful)::value || share != 0 ? share * value : 0;
          };
          const float logit = share_of(of_above, above) + share_of(of_below, below);
          float slope;
          if constexpr (pixels == PixelKind::kLabels) {
            const bool is_void = target[j] == void_label, there = target[j] == 1 && !is_void;
            others |= is_void ? 0 : target[j];
            slope = take_pixel<decltype(careful)::value>(logit, there, is_void, weight, sums);
          } else if constexpr (pixels == PixelKind::kNumbers) {
            slope = take_number<decltype(careful)::value>(logit, target[j], weight, sums);
          } else {
            slope = take_any(problem, logit, target[j], weight, sums);
          }
          to_above += share_of(of_above, slope);
          to_below += share_of(of_below, slope);
        }
        sums.settle_in_time();
      }
    };
    if (finite && moderate) {
      take_rows(std::false_type());
    } else {
      take_rows(std::true_type());
    }
    if (pixels == PixelKind::kLabels && (others & ~1) != 0) {
      to_above = to_below = NAN;
      sums.wrong = true;
    }
    above = below;
    below = next;
    if (band == 0) {
      if (rows.node != 0) {  // counted by the tile above
        sums = ColumnSums();
      }
    } else if (to != nullptr) {
      const float all = to_here + to_above;
      float *const left = shared.left[band % 2], *const right = shared.right[band % 2];
      left[spread(thread)] = x.lower != 0 ? x.lower * all : 0;
      right[spread(thread)] = x.upper != 0 ? x.upper * all : 0;
      __syncthreads();
      for (int i = thread; i < columns.nodes; i += threads) {
        const int middle = shared.columns[i + 1];
        float sum = 0;
#pragma unroll 1
        for (int c = shared.columns[i]; c < middle; ++c) {
          sum += right[spread(c)];
        }
        const int last = shared.columns[i + 2];
#pragma unroll 1
        for (int c = middle; c < last; ++c) {
          sum += left[spread(c)];
        }
        to[i * args.gradient_strides.column] = sum;
      }
      to += args.gradient_strides.row;
    }
    to_here = to_below;
  }
  if (args.partials == nullptr) {
    return;
  }
  sums.settle();
  sums.sum[kTarget] += static_cast<float>(sums.counts / kOne);
  sums.sum[kCount] += static_cast<float>(sums.counts % kOne);
  const bool counts = active && (columns.node == 0 || thread >= shared.columns[1]);
  double* const partial = args.partials + (number * gridDim.y + blockIdx.y) * kSigmoidSums;
#pragma unroll
  for (int kind = 0; kind < kSigmoidSums; ++kind) {
    double sum = 0;
    if (is_summed(kind, problem.regions, problem.focal)) {
      const float own = sums.wrong ? static_cast<float>(NAN) : sums.sum[kind];
      sum = softmax::block_sum(static_cast<double>(counts ? own : 0), shared.scratch);
    }
    if (thread == 0) {
      partial[kind] = sum;
    }
  }
}

template <typename scalar_t>
void launch_walk(const WalkArgs<scalar_t>& args, cudaStream_t stream) {
  const SigmoidSums& problem = args.problem;
  const bool plain = !problem.regions && !problem.focal;
  const auto kernel = !plain ? walk_kernel<scalar_t, PixelKind::kAny>
                      : problem.target.type < kFirstSoftMask
                          ? walk_kernel<scalar_t, PixelKind::kLabels>
                          : walk_kernel<scalar_t, PixelKind::kNumbers>;
  const dim3 grid(blocks_along_x(problem.shape.batch * problem.shape.channels),
                  static_cast<unsigned>(args.walk.parts()));
  launch(kernel, grid, dim3(static_cast<unsigned>(args.walk.threads())), sizeof(WalkShared), stream,
         args);
}

}  // namespace sigmoid_sums
}  // namespace fcn_ext
