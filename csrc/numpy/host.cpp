// The NumPy side of the library: no torch, but the same counting code as the torch operators.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "common/cpu/capability.h"
#include "confusion_matrix/cpu/count.h"

namespace py = pybind11;

namespace {

// Recognizes a dtype by its elements, not by its identity: pickling makes another dtype object, and
// each of C's integer types of one size has its own.
int label_type(const py::array& labels, const char* name) {
  const py::dtype dtype = labels.dtype();
  const auto is = [&](char kind, py::ssize_t size) {
    return dtype.kind() == kind && dtype.itemsize() == size;
  };
  if (dtype.attr("isnative").cast<bool>()) {
    if (is('u', 1)) return 0;
    if (is('i', 2)) return 1;
    if (is('i', 4)) return 2;
    if (is('i', 8)) return 3;
  }
  throw py::type_error(std::string(name) + " must be uint8, int16, int32 or int64, got " +
                       py::str(static_cast<py::object>(dtype)).cast<std::string>());
}

// Any array as (N, H, W); axes that it lacks come first and have size one.
fcn_ext::LabelMap label_map(const py::array& labels, const char* name, fcn_ext::LabelShape& shape) {
  fcn_ext::LabelMap map{labels.data(), label_type(labels, name), {0, 0, 0}};
  int64_t sizes[3] = {1, 1, 1};
  const auto dims = labels.ndim();
  if (dims > 3) {
    throw py::value_error(std::string(name) + " must have at most 3 axes, got " +
                          std::to_string(dims));
  }
  for (py::ssize_t d = 0; d < dims; ++d) {
    const py::ssize_t bytes = labels.strides(d);
    if (bytes % labels.itemsize() != 0) {
      throw py::value_error(std::string(name) + " must be strided in whole elements");
    }
    sizes[3 - dims + d] = labels.shape(d);
    map.stride[3 - dims + d] = bytes / labels.itemsize();
  }
  shape = {sizes[0], sizes[1], sizes[2]};
  return map;
}

void thread_parallel_for(int64_t count, int64_t grain,
                         const std::function<void(int64_t, int64_t)>& body) {
  const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
  const int64_t pieces = std::clamp<int64_t>(count / std::max<int64_t>(1, grain), 1, cores);
  // The destructor of a future waits for its thread, even if another body throws.
  std::vector<std::future<void>> others;
  for (int64_t piece = 1; piece < pieces; ++piece) {
    others.push_back(std::async(std::launch::async, [&, piece] {
      body(count * piece / pieces, count * (piece + 1) / pieces);
    }));
  }
  body(0, count / pieces);
  for (std::future<void>& other : others) {
    other.get();
  }
}

int64_t confusion_matrix(const py::array& prediction, const py::array& target, int64_t ignore_index,
                         py::array_t<int64_t, py::array::c_style> matrix) {
  fcn_ext::LabelShape shape, target_shape;
  const fcn_ext::LabelMap predictions = label_map(prediction, "prediction", shape);
  const fcn_ext::LabelMap targets = label_map(target, "target", target_shape);
  if (prediction.ndim() != target.ndim() ||
      !std::equal(prediction.shape(), prediction.shape() + prediction.ndim(), target.shape())) {
    throw py::value_error("prediction and target must have the same shape, got " +
                          py::str(prediction.attr("shape")).cast<std::string>() + " and " +
                          py::str(target.attr("shape")).cast<std::string>());
  }
  const int64_t num_classes = matrix.shape(0);
  int64_t* counts = matrix.mutable_data();
  if (shape.batch * shape.height * shape.width == 0) {
    return 0;
  }
  const py::gil_scoped_release release;
  return fcn_ext::count_labels(shape, predictions, targets, num_classes, ignore_index, counts,
                               thread_parallel_for);
}

// indices[i] = the first palette entry equal to colors[i]; returns the first i without one, or -1.
// Colors are looked up in an open-addressing table of 1024 slots with at most 256 entries.
int64_t decode_palette(const py::array_t<uint8_t, py::array::c_style>& colors,
                       const py::array_t<uint8_t, py::array::c_style>& palette,
                       py::array_t<uint8_t, py::array::c_style> indices) {
  constexpr uint32_t kSlots = 1024, kEmpty = 0xffffffffu;
  const auto packed = [](const uint8_t* rgb) {
    return static_cast<uint32_t>(rgb[0]) << 16 | static_cast<uint32_t>(rgb[1]) << 8 | rgb[2];
  };
  const auto slot_of = [](uint32_t color) { return color * 2654435769u >> 22; };
  uint32_t key[kSlots];
  uint8_t index[kSlots];
  std::fill(key, key + kSlots, kEmpty);
  for (py::ssize_t entry = 0; entry < palette.shape(0); ++entry) {
    const uint32_t color = packed(palette.data(entry));
    uint32_t slot = slot_of(color);
    while (key[slot] != kEmpty && key[slot] != color) {
      slot = (slot + 1) % kSlots;
    }
    if (key[slot] == kEmpty) {
      key[slot] = color;
      index[slot] = static_cast<uint8_t>(entry);
    }
  }
  const uint8_t* from = colors.data();
  uint8_t* to = indices.mutable_data();
  const int64_t pixels = colors.shape(0);
  const py::gil_scoped_release release;
  for (int64_t i = 0; i < pixels; ++i) {
    const uint32_t color = packed(from + 3 * i);
    uint32_t slot = slot_of(color);
    while (key[slot] != color) {
      if (key[slot] == kEmpty) {
        return i;
      }
      slot = (slot + 1) % kSlots;
    }
    to[i] = index[slot];
  }
  return -1;
}

}  // namespace

PYBIND11_MODULE(_host, m) {
  m.doc() = "Build facts and the NumPy operators' core.";
  m.attr("version") = FCN_EXT_VERSION;
  m.attr("built_against_torch") = FCN_EXT_TORCH_VERSION;
  m.attr("cuda_build") = FCN_EXT_CUDA_BUILD;
  m.def("cpu_capability",
        [] { return std::string(fcn_ext::cpu_capability_name(fcn_ext::cpu_capability())); });
  m.def("best_cpu_capability",
        [] { return std::string(fcn_ext::cpu_capability_name(fcn_ext::best_cpu_capability())); });
  m.def("confusion_matrix", &confusion_matrix, py::arg("prediction"), py::arg("target"),
        py::arg("ignore_index"), py::arg("matrix").noconvert());
  m.def("decode_palette", &decode_palette, py::arg("colors").noconvert(),
        py::arg("palette").noconvert(), py::arg("indices").noconvert());
}
