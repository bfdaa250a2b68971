"""Reading numbers: from a picture's ink to the paths through the graph of segments."""

import doctest
import itertools
import json
import random
from dataclasses import asdict

import cv2
import numpy as np
import pytest
from conftest import needs_kernels

from lenet.cli import main
from lenet.commands.read import FEW
from lenet.data import Dataset, Split
from lenet.data.lines import Lines
from lenet.data.paper import OTHER, Paper
from lenet.engine.processor import usable_cores
from lenet.errors import LenetError
from lenet.reading import formats, reader, training
from lenet.reading.candidates import (
    label_segments,
    make_examples,
    number_in_line,
    owners_in_line,
    training_split,
)
from lenet.reading.confidence import FEATURES, Confidence, fit_confidence
from lenet.reading.foreground import find_foreground, runs
from lenet.reading.formats import Expected
from lenet.reading.lattice import CLASSES, JUNK, PART, Lattice
from lenet.reading.lines import HEIGHT, find_lines
from lenet.reading.network import Network, architecture, log_softmax
from lenet.reading.reader import EMPTY, REASONS, Reader, separator, whole
from lenet.reading.segments import STEP, find_seams, find_segments


def drawn(texts: list[tuple[str, int, int]], shape=(120, 400), paper=230, ink=40):
    """A picture of texts at places, in a plotter's pen."""
    picture = np.full(shape, paper, np.uint8)
    for text, x, y in texts:
        cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 1.5, ink, 4, cv2.LINE_AA)
    return picture.astype(np.float32) / 255


def lines_of(picture):
    foreground = find_foreground(picture)
    return [] if foreground is None else find_lines(foreground, picture.shape)


@pytest.mark.parametrize("shade", [0.0, 0.4, 1.0])
def test_blank_pictures_have_no_foreground(shade):
    assert find_foreground(np.full((60, 200), shade, np.float32)) is None


def test_light_on_dark_is_found_as_dark_on_light():
    picture = drawn([("305", 40, 80)])
    dark, light = find_foreground(picture), find_foreground(1 - picture)
    assert dark is not None and light is not None
    differ = dark.mask != light.mask
    assert differ.mean() < 0.02


def test_frame_and_rule_are_removed_and_digits_stay():
    picture = drawn([("7305", 60, 85)])
    plain = find_foreground(picture)
    assert plain is not None
    cv2.rectangle(picture, (8, 8), (390, 110), 0.1, 3)
    framed = find_foreground(picture)
    assert framed is not None
    assert framed.mask[5:12, 30:380].sum() < 0.02 * 7 * 350
    inside = np.s_[20:100, 40:250]
    assert (framed.mask[inside] & plain.mask[inside]).sum() > 0.97 * plain.mask[inside].sum()

    ruled = drawn([("7305", 60, 85)])
    cv2.line(ruled, (0, 95), (399, 97), 0.2, 2)
    foreground = find_foreground(ruled)
    assert foreground is not None
    assert foreground.mask[92:100, 260:].sum() < 0.05 * 8 * 140


def test_runs_are_counted_along_each_axis():
    mask = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]], np.uint8)
    assert runs(mask, 0).tolist() == [[3, 1, 0], [3, 0, 2], [3, 1, 2]]
    assert runs(mask, 1).tolist() == [[2, 2, 0], [1, 0, 1], [3, 3, 3]]


def test_lines_come_in_reading_order_with_boxes_around_them():
    texts = [("12", 20, 60), ("34", 420, 60), ("567", 20, 160)]
    lines = lines_of(drawn(texts, (200, 600)))
    assert len(lines) == 3
    for line, (text, x, y) in zip(lines, texts, strict=True):
        segments = find_segments(line)
        assert segments is not None
        boxes = segments.boxes
        left, top, right, bottom = line.box(*boxes[:, :2].min(0), *boxes[:, 2:].max(0))
        width, height = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.5, 4)[0]
        assert (
            np.abs(np.array([left, top, right, bottom]) - (x, y - height, x + width, y)).max() < 8
        )


def test_slant_is_removed():
    picture = drawn([("1111", 60, 85)])
    matrix = np.array([[1, -0.5, 40], [0, 1, 0]], np.float32)
    slanted = cv2.warpAffine(picture, matrix, (400, 120), borderValue=230 / 255)
    (line,) = lines_of(slanted)
    assert abs(line.slant - 0.5) < 0.15


def test_segments_are_unions_of_neighbouring_pieces():
    (line,) = lines_of(drawn([("4820", 60, 85)]))
    segments = find_segments(line)
    assert segments is not None
    assert segments.images.shape == (len(segments.ends), 28, 28)
    for (first, after), bounds, box in zip(
        segments.ends, segments.bounds, segments.boxes, strict=True
    ):
        assert 1 <= after - first <= 4
        own = (segments.regions >= bounds[0]) & (segments.regions < bounds[1])
        y, x = np.nonzero(own)
        if after - first == 1:
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    # The four digits are apart: they are among the segments.
    heights = segments.boxes[:, 3] - segments.boxes[:, 1]
    assert (heights > 0.9 * HEIGHT).sum() >= 4


def test_seams_have_the_least_ink():
    """Beside all paths from top to bottom through each column at half height."""
    height, width = 6, 5
    ink = np.random.default_rng(0).random((height, width), np.float32)
    ink[:2] = 0

    def best(row, column, step):
        """Least cost of a path from a pixel on to the picture's edge."""
        if not 0 <= row + step < height:
            return ink[row, column] + 0.004
        ways = (c for c in (column - 1, column, column + 1) if 0 <= c < width)
        rest = min(best(row + step, c, step) + STEP * abs(c - column) for c in ways)
        return ink[row, column] + 0.004 + rest

    cost, seams = find_seams(ink)
    assert (np.abs(np.diff(seams, axis=1)) <= 1).all()
    for column in range(width):
        assert seams[column, height // 2] == column
        own = float(ink[np.arange(height), seams[column]].sum())
        assert cost[column] == pytest.approx(own)
        own += 0.004 * height + STEP * np.abs(np.diff(seams[column])).sum()
        both = best(height // 2, column, -1) + best(height // 2, column, 1)
        assert own == pytest.approx(both - ink[height // 2, column] - 0.004)


def make_lattice(pieces=4, seed=0):
    ends = [(i, j) for i in range(pieces) for j in range(i + 1, min(i + 3, pieces) + 1)]
    scores = np.random.default_rng(seed).normal(0, 2, (len(ends), CLASSES)).astype(np.float32)
    return Lattice.of(pieces, np.array(ends), log_softmax(scores).astype(np.float64))


def paths_of(lattice, node=0):
    """All paths as (text, score, arcs), by enumeration."""
    if node == lattice.nodes - 1:
        yield "", 0.0, []
        return
    for arc, (first, last) in enumerate(lattice.ends):
        if first == node:
            for text, score, arcs in paths_of(lattice, last):
                yield text, score + lattice.skips[arc], [(arc, ""), *arcs]
                for digit in range(10):
                    new = score + lattice.digits[arc, digit]
                    yield str(digit) + text, new, [(arc, str(digit)), *arcs]


def test_lattice_agrees_with_enumeration():
    lattice = make_lattice()
    paths = list(paths_of(lattice))
    assert lattice.total() == pytest.approx(np.logaddexp.reduce([s for _, s, _ in paths]))
    texts = ["", "7", "13", "404"]
    for text, score in zip(texts, lattice.score(texts), strict=True):
        own = [(s, arcs) for t, s, arcs in paths if t == text]
        assert score == pytest.approx(np.logaddexp.reduce([s for s, _ in own]))
        assert lattice.path(text) == max(own)[1]
    best = max({t for t, _, _ in paths}, key=lambda t: lattice.score([t])[0])
    found = lattice.strings(200)
    assert max(found, key=found.__getitem__) == best
    assert found[best] == pytest.approx(lattice.score([best])[0], abs=0.05)
    assert set(lattice.strings(50, lambda prefix: prefix == "4"[: len(prefix)])) <= {"", "4"}


@pytest.mark.parametrize(
    ("expected", "good", "bad"),
    [
        (Expected("#####"), ["12345"], ["1234", "123456"]),
        (Expected("#,###.##"), ["123456"], ["12345"]),
        (Expected("19##"), ["1998"], ["2098"]),
        (Expected(length=3), ["000"], ["00"]),
        (Expected(length=(2, 4)), ["12", "1234"], ["1", "12345"]),
        (Expected(range=(10, 99)), ["10", "099"], ["9", "100"]),
    ],
)
def test_expected_numbers(expected, good, bad):
    assert all(expected.accepts(text) for text in good)
    assert not any(expected.accepts(text) for text in bad)
    assert all(expected.begins(text[:n]) for text in good for n in range(len(text) + 1))


def test_format_says_how_numbers_are_written():
    assert Expected("#,###.##").written("123456") == "1,234.56"


@pytest.mark.parametrize(
    "wrong",
    [{"format": "##x"}, {"format": ",."}, {"check": "mod11"}, {"length": 0}, {"range": (5, 2)}],
)
def test_what_cannot_be_expected_is_refused(wrong):
    with pytest.raises(LenetError):
        Expected(**wrong)


@pytest.mark.parametrize(
    ("check", "number"),
    [
        ("luhn", "4539148803436467"),
        ("ean", "9780306406157"),  # an ISBN-13
        ("ean", "036000291452"),  # a UPC
        ("isbn10", "0306406152"),
        ("aba", "021000021"),
        ("mod97", "79444"),  # the example of ISO 7064
    ],
)
def test_check_digits_find_every_wrong_digit(check, number):
    expected = Expected(check=check)
    for place, digit in itertools.product(range(len(number)), "0123456789"):
        changed = number[:place] + digit + number[place + 1 :]
        assert expected.accepts(changed) == (changed == number)


@pytest.mark.parametrize(
    ("box", "symbol"),
    [
        ((0, 44, 6, 50), "."),
        ((0, 44, 6, 60), ","),
        ((0, 28, 24, 33), "-"),
        ((0, 8, 20, 52), "/"),
        ((0, 8, 40, 52), "?"),
        ((0, 44, 2, 46), None),
    ],
)
def test_separators_are_told_by_their_boxes(box, symbol):
    assert separator(np.array(box)) == symbol


@pytest.fixture(scope="module")
def digits():
    """Digits of a plotter's pen, and letters."""
    generator = np.random.default_rng(0)
    images, labels = [], []
    for digit in range(10):
        for _ in range(20):
            image = np.zeros((28, 28), np.uint8)
            size, thick = generator.uniform(0.7, 0.85), int(generator.integers(2, 4))
            place = (int(generator.integers(6, 9)), 23)
            cv2.putText(image, str(digit), place, 0, size, 255, thick, cv2.LINE_AA)
            images.append(image)
            labels.append(digit)
    return Split(np.array(images), np.array(labels))


def test_paper_knows_whose_every_pixel_is(digits):
    paper = Paper(Lines([(digits, 1.0)], 0), Lines([(digits, 1.0)], 1))
    sample = paper.sample("305")
    assert sample.picture.shape == sample.owners.shape
    assert sample.picture.min() >= 0 and sample.picture.max() <= 1
    assert set(np.unique(sample.owners)) <= {0, 1, 2, 3, OTHER}
    centres = [np.nonzero(sample.owners == n)[1].mean() for n in (1, 2, 3)]
    assert centres == sorted(centres)
    assert paper.sample("").number == ""


def test_labels_follow_the_owners():
    picture = drawn([("4", 60, 85), ("8", 140, 85), (".", 190, 85)])
    owners = np.zeros(picture.shape, np.uint8)
    dark = picture < 0.5
    columns = np.arange(picture.shape[1])
    owners[dark & (columns < 120)] = 1
    owners[dark & (columns >= 120) & (columns < 185)] = 2
    owners[dark & (columns >= 185)] = OTHER
    (line,) = lines_of(picture)
    segments = find_segments(line)
    assert segments is not None
    owner = owners_in_line(line, owners)
    assert number_in_line(line, owner, "48") == "48"
    labels = label_segments(segments, line, owner, "48")
    assert {4, 8, PART, JUNK} <= set(labels.tolist())
    low = segments.boxes[:, 3] - segments.boxes[:, 1] < 0.2 * HEIGHT
    assert (labels[low] == JUNK).all()
    assert (label_segments(segments, line, owner, "") == JUNK).all()


def test_training_split_has_its_shares(digits):
    paper = Paper(Lines([(digits, 1.0)], 0), Lines([(digits, 1.0)], 1))
    junk, several = np.full((5, 28, 28), 7, np.uint8), np.full((5, 28, 28), 9, np.uint8)
    examples = make_examples(itertools.islice(paper, 12))
    split = training_split(examples, digits, junk, several, 0)
    assert split.images.shape == (len(split.labels), 28, 28)
    flat = split.images.reshape(len(split.labels), -1)
    of_junk, of_several = (flat == 7).all(1), (flat == 9).all(1)
    assert (split.labels[of_junk] == JUNK).all() and (split.labels[of_several] == PART).all()
    assert (of_junk | of_several).mean() == pytest.approx(0.06, abs=0.01)
    assert {PART, JUNK} < set(split.labels.tolist()) <= set(range(CLASSES))


def test_training_learns(digits):
    learned: list[int] = []
    weights = training.train_network(
        digits, 400 * len(digits.labels), 0, batch=32, report=lambda n, words: learned.append(n)
    )
    assert 0 <= 400 * len(digits.labels) - sum(learned) < 100 * 32
    logs = Network(weights).logs(digits.images)
    assert (logs.argmax(1) == digits.labels).mean() > 0.95


@pytest.mark.slow
def test_a_whole_training(digits, tmp_path, monkeypatch):
    """The recipe with few digits, in place of MNIST and of the fonts, and few pictures."""
    order = np.random.default_rng(0).permutation(len(digits.labels))
    half = Split(digits.images[order], digits.labels[order])
    both = Split(np.concatenate([half.images] * 2), np.concatenate([half.labels] * 2))
    few = Dataset("mnist", both, half, tuple("0123456789"), {})
    monkeypatch.setattr(training, "load_public", lambda name, folder: few)
    monkeypatch.setattr(training.fonts, "fetch", lambda folder: [])
    monkeypatch.setattr(training.fonts, "make", lambda *arguments: (half.images, half.labels))
    monkeypatch.setattr(training, "HELD_OUT", len(half))
    monkeypatch.setattr(training, "STROKES", 500)
    monkeypatch.setattr(training, "SEVERAL", 50)
    monkeypatch.setattr(training, "NONE", {"letters": 64, "scribbles": 32})
    recipe = training.NumbersRecipe(pictures=250, segments=80_000, lines=640, calibration=250)
    assert 0 <= training.train_reader(recipe, tmp_path, jobs=1) <= 1
    assert json.loads((tmp_path / "recipe.json").read_text()) == asdict(recipe)
    reader = Reader(tmp_path)
    assert reader.read(np.full((60, 90), 255, np.uint8)).reason == EMPTY
    answers = reader.classifier.logs(half.images)[:, :10].argmax(1)
    assert (answers == half.labels).mean() > 0.5
    for name, value in (("pictures", 100), ("calibration", 0), ("seed", -1), ("lines", 1)):
        with pytest.raises(LenetError, match=name):
            training.NumbersRecipe(**{name: value})


def test_confidence_is_a_logistic_regression():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(4000, FEATURES)).astype(np.float32)
    chance = 1 / (1 + np.exp(-2 * values[:, 0] - 1))
    right = generator.random(4000) < chance
    confidence = fit_confidence(values, right, np.arange(4000) % 10 > 0)
    guesses = np.array([confidence(v)[0] for v in values])
    assert np.abs(guesses - chance).mean() < 0.05


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Networks that know nothing, and a confidence that takes everything for a number."""
    folder = tmp_path_factory.mktemp("numbers")
    generator = np.random.default_rng(0)

    def network(classes):
        shapes = [parameter.shape for parameter in architecture(classes).parameters]
        return Network([generator.normal(0, 0.1, s).astype(np.float32) for s in shapes])

    network(CLASSES).save(folder / "segments.safetensors")
    network(11).save(folder / "replicated.safetensors")
    flat = np.zeros(2 * FEATURES + 1, np.float32)
    scale = np.ones(FEATURES, np.float32)
    Confidence({"mean": 0 * scale, "std": scale, "right": flat, "number": flat}).save(
        folder / "confidence.safetensors"
    )
    return folder


def test_reader_answers_in_order_and_one_bad_picture_fails_alone(weights, tmp_path):
    pictures = [drawn([("12", 60, 85)]), np.full((50, 90), 0.9, np.float32), b"no picture"]
    reader = Reader(weights)
    alone = [reader.attempt(picture) for picture in pictures]
    together = list(reader.read_many(iter(pictures), jobs=2))
    assert isinstance(alone[2], LenetError) and isinstance(together[2], LenetError)
    for one, other in zip(alone[:2], together[:2], strict=True):
        assert not isinstance(one, LenetError) and not isinstance(other, LenetError)
        assert one.as_dict() == other.as_dict()
    first, blank = alone[:2]
    assert not isinstance(first, LenetError) and not isinstance(blank, LenetError)
    assert blank.numbers == () and blank.reason == EMPTY
    (number,) = first.numbers
    assert number.text == "".join(str(digit.digit) for digit in number.digits)
    assert number.reason is None or number.reason in REASONS
    left, top, right, bottom = number.box
    for digit in number.digits:
        assert left <= digit.box[0] < digit.box[2] <= right
        assert top <= digit.box[1] < digit.box[3] <= bottom
        assert sum(digit.probabilities) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("file", [False, True])
def test_boxes_of_large_pictures_are_in_their_own_pixels(weights, file):
    small = drawn([("305", 60, 85)])
    large = cv2.resize(small, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)  # 3,200 wide
    large = np.clip(255 * large, 0, 255).astype(np.uint8)
    picture = cv2.imencode(".jpg", large)[1].tobytes() if file else large
    boxes = []
    for reading in map(Reader(weights).read, (small, picture)):
        (steps,) = reading.steps
        boxes.append(np.array(steps.line.box(*whole(steps.segments.boxes))))
        for number in reading.numbers:
            left, top, right, bottom = number.box
            outer = boxes[-1]
            assert outer[0] <= left < right <= outer[2] and outer[1] <= top < bottom <= outer[3]
    assert np.abs(boxes[1] - 8 * boxes[0]).max() <= 12
    assert boxes[1][2] > 1000


def test_expected_length_is_read(weights):
    for length in (1, 3):
        reading = Reader(weights, Expected(length=length)).read(drawn([("305", 60, 85)]))
        assert [len(number.text) for number in reading.numbers] == [length]


def test_command_prints_json_csv_hocr_and_drawings(weights, tmp_path, capsys):
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), 255 * drawn([("48", 60, 85)]))
    flags = ["read", str(tmp_path), "--weights", str(weights)]
    assert main([*flags, "--json", "--show", str(tmp_path / "out")]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["path"][-5:] for row in rows] == ["a.png", "b.png"]
    fields = {"text", "confidence", "rejected", "reason", "box", "digits"}
    assert all(fields <= set(number) for row in rows for number in row["numbers"])
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    assert main([*flags, "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("path,text,confidence")
    assert main([*flags, "--hocr"]) == 0
    assert "ocr_page" in capsys.readouterr().out
    assert main([*flags, "--json", "--csv"]) == 2
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert main(["read", str(tmp_path / "bad.png"), "--weights", str(weights), "--json"]) == 1
    assert "error" in json.loads(capsys.readouterr().out)


def test_many_pictures_are_read_by_all_cores(weights, tmp_path, monkeypatch, capsys):
    given = []

    def read_many(self, pictures, jobs):
        given.append(jobs)
        return map(self.attempt, pictures)

    monkeypatch.setattr(Reader, "read_many", read_many)
    for n in range(FEW + 1):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((30, 60), 200, np.uint8))
    flags = ["read", "--weights", str(weights)]
    for more in ([str(tmp_path)], [str(tmp_path / "0.png")], [str(tmp_path), "--jobs", "3"]):
        assert main([*flags, *more]) == 0
    assert given == [usable_cores(), 1, 3]
    assert main([*flags, str(tmp_path), "--jobs", "0"]) == 2


@needs_kernels
def test_numpy_reads_where_there_are_no_kernels(monkeypatch):
    images = np.random.default_rng(0).integers(0, 255, (9, 28, 28), np.uint8)
    by_kernels = Reader().classifier.scores(images)
    monkeypatch.setattr("lenet.engine.fused._fused", None)
    np.testing.assert_allclose(Reader().classifier.scores(images), by_kernels, atol=1e-3)


def test_examples_are_true():
    for module in (reader, formats):
        assert doctest.testmod(module).failed == 0


def test_random_walks_never_break_the_reader(weights):
    """Whatever is in a picture, there is an answer."""
    reader, pick = Reader(weights), random.Random(0)
    generator = np.random.default_rng(0)
    for _ in range(20):
        shape = pick.randint(1, 150), pick.randint(1, 150)
        picture = generator.random(shape, np.float32)
        for _ in range(pick.randint(0, 6)):
            a, b = ((pick.randrange(shape[1]), pick.randrange(shape[0])) for _ in range(2))
            cv2.line(picture, a, b, pick.choice((0.0, 1.0)), pick.randint(1, 9))
        reading = reader.read(picture)
        assert reading.numbers or reading.reason
