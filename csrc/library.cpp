// Every operator of fcn_ext, as torch sees it. csrc/*/<operator>_operators.h checks the arguments,
// csrc/*/{cpu,cuda}/ implements the operators, and fcn_ext/ops/_<operator>.py has gradients, shapes
// for tracing and docstrings.
//
// `geometry` says how coarse scores reach full size: the numbers of a Deconvolution or a Resize, as
// in fcn_ext/geometry.py.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(fcn_ext, m) {
  // A window of the bilinear transposed convolution of (N, C, H, W), and its transpose.
  m.def(
      "upsample(Tensor input, SymInt stride, SymInt kernel_size, SymInt offset_y, SymInt offset_x, "
      "SymInt output_height, SymInt output_width) -> Tensor");
  m.def(
      "upsample_backward(Tensor grad_output, SymInt stride, SymInt kernel_size, SymInt offset_y, "
      "SymInt offset_x, SymInt input_height, SymInt input_width) -> Tensor");
  // F.interpolate(mode="bilinear") of (N, C, H, W), or a window of it, and its transpose.
  m.def(
      "interpolate(Tensor input, SymInt output_height, SymInt output_width, bool align_corners, "
      "SymInt[]? crop=None) -> Tensor");
  m.def(
      "interpolate_backward(Tensor grad_output, SymInt input_height, SymInt input_width, bool "
      "align_corners, SymInt[]? crop=None) -> Tensor");
  // upsample(coarse, stride) plus the window of skip at the offset. Its gradients are
  // upsample_backward and a pad.
  m.def(
      "fuse_skip(Tensor coarse, Tensor skip, SymInt offset_y, SymInt offset_x, SymInt stride) -> "
      "Tensor");
  // Adds counts to matrix (num_classes, num_classes), rows = target, columns = prediction, and the
  // number of out-of-range pixels to invalid (). Takes labels (N, H, W) or logits (N, C, H, W).
  m.def(
      "confusion_matrix_labels(Tensor prediction, Tensor target, int ignore_index, Tensor(a!) "
      "matrix, Tensor(b!) invalid) -> ()");
  m.def(
      "confusion_matrix_logits(Tensor logits, Tensor target, int ignore_index, Tensor(a!) matrix, "
      "Tensor(b!) invalid) -> ()");
  // Softmax cross-entropy of coarse scores (N, C, h, w) at the size of target (N, H, W), computed
  // without storing full-size scores. loss () and total_weight () are sums over pixels; with
  // `mean`, loss is divided by total_weight. gradient: d loss / d input in the accumulation type,
  // (0,) unless asked for. weight: (C) in the accumulation type.
  m.def(
      "cross_entropy(Tensor input, Tensor target, SymInt[] geometry, Tensor? weight, int "
      "ignore_index, float label_smoothing, bool mean, bool with_gradient) -> (Tensor loss, Tensor "
      "total_weight, Tensor gradient)");
  // cross_entropy with int64 pixel counts, hits (2,): the pixels that count, and those of them
  // whose label has the greatest score.
  m.def(
      "cross_entropy_hits(Tensor input, Tensor target, SymInt[] geometry, Tensor? weight, int "
      "ignore_index, float label_smoothing, bool mean, bool with_gradient) -> (Tensor loss, Tensor "
      "total_weight, Tensor gradient, Tensor hits)");
  // Multiplies a dense map by factor (), in place. Writes nothing if the factor is one.
  m.def("scale_gradient(Tensor(a!) gradient, Tensor factor) -> ()");
  // The loss of every pixel (N, H, W). Its backward differentiates sum(grad_output * loss).
  m.def(
      "cross_entropy_pixels(Tensor input, Tensor target, SymInt[] geometry, Tensor? weight, int "
      "ignore_index, float label_smoothing) -> Tensor");
  m.def(
      "cross_entropy_pixels_hits(Tensor input, Tensor target, SymInt[] geometry, Tensor? weight, "
      "int ignore_index, float label_smoothing) -> (Tensor loss, Tensor hits)");
  m.def(
      "cross_entropy_pixels_backward(Tensor grad_output, Tensor input, Tensor target, SymInt[] "
      "geometry, Tensor? weight, int ignore_index, float label_smoothing) -> Tensor");
  // Sums over the pixels of an image, for each class: of its softmax probability at the size of
  // target, of that probability where it is the label, of the number of pixels with the label, and,
  // if asked for, of the squared probability: sums (3 or 4, N, C). losses (2, N), the summed
  // cross-entropy and total weight of an image, is (0, N) unless asked for. All float64.
  m.def(
      "region_sums(Tensor input, Tensor target, SymInt[] geometry, Tensor? weight, int "
      "ignore_index, "
      "bool squared, bool with_loss) -> (Tensor sums, Tensor losses)");
  // The gradient of the scores in the accumulation type, which grad_sums and grad_losses have, too.
  m.def(
      "region_sums_backward(Tensor grad_sums, Tensor grad_losses, Tensor input, Tensor target, "
      "SymInt[] geometry, Tensor? weight, int ignore_index) -> Tensor");
  // The class with the greatest score at every full-size pixel, (N, height, width), and its softmax
  // probability in the accumulation type, (0,) unless asked for.
  m.def(
      "argmax(Tensor input, SymInt output_height, SymInt output_width, SymInt[] geometry, "
      "ScalarType dtype, bool with_probability) -> (Tensor labels, Tensor probability)");
  // What sigmoid losses sum over the pixels of each mask (N, Q, 8), straight from coarse scores (N,
  // Q, h, w). The backward is the gradient of the sum of grad_output * sums. SigmoidSum in
  // csrc/sigmoid_sums/sigmoid_sums.h names the columns; those that need `gamma` or `regions` are
  // zero without them.
  m.def(
      "sigmoid_sums(Tensor input, Tensor target, SymInt[] geometry, int ignore_index, float? "
      "gamma, "
      "bool regions) -> Tensor");
  m.def(
      "sigmoid_sums_backward(Tensor grad_output, Tensor input, Tensor target, SymInt[] geometry, "
      "int "
      "ignore_index, float? gamma, bool regions) -> Tensor");
  // The loss of each mask (N, Q): the sum over columns of sigmoid_sums times weight (Q, 8). Also
  // the sums, and the gradient of all losses together in the accumulation type, (0,) unless asked
  // for.
  m.def(
      "sigmoid_loss(Tensor input, Tensor target, Tensor weight, SymInt[] geometry, int "
      "ignore_index, float? gamma, bool with_gradient) -> (Tensor loss, Tensor sums, "
      "Tensor gradient)");
  // confusion_matrix_labels of the labels that argmax would return.
  m.def(
      "score_confusion_matrix(Tensor input, Tensor target, SymInt[] geometry, int ignore_index, "
      "Tensor(a!) matrix, Tensor(b!) invalid) -> ()");
}
