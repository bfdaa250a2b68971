"""Publishing: from run folders to a network that comes with the package, with its model card.

    python -m lenet.pretrained.publish mnist runs/mnist-* --twin runs/held-out --about "digits"

The runs are one recipe with several seeds; the median by test error is published, not the best.
The temperature of the probabilities and the thresholds below which answers are rejected are fitted
on images that the network has not learned, but not on the test set. A recipe that holds images out,
as `digits` does, has them. A network that was trained on all training images needs a twin: the same
recipe with `lenet train ... --validation 10000`. Teachers of the twin must have held out the same
images.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from lenet import data
from lenet.data import digits
from lenet.engine.scores import scorer
from lenet.errors import LenetError
from lenet.evaluation import metrics
from lenet.figures import style
from lenet.figures.evaluation import reliability_diagram
from lenet.files import write_text
from lenet.networks import checkpoint
from lenet.networks.checkpoint import PRETRAINED, Checkpoint
from lenet.training.recipe import Recipe

README = PRETRAINED / "README.md"
FIGURE = PRETRAINED.parents[1] / "docs" / "figures" / "reliability.png"
NONE = digits.CLASSES[digits.NONE]
RARE = 2000
TABLE = "<!-- The table is written by python -m lenet.pretrained.publish. -->\n"


def publish(
    name: str,
    runs: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    about: str,
    twin: Path | None = None,
) -> None:
    """Puts the median of the runs into the package.

    Args:
        name: the name of the network.
        runs: run folders of one recipe, each with another seed.
        about: what it reads and where it comes from, in a few words.
        twin: run folder of the same recipe, any seed, with --validation 10000; None where the
            recipe itself holds images out.

    Raises:
        LenetError: the runs do not belong together, their data differ from those on this machine,
            or this is an installed package and not a checkout.
    """
    if not FIGURE.parent.is_dir():
        raise LenetError(f"{FIGURE.parent} does not exist: networks are published from a checkout")
    networks = [checkpoint.read(run) for run in runs]
    dataset = data.load(networks[0].card["recipe"]["data"])
    if dataset.checksums != networks[0].card["data"]["sha256"]:
        raise LenetError(f"{networks[0].path} was trained on other files of {dataset.name}")
    chosen, seeds = median([tested(network, dataset) for network in networks])
    card = model_card(chosen, checkpoint.read(twin) if twin else chosen, dataset, seeds)
    begun = json.loads((chosen.path.parent / "environment.json").read_text(encoding="utf-8"))
    card = {"about": about, "date": begun["started"][:10], **card}
    file = PRETRAINED / f"{name}.safetensors"
    checkpoint.write(file, chosen.architecture, chosen.weights, card)
    cards = {name: checkpoint.read(name).card for name in checkpoint.pretrained_names()}
    before, _, rest = README.read_text(encoding="utf-8").partition(TABLE)
    _, _, after = rest.partition("\n\n")
    write_text(README, f"{before}{TABLE}{table(cards)}\n\n{after}")
    reliabilities = {name: metrics.Reliability(**c["reliability"]) for name, c in cards.items()}
    title = "Probabilities of the networks that come with the package, on their test sets"
    style.save(reliability_diagram(reliabilities, title), FIGURE)
    print(json.dumps({"name": name, **card}, indent=1))


def tested(run: Checkpoint, dataset: data.Dataset) -> Checkpoint:
    """A run that held images out, made ready and measured on the test set; others as they are."""
    if run.card["measured_on"] == "test":
        return run
    recipe = Recipe.from_dict(run.card["recipe"], str(run.path))
    if NONE in run.classes:
        run = with_rare_none(run, held_out(dataset, recipe.validation))
    answers = scorer(run)(dataset.test.images).argmax(1)
    error = float((answers != dataset.test.labels).mean())
    return dataclasses.replace(run, card={**run.card, "measured_on": "test", "error": error})


def held_out(dataset: data.Dataset, count: int) -> data.Split:
    """The images that decide temperature and thresholds: the held-out ones of the data set, and
    for "digits", whose readers meet other countries' digits too, as many new strokes."""
    held = dataset.hold_out(count).test
    if dataset.name != "digits":
        return held
    drawn = digits.foreign(count)
    return data.Split(
        np.concatenate([held.images, drawn.images]), np.concatenate([held.labels, drawn.labels])
    )


def with_rare_none(run: Checkpoint, held: data.Split) -> Checkpoint:
    """The network with a lower score for "none", which is rarer than it was in training.

    So much lower that of the held-out digits whose best digit is right, one in `RARE` is still
    taken for none.
    """
    scores, none = scorer(run)(held.images), run.classes.index(NONE)
    others = np.delete(scores, none, axis=1)
    right = others.argmax(1) == held.labels  # none is the last class
    excess = scores[right, none] - others[right].max(1)
    bias = run.weights["output.bias"].copy()
    bias[none] -= max(0.0, float(np.quantile(excess, 1 - 1 / RARE)))
    return dataclasses.replace(run, weights={**run.weights, "output.bias": bias})


def median(runs: list[Checkpoint]) -> tuple[Checkpoint, dict[str, float]]:
    """The run with the median test error, the lower one of two, and the errors of all seeds.

    Raises:
        LenetError: they are not one recipe with different seeds.
    """
    recipes = [Recipe.from_dict(run.card.get("recipe"), str(run.path)) for run in runs]
    for run, recipe in zip(runs, recipes, strict=True):
        if recipe.changed(seed=recipes[0].seed) != recipes[0]:
            raise LenetError(f"{run.path} is of another recipe than {runs[0].path}")
    seeds = {str(recipe.seed): run.card["error"] for run, recipe in zip(runs, recipes, strict=True)}
    if len(seeds) < len(runs):
        raise LenetError("two of the runs have the same seed")
    ordered = sorted(runs, key=lambda run: run.card["error"])
    return ordered[(len(runs) - 1) // 2], dict(sorted(seeds.items(), key=lambda item: int(item[0])))


def model_card(
    chosen: Checkpoint, twin: Checkpoint, dataset: data.Dataset, seeds: dict[str, float]
) -> dict[str, Any]:
    """What is known of a network, JSON-able.

    Training wrote classes, recipe, preprocessing, data, measured_on and error. Added here:

        seeds: seed -> test error of all runs of the recipe.
        temperature: fitted on the twin's held-out images.
        rejection_threshold: that of the strictest target that the twin reaches there.
        ece_before, reliability: expected calibration error on the test set with temperature 1;
            `lenet.evaluation.metrics.Reliability` with the fitted temperature.
        rejections: what the twin's threshold for each target does on the test set.
        held_out: the twin's error and expected calibration error on its held-out images, and a
            `lenet.evaluation.metrics.Rejection` for each target.

    Raises:
        LenetError: the twin is of another recipe or held nothing out.
    """
    recipe, other = (Recipe.from_dict(run.card["recipe"]) for run in (chosen, twin))
    if twin is chosen and not other.validation:
        raise LenetError(f"{chosen.path} held no images out: name its --twin")
    same = {name: recipe.as_dict()[name] for name in ("name", "seed", "teachers", "validation")}
    if other.changed(**same) != recipe or not other.validation:
        raise LenetError(
            f"{twin.path} is no twin of {chosen.path}: train it by the same recipe "
            f"({recipe.name}) with --validation 10000"
        )
    held = held_out(dataset, other.validation)
    held_scores = scorer(twin)(held.images)
    temperature = metrics.fit_temperature(held_scores, held.labels)
    twin_report = metrics.report(held_scores, held.labels, dataset.classes, temperature)
    scores = scorer(chosen)(dataset.test.images)
    report = metrics.report(scores, dataset.test.labels, dataset.classes, temperature)
    before = metrics.report(scores, dataset.test.labels, dataset.classes)
    return {
        **chosen.card,
        "error": report.error,
        "rejection_threshold": twin_report.trust_threshold,
        "seeds": seeds,
        "temperature": temperature,
        "ece_before": before.reliability.ece,
        "reliability": dataclasses.asdict(report.reliability),
        "rejections": [
            dataclasses.asdict(applied(point, scores, dataset.test.labels))
            for point in twin_report.rejections
        ],
        "held_out": {
            "images": twin_report.count,
            "error": twin_report.error,
            "ece": twin_report.reliability.ece,
            "rejections": [dataclasses.asdict(point) for point in twin_report.rejections],
        },
    }


def applied(
    point: metrics.Rejection, scores: NDArray[np.float32], labels: NDArray[np.int64]
) -> metrics.Rejection:
    """What the threshold of a point does on other images."""
    if point.threshold is None:
        return point
    kept = metrics.confidence(scores) >= point.threshold
    wrong = scores.argmax(1)[kept] != labels[kept]
    error = float(wrong.mean()) if len(wrong) else 0.0
    return dataclasses.replace(point, rejected=1 - float(kept.mean()), error=error)


def table(cards: dict[str, dict[str, Any]]) -> str:
    """The networks and their numbers as a Markdown table."""
    lines = [
        "| name | recipe | test error, % (all seeds) | temperature | ECE before, after, % "
        "| for 0.5% error: rejected, error of the rest, % | for 0.1% error |",
        "|---" * 7 + "|",
    ]
    for name, card in cards.items():
        seed = str(card["recipe"]["seed"])
        errors = {s: percent(error) for s, error in card["seeds"].items()}
        errors[seed] = f"**{errors[seed]}**"
        points = [f"{percent(p['rejected'])}, {percent(p['error'])}" for p in card["rejections"]]
        cells = [
            *(f"`{name}`", f"`{card['recipe']['name']}`, seed {seed}", " ".join(errors.values())),
            f"{card['temperature']:.3f}",
            f"{percent(card['ece_before'])}, {percent(card['reliability']['ece'])}",
            *points,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def percent(share: float | None) -> str:
    return "not reached" if share is None else f"{100 * share:.2f}"


if __name__ == "__main__":
    try:
        tyro.cli(publish)
    except LenetError as error:
        raise SystemExit(f"lenet.pretrained.publish: {error}") from None
