// The walk: sums and gradient of masks in one pass over their pixels.
//
// A block takes a tile of a mask's nodes and all outputs that read one of them. A thread is a
// column of outputs. It keeps the two node rows around it, blended to its column, goes down the
// outputs between them and gathers what their slopes give to the one and to the other. From one
// node row to the next the block adds up the columns of each node. Outputs that read nodes of two
// tiles are visited by both, and counted by the one that has the node before them; so each node is
// complete, and everything is summed in an order fixed by the shape.
//
// Memory touched: targets once, but at the seams of tiles; of each node row two nodes per column;
// the gradient once.
#pragma once

#include "common/cuda/launch.cuh"
#include "sigmoid_sums/cuda/pixel.cuh"
#include "softmax/cuda/functions.cuh"

namespace fcn_ext {
namespace sigmoid_sums {

constexpr int kMostColumns = 448, kMostRows = 512;  // of a tile, outputs
constexpr int64_t kMostNodes = 512;                 // of a tile along one axis
constexpr int64_t kEnoughBlocks = 512;              // for any device; not of fewer node rows than
constexpr int64_t kFewNodeRows = 4;
constexpr int kGroup = 4;      // rows whose targets are loaded at once
constexpr int kSettled = 120;  // pixels whose logarithms are taken at once: at most 2^kSettled

// What the pixels of a walk are: labels, or numbers of which most are zero or one, and of both the
// cross-entropy alone; or anything.
enum class Pixels { kLabels, kNumbers, kAny };

// Nodes of a tile along an axis, how many tiles there are, and the most outputs of one. No tiles:
// a node alone has too many.
struct TileAxis {
  int64_t nodes = 0, tiles = 0, outputs = 0;
};

inline TileAxis tile_axis(const BilinearAxis& axis, int64_t most_outputs, int64_t least_tiles) {
  const int64_t size = axis.input_size;
  int64_t tiles = larger(larger(ceil_divide(axis.output_size, most_outputs), least_tiles),
                         ceil_divide(size, kMostNodes));
  for (; tiles <= size; ++tiles) {
    const int64_t nodes = ceil_divide(size, tiles);
    int64_t outputs = 0;
    for (int64_t first = 0; first < size; first += nodes) {
      outputs = larger(outputs, first_output(axis, first + nodes) - first_output(axis, first - 1));
    }
    if (outputs <= most_outputs) {
      return {nodes, ceil_divide(size, nodes), outputs};
    }
    if (nodes == 1) {
      break;
    }
  }
  return {};
}

struct Walk {
  TileAxis y, x;

  bool possible() const { return y.tiles > 0 && x.tiles > 0 && parts() <= kMostBlocksYZ; }
  int64_t parts() const { return y.tiles * x.tiles; }
  int threads() const {
    return static_cast<int>(larger<int64_t>(ceil_divide(x.outputs, kWarp), 1)) * kWarp;
  }
};

// Of accumulation in float; that in double has the direct kernels.
inline Walk walk_of(const SigmoidSums& problem) {
  const BilinearShape& shape = problem.shape;
  Walk walk;
  walk.x = tile_axis(shape.x, kMostColumns, 1);
  const int64_t blocks = larger<int64_t>(1, shape.batch * shape.channels * walk.x.tiles);
  const int64_t least =
      smaller(ceil_divide(kEnoughBlocks, blocks), ceil_divide(shape.y.input_size, kFewNodeRows));
  walk.y = tile_axis(shape.y, kMostRows, larger<int64_t>(1, least));
  return walk;
}

template <typename scalar_t>
bool is_walked(const SigmoidSums& problem) {
  return std::is_same_v<accumulate_of<scalar_t>, float> && walk_of(problem).possible();
}

template <typename scalar_t>
struct WalkArgs {
  SigmoidSums problem;
  const scalar_t* input;
  Walk walk;
  double* partials;      // [masks][parts][kSigmoidSums]; null: sums are not wanted
  const float* weights;  // [weight_masks][kSigmoidSums], mask by mask, over and over again
  int64_t weight_masks;
  float* gradient;  // null: not wanted
  PlaneStrides gradient_strides;
};

// A tile's outputs along an axis: which are the bands of its nodes, the first that of the node
// before them.
struct TileOutputs {
  int64_t node, begin, end;  // first node; outputs
  int nodes;

  __device__ __forceinline__ TileOutputs(const BilinearAxis& axis, const TileAxis& tiles,
                                         int64_t tile) {
    node = tile * tiles.nodes;
    nodes = static_cast<int>(smaller(tiles.nodes, axis.input_size - node));
    begin = first_output(axis, node - 1);
    end = first_output(axis, node + nodes);
  }
};

__host__ __device__ __forceinline__ constexpr int spread(int column) {
  return column + column / kWarp;
}

// The block's shared memory.
struct WalkShared {
  double scratch[kMostColumns / kWarp];
  Vector<float, 2> weights[kMostRows];  // of the node row above and of the one below
  // What columns give to the nodes beside them.
  float left[2][spread(kMostColumns)], right[2][spread(kMostColumns)];
  // Where bands begin, from the tile's first output on.
  int rows[kMostNodes + 2], columns[kMostNodes + 2];
};

// Labels as the pixels read them: a byte's or short's own value, of wider ones zero, one, the void
// label or kWrongLabel.
constexpr int kWrongLabel = 1 << 20;

// What void labels are then.
__device__ __forceinline__ int void_label_of(int64_t ignore_index) {
  return ignore_index >= -32768 && ignore_index < kWrongLabel ? static_cast<int>(ignore_index)
                                                              : kWrongLabel + 1;
}

// The labels of `some` targets, `step` elements apart.
__device__ __forceinline__ void load_labels(const SigmoidSums& problem, int64_t at, int64_t step,
                                            int some, int (&label)[kGroup]) {
  const auto load = [&](const auto* labels, const auto& convert) {
    labels += at;
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      if (j < some) {
        label[j] = convert(*labels);
      }
      labels += step;
    }
  };
  const auto itself = [](int found) { return found; };
  const int64_t ignored = problem.ignore_index;
  const auto known = [&](int64_t found) {
    const int of_two = found == 0 || found == 1 ? static_cast<int>(found) : kWrongLabel;
    return found == ignored ? void_label_of(ignored) : of_two;
  };
  const void* const data = problem.target.data;
  switch (problem.target.type) {
    case 0:
      return load(static_cast<const uint8_t*>(data), itself);
    case 1:
      return load(static_cast<const int16_t*>(data), itself);
    case 2:
      return load(static_cast<const int32_t*>(data), known);
    default:
      return load(static_cast<const int64_t*>(data), known);
  }
}

__device__ __forceinline__ void load_numbers(const SigmoidSums& problem, int64_t at, int64_t step,
                                             int some, float (&number)[kGroup]) {
  const auto load = [&](const auto* numbers) {
    numbers += at;
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      if (j < some) {
        const float found = static_cast<float>(*numbers);
        number[j] = found >= 0 && found <= 1 ? found : NAN;
      }
      numbers += step;
    }
  };
  switch (problem.target.type) {
    case 4:
      return load(static_cast<const float*>(problem.target.data));
    case 6:
      return load(static_cast<const c10::Half*>(problem.target.data));
    case 7:
      return load(static_cast<const c10::BFloat16*>(problem.target.data));
    default:  // labels, and doubles that a float may round to zero or one
#pragma unroll
      for (int j = 0; j < kGroup; ++j) {
        if (j < some) {
          number[j] = target_at<float>(problem, at + j * step);
        }
      }
  }
}

// Columns of a tile have fewer pixels.
constexpr int kOne = 1 << 16;
static_assert(kMostRows < kOne);

// A column's sums.
struct ColumnSums {
  float sum[kSigmoidSums] = {};
  // The logarithms of many pixels are one of a product: sum of ln(1 + e) = ln(1 + d), of the
  // positive pixels and of the negative.
  float gathered[2] = {};
  int counts = 0;  // of labels: kOne times the ones, and all that are not void
  int since = 0;
  bool wrong = false;  // a label is

  __device__ __forceinline__ void add(bool there, float s, float e) {
    const float above = s > 0 ? s : 0;
    if (there) {
      sum[kPositive] += above;
      gathered[0] = fmaf(e, gathered[0] + 1, gathered[0]);
    } else {
      sum[kNegative] += above;
      gathered[1] = fmaf(e, gathered[1] + 1, gathered[1]);
    }
  }
  // To be called after each group.
  __device__ __forceinline__ void settle_in_time() {
    since += kGroup;
    if (since > kSettled - kGroup) {
      settle();
    }
  }
  __device__ __forceinline__ void settle() {
    sum[kPositive] += log1p(gathered[0]);
    sum[kNegative] += log1p(gathered[1]);
    gathered[0] = gathered[1] = 0;
    since = 0;
  }
};

// The derivative by its logit of a pixel that is zero or one, or void, added to its column's sums.
__device__ __forceinline__ float take_pixel(float x, bool there, bool is_void, const float* weight,
                                            ColumnSums& column) {
  // The cross-entropy is softplus(s).
  float s = there ? -x : x;
  s = is_void ? -INFINITY : s;
  constexpr float kLog2OfE = static_cast<float>(kLog2E);
  const float e = exp2_fast(-std::abs(s) * kLog2OfE);
  const float more = softmax::reciprocal_fast(1 + e), less = e * more;
  const float wrong = s >= 0 ? more : less;
  column.add(there, s, e);
  column.counts += is_void ? 0 : there ? kOne + 1 : 1;
  return wrong * (there ? -weight[kPositive] : weight[kNegative]);
}

// The same of a pixel whose target is a number, or NaN.
__device__ __forceinline__ float take_number(float x, float target, const float* weight,
                                             ColumnSums& column) {
  if (target == 0 || target == 1) {
    return take_pixel(x, target == 1, false, weight, column);
  }
  constexpr float kLog2OfE = static_cast<float>(kLog2E);
  const float e = exp2_fast(-std::abs(x) * kLog2OfE), tail = log1p(e);
  const float more = softmax::reciprocal_fast(1 + e), less = e * more, missing = 1 - target;
  column.sum[kPositive] += target * (x < 0 ? tail - x : tail);
  column.sum[kNegative] += missing * (x > 0 ? tail + x : tail);
  column.sum[kTarget] += target;
  column.sum[kCount] += target == target ? 1 : target;
  const float p = x >= 0 ? more : less, q = x >= 0 ? less : more;
  return weight[kNegative] * (missing * p) - weight[kPositive] * (target * q);
}

// The same of any pixel.
__device__ __forceinline__ float take_any(const SigmoidSums& problem, float x, float target,
                                          const float* weight, ColumnSums& column) {
  if (target < 0) {
    return 0;
  }
  add_pixel(problem, x, target, column.sum);
  return slope_of(problem, x, target, weight);
}

// Masks along x, parts of them along y; threads are the columns of a tile.
template <typename scalar_t, Pixels pixels>
__global__ void __launch_bounds__(kMostColumns, pixels == Pixels::kAny ? 1 : 2)
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
  // Threads beyond the tile go along, for loops that are the same for all, and give nothing.
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
      const bool reached = pixels == Pixels::kAny || kind == kPositive || kind == kNegative;
      if (reached && is_summed(kind, problem.regions, problem.focal)) {
        weight[kind] = from[kind];
        moderate = moderate && std::abs(weight[kind]) < INFINITY;
      }
    }
  }
  // Node rows at this column, from the one above the tile's first on.
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
        std::conditional_t<pixels == Pixels::kLabels, int, float> target[kGroup];
        if constexpr (pixels == Pixels::kLabels) {
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
          if constexpr (pixels == Pixels::kLabels) {
            const bool is_void = target[j] == void_label, there = target[j] == 1 && !is_void;
            others |= is_void ? 0 : target[j];
            slope = take_pixel(logit, there, is_void, weight, sums);
          } else if constexpr (pixels == Pixels::kNumbers) {
            slope = take_number(logit, target[j], weight, sums);
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
    if (pixels == Pixels::kLabels && (others & ~1) != 0) {
      to_above = to_below = NAN;
      sums.wrong = true;
    }
    above = below;
    below = next;
    if (band == 0) {
      if (rows.node != 0) {  // counted by the tile before
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
  const auto kernel = !plain ? walk_kernel<scalar_t, Pixels::kAny>
                      : problem.target.type < kFirstSoftMask
                          ? walk_kernel<scalar_t, Pixels::kLabels>
                          : walk_kernel<scalar_t, Pixels::kNumbers>;
  const dim3 grid(static_cast<unsigned>(problem.shape.batch * problem.shape.channels),
                  static_cast<unsigned>(args.walk.parts()));
  launch(kernel, grid, dim3(static_cast<unsigned>(args.walk.threads())), sizeof(WalkShared), stream,
         args);
}

}  // namespace sigmoid_sums
}  // namespace fcn_ext
