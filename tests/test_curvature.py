"""Second derivatives against the paper's recursion, connection by connection."""

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from layers1998 import convolution, linear, rbf, subsampling, table_convolution
from torch import nn
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call

from lenet.engine.sequential import Criterion, step_sizes
from lenet.errors import LenetError
from lenet.networks.torch import LeNet5, SquashedLinear, Subsampling
from lenet.training.autograd import map_criterion, penalty
from lenet.training.autograd_passes import gauss_newton_diagonal, map_curvature

TABLE = np.array([[1, 0], [1, 1], [0, 1]], bool)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


def small_network(pooling: str = "average") -> nn.Sequential:
    """Every kind of layer, with shared weights everywhere: input (1, 8, 8), 3 classes."""
    model = nn.Sequential(
        OrderedDict(
            C1=convolution(1, 2, 3),  # 2 maps of 6x6
            S2=subsampling(2, pooling),  # 3x3
            C3=table_convolution(TABLE, 2),  # 3 maps of 2x2
            S4=subsampling(3, pooling),  # 1x1
            F6=linear(3, 4),
            output=rbf(torch.randn(3, 4).sign().numpy()),
        )
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    return model


# The paper's appendix C in loops: units, connections, and nothing else.


@dataclass
class Unit:
    """A unit of the network: f(sum of weight x), or the sum itself where it is linear."""

    connections: list[Any] = field(default_factory=list)  # (source unit or None, parameter, factor)
    linear: bool = False


def units_of(layer: Any, name: str, sources: Any) -> Any:
    """The layer's units, in the shape of its output; `sources` has the shape of its input.

    A connection is (source, key, place): the weight is entry `place` of parameter `key`; without a
    key, the weight is the number `place`. The source of a bias is None.
    """
    maps = len(layer.bias)
    if isinstance(layer, SquashedLinear):
        flat = sources.ravel()
        units = np.array([Unit() for _ in range(maps)])
        for out in range(maps):
            for i, source in enumerate(flat):
                units[out].connections.append((source, f"{name}.weight", out * len(flat) + i))
            units[out].connections.append((None, f"{name}.bias", out))
        return units
    if isinstance(layer, Subsampling):
        _, height, width = sources.shape
        units = np.empty((maps, height // 2, width // 2), object)
        for place in np.ndindex(*units.shape):
            m, y, x = place
            pooled = Unit(linear=True)
            for dy in range(2):
                for dx in range(2):
                    source = sources[m, 2 * y + dy, 2 * x + dx]
                    pooled.connections.append((source, None, layer.share))
            units[place] = Unit([(pooled, f"{name}.coefficient", m), (None, f"{name}.bias", m)])
        return units
    kernel = layer.weight.shape[-1]
    numbers = np.full((maps, len(sources)), -1)  # of the kernels
    for out, wires in enumerate(layer.layer.wiring):
        for source, number in wires:
            numbers[out, source] = number
    _, height, width = sources.shape
    units = np.empty((maps, height - kernel + 1, width - kernel + 1), object)
    for place in np.ndindex(*units.shape):
        m, y, x = place
        unit = units[place] = Unit([(None, f"{name}.bias", m)])
        for i in np.flatnonzero(numbers[m] >= 0):
            for ky in range(kernel):
                for kx in range(kernel):
                    weight = (int(numbers[m, i]) * kernel + ky) * kernel + kx
                    source = sources[i, y + ky, x + kx]
                    unit.connections.append((source, f"{name}.weight", weight))
    return units


def recursion(model: nn.Sequential, image: np.ndarray, of_features: np.ndarray) -> dict[str, Any]:
    """Eq. 20-27 of the paper for one pattern, given d2E/dx2 of the last squashed layer."""
    parameters = {key: p.detach().numpy().ravel() for key, p in model.named_parameters()}
    units = np.empty(image.shape, object)
    for place in np.ndindex(*image.shape):
        units[place] = Unit()
    value = {id(unit): x for unit, x in zip(units.ravel(), image.ravel(), strict=True)}
    layers = [units]
    for name, layer in list(model.named_children())[:-1]:
        layers.append(units_of(layer, name, layers[-1]))

    def weight(key, place):
        return place if key is None else parameters[key][place]

    order = []  # every unit after its sources

    def visit(unit):
        if id(unit) in value:
            return
        total = 0.0
        for source, key, place in unit.connections:
            if source is not None:
                visit(source)
            total += weight(key, place) * (1.0 if source is None else value[id(source)])
        value[id(unit)] = total if unit.linear else 1.7159 * np.tanh(2 / 3 * total)
        order.append(unit)

    for unit in layers[-1].ravel():
        visit(unit)
    second: dict[int, Any] = defaultdict(float)  # d2E/dx2
    for unit, start in zip(layers[-1].ravel(), of_features, strict=True):
        second[id(unit)] = start
    h = {key: np.zeros(len(p)) for key, p in parameters.items()}
    for unit in reversed(order):
        tanh = value[id(unit)] / 1.7159
        slope = 1.0 if unit.linear else 1.7159 * 2 / 3 * (1 - tanh**2)
        of_sum = slope**2 * second[id(unit)]
        for source, key, place in unit.connections:
            if source is not None:
                second[id(source)] += weight(key, place) ** 2 * of_sum
            if key is not None:
                h[key][place] += of_sum * (1.0 if source is None else value[id(source)]) ** 2
    return h


def criterion_of(features: torch.Tensor, codes: Any, label: int, name: str, j: float):
    scores = -(features - codes).square().sum(dim=1)[None]
    target = torch.tensor([label])
    return penalty(scores, target) if name == "penalty" else map_criterion(scores, target, j)


@pytest.mark.parametrize("pooling", ["average", "sum"])
@pytest.mark.parametrize(("name", "exact"), [("penalty", False), ("map", False), ("map", True)])
def test_h_is_the_papers_sum_over_connections(pooling, name, exact):
    model, j = small_network(pooling), 3.0
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    labels = torch.tensor([0, 2, 1])
    codes = model.get_submodule("output").codes
    features = nn.Sequential(*list(model)[:-1])(x).detach()
    expected: dict[str, Any] = defaultdict(float)
    for image, feature, label in zip(x, features, labels, strict=True):
        curved = second_derivatives(
            lambda f, k=label: criterion_of(f, codes, int(k), name, j), feature
        )
        start = curved.numpy() if exact else np.full(4, 2.0)
        for key, value in recursion(model, image.numpy(), start).items():
            expected[key] += value / 3
    h = gauss_newton_diagonal(model, x, Criterion(name == "map", j, exact))
    for key, value in h.items():
        np.testing.assert_allclose(value.numpy().ravel(), expected[key], rtol=1e-10, err_msg=key)


@pytest.mark.parametrize("pooling", ["average", "sum"])
@pytest.mark.parametrize(("name", "exact"), [("penalty", False), ("map", True)])
def test_h_is_the_true_gauss_newton_diagonal_where_each_layer_is_one_unit(pooling, name, exact):
    model = nn.Sequential(
        OrderedDict(
            S2=subsampling(1, pooling),  # four different inputs, one coefficient
            C3=table_convolution([[True]], 1),
            C5=convolution(1, 1, 1),
            F6=linear(1, 1),
            output=rbf([[1.0], [-1.0]]),
        )
    ).double()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.3, 1)
    x, j = torch.randn(1, 1, 2, 2, dtype=torch.float64), 1.0
    until_features = nn.Sequential(OrderedDict(list(model.named_children())[:-1]))
    feature = until_features(x).detach()[0]
    codes = model.get_submodule("output").codes
    curved = second_derivatives(lambda f: criterion_of(f, codes, 1, name, j), feature)
    h = gauss_newton_diagonal(model, x, Criterion(name == "map", j, exact))
    for key, of_parameter in jacobians(until_features, x).items():
        expected = of_parameter.square() * curved.item()
        torch.testing.assert_close(h[key].ravel(), expected.ravel(), rtol=1e-10, atol=0)


def test_h_of_f6_is_the_true_gauss_newton_diagonal_in_any_network():
    model = small_network()
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    h = gauss_newton_diagonal(model, x, Criterion(competitive=False))
    until_features = nn.Sequential(OrderedDict(list(model.named_children())[:-1]))
    of_parameters = jacobians(until_features, x)
    for key in ("F6.weight", "F6.bias"):
        expected = 2 * of_parameters[key].square().sum(dim=0)  # H = 2 times the identity
        torch.testing.assert_close(h[key], expected, rtol=1e-10, atol=0)


def second_derivatives(function: Any, x: torch.Tensor) -> torch.Tensor:
    """The diagonal of the Hessian of a function of a vector."""
    matrix = hessian(function, x)
    assert isinstance(matrix, torch.Tensor)
    return matrix.diagonal()


def jacobians(model: nn.Sequential, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """J of the outputs for one pattern: parameter name -> (outputs, *shape of the parameter)."""
    names, parameters = zip(*model.named_parameters(), strict=True)

    def answer(*values):
        return functional_call(model, dict(zip(names, values, strict=True)), (x,))[0]

    values = tuple(p.detach() for p in parameters)
    return dict(zip(names, jacobian(answer, values), strict=True))


@pytest.mark.parametrize("j", [0.1, 5.0, 60.0])
def test_map_curvature_is_the_diagonal_of_the_hessian(j):
    output: Any = rbf(torch.randn(3, 6).numpy()).double()
    x = torch.randn(4, 6, dtype=torch.float64)
    for label in range(3):  # it does not depend on the label
        expected = [
            second_derivatives(lambda f, k=label: criterion_of(f, output.codes, k, "map", j), row)
            for row in x
        ]
        torch.testing.assert_close(map_curvature(output, x, j), torch.stack(expected))


def test_softmax_head_starts_from_the_hessian_of_cross_entropy():
    hidden, output = linear(5, 2), nn.Linear(2, 3)
    model = nn.Sequential(OrderedDict(F6=hidden, output=output)).double()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -1, 1)
    x, label = torch.randn(1, 5, dtype=torch.float64), torch.tensor([2])
    scores, features = model(x).detach(), hidden(x).detach()
    curved = second_derivatives(lambda s: nn.functional.cross_entropy(s[None], label), scores[0])
    h = gauss_newton_diagonal(model, x, Criterion())
    torch.testing.assert_close(h["output.bias"], curved)
    torch.testing.assert_close(h["output.weight"], curved[:, None] * features.square())
    of_features = (output.weight.square() * curved[:, None]).sum(dim=0)
    tanh = features[0] / 1.7159
    torch.testing.assert_close(
        h["F6.bias"], (of_features * (1.7159 * 2 / 3 * (1 - tanh**2)) ** 2).detach()
    )


def test_layers_without_a_rule_are_refused():
    with pytest.raises(LenetError, match="ReLU"):
        gauss_newton_diagonal(
            nn.Sequential(OrderedDict(a=nn.ReLU(), output=rbf([[1.0]]))),
            torch.zeros(1, 1),
            Criterion(),
        )


def test_h_covers_every_parameter_of_lenet5_in_order():
    model = LeNet5(initial="sqrt")
    h = gauss_newton_diagonal(model, torch.randn(2, 1, 32, 32), Criterion())
    assert {k: v.shape for k, v in h.items()} == {k: p.shape for k, p in model.named_parameters()}
    assert list(h) == [name for name, _ in model.named_parameters()]
    assert all((value >= 0).all() for value in h.values())


def test_step_sizes_divide_by_mu_plus_h():
    sizes = step_sizes(np.array([0.0, 1.75], np.float32), lr=0.5, mu=0.25)
    np.testing.assert_allclose(sizes, [2.0, 0.25])
    assert sizes.dtype == np.float32
