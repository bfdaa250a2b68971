// The Python module lenet.engine._patterns: checks its arguments and runs over the patterns.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include "module.h"
#include "patterns.h"

namespace nb = nanobind;

namespace {

using Inputs = nb::ndarray<const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Flat = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Not `Network`: nanobind would take it for the class of that name in another module.
class Patterns {
 public:
  // The fields are those of lenet.engine.patterns.describe.
  Patterns(const nb::list& layers, int parameters) {
    for (nb::handle each : layers) add(nb::cast<nb::dict>(each), parameters);
    network_.gradient.resize(parameters);
    network_.squares.resize(parameters);
  }

  std::pair<double, int> train(const Inputs& inputs, const Numbers& labels, const Numbers& order,
                               const Flat& weights, const Flat& steps) {
    check(inputs, order, weights);
    if (steps.size() != weights.size() || labels.size() != inputs.shape(0))
      throw nb::value_error("the arrays do not fit together");
    const std::size_t size = inputs.shape(1) * inputs.shape(2) * inputs.shape(3);
    double loss = 0.0;
    int errors = 0;
    const lenet::ReleasedLock released;
    for (std::size_t i = 0; i < order.size(); i++) {
      const std::int64_t number = order.data()[i];
      errors += network_.train(inputs.data() + number * size, labels.data()[number],
                               weights.data(), steps.data(), loss);
    }
    return {loss, errors};
  }

  void curvature(const Inputs& inputs, const Numbers& order, const Flat& weights, const Flat& h) {
    check(inputs, order, weights);
    if (h.size() != weights.size()) throw nb::value_error("h must have the size of the weights");
    const std::size_t size = inputs.shape(1) * inputs.shape(2) * inputs.shape(3);
    auto &sums = network_.gradient, &squares = network_.squares;
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (std::size_t i = 0; i < squares.size(); i++)
      squares[i] = weights.data()[i] * weights.data()[i];
    for (std::size_t i = 0; i < order.size(); i++)
      network_.curvature(inputs.data() + order.data()[i] * size, weights.data());
    for (std::size_t i = 0; i < sums.size(); i++)
      h.data()[i] = sums[i] / static_cast<float>(order.size());
  }

 private:
  void add(const nb::dict& fields, int parameters) {
    const auto integer = [&](const char* name) { return nb::cast<int>(fields[name]); };
    lenet::MapLayer layer{};
    layer.subsampling = nb::cast<bool>(fields["subsampling"]);
    layer.unit_biases = nb::cast<bool>(fields["unit_biases"]);
    layer.inputs = integer("inputs");
    layer.side = integer("side");
    layer.outputs = integer("outputs");
    layer.out_side = integer("out_side");
    layer.kernel = integer("kernel");
    layer.stride = integer("stride");
    layer.padding = integer("padding");
    layer.border = nb::cast<float>(fields["border"]);
    layer.share = nb::cast<float>(fields["share"]);
    layer.biases = nb::cast<std::vector<int>>(fields["biases"]);
    const int weights = layer.subsampling ? 1 : layer.kernel * layer.kernel;
    const int of_map = layer.unit_biases ? layer.area() : 1;
    for (const auto& wire : nb::cast<std::vector<std::vector<int>>>(fields["wires"])) {
      const bool fits = wire.size() == 3 && wire[0] >= 0 && wire[0] < layer.outputs &&
                        wire[1] >= 0 && wire[1] < layer.inputs && wire[2] >= 0 &&
                        wire[2] + weights <= parameters;
      if (!fits) throw nb::value_error("a wire has an end that does not exist");
      layer.wires.push_back({wire[0], wire[1], wire[2]});
    }
    for (const int bias : layer.biases)
      if (bias < 0 || bias + of_map > parameters)
        throw nb::value_error("a bias lies outside the weights");
    const int window = layer.subsampling ? 2 : layer.kernel;
    if (static_cast<int>(layer.biases.size()) != layer.outputs ||
        (layer.out_side - 1) * layer.stride + window > layer.pitch())
      throw nb::value_error("the sizes of a layer do not fit together");
    layer.reserve();
    network_.layers.push_back(std::move(layer));
  }

  void check(const Inputs& inputs, const Numbers& order, const Flat& weights) const {
    const auto& first = network_.layers.front();
    const auto side = static_cast<std::size_t>(first.side);
    if (inputs.shape(1) != static_cast<std::size_t>(first.inputs) || inputs.shape(2) != side ||
        inputs.shape(3) != side || weights.size() != network_.gradient.size())
      throw nb::value_error("the inputs or the weights are of another network");
    for (std::size_t i = 0; i < order.size(); i++)
      if (order.data()[i] < 0 || order.data()[i] >= static_cast<std::int64_t>(inputs.shape(0)))
        throw nb::value_error("order names an input that does not exist");
  }

  lenet::MapNetwork network_;
};

}  // namespace

NB_MODULE(_patterns, m) {
  lenet::allow_objects_at_exit();
  m.doc() = "Networks of squashed layers, one pattern at a time; see lenet.engine.patterns.";
  nb::class_<Patterns>(m, "Patterns")
      .def(nb::init<const nb::list&, int>())
      .def("train", &Patterns::train)
      .def("curvature", &Patterns::curvature);
}
