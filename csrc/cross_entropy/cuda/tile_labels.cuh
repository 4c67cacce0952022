// The labels of a block of the tile kernel: codes of the pixels, and the weights that a thread's
// pixels of a class have at the corners of its cell.
#pragma once

#include "cross_entropy/cuda/labels.cuh"
#include "softmax/cuda/node_gradients.cuh"

namespace fcn_ext {
namespace cross_entropy {

// Codes of labels that are no class. Pixels that a cell does not have are ignored, too.
constexpr uint32_t kIgnoredCode = 0xffff;
constexpr uint32_t kInvalidCode = 0xfffe;

struct TileArgs {
  SoftmaxTiles tiles;
  LabelMap target;
  int64_t ignore_index;
  ClassTerms<float> terms;
  PartialLoss* partials;     // of each block, or null
  float* losses;             // of each pixel (N, H, W), or null
  const float* grad_output;  // of each pixel's loss (N, H, W), or null: one everywhere
};

// The labels' part of a block's shared memory, behind the engine's: byte offsets of its arrays.
template <typename Tile, bool with_gradient>
struct LabelShared {
  static constexpr int kCodes = NodeShared<Tile, with_gradient>::kBytes;   // uint16 a pixel
  static constexpr int kLoss = kCodes + 2 * Tile::kPixels * kTileThreads;  // double a thread
  static constexpr int kSmoothed = kLoss + 8 * kTileThreads;               // double a node
  static constexpr int kWeights = kSmoothed + 8 * Tile::kNodes;            // float a thread
  static constexpr int kFound = kWeights + 4 * kTileThreads;               // unsigned a thread
  static constexpr int kAlike = kFound + 4 * kTileThreads;                 // unsigned a thread
  static constexpr int kValid = kAlike + 4 * kTileThreads;                 // float a node
  static constexpr int kAllSmooth = kValid + 4 * Tile::kNodes;             // float
  static constexpr int kBytes = kAllSmooth + 4;
};

// Sums over pixels of their weights at the corners of a cell: top left, top right, bottom left,
// bottom right. All are sums of what is not negative: a corner that no pixel reads has zero.
template <typename real>
struct CornerWeights {
  real at[4] = {0, 0, 0, 0};

  // Adds `columns` times `rows` pixels, the first of them at (x, y).
  __device__ __forceinline__ void add(int columns, real x, real x_step, int rows, real y,
                                      real y_step) {
    const auto sum_of = [](int count, real first, real step) {
      const auto n = static_cast<real>(count);
      return std::fma(step, static_cast<real>(0.5) * n * (n - 1), n * first);
    };
    const real right = sum_of(columns, x, x_step), left = static_cast<real>(columns) - right;
    const real bottom = sum_of(rows, y, y_step), top = static_cast<real>(rows) - bottom;
    at[0] = std::fma(top, left, at[0]);
    at[1] = std::fma(top, right, at[1]);
    at[2] = std::fma(bottom, left, at[2]);
    at[3] = std::fma(bottom, right, at[3]);
  }
};

// A block's place and shared memory.
template <typename Tile, bool with_gradient>
struct TileBlock : TileGradients<Tile, with_gradient> {
  using Nodes = TileGradients<Tile, with_gradient>;
  using Shared = LabelShared<Tile, with_gradient>;
  using Span = typename Nodes::Span;
  using Nodes::cell;
  using Nodes::lane;
  using Nodes::part;
  using Nodes::thread;
  static constexpr int kSide = Tile::kSide;
  static constexpr unsigned kAllAlike = 1u << kSide;
  using RowBits = vector_bits<uint16_t, kSide>;

  const TileArgs& args;
  uint16_t* codes;    // labels, row by row of all threads
  double* loss;       // of a thread
  double* smoothed;   // of a node: the sum over classes of weight times (score less the largest)
  float* weights;     // of the labels of a thread
  unsigned* found;    // of a thread: the classes of its labels modulo 32
  unsigned* alike;    // of a thread: which rows are of one label; kAllAlike: all pixels are
  float* valid;       // of a node: the weights of the pixels that count
  float* all_smooth;  // smooth_total

  __device__ __forceinline__ explicit TileBlock(const TileArgs& given)
      : Nodes(given.tiles), args(given) {
    auto* bytes = shared_memory<unsigned char>();
    codes = reinterpret_cast<uint16_t*>(bytes + Shared::kCodes);
    loss = reinterpret_cast<double*>(bytes + Shared::kLoss);
    smoothed = reinterpret_cast<double*>(bytes + Shared::kSmoothed);
    weights = reinterpret_cast<float*>(bytes + Shared::kWeights);
    found = reinterpret_cast<unsigned*>(bytes + Shared::kFound);
    alike = reinterpret_cast<unsigned*>(bytes + Shared::kAlike);
    valid = reinterpret_cast<float*>(bytes + Shared::kValid);
    all_smooth = reinterpret_cast<float*>(bytes + Shared::kAllSmooth);
  }

  static __device__ __forceinline__ int code_index(int j, int i, int owner) {
    return (j * kTileThreads + owner) * kSide + i;
  }
  // The label of a pixel of a thread's part.
  __device__ __forceinline__ uint32_t code(int j, int i) const {
    return codes[code_index(j, i, thread)];
  }
  // Those of a row: two in each word, the first of them in its lower half.
  struct RowCodes {
    uint32_t pairs[kSide / 2];
    __device__ __forceinline__ uint32_t operator[](int i) const {
      return pairs[i / 2] >> (i % 2 * 16) & 0xffff;
    }
  };
  __device__ __forceinline__ RowCodes row_codes(int j) const {
    const RowBits bits = *reinterpret_cast<const RowBits*>(codes + code_index(j, 0, thread));
    RowCodes row;
    __builtin_memcpy(&row, &bits, sizeof(row));
    return row;
  }
  // Where a pixel of a thread's part lies in (N, H, W).
  __device__ __forceinline__ int64_t pixel_offset(const Span& rows, const Span& columns, int j,
                                                  int i) const {
    const BilinearAxis &y = args.tiles.grid.y, &x = args.tiles.grid.x;
    return (this->image() * y.output_size + rows.begin + j) * x.output_size + columns.begin + i;
  }

  // The pixels' labels as codes, of each thread its own. A thread loads a column of them, several
  // at a time; where there is no pixel it loads one that there is.
  __device__ __forceinline__ void load_labels() const {
    constexpr int kWidth = Tile::kColumns * Tile::kCellSide;
    constexpr int kHeight = Tile::kRows * Tile::kCellSide;
    constexpr int kStep = kTileThreads / kWidth;
    constexpr int kAhead = kHeight / kStep < 8 ? kHeight / kStep : 8;
    const int i = thread % kWidth, first = kStep == 1 ? 0 : thread / kWidth;
    const int column_cell = i / Tile::kCellSide, column_phase = i % Tile::kCellSide;
    const int32_t x = this->column_begins[column_cell] + column_phase;
    const bool column_is_there = x < this->column_begins[column_cell + 1];
    const int column_owner = column_cell * Tile::kLanes + column_phase / kSide;
    const int64_t row_step = args.target.stride[1];
    with_labels(args.target.data, args.target.type, [&](const auto* labels) {
      using label_t = std::remove_const_t<std::remove_pointer_t<decltype(labels)>>;
      const auto* const image = labels + this->image() * args.target.stride[0];
      const auto* const column = image + x * args.target.stride[2];
      const auto* const elsewhere =
          image + this->row_begins[0] * row_step + this->column_begins[0] * args.target.stride[2];
#pragma unroll 1
      for (int start = first; start < kHeight; start += kAhead * kStep) {
        label_t ahead[kAhead];
        bool is_there[kAhead];
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          const int j = start + a * kStep, row_cell = j / Tile::kCellSide;
          const int32_t y = this->row_begins[row_cell] + j % Tile::kCellSide;
          is_there[a] = column_is_there && y < this->row_begins[row_cell + 1];
          ahead[a] = *(is_there[a] ? column + y * row_step : elsewhere);
        }
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          const int j = start + a * kStep, row_cell = j / Tile::kCellSide;
          const int row_segment = j % Tile::kCellSide / kSide;
          const int owner = row_cell * Tile::kColumns * Tile::kLanes +
                            row_segment * Tile::kSegments + column_owner;
          // kIgnored and kInvalid become codes in 16 bits.
          const int32_t label =
              is_there[a] ? label_class(ahead[a], args.ignore_index, args.terms.classes) : kIgnored;
          codes[code_index(j % kSide, i % kSide, owner)] = static_cast<uint16_t>(label);
        }
      }
    });
  }

  // Calls body(code, j, i, columns, rows) for rectangles of equal labels that make up the thread's
  // pixels, from column i and row j on.
  template <typename Body>
  __device__ __forceinline__ void each_run(const Body& body) const {
    const Span rows = this->rows(), columns = this->columns();
    const unsigned same = alike[thread];
    const int height = (same & kAllAlike) != 0 ? rows.count : 1;
#pragma unroll 1
    for (int j = 0; j < rows.count; j += height) {
      const int width = (same >> j & 1) != 0 ? columns.count : 1;
#pragma unroll 1
      for (int i = 0; i < columns.count; i += width) {
        body(code(j, i), j, i, width, height);
      }
    }
  }

  // Adds the weights of such a rectangle.
  __device__ __forceinline__ void add_run(CornerWeights<float>& sums, int j, int i, int columns,
                                          int rows) const {
    const PixelSteps& steps = args.tiles.grid.steps;
    const Part own = part();
    sums.add(columns, fmaf(static_cast<float>(i), steps.x, own.x), steps.x, rows,
             fmaf(static_cast<float>(j), steps.y, own.y), steps.y);
  }
  __device__ __forceinline__ void add_run(CornerWeights<double>& sums, int j, int i, int columns,
                                          int rows) const {
    const BilinearAxis y = unclamped(args.tiles.grid.y), x = unclamped(args.tiles.grid.x);
    const auto position = [](const BilinearAxis& line, int64_t output) {
      return upper_weight<double>(line, bilinear_tap(line, output));
    };
    sums.add(columns, position(x, this->columns().begin + i), weight_step(x), rows,
             position(y, this->rows().begin + j), weight_step(y));
  }

  // Finds `alike`.
  __device__ __forceinline__ void compare_labels() const {
    const Span rows = this->rows(), columns = this->columns();
    const uint32_t first = code(0, 0) * 0x10001u;
    // What the cell does not have is no difference.
    uint32_t there[kSide / 2];
#pragma unroll
    for (int p = 0; p < kSide / 2; ++p) {
      there[p] = columns.count <= 2 * p ? 0 : columns.count == 2 * p + 1 ? 0xffffu : 0xffffffffu;
    }
    unsigned same = 0;
    bool all_same = true;
#pragma unroll
    for (int j = 0; j < kSide; ++j) {
      const RowCodes row = row_codes(j);
      const uint32_t own = row[0] * 0x10001u;
      uint32_t in_row = 0;
#pragma unroll
      for (int p = 0; p < kSide / 2; ++p) {
        in_row |= (row.pairs[p] ^ own) & there[p];
      }
      same |= in_row == 0 ? 1u << j : 0;
      all_same = all_same && (j >= rows.count || (in_row == 0 && own == first));
    }
    alike[thread] = same | (all_same ? kAllAlike : 0);
  }

  // Finds `smoothed` of the block's nodes.
  __device__ __forceinline__ void find_smoothed() const {
    with_scores(args.tiles.input, args.tiles.type, [&](const auto* scores) {
      this->each_own_node(1, [&](int node) {
        double sum = 0;
        if (this->input[node] != kNoNode) {
          const auto* from = scores + this->input[node];
#pragma unroll 4
          for (int32_t c = 0; c < args.terms.classes; ++c) {
            const double difference =
                static_cast<double>(static_cast<float>(*from)) - this->maxima[node];
            if (difference != 0) {  // or an infinite weight made it NaN
              sum += static_cast<double>(args.terms.weight_of(c)) * difference;
            }
            from += args.tiles.input_strides.channel;
          }
        }
        smoothed[node] = sum;
      });
    });
  }
  // And `valid`, from what note_labels() left.
  __device__ __forceinline__ void find_valid() const {
    this->each_own_node(1, [&](int node) { valid[node] = this->sum_around(0, node); });
  }

  // Looks through the thread's labels: which classes there are, the sum of their weights, an
  // invalid one. Where they are smoothed, also what that takes from the loss, and, in the corners
  // of the first staged class, the weights of all that count.
  __device__ __forceinline__ void note_labels() const {
    const ClassTerms<float>& terms = args.terms;
    compare_labels();
    float sum = 0;
    unsigned classes = 0;
    bool invalid = false;
    CornerWeights<float> counting;
    each_run([&](uint32_t code, int j, int i, int columns, int rows) {
      invalid = invalid || code == kInvalidCode;
      if (code < kInvalidCode) {
        classes |= 1u << code % 32;
        sum = fmaf(static_cast<float>(columns * rows), terms.weight_of(static_cast<int32_t>(code)),
                   sum);
        if (terms.smooth != 0) {
          add_run(counting, j, i, columns, rows);
        }
      }
    });
    found[thread] = classes;
    weights[thread] = sum;
    double smooth_loss = invalid ? not_a_number<double>() : 0;
    if (terms.smooth != 0) {
      const int top_left = top_left_of<Tile>(cell());
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const double at_node = smoothed[top_left + k / 2 * Tile::kNodeColumns + k % 2];
        if (counting.at[k] != 0 && at_node != 0) {
          smooth_loss -= static_cast<double>(terms.smooth * counting.at[k]) * at_node;
        }
      }
      if constexpr (with_gradient) {
        this->keep(counting.at, this->own_corner());
      }
    }
    loss[thread] = smooth_loss;
  }

  // What `sums`, the weights of pixels of a class, take from the loss; score_of(node): of that
  // class.
  template <typename real, typename ScoreOf>
  __device__ __forceinline__ double worth_of(const CornerWeights<real>& sums,
                                             const ScoreOf& score_of) const {
    const int top_left = top_left_of<Tile>(cell());
    double worth = 0;
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const int node = top_left + corner / 2 * Tile::kNodeColumns + corner % 2;
      if (sums.at[corner] != 0) {
        worth += static_cast<double>(sums.at[corner]) *
                 (static_cast<double>(score_of(node)) - this->maxima[node]);
      }
    }
    return worth;
  }
  __device__ __forceinline__ void take_from_loss(int32_t c, double worth) const {
    if (worth != 0) {  // or an infinite weight made it NaN
      loss[thread] -= static_cast<double>(args.terms.hard * args.terms.weight_of(c)) * worth;
    }
  }

  // Takes the labels from the loss where take_labels() does not: where scores are far apart, the
  // loss of a right label is a small difference of large numbers.
  __device__ __forceinline__ void take_labels_exactly() const {
    each_run([&](uint32_t code, int j, int i, int columns, int rows) {
      if (code < kInvalidCode) {
        CornerWeights<double> sums;
        add_run(sums, j, i, columns, rows);
        const int64_t offset = code * args.tiles.input_strides.channel;
        take_from_loss(static_cast<int32_t>(code), worth_of(sums, [&](int node) {
                         const int64_t at = this->input[node];
                         return at == kNoNode ? 0.0f : score_at(args.tiles, at + offset);
                       }));
      }
    });
  }

  // Takes the weights of the thread's labels in [first, first + count) from the corners of their
  // staged classes, and from the loss what they are worth there. With several threads a cell, all
  // of a warp come here.
  __device__ __forceinline__ void take_labels(int32_t first, int count, const float* staged) const {
    const ClassTerms<float>& terms = args.terms;
    const unsigned here = found[thread], turn = static_cast<unsigned>(first) % 32;
    // Bit k: class first + k, or one that is it modulo 32.
    const unsigned hits = (here >> turn | here << (32 - turn) % 32) & ((1u << count) - 1);
    const auto take = [&](int k, bool hit) {
      CornerWeights<float> sums;
      if (hit) {
        const int32_t c = first + k;
        each_run([&](uint32_t code, int j, int i, int columns, int rows) {
          if (code == static_cast<uint32_t>(c)) {
            add_run(sums, j, i, columns, rows);
          }
        });
        if (this->flags[0] == 0) {
          take_from_loss(c,
                         worth_of(sums, [&](int node) { return staged[k * Tile::kNodes + node]; }));
        }
        const float weight = terms.hard * terms.weight_of(c);
#pragma unroll
        for (float& sum : sums.at) {
          sum = sum != 0 ? sum * -weight : 0;
        }
      }
      if constexpr (with_gradient) {
        this->add(sums.at, this->own_corner() + k * Tile::kCornerPitch);
      }
    };
    if constexpr (with_gradient && Tile::kLanes > 1) {
#pragma unroll 1
      for (int k = 0; k < count; ++k) {
        const bool hit = (hits >> k & 1) != 0;
        if (__ballot_sync(kFullMask, hit) != 0) {
          take(k, hit);
        }
      }
    } else {
#pragma unroll 1
      for (unsigned left = hits; left != 0; left &= left - 1) {
        take(__ffs(static_cast<int>(left)) - 1, true);
      }
    }
  }
};

}  // namespace cross_entropy
}  // namespace fcn_ext
