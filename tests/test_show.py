"""Looking inside: saliency, principal components, and the figures drawn of networks."""

import json
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw
from sklearn.decomposition import PCA

from lenet import cli, data
from lenet.data import Split
from lenet.engine.scores import tracer
from lenet.errors import LenetError
from lenet.figures import networks
from lenet.figures.architecture import architecture, connected, connections
from lenet.networks import arithmetic
from lenet.networks.architecture import (
    NETWORKS,
    Architecture,
    Convolution,
    Flatten,
    FullConnection,
    Options,
    Pooling,
    Preparation,
    build,
)
from lenet.networks.checkpoint import WEIGHTS, Checkpoint, write
from lenet.networks.codebook import c3_table, digit_codes
from lenet.networks.inspection import occlusion, principal_components, summary


@dataclass(frozen=True, kw_only=True)
class Pairs(Options):
    """A network that the package does not know: maps of S2 in pairs, a small table in C3."""

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        c1 = Convolution("C1", (1, 32, 32), 4, 5, (0.1, 0.1), squash="tanh")
        sources = (0, 0, 1, 1, 2, 2, 3, 3)
        s2 = Pooling("S2", c1.output_shape, "sum", "tanh", 0.5, sources)
        groups = (((0, 1, 2),), ((2, 3, 4), (5, 6, 7)), ((0, 7),))
        bounds = (0.1,) * 3
        c3 = Convolution("C3", s2.output_shape, 4, 5, (bounds, bounds), 0, "tanh", groups)
        s4 = Pooling("S4", c3.output_shape, "max")
        flat = Flatten("flatten", s4.output_shape)
        output = FullConnection("output", flat.output_shape, 10, (0.1, 0.1))
        layers = (c1, s2, c3, s4, flat, output)
        return Architecture(self, Preparation(1, 32, -0.1, 1.175), layers)


CHOICES = {
    "LeNet": ("LeNet", {"activation": "tanh"}),
    "deep LeNet": ("LeNet", {"channels": (4, 8), "padding": 2, "hidden": (30, 20, 15)}),
    "LeNet without convolutions": ("LeNet", {"channels": (), "padding": (), "hidden": (20,)}),
    "LeNet5": ("LeNet5", {}),
    "LeNet5 with softmax": ("LeNet5", {"head": "softmax"}),
    "LeNet5s": ("LeNet5s", {}),
    "pairs": ("Pairs", {}),
}
every_network = pytest.mark.parametrize("choice", CHOICES)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)


@pytest.fixture(autouse=True)
def one_more_network(monkeypatch):
    monkeypatch.setitem(NETWORKS, "Pairs", Pairs)


def network(choice):
    architecture = build(*CHOICES[choice])
    classes = [str(i) for i in range(10)]
    weights = architecture.initial_weights(0)
    return Checkpoint(Path("nowhere"), architecture, {"classes": classes}, weights)


def picture(axes):
    (image,) = axes.images
    return np.ma.filled(np.ma.asarray(image.get_array()).astype(float), np.nan)


def words(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def panels(figure):
    """Name of a layer -> the axes of its panel."""
    names = [text.get_text() for text in figure.texts if text is not figure._suptitle]
    return dict(zip(names, figure.axes[::2], strict=True))


def fits(figure):
    """Whether everything lies within the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
    return min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.01


# What an answer depends on


@every_network
def test_input_gradient_is_the_slope_of_the_score(choice):
    model = network(choice)
    weights = {name: array.astype(float) for name, array in model.weights.items()}
    x = model.architecture.preparation(IMAGES[:1]).astype(float)

    def score(inputs):
        return [*arithmetic.activations(model.architecture, weights, inputs).values()][-1][0, 2]

    gradient = arithmetic.input_gradient(model.architecture, weights, x, 2)
    assert gradient.shape == x.shape
    for place in [(0, 0, 5, 6), (0, 0, 14, 14), (0, 0, 20, 9)]:
        step = np.zeros_like(x)
        step[place] = 1e-5
        slope = (score(x + step) - score(x - step)) / 2e-5
        # ReLU and maxima have corners; there the two slopes differ by less than this
        np.testing.assert_allclose(gradient[place], slope, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("side", [1, 5])
def test_occlusion_hides_one_square_after_the_other(side):
    net = build("LeNet", {"activation": "relu", "mean": 0.3, "std": 0.5})
    weights = {name: array.astype(float) for name, array in net.initial_weights(0).items()}

    def score(pixels):
        x = net.preparation(pixels).astype(float)
        return [*arithmetic.activations(net, weights, x).values()][-1][0, 4]

    falls = occlusion(net, weights, net.preparation(IMAGES[:1]).astype(float), 4, side)
    assert falls.shape == (28, 28)
    for row, column in [(0, 0), (3, 27), (14, 9)]:
        hidden, half = IMAGES[:1].copy(), side // 2
        rows = slice(max(row - half, 0), row + half + 1)
        hidden[0, rows, max(column - half, 0) : column + half + 1] = 0
        np.testing.assert_allclose(falls[row, column], score(IMAGES[:1]) - score(hidden), rtol=1e-5)


def test_principal_components_are_scikit_learn_s():
    draw = np.random.default_rng(1)
    features = draw.normal(size=(200, 6)) @ draw.normal(size=(6, 6)) + 3
    principal, expected = principal_components(features, 3), PCA(3).fit(features)
    np.testing.assert_allclose(principal.shares, expected.explained_variance_ratio_)
    directions = np.asarray(expected.components_)
    signs = np.sign((principal.directions * directions).sum(1))
    np.testing.assert_allclose(principal.directions, signs[:, None] * directions)
    transformed = np.asarray(expected.transform(features))
    np.testing.assert_allclose(principal.coordinates(features), transformed * signs, atol=1e-9)
    assert (abs(principal.directions).max(1) == principal.directions.max(1)).all()


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (4,)])
def test_principal_components_need_enough_to_vary(shape):
    with pytest.raises(LenetError, match="directions"):
        principal_components(np.zeros(shape))


# Figures


@every_network
def test_kernels_are_the_weights(choice):
    model = network(choice)
    figure = networks.kernels(model, "weights")
    drawn = panels(figure)
    for layer in model.architecture.layers:
        if isinstance(layer, Convolution) and layer.output_shape[1] > 1:
            # side by side, with a gap of a pixel
            shown, expected = picture(drawn[layer.name]), layer.filters(model.weights)
            cells = np.pad(shown, ((0, 1), (0, 1))).reshape(
                layer.input_shape[0], layer.kernel + 1, layer.outputs, layer.kernel + 1
            )
            cells = cells.transpose(2, 0, 1, 3)[:, :, :-1, :-1]
            there = connected(layer)
            np.testing.assert_allclose(cells[there], expected[there], rtol=1e-6)
            assert np.isnan(cells[~there]).all()
        elif isinstance(layer, FullConnection) and picture(drawn[layer.name]).shape[0] == (
            layer.outputs
        ):
            weights = model.weights[f"{layer.name}.weight"]
            np.testing.assert_allclose(picture(drawn[layer.name]), weights, rtol=1e-6)
    assert fits(figure)


def test_weights_have_white_at_zero():
    drawn = panels(networks.kernels(network("LeNet5"), ""))
    for axes in (drawn["C1"], drawn["F6"]):
        largest = np.nanmax(abs(picture(axes)))
        assert axes.images[0].get_clim() == (-largest, largest)
    shown = picture(drawn["S2\ncoefficient\nbias"])
    np.testing.assert_array_equal(shown, [[1.0] * 6, [0.0] * 6])  # a squashed mean
    # The codes, as glyphs side by side; 3 is the fourth.
    np.testing.assert_array_equal(
        picture(drawn["output"])[:, 24:31], digit_codes()[3].reshape(12, 7)
    )
    assert list(panels(networks.kernels(network("LeNet5"), "", ("C3",)))) == ["C3"]


def test_full_connections_that_see_maps_are_drawn_as_kernels():
    model = network("LeNet")
    shown = picture(panels(networks.kernels(model, ""))["C5"])
    c5 = model.weights["C5.weight"].reshape(120, 16, 5, 5)
    np.testing.assert_allclose(shown[6:11, 12:17], c5[2, 1], rtol=1e-6)


def test_many_outputs_go_on_in_a_new_line():
    kernels = np.arange(70.0)[:, None, None, None] * np.ones((1, 2, 3, 3))
    shown = networks.beside(kernels, 60)
    assert shown.shape == (4 * 4 - 1, 60 * 4 - 1)  # two inputs for each of two lines of 60
    assert shown[0, 0] == 0 and shown[4, 4] == 1 and shown[8, 0] == 60 and shown[12, 36] == 69
    assert np.isnan(shown[8, 40:]).all()


@every_network
def test_feature_maps_have_a_panel_a_layer(choice):
    model = network(choice)
    values = tracer(model)(IMAGES[0])
    figure = networks.feature_maps(model, values, "reads")
    drawn = panels(figure)
    assert list(drawn) == [name for name in values if name != "flatten"]
    np.testing.assert_array_equal(picture(drawn["input"]), values["input"][0])
    for name, axes in drawn.items():
        assert np.nansum(picture(axes)) == pytest.approx(values[name].sum(), rel=1e-3, abs=1e-3)
        if values[name].min() < 0 and name != "input":
            largest = abs(values[name]).max()
            assert axes.images[0].get_clim() == pytest.approx((-largest, largest))
    scores = values["output"]
    labels = [label.get_text() for label in drawn["output"].get_xticklabels()]
    assert labels[3] == f"3\n{networks.few_digits(scores[3])}"
    assert figure.get_suptitle() == f"reads as {scores.argmax()}"
    assert fits(figure)


def test_what_codes_are_compared_with_is_a_glyph():
    model = network("LeNet5")
    drawn = panels(networks.feature_maps(model, tracer(model)(IMAGES[0]), ""))
    f6 = tracer(model)(IMAGES[0])["F6"]
    np.testing.assert_array_equal(picture(drawn["F6"]), f6.reshape(12, 7))


def shown_connections(axes):
    *kinds, missing = axes.collections
    places = [tuple(p) for kind in kinds for p in np.asarray(kind.get_offsets()).astype(int)]
    return set(places), len(np.asarray(missing.get_offsets())), [k.get_label() for k in kinds]


def test_connections_are_table_one():
    figure = connections(build("LeNet5", {}))
    (axes,) = figure.axes
    places, missing, labels = shown_connections(axes)
    assert places == {tuple(place) for place in np.argwhere(c3_table()).tolist()}
    assert missing == 36
    assert labels == ["reads 3 maps", "reads 4 maps", "reads 6 maps"]
    assert fits(figure)
    shared = shown_connections(connections(build("LeNet5s", {})).axes[0])
    assert shared[0] == places
    assert shared[2][0] == "6 maps share 3 kernels"


def test_connections_of_pairs_and_of_everything():
    first, second = connections(build("Pairs", {})).axes
    assert shown_connections(first)[0] == {(o, o // 2) for o in range(8)}
    read = {0: (0, 1, 2), 1: (2, 3, 4), 2: (5, 6, 7), 3: (0, 7)}
    assert shown_connections(second)[0] == {(o, i) for o, inputs in read.items() for i in inputs}
    assert "C3 connects 11 of 32 pairs of maps by 8 kernels" in second.get_title("left")
    (axes,) = connections(build("LeNet", {})).axes
    assert len(shown_connections(axes)[0]) == 96
    with pytest.raises(LenetError, match="no second convolution"):
        connections(build("LeNet", {"channels": (6,)}))


@every_network
def test_architecture_has_all_counts(choice):
    table = summary(build(*CHOICES[choice]))
    figure = architecture(build(*CHOICES[choice]))
    said = words(figure)
    for row in table:
        if row.connections:
            assert {row.name, f"{row.parameters:,}", f"{row.connections:,}"} <= set(said)
    assert f"{table.parameters:,} parameters" in figure.get_suptitle()
    assert fits(figure)


def test_architecture_is_to_scale():
    (axes,) = architecture(build("LeNet5", {})).axes
    squares = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    sides = [square.get_width() for square in squares if square.get_fill()]
    for side, count in {32: 1, 28: 6, 14: 6, 10: 16, 5: 16, 1: 120 + 84 + 10}.items():
        assert sides.count(side) == count
    seen = [s.get_width() for s in squares if not s.get_fill() and s.get_width() > 1]
    assert seen == [5, 2, 5, 2, 5, 10, 7]  # what a unit of each layer sees of the one before


def test_saliency_is_centred():
    model = network("LeNet")
    values = tracer(model)(IMAGES[0])
    figure = networks.saliency(model, values)
    drawn = [axes for axes in figure.axes if axes.get_title()]
    x, label = values["input"][None], int(values["output"].argmax())
    about = (model.architecture, model.weights, x, label)
    gradient = arithmetic.input_gradient(*about)[0, 0]
    for axes, expected in zip(drawn, (x[0, 0], gradient, occlusion(*about)), strict=True):
        np.testing.assert_allclose(picture(axes), expected, rtol=1e-6)
    largest = abs(gradient).max()
    assert drawn[1].images[0].get_clim() == pytest.approx((-largest, largest))
    assert str(label) in drawn[1].get_title() and "5×5" in drawn[2].get_title()
    assert fits(figure)


def test_feature_plane_rings_the_mistakes():
    model, labels = network("LeNet5"), np.arange(40) % 3
    traces = [tracer(model)(image) for image in IMAGES]
    features = np.array([trace["F6"] for trace in traces])
    answers = np.array([trace["output"].argmax() for trace in traces])
    figure = networks.feature_plane(model, Split(IMAGES, labels), "a network")
    (axes,) = figure.axes
    *classes, rings, targets = axes.collections
    plane = PCA(2).fit(features)
    expected = np.asarray(plane.transform(features))
    shown = np.asarray(classes[1].get_offsets())
    np.testing.assert_allclose(abs(shown), abs(expected[labels == 1]), rtol=1e-3, atol=1e-4)
    signs = np.sign(shown[0] * expected[labels == 1][0])
    wrong = expected[answers != labels] * signs
    np.testing.assert_allclose(np.asarray(rings.get_offsets()), wrong, rtol=1e-3, atol=1e-4)
    codes = np.asarray(plane.transform(digit_codes())) * signs
    np.testing.assert_allclose(np.asarray(targets.get_offsets()), codes, rtol=1e-3, atol=1e-3)
    own = [np.asarray(points.get_facecolor())[0, :3] for points in classes]
    edges = np.asarray(rings.get_edgecolor())
    for ring, answer in zip(edges, answers[answers != labels], strict=True):
        np.testing.assert_array_equal(ring[:3], own[answer])
    assert f"{plane.explained_variance_ratio_[1]:.0%}" in axes.get_ylabel()
    assert f"{len(wrong)} mistakes" in str([line.get_label() for line in axes.lines])
    assert fits(figure)


# The commands


def saved(folder, choice, digit_folder):
    model = network(choice)
    path = folder / WEIGHTS
    write(path, model.architecture, model.weights, {"data": {"name": str(digit_folder)}})
    return str(folder)


@pytest.mark.parametrize("choice", ["LeNet5", "pairs"])
def test_show_draws_everything(choice, digit_folder, tmp_path, capsys):
    run = saved(tmp_path, choice, digit_folder)
    assert cli.main(["show", run, "7", "--out", str(tmp_path / "out"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer["figures"]) == set(networks.FIGURES) and not answer["left_out"]
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


def test_show_says_what_it_cannot_draw(digit_folder, tmp_path, capsys):
    Image.new("L", (60, 60), 255).save(tmp_path / "blank.png")
    run = saved(tmp_path, "LeNet", digit_folder)
    for arguments, message in (
        (["LeNet5", str(tmp_path / "blank.png")], "blank.png: empty"),
        (["LeNet5", str(tmp_path / "none.png")], "none.png"),
        ([run, "200", "--only", "maps"], "no test image 200: 0 to 199"),
        (["nothing"], "no model 'nothing'"),
    ):
        assert cli.main(["show", *arguments, "--out", str(tmp_path / "x")]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["show", "LeNet5", "--only", "architecture", "--out", __file__]) == 2
    assert f"cannot write {__file__}" in capsys.readouterr().err
    line = ["show", "LeNet", "--channels", "6", "--out", str(tmp_path / "y")]
    assert cli.main([*line, "--data", str(digit_folder)]) == 0
    assert "left out connections: the network has no second" in capsys.readouterr().out
    assert cli.main([*line, "--only", "connections"]) == 2


def test_summary_takes_options_of_networks_that_are_not_trained(capsys):
    def parameters(*line):
        assert cli.main(["summary", *line, "--json"]) == 0
        return json.loads(capsys.readouterr().out)["totals"]["parameters"]

    assert parameters("LeNet") == parameters("d2l") == 61_706
    # C1 8 (25 + 1), C3 24 (8 25 + 1), C5 120 (24 25 + 1), F6 84 (120 + 1), output 10 (84 + 1)
    assert parameters("LeNet", "--channels", "8", "24") == 208 + 4824 + 72_120 + 10_164 + 850
    assert parameters("LeNet5", "--head", "softmax") == 60_850
    assert parameters("Pairs") == summary(build("Pairs", {})).parameters
    assert cli.main(["summary", "LeNet", "--kernel-sizes", "40"]) == 2
    assert "a 40x40 convolution does not fit" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # trained ones are what they are
        cli.main(["summary", "mnist", "--channels", "8"])
    assert "channels" in capsys.readouterr().err


def test_evaluate_writes_report_and_figures(digit_folder, tmp_path, capsys):
    run = saved(tmp_path, "LeNet", digit_folder)
    out = tmp_path / "out"
    assert cli.main(["evaluate", run, "--out", str(out), "--corruptions", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    names = ["report.json"]
    names += [f"{name}.png" for name in ("confusion", "rejection", "reliability", "mistakes")]
    assert {file.name for file in out.iterdir()} == {*names, "corruptions.png"}
    report = json.loads((out / "report.json").read_text())
    assert report["error"] == answer["error"] and len(answer["corruptions"]) == 15
    test = data.load(str(digit_folder)).test
    model = network("LeNet")
    scores = arithmetic.scores(model.architecture, model.weights, test.images)
    assert answer["error"] == np.mean(scores.argmax(1) != test.labels)
