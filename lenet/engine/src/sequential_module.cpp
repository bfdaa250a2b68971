// The Python module lenet.engine._sequential: checks its arguments and chooses the kernels.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cpu.h"
#include "module.h"
#include "sequential.h"

namespace nb = nanobind;

namespace {

using lenet::Kernels;
using lenet::Patterns;
using lenet::Settings;

using Images = nb::ndarray<const std::uint8_t, nb::shape<-1, lenet::image_size, lenet::image_size>,
                           nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Codes = nb::ndarray<const float, nb::shape<lenet::classes, lenet::features>, nb::c_contig,
                          nb::device::cpu>;
using Table = nb::ndarray<const bool, nb::shape<lenet::c3_maps, lenet::c1_maps>, nb::c_contig,
                          nb::device::cpu>;

struct Choice {
  const char* name;
  const Kernels* kernels;
};

std::vector<Choice> choices() {  // best first
  std::vector<Choice> usable;
#if LENET_HAS_AVX512
  if (lenet::has_avx512()) usable.push_back({"avx512", &lenet::avx512::kernels});
#endif
#if LENET_HAS_AVX2
  if (lenet::has_avx2()) usable.push_back({"avx2", &lenet::avx2::kernels});
#endif
  usable.push_back({"portable", &lenet::portable::kernels});
  return usable;
}

const Kernels& chosen(const std::string& instruction_set) {
  for (const Choice& choice : choices())
    if (instruction_set.empty() || instruction_set == choice.name) return *choice.kernels;
  throw nb::value_error(("this processor has no instruction set " + instruction_set).c_str());
}

float pooling_scale(lenet::Pooling pooling) {
  if (pooling == lenet::Pooling::max) throw nb::value_error("pooling must be average or sum");
  return pooling == lenet::Pooling::sum ? 1.0f : 0.25f;
}

bool is_competitive(lenet::Loss loss) {
  if (loss != lenet::Loss::map && loss != lenet::Loss::penalty)
    throw nb::value_error("the loss must be penalty or map");
  return loss == lenet::Loss::map;
}

// What a network and its training need besides the weights.
struct Network {
  Settings settings;
  const Kernels* kernels;
  std::vector<float> codes;
  std::vector<char> table;
  std::size_t sizes[lenet::parameter_arrays];

  Network(Codes code, Table connected, const std::string& pooling, const std::string& loss, float j,
          bool exact, const std::string& instruction_set)
      : settings{}, kernels(&chosen(instruction_set)),
        codes(lenet::classes * lenet::feature_row),
        table(connected.data(), connected.data() + connected.size()) {
    for (int i = 0; i < lenet::classes; i++)
      std::copy_n(code.data() + i * lenet::features, lenet::features,
                  codes.data() + i * lenet::feature_row);
    settings.codes = codes.data();
    settings.table = reinterpret_cast<const bool*>(table.data());
    settings.pooling_scale = pooling_scale(lenet::choose(lenet::poolings, pooling));
    settings.competitive = is_competitive(lenet::choose(lenet::losses, loss));
    settings.j = j;
    settings.exact = exact;
    std::size_t connections = 0;
    for (const char connection : table) connections += connection != 0;
    const std::size_t expected[] = {150, 6, 6, 6, connections * 25, 16, 16, 16, 48000, 120, 10080,
                                    lenet::features};
    std::copy(std::begin(expected), std::end(expected), sizes);
  }
  Network(const Network&) = delete;

  std::vector<float*> pointers(const std::vector<Floats>& arrays) const {
    if (arrays.size() != lenet::parameter_arrays) throw nb::value_error("12 arrays are needed");
    std::vector<float*> result;
    for (std::size_t i = 0; i < arrays.size(); i++) {
      if (arrays[i].size() != sizes[i])
        throw nb::value_error(("array " + std::to_string(i) + " has the wrong size").c_str());
      result.push_back(arrays[i].data());
    }
    return result;
  }
};

Patterns patterns(const Images& images, const Numbers& labels, const Numbers& order) {
  const auto count = static_cast<std::int64_t>(images.shape(0));
  if (labels.shape(0) != images.shape(0))
    throw nb::value_error("images and labels differ in number");
  for (std::size_t k = 0; k < order.size(); k++)
    if (order.data()[k] < 0 || order.data()[k] >= count)
      throw nb::value_error("order names an image that does not exist");
  for (std::int64_t i = 0; i < count; i++)
    if (labels.data()[i] < 0 || labels.data()[i] >= lenet::classes)
      throw nb::value_error("labels must be 0..9");
  return {images.data(), labels.data(), order.data(),
          static_cast<std::int64_t>(order.size())};
}

nb::tuple train(const Network& network, const std::vector<Floats>& parameters,
                const std::vector<Floats>& steps, Images images, Numbers labels, Numbers order) {
  const auto given = patterns(images, labels, order);
  const auto weights = network.pointers(parameters), sizes = network.pointers(steps);
  lenet::Result result;
  {
    const lenet::ReleasedLock released;
    result = network.kernels->train(given, network.settings, weights.data(), sizes.data());
  }
  return nb::make_tuple(result.loss, result.errors);
}

void curvature(const Network& network, const std::vector<Floats>& parameters,
               const std::vector<Floats>& h, Images images, Numbers labels, Numbers order) {
  const auto given = patterns(images, labels, order);
  const auto weights = network.pointers(parameters), sums = network.pointers(h);
  const lenet::ReleasedLock released;
  network.kernels->curvature(given, network.settings, weights.data(), sums.data());
}

}  // namespace

NB_MODULE(_sequential, m) {
  lenet::allow_objects_at_exit();
  m.doc() = "LeNet-5 of 1998, one pattern at a time; see lenet.engine.sequential.";
  nb::class_<Network>(m, "Network")
      .def(nb::init<Codes, Table, const std::string&, const std::string&, float, bool,
                    const std::string&>(),
           nb::arg("codes"), nb::arg("table"), nb::arg("pooling"), nb::arg("loss"), nb::arg("j"),
           nb::arg("exact"), nb::arg("instruction_set"))
      .def("train", &train)
      .def("curvature", &curvature);
  m.def("instruction_sets", [] {
    std::vector<std::string> names;
    for (const Choice& choice : choices()) names.push_back(choice.name);
    return names;
  });
}
