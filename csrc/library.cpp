// Every operator of fcn_ext, as torch sees it. Checked arguments: csrc/*/<operator>_operators.h;
// implementations: csrc/*/{cpu,cuda}/; gradients, shapes for tracing and docstrings:
// fcn_ext/ops/_<operator>.py.
//
// `geometry` says how coarse scores reach full size: (stride, kernel_size, offset_y, offset_x) of a
// Deconvolution or (align_corners) of a Resize, as in fcn_ext/geometry.py.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(fcn_ext, m) {
  // A window of the bilinear transposed convolution of (N, C, H, W), and its transpose.
  m.def(
      "upsample(Tensor input, SymInt stride, SymInt kernel_size, SymInt offset_y, SymInt offset_x, "
      "SymInt output_height, SymInt output_width) -> Tensor");
  m.def(
      "upsample_backward(Tensor grad_output, SymInt stride, SymInt kernel_size, SymInt offset_y, "
      "SymInt offset_x, SymInt input_height, SymInt input_width) -> Tensor");
  // F.interpolate(mode="bilinear") of (N, C, H, W), and its transpose.
  m.def(
      "interpolate(Tensor input, SymInt output_height, SymInt output_width, bool align_corners) -> "
      "Tensor");
  m.def(
      "interpolate_backward(Tensor grad_output, SymInt input_height, SymInt input_width, bool "
      "align_corners) -> Tensor");
  // upsample(coarse, stride) plus the window of skip at the offset. Its gradients are
  // upsample_backward and a pad.
  m.def(
      "fuse_skip(Tensor coarse, Tensor skip, SymInt offset_y, SymInt offset_x, SymInt stride) -> "
      "Tensor");
  // Adds counts into matrix (num_classes, num_classes), rows = target, columns = prediction, and
  // the number of pixels out of range into invalid (). Labels (N, H, W) or logits (N, C, H, W).
  m.def(
      "confusion_matrix_labels(Tensor prediction, Tensor target, int ignore_index, Tensor(a!) "
      "matrix, Tensor(b!) invalid) -> ()");
  m.def(
      "confusion_matrix_logits(Tensor logits, Tensor target, int ignore_index, Tensor(a!) matrix, "
      "Tensor(b!) invalid) -> ()");
  // Softmax cross-entropy of (N, C, h, w) scores, taken to the size of target (N, H, W), straight
  // from the coarse scores: loss () and total_weight () summed over pixels, or the mean of the
  // former over the latter; d loss / d input in the accumulation type, (0,) unless asked for.
  // weight: (C) in the accumulation type.
  m.def(
      "cross_entropy(Tensor input, Tensor target, SymInt[] geometry, Tensor? weight, int "
      "ignore_index, float label_smoothing, bool mean, bool with_gradient) -> (Tensor loss, Tensor "
      "total_weight, Tensor gradient)");
  // The same, and int64 numbers of pixels (2,): those that count, and those of them whose greatest
  // score is that of their label.
  m.def(
      "cross_entropy_hits(Tensor input, Tensor target, SymInt[] geometry, Tensor? weight, int "
      "ignore_index, float label_smoothing, bool mean, bool with_gradient) -> (Tensor loss, Tensor "
      "total_weight, Tensor gradient, Tensor hits)");
  // Multiplies a dense map by a factor (), in place; where that is one, nothing is written.
  m.def("scale_gradient(Tensor(a!) gradient, Tensor factor) -> ()");
  // The loss of every pixel (N, H, W), and the gradient of the sum of grad_output * loss.
  m.def(
      "cross_entropy_pixels(Tensor input, Tensor target, SymInt[] geometry, Tensor? weight, int "
      "ignore_index, float label_smoothing) -> Tensor");
  m.def(
      "cross_entropy_pixels_hits(Tensor input, Tensor target, SymInt[] geometry, Tensor? weight, "
      "int ignore_index, float label_smoothing) -> (Tensor loss, Tensor hits)");
  m.def(
      "cross_entropy_pixels_backward(Tensor grad_output, Tensor input, Tensor target, SymInt[] "
      "geometry, Tensor? weight, int ignore_index, float label_smoothing) -> Tensor");
  // Sums over the pixels of an image of each class's softmax probability at the size of target, of
  // the label's and of its count, and of its square if asked for: sums (3 or 4, N, C). The summed
  // cross-entropy and total weight of an image: losses (2, N), (0, N) unless asked for. float64.
  m.def(
      "region_sums(Tensor input, Tensor target, SymInt[] geometry, Tensor? weight, int "
      "ignore_index, "
      "bool squared, bool with_loss) -> (Tensor sums, Tensor losses)");
  // The gradient of scores in the accumulation type; those of sums and losses come in it.
  m.def(
      "region_sums_backward(Tensor grad_sums, Tensor grad_losses, Tensor input, Tensor target, "
      "SymInt[] geometry, Tensor? weight, int ignore_index) -> Tensor");
  // Labels (N, height, width) of the greatest scores at full size, and their softmax probability in
  // the accumulation type, (0,) unless asked for.
  m.def(
      "argmax(Tensor input, SymInt output_height, SymInt output_width, SymInt[] geometry, "
      "ScalarType dtype, bool with_probability) -> (Tensor labels, Tensor probability)");
  // What sigmoid losses sum over the pixels of each mask (N, Q, 8), straight from coarse scores (N,
  // Q, h, w), and the gradient of the sum of grad_output * sums. The columns: SigmoidSum in
  // csrc/sigmoid_sums/sigmoid_sums.h; those of no use without `gamma` or `regions` are zero.
  m.def(
      "sigmoid_sums(Tensor input, Tensor target, SymInt[] geometry, int ignore_index, float? "
      "gamma, "
      "bool regions) -> Tensor");
  m.def(
      "sigmoid_sums_backward(Tensor grad_output, Tensor input, Tensor target, SymInt[] geometry, "
      "int "
      "ignore_index, float? gamma, bool regions) -> Tensor");
  // Of those sums, each times its weight (Q, 8), the loss of each mask (N, Q); the sums; and the
  // gradient of all losses together in the accumulation type, (0,) unless asked for.
  m.def(
      "sigmoid_loss(Tensor input, Tensor target, Tensor weight, SymInt[] geometry, int "
      "ignore_index, float? gamma, bool with_gradient) -> (Tensor loss, Tensor sums, "
      "Tensor gradient)");
  // confusion_matrix of those labels.
  m.def(
      "score_confusion_matrix(Tensor input, Tensor target, SymInt[] geometry, int ignore_index, "
      "Tensor(a!) matrix, Tensor(b!) invalid) -> ()");
}
