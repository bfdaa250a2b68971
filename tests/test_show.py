"""Looking inside: traces, saliency, principal components, and the figures drawn of them."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw
from sklearn.decomposition import PCA

import lenet
from lenet import cli
from lenet.errors import LenetError
from lenet.figures import gallery, portraits
from lenet.networks.codebook import c3_table
from lenet.networks.inspection import input_gradient, occlusion, principal_components, summary

NETWORKS = {
    "LeNet": lambda: lenet.LeNet(activation="tanh"),
    "deep LeNet": lambda: lenet.LeNet(channels=(4, 8), padding=2, hidden=(30, 20, 15), classes=4),
    "LeNet without convolutions": lambda: lenet.LeNet(channels=(), padding=(), hidden=(20,)),
    "LeNet5": lenet.LeNet5,
    "LeNet5 with softmax": lambda: lenet.LeNet5(head="softmax"),
    "LeNet5s": lenet.LeNet5s,
}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def picture(axes):
    (image,) = axes.images
    return np.ma.filled(image.get_array().astype(float), np.nan)


def words(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def fits(figure):
    """Whether all words lie within the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return all(
        b.x0 >= -1 and b.y0 >= -1 and b.x1 <= width + 1 and b.y1 <= height + 1 for b in boxes
    )


# trace


@every_network
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_trace_gives_every_layer_of_every_network_in_every_dtype(network, dtype):
    model = network().to(dtype).eval()
    x = model.prepare(IMAGES).to(dtype)
    found = lenet.trace(model, x)
    assert list(found) == [name for name, _ in model.named_children()]
    assert all(values.dtype == dtype and len(values) == 3 for values in found.values())
    shapes = {row.name: row.output_shape for row in summary(model)}
    assert {name: tuple(values.shape[1:]) for name, values in found.items()} == shapes
    torch.testing.assert_close(list(found.values())[-1], model(x), rtol=0, atol=0)
    seen = {}
    for name, layer in model.named_children():  # each layer's answer, as PyTorch's hooks see it
        layer.register_forward_hook(
            lambda _, __, output, name=name: seen.__setitem__(name, output.clone())
        )
    model(x)
    for name, values in found.items():
        torch.testing.assert_close(values, seen[name], rtol=0, atol=0)


# what an answer hangs on


@every_network
def test_input_gradient_is_the_slope_of_the_score(network):
    model = network().double().eval()
    x = model.prepare(IMAGES[:1]).double()
    gradient = input_gradient(model, x, 2)
    assert gradient.shape == x.shape[1:]
    for place in [(0, 5, 6), (0, 14, 14), (0, 20, 9)]:
        step = torch.zeros_like(x)
        step[(0, *place)] = 1e-5
        slope = (model(x + step)[0, 2] - model(x - step)[0, 2]) / 2e-5
        # ReLU has corners; there the two slopes differ by less than this
        torch.testing.assert_close(gradient[place], slope.detach(), rtol=1e-3, atol=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("side", [1, 5])
def test_occlusion_hides_one_square_after_the_other(side):
    model = lenet.LeNet(activation="relu", mean=0.3, std=0.5).double().eval()
    x = model.prepare(IMAGES[:1]).double()
    falls = occlusion(model, x, 4, side)
    assert falls.shape == (28, 28)
    for row, column in [(0, 0), (3, 27), (14, 9)]:
        pixels = IMAGES[:1].copy()
        half = side // 2
        pixels[
            0, max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1
        ] = 0
        hidden = model.prepare(pixels).double()
        fall = model(x)[0, 4] - model(hidden)[0, 4]
        torch.testing.assert_close(falls[row, column], fall.detach())


def test_principal_components_are_scikit_learn_s():
    draw = np.random.default_rng(1)
    features = draw.normal(size=(200, 6)) @ draw.normal(size=(6, 6)) + 3
    found, expected = principal_components(features, 3), PCA(3).fit(features)
    np.testing.assert_allclose(found.shares, expected.explained_variance_ratio_)
    directions = np.asarray(expected.components_)
    signs = np.sign((found.directions * directions).sum(1))
    np.testing.assert_allclose(found.directions, signs[:, None] * directions)
    transformed = np.asarray(expected.transform(features))
    np.testing.assert_allclose(found.coordinates(features), transformed * signs, atol=1e-9)
    assert (abs(found.directions).max(1) == found.directions.max(1)).all()


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (4,)])
def test_principal_components_need_enough_to_vary(shape):
    with pytest.raises(LenetError, match="directions"):
        principal_components(np.zeros(shape))


# figures


def test_importing_the_figures_imports_neither_matplotlib_nor_torch():
    code = "import sys, lenet.figures.portraits; sys.exit(bool({'matplotlib', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_kernels_lie_side_by_side_with_white_at_zero():
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(6, 1, 5, 5)), draw.normal(size=(10, 84))
    first[2] = np.nan
    figure = portraits.kernels({"C1": first, "output": second}, "a network")
    upper, _, lower, _ = figure.axes
    assert picture(upper).shape == (5, 6 * 6 - 1)
    np.testing.assert_array_equal(picture(upper)[:, 6:11], first[1, 0])
    assert np.isnan(picture(upper)[:, 12:17]).all()
    np.testing.assert_array_equal(picture(lower), second)
    for axes, values in ((upper, first), (lower, second)):
        largest = np.nanmax(abs(values))
        assert axes.images[0].get_clim() == (-largest, largest)
    assert fits(figure)


def test_many_outputs_go_on_in_a_new_line():
    kernels = np.arange(70.0)[:, None, None, None] * np.ones((1, 2, 3, 3))
    upper = portraits.kernels({"C5": kernels}, "").axes[0]
    found = picture(upper)
    assert found.shape == (4 * 4 - 1, 60 * 4 - 1)  # two inputs for each of two lines of 60
    assert found[0, 0] == 0 and found[4, 4] == 1 and found[8, 0] == 60 and found[12, 36] == 69
    assert np.isnan(found[8, 40:]).all()


def test_feature_maps_have_a_row_a_layer():
    draw = np.random.default_rng(0)
    layers = {
        "C1": draw.normal(size=(6, 8, 8)),
        "C1_relu": abs(draw.normal(size=(20, 4, 4))),
        "output": np.array([3.0, -1, 250]),
    }
    figure = portraits.feature_maps(draw.uniform(size=(9, 9)), layers, ["a", "b", "$c"], "t")
    image, _, first, _, second, _, last, _ = figure.axes
    assert picture(image).shape == (9, 9)
    np.testing.assert_array_equal(picture(first)[:, 9:17], layers["C1"][1])
    np.testing.assert_array_equal(picture(second)[5:9, 5:9], layers["C1_relu"][17])
    assert first.images[0].get_clim() == (-abs(layers["C1"]).max(), abs(layers["C1"]).max())
    assert second.images[0].get_clim() == (0, layers["C1_relu"].max())
    labels = [label.get_text() for label in last.get_xticklabels()]
    assert labels == ["a\n3", "b\n−1", "\\$c\n250"]
    assert fits(figure)


def test_feature_maps_are_refused_without_scores():
    with pytest.raises(LenetError, match="nothing to draw"):
        portraits.feature_maps(np.zeros((4, 4)), {}, [], "")
    with pytest.raises(LenetError, match="3 classes"):
        portraits.feature_maps(np.zeros((4, 4)), {"output": np.zeros(2)}, ["a", "b", "c"], "")


def test_connection_table_is_table_one():
    groups = [f"{row.sum()}" for row in c3_table()]
    figure = portraits.connection_table(c3_table(), groups, "C3")
    (axes,) = figure.axes
    *kinds, missing = axes.collections
    places = {tuple(place) for kind in kinds for place in np.asarray(kind.get_offsets()).tolist()}
    assert places == {tuple(place) for place in np.argwhere(c3_table()).astype(float).tolist()}
    assert len(np.asarray(missing.get_offsets())) == 36
    assert [kind.get_label() for kind in kinds] == ["3", "4", "6"]
    assert fits(figure)
    with pytest.raises(LenetError, match="16 outputs"):
        portraits.connection_table(c3_table(), groups[1:], "")


@every_network
def test_architecture_has_all_counts(network):
    found = summary(network())
    figure = portraits.architecture(found)
    said = words(figure)
    for row in found:
        if row.connections:
            assert {row.name, f"{row.parameters:,}", f"{row.connections:,}"} <= set(said)
    assert f"{found.parameters:,} parameters" in figure.get_suptitle()
    assert fits(figure)


def test_architecture_is_to_scale():
    (axes,) = portraits.architecture(summary(lenet.LeNet5())).axes
    squares = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    sides = [square.get_width() for square in squares if square.get_fill()]
    for side, count in {32: 1, 28: 6, 14: 6, 10: 16, 5: 16, 1: 120 + 84 + 10}.items():
        assert sides.count(side) == count
    seen = [s.get_width() for s in squares if not s.get_fill() and s.get_width() > 1]
    assert seen == [5, 2, 5, 2, 5, 10, 7]  # what a unit of each layer sees of the one before


def test_saliency_is_centred():
    draw = np.random.default_rng(0)
    image, gradient, fall = draw.uniform(size=(3, 28, 28)) - 0.3
    figure = portraits.saliency(image, gradient, fall, "7", 5)
    panels = figure.axes[:3]
    for axes, values in zip(panels, (image, gradient, fall), strict=True):
        np.testing.assert_array_equal(picture(axes), values)
    assert panels[1].images[0].get_clim() == (-abs(gradient).max(), abs(gradient).max())
    assert "7" in panels[1].get_title() and "5×5" in panels[2].get_title()
    portraits.saliency(np.ones((4, 4)), np.zeros((4, 4)), np.zeros((4, 4)), "7", 5)  # nothing there


def test_feature_plane_rings_the_mistakes():
    points = np.array([[0, 0], [1, 1], [2, 2], [3, 3.5]])
    figure = portraits.feature_plane(points, [0, 1, 1, 0], [0, 1, 0, 0], "ab", (0.5, 0.25), "t")
    first, second, rings = figure.axes[0].collections
    assert np.asarray(first.get_offsets()).tolist() == [[0, 0], [3, 3.5]]
    assert np.asarray(second.get_offsets()).tolist() == [[1, 1], [2, 2]]
    assert np.asarray(rings.get_offsets()).tolist() == [[2, 2]]
    ring, own = np.asarray(rings.get_edgecolor())[0], np.asarray(first.get_facecolor())[0]
    np.testing.assert_array_equal(ring[:3], own[:3])
    assert "25%" in figure.axes[0].get_ylabel()
    with pytest.raises(LenetError, match="4 images, but 3 labels"):
        portraits.feature_plane(points, [0, 1, 1], [0, 1, 1], "ab", (1, 0), "")


# the gallery


@pytest.mark.parametrize("name", ["LeNet5", "LeNet5s", "LeNet"])
def test_gallery_s_kernels_are_the_weights(name):
    model = NETWORKS[name]()
    subject = gallery.Subject(model, "x", IMAGES[0], "an image", "mnist")
    figure = gallery.kernels(subject)
    names = [text.get_text() for text in figure.texts if text.get_text() != figure.get_suptitle()]
    panels = dict(zip(names, figure.axes[::2], strict=True))
    weights = dict(model.named_parameters())
    np.testing.assert_allclose(
        picture(panels["C1"])[:, 6:11], weights["C1.weight"][1, 0].detach(), rtol=1e-6
    )
    np.testing.assert_allclose(picture(panels["F6"]), weights["F6.weight"].detach(), rtol=1e-6)
    c5 = weights["C5.weight"].detach().reshape(120, 16, 5, 5)
    np.testing.assert_allclose(picture(panels["C5"])[6:11, 12:17], c5[2, 1], rtol=1e-6)
    blanks = np.isnan(picture(panels["C3"])[2::6, 2::6])  # the middles of the kernels
    expected = np.zeros((6, 16), bool) if name == "LeNet" else ~c3_table().T
    np.testing.assert_array_equal(blanks, expected)


def test_networks_without_a_second_convolution_have_no_connections():
    subject = gallery.Subject(lenet.LeNet(channels=(6,)), "x", IMAGES[0], "", "mnist")
    with pytest.raises(LenetError, match="no second convolution"):
        gallery.connections(subject)


# the command


def test_show_draws_everything(trained, tmp_path, capsys):
    assert cli.main(["show", str(trained.path), "7", "--out", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer["figures"]) == set(gallery.FIGURES) and not answer["left_out"]
    for file in answer["figures"].values():
        with Image.open(file) as image:
            assert min(image.size) > 300


def test_show_reads_pictures_and_draws_what_is_asked_for(tmp_path, capsys):
    drawing = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(drawing).line([(100, 40), (100, 160)], fill=0, width=18)
    drawing.save(tmp_path / "one.png")
    out = tmp_path / "figures"
    line = ["show", "lenet5-1998", str(tmp_path / "one.png"), "--out", str(out)]
    assert cli.main([*line, "--only", "maps", "saliency", "--format", "svg"]) == 0
    assert sorted(file.name for file in out.iterdir()) == ["maps.svg", "saliency.svg"]
    for file in out.iterdir():
        assert ElementTree.parse(file).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {out / 'maps.svg'}",
        f"wrote {out / 'saliency.svg'}",
    ]


def test_show_says_what_it_cannot_draw(trained, tmp_path, capsys):
    Image.new("L", (60, 60), 255).save(tmp_path / "blank.png")
    for arguments, message in (
        (["LeNet5", str(tmp_path / "blank.png")], "no digit found"),
        (["LeNet5", str(tmp_path / "none.png")], "none.png"),
        ([str(trained.path), "200", "--only", "maps"], "no test image 200: 0 to 199"),
        (["nothing"], "no model 'nothing'"),
    ):
        assert cli.main(["show", *arguments, "--out", str(tmp_path / "x")]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["show", "LeNet5", "--only", "architecture", "--out", __file__]) == 2
    assert f"cannot write {__file__}" in capsys.readouterr().err
    lenet.save(lenet.LeNet(channels=(6,)), tmp_path / "short.safetensors")
    line = ["show", str(tmp_path / "short.safetensors"), "--out", str(tmp_path / "y")]
    data = trained.recipe.data
    assert cli.main([*line, "--data", data]) == 0
    assert "left out connections: the network has no second" in capsys.readouterr().out
    assert cli.main([*line, "--only", "connections"]) == 2
