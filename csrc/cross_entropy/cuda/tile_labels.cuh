// The labels of a block of the tile kernel: codes of the pixels, runs of equal codes, and their
// weights at the corners of a thread's stack of cells.
#pragma once

#include "cross_entropy/cuda/corner_weights.cuh"
#include "cross_entropy/cuda/finish.cuh"
#include "softmax/cuda/exact.cuh"

namespace fcn_ext {
namespace cross_entropy {

// Codes for labels that are no class. Pixels that a cell does not have are ignored, too.
constexpr uint32_t kIgnoredCode = 0xffff;
constexpr uint32_t kInvalidCode = 0xfffe;

struct TileArgs {
  SoftmaxTiles tiles;
  LabelMap target;
  int64_t ignore_index;
  ClassTerms<float> terms;
  FinishLoss<float> finish;  // what to do with the parts of the loss, if it is asked for
  float* losses;             // per pixel (N, H, W), or null
  const float* grad_output;  // per pixel's loss (N, H, W); null: one everywhere
  TotalWeights totals;       // that the gradient is divided by
};

// The labels' part of a block's shared memory, after the engine's: byte offsets of its arrays.
template <typename Tile, bool with_gradient>
struct LabelShared {
  static constexpr int kCodes = NodeShared<Tile, with_gradient>::kBytes;        // uint16 per pixel
  static constexpr int kLoss = kCodes + 2 * Tile::kOwnPixels * Tile::kThreads;  // double per thread
  static constexpr int kWeights = kLoss + 8 * Tile::kThreads;                   // float per thread
  static constexpr int kFound = kWeights + 4 * Tile::kThreads;  // unsigned per thread
  static constexpr int kAlike = kFound + 4 * Tile::kThreads;    // uint16 per part
  static constexpr int kAllSmooth = kAlike + 2 * Tile::kStack * Tile::kThreads;  // float
  static constexpr int kScale = kAllSmooth + 4;                                  // float
  // Only if labels are smoothed:
  static constexpr int kSmoothed = kScale + 4;                 // double per node
  static constexpr int kValid = kSmoothed + 8 * Tile::kNodes;  // float per node
  static constexpr int kBytes = kValid + 4 * Tile::kNodes;

  static constexpr size_t bytes(bool smoothed) { return smoothed ? kBytes : kSmoothed; }
};

// The codes of a block, and questions about them.
template <typename Tile, bool with_gradient>
struct TileLabels : TileGradients<Tile, with_gradient> {
  using Nodes = TileGradients<Tile, with_gradient>;
  using Shared = LabelShared<Tile, with_gradient>;
  using Span = typename Nodes::Span;
  using Nodes::part;
  using Nodes::thread;
  static constexpr int kSide = Tile::kSide, kStack = Tile::kStack;
  static constexpr unsigned kAllAlike = 1u << kSide;
  using RowBits = vector_bits<uint16_t, kSide>;
  template <typename real>
  using Weights = CornerWeights<Tile, real>;

  const TileArgs& args;
  uint16_t* codes;  // labels: row 0 of all threads, then row 1, ...
  uint16_t* alike;  // per part: bit j: row j has one label; kAllAlike: all pixels have

  __device__ __forceinline__ explicit TileLabels(const TileArgs& given)
      : Nodes(given.tiles), args(given) {
    auto* bytes = shared_memory<unsigned char>();
    codes = reinterpret_cast<uint16_t*>(bytes + Shared::kCodes);
    alike = reinterpret_cast<uint16_t*>(bytes + Shared::kAlike);
  }

  static __device__ __forceinline__ int code_index(int j, int i, int owner) {
    return (j * Tile::kThreads + owner) * kSide + i;
  }
  // The number under which `codes` has the thread's labels.
  __device__ __forceinline__ int owner() const {
    return kStack == 1 ? static_cast<int>(thread) : static_cast<int>(this->stack());
  }
  // The code of a pixel of the thread; rows count through its stack.
  __device__ __forceinline__ uint32_t code(int j, int i) const {
    return codes[code_index(j, i, owner())];
  }
  // The codes of a row: two per word, the first one in the lower half.
  struct RowCodes {
    uint32_t pairs[kSide / 2];
    __device__ __forceinline__ uint32_t operator[](int i) const {
      return pairs[i / 2] >> (i % 2 * 16) & 0xffff;
    }
  };
  __device__ __forceinline__ RowCodes row_codes(int j) const {
    const RowBits bits = *reinterpret_cast<const RowBits*>(codes + code_index(j, 0, owner()));
    RowCodes row;
    __builtin_memcpy(&row, &bits, sizeof(row));
    return row;
  }
  // The thread's entry in `alike` for one of its parts.
  __device__ __forceinline__ uint16_t& alike_of(int which) const {
    return alike[which * Tile::kThreads + thread];
  }
  // The offset in (N, H, W) of a pixel of the thread.
  __device__ __forceinline__ int64_t pixel_offset(int j, int i) const {
    const BilinearAxis &y = args.tiles.grid.y, &x = args.tiles.grid.x;
    const int which = Tile::which_of(j);
    const int32_t row = this->rows(which).begin + j - which * kSide;
    return (this->image() * y.output_size + row) * x.output_size + this->columns().begin + i;
  }
  // The offset in (N, H, W) of a pixel that is computed again.
  __device__ __forceinline__ int64_t offset_of(const ExactPixel<Tile, with_gradient>& pixel) const {
    const BilinearAxis &y = args.tiles.grid.y, &x = args.tiles.grid.x;
    return (this->image() * y.output_size + pixel.row) * x.output_size + pixel.column;
  }
  // The derivative with respect to a pixel's loss.
  __device__ __forceinline__ float grad_output(int j, int i) const {
    return args.grad_output == nullptr ? 1.0f : args.grad_output[pixel_offset(j, i)];
  }

  // Stores the pixels' labels as codes, where the threads that own the pixels read them. Each
  // thread loads one column of labels, several at a time; where there is no pixel, it loads the
  // label of another.
  __device__ __forceinline__ void load_labels() const {
    constexpr int kCellSide = Tile::kCellSide;
    constexpr int kWidth = Tile::kColumns * kCellSide, kHeight = Tile::kRows * kCellSide;
    constexpr int kStep = Tile::kThreads / kWidth;
    constexpr int kAhead = kHeight / kStep < 8 ? kHeight / kStep : 8;
    constexpr int kTurn = kAhead * kStep;  // rows
    static_assert(kTurn % kCellSide == 0 || kCellSide % kTurn == 0);
    if (kStep * kWidth < Tile::kThreads && thread >= kStep * kWidth) {
      return;
    }
    const int i = thread % kWidth, first = kStep == 1 ? 0 : thread / kWidth;
    const int column_cell = i / kCellSide, column_phase = i % kCellSide;
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
      // Whether the tile has all pixels that it may have, so that a cell's rows follow those of
      // the cell above.
      const bool whole = this->row_begins[Tile::kRows] - this->row_begins[0] == kHeight &&
                         this->column_begins[Tile::kColumns] - this->column_begins[0] == kWidth;
      // Row turn * kTurn + a * kStep + first, written so that what depends on `a` alone is a
      // compile-time constant.
      const auto place_of = [&](int turn, int a, int& row_cell, int& phase) {
        const int within = a * kStep % kCellSide + first;
        const int cell_within = kStep <= kCellSide ? 0 : within / kCellSide;
        row_cell = kTurn >= kCellSide
                       ? turn * (kTurn / kCellSide) + a * kStep / kCellSide + cell_within
                       : turn / (kCellSide / kTurn);
        phase = kTurn >= kCellSide ? within - cell_within * kCellSide
                                   : turn % (kCellSide / kTurn) * kTurn + a * kStep + first;
      };
      const auto keep = [&](int turn, int a, int32_t label) {
        int row_cell, phase;
        place_of(turn, a, row_cell, phase);
        const int owner = row_cell / kStack * Tile::kColumns * Tile::kLanes +
                          phase / kSide * Tile::kSegments + column_owner;
        const int j = row_cell % kStack * kSide + phase % kSide;
        // In 16 bits, kIgnored and kInvalid become their codes.
        codes[code_index(j, i % kSide, owner)] = static_cast<uint16_t>(label);
      };
      const auto class_of = [&](label_t label) {
        return label_class(label, args.ignore_index, args.terms.classes);
      };
      if (whole) {
        const auto* from = column + (this->row_begins[0] + first) * row_step;
#pragma unroll 1
        for (int turn = 0; turn < kHeight / kTurn; ++turn) {
          label_t ahead[kAhead];
#pragma unroll
          for (int a = 0; a < kAhead; ++a) {
            ahead[a] = *from;
            from += kStep * row_step;
          }
#pragma unroll
          for (int a = 0; a < kAhead; ++a) {
            keep(turn, a, class_of(ahead[a]));
          }
        }
        return;
      }
#pragma unroll 1
      for (int turn = 0; turn < kHeight / kTurn; ++turn) {
        label_t ahead[kAhead];
        bool is_there[kAhead];
        const auto* from = column;
        int32_t there_are = 0;
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          int row_cell, phase;
          place_of(turn, a, row_cell, phase);
          if (a * kStep % kCellSide == 0) {  // another cell
            const int32_t begin = this->row_begins[row_cell];
            there_are = column_is_there ? this->row_begins[row_cell + 1] - begin : 0;
            from = column + (begin + phase) * row_step;
          } else {
            from += kStep * row_step;
          }
          is_there[a] = phase < there_are;
          ahead[a] = *(is_there[a] ? from : elsewhere);
        }
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
          keep(turn, a, is_there[a] ? class_of(ahead[a]) : kIgnored);
        }
      }
    });
  }

  // Whether each pixel has a loss of its own.
  __device__ __forceinline__ bool apart() const {
    return args.losses != nullptr || args.grad_output != nullptr;
  }

  // Splits the thread's pixels into rectangles of equal labels and calls body(code, j, i, columns,
  // rows), where j and i are the first row and column. Single pixels if each has a loss of its own.
  template <typename Body>
  __device__ __forceinline__ void each_run(const Body& body) const {
    const Span columns = this->columns();
#pragma unroll 1
    for (int which = 0; which < kStack; ++which) {
      const int rows = this->rows(which).count;
      const unsigned same = apart() ? 0 : alike_of(which);
      const int height = (same & kAllAlike) != 0 ? rows : 1;
#pragma unroll 1
      for (int j = 0; j < rows; j += height) {
        const int width = (same >> j & 1) != 0 ? columns.count : 1;
        const int own_row = which * kSide + j;
#pragma unroll 1
        for (int i = 0; i < columns.count; i += width) {
          body(code(own_row, i), own_row, i, width, height);
        }
      }
    }
  }

  // Adds the weights of a rectangle from each_run().
  __device__ __forceinline__ void add_run(Weights<float>& sums, int j, int i, int columns,
                                          int rows) const {
    const int which = Tile::which_of(j);
    const Part own = part(which);
    const auto phase = static_cast<float>(j - which * kSide);
    sums.add(which, grad_output(j, i), columns, fmaf(static_cast<float>(i), own.x_step, own.x()),
             own.x_step, rows, fmaf(phase, own.y_step, own.y()), own.y_step);
  }
  __device__ __forceinline__ void add_run(Weights<double>& sums, int j, int i, int columns,
                                          int rows) const {
    const int which = Tile::which_of(j);
    const BilinearAxis y = unclamped(args.tiles.grid.y), x = unclamped(args.tiles.grid.x);
    const auto position = [](const BilinearAxis& line, int64_t output) {
      return upper_weight<double>(line, bilinear_tap(line, output));
    };
    sums.add(which, 1, columns, position(x, this->columns().begin + i), weight_step(x), rows,
             position(y, this->rows(which).begin + j - which * kSide), weight_step(y));
  }

  // The corner weights of the thread's pixels of one class.
  __device__ __forceinline__ Weights<float> weights_of(uint32_t wanted) const {
    Weights<float> sums;
    if (apart()) {
      each_run([&](uint32_t code, int j, int i, int columns, int rows) {
        if (code == wanted) {
          add_run(sums, j, i, columns, rows);
        }
      });
      return sums;
    }
#pragma unroll
    for (int which = 0; which < kStack; ++which) {
      add_weights_of(wanted, which, sums);
    }
    return sums;
  }
  // Adds the weights of the pixels of one part.
  __device__ __forceinline__ void add_weights_of(uint32_t wanted, int which,
                                                 Weights<float>& sums) const {
    const Span rows = this->rows(which);
    const int first = which * kSide;
    if ((alike_of(which) & kAllAlike) != 0) {
      if (code(first, 0) == wanted) {
        add_run(sums, first, 0, this->columns().count, rows.count);
      }
      return;
    }
    const Part own = part(which);
    const uint32_t both = wanted * 0x10001u;
#pragma unroll 1
    for (int j = 0; j < rows.count; ++j) {
      const RowCodes row = row_codes(first + j);
      int found = 0;  // how many, plus 256 times the sum of their columns
#pragma unroll
      for (int i = 0; i < kSide; ++i) {
        const uint32_t half = i % 2 == 0 ? 0xffffu : 0xffff0000u;
        found += ((row.pairs[i / 2] ^ both) & half) == 0 ? 1 + 256 * i : 0;
      }
      const auto count = static_cast<float>(found & 255), places = static_cast<float>(found >> 8);
      sums.add_row(which, fmaf(places, own.x_step, count * own.x()), count,
                   fmaf(static_cast<float>(j), own.y_step, own.y()));
    }
  }

  // Fills `alike`. Pixels that the cell does not have make no difference.
  __device__ __forceinline__ void compare_labels() const {
    const int columns = this->columns().count;
#pragma unroll
    for (int which = 0; which < kStack; ++which) {
      alike_of(which) = static_cast<uint16_t>(
          columns == kSide
              ? rows_alike(which, [](int) { return 0xffffffffu; })
              : rows_alike(which, [&](int p) {
                  return columns <= 2 * p ? 0 : columns == 2 * p + 1 ? 0xffffu : 0xffffffffu;
                }));
    }
  }
  // there(p): a mask of those of the pixels 2p and 2p + 1 of a row that the cell has.
  template <typename There>
  __device__ __forceinline__ unsigned rows_alike(int which, const There& there) const {
    const int rows = this->rows(which).count;
    const uint32_t first = code(which * kSide, 0);
    unsigned same = 0, other = 0;  // rows of one label; rows that begin unlike the first
#pragma unroll
    for (int j = 0; j < kSide; ++j) {
      const RowCodes row = row_codes(which * kSide + j);
      const uint32_t own = row[0], both = own * 0x10001u;
      uint32_t differences = 0;
#pragma unroll
      for (int p = 0; p < kSide / 2; ++p) {
        differences |= (row.pairs[p] ^ both) & there(p);
      }
      same |= differences == 0 ? 1u << j : 0;
      other |= own != first ? 1u << j : 0;
    }
    const unsigned there_are = (1u << rows) - 1;
    return same | ((same & ~other & there_are) == there_are ? kAllAlike : 0);
  }
};

}  // namespace cross_entropy
}  // namespace fcn_ext
