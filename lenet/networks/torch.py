"""The networks as PyTorch modules, made from their architecture.

Each is an ``nn.Sequential`` whose children have the names of weights, `lenet.summary` and
`lenet.trace`.
"""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from itertools import zip_longest
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lenet.errors import LenetError
from lenet.networks import arithmetic, checkpoint
from lenet.networks.architecture import (
    NETWORKS,
    Architecture,
    Convolution,
    Distances,
    Flatten,
    FullConnection,
    Layer,
    Pooling,
    Squashing,
    build,
)
from lenet.networks.checkpoint import Checkpoint
from lenet.networks.inspection import Row, Summary

SCORE_BATCH = 1000  # images at once


class ScaledTanh(nn.Module):
    """1.7159 tanh(2x/3) (paper, appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        return arithmetic.AMPLITUDE * torch.tanh(arithmetic.STEEPNESS * x)


class SigmoidGELU(nn.Module):
    """x * sigmoid(1.702 x), the sigmoid form of GELU (Hendrycks and Gimpel 2016, section 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(arithmetic.GELU * x)


ACTIVATIONS: dict[str | None, Callable[[], nn.Module]] = {
    None: nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "scaled-tanh": ScaledTanh,
    "relu": nn.ReLU,
    "gelu": SigmoidGELU,
    "silu": nn.SiLU,
}


def words(layer: Layer) -> str:
    """A layer's sizes."""
    shapes = ("x".join(map(str, shape)) for shape in (layer.input_shape, layer.output_shape))
    count = sum(parameter.size for parameter in layer.parameters)
    return " -> ".join(shapes) + (f", {count:,} parameters" if count else "")


class Units(nn.Module):
    """A layer that PyTorch lacks: f(weighted sum of the inputs + bias)."""

    def __init__(self, layer: Layer, squash: str | None) -> None:
        super().__init__()
        self.words = words(layer)
        self.squash = ACTIVATIONS[squash]()
        for parameter in layer.parameters:
            *parts, name = parameter.name.removeprefix(layer.name + ".").split(".")
            owner: nn.Module = self
            for part in parts:
                if part not in dict(owner.named_children()):
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            owner.register_parameter(name, nn.Parameter(torch.zeros(parameter.shape)))

    def extra_repr(self) -> str:
        return self.words

    def gather(self, x: Tensor) -> Tensor:
        """What the trainable weights multiply."""
        return x

    def weighted_sum(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """The sums, linear in each argument, of `gather(x)` with `self.parameters()`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.squash(self.weighted_sum(self.gather(x), *self.parameters()))


class WiredConv2d(Units):
    """A convolution with its squashing, some connections left out, or kernels that are shared."""

    outputs: Tensor
    inputs: Tensor
    numbers: Tensor
    owners: Tensor

    def __init__(self, layer: Convolution) -> None:
        super().__init__(layer, layer.squash)
        self.layer = layer
        # Which kernel connects which maps; buffers, so that no step has to copy them to a GPU.
        wires = [(o, i, k) for o, row in enumerate(layer.wiring) for i, k in row]
        names = ("outputs", "inputs", "numbers", "owners")
        for name, values in zip(names, (*zip(*wires, strict=True), layer.owners), strict=True):
            self.register_buffer(name, torch.tensor(values), persistent=False)

    def weighted_sum(self, x: Tensor, *parameters: Tensor) -> Tensor:
        layer, side = self.layer, self.layer.kernel
        kernels = torch.cat([weight.reshape(-1, side, side) for weight in parameters[::2]])
        bias = torch.cat(parameters[1::2])[self.owners]
        filters = kernels.new_zeros(layer.outputs, layer.input_shape[0], side, side)
        filters = filters.index_put((self.outputs, self.inputs), kernels[self.numbers])
        return F.conv2d(x, filters, bias, padding=layer.padding)


class Subsampling(Units):
    """f(c p + b), with p the sum or average of 2x2 inputs, and c and b for each map: S2 and S4.

    For second derivatives, p is a linear unit between the inputs and the coefficient: h_c = sum of
    d2E/da2 p^2, which is exact for a single unit. Four separate connections that share c would give
    the sum of the four squares, which is up to four times smaller if neighbours are alike.
    """

    def __init__(self, layer: Pooling) -> None:
        super().__init__(layer, layer.squash)
        self.share, self.pool = layer.share, pooling(layer)

    def gather(self, x: Tensor) -> Tensor:
        """p: (N, maps, H, W) -> (N, maps, H/2, W/2)."""
        return self.pool(x)

    def weighted_sum(self, x: Tensor, *parameters: Tensor) -> Tensor:
        coefficient, bias = parameters
        return coefficient[:, None, None] * x + bias[:, None, None]


class SquashedLinear(Units):
    """A full connection and its squashing: F6. (N, ...) -> (N, outputs)."""

    def __init__(self, layer: FullConnection) -> None:
        super().__init__(layer, layer.squash)

    def weighted_sum(self, x: Tensor, *parameters: Tensor) -> Tensor:
        return F.linear(x.flatten(1), *parameters)


class Pool2x2(nn.Module):
    """The average, sum or maximum of 2x2 inputs; map k pools input map sources[k]."""

    def __init__(self, layer: Pooling) -> None:
        super().__init__()
        self.method, self.sources, self.words = layer.method, layer.sources, words(layer)

    def extra_repr(self) -> str:
        return f"{self.method}, {self.words}"

    def forward(self, x: Tensor) -> Tensor:
        if self.sources is not None:
            x = x[:, list(self.sources)]
        if self.method == "max":
            return F.max_pool2d(x, 2)
        return F.avg_pool2d(x, 2) * (4.0 if self.method == "sum" else 1.0)


class EuclideanRBF(nn.Module):
    """Squared distances to fixed codes (paper, section II.B): the output layer.

    The paper's outputs are penalties y_i = sum over j of (x_j - code_ij)^2, of which the smallest
    gives the answer. `forward` returns -y, as the largest score does everywhere in this package.
    """

    codes: Tensor

    def __init__(self, layer: Distances) -> None:
        super().__init__()
        self.words = words(layer)
        self.register_buffer("codes", torch.from_numpy(layer.codes.copy()), persistent=False)

    def extra_repr(self) -> str:
        return self.words

    def forward(self, x: Tensor) -> Tensor:
        # Differences first: x^2 - 2 x code + code^2 would cancel for the right class.
        return -(x.flatten(1)[:, None, :] - self.codes).square().sum(dim=2)


def pooling(layer: Pooling) -> nn.Module:
    if layer.sources is None and layer.method != "sum":
        return (nn.MaxPool2d if layer.method == "max" else nn.AvgPool2d)(2)
    return Pool2x2(layer)


def module(layer: Layer) -> nn.Module:
    """A layer as a module, PyTorch's own if it has one; its weights are not set."""
    match layer:
        case Convolution(groups=None, squash=None):
            inputs = layer.input_shape[0]
            return nn.Conv2d(inputs, layer.outputs, layer.kernel, padding=layer.padding)
        case Convolution():
            return WiredConv2d(layer)
        case Pooling():
            return Subsampling(layer) if layer.squash else pooling(layer)
        case Squashing():
            return ACTIVATIONS[layer.squash]()
        case Flatten():
            return nn.Flatten()
        case FullConnection(squash=None, input_shape=(inputs,)):
            return nn.Linear(inputs, layer.outputs)
        case FullConnection():
            return SquashedLinear(layer)
        case Distances():
            return EuclideanRBF(layer)
    raise LenetError(f"{layer.name} is a {layer.kind}, which has no form in PyTorch")


class Network(nn.Sequential):
    """A network: a sequence of named layers that prepares its input.

    Initial weights come from NumPy's generator, with a seed from PyTorch's global one.

    Attributes:
        architecture: the network as data.
        card: what is known of a trained network (see `Checkpoint`), JSON-able.
    """

    name: ClassVar[str]

    def __init__(self, **options: Any) -> None:
        self.architecture = build(self.name, options)
        layers = [(layer.name, module(layer)) for layer in self.architecture.layers]
        super().__init__(OrderedDict(layers))
        self.card: dict[str, Any] = {}
        seed = int(torch.randint(2**31, ()))
        set_weights(self, self.architecture.initial_weights(seed))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one prepared image."""
        return self.architecture.input_shape

    @property
    def classes(self) -> int:
        return self.architecture.classes

    def __getitem__(self, index: Any) -> Any:
        """One layer, or a slice of the network as a plain ``nn.Sequential``."""
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(list(self.named_children())[index]))
        return super().__getitem__(index)

    def prepare(self, images: Tensor | NDArray[Any]) -> Tensor:
        """Converts uint8 images (N, H, W) or (N, C, H, W) to the float32 input (N, C, H', W').

        Raises:
            LenetError: the images have another dtype or number of channels.
        """
        how = self.architecture.preparation
        x = how.planes(torch.as_tensor(images)).float()
        height, width = x.shape[-2:]
        if (height, width) != (how.size, how.size):
            down, across = how.rows(height, width), how.rows(width, height)
            x = torch.as_tensor(down, device=x.device) @ x @ torch.as_tensor(across.T).to(x.device)
        return how.background + how.scale * x

    def penalties(self, x: Tensor) -> Tensor:
        """The paper's outputs y (N, classes) for prepared images: the smallest is the answer."""
        return -self(x)


@cache
def network_class(name: str) -> type[Network]:
    """The module class of an entry of `NETWORKS`, with its options as keywords."""
    entry = NETWORKS[name]
    _, *sizes = inspect.signature(entry.architecture).parameters.values()
    options = inspect.signature(entry).parameters.values()
    signature = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in (*sizes, *options)])
    contents = {"__doc__": entry.__doc__, "__module__": __name__, "__signature__": signature}
    return type(name, (Network,), {"name": name, **contents})


def __getattr__(name: str) -> type[Network]:
    if name in NETWORKS:
        return network_class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def set_weights(model: nn.Module, weights: arithmetic.Weights) -> None:
    """Copies arrays into the parameters of the same names."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(np.asarray(weights[name])))


def copy_weights(source: nn.Module | Mapping[str, Tensor], target: nn.Module) -> None:
    """Copies all weights of one module into another with the same parameters in the same order.

    Names may differ, and so may the shape of a full connection that is written as a convolution
    over its whole input. So weights go both ways between these networks and their usual forms in
    PyTorch, an ``nn.Sequential`` or a class with ``conv1 ... fc3``::

        copy_weights(article_net, lenet.LeNet())

    Args:
        source: where the weights come from, on any device; or a state dict.
        target: what is changed, in its own dtype and on its own device.

    Raises:
        LenetError: parameters differ in number or shape; nothing is changed then.
    """
    weights = source if isinstance(source, Mapping) else dict(source.named_parameters())
    pairs = list(zip_longest(weights.items(), target.named_parameters()))
    for mine, other in pairs:
        shapes = [p and (p[1].shape[:1], p[1].numel()) for p in (mine, other)]
        if shapes[0] != shapes[1]:
            here, there = (f"{p[0]} {tuple(p[1].shape)}" if p else "nothing" for p in (mine, other))
            raise LenetError(f"the weights do not correspond: {here} beside {there}")
    with torch.no_grad():
        for (_, values), (_, changed) in pairs:
            changed.copy_(values.reshape(changed.shape))


def weights_of(model: nn.Module) -> dict[str, NDArray[Any]]:
    """The parameters by name, as arrays that share the memory of those on the CPU."""
    return {name: p.detach().cpu().numpy() for name, p in model.named_parameters()}


def save(model: Network | Checkpoint, path: str | Path) -> None:
    """Writes a network's weights and description to a .safetensors file, in one piece.

    Raises:
        LenetError: the file cannot be written (a file that was there before is kept); or it could
            not be loaded again: a layer was replaced, or the weights are not finite float32.
    """
    if isinstance(model, Checkpoint):
        weights = model.weights
    else:
        require_described(model, f"{path} is not written")
        weights = weights_of(model)
    checkpoint.write(path, model.architecture, weights, model.card)


def require_described(model: Network, source: str) -> None:
    """Refuses a network that its architecture no longer describes."""
    with torch.random.fork_rng(devices=[]):
        described = {layer.name: str(module(layer)) for layer in model.architecture.layers}
    layers = {name: str(layer) for name, layer in model.named_children()}
    for name in layers | described:
        if layers.get(name) != described.get(name):
            raise LenetError(f"{source}: the layer {name} was replaced or added")
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            raise LenetError(f"{source}: {name} is {parameter.dtype}, expected torch.float32")


def load(model: str | Path, network: Network | None = None) -> Network:
    """Loads a trained network, in evaluation mode.

    Args:
        model: a run folder, a weights file or a pretrained name; with `network`, a state dict that
            `torch.save` wrote (.pth), of that network or of a usual form of it, see `copy_weights`.
        network: what the state dict belongs to; it is changed and returned.

    Raises:
        LenetError: there is no such file, it is damaged, or it was not written by `save`; the state
            dict does not fit the network.
    """
    if network is None:
        return restore(checkpoint.read(model))
    copy_weights(state_dict(Path(model)), network)
    return network.eval()


def state_dict(path: Path) -> dict[str, Tensor]:
    """Reads a state dict as `torch.save` writes it; nothing in it can run."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise LenetError(f"there is no file {path}") from None
    except Exception as error:  # what torch.load raises on other files is not documented
        reason = str(error).splitlines()[0]
        raise LenetError(f"{path} is no state dict that can be read safely: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise LenetError(f"{path} is no state dict: it holds a {type(state).__name__}")
    return state


def restore(checkpoint: Checkpoint) -> Network:
    """The module of a trained network, in evaluation mode."""
    model = from_architecture(checkpoint.architecture, checkpoint.weights)
    model.card = dict(checkpoint.card)
    return model.eval()


def from_architecture(architecture: Architecture, weights: arithmetic.Weights) -> Network:
    """The module of a network with those weights."""
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay the same
        model = network_class(architecture.network)(**architecture.as_dict())
    set_weights(model, weights)
    return model


def scores(model: nn.Module, images: NDArray[np.uint8] | Tensor) -> NDArray[np.float32]:
    """Scores (N, classes) of uint8 images (N, H, W) or (N, C, H, W), in evaluation mode.

    Args:
        model: one of the networks, which prepares the images, or any module that maps float32
            (N, C, H, W) with values 0..1 to scores. It stays on its device.

    Raises:
        LenetError: the module gives something else.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    training = model.training
    model.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), SCORE_BATCH):
            part = torch.as_tensor(images[start : start + SCORE_BATCH], device=device)
            if isinstance(model, Network):
                x = model.prepare(part)
            else:
                x = (part[:, None] if part.ndim == 3 else part).float() / 255
            parts.append(run(model, x))
    model.train(training)
    for part in parts:
        if not isinstance(part, Tensor) or part.ndim != 2:
            raise LenetError(
                f"{type(model).__name__} must map (N, C, H, W) to a tensor of scores (N, classes), "
                f"not to {tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__}"
            )
    return torch.cat(parts).float().cpu().numpy()


def run(model: nn.Module, x: Tensor) -> Any:
    """The module's output for an input.

    Raises:
        LenetError: the input does not fit it; the message has the module's own words.
    """
    try:
        return model(x)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise LenetError(
            f"{type(model).__name__} does not take an input of {tuple(x.shape)}: {reason}"
        ) from None


def trace(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Computes the activations of all layers, by name, from first to last.

    Args:
        model: one of the networks or any other module, in any floating dtype, on any device.
        x: a prepared input (N, C, H, W), of that dtype and on that device.

    Returns:
        Activations (N, ...) of x's dtype, with gradients unless they are switched off; the last is
        ``model(x)``. Of a sequence, names are those of ``model.named_children()``: C1, S2, C3 ...,
        and C1_sigmoid and the like where squashing is a layer of its own. Of other modules they are
        those of the innermost modules, in the order of their calls, then "output" if the last call
        does not give the result.

    Raises:
        LenetError: the model takes no such input.
    """
    activations = {}
    if isinstance(model, nn.Sequential):
        for name, layer in model.named_children():
            x = run(layer, x)
            activations[name] = x
        return activations
    output, calls = called(model, x)
    for name, _, y in calls:
        activations[name] = y
    if not calls or calls[-1][2] is not output:
        activations["output"] = output
    return activations


def called(model: nn.Module, x: Tensor) -> tuple[Any, list[tuple[str, nn.Module, Tensor]]]:
    """The output of a module, and (name, module, output) of each call of its innermost modules."""
    calls: list[tuple[str, nn.Module, Tensor]] = []
    hooks = []
    for name, layer in model.named_modules():
        if not list(layer.children()):

            def note(layer: nn.Module, _: Any, y: Tensor, name: str = name or "output") -> None:
                times = sum(other is layer for _, other, _ in calls)
                calls.append((f"{name}_{times + 1}" if times else name, layer, y))

            hooks.append(layer.register_forward_hook(note))
    try:
        return run(model, x), calls
    finally:
        for hook in hooks:
            hook.remove()


def summary(model: nn.Module, input_shape: tuple[int, int, int]) -> Summary:
    """Summarises any module; see `lenet.summary`.

    The costs of convolutions, full connections and pooling are counted, those of other kinds are
    left 0; what a call does outside of its modules is not seen.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    training = model.training
    with torch.no_grad():
        _, calls = called(model.eval(), torch.zeros(1, *input_shape, device=device))
    model.train(training)
    rows, field, jump, counted = [], 1, 1, set[int]()
    for name, layer, y in calls:
        window, stride = (pair(getattr(layer, a, 1))[0] for a in ("kernel_size", "stride"))
        if isinstance(layer, nn.Flatten | nn.Linear):
            window = input_shape[-1]
        field = min(field + (window - 1) * jump, input_shape[-1])
        jump *= stride
        own = {id(p): p.numel() for p in layer.parameters() if id(p) not in counted}
        counted |= own.keys()
        reads, adds = costs(layer, y)
        biases = y.numel() if getattr(layer, "bias", None) is not None else 0
        cost = sum(own.values()), reads + biases, adds
        rows.append(Row(name, type(layer).__name__, tuple(y.shape[1:]), *cost, field))
    return Summary(type(model).__name__, input_shape, tuple(rows))


def costs(layer: nn.Module, y: Tensor) -> tuple[int, int]:
    """Connections without biases, and multiply-adds, of a layer with that output for one image."""
    match layer:
        case nn.Conv2d():
            reads = y.numel() * layer.weight[0].numel()
        case nn.Linear():
            reads = y.numel() * layer.in_features
        case nn.AvgPool2d() | nn.MaxPool2d():
            reads = y.numel() * prod(pair(layer.kernel_size))
        case _:
            reads = 0
    return reads, 0 if isinstance(layer, nn.MaxPool2d) else reads


def pair(size: Any) -> tuple[int, int]:
    """A size as PyTorch's layers keep it: one number or two."""
    return size if isinstance(size, tuple) else (size, size)
