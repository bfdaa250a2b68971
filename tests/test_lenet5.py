"""LeNet-5 (1998): its drawings, its layers and the counts of the paper."""

from itertools import combinations

import numpy as np
import pytest
import torch
from layers1998 import convolution, linear, rbf, subsampling, table_convolution
from scipy.signal import correlate2d
from torch.autograd import gradcheck

from lenet.errors import LenetError
from lenet.networks import codebook
from lenet.networks.inspection import summary
from lenet.networks.torch import LeNet5, ScaledTanh, trace
from lenet.training.autograd import map_criterion, penalty


def squash(a):
    return 1.7159 * np.tanh(2 * a / 3)


def randomised(layer: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 0.5)
    return layer.double()


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


# Drawings


def test_table_lists_the_inputs_of_each_map_as_the_paper_does():
    groups = "012 123 234 345 045 015 0123 1234 2345 0345 0145 0125 0134 1245 0235 012345"
    inputs = ["".join(str(i) for i in np.flatnonzero(row)) for row in codebook.c3_table()]
    assert " ".join(inputs) == groups


def test_glyphs_have_the_distances_of_the_paper():
    codes = codebook.digit_codes()
    assert codes.shape == (10, 84)
    assert set(np.unique(codes)) == {-1, 1}
    distances = {(i, j): int((codes[i] != codes[j]).sum()) for i, j in combinations(range(10), 2)}
    assert min(distances, key=distances.__getitem__) == (6, 8)
    assert min(distances.values()) == 12
    assert max(distances.values()) == 50
    assert np.mean(list(distances.values())) == pytest.approx(31.1, abs=0.05)


def test_glyph_of_one_is_drawn_upright():
    one = codebook.digit_glyphs()[1]
    assert one.shape == (12, 7)
    assert "".join(".#"[int(v > 0)] for v in one[9]) == ".######"


# Layers against independent arithmetic in float64


def test_scaled_tanh_keeps_plus_and_minus_one():
    x = torch.tensor([-1.0, 0.0, 1.0, 100.0], dtype=torch.float64)
    expected = [-1.0, 0.0, 1.0, 1.7159]
    np.testing.assert_allclose(ScaledTanh()(x), expected, atol=2e-5)


def test_table_convolution_adds_only_the_connected_maps():
    table = np.array([[1, 0, 1], [0, 1, 0]], bool)
    layer = randomised(table_convolution(table, 3))
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    weight, bias = (p.detach().numpy() for p in layer.parameters())
    kernels = {(0, 0): weight[0], (0, 2): weight[1], (1, 1): weight[2]}
    expected = np.zeros((2, 2, 4, 5)) + bias[:, None, None]
    for (out, into), kernel in kernels.items():
        for n in range(2):
            expected[n, out] += correlate2d(x[n, into].numpy(), kernel, mode="valid")
    np.testing.assert_allclose(layer(x).detach(), squash(expected), rtol=1e-12)
    assert sum(p.numel() for p in layer.parameters()) == 3 * 9 + 2


@pytest.mark.parametrize(("pooling", "scale"), [("sum", 1.0), ("average", 0.25)])
def test_subsampling_has_one_coefficient_and_one_bias_a_map(pooling, scale):
    layer = randomised(subsampling(3, pooling))
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    blocks = x.numpy().reshape(2, 3, 2, 2, 3, 2).sum(axis=(3, 5)) * scale
    coefficient, bias = (p.detach().numpy()[:, None, None] for p in layer.parameters())
    np.testing.assert_allclose(layer(x).detach(), squash(coefficient * blocks + bias), rtol=1e-12)


@pytest.mark.parametrize("pooling", ["sum", "average"])
def test_subsampling_starts_as_the_squashed_mean(pooling):
    x = torch.randn(1, 2, 4, 4)
    mean = x.reshape(1, 2, 2, 2, 2, 2).mean(dim=(3, 5))
    torch.testing.assert_close(subsampling(2, pooling)(x), ScaledTanh()(mean))


def test_rbf_gives_squared_distances():
    layer = rbf(codebook.digit_codes()).double()
    x = torch.randn(5, 84, dtype=torch.float64)
    expected = [[((row - code) ** 2).sum() for code in codebook.digit_codes()] for row in x.numpy()]
    np.testing.assert_allclose(-layer(x), expected, rtol=1e-12)
    assert not list(layer.parameters())


def test_rbf_does_not_cancel_near_a_code():
    layer = rbf(codebook.digit_codes())
    x = torch.from_numpy(codebook.digit_codes()) + 1e-3
    distances = -layer(x).diagonal()
    torch.testing.assert_close(distances, torch.full((10,), 84e-6), rtol=1e-3, atol=0)


LAYERS = {
    "convolution": (lambda: convolution(2, 3, 3), (2, 2, 5, 5)),
    "table": (lambda: table_convolution(np.array([[1, 0], [1, 1]], bool), 3), (2, 2, 5, 5)),
    "sum": (lambda: subsampling(2, "sum"), (2, 2, 4, 4)),
    "average": (lambda: subsampling(2, "average"), (2, 2, 4, 4)),
    "linear": (lambda: linear(8, 3), (2, 2, 2, 2)),
    "rbf": (lambda: rbf(torch.randn(3, 8).numpy()), (2, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_agree_with_finite_differences(name):
    make, shape = LAYERS[name]
    layer = randomised(make())
    names = [key for key, _ in layer.named_parameters()]

    def answer(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    x = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    assert gradcheck(answer, (x, *layer.parameters()))


def test_a_table_with_an_empty_row_is_refused():
    with pytest.raises(LenetError, match="groups must connect each map to some of"):
        table_convolution(np.array([[1, 1], [0, 0]], bool), 3)


# The network

PAPER = {  # parameters and connections
    "C1": (156, 122_304),
    "S2": (12, 5_880),
    "C3": (1_516, 151_600),
    "S4": (32, 2_000),
    "C5": (48_120, 48_120),
    "F6": (10_164, 10_164),
    "output": (0, 840),
}


def test_counts_are_those_of_the_paper():
    rows = summary(LeNet5())
    assert {row.name: (row.parameters, row.connections) for row in rows} == PAPER
    assert (rows.parameters, rows.connections) == (60_000, 340_908)


def test_children_and_weights_have_the_names_of_the_paper():
    model = LeNet5()
    assert [name for name, _ in model.named_children()] == list(PAPER)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == {
        "C1.weight": (6, 1, 5, 5),
        "C1.bias": (6,),
        "S2.coefficient": (6,),
        "S2.bias": (6,),
        "C3.weight": (60, 5, 5),
        "C3.bias": (16,),
        "S4.coefficient": (16,),
        "S4.bias": (16,),
        "C5.weight": (120, 16, 5, 5),
        "C5.bias": (120,),
        "F6.weight": (84, 120),
        "F6.bias": (84,),
    }


def test_every_layer_answers_in_the_paper_s_shape():
    shapes = {k: tuple(v.shape[1:]) for k, v in trace(LeNet5(), torch.zeros(2, 1, 32, 32)).items()}
    assert shapes == {
        "C1": (6, 28, 28),
        "S2": (6, 14, 14),
        "C3": (16, 10, 10),
        "S4": (16, 5, 5),
        "C5": (120, 1, 1),
        "F6": (84,),
        "output": (10,),
    }


def test_input_is_padded_with_background_and_scaled_as_in_the_paper():
    images = np.zeros((1, 28, 28), np.uint8)
    images[0, 0, 27] = 255
    x = LeNet5().prepare(images)
    assert x.shape == (1, 1, 32, 32)
    assert x.dtype == torch.float32
    expected = torch.full((1, 1, 32, 32), -0.1)
    expected[0, 0, 2, 29] = 1.175
    torch.testing.assert_close(x, expected)


def test_scores_are_penalties_with_their_sign_changed():
    model, x = LeNet5(initial="sqrt"), torch.randn(3, 1, 32, 32)
    codes = torch.from_numpy(codebook.digit_codes())
    features = model.get_submodule("F6")(torch.nn.Sequential(*list(model)[:5])(x))
    torch.testing.assert_close(model.penalties(x), torch.cdist(features, codes) ** 2)
    torch.testing.assert_close(model(x), -model.penalties(x))


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ({}, lambda f: 2.4 / f),
        ({"initial": "sqrt"}, lambda f: 2.4 / f**0.5),
        ({"fan_in": "inputs+bias", "subsampling_start": "random"}, lambda f: 2.4 / (f + 1)),
    ],
)
def test_initial_weights_fill_the_published_range(options, bound):
    model = LeNet5(**options)
    weights = model.state_dict()
    inputs = codebook.c3_table().sum(axis=1)
    owner = codebook.c3_table().nonzero()[0]
    fans = {"C1": 25, "C5": 400, "F6": 120}
    if "subsampling_start" in options:
        fans |= {"S2": 4, "S4": 4}
    for layer, fan in fans.items():
        for name in (key for key in weights if key.startswith(layer)):
            reach = weights[name].abs().max() / bound(fan)
            assert 0.5 < reach <= 1, name
    for kernel, out in zip(weights["C3.weight"], owner, strict=True):
        assert 0.7 < kernel.abs().max() / bound(25 * inputs[out]) <= 1


def test_same_seed_same_network():
    first, second = (torch.manual_seed(3) and LeNet5().state_dict() for _ in range(2))
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=0)


def test_softmax_head_is_a_trainable_linear_layer():
    model = LeNet5(head="softmax")
    assert sum(p.numel() for p in model.parameters()) == 60_850
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_options_rebuild_the_network():
    options = {
        "subsampling": "sum",
        "initial": "sqrt",
        "fan_in": "inputs+bias",
        "subsampling_start": "random",
        "head": "softmax",
    }
    assert LeNet5(**options).architecture.options.as_dict() == options
    again = LeNet5(**LeNet5().architecture.as_dict()).architecture
    assert again.as_dict() == LeNet5().architecture.as_dict()


@pytest.mark.parametrize("name", ["subsampling", "initial", "fan_in", "subsampling_start", "head"])
def test_unknown_choices_are_named(name):
    with pytest.raises(LenetError, match=f"{name}.*'round'"):
        LeNet5(**{name: "round"})


# Criteria


def test_penalty_is_the_mean_penalty_of_the_right_class():
    scores = torch.tensor([[-3.0, -1.0], [-2.0, -7.0]])
    assert penalty(scores, torch.tensor([0, 1])).item() == 5


def test_map_criterion_is_equation_9():
    y = np.array([[3.0, 1.0, 4.0], [2.0, 7.0, 0.5]])
    labels = np.array([0, 1])
    j = 1.5
    right = y[np.arange(2), labels]
    expected = np.mean(right + np.log(np.exp(-j) + np.exp(-y).sum(axis=1)))
    got = map_criterion(-torch.from_numpy(y), torch.from_numpy(labels), j)
    assert got.item() == pytest.approx(expected, rel=1e-12)


def test_map_criterion_survives_huge_penalties():
    scores = torch.tensor([[-1e4, -2e4]], requires_grad=True)
    loss = map_criterion(scores, torch.tensor([0]), j=1e4)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert loss.item() == pytest.approx(np.log(2), rel=1e-3)
    np.testing.assert_allclose(gradient, [[-0.5, 0]], atol=1e-6)
