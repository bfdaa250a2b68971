// The training step and the inference of a LeNet-shaped network, for one instruction set.
//
// A tile, as many examples as a vector has lanes, goes through the whole network and back while
// its activations stay in the second-level cache. Tiles are shared out among the threads in a
// fixed way, so that sums always run in the same order.
#include <math.h>
#include <stdlib.h>

#include <new>

#include "activation.h"
#include "convolution.h"
#include "dense.h"
#include "fused.h"
#include "loss.h"
#include "thread_pool.h"
#include "vector.h"
#include "winograd.h"

namespace lenet::LENET_ISA {
namespace {

// Register blocks: accumulators and their operands fill the registers, and the sizes of LeNet
// divide into them without a rest.
constexpr bool many_registers = registers >= 32;
constexpr int kernel = 5;
constexpr int c1_columns = 4, c1_tiles = 7;  // F(4, 5)
constexpr int c1_channels = many_registers ? 3 : 2, c1_block = 7;
constexpr int c3_columns = 5, c3_tiles = 2;  // F(5, 5)
constexpr int c3_channels = many_registers ? 4 : 2, c3_block = 5, c3_back_channels = 6;

// The largest divisor of n that leaves registers for operands, the number of accumulators of a
// fully connected layer.
constexpr int dense_block(int n) {
  int block = many_registers ? 28 : 12;
  while (n % block) block--;
  return block;
}

struct Shape {
  Convolution C1, C3;
  int S4, C5, F6, classes;  // values of an example

  constexpr int S2_side() const { return C1.side / 2; }
  constexpr int S4_side() const { return C3.side / 2; }
};

constexpr Shape lenet = {
    .C1 = {.inputs = 1, .outputs = 6, .kernel = kernel, .side = 28},
    .C3 = {.inputs = 6, .outputs = 16, .kernel = kernel, .side = 10},
    .S4 = 400,
    .C5 = 120,
    .F6 = 84,
    .classes = 10,
};
static_assert(lenet.C3.input_side() == lenet.S2_side());
static_assert(lenet.C1.side == c1_columns * c1_tiles && lenet.C3.side == c3_columns * c3_tiles);
constexpr int c1_points = filter<c1_columns>.points, c3_points = filter<c3_columns>.points;
constexpr int c1_weights = c1_points * lenet.C1.outputs * kernel;
constexpr int c3_weights = c3_points * lenet.C3.inputs * lenet.C3.outputs * kernel;

// C1 goes row by row, so that what is transformed stays in the first-level cache; C3 as a whole.
constexpr TransformedPlanes c1_planes = {
    .positions = c1_tiles,
    .input_plane = lenet.C1.input_side() * c1_tiles,
    .input_point = lenet.C1.input_side() * c1_tiles,
    .output_plane = c1_tiles,
    .output_point = lenet.C1.outputs * c1_tiles,
};
constexpr TransformedPlanes c3_planes = {
    .positions = lenet.C3.side * c3_tiles,
    .input_plane = lenet.C3.input_side() * c3_tiles,
    .input_point = lenet.C3.inputs * lenet.C3.input_side() * c3_tiles,
    .output_plane = lenet.C3.side * c3_tiles,
    .output_point = lenet.C3.outputs * lenet.C3.side * c3_tiles,
};

enum Parameter {
  C1_weight, C1_bias, C3_weight, C3_bias, C5_weight, C5_bias, F6_weight, F6_bias,
  output_weight, output_bias
};

// Memory aligned for vectors, zero at first.
class Memory {
 public:
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

 protected:
  Memory() = default;
  ~Memory() { free(data_); }

  // Makes room; what was there is lost.
  void grow(long bytes) {
    bytes = (bytes + 63) / 64 * 64;
    if (bytes <= bytes_) return;
    void* data = aligned_alloc(64, bytes);
    if (!data) throw std::bad_alloc();
    memset(data, 0, bytes);
    free(data_);
    data_ = data;
    bytes_ = bytes;
  }

  void* data_ = nullptr;
  long bytes_ = 0;
};

struct Floats : Memory {
  Floats() = default;
  explicit Floats(long count) { grow(count); }
  void grow(long count) { Memory::grow(count * sizeof(float)); }
  operator float*() const { return static_cast<float*>(data_); }
};

struct Vectors : Memory {
  Vectors() = default;
  explicit Vectors(long count) { grow(count); }
  void grow(long count) { Memory::grow(count * sizeof(Vector)); }
  operator Vector*() const { return static_cast<Vector*>(data_); }
};

// Weights in the order in which the kernels read them.
struct Packed {
  Floats C1{c1_weights}, C3{c3_weights}, C3_transposed{c3_weights};
  Floats C5{lenet.C5 * lenet.S4}, C5_transposed{lenet.C5 * lenet.S4};
  Floats F6{lenet.F6 * lenet.C5}, F6_transposed{lenet.F6 * lenet.C5};
  Floats output{lenet.classes * lenet.F6}, output_transposed{lenet.classes * lenet.F6};
};

// What a thread needs for one tile, and its sums over its tiles. C1 and C3 hold pre-activations,
// then slopes.
struct Workspace {
  Vectors input{lenet.C1.input_plane()};
  Vectors C1{lenet.C1.outputs * lenet.C1.plane()};
  Vectors S2{lenet.C3.inputs * lenet.C3.input_plane()};
  Vectors S2_gradient{lenet.C3.inputs * lenet.C3.input_plane()};
  Vectors C3{lenet.C3.outputs * lenet.C3.plane()};
  Vectors S4{lenet.S4}, S4_gradient{lenet.S4};
  Vectors C5{lenet.C5}, C5_slopes{lenet.C5};
  Vectors F6{lenet.F6}, F6_slopes{lenet.F6};
  Vectors scores{lenet.classes};
  // Transformed: inputs; products, then deltas. C3_inputs becomes its own gradient.
  Vectors C1_inputs{c1_points * c1_planes.input_point};
  Vectors C1_points{c1_points * c1_planes.output_point};
  Vectors C3_inputs{c3_points * c3_planes.input_point};
  Vectors C3_points{c3_points * c3_planes.output_point};

  Vectors C1_weight_gradient{c1_weights}, C1_bias_gradient{lenet.C1.outputs};
  Vectors C3_weight_gradient{c3_weights}, C3_bias_gradient{lenet.C3.outputs};
  double loss = 0.0;
  int right = 0;
};

// The activations of the fully connected layers for the whole batch in rows, as the matrix
// product of the weight gradient wants them, their deltas in vectors, and the product.
template <int outputs, int inputs, int block_outputs, int block_vectors>
struct DenseGradient {
  static constexpr int block_columns = block_vectors * lanes;
  static constexpr int stride = (inputs + block_columns - 1) / block_columns * block_columns;
  Floats rows;
  Vectors deltas;
  Floats product{outputs * stride};

  void reserve(int tiles) {
    rows.grow(static_cast<long>(tiles) * lanes * stride);
    deltas.grow(static_cast<long>(tiles) * outputs);
  }
  float* tile_rows(int tile) { return rows + static_cast<long>(tile) * lanes * stride; }
  Vector* tile_deltas(int tile) { return deltas + static_cast<long>(tile) * outputs; }

  // Thread `thread` of `threads` writes its share of both gradients.
  void reduce(int tiles, int thread, int threads, float* weight, float* bias) {
    constexpr int blocks = outputs / block_outputs;
    const int first = thread * blocks / threads * block_outputs;
    const int last = (thread + 1) * blocks / threads * block_outputs;
    dense_weight_gradient<block_outputs, block_vectors>(deltas, outputs, rows, stride, tiles,
                                                            first, last, product);
    for (int o = first; o < last; o++) {
      memcpy(weight + o * inputs, product + o * stride, inputs * sizeof(float));
      Vector total = {};
      for (int tile = 0; tile < tiles; tile++) total += deltas[tile * outputs + o];
      bias[o] = sum(total);
    }
  }
};

class LeNet final : public Network {
 public:
  LeNet(const Plan& plan, int threads)
      : plan_(plan),
        activations_(activation_kernels(plan.activation, plan.pooling)),
        threads_(threads),
        workspaces_(new Workspace[threads]) {
    for (int thread = 0; thread < threads; thread++) fill_border(workspaces_[thread]);
  }
  ~LeNet() override { delete[] workspaces_; }

  Result step(const Batch& batch, const float* const* weights, float* const* gradients) override {
    begin(batch, weights);
    gradients_ = gradients;
    C5_.reserve(tiles_);
    F6_.reserve(tiles_);
    output_.reserve(tiles_);
    parallel<&LeNet::pack<true>>();
    parallel<&LeNet::train_tiles>();
    parallel<&LeNet::reduce>();
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
  void begin(const Batch& batch, const float* const* weights) {
    batch_ = batch;
    weights_ = weights;
    tiles_ = (batch.size + lanes - 1) / lanes;
    team_ = tiles_ < threads_ ? tiles_ : threads_;
  }

  template <void (LeNet::*phase)(int)>
  void parallel() {
    run_parallel(
        team_, [](int thread, void* self) { (static_cast<LeNet*>(self)->*phase)(thread); }, this);
  }

  // The padding of the first convolution is zero; between it and the picture lie the pixels of
  // value 0 that enlarge the picture to input_size, after normalisation.
  void fill_border(Workspace& w) {
    const int side = lenet.C1.input_side();
    for (int y = 0; y < side; y++)
      for (int x = 0; x < side; x++) {
        const int last = side - plan_.padding;
        const bool inside = y >= plan_.padding && y < last && x >= plan_.padding && x < last;
        w.input[y * side + x] = splat(inside ? -plan_.mean / plan_.std : 0.0f);
      }
  }

  // First phase: weights into the order of the kernels. The fully connected C5 has most of them.
  template <bool training>
  void pack(int thread) {
    constexpr int c5 = dense_block(lenet.C5), f6 = dense_block(lenet.F6);
    constexpr int s4 = dense_block(lenet.S4), out = dense_block(lenet.classes);
    if (thread == 0) {
      pack_winograd<c1_columns, c1_channels, 1>(lenet.C1, weights_[C1_weight], packed_.C1, nullptr);
      pack_winograd<c3_columns, c3_channels, c3_back_channels>(lenet.C3, weights_[C3_weight], packed_.C3,
                                                   packed_.C3_transposed);
      pack_dense<f6>(weights_[F6_weight], lenet.C5, 0, lenet.F6, packed_.F6);
      pack_dense<out>(weights_[output_weight], lenet.F6, 0, lenet.classes, packed_.output);
    }
    pack_dense<c5>(weights_[C5_weight], lenet.S4, share(lenet.C5 / c5, thread) * c5,
                   share(lenet.C5 / c5, thread + 1) * c5, packed_.C5);
    if (!training) return;
    if (thread == team_ - 1) {
      pack_transposed_dense<c5>(weights_[F6_weight], lenet.F6, lenet.C5, 0, lenet.C5,
                                packed_.F6_transposed);
      pack_transposed_dense<f6>(weights_[output_weight], lenet.classes, lenet.F6, 0, lenet.F6,
                                packed_.output_transposed);
    }
    pack_transposed_dense<s4>(weights_[C5_weight], lenet.C5, lenet.S4,
                              share(lenet.S4 / s4, thread) * s4,
                              share(lenet.S4 / s4, thread + 1) * s4, packed_.C5_transposed);
  }

  // Where the part of `count` things that is a thread's begins.
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

  // Gathers, transposes and normalises. Lanes without an example repeat the first. Four pixels at a
  // time are transposed as one number of 32 bits.
  void load_tile(int tile, Vector* input) const {
    constexpr int chunk = 4 * lanes;
    const int side = plan_.image_size, pixels = side * side;
    const int border = (lenet.C1.input_side() - side) / 2;
    const float scale = 1.0f / (255.0f * plan_.std), shift = -plan_.mean / plan_.std;
    const std::uint8_t* images[lanes];
    for (int lane = 0; lane < lanes; lane++)
      images[lane] = batch_.images +
                     image_number(tile * lanes + (lane < count(tile) ? lane : 0)) * pixels;
    Vector* const inside = input + border * (lenet.C1.input_side() + 1);
    for (int start = 0; start < pixels; start += chunk) {
      const int first = start + chunk < pixels ? start : pixels - chunk;
      Vector fours[lanes];
      for (int lane = 0; lane < lanes; lane++)
        memcpy(&fours[lane], images[lane] + first, sizeof(Vector));
      transpose(fours);
      int y = first / side, x = first % side;
      for (int i = 0; i < lanes; i++) {
        const auto four = reinterpret_cast<UnsignedIntegers>(fours[i]);
        LENET_UNROLL for (int byte = 0; byte < 4; byte++) {
          const auto pixel = reinterpret_cast<Integers>((four >> (8 * byte)) & 255);
          inside[y * lenet.C1.input_side() + x] =
              __builtin_convertvector(pixel, Vector) * scale + shift;
          if (++x == side) {
            x = 0;
            y++;
          }
        }
      }
    }
  }

  template <bool training>
  void forward(int tile, Workspace& w) const {
    const auto pool = training ? activations_.pool_training : activations_.pool_inference;
    load_tile(tile, w.input);

    constexpr Convolution C1 = lenet.C1, C3 = lenet.C3;
    transform_inputs<c1_columns, c1_tiles>(w.input, C1.input_side(), c1_planes.input_point,
                                           w.C1_inputs);
    for (int y = 0; y < C1.side; y++) {
      winograd_products<c1_columns, c1_tiles, c1_channels, c1_block>(
          C1, c1_planes, w.C1_inputs + y * c1_tiles, packed_.C1, w.C1_points);
      for (int c = 0; c < C1.outputs; c++) {
        Vector* row = w.C1 + c * C1.plane() + y * C1.side;
        transform_products<c1_columns>(w.C1_points + c * c1_planes.output_plane,
                                       c1_planes.output_point, c1_tiles, weights_[C1_bias][c], row);
        if (y % 2)
          pool(row - C1.side, row, w.S2 + c * C3.input_plane() + y / 2 * C3.input_side(),
               lenet.S2_side());
      }
    }
    transform_inputs<c3_columns, c3_tiles>(w.S2, C3.inputs * C3.input_side(),
                                           c3_planes.input_point, w.C3_inputs);
    winograd_products<c3_columns, c3_tiles, c3_channels, c3_block>(C3, c3_planes, w.C3_inputs,
                                                                   packed_.C3, w.C3_points);
    for (int c = 0; c < C3.outputs; c++) {
      Vector* plane = w.C3 + c * C3.plane();
      transform_products<c3_columns>(w.C3_points + c * c3_planes.output_plane,
                                     c3_planes.output_point, C3.side * c3_tiles,
                                     weights_[C3_bias][c], plane);
      for (int y = 0; y < lenet.S4_side(); y++)
        pool(plane + 2 * y * C3.side, plane + (2 * y + 1) * C3.side,
             w.S4 + (c * lenet.S4_side() + y) * lenet.S4_side(), lenet.S4_side());
    }
    multiply_dense<dense_block(lenet.C5)>(packed_.C5, weights_[C5_bias], w.S4, lenet.S4, lenet.C5,
                                          w.C5);
    activations_.activate(w.C5, w.C5_slopes, lenet.C5);
    multiply_dense<dense_block(lenet.F6)>(packed_.F6, weights_[F6_bias], w.C5, lenet.C5, lenet.F6,
                                          w.F6);
    activations_.activate(w.F6, w.F6_slopes, lenet.F6);
    multiply_dense<dense_block(lenet.classes)>(packed_.output, weights_[output_bias], w.F6,
                                               lenet.F6, lenet.classes, w.scores);
  }

  void score(int tile, Workspace& w) {
    std::int64_t labels[lanes];
    for (int lane = 0; lane < count(tile); lane++)
      labels[lane] = batch_.labels[image_number(tile * lanes + lane)];
    Vector weight = {};
    for (int lane = 0; lane < count(tile); lane++)
      weight[lane] = 1.0f / static_cast<float>(batch_.size);
    Vector* deltas = output_.tile_deltas(tile);
    w.loss += plan_.loss == Loss::squared_error
                  ? squared_error(w.scores, lenet.classes, labels, count(tile), weight, deltas)
                  : cross_entropy(w.scores, lenet.classes, labels, count(tile),
                                  plan_.label_smoothing, weight, deltas);
    w.right += count_right(w.scores, lenet.classes, labels, count(tile));
  }

  void backward(int tile, Workspace& w) {
    Vector* F6_deltas = F6_.tile_deltas(tile);
    Vector* C5_deltas = C5_.tile_deltas(tile);
    multiply_dense<dense_block(lenet.F6)>(packed_.output_transposed, nullptr,
                                          output_.tile_deltas(tile), lenet.classes, lenet.F6,
                                          F6_deltas);
    for (int i = 0; i < lenet.F6; i++) F6_deltas[i] *= w.F6_slopes[i];
    multiply_dense<dense_block(lenet.C5)>(packed_.F6_transposed, nullptr, F6_deltas, lenet.F6,
                                          lenet.C5, C5_deltas);
    for (int i = 0; i < lenet.C5; i++) C5_deltas[i] *= w.C5_slopes[i];
    multiply_dense<dense_block(lenet.S4)>(packed_.C5_transposed, nullptr, C5_deltas, lenet.C5,
                                          lenet.S4, w.S4_gradient);
    to_rows(w.S4, lenet.S4, C5_.tile_rows(tile), C5_.stride);
    to_rows(w.C5, lenet.C5, F6_.tile_rows(tile), F6_.stride);
    to_rows(w.F6, lenet.F6, output_.tile_rows(tile), output_.stride);

    constexpr Convolution C1 = lenet.C1, C3 = lenet.C3;
    for (int c = 0; c < C3.outputs; c++)
      for (int y = 0; y < C3.side; y++)
        w.C3_bias_gradient[c] += unpool_row<c3_columns, c3_tiles>(
            w.S4_gradient + (c * lenet.S4_side() + y / 2) * lenet.S4_side(),
            w.C3 + c * C3.plane() + y * C3.side, c3_planes.output_point,
            w.C3_points + c * c3_planes.output_plane + y * c3_tiles);
    add_winograd_gradient<c3_columns, c3_tiles, c3_channels>(C3, c3_planes, w.C3_inputs,
                                                             w.C3_points, w.C3_weight_gradient);
    winograd_input_gradient<c3_columns, c3_tiles, c3_back_channels>(
        C3, w.C3_points, packed_.C3_transposed, w.C3_inputs);
    transform_inputs_back<c3_columns, c3_tiles>(w.C3_inputs, C3.inputs * C3.input_side(),
                                                w.S2_gradient);
    for (int y = 0; y < C1.side; y++) {
      for (int c = 0; c < C1.outputs; c++)
        w.C1_bias_gradient[c] += unpool_row<c1_columns, c1_tiles>(
            w.S2_gradient + c * C3.input_plane() + y / 2 * C3.input_side(),
            w.C1 + c * C1.plane() + y * C1.side, c1_planes.output_point,
            w.C1_points + c * c1_planes.output_plane);
      add_winograd_gradient<c1_columns, c1_tiles, c1_channels>(
          C1, c1_planes, w.C1_inputs + y * c1_tiles, w.C1_points, w.C1_weight_gradient);
    }
  }

  // Second phase: tiles there and back.
  void train_tiles(int thread) {
    Workspace& w = workspaces_[thread];
    w.loss = 0.0;
    w.right = 0;
    memset(w.C1_weight_gradient, 0, c1_weights * sizeof(Vector));
    memset(w.C1_bias_gradient, 0, lenet.C1.outputs * sizeof(Vector));
    memset(w.C3_weight_gradient, 0, c3_weights * sizeof(Vector));
    memset(w.C3_bias_gradient, 0, lenet.C3.outputs * sizeof(Vector));
    for (int tile = share(tiles_, thread); tile < share(tiles_, thread + 1); tile++) {
      forward<true>(tile, w);
      score(tile, w);
      backward(tile, w);
    }
  }

  void infer_tiles(int thread) {
    Workspace& w = workspaces_[thread];
    for (int tile = share(tiles_, thread); tile < share(tiles_, thread + 1); tile++) {
      forward<false>(tile, w);
      for (int lane = 0; lane < count(tile); lane++)
        for (int k = 0; k < lenet.classes; k++)
          scores_[(static_cast<long>(tile) * lanes + lane) * lenet.classes + k] = w.scores[k][lane];
    }
  }

  float reduced(Vectors Workspace::*gradient, int i) const {
    Vector total = (workspaces_[0].*gradient)[i];
    for (int thread = 1; thread < team_; thread++) total += (workspaces_[thread].*gradient)[i];
    return sum(total);
  }

  // The gradients of a convolution's weights and biases, for the outputs from `first` to `last`.
  template <int m, int channels>
  void reduce_convolution(const Convolution& c, int first, int last,
                          Vectors Workspace::*weight_sums, Vectors Workspace::*bias_sums,
                          float* weight, float* bias) const {
    constexpr int points = filter<m>.points;
    for (int o = first; o < last; o++) {
      bias[o] = reduced(bias_sums, o);
      for (int i = 0; i < c.inputs; i++)
        for (int y = 0; y < kernel; y++) {
          float transformed[points];
          for (int p = 0; p < points; p++)
            transformed[p] = reduced(weight_sums, winograd_offset<channels>(c, p, o, i, y));
          transform_weights_back<m>(transformed, weight + ((o * c.inputs + i) * kernel + y) * kernel);
        }
    }
  }

  // Third phase: sums over the batch into the caller's gradients.
  void reduce(int thread) {
    C5_.reduce(tiles_, thread, team_, gradients_[C5_weight], gradients_[C5_bias]);
    F6_.reduce(tiles_, thread, team_, gradients_[F6_weight], gradients_[F6_bias]);
    output_.reduce(tiles_, thread, team_, gradients_[output_weight], gradients_[output_bias]);
    if (thread == 0)
      reduce_convolution<c1_columns, c1_channels>(
          lenet.C1, 0, lenet.C1.outputs, &Workspace::C1_weight_gradient,
          &Workspace::C1_bias_gradient, gradients_[C1_weight], gradients_[C1_bias]);
    reduce_convolution<c3_columns, c3_channels>(
        lenet.C3, share(lenet.C3.outputs, thread), share(lenet.C3.outputs, thread + 1),
        &Workspace::C3_weight_gradient, &Workspace::C3_bias_gradient, gradients_[C3_weight],
        gradients_[C3_bias]);
  }

  const Plan plan_;
  const ActivationKernels activations_;
  const int threads_;
  Packed packed_;
  Workspace* workspaces_;
  DenseGradient<lenet.C5, lenet.S4, many_registers ? 4 : 2, 5> C5_;
  DenseGradient<lenet.F6, lenet.C5, many_registers ? 4 : 2, 4> F6_;
  DenseGradient<lenet.classes, lenet.F6, 2, many_registers ? 6 : 4> output_;

  // Of the call under way.
  Batch batch_{};
  int tiles_ = 0;
  int team_ = 1;  // threads that work: no more than tiles
  const float* const* weights_ = nullptr;
  float* const* gradients_ = nullptr;
  float* scores_ = nullptr;
};

bool same_geometry(const Plan& plan) {
  return plan.input_size + 2 * plan.padding == lenet.C1.input_side() && plan.padding >= 0 &&
         plan.image_size >= 16 && plan.image_size <= plan.input_size &&
         (plan.input_size - plan.image_size) % 2 == 0 &&
         plan.channels[0] == lenet.C1.outputs && plan.channels[1] == lenet.C3.outputs &&
         plan.kernel_sizes[0] == kernel && plan.kernel_sizes[1] == kernel &&
         plan.hidden[0] == lenet.C5 && plan.hidden[1] == lenet.F6 && plan.classes == lenet.classes;
}

}  // namespace

Network* create(const Plan& plan, int threads) {
  return same_geometry(plan) ? new LeNet(plan, threads) : nullptr;
}

}  // namespace lenet::LENET_ISA
