"""Network figures: architecture, weights, what the layers give, and what an answer depends on.

Where signs matter, white is 0, red positive and blue negative.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from lenet import data
from lenet.engine.scores import tracer
from lenet.errors import LenetError
from lenet.figures.architecture import architecture, connected, connections
from lenet.figures.style import CLASSES, GREY, INK, bare, canvas, mosaic, save, shape_words, styled
from lenet.networks import checkpoint
from lenet.networks.architecture import Convolution, Distances, Floats, FullConnection, Pooling
from lenet.networks.arithmetic import input_gradient
from lenet.networks.checkpoint import Checkpoint
from lenet.networks.codebook import GLYPH_HEIGHT, GLYPH_WIDTH
from lenet.networks.inspection import occlusion, principal_components
from lenet.progress import Progress
from lenet.reading.prediction import preprocessor

FIGURES = "architecture", "kernels", "connections", "maps", "saliency", "f6"
WIDTH, LEFT, RIGHT = 9.05, 1.15, 0.8  # inches: the widest panel, and the margins beside it
TITLE, BETWEEN = 0.3, 0.16  # inches above a panel, for its words, and below it
LARGEST_CELL = 0.085  # inches: a weight
SQUARE = 5  # pixels: the side of the square that occlusion hides
GLYPH = (1, GLYPH_HEIGHT, GLYPH_WIDTH)


def draw(
    model: Checkpoint,
    picture: str,
    folder: Path,
    suffix: str = ".png",
    only: Sequence[str] = (),
    dataset: str | None = None,
    data_dir: str | Path | None = None,
) -> tuple[dict[str, Path], dict[str, str]]:
    """Draws figures of a network into a folder.

    Args:
        model: the network; it is called untrained if its file does not exist.
        picture: the network's input: a file, or the number of a test image.
        suffix: .png or .svg.
        only: names of `FIGURES`; all by default.
        dataset: has the test images; by default what the network was trained on.
        data_dir: as for `lenet.data.load`.

    Returns:
        The file of each figure, and for each figure that cannot be drawn the reason.

    Raises:
        LenetError: the picture cannot be read or shows no digit, a figure of `only` cannot be
            drawn, or a file cannot be written.
    """
    draw = drawings(model, picture, dataset, data_dir)
    files: dict[str, Path] = {}
    reasons: dict[str, str] = {}
    with Progress("drawing", len(only or FIGURES)) as progress:
        for which in only or FIGURES:
            try:
                figure = draw[which]()
            except LenetError as error:
                if only:
                    raise
                reasons[which] = str(error)
            else:
                files[which] = folder / f"{which}{suffix}"
                save(figure, files[which])
            progress.advance(note=which)
    return files, reasons


def network(
    model: str | Path | Checkpoint,
    which: str,
    picture: str | Path = "0",
    dataset: str | None = None,
    data_dir: str | Path | None = None,
) -> Figure:
    """Draws one of the figures of `lenet show`.

    Args:
        model: a run folder, a weights file, a pretrained name or a `Checkpoint`, as `run.network`.
        which: architecture, kernels, connections, maps, saliency or f6.
        picture, dataset, data_dir: as for `draw`.

    Raises:
        LenetError: there is no such network or figure, or it cannot be drawn.
    """
    if which not in FIGURES:
        raise LenetError(f"there is no figure {which!r:.100}: choose {', '.join(FIGURES)}")
    if not isinstance(model, Checkpoint):
        model = checkpoint.read(model)
    return drawings(model, str(picture), dataset, data_dir)[which]()


def drawings(
    model: Checkpoint, picture: str, dataset: str | None, data_dir: str | Path | None
) -> dict[str, Callable[[], Figure]]:
    """What draws each of `FIGURES`; the arguments are those of `draw`."""
    name, dataset = model.name, dataset or model.data
    name += "" if model.path.exists() else ", untrained"
    if picture.isdecimal() and not Path(picture).exists():
        words, image = f"test image {picture} of {dataset}", None
    else:
        prepared = preprocessor(model)(picture)
        words, image = Path(picture).name, prepared.image
        if image is None:
            raise LenetError(f"{picture}: {prepared.reason}")

    @cache  # only some figures need them
    def test() -> data.Split:
        return data.load(dataset, data_dir, *model.pictures).test

    @cache
    def activations() -> dict[str, NDArray[np.float32]]:
        if image is not None:
            return tracer(model)(image)
        if int(picture) >= len(test()):
            raise LenetError(f"there is no test image {picture}: 0 to {len(test()) - 1}")
        return tracer(model)(test().images[int(picture)])

    return {
        "architecture": lambda: architecture(model.architecture),
        "kernels": lambda: kernels(model, f"Weights of {name}: red excites, blue inhibits"),
        "connections": lambda: connections(model.architecture),
        "maps": lambda: feature_maps(model, activations(), f"{name} reads {words}"),
        "saliency": lambda: saliency(model, activations()),
        "f6": lambda: feature_plane(model, test(), name),
    }


@dataclass(frozen=True)
class Panel:
    """A picture of a layer; a value is `cell` inches wide and `aspect` times as high."""

    name: str
    values: NDArray[Any]
    words: str
    cell: float
    aspect: float = 1.0

    @property
    def height(self) -> float:
        return self.values.shape[0] * self.cell * self.aspect


def kernels(model: Checkpoint, title: str, only: Sequence[str] = ()) -> Figure:
    """Draws all weights of a network except biases, a panel for each layer with its own scale.

    For kernels, outputs run across and inputs run down, with a gap where there is no connection;
    for full connections, each row is an output. `only` has names of layers; all by default.
    """
    panels, maps = [], model.architecture.input_shape
    for layer in model.architecture.layers:
        name, values = layer.name, None
        if len(layer.input_shape) == 3:
            maps = layer.input_shape
        match layer:
            case Convolution():
                there = connected(layer)[:, :, None, None]
                values = np.where(there, layer.filters(model.weights), np.nan)
            case Pooling() if layer.parameters:
                values = np.stack([model.weights[p.name] for p in layer.parameters])
                name = "\n".join([name, *(p.name.split(".")[-1] for p in layer.parameters)])
            case FullConnection():
                values = shaped(model.weights[layer.parameters[0].name], maps)
                maps = (0, 0, 0)  # the next layers see units
            case Distances():
                values = shaped(layer.codes, GLYPH)
        if values is None or (only and layer.name not in only):
            continue
        outputs, inputs = values.shape[:2]
        known = f"{np.isfinite(values).sum():,} weights"
        if values.ndim == 4:
            picture, largest = beside(values, 60), LARGEST_CELL
            words = f"{known}; outputs across: {outputs}, inputs down: {inputs}"
        else:
            picture, largest = values, max(LARGEST_CELL / 2, 0.35 / outputs)
            words = f"{known}; rows: {outputs}, columns: {inputs}"
        panels.append(Panel(name, picture, words, min(WIDTH / picture.shape[1], largest)))
    return rows_of_panels(panels, title)


def shaped(values: Floats, shape: tuple[int, ...]) -> Floats:
    """Reshapes (N, D) to (N, *shape) if `shape` is that of maps with D values in all."""
    fits = values.shape[1] == np.prod(shape) and shape[-1] > 1
    return values.reshape(-1, *shape) if fits else values


def beside(kernels: Floats, most: int) -> NDArray[np.float64]:
    """Tiles kernels (outputs, inputs, H, W) into one picture, with at most `most` in a line."""
    outputs, inputs, height, width = kernels.shape
    across = min(outputs, most)
    lines = -(-outputs // across)
    padded = np.full((lines * across, inputs, height, width), np.nan)
    padded[:outputs] = kernels
    table = padded.reshape(lines, across, inputs, height, width).swapaxes(1, 2)
    return mosaic(table.reshape(lines * inputs, across, height, width))


def feature_maps(model: Checkpoint, activations: Mapping[str, Floats], title: str) -> Figure:
    """Draws what every layer gives for an image, a panel for each layer with its own scale.

    The activations are from `lenet.engine.scores.tracer`. Values that are compared with the codes
    of glyphs are drawn as a glyph.
    """
    *_, before, output = model.architecture.layers
    values, panels = dict(activations), []
    scores = values[output.name]
    if isinstance(output, Distances):
        values[before.name] = shaped(values[before.name].reshape(1, -1), GLYPH)[0]
    for name, answers in values.items():
        words = shape_words(activations[name].shape)
        if answers.ndim == 3 and answers.shape[1] > 1:
            picture = beside(answers[:, None], 16)
            cell = min(WIDTH / picture.shape[1], 0.95 / answers.shape[1])
            panels.append(Panel(name, picture, words, cell))
        elif name != "flatten":
            cell = min(WIDTH / answers.size, 0.6)
            panels.append(Panel(name, answers.reshape(1, -1), words, cell, 0.26 / cell))
    labels = [f"{c}\n{few_digits(s)}" for c, s in zip(model.classes, scores, strict=True)]
    return rows_of_panels(panels, f"{title} as {model.classes[scores.argmax()]}", labels)


@styled
def rows_of_panels(panels: Sequence[Panel], title: str, labels: Sequence[str] = ()) -> Figure:
    """Stacks panels, each with its name on the left, its words above it and its colour bar on the
    right; the labels stand below the columns of the last panel."""
    down = sum(TITLE + panel.height + BETWEEN for panel in panels)
    below = 0.35 if labels else 0.1
    figure = canvas(WIDTH, down, title, left=LEFT, right=RIGHT, below=below, above=0.4)
    inches, top = figure.get_size_inches(), below + down

    def place(left: float, low: float, width: float, height: float) -> Any:
        return figure.add_axes((*(left, low) / inches, *(width, height) / inches))

    for panel in panels:
        top -= TITLE + panel.height
        across, middle = panel.values.shape[1] * panel.cell, top + panel.height / 2
        axes = place(LEFT, top, across, panel.height)
        bare(axes)
        colors = color_scale(panel.values) if panel.name != "input" else {}
        image = axes.imshow(panel.values, aspect=panel.aspect, **colors)
        axes.set_title(panel.words, color=GREY, size=8.5, loc="left", pad=4)
        x, y = (LEFT - 0.15, middle) / inches
        figure.text(x, y, panel.name, size=10, ha="right", va="center")
        bar = min(max(panel.height, 0.25), 1.3)
        beside = place(LEFT + across + 0.1, middle - bar / 2, 0.09, bar)
        finish_bar(figure.colorbar(image, cax=beside), ends_only=bar < 0.6)
        top -= BETWEEN
        if labels and panel is panels[-1]:
            axes.set_xticks(range(len(labels)), labels, size=8)
    return figure


def color_scale(values: Floats) -> dict[str, Any]:
    """A colour map that is white at 0, and symmetric about it if there are negative values."""
    largest = float(np.nanmax(abs(values), initial=0)) or 1.0
    if np.nanmin(values, initial=0) < 0:
        return {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
    return {"cmap": "Reds", "vmin": 0, "vmax": largest}


def finish_bar(bar: Colorbar, ends_only: bool = False) -> None:
    """Leaves two or three numbers on a colour bar, and no frame."""
    low, high = bar.mappable.get_clim()
    ticks = [low, high] if ends_only or low != -high else [low, 0.0, high]
    bar.set_ticks(ticks, labels=[few_digits(tick) for tick in ticks])
    bar.ax.tick_params(length=0, labelsize=7, pad=2)
    for label, side in zip(bar.ax.get_yticklabels(), ("bottom", "top"), strict=False):
        label.set_verticalalignment(side if ends_only else "center")
    bar.outline.set_visible(False)


def few_digits(value: float) -> str:
    digits = f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}"
    return digits.replace("-", "−")


@styled
def saliency(model: Checkpoint, activations: Mapping[str, Floats]) -> Figure:
    """Draws what an answer depends on: the gradient of its score, and the effect of hiding parts of
    the image, from the activations that `lenet.engine.scores.tracer` gives for it.
    """
    x, label = activations["input"][None], int([*activations.values()][-1].argmax())
    image, name, about = x[0, 0], model.classes[label], (model.architecture, model.weights, x)
    gradient = f"gradient: where it is red,\nmore ink raises the score of {name}"
    hiding = (
        f"occlusion: where it is red, hiding\n{SQUARE}×{SQUARE} pixels lowers the score of {name}"
    )
    panels = {
        "input": image,
        gradient: input_gradient(*about, label)[0, 0],
        hiding: occlusion(*about, label, SQUARE),
    }
    title = f"What the score of {name} depends on"
    figure = canvas(9.2, 2.6, title, left=0.2, right=0.7, below=0.15, above=0.9)
    grid = figure.subplots(1, 3, gridspec_kw={"wspace": 0.35})
    for axes, (words, values) in zip(grid, panels.items(), strict=True):
        bare(axes)
        axes.set_title(words, size=9.5)
        colors = {} if values is image else color_scale(values)
        drawn = axes.imshow(values, **colors)
        if colors and image.min() < image.max():
            middle = (float(image.min()) + float(image.max())) / 2
            axes.contour(image, [middle], colors=[INK], linewidths=0.7, alpha=0.6)
        finish_bar(figure.colorbar(drawn, cax=axes.inset_axes((1.04, 0.1, 0.04, 0.8))))
    return figure


@styled
def feature_plane(model: Checkpoint, split: data.Split, name: str) -> Figure:
    """Draws images as the second to last layer sees them, in the plane in which they vary most.

    A point has the colour of its class, a mistake also a ring in the colour of the answer. Stars
    mark the codes that the points are compared with, if the network has any.

    Raises:
        LenetError: the network has only one layer, or there are too few images.
    """
    if len(model.architecture.layers) < 2:
        raise LenetError("the network has no layer before the output")
    *_, last, output = model.architecture.layers
    traces = [*map(tracer(model), split.images)]
    features = np.array([trace[last.name].ravel() for trace in traces])
    answers = np.array([trace[output.name].argmax() for trace in traces])
    plane = principal_components(features)
    points, labels = plane.coordinates(features), split.labels
    title = f"{last.name.split('_')[0]} of {name}, on {len(points):,} test images"
    figure = canvas(6.2, 5.4, title, right=1.7)
    axes = figure.subplots()
    colors = [CLASSES[label % len(CLASSES)] for label in range(len(model.classes))]
    for label, (name, color) in enumerate(zip(model.classes, colors, strict=True)):
        own = points[labels == label]
        axes.scatter(*own.T, s=7, color=color, linewidths=0, alpha=0.5, rasterized=True)
        axes.plot([], [], "o", color=color, markersize=5, label=name)
        if len(own):
            style: dict[str, Any] = {"size": 11, "weight": "bold", "ha": "center", "zorder": 5}
            over = [withStroke(linewidth=3, foreground="white")]
            x, y = np.median(own, axis=0)
            axes.text(x, y, name, path_effects=over, **style)
    wrong = labels != answers
    rings = [colors[answer] for answer in answers[wrong]]
    axes.scatter(*points[wrong].T, s=26, facecolors="none", edgecolors=rings, linewidths=1)
    label = f"{wrong.sum():,} mistakes\n(ring: the answer)"
    axes.plot([], [], "o", markerfacecolor="none", color=GREY, markersize=6, label=label)
    if isinstance(output, Distances):
        star: dict[str, Any] = {"s": 150, "marker": "*", "edgecolors": INK, "linewidths": 0.8}
        axes.scatter(*plane.coordinates(output.codes).T, c=colors, zorder=4, **star)
        axes.plot([], [], "*", color="white", markeredgecolor=INK, markersize=10, label="targets")
    words = [f"principal component, {share:.0%} of the variance" for share in plane.shares]
    axes.set(xlabel=f"first {words[0]}", ylabel=f"second {words[1]}")
    axes.legend(markerscale=2, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
