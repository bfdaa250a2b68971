"""The primitives against PyTorch, SciPy, brute force, the book's numbers, and their page."""

import re
import runpy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from lenet.errors import LenetError
from lenet.networks.primitives import (
    Conv2D,
    corr2d,
    corr2d_multi_in,
    corr2d_multi_in_out,
    corr2d_multi_in_out_1x1,
    equivariance_error,
    invariance_error,
    learn_kernel,
    output_size,
    pixels_seen,
    pool2d,
    receptive_field,
    windows,
)

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "first-principles.md").read_text(encoding="utf-8")

X_3x3 = torch.arange(9.0).reshape(3, 3)
K_2x2 = torch.arange(4.0).reshape(2, 2)

seeds = st.integers(0, 2**31)
channels = st.integers(1, 3)
layer = st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))  # k, p, s


@st.composite
def geometries(draw: st.DrawFn, pooling: bool = False) -> tuple[tuple[int, int], ...]:
    """(size of X, size of the window, padding, stride), each (vertical, horizontal), that fit."""
    axes = []
    for _ in range(2):
        k = draw(st.integers(1, 4))
        p = draw(st.integers(0, k // 2 if pooling else 3))
        n = draw(st.integers(max(1, k - 2 * p), 8))
        axes.append((n, k, p, draw(st.integers(1, 3))))
    vertical, horizontal = axes
    return tuple(zip(vertical, horizontal, strict=True))


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_close(ours: Tensor, reference: Tensor) -> None:
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)


# Convolution


@given(geometries(), channels, channels, seeds)
@settings(deadline=None)
def test_convolution_is_pytorchs(geometry, ci: int, co: int, seed: int):
    size, kernel, padding, stride = geometry
    X, K = random(seed, ci, *size), random(seed + 1, co, ci, *kernel)
    reference = F.conv2d(X[None], K, padding=padding, stride=stride)[0]
    assert_close(corr2d_multi_in_out(X, K, padding, stride), reference)
    assert_close(corr2d_multi_in(X, K[0], padding, stride), reference[0])
    one_channel = F.conv2d(X[None, :1], K[:1, :1], padding=padding, stride=stride)[0, 0]
    assert_close(corr2d(X[0], K[0, 0], padding, stride), one_channel)


@given(channels, channels, st.integers(1, 6), st.integers(1, 6), seeds)
@settings(deadline=None)
def test_one_by_one_convolution_is_pytorchs(ci: int, co: int, h: int, w: int, seed: int):
    X, K = random(seed, ci, h, w), random(seed + 1, co, ci, 1, 1)
    assert_close(corr2d_multi_in_out_1x1(X, K), F.conv2d(X[None], K)[0])


@given(geometries(), seeds)
@settings(deadline=None)
def test_true_convolution_flips_the_kernel(geometry, seed: int):
    size, kernel, _, _ = geometry
    X, K = random(seed, *size), random(seed + 1, *kernel)
    assume(size[0] >= kernel[0] and size[1] >= kernel[1])
    reference = scipy.signal.convolve2d(X.numpy(), K.numpy(), mode="valid")
    assert_close(corr2d(X, K.flip(0, 1)), torch.from_numpy(reference))


def test_the_books_convolutions():
    assert corr2d(X_3x3, K_2x2).tolist() == [[19, 25], [37, 43]]
    assert corr2d(X_3x3.long(), K_2x2.long()).tolist() == [[19, 25], [37, 43]]
    X, K = torch.stack([X_3x3, X_3x3 + 1]), torch.stack([K_2x2, K_2x2 + 1])
    assert corr2d_multi_in(X, K).tolist() == [[56, 72], [104, 120]]
    assert corr2d_multi_in_out(X, torch.stack([K, K + 1, K + 2])).tolist() == [
        [[56, 72], [104, 120]],
        [[76, 100], [148, 172]],
        [[96, 128], [192, 224]],
    ]


@given(geometries(), seeds)
@settings(deadline=None, max_examples=20)
def test_gradients_of_conv2d(geometry, seed: int):
    size, kernel, padding, stride = geometry
    module = Conv2D(kernel, padding, stride).double()
    module.bias.data.fill_(0.5)
    X = random(seed, *size).requires_grad_()
    weight, bias = module.weight, module.bias
    assert torch.autograd.gradcheck(lambda X, *_: module(X), (X, weight, bias))
    reference = F.conv2d(X[None, None], weight[None, None], bias, stride, padding)[0, 0]
    assert_close(module(X), reference)


def test_conv2d_starts_as_in_the_book():
    module = Conv2D((3, 4), generator=torch.Generator().manual_seed(7))
    weight = torch.rand(3, 4, generator=torch.Generator().manual_seed(7))
    assert {name: p.tolist() for name, p in module.named_parameters()} == {
        "weight": weight.tolist(),
        "bias": [0.0],
    }


# Pooling


@pytest.mark.parametrize(("mode", "reference"), [("max", F.max_pool2d), ("avg", F.avg_pool2d)])
@given(geometries(pooling=True), channels, seeds)
@settings(deadline=None)
def test_pooling_and_its_gradients_are_pytorchs(mode: Any, reference, geometry, c: int, seed: int):
    size, window, padding, stride = geometry
    X = random(seed, c, *size).round()  # many equal values
    ours, theirs = X.clone().requires_grad_(), X.clone().requires_grad_()
    Y = pool2d(ours, window, mode, padding, stride)
    expected = reference(theirs[None], window, stride, padding)[0]
    assert_close(Y, expected)
    weights = random(seed + 1, *Y.shape)
    (gradient,) = torch.autograd.grad((Y * weights).sum(), ours)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), theirs)
    assert_close(gradient, expected_gradient)


def test_the_books_pooling():
    assert pool2d(X_3x3, (2, 2)).tolist() == [[4, 5], [7, 8]]
    assert pool2d(X_3x3, (2, 2), "avg").tolist() == [[2, 3], [5, 6]]
    assert pool2d(X_3x3.long(), 2, "avg").tolist() == [[2, 3], [5, 6]]
    X = torch.arange(16.0).reshape(4, 4)
    assert pool2d(X, 3, stride=3).tolist() == [[10]]
    assert pool2d(X, 3, padding=1, stride=2).tolist() == [[5, 7], [13, 15]]
    assert pool2d(X, (2, 3), padding=(0, 1), stride=(2, 3)).tolist() == [[5, 7], [13, 15]]
    both = pool2d(torch.stack([X, X + 1]), 3, padding=1, stride=2)
    assert both.tolist() == [[[5, 7], [13, 15]], [[6, 8], [14, 16]]]


# Sizes and receptive fields


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 3), st.integers(1, 5))
def test_output_size_counts_the_places(n: int, k: int, p: int, s: int):
    places = len([first for first in range(-p, n + p, s) if first + k <= n + p])
    if places:
        assert output_size(n, k, p, s) == places
        height = windows(torch.zeros(n, 1), (k, 1), (p, 0), (s, 1)).shape[0]
        assert height == places
    else:
        with pytest.raises(LenetError, match=rf"{n} \+ 2\*{p} = {n + 2 * p} < {k}"):
            output_size(n, k, p, s)


def test_output_sizes_of_lenet():
    layers = [(5, 2, 1), (2, 0, 2), (5, 0, 1), (2, 0, 2)]
    sizes = [28]
    for k, p, s in layers:
        sizes.append(output_size(sizes[-1], k, p, s))
    assert sizes == [28, 28, 14, 10, 5]


def gradients_of_units(layers: list[tuple[int, int, int]], n: int) -> list[list[int]]:
    """For each unit of the last layer the pixels that change it, by autograd."""
    x = torch.ones(1, 1, n, dtype=torch.float64, requires_grad=True)
    y = x
    for k, p, s in layers:
        y = F.conv1d(y, torch.ones(1, 1, k, dtype=torch.float64), padding=p, stride=s)
    seen = []
    for unit in y[0, 0]:
        (gradient,) = torch.autograd.grad(unit, x, retain_graph=True)
        seen.append(gradient[0, 0].nonzero()[:, 0].tolist())
    return seen


@given(st.lists(layer.filter(lambda kps: kps[0] >= kps[2]), max_size=4), st.integers(1, 40))
@settings(deadline=None)
def test_pixels_seen_are_those_with_a_gradient(layers: list[tuple[int, int, int]], n: int):
    size = n
    for k, p, s in layers:
        assume(size + 2 * p >= k)
        size = output_size(size, k, p, s)
    field = receptive_field(layers)
    for unit, seen in enumerate(gradients_of_units(layers, n)):
        assert list(pixels_seen(layers, unit, n)) == seen
        first = field.start + unit * field.jump
        assert set(seen) <= set(range(first, first + field.size))


@given(st.lists(layer.map(lambda kps: (kps[0], 0, kps[2])), min_size=1, max_size=4))
@settings(deadline=None)
def test_receptive_field_without_padding(layers: list[tuple[int, int, int]]):
    """Also with strides larger than the windows, where it has gaps."""
    field = receptive_field(layers)
    seen = gradients_of_units(layers, field.size + 2 * field.jump)
    assert len(seen) >= 3
    assert field.start == seen[0][0] == 0
    for pixels, following in pairwise(seen):
        assert pixels[-1] - pixels[0] + 1 == field.size
        assert following[0] - pixels[0] == field.jump


def test_receptive_fields_of_lenet():
    layers = [(5, 2, 1), (2, 0, 2), (5, 0, 1), (2, 0, 2)]
    assert [receptive_field(layers[:depth]) for depth in range(5)] == [
        (1, 1, 0),
        (5, 1, -2),
        (6, 2, -2),
        (14, 2, -2),
        (16, 4, -2),
    ]
    assert receptive_field([(3, 1, 2), (3, 1, 1)]) == (7, 2, -3)
    # The book's example: two 2x2 kernels see all nine elements of a 3x3 input.
    assert pixels_seen([(2, 0, 1), (2, 0, 1)], 0, 3) == range(3)


# Learning a kernel


def edge_image() -> Tensor:
    X = torch.ones(6, 8)
    X[:, 2:6] = 0
    return X


def test_edges():
    X = edge_image()
    K = torch.tensor([[1.0, -1.0]])
    assert corr2d(X, K).tolist() == [[0, 1, 0, 0, 0, -1, 0]] * 6
    assert not corr2d(X.T, K).any()


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_learn_kernel_follows_the_quadratic(seed: int):
    """The loss is e^T H e / 2 in the error e, so a step multiplies e by I - lr H."""
    X = edge_image()
    Y = corr2d(X, torch.tensor([[1.0, -1.0]]))
    kernel, losses = learn_kernel(X, Y, (1, 2), generator=torch.Generator().manual_seed(seed))

    H = 12 * np.array([[3, 2], [2, 3]])
    start = torch.rand(1, 2, generator=torch.Generator().manual_seed(seed)).numpy()[0]
    errors = [start - [1, -1]]
    for _ in range(10):
        errors.append((np.eye(2) - 3e-2 * H) @ errors[-1])
    np.testing.assert_allclose(kernel[0].numpy() - [1, -1], errors[10], atol=1e-4)
    np.testing.assert_allclose(losses, [e @ H @ e / 2 for e in errors[:10]], rtol=1e-3)
    assert np.abs(errors[10]).max() < 0.12  # near [1, -1] from wherever it starts in [0, 1)


def test_learn_kernel_prints_every_second_step(capsys: pytest.CaptureFixture[str]):
    X = edge_image()
    Y = corr2d(X, torch.tensor([[1.0, -1.0]]))
    _, losses = learn_kernel(X, Y, (1, 2), steps=5)
    assert len(losses) == 5
    expected = f"epoch 2, loss {losses[1]:.3f}\nepoch 4, loss {losses[3]:.3f}\n"
    assert capsys.readouterr().out == expected


# Equivariance and invariance


@given(geometries(), seeds, st.tuples(st.integers(0, 3), st.integers(0, 3)))
@settings(deadline=None)
def test_convolution_is_equivariant(geometry, seed: int, steps: tuple[int, int]):
    """To shifts by multiples of the stride, here that of the pooling after it."""
    _, kernel, _, (stride, _) = geometry
    scene, K = random(seed, 24, 24), random(seed + 1, *kernel)
    shift = steps[0] * stride, steps[1] * stride

    def layer(view: Tensor) -> Tensor:
        return pool2d(corr2d(view, K), 2, stride=stride)

    assert equivariance_error(layer, scene, shift, stride) == 0


def test_shift_errors_of_one_bright_pixel():
    scene = torch.zeros(9, 9)
    scene[4, 4] = 1

    def same(view: Tensor) -> Tensor:
        return view

    # Moved, it leaves one place and appears in another: sqrt(1 + 1) / 1.
    assert invariance_error(same, scene, (0, 1)) == pytest.approx(2**0.5)
    assert equivariance_error(same, scene, (1, 2)) == 0
    # A flip turns a move to the right into one to the left.
    assert equivariance_error(lambda view: view.flip(1), scene, (0, 1)) == pytest.approx(2**0.5)


def test_max_pooling_forgets_a_one_pixel_shift_only_within_its_window():
    def pooled(view: Tensor) -> Tensor:
        return pool2d(view, 2, stride=2)

    changes = []
    for column in range(2, 8):
        scene = torch.zeros(8, 11)
        scene[4, column] = 1
        changes.append(invariance_error(pooled, scene, (0, 1)))
    # The first view shows the pixel in column - 1, the second in column.
    across = pytest.approx(2**0.5)
    assert changes == [across, 0, across, 0, across, 0]


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_invariance_is_only_approximate(seed: int):
    scene = random(seed, 16, 17)
    errors = [
        invariance_error(lambda view, k=k: pool2d(view, k, stride=k), scene, (0, 1)) for k in (1, 4)
    ]
    assert errors[0] > errors[1] > 0


def test_padding_breaks_equivariance():
    def padded(view: Tensor) -> Tensor:
        return corr2d(view, torch.ones(3, 3), padding=1)

    # Both views are 1 1 1 1, both answers 2 3 3 2; where they overlap, 2 3 3 and 3 3 2.
    error = equivariance_error(padded, torch.ones(1, 5), (0, 1))
    assert error == pytest.approx((2 / 22) ** 0.5)


# Refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: output_size(28, 0), "window 0"),
        (lambda: output_size(28, 5, p=-1), "padding -1"),
        (lambda: output_size(28, 5, s=0), "stride 0"),
        (lambda: output_size(0, 1), "input 0"),
        (lambda: corr2d(X_3x3, torch.ones(2, 6), padding=1), r"3 \+ 2\*1 = 5 < 6"),
        (lambda: corr2d(X_3x3[None], K_2x2), r"\(h, w\).*\(1, 3, 3\)"),
        (lambda: corr2d(X_3x3, K_2x2[0]), r"\(kh, kw\).*\(2,\)"),
        (lambda: corr2d(X_3x3, K_2x2, padding=(1, 1, 1)), "pair"),  # pyright: ignore
        (lambda: corr2d_multi_in(torch.ones(2, 3, 3), torch.ones(3, 2, 2)), "2 channels.*for 3"),
        (lambda: corr2d_multi_in(torch.ones(0, 3, 3), torch.ones(0, 2, 2)), "0 channels"),
        (lambda: corr2d_multi_in_out(torch.ones(2, 3, 3), torch.ones(4, 3, 2, 2)), "for 3"),
        (lambda: corr2d_multi_in_out(X_3x3[None], K_2x2), "co, ci, kh, kw"),
        (lambda: corr2d_multi_in_out_1x1(X_3x3[None], torch.ones(4, 1, 2, 2)), "co, ci, 1, 1"),
        (lambda: corr2d_multi_in_out_1x1(X_3x3[None], torch.ones(4, 2, 1, 1)), "for 2"),
        (lambda: pool2d(X_3x3, 2, "min"), "'max' or 'avg'"),  # pyright: ignore
        (lambda: pool2d(X_3x3, 3, padding=2), "3 // 2 = 1"),
        (lambda: pool2d(X_3x3[0], 2), r"\.\.\., h, w"),
        (lambda: learn_kernel(X_3x3, X_3x3, (2, 2)), r"\(3, 3\).*gives \(2, 2\)"),
        (lambda: receptive_field([(5, 0, 1), (2, 0, 0)]), r"\(2, 0, 0\)"),
        (lambda: pixels_seen([(5, 2, 1)], 28, 28), "0 to 27"),
        (lambda: equivariance_error(lambda x: x, torch.ones(9, 9), (1, 0), 2), "multiple"),
        (lambda: invariance_error(lambda x: x, torch.ones(9, 9), (9, 0)), r"\(9, 9\)"),
        (lambda: invariance_error(lambda x: x, torch.ones(9, 9), (0, -1)), r"\(0, -1\)"),
        (lambda: invariance_error(lambda x: x, torch.zeros(9, 9), (0, 1)), "0 everywhere"),
    ],
)
def test_refusals_name_the_cause(call, message: str):
    with pytest.raises(LenetError, match=message):
        call()


# The page


def test_the_pages_figures_are_what_the_script_draws(tmp_path: Path):
    runpy.run_path(str(DOCS / "figures.py"))["main"](tmp_path)
    drawn = {file.name for file in tmp_path.iterdir()}
    assert drawn == set(re.findall(r"\]\(figures/(.+?)\)", PAGE))
    for name in drawn:
        with Image.open(tmp_path / name) as new, Image.open(DOCS / "figures" / name) as kept:
            assert new.size == kept.size
            difference = np.asarray(new.convert("L"), float) - np.asarray(kept.convert("L"), float)
        # Other versions of matplotlib draw letters and lines a little differently.
        assert np.abs(difference).mean() < 1, f"run docs/figures.py again: {name} is out of date"
