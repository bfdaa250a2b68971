"""The networks: LeNet as it is taught today, LeNet5s, and the LeNet-5 of 1998.

Each is an ``nn.Sequential`` with named children, so `for layer in model` walks through it and
the names are the same in weights, `lenet.summary` and `lenet.trace`. Layers are named as in the
paper of 1998: C1, S2, C3, S4, C5, F6, output.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lenet.errors import LenetError
from lenet.networks.codebook import (
    BACKGROUND,
    C3_GROUPS,
    FOREGROUND,
    MNIST_MEAN,
    MNIST_STD,
    c3_table,
    digit_codes,
)
from lenet.networks.layers import (
    EuclideanRBF,
    ScaledTanh,
    SquashedConv2d,
    SquashedLayer,
    SquashedLinear,
    Subsampling,
    TableConv2d,
)

Choice = TypeVar("Choice")


class SigmoidGELU(nn.Module):
    """x * sigmoid(1.702 x), the sigmoid form of GELU (Hendrycks and Gimpel 2016, section 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "scaled-tanh": ScaledTanh,
    "relu": nn.ReLU,
    "gelu": SigmoidGELU,
    "silu": nn.SiLU,
}
POOLINGS: dict[str, type[nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


class Network(nn.Sequential):
    """What the networks share: a sequence of named layers that knows its input.

    Attributes:
        options: the constructor's arguments, JSON-able; they rebuild the same network.
        input_shape: (channels, height, width) of one prepared image.
        classes: number of classes.
        card: what is known of a trained network, JSON-able; kept with its weights.
    """

    def __init__(
        self,
        layers: Sequence[tuple[str, nn.Module]],
        options: dict[str, Any],
        input_shape: tuple[int, int, int],
        classes: int = 10,
    ) -> None:
        super().__init__(OrderedDict(layers))
        self.options = options
        self.input_shape = input_shape
        self.classes = classes
        self.card: dict[str, Any] = {}

    def __getitem__(self, index: Any) -> Any:
        """One layer by its number, or a part of the network as a plain ``nn.Sequential``."""
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(list(self.named_children())[index]))
        return super().__getitem__(index)

    def prepare(self, images: Tensor | NDArray[Any]) -> Tensor:
        """uint8 images (N, H, W) -> the float32 input (N, C, H', W') of this network."""
        raise NotImplementedError


class LeNet(Network):
    """LeNet in the form of "Dive into Deep Learning" (section 7.6): 61,706 parameters.

    The defaults are the network of the book; every keyword is a knob to turn.

    Args:
        input_size: side of the square input in pixels.
        in_channels: channels of the input, 1 for grey images.
        classes: number of scores.
        channels: output channels of the convolution layers, one number a layer.
        kernel_sizes: side of each layer's kernels; the last is repeated for further layers.
        padding: zeros around each convolution's input; 0 for further layers. The book pads the
            first layer by 2 to make up for the 28x28 images (the paper has 32x32).
        hidden: sizes of the fully connected layers before the output.
        activation: one of `ACTIVATIONS`, after every layer but the last; "gelu" is its sigmoid
            form, x * sigmoid(1.702 x).
        pooling: "average" or "max", 2x2 with stride 2, after every convolution layer.
        init: start of the weights. "xavier-uniform" is the book's. "torch" is PyTorch's own,
            uniform with variance 1 / (3 fan-in); "kaiming-uniform" is He's for ReLU;
            "lecun-uniform" is uniform in +-2.4 / fan-in, as in the paper (appendix A).
            Biases start as PyTorch's do in every case, as in the book.
        mean, std: `prepare` gives (pixel / 255 - mean) / std.

    Raises:
        LenetError: the sizes do not fit together; the message shows the arithmetic.
    """

    def __init__(
        self,
        *,
        input_size: int = 28,
        in_channels: int = 1,
        classes: int = 10,
        channels: Sequence[int] = (6, 16),
        kernel_sizes: int | Sequence[int] = (5,),
        padding: int | Sequence[int] = (2,),
        hidden: Sequence[int] = (120, 84),
        activation: str = "sigmoid",
        pooling: str = "average",
        init: str = "xavier-uniform",
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        squash = choice("activation", activation, ACTIVATIONS)
        pool = choice("pooling", pooling, POOLINGS)
        start = choice("init", init, INITIALISATIONS)
        require_positive(
            input_size=(input_size,),
            in_channels=(in_channels,),
            classes=(classes,),
            channels=channels,
            hidden=hidden,
        )
        if not std > 0:
            raise LenetError(f"std must be positive, not {std}")
        kernels = per_layer("kernel_sizes", kernel_sizes, len(channels), least=1)
        paddings = per_layer("padding", padding, len(channels), least=0, filler=0)

        layers: list[tuple[str, nn.Module]] = []
        side, depth, number = input_size, in_channels, 1
        for out, kernel, pad in zip(channels, kernels, paddings, strict=True):
            side = convolved_side(f"C{number}", side, kernel, pad)
            layers += [
                (f"C{number}", nn.Conv2d(depth, out, kernel, padding=pad)),
                (f"C{number}_{activation}", squash()),
                (f"S{number + 1}", pool(2)),
            ]
            side = pooled_side(f"S{number + 1}", side)
            depth, number = out, number + 2
        layers.append(("flatten", nn.Flatten()))
        size = depth * side * side
        # The first fully connected layer is the paper's C5: a convolution over the whole map.
        letter = "C" if channels else "F"
        for out in hidden:
            name = f"{letter}{number}"
            layers += [(name, nn.Linear(size, out)), (f"{name}_{activation}", squash())]
            size, number, letter = out, number + 1, "F"
        layers.append(("output", nn.Linear(size, classes)))

        options = dict(
            input_size=input_size,
            in_channels=in_channels,
            classes=classes,
            channels=list(channels),
            kernel_sizes=kernels,
            padding=paddings,
            hidden=list(hidden),
            activation=activation,
            pooling=pooling,
            init=init,
            mean=mean,
            std=std,
        )
        super().__init__(layers, options, (in_channels, input_size, input_size), classes)
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                start(layer.weight)

    def prepare(self, images: Tensor | NDArray[Any]) -> Tensor:
        """uint8 (N, H, W) or (N, C, H, W) -> float32 (N, C, input_size, input_size).

        Smaller images are padded with 0 on all sides, as the paper does; larger ones are resized.
        """
        channels, side, _ = self.input_shape
        x = as_planes(images, channels)
        if x.shape[-2:] != (side, side):
            x = fit(x, side)
        return (x / 255 - self.options["mean"]) / self.options["std"]


class LeNet5(Network):
    """LeNet-5 as published in 1998: 60,000 trainable parameters, 340,908 connections.

    Squashing belongs to the layers, so the children are exactly the paper's. What the paper
    leaves open, or what people ask for, is an argument.

    Args:
        subsampling: what S2 and S4 take of 2x2 inputs, "average" or "sum". Section II.A of the
            paper averages, II.B adds; the two differ by a factor 4 in the coefficient, and so
            in how far a step moves it.
        initial: bound of the uniform initial values for the fan-in F: "linear" is the published
            2.4 / F (appendix A), "sqrt" is 2.4 / sqrt(F). The published one starts with nearly
            silent units, where mu = 0.02 gives steps too large to ever train.
        fan_in: whether F counts the bias, "inputs" or "inputs+bias". The paper does not say.
        subsampling_start: "average" starts S2 and S4 as the squashed mean of their inputs;
            "random" draws coefficient and bias as in the other layers, with F = 4. The paper
            does not say which.
        head: "rbf" is the paper's output, distances to the glyphs; "softmax" puts a trainable
            linear layer 84-10 in its place (60,850 parameters), as most later networks have.

    Raises:
        LenetError: an argument is none of these.
    """

    def __init__(
        self,
        *,
        subsampling: str = "average",
        initial: str = "linear",
        fan_in: str = "inputs",
        subsampling_start: str = "average",
        head: str = "rbf",
    ) -> None:
        power = choice("initial", initial, {"linear": 1.0, "sqrt": 0.5})
        extra = choice("fan_in", fan_in, {"inputs": 0, "inputs+bias": 1})
        random = choice("subsampling_start", subsampling_start, {"average": False, "random": True})
        with_codes = choice("head", head, {"rbf": True, "softmax": False})
        layers = [
            ("C1", SquashedConv2d(1, 6, kernel=5)),
            ("S2", Subsampling(6, subsampling)),
            ("C3", TableConv2d(c3_table(), kernel=5)),
            ("S4", Subsampling(16, subsampling)),
            ("C5", SquashedConv2d(16, 120, kernel=5)),
            ("F6", SquashedLinear(120, 84)),
            ("output", EuclideanRBF(digit_codes()) if with_codes else nn.Linear(84, 10)),
        ]
        options = {
            "subsampling": subsampling,
            "initial": initial,
            "fan_in": fan_in,
            "subsampling_start": subsampling_start,
            "head": head,
        }
        super().__init__(layers, options, (1, 32, 32))
        trainable = sum(parameter.numel() for parameter in self.parameters())
        assert trainable == (60_000 if with_codes else 60_850), trainable
        for layer in self:
            if isinstance(layer, SquashedLayer) and (random or not isinstance(layer, Subsampling)):
                layer.start(lambda inputs: 2.4 / (inputs + extra) ** power)

    def penalties(self, x: Tensor) -> Tensor:
        """The paper's outputs y (N, 10) for prepared images: the smallest answers."""
        return -self(x)

    def prepare(self, images: Tensor | NDArray[Any]) -> Tensor:
        """uint8 (N, H, W) -> float32 (N, 1, 32, 32): background -0.1, full ink 1.175.

        28x28 images are padded with background by 2 on all sides, as in the paper.
        """
        x = fit(as_planes(images, 1), 32)
        return BACKGROUND + (FOREGROUND - BACKGROUND) / 255 * x


class LeNet5s(Network):
    """LeNet5s: ReLU, average pooling, and a C3 whose maps share one kernel set per group.

    59,719 parameters, of them 429 in C3 (the paper's C3 has a kernel set per map: 1,516).
    32x32 input by resizing, normalised with MNIST's mean and standard deviation.
    """

    def __init__(self) -> None:
        layers = [
            ("C1", nn.Conv2d(1, 6, 5)),
            ("C1_relu", nn.ReLU()),
            ("S2", nn.AvgPool2d(2)),
            ("C3", GroupConv2d()),
            ("C3_relu", nn.ReLU()),
            ("S4", nn.AvgPool2d(2)),
            ("flatten", nn.Flatten()),
            ("C5", nn.Linear(400, 120)),
            ("C5_relu", nn.ReLU()),
            ("F6", nn.Linear(120, 84)),
            ("F6_relu", nn.ReLU()),
            ("output", nn.Linear(84, 10)),
        ]
        super().__init__(layers, {}, (1, 32, 32))

    def prepare(self, images: Tensor | NDArray[Any]) -> Tensor:
        """uint8 (N, H, W) -> float32 (N, 1, 32, 32), resized bilinearly and normalised."""
        x = resize(as_planes(images, 1), 32)
        return (x / 255 - MNIST_MEAN) / MNIST_STD


class GroupConv2d(nn.Module):
    """C3 of LeNet5s: 16 maps from 6, by four convolutions that slide over groups of maps.

    `three` reads three neighbouring maps (6 positions), `four` four neighbours (6 positions),
    `gap` four with one left out in the middle (3 positions), `all` all six (1 position).
    The groups (`lenet.networks.codebook.C3_GROUPS`) are the columns of the paper's Table I.
    """

    window = (5, 1)  # side and stride of what one unit sees

    def __init__(self) -> None:
        super().__init__()
        self.three = nn.Conv2d(3, 1, 5)
        self.four = nn.Conv2d(4, 1, 5)
        self.gap = nn.Conv2d(4, 1, 5)
        self.all = nn.Conv2d(6, 1, 5)
        for name, groups in C3_GROUPS.items():
            self.register_buffer(f"{name}_groups", torch.tensor(groups), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 6, H, W) -> (N, 16, H - 4, W - 4)."""
        maps = []
        for name, groups in C3_GROUPS.items():
            # One call for all positions of a kernel set: the groups join the batch axis.
            inputs = x[:, self.get_buffer(f"{name}_groups")].flatten(0, 1)
            maps.append(
                self.get_submodule(name)(inputs).unflatten(0, (-1, len(groups))).flatten(1, 2)
            )
        return torch.cat(maps, dim=1)

    def connections(self, output_shape: Sequence[int]) -> int:
        """Number of connections, biases included, for an output of (16, H, W)."""
        height, width = output_shape[-2:]
        return self.multiply_adds(output_shape) + 16 * height * width

    def multiply_adds(self, output_shape: Sequence[int]) -> int:
        """Number of multiply-adds for an output of (16, H, W)."""
        height, width = output_shape[-2:]
        kernels = sum(len(group) for groups in C3_GROUPS.values() for group in groups)
        return kernels * 25 * height * width


def lecun_uniform_(weight: Tensor) -> None:
    """Uniform in +-2.4 / fan-in (paper, appendix A)."""
    bound = 2.4 / weight[0].numel()
    nn.init.uniform_(weight, -bound, bound)


INITIALISATIONS = {
    "xavier-uniform": nn.init.xavier_uniform_,
    "torch": lambda weight: None,
    "kaiming-uniform": lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "lecun-uniform": lecun_uniform_,
}


def choice(name: str, value: str, allowed: dict[str, Choice]) -> Choice:
    if value not in allowed:
        raise LenetError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    return allowed[value]


def require_positive(**sizes: Sequence[int]) -> None:
    for name, values in sizes.items():
        if not isinstance(values, Sequence) or not all(isinstance(v, int) for v in values):
            raise LenetError(f"{name} must be whole numbers, not {values!r}")
        if any(value < 1 for value in values):
            raise LenetError(f"{name} must be at least 1, not {min(values)}")


def per_layer(
    name: str, values: int | Sequence[int], count: int, *, least: int, filler: int | None = None
) -> list[int]:
    """One value for each of `count` layers; missing ones are the filler, or else the last."""
    given = [values] if isinstance(values, int) else list(values)
    if count == 0:
        return []
    if not 0 < len(given) <= count:
        raise LenetError(
            f"{name} has {len(given)} values for {count} convolution layers; give 1 to {count}"
        )
    if min(given) < least:
        raise LenetError(f"{name} must be at least {least}, not {min(given)}")
    missing = given[-1] if filler is None else filler
    return (given + [missing] * count)[:count]


def convolved_side(name: str, side: int, kernel: int, padding: int) -> int:
    out = side + 2 * padding - kernel + 1
    if out < 1:
        raise LenetError(
            f"{name}: a {kernel}x{kernel} convolution does not fit its {side}x{side} input: "
            f"{side} + 2*{padding} - {kernel} + 1 = {out}; "
            "use a larger input_size or padding, smaller kernels or fewer layers"
        )
    return out


def pooled_side(name: str, side: int) -> int:
    if side < 2:
        raise LenetError(
            f"{name}: 2x2 pooling does not fit its {side}x{side} input: {side} // 2 = 0; "
            "use a larger input_size or padding, smaller kernels or fewer layers"
        )
    return side // 2


def as_planes(images: Tensor | NDArray[Any], channels: int) -> Tensor:
    """uint8 (N, H, W) or (N, C, H, W) -> float32 (N, C, H, W) with values 0..255."""
    x = torch.as_tensor(images)
    if x.dtype != torch.uint8:
        raise LenetError(f"images must be uint8 with values 0..255, not {x.dtype}")
    if x.ndim == 3:
        x = x.unsqueeze(1)
    if x.ndim != 4 or x.shape[1] != channels:
        raise LenetError(
            f"images must have shape (N, H, W) or (N, {channels}, H, W), not {tuple(x.shape)}"
        )
    return x.float()


def fit(x: Tensor, side: int) -> Tensor:
    """Pads (N, C, H, W) with 0 to side x side, centred; what is larger is resized first."""
    height, width = x.shape[-2:]
    if max(height, width) > side:
        scale = side / max(height, width)
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        x = F.interpolate(x, (height, width), mode="bilinear", antialias=True)
    top, left = (side - height) // 2, (side - width) // 2
    return F.pad(x, (left, side - width - left, top, side - height - top))


def resize(x: Tensor, side: int) -> Tensor:
    """Resizes (N, C, H, W) to side x side, bilinear, antialiased where it shrinks."""
    shrinks = max(x.shape[-2:]) > side
    return F.interpolate(x, (side, side), mode="bilinear", antialias=shrinks)


NETWORKS: dict[str, Callable[..., Network]] = {"LeNet": LeNet, "LeNet5": LeNet5, "LeNet5s": LeNet5s}


def build(name: str, options: dict[str, Any]) -> Network:
    """The network of that class name with those constructor arguments, freshly initialised.

    Raises:
        LenetError: there is no such network, or it does not take those arguments.
    """
    network = choice("network", name, NETWORKS)
    try:
        return network(**options)
    except TypeError as error:
        raise LenetError(f"{name} cannot be built from {options}: {error}") from None
