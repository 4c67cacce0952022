// What the labels of a block of the tile kernel take from its loss and its corner sums.
#pragma once

#include "cross_entropy/cuda/tile_labels.cuh"

namespace fcn_ext {
namespace cross_entropy {

// The product of four sums that are at least this is a normal number.
constexpr float kSmallestOfFour = 4.6566129e-10f;  // 2^-31

// A block's place in the map and its shared memory.
template <typename Tile, bool with_gradient>
struct TileBlock : TileLabels<Tile, with_gradient> {
  using Labels = TileLabels<Tile, with_gradient>;
  using Shared = LabelShared<Tile, with_gradient>;
  using Weights = typename Labels::template Weights<float>;
  using Labels::add_run;
  using Labels::args;
  using Labels::each_run;
  using Labels::pixel_offset;
  using Labels::thread;

  double* loss;       // per thread
  double* smoothed;   // per node: the sum over classes of weight times (score - the largest)
  float* weights;     // per thread: its labels' weights
  unsigned* found;    // per thread: the classes of its labels modulo 32, as bits
  float* valid;       // per node: the weights of the pixels that count, times `scale`
  float* all_smooth;  // smooth_total
  float* scale;       // mean_scale: of the gradient

  __device__ __forceinline__ explicit TileBlock(const TileArgs& given) : Labels(given) {
    auto* bytes = shared_memory<unsigned char>();
    loss = reinterpret_cast<double*>(bytes + Shared::kLoss);
    smoothed = reinterpret_cast<double*>(bytes + Shared::kSmoothed);
    weights = reinterpret_cast<float*>(bytes + Shared::kWeights);
    found = reinterpret_cast<unsigned*>(bytes + Shared::kFound);
    valid = reinterpret_cast<float*>(bytes + Shared::kValid);
    all_smooth = reinterpret_cast<float*>(bytes + Shared::kAllSmooth);
    scale = reinterpret_cast<float*>(bytes + Shared::kScale);
  }

  // Fills `smoothed` for the block's nodes.
  __device__ __forceinline__ void find_smoothed() const {
    with_scores(args.tiles.input, args.tiles.type, [&](const auto* scores) {
      this->each_own_node(2, [&](int node) {
        double sum = 0;
        if (this->input[node] != kNoNode) {
          const auto* from = scores + this->input[node];
#pragma unroll 4
          for (int32_t c = 0; c < args.terms.classes; ++c) {
            const double difference =
                static_cast<double>(static_cast<float>(*from)) - this->maxima[Tile::slot_of(node)];
            if (difference != 0) {  // else an infinite weight would make it NaN
              sum += static_cast<double>(args.terms.weight_of(c)) * difference;
            }
            from += args.tiles.input_strides.channel;
          }
        }
        smoothed[node] = sum;
      });
    });
  }
  // Fills `valid` from what note_labels() left.
  __device__ __forceinline__ void find_valid() const {
    this->each_own_node(2, [&](int node) { valid[node] = *scale * this->sum_around(0, node); });
  }

  // Looks through the thread's labels: which classes there are, the sum of their weights, whether
  // one is invalid. With label smoothing it also finds what that takes from the loss, and leaves
  // the weights of all pixels that count in the corners of the first staged class.
  __device__ __forceinline__ void note_labels() const {
    const ClassTerms<float>& terms = args.terms;
    this->compare_labels();
    if (terms.smooth == 0 && terms.weight == nullptr) {
      return count_labels();
    }
    float sum = 0;
    unsigned classes = 0;
    bool invalid = false;
    Weights counting;
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
#pragma unroll
      for (int k = 0; k < Tile::kCorners; ++k) {
        const double at_node = smoothed[this->own_node(k)];
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

  // note_labels() without class weights and label smoothing.
  __device__ __forceinline__ void count_labels() const {
    int count = 0;
    unsigned classes = 0;
    bool invalid = false;
    const auto note = [&](uint32_t code, int pixels) {
      const bool is_class = code < kInvalidCode;
      classes |= is_class ? 1u << code % 32 : 0;
      count += is_class ? pixels : 0;
      invalid = invalid || code == kInvalidCode;
    };
#pragma unroll
    for (int which = 0; which < Tile::kStack; ++which) {
      const int rows = this->rows(which).count, first = which * Tile::kSide;
      if ((this->alike_of(which) & Labels::kAllAlike) != 0) {
        note(this->code(first, 0), rows * this->columns().count);
      } else {
#pragma unroll 1
        for (int j = 0; j < rows; ++j) {
          const auto row = this->row_codes(first + j);
#pragma unroll
          for (int i = 0; i < Tile::kSide; ++i) {
            note(row[i], 1);
          }
        }
      }
    }
    found[thread] = classes;
    weights[thread] = static_cast<float>(count);
    loss[thread] = invalid ? not_a_number<double>() : 0;
  }

  // Whether no pixel of the warp counts, makes the loss NaN or has a loss of its own to be written.
  // All threads of a warp must call this.
  __device__ __forceinline__ bool is_idle() const {
    return args.losses == nullptr &&
           __ballot_sync(kFullMask, found[thread] != 0 || loss[thread] != loss[thread]) == 0;
  }

  // Whether all pixels of the thread that count have one factor, and the product of any four of its
  // sums is a normal number.
  __device__ __forceinline__ bool has_one_factor(const float (&sum)[Tile::kOwnPixels]) const {
    // A loss that is NaN already means an invalid label.
    if (args.terms.weight != nullptr || this->apart() || loss[thread] != loss[thread]) {
      return false;
    }
    float least = sum[0];
#pragma unroll
    for (const float value : sum) {
      least = fminf(least, value);
    }
    return least >= kSmallestOfFour;
  }

  // What pixels of a class take from the loss, given their weights `sums`. difference_of(node,
  // slot) is the class's score minus the largest, at a node and its slot in the stage.
  template <typename real, typename DifferenceOf>
  __device__ __forceinline__ real worth_of(const CornerWeights<Tile, real>& sums,
                                           const DifferenceOf& difference_of) const {
    real worth = 0;
    const unsigned stack = this->stack();
    const int node = top_left_of<Tile>(stack), slot = Tile::top_left_slot(stack);
#pragma unroll
    for (int corner = 0; corner < Tile::kCorners; ++corner) {
      const real difference =
          difference_of(node + Tile::to_corner(corner), slot + Tile::to_slot(corner));
      worth = sums.at[corner] != 0 ? std::fma(sums.at[corner], difference, worth) : worth;
    }
    return worth;
  }
  __device__ __forceinline__ void take_from_loss(int32_t c, double worth) const {
    if (worth != 0) {  // else an infinite weight would make it NaN
      loss[thread] -= static_cast<double>(args.terms.hard * args.terms.weight_of(c)) * worth;
    }
  }

  // Takes the labels from the loss where take_labels() does not: if scores are far apart, the loss
  // of a right label is a small difference of large numbers, so this computes in double.
  __device__ __forceinline__ void take_labels_exactly() const {
    each_run([&](uint32_t code, int j, int i, int columns, int rows) {
      if (code < kInvalidCode) {
        typename Labels::template Weights<double> sums;
        add_run(sums, j, i, columns, rows);
        const int64_t offset = code * args.tiles.input_strides.channel;
        take_from_loss(static_cast<int32_t>(code), worth_of(sums, [&](int node, int slot) {
                         const int64_t at = this->input[node];
                         const double score =
                             at == kNoNode ? 0.0f : score_at(args.tiles, at + offset);
                         return score - this->maxima[slot];
                       }));
      }
    });
  }

  // The losses of pixels without their log-sums: leaves in `losses` what the labels of class c, the
  // k-th staged one, take from the losses of their pixels.
  __device__ __forceinline__ void leave_labels(int32_t c, int k, const float* staged) const {
    each_run([&](uint32_t code, int j, int i, int, int) {
      if (code != static_cast<uint32_t>(c)) {
        return;
      }
      Weights sums;
      add_run(sums, j, i, 1, 1);
      const float worth = worth_of(sums, [&](int, int slot) {
        return staged[k * Tile::kSlots + slot] - this->maxima[slot];
      });
      args.losses[pixel_offset(j, i)] =
          worth == 0 ? 0.0f : -args.terms.hard * args.terms.weight_of(c) * worth;
    });
  }

  // Completes the loss of a pixel: adds its log-sum, times its factor, and what smoothing takes
  // from it. A pixel that the cell does not have has no loss.
  __device__ __forceinline__ void finish_loss(int j, int i, uint32_t code, float factor,
                                              float log_sum) const {
    const int which = Tile::which_of(j);
    if (j - which * Tile::kSide >= this->rows(which).count || i >= this->columns().count) {
      return;
    }
    float value = code == kInvalidCode ? not_a_number<float>() : 0;
    float* const to = args.losses + pixel_offset(j, i);
    if (code < kInvalidCode) {
      value = fmaf(factor, log_sum, *to);
      if (args.terms.smooth != 0) {
        Weights weights;
        add_run(weights, j, i, 1, 1);
#pragma unroll
        for (int k = 0; k < Tile::kCorners; ++k) {
          const auto at_node = static_cast<float>(smoothed[this->own_node(k)]);
          if (weights.at[k] != 0 && at_node != 0) {
            value = fmaf(-args.terms.smooth * weights.at[k], at_node, value);
          }
        }
      }
    }
    *to = value;
  }

  // Bit k: the thread may have labels of class first + k (it has one that is equal modulo 32).
  __device__ __forceinline__ unsigned labels_among(int32_t first, int count) const {
    const unsigned here = found[thread], turn = static_cast<unsigned>(first) % 32;
    return (here >> turn | here << (32 - turn) % 32) & ((1u << count) - 1);
  }

  // Takes the weights of the thread's labels in [first, first + count) from the corners of their
  // staged classes, and what they are worth there from the loss. If cells have several threads, all
  // threads of a warp must call this.
  __device__ __forceinline__ void take_labels(int32_t first, int count, const float* staged) const {
    const ClassTerms<float>& terms = args.terms;
    const unsigned labels = labels_among(first, count);
    const auto take = [&](int k, bool is_label) {
      Weights sums;
      const int32_t c = first + k;
      if (is_label) {
        if (!with_gradient && args.losses != nullptr) {
          leave_labels(c, k, staged);
        } else {
          sums = this->weights_of(static_cast<uint32_t>(c));
        }
        if (this->flags[0] == 0) {
          take_from_loss(c, worth_of(sums, [&](int, int slot) {
                           return staged[k * Tile::kSlots + slot] - this->maxima[slot];
                         }));
        }
      }
      if constexpr (with_gradient) {
        if (is_label) {
          const float weight = *scale * (terms.hard * terms.weight_of(c));
#pragma unroll
          for (float& sum : sums.at) {
            sum = sum != 0 ? sum * -weight : 0;
          }
        }
        this->add(sums.at, this->own_corner() + k * Tile::kCornerPitch);
      }
    };
    if constexpr (with_gradient && Tile::kLanes > 1) {
#pragma unroll 1
      for (int k = 0; k < count; ++k) {
        const bool is_label = (labels >> k & 1) != 0;
        if (__ballot_sync(kFullMask, is_label) != 0) {
          take(k, is_label);
        }
      }
    } else {
#pragma unroll 1
      for (unsigned left = labels; left != 0; left &= left - 1) {
        take(__ffs(static_cast<int>(left)) - 1, true);
      }
    }
  }
};

}  // namespace cross_entropy
}  // namespace fcn_ext
