// The training step and the inference of a network, for one instruction set.
//
// A tile, as many examples as a vector has lanes, goes through the whole network and back while
// its activations stay in the second-level cache. Tiles are divided among the threads in a fixed
// way, so that sums are always in the same order.
#include <math.h>

#include "dense.h"
#include "fused.h"
#include "loss.h"
#include "memory.h"
#include "optimizer.h"
#include "rbf.h"
#include "stage.h"
#include "thread_pool.h"
#include "tile_loader.h"
#include "vector.h"

namespace lenet::LENET_ISA {
namespace {

// Objects constructed one by one, up to a fixed number.
template <class T, int most>
class Sequence {
 public:
  Sequence() = default;
  ~Sequence() {
    for (T* item : *this) delete item;
  }
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  void add(T* item) { items_[size_++] = item; }
  int size() const { return size_; }
  T& operator[](int i) const { return *items_[i]; }
  T* const* begin() const { return items_; }
  T* const* end() const { return items_ + size_; }

 private:
  T* items_[most] = {};
  int size_ = 0;
};

class LeNet final : public Network {
 public:
  LeNet(const Plan& plan, int threads)
      : plan_(plan),
        threads_(threads),
        stages_(plan_, threads),
        loader_(plan_, stages_[0].input_pitch()),
        layers_(plan_),
        workspaces_(threads, *this) {
    for (int thread = 0; thread < threads; thread++) {
      loader_.fill_border(stages_[0].input(thread));
      prepare_warp(plan_.image_size, workspaces_[thread].warp_memory);
    }
  }

  Result step(const Batch& batch, const float* const* weights, float* const* gradients,
              const Update* update) override {
    begin(batch, weights);
    gradients_ = gradients;
    update_ = update;
    for (DenseLayer* layer : layers_) layer->reserve(tiles_);
    parallel<&LeNet::pack<true>>();
    parallel<&LeNet::train_tiles>();
    parallel<&LeNet::reduce>();
    if (update) parallel<&LeNet::update_weights>();
    Result result = {0.0, 0};
    for (int thread = 0; thread < team_; thread++) {
      result.loss += workspaces_[thread].loss / batch.size;
      result.right += workspaces_[thread].right;
    }
    return result;
  }

  void scores(const Batch& batch, const float* const* weights, float* scores) override {
    begin(batch, weights);
    scores_ = scores;
    parallel<&LeNet::pack<false>>();
    parallel<&LeNet::infer_tiles>();
  }

 private:
  struct Stages : Sequence<Stage, most_stages> {
    Stages(const Plan& plan, int threads) {
      for (int s = 0; s < plan.stages; s++) add(make_stage(plan.stage[s], threads));
    }
  };
  struct Layers : Sequence<DenseLayer, most_layers> {
    explicit Layers(const Plan& plan) {
      for (int l = 0; l < plan.layers; l++) add(new DenseLayer(plan.layer[l]));
    }
  };

  // What a thread needs besides the stages' own memory.
  struct Workspace {
    explicit Workspace(const LeNet& network)
        : warp_memory(lenet::warp_memory(network.plan_.image_size)),
          warped(static_cast<long>(lanes) * network.image_bytes() / 4),
          image_rows(network.loader_.scratch_size()),
          maps(network.layers_[0].plan.inputs),
          maps_gradient(network.layers_[0].input_room()),
          scores(network.plan_.classes),
          score_deltas(network.plan_.classes) {
      for (int l = 0; l < network.layers_.size(); l++) {
        values[l].grow(network.layers_[l].room());
        slopes[l].grow(network.layers_[l].room());
      }
    }

    Floats warp_memory, warped;  // distorted images, uint8
    Vectors image_rows;
    Vectors maps, maps_gradient;  // the last stage's, as the first layer reads them
    Vectors values[most_layers], slopes[most_layers];
    Vectors scores, score_deltas;  // of the RBF units
    double loss = 0.0;
    int right = 0;
  };

  void begin(const Batch& batch, const float* const* weights) {
    batch_ = batch;
    weights_ = weights;
    tiles_ = (batch.size + lanes - 1) / lanes;
    team_ = tiles_ < threads_ ? tiles_ : threads_;
    for (DenseLayer* layer : layers_) layer->begin(weights);
  }

  template <void (LeNet::*phase)(int)>
  void parallel() {
    run_parallel(
        team_, [](int thread, void* self) { (static_cast<LeNet*>(self)->*phase)(thread); }, this);
  }

  // First phase: weights into the order of the kernels.
  template <bool training>
  void pack(int thread) {
    for (int s = thread; s < stages_.size(); s += team_) stages_[s].pack(weights_);
    for (DenseLayer* layer : layers_) layer->pack<training>(thread, team_);
  }

  // Where a thread's part of `count` items begins.
  int share(int count, int thread) const {
    return static_cast<int>(static_cast<long>(thread) * count / team_);
  }

  int count(int tile) const {
    const int rest = batch_.size - tile * lanes;
    return rest < lanes ? rest : lanes;
  }
  std::int64_t image_number(int example) const {
    return batch_.index ? batch_.index[example] : example;
  }

  int image_bytes() const { return plan_.image_size * plan_.image_size; }

  // Gathers, distorts and loads. Lanes without an example repeat the first.
  void load_tile(int tile, int thread) const {
    const Workspace& w = workspaces_[thread];
    const std::uint8_t* images[lanes];
    for (int lane = 0; lane < lanes; lane++) {
      const int example = tile * lanes + (lane < count(tile) ? lane : 0);
      images[lane] = batch_.images + image_number(example) * image_bytes();
      if (!batch_.distortions.maps) continue;
      auto* warped = reinterpret_cast<std::uint8_t*>(static_cast<float*>(w.warped)) +
                     lane * image_bytes();
      warp(images[lane], batch_.distortions, example, plan_.image_size, w.warp_memory, warped);
      images[lane] = warped;
    }
    loader_.load(images, w.image_rows, stages_[0].input(thread));
  }

  // The maps of the last stage, one after another.
  Planes maps(Vector* of) const {
    const int side = plan_.stage[plan_.stages - 1].side / 2;
    return {of, side, side * side};
  }

  void forward(int tile, int thread, bool training) {
    Workspace& w = workspaces_[thread];
    load_tile(tile, thread);
    const int last = stages_.size() - 1;
    for (int s = 0; s <= last; s++)
      stages_[s].forward(thread, training, s < last ? stages_[s + 1].inside(thread) : maps(w.maps));
    const Vector* x = w.maps;
    for (int l = 0; l < layers_.size(); l++) {
      layers_[l].forward(x, w.values[l], w.slopes[l]);
      x = w.values[l];
    }
    if (plan_.codes)
      rbf_scores(x, plan_.codes, layers_[layers_.size() - 1].plan.outputs, plan_.classes, w.scores);
  }

  const Vector* tile_scores(const Workspace& w) const {
    return plan_.codes ? w.scores : w.values[layers_.size() - 1];
  }

  // Sum of the losses of the first `count` lanes.
  double labelled_loss(const Vector* scores, const std::int64_t* labels, int count, Vector weight,
                       Vector* deltas) const {
    const int classes = plan_.classes;
    switch (plan_.loss) {
      case Loss::map:
        return cross_entropy(scores, classes, labels, count, 0.0f, -plan_.j, weight, deltas);
      case Loss::penalty:
        return penalty(scores, classes, labels, count, weight, deltas);
      case Loss::squared_error:
        return squared_error(scores, classes, labels, count, 0.0f, weight, deltas);
      case Loss::bipolar_error:
        return squared_error(scores, classes, labels, count, -1.0f, weight, deltas);
      default:
        return cross_entropy(scores, classes, labels, count, plan_.label_smoothing, -INFINITY,
                             weight, deltas);
    }
  }

  // The loss, and the deltas of the last layer.
  void score(int tile, int thread) {
    Workspace& w = workspaces_[thread];
    const Vector* scores = tile_scores(w);
    const int last = layers_.size() - 1, classes = plan_.classes, examples = count(tile);
    Vector* deltas = plan_.codes ? w.score_deltas : layers_[last].deltas(tile);
    std::int64_t labels[lanes];
    for (int lane = 0; lane < examples; lane++)
      labels[lane] = batch_.labels[image_number(tile * lanes + lane)];
    Vector weight = {};
    for (int lane = 0; lane < examples; lane++)
      weight[lane] = 1.0f / static_cast<float>(batch_.size);
    const float taught = batch_.targets ? plan_.distillation : 0.0f, labelled = 1.0f - taught;
    w.loss += labelled * labelled_loss(scores, labels, examples, weight * labelled, deltas);
    if (batch_.targets)
      w.loss += taught * distillation(scores, classes,
                                      batch_.targets + static_cast<long>(tile) * lanes * classes,
                                      examples, plan_.temperature, weight * taught, deltas);
    w.right += count_right(scores, classes, labels, examples);
    if (plan_.codes)
      rbf_gradient(w.values[last], plan_.codes, layers_[last].plan.outputs, classes, deltas,
                   layers_[last].deltas(tile));
  }

  void backward(int tile, int thread) {
    Workspace& w = workspaces_[thread];
    for (int l = layers_.size() - 1; l >= 0; l--) {
      layers_[l].backward_activation(tile, w.slopes[l]);
      layers_[l].backward(tile, l ? w.values[l - 1] : w.maps,
                          l ? layers_[l - 1].deltas(tile) : w.maps_gradient);
    }
    const int last = stages_.size() - 1;
    for (int s = last; s >= 0; s--)
      stages_[s].backward(
          thread, s < last ? stages_[s + 1].inside_gradient(thread) : maps(w.maps_gradient));
  }

  // Second phase: tiles, forward and backward.
  void train_tiles(int thread) {
    Workspace& w = workspaces_[thread];
    w.loss = 0.0;
    w.right = 0;
    for (Stage* stage : stages_) stage->begin(thread);
    for (int tile = share(tiles_, thread); tile < share(tiles_, thread + 1); tile++) {
      forward(tile, thread, true);
      score(tile, thread);
      backward(tile, thread);
    }
  }

  void infer_tiles(int thread) {
    const int classes = plan_.classes;
    for (int tile = share(tiles_, thread); tile < share(tiles_, thread + 1); tile++) {
      forward(tile, thread, false);
      const Vector* scores = tile_scores(workspaces_[thread]);
      float* to = scores_ + static_cast<long>(tile) * lanes * classes;
      for (int lane = 0; lane < count(tile); lane++)
        for (int k = 0; k < classes; k++) *to++ = scores[k][lane];
    }
  }

  // Third phase: sums over the batch into the caller's gradients.
  void reduce(int thread) {
    for (DenseLayer* layer : layers_) layer->reduce(tiles_, thread, team_, gradients_);
    for (Stage* stage : stages_) stage->reduce(thread, team_, gradients_);
  }

  // Fourth phase, if wanted.
  void update_weights(int thread) { update(*update_, thread, team_); }

  const Plan plan_;
  const int threads_;
  const Stages stages_;
  const TileLoader loader_;
  const Layers layers_;
  const PerThread<Workspace> workspaces_;

  // Of the current call.
  Batch batch_{};
  int tiles_ = 0;
  int team_ = 1;  // threads that work: no more than tiles
  const float* const* weights_ = nullptr;
  float* const* gradients_ = nullptr;
  const Update* update_ = nullptr;
  float* scores_ = nullptr;
};

}  // namespace

Network* create(const Plan& plan, int threads) { return new LeNet(plan, threads); }

}  // namespace lenet::LENET_ISA
