// The Python module lenet.engine._single: checks its arguments; see lenet.engine.single.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <tuple>
#include <vector>

#include "module.h"
#include "single_network.h"

namespace nb = nanobind;
namespace single = lenet::single;

namespace {

using single::Network;
using Images = nb::ndarray<const std::uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Values = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Weights = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;

void require_size(const Weights& array, std::int64_t size) {
  if (array.size() != static_cast<std::size_t>(size))
    throw nb::value_error(("the layer needs " + std::to_string(size) + " values, not " +
                           std::to_string(array.size())).c_str());
}

int convolution_outputs(const Network& network, const Weights& weights, const Weights& bias) {
  if (weights.ndim() != 4 || weights.shape(2) != weights.shape(3))
    throw nb::value_error("a convolution's weights are (outputs, inputs, kernel, kernel)");
  const auto outputs = static_cast<int>(weights.shape(0));
  const auto taps = static_cast<std::int64_t>(weights.shape(2) * weights.shape(3));
  require_size(weights, outputs * network.place().channels * taps);
  require_size(bias, outputs);
  return outputs;
}

int connected_outputs(const Network& network, const Weights& weights) {
  if (weights.ndim() != 2) throw nb::value_error("a layer's weights are (outputs, inputs)");
  require_size(weights, static_cast<std::int64_t>(weights.shape(0)) * network.place().channels);
  return static_cast<int>(weights.shape(0));
}

void require_images(const Network& network, const Images& images) {
  const auto pixels = static_cast<std::size_t>(network.pixels());
  if (images.shape(1) != images.shape(2) || images.shape(1) * images.shape(2) != pixels)
    throw nb::value_error("the images have another size than the network's");
}

}  // namespace

NB_MODULE(_single, m) {
  lenet::allow_objects_at_exit();
  m.doc() = "One image through a network; see lenet.engine.single.";
  m.def("instruction_sets", &single::instruction_sets);
  nb::class_<Network>(m, "Network")
      .def(nb::init<const std::string&>())
      .def("input", &Network::input)
      .def("convolve",
           [](Network& self, const Weights& weights, const Weights& bias) {
             const int outputs = convolution_outputs(self, weights, bias);
             self.convolve(weights.data(), bias.data(), outputs,
                           static_cast<int>(weights.shape(2)));
           })
      .def("activate",
           [](Network& self, const std::string& name) {
             self.activate(lenet::choose(lenet::activations, name));
           })
      .def("pool_largest", &Network::pool_largest, nb::arg("border"),
           nb::arg("sources") = std::vector<int>())
      .def("pool_sum",
           [](Network& self, const Weights& coefficient, const Weights& bias, int border,
              std::vector<int> sources) {
             const auto channels = sources.empty() ? self.place().channels : sources.size();
             require_size(coefficient, static_cast<std::int64_t>(channels));
             require_size(bias, static_cast<std::int64_t>(channels));
             self.pool_sum(coefficient.data(), bias.data(), border, std::move(sources));
           },
           nb::arg("coefficient"), nb::arg("bias"), nb::arg("border"),
           nb::arg("sources") = std::vector<int>())
      .def("flatten", &Network::flatten)
      .def("multiply",
           [](Network& self, const Weights& weights, const Weights& bias) {
             const int outputs = connected_outputs(self, weights);
             require_size(bias, outputs);
             self.multiply(weights.data(), bias.data(), outputs);
           })
      .def("distances",
           [](Network& self, const Weights& codes) {
             self.distances(codes.data(), connected_outputs(self, codes));
           })
      .def("place",
           [](const Network& self) {
             const single::Place p = self.place();
             return std::make_tuple(p.start, std::make_tuple(p.channels, p.height, p.width),
                                    std::make_tuple(p.channel_stride, p.row_stride,
                                                    p.column_stride));
           })
      .def_prop_ro("size", &Network::size)
      .def("scores",
           [](Network& self, const Images& images, const Values& scores) {
             require_images(self, images);
             if (scores.size() != images.shape(0) * self.place().channels)
               throw nb::value_error("scores need one row of classes for each image");
             const lenet::ReleasedLock released;
             self.scores(images.data(), static_cast<std::int64_t>(images.shape(0)), scores.data());
           })
      .def("trace", [](Network& self, const Images& images, const Values& values) {
        require_images(self, images);
        if (images.shape(0) != 1 || values.size() != static_cast<std::size_t>(self.size()))
          throw nb::value_error("a trace is of one image and has `size` values");
        const lenet::ReleasedLock released;
        self.trace(images.data(), values.data());
      });
}
