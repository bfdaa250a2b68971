"""The networks as modules against the articles' figures, plain PyTorch and arithmetic."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

import lenet
from lenet.errors import LenetError
from lenet.networks.architecture import Convolution
from lenet.networks.codebook import c3_table
from lenet.networks.torch import ACTIVATIONS, LeNet, LeNet5s

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)

# "Dive into Deep Learning", section 7.6: what the articles print for one image, layer by layer.
ARTICLE_SHAPES = [
    ("Conv2d", (1, 6, 28, 28)),
    ("Sigmoid", (1, 6, 28, 28)),
    ("AvgPool2d", (1, 6, 14, 14)),
    ("Conv2d", (1, 16, 10, 10)),
    ("Sigmoid", (1, 16, 10, 10)),
    ("AvgPool2d", (1, 16, 5, 5)),
    ("Flatten", (1, 400)),
    ("Linear", (1, 120)),
    ("Sigmoid", (1, 120)),
    ("Linear", (1, 84)),
    ("Sigmoid", (1, 84)),
    ("Linear", (1, 10)),
]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_lenet_has_the_articles_shapes():
    x = torch.rand(1, 1, 28, 28)
    seen = []
    for layer in LeNet():
        x = layer(x)
        seen.append((type(layer).__name__, tuple(x.shape)))
    assert seen == ARTICLE_SHAPES


def test_lenet_counts():
    counts = [156, 2416, 48120, 10164, 850]  # (25+1)6, (150+1)16, 401*120, 121*84, 85*10
    model = LeNet()
    assert [parameters(layer) for layer in model if parameters(layer)] == counts
    assert parameters(model) == 61_706


def test_layer_names_are_the_papers():
    trained = [name for name, layer in LeNet().named_children() if parameters(layer)]
    assert trained == ["C1", "C3", "C5", "F6", "output"]
    deeper = LeNet(channels=(4, 8, 8), padding=(2, 2, 2), hidden=(40, 30, 20))
    trained = [name for name, layer in deeper.named_children() if parameters(layer)]
    assert trained == ["C1", "C3", "C5", "C7", "F8", "F9", "output"]


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name])
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_every_activation_and_pooling_learns(activation: str, pooling: str):
    torch.manual_seed(0)
    model = LeNet(activation=activation, pooling=pooling)
    model(model.prepare(IMAGES)).logsumexp(1).sum().backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in gradients)


def test_sigmoid_gelu_is_near_the_exact_gelu():
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    ours = ACTIVATIONS["gelu"]()(x)
    torch.testing.assert_close(ours, x * torch.special.expit(1.702 * x))
    # Hendrycks and Gimpel's approximation is within 0.0203 of x * Phi(x) everywhere.
    assert (ours - F.gelu(x)).abs().max() < 0.0204


@pytest.mark.parametrize(
    ("init", "bound"),
    [
        ("xavier-uniform", (6 / (400 + 120)) ** 0.5),
        ("torch", (1 / 400) ** 0.5),
        ("kaiming-uniform", (6 / 400) ** 0.5),
        ("lecun-uniform", 2.4 / 400),
    ],
)
def test_initial_weights_fill_their_range(init: str, bound: float):
    weight = LeNet(init=init).get_parameter("C5.weight").detach()
    assert weight.abs().max() <= bound
    # 48,000 uniform draws: the largest is within 0.1% of the bound but for chance 1e-21.
    assert weight.abs().max() > 0.999 * bound
    assert abs(weight.var().item() / (bound**2 / 3) - 1) < 0.05


@given(
    input_size=st.integers(1, 40),
    channels=st.lists(st.integers(1, 4), min_size=0, max_size=4),
    kernel=st.integers(1, 7),
    padding=st.integers(0, 3),
    hidden=st.lists(st.integers(1, 9), max_size=3),
)
@settings(max_examples=80, deadline=None)
def test_sizes_fit_or_are_refused_with_the_arithmetic(
    input_size, channels, kernel, padding, hidden
):
    side, fits = input_size, True
    for number in range(len(channels)):
        side = side + 2 * (padding if number == 0 else 0) - kernel + 1
        fits = fits and side >= 2
        side //= 2
    build = lambda: LeNet(  # noqa: E731
        input_size=input_size,
        channels=channels,
        kernel_sizes=kernel,
        padding=padding,
        hidden=hidden,
        classes=7,
    )
    if not fits:
        with pytest.raises(LenetError, match=r"does not fit .* = -?\d+"):
            build()
        return
    model = build()
    assert model(model.prepare(IMAGES)).shape == (3, 7)
    # The options rebuild the same network.
    assert type(model)(**model.architecture.as_dict()).architecture == model.architecture


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"activation": "swish"}, "activation must be one of sigmoid"),
        ({"pooling": "mean"}, "pooling must be one of average, max"),
        ({"init": "zeros"}, "init must be one of"),
        ({"classes": 0}, "classes must be from 1 to"),
        ({"channels": (6, 0)}, "channels must be from 1 to"),
        ({"kernel_sizes": (5, 5, 5)}, "kernel_sizes has 3 values for 2 convolution layers"),
        ({"padding": -1}, "padding must be from 0 to"),
        ({"std": 0.0}, "std must be positive, not 0.0"),
        ({"channels": (6, 16, 120)}, r"C5: .* 5 \+ 2\*0 - 5 \+ 1|S6: .* 1 // 2 = 0"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict, words: str):
    with pytest.raises(LenetError, match=words):
        LeNet(**arguments)


def test_prepare_normalises_pads_and_resizes():
    plain = LeNet().prepare(IMAGES)
    assert plain.shape == (3, 1, 28, 28) and plain.dtype == torch.float32
    np.testing.assert_allclose(plain[:, 0].numpy(), IMAGES / 255, rtol=1e-6)
    padded = LeNet(input_size=32, padding=0, mean=0.5, std=0.25).prepare(torch.from_numpy(IMAGES))
    expected = (np.pad(IMAGES, ((0, 0), (2, 2), (2, 2))) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(padded[:, 0].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert LeNet(input_size=20, padding=2).prepare(IMAGES).shape == (3, 1, 20, 20)
    colour = LeNet(in_channels=3).prepare(np.zeros((2, 3, 28, 28), np.uint8))
    assert colour.shape == (2, 3, 28, 28)


def test_prepare_refuses_what_is_no_picture():
    with pytest.raises(LenetError, match="uint8"):
        LeNet().prepare(IMAGES / 255)
    with pytest.raises(LenetError, match="shape"):
        LeNet().prepare(IMAGES[0])
    with pytest.raises(LenetError, match="shape"):
        LeNet(in_channels=3).prepare(IMAGES)


def test_slices_are_plain_parts():
    model = LeNet()
    x = model.prepare(IMAGES)
    torch.testing.assert_close(model[6:](model[:6](x)), model(x))
    assert model[0] is model.get_submodule("C1")


# LeNet5s


def test_lenet5s_counts():
    model = LeNet5s()
    assert parameters(model) == 59_719
    # (3*25+1) + (4*25+1) + (4*25+1) + (6*25+1)
    assert parameters(model.get_submodule("C3")) == 76 + 101 + 101 + 151 == 429


def test_c3_is_the_articles_loop():
    layer = LeNet5s().double().get_submodule("C3")
    w = {name: p.detach() for name, p in layer.named_parameters()}
    x = torch.rand(4, 6, 14, 14, dtype=torch.float64)

    def answer(name: str, maps: list[int]) -> torch.Tensor:
        return F.conv2d(x[:, maps], w[f"{name}.weight"], w[f"{name}.bias"])

    answers = [answer("three", [j % 6 for j in range(i, i + 3)]) for i in range(6)]
    answers += [answer("four", [j % 6 for j in range(i, i + 4)]) for i in range(6)]
    for i in range(3):
        five = [j % 6 for j in range(i, i + 5)]
        answers.append(answer("gap", five[:2] + five[3:]))
    answers.append(answer("all", [0, 1, 2, 3, 4, 5]))
    torch.testing.assert_close(layer(x), torch.cat(answers, dim=1))


def test_c3_reads_the_papers_maps():
    (c3,) = (layer for layer in LeNet5s().architecture.layers if layer.name == "C3")
    assert isinstance(c3, Convolution) and c3.groups
    read = [sorted(maps) for group in c3.groups for maps in group]
    assert sorted(read) == sorted(np.flatnonzero(row).tolist() for row in c3_table())


def test_lenet5s_resizes_as_pillow_does():
    prepared = LeNet5s().prepare(IMAGES)
    assert prepared.shape == (3, 1, 32, 32)
    pixels = (prepared * 0.3081 + 0.1307) * 255
    for image, ours in zip(IMAGES, pixels, strict=True):
        theirs = np.asarray(
            Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR), np.float32
        )
        assert np.abs(ours[0].numpy() - theirs).max() <= 1.0  # Pillow rounds twice


# Inspection


def test_summary_of_the_book_network():
    rows = {row.name: row for row in lenet.summary(LeNet())}
    assert rows["C1"].connections == 122_304  # as the paper's C1: 156 * 28 * 28
    assert rows["C1"].multiply_adds == 25 * 6 * 28 * 28
    assert rows["C3"].multiply_adds == 150 * 16 * 10 * 10
    assert rows["C5"].parameters == 48_120 and rows["output"].connections == 850
    fields = {name: row.receptive_field for name, row in rows.items()}
    assert (fields["C1"], fields["S2"], fields["C3"], fields["S4"]) == (5, 6, 14, 16)
    summary = lenet.summary(LeNet())
    assert summary.parameters == summary.as_dict()["totals"]["parameters"] == 61_706


@pytest.mark.parametrize("model", [LeNet(), LeNet(channels=(3, 4), kernel_sizes=(3, 3))])
def test_receptive_field_is_what_gradients_reach(model: LeNet):
    """One unit in the middle of each map depends on exactly that square of pixels."""
    for row in lenet.summary(model):
        if len(row.output_shape) != 3:
            continue
        x = torch.rand(1, 1, 28, 28, requires_grad=True)
        middle = row.output_shape[-1] // 2
        lenet.trace(model, x)[row.name][0, 0, middle, middle].backward()
        assert x.grad is not None
        reached = x.grad[0, 0].nonzero()
        extent = (reached.max(0).values - reached.min(0).values + 1).tolist()
        assert extent == [row.receptive_field] * 2


def test_trace_gives_every_layer_in_order():
    model = LeNet5s().eval()
    x = model.prepare(IMAGES)
    states = lenet.trace(model, x)
    assert list(states) == [name for name, _ in model.named_children()]
    torch.testing.assert_close(states["output"], model(x))
    torch.testing.assert_close(states["S2"], F.avg_pool2d(states["C1_relu"], 2))


class ArticleLeNet(nn.Module):
    """The class form of "Dive into Deep Learning"'s LeNet, as an article has it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(torch.sigmoid(self.conv1(x)), kernel_size=2, stride=2)
        x = F.avg_pool2d(torch.sigmoid(self.conv2(x)), kernel_size=2, stride=2)
        x = torch.sigmoid(self.fc1(torch.flatten(x, 1)))
        return self.fc3(torch.sigmoid(self.fc2(x)))


def article_sequence() -> nn.Sequential:
    """The articles' sequence."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10)),
    )


def paper_sequence() -> nn.Sequential:
    """The same with C5 as a convolution, as in the paper."""
    layers = list(article_sequence())
    return nn.Sequential(*layers[:6], nn.Conv2d(16, 120, 5), nn.Flatten(), *layers[8:])


@pytest.mark.parametrize("make", [ArticleLeNet, article_sequence, paper_sequence])
def test_weights_go_to_the_articles_forms_and_back(make: Callable[[], nn.Module]) -> None:
    model, article, back = LeNet(), make(), LeNet()
    x = torch.rand(5, 1, 28, 28)
    assert not torch.equal(article(x), model(x))
    lenet.copy_weights(model, article)
    difference = (article(x) - model(x)).abs().max()
    assert difference <= (1e-6 if make is paper_sequence else 0)
    lenet.copy_weights(article, back)
    assert torch.equal(back(x), model(x))


def test_weights_of_another_shape_are_not_copied() -> None:
    article = ArticleLeNet()
    before = [p.clone() for p in article.parameters()]
    with pytest.raises(LenetError, match=r"C1.weight \(8, 1, 5, 5\) beside conv1.weight"):
        lenet.copy_weights(LeNet(channels=(8, 16)), article)
    with pytest.raises(LenetError, match=r"F7.weight \(84, 84\) beside fc3.weight"):
        lenet.copy_weights(LeNet(hidden=(120, 84, 84)), article)
    with pytest.raises(LenetError, match=r"nothing beside fc1\.weight"):
        lenet.copy_weights(article_sequence()[:6], article)
    assert all(torch.equal(*pair) for pair in zip(before, article.parameters(), strict=True))
