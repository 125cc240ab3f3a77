// The Python interface of the native engine: the class Trainer owns the memory of one run.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "memory.hpp"
#include "network.hpp"
#include "threads.hpp"

namespace py = pybind11;
using namespace lenet;

namespace baseline { extern const Kernels kernels; }
#ifdef LENET_X86
namespace avx2 { extern const Kernels kernels; }
namespace avx512 { extern const Kernels kernels; }
#endif

namespace {

// The kernels for the instruction sets that this machine has, best first.
std::vector<const Kernels*> usable() {
  std::vector<const Kernels*> found;
#ifdef LENET_X86
  __builtin_cpu_init();  // also checks that the operating system saves the registers
  bool fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
    found.push_back(&avx512::kernels);
  if (fma) found.push_back(&avx2::kernels);
#endif
  found.push_back(&baseline::kernels);
  return found;
}

const Kernels* kernels_named(const std::string& name) {
  for (const Kernels* kernels : usable())
    if (name.empty() || name == kernels->name) return kernels;
  throw std::invalid_argument("instruction set " + name + " is not on this machine");
}

// The index of each of the 61,706 parameters, in the order of torch's state_dict, in the padded array
// of the kernels (see kernels.hpp for its layout).
std::vector<int> places() {
  std::vector<int> at;
  for (int out = 0; out < 6; out++)
    for (int tap = 0; tap < 25; tap++) at.push_back(CONV1_W + out * 25 + tap);
  for (int out = 0; out < 6; out++) at.push_back(CONV1_B + out);
  for (int out = 0; out < 16; out++)
    for (int in = 0; in < 6; in++)
      for (int tap = 0; tap < 25; tap++) at.push_back(CONV2_W + (out * 25 + tap) * 8 + in);
  for (int out = 0; out < 16; out++) at.push_back(CONV2_B + out);
  for (int out = 0; out < 120; out++)
    for (int in = 0; in < 16; in++)
      for (int place = 0; place < 25; place++)
        at.push_back(CONV3_W + (place * 16 + in) * 128 + out);
  for (int out = 0; out < 120; out++) at.push_back(CONV3_B + out);
  for (int out = 0; out < 84; out++)
    for (int in = 0; in < 120; in++) at.push_back(LINEAR1_W + in * 96 + out);
  for (int out = 0; out < 84; out++) at.push_back(LINEAR1_B + out);
  for (int out = 0; out < 10; out++)
    for (int in = 0; in < 84; in++) at.push_back(LINEAR2_W + in * 16 + out);
  for (int out = 0; out < 10; out++) at.push_back(LINEAR2_B + out);
  return at;
}

const std::vector<int>& all_places() {
  static const std::vector<int> at = places();
  return at;
}

typedef py::array_t<uint8_t, py::array::c_style> Bytes;
typedef py::array_t<int64_t, py::array::c_style> Order;
typedef py::array_t<double, py::array::c_style> Rates;
typedef py::array_t<float, py::array::c_style | py::array::forcecast> Values;
typedef py::array_t<float, py::array::c_style> Matrix;
typedef py::array_t<int32_t, py::array::c_style> Maps;
typedef py::array_t<uint64_t, py::array::c_style> Keys;

void check_order(const Order& order, py::ssize_t images) {
  for (py::ssize_t i = 0; i < order.size(); i++)
    if (order.data()[i] < 0 || order.data()[i] >= images)
      throw std::invalid_argument("order names an image that is not there");
}

void check_images(const Bytes& images) {
  if (images.ndim() != 3 || images.shape(1) != 28 || images.shape(2) != 28)
    throw std::invalid_argument("images must be (N, 28, 28)");
}

// images (N, 28, 28), order (count,), maps (count, 6) -> (count, 28, 28)
py::array_t<uint8_t> affine(const Bytes& images, const Order& order, const Maps& maps,
                            const std::string& instructions) {
  check_images(images);
  check_order(order, images.shape(0));
  if (maps.ndim() != 2 || maps.shape(0) != order.size() || maps.shape(1) != 6)
    throw std::invalid_argument("maps must be (count, 6)");
  py::array_t<uint8_t> out({order.size(), images.shape(1), images.shape(2)});
  const Kernels* kernels = kernels_named(instructions);
  const uint8_t* pixels = images.data();
  const int64_t *numbers = order.data(), count = order.size();
  const int32_t* coefficients = maps.data();
  uint8_t* bytes = out.mutable_data();
  {
    py::gil_scoped_release others_may_run;
    kernels->affine(pixels, numbers, count, coefficients, bytes);
  }
  return out;
}

// images (N, 28, 28), order (count,), keys (count,), smooth and scale (28, 32) -> (count, 28, 28)
py::array_t<uint8_t> elastic(const Bytes& images, const Order& order, const Keys& keys,
                             const Matrix& smooth, const Matrix& scale, int shift,
                             const std::string& instructions) {
  check_images(images);
  check_order(order, images.shape(0));
  if (keys.ndim() != 1 || keys.size() != order.size())
    throw std::invalid_argument("there must be one key for each image");
  for (const Matrix* matrix : {&smooth, &scale})
    if (matrix->ndim() != 2 || matrix->shape(0) != 28 || matrix->shape(1) != 32)
      throw std::invalid_argument("smooth and scale must be (28, 32)");
  if (shift < 1 || shift > 30) throw std::invalid_argument("shift must be from 1 to 30");
  py::array_t<uint8_t> out({order.size(), images.shape(1), images.shape(2)});
  const Kernels* kernels = kernels_named(instructions);
  const uint8_t* pixels = images.data();
  const int64_t *numbers = order.data(), count = order.size();
  const uint64_t* seeds = keys.data();
  const float *first = smooth.data(), *second = scale.data();
  uint8_t* bytes = out.mutable_data();
  {
    py::gil_scoped_release others_may_run;
    kernels->elastic(pixels, numbers, count, seeds, first, second, shift, bytes);
  }
  return out;
}

// The position of a name in a list, which is the value of an enum of network.hpp.
template <typename Enum>
Enum named(const char* kind, const std::string& name, const std::vector<std::string>& names) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) throw std::invalid_argument(std::string("unknown ") + kind + " " + name);
  return static_cast<Enum>(found - names.begin());
}

class Trainer {
 public:
  Trainer(const std::string& activation, const std::string& pool, double dropout,
          const std::optional<std::pair<double, double>>& normalization, int64_t batch,
          const Optimizer& optimizer, double label_smoothing, const std::string& instructions)
      : kernels_(kernels_named(instructions)),
        parameters_(zeros(PARAMETERS)),
        gradients_(zeros(PARAMETERS)),
        first_(zeros(PARAMETERS)),
        second_(zeros(PARAMETERS)),
        third_(zeros(PARAMETERS)),
        shared_(zeros(kernels_->shared_floats())) {
    if (batch < 1) throw std::invalid_argument("batch must be at least 1");
    network_.activation = named<Activation>("activation", activation,
                                            {"relu", "tanh", "leaky_relu", "sigmoid", "elu"});
    network_.pooling = named<Pooling>("pool", pool, {"max", "avg"});
    network_.dropout = static_cast<float>(dropout);
    if (normalization) {
      const auto [mean, deviation] = *normalization;
      network_.normalization = {1, static_cast<float>(1 / (255 * deviation)),
                                static_cast<float>(-mean / deviation)};
    }
    network_.label_smoothing = static_cast<float>(label_smoothing);
    network_.optimizer = optimizer;
    network_.batch = batch;
    network_.parameters = parameters_.get();
    network_.gradients = gradients_.get();
    network_.first = first_.get();
    network_.second = second_.get();
    network_.third = third_.get();
    network_.shared = shared_.get();
    network_.pool = &pool_;
    set_threads(1);
  }

  // images (N, 28, 28), labels (N,), order (count,), lrs (steps,), keep (count, 204) -> losses (steps,)
  py::array_t<float> train(const Bytes& images, const Bytes& labels, const Order& order,
                           const Rates& lrs, const std::optional<Bytes>& keep) {
    check(images, labels);
    check_order(order, labels.size());
    const py::ssize_t steps = (order.size() + network_.batch - 1) / network_.batch;
    if (lrs.size() != steps) throw std::invalid_argument("lrs must have one entry per step");
    if (keep.has_value() != (network_.dropout > 0))
      throw std::invalid_argument("keep is needed for dropout, and only for that");
    if (keep && (keep->ndim() != 2 || keep->shape(0) != order.size() || keep->shape(1) != DROPPABLE))
      throw std::invalid_argument("keep must be (count, 204)");
    py::array_t<float> losses(steps);
    const uint8_t *pixels = images.data(), *classes = labels.data();
    const int64_t *numbers = order.data(), count = order.size();
    const double* rates = lrs.data();
    const uint8_t* kept = keep ? keep->data() : nullptr;
    float* out = losses.mutable_data();
    {
      py::gil_scoped_release others_may_run;
      kernels_->train(&network_, pixels, classes, numbers, count, rates, kept, out);
    }
    return losses;
  }

  // images (N, 28, 28), labels (N,) -> predictions (N,) and losses (N,)
  py::tuple evaluate(const Bytes& images, const Bytes& labels) {
    check(images, labels);
    py::array_t<uint8_t> predictions(labels.size());
    py::array_t<float> losses(labels.size());
    const uint8_t *pixels = images.data(), *classes = labels.data();
    uint8_t* out = predictions.mutable_data();
    float* out_losses = losses.mutable_data();
    {
      py::gil_scoped_release others_may_run;
      kernels_->evaluate(&network_, pixels, classes, labels.size(), out, out_losses);
    }
    return py::make_tuple(predictions, losses);
  }

  // The values of an array for all 61,706 parameters, in torch's order.
  py::array_t<float> get(const std::string& which) const {
    const float* from = array(which);
    const std::vector<int>& at = all_places();
    py::array_t<float> values(static_cast<py::ssize_t>(at.size()));
    for (std::size_t i = 0; i < at.size(); i++) values.mutable_data()[i] = from[at[i]];
    return values;
  }

  void set(const std::string& which, const Values& values) {
    float* to = array(which);
    const std::vector<int>& at = all_places();
    if (values.size() != static_cast<py::ssize_t>(at.size()))
      throw std::invalid_argument("expected 61706 values");
    for (std::size_t i = 0; i < at.size(); i++) to[at[i]] = values.data()[i];
  }

  int64_t steps() const { return network_.steps; }
  void set_steps(int64_t steps) { network_.steps = steps; }
  int threads() const { return network_.threads; }
  void set_threads(int threads) {
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    network_.threads = std::min(threads, MAX_THREADS);
    for (int i = 0; i < network_.threads; i++) {
      if (!own_[i]) own_[i] = zeros(kernels_->own_floats(network_.pooling));
      network_.own[i] = own_[i].get();
    }
  }
  std::string instructions() const { return kernels_->name; }

 private:
  float* array(const std::string& which) const {
    if (which == "parameters") return network_.parameters;
    if (which == "gradients") return network_.gradients;
    if (which == "first") return network_.first;
    if (which == "second") return network_.second;
    if (which == "third") return network_.third;
    throw std::invalid_argument("no array named " + which);
  }

  static void check(const Bytes& images, const Bytes& labels) {
    check_images(images);
    if (labels.ndim() != 1 || labels.size() != images.shape(0))
      throw std::invalid_argument("there must be one label for each image");
    for (py::ssize_t i = 0; i < labels.size(); i++)
      if (labels.data()[i] > 9) throw std::invalid_argument("labels must be 0 to 9");
  }

  const Kernels* kernels_;
  Floats parameters_, gradients_, first_, second_, third_, shared_, own_[MAX_THREADS];
  Network network_{};
  ThreadPool pool_;  // declared last, so that its threads end before the memory does
};

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "LeNet5 training on the CPU. See docs/native-engine.md.";
  m.def("instruction_sets", [] {
    py::list names;
    for (const Kernels* kernels : usable()) names.append(kernels->name);
    return names;
  });
  m.def("affine", &affine, py::arg("images").noconvert(), py::arg("order").noconvert(),
        py::arg("maps").noconvert(), py::arg("instructions") = "");
  m.def("elastic", &elastic, py::arg("images").noconvert(), py::arg("order").noconvert(),
        py::arg("keys").noconvert(), py::arg("smooth").noconvert(), py::arg("scale").noconvert(),
        py::arg("shift"), py::arg("instructions") = "");
  py::class_<Optimizer>(m, "Optimizer")
      .def(py::init([](const std::string& rule, double momentum, double dampening,
                       double weight_decay, bool nesterov, double beta1, double beta2, double eps,
                       double clip, bool decoupled, bool centered, double lr_decay) {
             return Optimizer{named<Rule>("rule", rule, {"sgd", "adam", "rmsprop", "adagrad"}), 0.0,
                              momentum, dampening, weight_decay, nesterov, beta1, beta2, eps, clip,
                              decoupled, centered, lr_decay};
           }),
           py::arg("rule"), py::kw_only(), py::arg("momentum") = 0.0, py::arg("dampening") = 0.0,
           py::arg("weight_decay") = 0.0, py::arg("nesterov") = false, py::arg("beta1") = 0.9,
           py::arg("beta2") = 0.999, py::arg("eps") = 1e-8, py::arg("clip") = 0.0,
           py::arg("decoupled") = false, py::arg("centered") = false, py::arg("lr_decay") = 0.0);
  py::class_<Trainer>(m, "Trainer")
      .def(py::init<const std::string&, const std::string&, double,
                    const std::optional<std::pair<double, double>>&, int64_t, const Optimizer&, double,
                    const std::string&>(),
           py::kw_only(), py::arg("activation"), py::arg("pool"), py::arg("dropout"),
           py::arg("normalization"), py::arg("batch"), py::arg("optimizer"),
           py::arg("label_smoothing") = 0.0, py::arg("instructions") = "")
      .def("train", &Trainer::train, py::arg("images").noconvert(), py::arg("labels").noconvert(),
           py::arg("order").noconvert(), py::arg("lrs").noconvert(),
           py::arg("keep").noconvert() = py::none())
      .def("evaluate", &Trainer::evaluate, py::arg("images").noconvert(),
           py::arg("labels").noconvert())
      .def("get", &Trainer::get)
      .def("set", &Trainer::set)
      .def_property("steps", &Trainer::steps, &Trainer::set_steps)
      .def_property("threads", &Trainer::threads, &Trainer::set_threads)
      .def_property_readonly("instructions", &Trainer::instructions);
}
