// The Python module lenet.engine._fused: checks its arguments and hands them to the kernels.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cpu.h"
#include "fused.h"
#include "module.h"
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
  sets.push_back({"avx512", has_avx512(), avx512::create, avx512::prepare_warp, avx512::warp});
#endif
#if LENET_HAS_AVX2
  sets.push_back({"avx2", has_avx2(), avx2::create, avx2::prepare_warp, avx2::warp});
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
using Weights = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Values = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Maps = nb::ndarray<const float, nb::shape<-1, 2, 3>, nb::c_contig, nb::device::cpu>;
using Knots = nb::ndarray<const float, nb::shape<-1, 2, -1, -1>, nb::c_contig, nb::device::cpu>;
using Shades = nb::ndarray<const float, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;
using Noise = nb::ndarray<const std::int64_t, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;
using Targets = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <class Array>
void check_finite(const Array& array, const char* name) {
  for (std::size_t i = 0; i < array.size(); i++)
    if (!std::isfinite(array.data()[i]))
      throw nb::value_error((std::string(name) + " must be finite").c_str());
}

// Pointers to the distortions of `count` images of that side, after a check.
Distortions read_distortions(const std::optional<Maps>& maps, const std::optional<Knots>& knots,
                             const std::optional<Shades>& shades,
                             const std::optional<Noise>& noise, std::size_t count, int side) {
  if (maps && maps->shape(0) != count)
    throw nb::value_error("maps must have one entry for each number of index");
  if (maps) check_finite(*maps, "maps");
  const auto grid = static_cast<std::size_t>(warp_knots(side));
  if (knots && (!maps || knots->shape(0) != count || knots->shape(2) != grid ||
                knots->shape(3) != grid))
    throw nb::value_error(("knots must come with maps and have the shape (" +
                           std::to_string(count) + ", 2, " + std::to_string(grid) + ", " +
                           std::to_string(grid) + ")").c_str());
  if (knots) check_finite(*knots, "knots");
  if (shades && (!maps || shades->shape(0) != count))
    throw nb::value_error("shades must come with maps and have one entry for each");
  for (std::size_t i = 0; shades && i < count; i++) {
    const float paper = (*shades)(i, 0), ink = paper + 255.0f * (*shades)(i, 1);
    if (!(paper >= 0.0f && paper <= 255.0f && ink >= 0.0f && ink < 255.5f))
      throw nb::value_error("shades must keep 0 and 255 in 0..255");
  }
  if (noise && (!maps || noise->shape(0) != count))
    throw nb::value_error("noise must come with maps and have one entry for each");
  for (std::size_t i = 0; noise && i < count; i++) {
    const std::int64_t seed = (*noise)(i, 0), chance = (*noise)(i, 1);
    if (seed < 0 || seed >> 32 || chance < 0 || chance > std::int64_t{1} << 31)
      throw nb::value_error("noise must have seeds below 2^32 and chances of 0 to 2^31");
  }
  return {maps ? maps->data() : nullptr, knots ? knots->data() : nullptr,
          shades ? shades->data() : nullptr, noise ? noise->data() : nullptr};
}

// Refuses numbers of images that do not exist.
void check_index(const Numbers& index, const Images& images) {
  for (std::size_t i = 0; i < index.shape(0); i++)
    if (index.data()[i] < 0 || index.data()[i] >= static_cast<std::int64_t>(images.shape(0)))
      throw nb::index_error(("index " + std::to_string(index.data()[i]) + " is out of range for " +
                             std::to_string(images.shape(0)) + " images").c_str());
}

// None is no activation.
Activation activation(nb::handle name) {
  return name.is_none() ? Activation::none : choose(activations, nb::cast<std::string>(name));
}

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Places = nb::ndarray<const std::int32_t, nb::c_contig, nb::device::cpu>;

// A plan, all that it points to, and the sizes of the arrays of weights.
class Description {
 public:
  // The fields are those of lenet.engine.plan.describe.
  explicit Description(nb::dict fields) {
    plan.image_size = nb::cast<int>(fields["image_size"]);
    plan.input_size = nb::cast<int>(fields["input_size"]);
    plan.resampling = floats(fields["resampling"], resampling_);
    plan.mean = nb::cast<float>(fields["mean"]);
    plan.std = nb::cast<float>(fields["std"]);
    sizes = nb::cast<std::vector<std::size_t>>(fields["sizes"]);
    for (nb::handle stage : nb::cast<nb::list>(fields["stages"]))
      add_stage(nb::cast<nb::dict>(stage));
    for (nb::handle layer : nb::cast<nb::list>(fields["layers"]))
      add_layer(nb::cast<nb::dict>(layer));
    plan.codes = floats(fields["codes"], codes_);
    plan.classes = nb::cast<int>(fields["classes"]);
    plan.loss = choose(losses, nb::cast<std::string>(fields["loss"]));
    plan.label_smoothing = nb::cast<float>(fields["label_smoothing"]);
    plan.j = nb::cast<float>(fields["j"]);
    plan.distillation = nb::cast<float>(fields["distillation"]);
    plan.temperature = nb::cast<float>(fields["temperature"]);
  }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;

  Plan plan{};
  std::vector<std::size_t> sizes;

 private:
  void add_stage(nb::dict fields) {
    const auto integer = [&](const char* name) { return nb::cast<int>(fields[name]); };
    if (plan.stages == most_stages) throw nb::value_error("there are too many stages");
    StagePlan& stage = plan.stage[plan.stages];
    stage.first = plan.stages == 0;
    stage.inputs = integer("inputs");
    stage.outputs = integer("outputs");
    stage.kernel = integer("kernel");
    stage.padding = integer("padding");
    stage.input_side = integer("input_side");
    stage.side = integer("side");
    stage.activation = activation(fields["activation"]);
    stage.pooling = choose(poolings, nb::cast<std::string>(fields["pooling"]));
    stage.subsampling = activation(fields["subsampling"]);
    stage.kernels = places(fields["kernels"], kernels_[plan.stages], stage.kernel * stage.kernel);
    stage.biases = places(fields["biases"], biases_[plan.stages], 1);
    stage.shared = nb::cast<bool>(fields["shared"]);
    stage.coefficients = integer("coefficients");
    stage.shifts = integer("shifts");
    plan.stages++;
  }

  void add_layer(nb::dict fields) {
    if (plan.layers == most_layers) throw nb::value_error("there are too many layers");
    DensePlan& layer = plan.layer[plan.layers];
    layer.inputs = nb::cast<int>(fields["inputs"]);
    layer.outputs = nb::cast<int>(fields["outputs"]);
    layer.activation = activation(fields["activation"]);
    layer.weight = nb::cast<int>(fields["weight"]);
    layer.bias = nb::cast<int>(fields["bias"]);
    layer.piece = nb::cast<int>(fields["piece"]);
    if (!fields["pieces"].is_none())
      layer.pieces = places(fields["pieces"], pieces_[plan.layers], layer.piece);
    plan.layers++;
  }

  // A copy in `to`; null for None.
  static const float* floats(nb::handle from, std::vector<float>& to) {
    if (from.is_none()) return nullptr;
    const auto array = nb::cast<Floats>(from);
    to.assign(array.data(), array.data() + array.size());
    return to.data();
  }

  // A copy in `to` of pairs of numbers, each the start of `size` floats.
  const Place* places(nb::handle from, std::vector<Place>& to, std::size_t size) const {
    const auto array = nb::cast<Places>(from);
    for (std::size_t i = 0; i + 1 < array.size(); i += 2) {
      const Place place = {array.data()[i], array.data()[i + 1]};
      if (place.array >= 0 && (place.array >= static_cast<int>(sizes.size()) || place.offset < 0 ||
                               place.offset + size > sizes[place.array]))
        throw nb::value_error("a kernel or a bias lies outside its array");
      to.push_back(place);
    }
    return to.data();
  }

  std::vector<float> resampling_, codes_;
  std::vector<Place> kernels_[most_stages], biases_[most_stages], pieces_[most_layers];
};

// Weights, their gradients and the optimizer's arrays, each a flat array of all parameters in their
// order. Keeps the caller's arrays alive.
class Parameters {
 public:
  Parameters(Values weights, Values gradients, const std::optional<std::string>& optimizer,
             std::optional<Values> state, std::optional<Values> average, float averaging)
      : weights_(std::move(weights)),
        gradients_(std::move(gradients)),
        state_(std::move(state)),
        average_(std::move(average)),
        average_share_(1.0f - averaging) {
    if (optimizer) optimizer_ = choose(optimizers, *optimizer);
    const std::size_t arrays = optimizer_ == Optimizer::adamw ? 2 : 1;
    if (gradients_.size() != size() || (average_ && average_->size() != size()) ||
        (state_ && state_->size() != arrays * size()) ||
        (!state_ && optimizer_ == Optimizer::adamw))
      throw nb::value_error("the arrays of the parameters do not fit together");
  }

  std::size_t size() const { return weights_.size(); }
  float* weights() const { return weights_.data(); }
  float* gradients() const { return gradients_.data(); }

  Update update(const std::vector<float>& coefficients) const {
    const std::size_t count = optimizer_ == Optimizer::adamw ? 5 : 3;
    if (!optimizer_) throw nb::value_error("an update needs parameters with an optimizer");
    if (coefficients.size() != count)
      throw nb::value_error(("update must be " + std::to_string(count) + " numbers, not " +
                             std::to_string(coefficients.size())).c_str());
    return {.optimizer = *optimizer_,
            .coefficients = coefficients.data(),
            .weights = weights(),
            .gradients = gradients(),
            .state = state_ ? state_->data() : nullptr,
            .average = average_ ? average_->data() : nullptr,
            .average_share = average_share_,
            .size = static_cast<long>(size())};
  }

 private:
  const Values weights_, gradients_;
  std::optional<Optimizer> optimizer_;
  const std::optional<Values> state_, average_;
  const float average_share_;
};

class FusedStep {
 public:
  FusedStep(nb::dict fields, int threads, const std::string& isa)
      : description_(fields), plan_(description_.plan) {
    for (const std::size_t size : description_.sizes) {
      offsets_.push_back(parameters_);
      parameters_ += size;
    }
    if (threads < 1 || threads > 256) throw nb::value_error("threads must be from 1 to 256");
    for (const auto& set : instruction_sets())
      if (isa == set.name && set.available) network_.reset(set.create(plan_, threads));
    if (!network_) throw nb::value_error("the instruction set is not available");
  }

  std::pair<double, int> step(const Images& images, const Numbers& labels, const Numbers& index,
                              const Parameters& parameters, const std::optional<Maps>& maps,
                              const std::optional<Knots>& knots,
                              const std::optional<Shades>& shades,
                              const std::optional<Noise>& noise,
                              const std::optional<Targets>& targets,
                              const std::optional<std::vector<float>>& coefficients) {
    check_images(images);
    if (labels.shape(0) != images.shape(0))
      throw nb::value_error(("there are " + std::to_string(images.shape(0)) + " images but " +
                             std::to_string(labels.shape(0)) + " labels").c_str());
    const auto size = index.shape(0);
    if (size < 1 || size > 1 << 20)
      throw nb::value_error("a batch must have from 1 to 1048576 examples");
    check_index(index, images);
    if (targets.has_value() != (plan_.distillation > 0.0f))
      throw nb::value_error("targets and the plan's distillation go together");
    if (targets && (targets->shape(0) != size ||
                    targets->shape(1) != static_cast<std::size_t>(plan_.classes)))
      throw nb::value_error("targets must have the shape (batch, classes)");
    if (targets) check_finite(*targets, "targets");
    for (std::size_t i = 0; i < size; i++) {
      const std::int64_t number = index.data()[i];
      const std::int64_t label = labels.data()[number];
      if (label < 0 || label >= plan_.classes)
        throw nb::value_error(("label " + std::to_string(label) + " of image " +
                               std::to_string(number) + " is not from 0 to " +
                               std::to_string(plan_.classes - 1)).c_str());
    }
    const Distortions distortions =
        read_distortions(maps, knots, shades, noise, size, plan_.image_size);
    check_size(parameters.size());
    const auto weights = arrays_in<const float>(parameters.weights());
    const auto gradients = arrays_in<float>(parameters.gradients());
    std::optional<Update> update;
    if (coefficients) update = parameters.update(*coefficients);

    const ReleasedLock released;
    const std::lock_guard lock(mutex_);
    const Result result =
        network_->step({images.data(), index.data(), labels.data(), static_cast<int>(size),
                        distortions, targets ? targets->data() : nullptr},
                       weights.data(), gradients.data(), update ? &*update : nullptr);
    return {result.loss, result.right};
  }

  void scores(const Images& images, const Weights& weights, const Values& scores) {
    check_images(images);
    if (scores.ndim() != 2 || scores.shape(0) != images.shape(0) ||
        scores.shape(1) != static_cast<std::size_t>(plan_.classes))
      throw nb::value_error("scores must have the shape (images, classes)");
    check_size(weights.size());
    const auto arrays = arrays_in<const float>(weights.data());

    const ReleasedLock released;
    const std::lock_guard lock(mutex_);
    // In parts, so that numbers of examples and tiles fit an int.
    constexpr std::size_t part = 1 << 20;
    const std::size_t pixels = plan_.image_size * plan_.image_size;
    for (std::size_t start = 0; start < images.shape(0); start += part) {
      const std::size_t size = std::min(part, images.shape(0) - start);
      network_->scores(
          {images.data() + start * pixels, nullptr, nullptr, static_cast<int>(size), {}, nullptr},
          arrays.data(), scores.data() + start * plan_.classes);
    }
  }

 private:
  void check_images(const Images& images) const {
    const auto side = static_cast<std::size_t>(plan_.image_size);
    if (images.shape(1) != side || images.shape(2) != side)
      throw nb::value_error("images must have the shape (N, image_size, image_size)");
  }

  void check_size(std::size_t size) const {
    if (size != parameters_)
      throw nb::value_error("the parameters are not those of a network of this plan");
  }

  // Where the arrays of the plan lie in a flat one.
  template <class Float>
  std::vector<Float*> arrays_in(Float* flat) const {
    std::vector<Float*> arrays;
    for (const std::size_t offset : offsets_) arrays.push_back(flat + offset);
    return arrays;
  }

  const Description description_;
  const Plan& plan_;
  std::vector<std::size_t> offsets_;  // of the arrays in a flat one
  std::size_t parameters_ = 0;        // in all of them
  std::unique_ptr<Network> network_;
  ForkSafeMutex mutex_;
};

using Pictures = nb::ndarray<std::uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

// out[i] = images[index[i]] distorted by maps[i], knots[i], shades[i] and noise[i].
void warp_images(const Images& images, const Numbers& index, const Maps& maps,
                 const std::optional<Knots>& knots, const std::optional<Shades>& shades,
                 const std::optional<Noise>& noise, const Pictures& out, int threads,
                 const std::string& isa) {
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
               read_distortions(maps, knots, shades, noise, count, static_cast<int>(side)),
               out.data(), static_cast<long>(count), static_cast<int>(side), threads, {}};
  for (const auto& set : instruction_sets())
    if (isa == set.name && set.available) work.set = set;
  if (!work.set.warp) throw nb::value_error("the instruction set is not available");

  const ReleasedLock released;
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
  lenet::allow_objects_at_exit();
  m.attr("ACTIVATIONS") = lenet::names(lenet::activations);
  m.attr("POOLINGS") = lenet::names(lenet::poolings);
  m.attr("LOSSES") = lenet::names(lenet::losses);
  m.attr("OPTIMIZERS") = lenet::names(lenet::optimizers);
  m.def("instruction_sets", &lenet::available_instruction_sets);
  m.def("warp", &lenet::warp_images, nb::arg("images").noconvert(), nb::arg("index").noconvert(),
        nb::arg("maps").noconvert(), nb::arg("knots").noconvert().none(),
        nb::arg("shades").noconvert().none(), nb::arg("noise").noconvert().none(),
        nb::arg("out").noconvert(), nb::arg("threads"), nb::arg("isa"));
  nb::class_<lenet::Parameters>(m, "Parameters")
      .def(nb::init<lenet::Values, lenet::Values, const std::optional<std::string>&,
                    std::optional<lenet::Values>, std::optional<lenet::Values>, float>(),
           nb::arg("weights").noconvert(), nb::arg("gradients").noconvert(),
           nb::arg("optimizer").none(), nb::arg("state").noconvert().none(),
           nb::arg("average").noconvert().none(), nb::arg("averaging"));
  nb::class_<lenet::FusedStep>(m, "FusedStep")
      .def(nb::init<nb::dict, int, const std::string&>())
      .def("step", &lenet::FusedStep::step, nb::arg("images").noconvert(),
           nb::arg("labels").noconvert(), nb::arg("index").noconvert(), nb::arg("parameters"),
           nb::arg("maps").noconvert().none(),
           nb::arg("knots").noconvert().none(), nb::arg("shades").noconvert().none(),
           nb::arg("noise").noconvert().none(), nb::arg("targets").noconvert().none(),
           nb::arg("update").none())
      .def("scores", &lenet::FusedStep::scores, nb::arg("images").noconvert(),
           nb::arg("weights").noconvert(), nb::arg("scores").noconvert());
}
