// Activations, poolings, losses and optimizers with their names, which occur here and in Python's
// description of networks, and nowhere else.
//
// Data only: kernel files include this, and no code in it could belong to one instruction set.
#pragma once

namespace lenet {

enum class Activation { none, sigmoid, tanh, scaled_tanh, relu, gelu, silu };
enum class Pooling { average, sum, max };
enum class Loss { cross_entropy, squared_error, bipolar_error, penalty, map };
enum class Optimizer { sgd, adamw };  // classes of lenet.engine.optimizers

template <class Choice>
struct Named {
  const char* name;
  Choice choice;
};

constexpr Named<Activation> activations[] = {
    {"sigmoid", Activation::sigmoid}, {"tanh", Activation::tanh},
    {"scaled-tanh", Activation::scaled_tanh}, {"relu", Activation::relu},
    {"gelu", Activation::gelu}, {"silu", Activation::silu}};
constexpr Named<Pooling> poolings[] = {
    {"average", Pooling::average}, {"sum", Pooling::sum}, {"max", Pooling::max}};
constexpr Named<Loss> losses[] = {{"cross-entropy", Loss::cross_entropy},
                                  {"mse", Loss::squared_error},
                                  {"mse-bipolar", Loss::bipolar_error},
                                  {"penalty", Loss::penalty},
                                  {"map", Loss::map}};
constexpr Named<Optimizer> optimizers[] = {{"sgd", Optimizer::sgd}, {"adamw", Optimizer::adamw}};

}  // namespace lenet
