// The Python module lenet.engine._fused: checks its arguments and hands them to the kernels.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "fused.h"
#include "thread_pool.h"
#include "warp.h"

namespace nb = nanobind;

namespace lenet {

Network::~Network() = default;

namespace {

struct InstructionSet {
  const char* name;
  bool available;
  Network* (*create)(const Plan&, int);
  PrepareWarp* prepare_warp;
  Warp* warp;
};

// Best first.
std::vector<InstructionSet> instruction_sets() {
  std::vector<InstructionSet> sets;
#if LENET_HAS_AVX512
  __builtin_cpu_init();
  sets.push_back({"avx512",
                  __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("fma"),
                  avx512::create, avx512::prepare_warp, avx512::warp});
#endif
#if LENET_HAS_AVX2
  sets.push_back({"avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"),
                  avx2::create, avx2::prepare_warp, avx2::warp});
#endif
  sets.push_back({"portable", true, portable::create, portable::prepare_warp, portable::warp});
  return sets;
}

std::vector<std::string> available_instruction_sets() {
  std::vector<std::string> names;
  for (const auto& set : instruction_sets())
    if (set.available) names.emplace_back(set.name);
  return names;
}

using Images = nb::ndarray<const std::uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Weight = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Gradient = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Maps = nb::ndarray<const float, nb::shape<-1, 2, 3>, nb::c_contig, nb::device::cpu>;
using Knots = nb::ndarray<const float, nb::shape<-1, 2, -1, -1>, nb::c_contig, nb::device::cpu>;
using Shades = nb::ndarray<const float, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;
using Targets = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// Pointers to the distortions of `count` images of that side, after a look at their shapes.
Distortions read_distortions(const std::optional<Maps>& maps, const std::optional<Knots>& knots,
                             const std::optional<Shades>& shades, std::size_t count, int side) {
  if (maps && maps->shape(0) != count)
    throw nb::value_error("maps must have one entry for each number of index");
  const auto grid = static_cast<std::size_t>(warp_knots(side));
  if (knots && (!maps || knots->shape(0) != count || knots->shape(2) != grid ||
                knots->shape(3) != grid))
    throw nb::value_error(("knots must come with maps and have the shape (" +
                           std::to_string(count) + ", 2, " + std::to_string(grid) + ", " +
                           std::to_string(grid) + ")").c_str());
  if (shades && (!maps || shades->shape(0) != count))
    throw nb::value_error("shades must come with maps and have one entry for each");
  for (std::size_t i = 0; shades && i < count; i++) {
    const float paper = (*shades)(i, 0), ink = paper + 255.0f * (*shades)(i, 1);
    if (!(paper >= 0.0f && paper <= 255.0f && ink >= 0.0f && ink < 255.5f))
      throw nb::value_error("shades must keep 0 and 255 in 0..255");
  }
  return {maps ? maps->data() : nullptr, knots ? knots->data() : nullptr,
          shades ? shades->data() : nullptr};
}

// Refuses numbers of images that are not there.
void check_index(const Numbers& index, const Images& images) {
  for (std::size_t i = 0; i < index.shape(0); i++)
    if (index.data()[i] < 0 || index.data()[i] >= static_cast<std::int64_t>(images.shape(0)))
      throw nb::index_error(("index " + std::to_string(index.data()[i]) + " is out of range for " +
                             std::to_string(images.shape(0)) + " images").c_str());
}

// The names of fields and choices are those of lenet.engine.fused.Plan.
template <class Choice>
Choice choose(nb::handle plan, const char* field, std::vector<std::pair<std::string, Choice>> from) {
  const auto name = nb::cast<std::string>(plan.attr(field));
  for (const auto& [known, choice] : from)
    if (name == known) return choice;
  throw nb::value_error((std::string(field) + " cannot be '" + name + "'").c_str());
}

Plan read_plan(nb::handle plan) {
  const auto integer = [&](const char* field) { return nb::cast<int>(plan.attr(field)); };
  const auto real = [&](const char* field) { return nb::cast<float>(plan.attr(field)); };
  const auto two = [&](const char* field, int(&to)[2]) {
    for (int i = 0; i < 2; i++) to[i] = nb::cast<int>(plan.attr(field)[i]);
  };
  Plan result{};
  result.image_size = integer("image_size");
  result.input_size = integer("input_size");
  result.padding = integer("padding");
  two("channels", result.channels);
  two("kernel_sizes", result.kernel_sizes);
  two("hidden", result.hidden);
  result.classes = integer("classes");
  result.activation = choose<Activation>(plan, "activation",
                                         {{"sigmoid", Activation::sigmoid},
                                          {"tanh", Activation::tanh},
                                          {"scaled-tanh", Activation::scaled_tanh},
                                          {"relu", Activation::relu},
                                          {"gelu", Activation::gelu}});
  result.pooling = choose<Pooling>(plan, "pooling",
                                   {{"average", Pooling::average}, {"max", Pooling::max}});
  result.mean = real("mean");
  result.std = real("std");
  result.loss = choose<Loss>(plan, "loss",
                             {{"cross-entropy", Loss::cross_entropy}, {"mse", Loss::squared_error}});
  result.label_smoothing = real("label_smoothing");
  result.distillation = real("distillation");
  result.temperature = real("temperature");
  return result;
}

class FusedStep {
 public:
  FusedStep(nb::handle plan, int threads, const std::string& isa) : plan_(read_plan(plan)) {
    if (threads < 1 || threads > 256) throw nb::value_error("threads must be from 1 to 256");
    for (const auto& set : instruction_sets())
      if (isa == set.name && set.available) network_.reset(set.create(plan_, threads));
    if (!network_) throw nb::value_error("the plan or the instruction set is not supported");
  }

  std::pair<double, int> step(const Images& images, const Numbers& labels, const Numbers& index,
                              const std::vector<Weight>& weights,
                              const std::vector<Gradient>& gradients,
                              const std::optional<Maps>& maps, const std::optional<Knots>& knots,
                              const std::optional<Shades>& shades,
                              const std::optional<Targets>& targets) {
    check_images(images);
    if (labels.shape(0) != images.shape(0))
      throw nb::value_error(("there are " + std::to_string(images.shape(0)) + " images but " +
                             std::to_string(labels.shape(0)) + " labels").c_str());
    const auto size = index.shape(0);
    if (size < 1 || size > 1 << 20)
      throw nb::value_error("a batch must have from 1 to 1048576 examples");
    check_index(index, images);
    if (targets && (targets->shape(0) != size ||
                    targets->shape(1) != static_cast<std::size_t>(plan_.classes)))
      throw nb::value_error("targets must have the shape (batch, classes)");
    for (std::size_t i = 0; i < size; i++) {
      const std::int64_t number = index.data()[i];
      const std::int64_t label = labels.data()[number];
      if (label < 0 || label >= plan_.classes)
        throw nb::value_error(("label " + std::to_string(label) + " of image " +
                               std::to_string(number) + " is not from 0 to " +
                               std::to_string(plan_.classes - 1)).c_str());
    }
    const Distortions distortions = read_distortions(maps, knots, shades, size, plan_.image_size);
    const float* weight[parameter_arrays];
    float* gradient[parameter_arrays];
    pointers(weights, "weights", weight);
    pointers(gradients, "gradients", gradient);

    const nb::gil_scoped_release release;
    const std::lock_guard lock(mutex_);
    const Result result = network_->step(
        {images.data(), index.data(), labels.data(), static_cast<int>(size), distortions,
         targets ? targets->data() : nullptr},
        weight, gradient);
    return {result.loss, result.right};
  }

  void scores(const Images& images, const std::vector<Weight>& weights, const Gradient& scores) {
    check_images(images);
    if (scores.ndim() != 2 || scores.shape(0) != images.shape(0) ||
        scores.shape(1) != static_cast<std::size_t>(plan_.classes))
      throw nb::value_error("scores must have the shape (images, classes)");
    const float* weight[parameter_arrays];
    pointers(weights, "weights", weight);

    const nb::gil_scoped_release release;
    const std::lock_guard lock(mutex_);
    // In parts, so that numbers of examples and tiles fit an int.
    constexpr std::size_t part = 1 << 20;
    const std::size_t pixels = plan_.image_size * plan_.image_size;
    for (std::size_t start = 0; start < images.shape(0); start += part) {
      const std::size_t size = std::min(part, images.shape(0) - start);
      network_->scores(
          {images.data() + start * pixels, nullptr, nullptr, static_cast<int>(size), {}, nullptr},
          weight, scores.data() + start * plan_.classes);
    }
  }

 private:
  void check_images(const Images& images) const {
    const auto side = static_cast<std::size_t>(plan_.image_size);
    if (images.shape(1) != side || images.shape(2) != side)
      throw nb::value_error("images must have the shape (N, image_size, image_size)");
  }

  // The data pointers of one array for each parameter, after a look at their sizes.
  template <class Arrays, class Pointer>
  void pointers(const Arrays& arrays, const char* what, Pointer (&to)[parameter_arrays]) const {
    const int convolved = plan_.input_size + 2 * plan_.padding - plan_.kernel_sizes[0] + 1;
    const int side = (convolved / 2 - plan_.kernel_sizes[1] + 1) / 2;
    const int widths[] = {plan_.channels[0], plan_.channels[1], plan_.hidden[0], plan_.hidden[1],
                          plan_.classes};
    const int fan_in[] = {plan_.kernel_sizes[0] * plan_.kernel_sizes[0],
                          plan_.channels[0] * plan_.kernel_sizes[1] * plan_.kernel_sizes[1],
                          plan_.channels[1] * side * side, plan_.hidden[0], plan_.hidden[1]};
    if (arrays.size() != parameter_arrays)
      throw nb::value_error((std::string(what) + " must be 10 arrays").c_str());
    for (int i = 0; i < parameter_arrays; i++) {
      const int size = i % 2 ? widths[i / 2] : widths[i / 2] * fan_in[i / 2];
      if (arrays[i].size() != static_cast<std::size_t>(size))
        throw nb::value_error((std::string(what) + "[" + std::to_string(i) + "] must have " +
                               std::to_string(size) + " elements, not " +
                               std::to_string(arrays[i].size())).c_str());
      to[i] = arrays[i].data();
    }
  }

  const Plan plan_;
  std::unique_ptr<Network> network_;
  ForkSafeMutex mutex_;
};

using Pictures = nb::ndarray<std::uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

// out[i] = images[index[i]] distorted by maps[i], knots[i] and shades[i].
void warp_images(const Images& images, const Numbers& index, const Maps& maps,
                 const std::optional<Knots>& knots, const std::optional<Shades>& shades,
                 const Pictures& out, int threads) {
  const std::size_t count = index.shape(0), side = images.shape(1);
  if (images.shape(2) != side || side < 1 || side > 1024)
    throw nb::value_error("images must be square, with sides of 1 to 1024");
  if (out.shape(0) != count || out.shape(1) != side || out.shape(2) != side)
    throw nb::value_error("out must have one image for each number of index");
  check_index(index, images);
  if (threads < 1 || threads > 256) throw nb::value_error("threads must be from 1 to 256");

  struct Work {
    const std::uint8_t* images;
    const std::int64_t* index;
    Distortions distortions;
    std::uint8_t* out;
    long count;
    int side, threads;
    InstructionSet set;
  };
  Work work = {images.data(), index.data(),
               read_distortions(maps, knots, shades, count, static_cast<int>(side)), out.data(),
               static_cast<long>(count), static_cast<int>(side), threads, {}};
  for (const auto& set : instruction_sets())
    if (set.available && !work.set.warp) work.set = set;

  const nb::gil_scoped_release release;
  run_parallel(
      threads,
      [](int thread, void* context) {
        const Work& w = *static_cast<Work*>(context);
        std::vector<float> memory(warp_memory(w.side));
        w.set.prepare_warp(w.side, memory.data());
        const long pixels = w.side * w.side;
        for (long i = w.count * thread / w.threads; i < w.count * (thread + 1) / w.threads; i++)
          w.set.warp(w.images + w.index[i] * pixels, w.distortions, i, w.side, memory.data(),
                     w.out + i * pixels);
      },
      &work);
}

}  // namespace
}  // namespace lenet

NB_MODULE(_fused, m) {
  m.def("instruction_sets", &lenet::available_instruction_sets);
  m.def("warp", &lenet::warp_images, nb::arg("images").noconvert(), nb::arg("index").noconvert(),
        nb::arg("maps").noconvert(), nb::arg("knots").noconvert().none(),
        nb::arg("shades").noconvert().none(), nb::arg("out").noconvert(), nb::arg("threads"));
  nb::class_<lenet::FusedStep>(m, "FusedStep")
      .def(nb::init<nb::handle, int, const std::string&>())
      .def("step", &lenet::FusedStep::step, nb::arg("images").noconvert(),
           nb::arg("labels").noconvert(), nb::arg("index").noconvert(), nb::arg("weights").noconvert(),
           nb::arg("gradients").noconvert(), nb::arg("maps").noconvert().none(),
           nb::arg("knots").noconvert().none(), nb::arg("shades").noconvert().none(),
           nb::arg("targets").noconvert().none())
      .def("scores", &lenet::FusedStep::scores, nb::arg("images").noconvert(),
           nb::arg("weights").noconvert(), nb::arg("scores").noconvert());
}
