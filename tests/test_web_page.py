"""The page in headless Chromium: real strokes, right answers, nothing from elsewhere."""

import os
import re
import shutil
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from conftest import TRAIN
from paired import TABLE, Paired
from PIL import Image
from playwright import sync_api
from test_web import Digits, picture
from test_web_server import Server

from lenet import web
from lenet.networks import arithmetic, checkpoint
from lenet.networks.architecture import LeNet5s
from lenet.networks.codebook import c3_table
from lenet.reading.prediction import Predictor
from lenet.reading.reader import Reader

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

Scheme = Literal["light", "dark"]
sync_api.expect.set_options(timeout=20_000)  # the machine may be busy
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SEVEN = [[(0.28, 0.22), (0.72, 0.22), (0.45, 0.82)]]
ONE = [[(0.5, 0.15), (0.5, 0.85)]]
FOUR = [[(0.35, 0.15), (0.28, 0.55), (0.75, 0.55)], [(0.65, 0.2), (0.62, 0.88)]]
SEVENTEEN = [[(0.36, 0.2), (0.36, 0.8)], [(0.5, 0.2), (0.64, 0.2), (0.56, 0.8)]]
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="module")
def url(reader: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server without MNIST, with pretrained networks and untrained ones."""
    os.environ["LENET_DATA"] = str(tmp_path_factory.mktemp("no-data"))
    folder = tmp_path_factory.mktemp("models")
    untrained = []
    for options in (LeNet5s(), Paired()):
        network = options.architecture()
        untrained.append(folder / f"{network.network}.safetensors")
        checkpoint.write(untrained[-1], network, network.initial_weights(0), {})
    models = ["digits", "mnist", "lenet5-1998-distorted", "fashion-mnist", reader, *untrained]
    tests = str(Path(__file__).parent)
    server = Server(models, "", f"import sys; sys.path.append({tests!r}); import paired")
    yield server.url
    server.process.kill()
    server.process.communicate()


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def opened(browser: sync_api.Browser, url: str) -> Iterator[Callable[..., sync_api.Page]]:
    """Opens the page; at the end nothing was complained about and nobody else was asked."""
    pages, complaints, asked = [], [], set()

    def open_page(size: str = "desktop", scheme: Scheme = "light") -> sync_api.Page:
        width, height = SIZES[size]
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            device_scale_factor=2 if size == "phone" else 1,
            has_touch=size == "phone",
        )
        pages.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
        page.goto(url)
        answer_is(page, "2")  # the example that the page begins with
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []
    assert asked <= {urlsplit(url).netloc, ""}  # blob: addresses have none


def answer_is(page: sync_api.Page, label: str) -> None:
    sync_api.expect(page.locator("#label")).to_have_text(label)


def choose(page: sync_api.Page, model: str) -> None:
    page.locator(f'#models input[value="{model}"]').check(force=True)
    sync_api.expect(page).to_have_title(f"{model}: watch a network read")


def draw(page: sync_api.Page, strokes: list[list[tuple[float, float]]]) -> None:
    """Draws with the mouse; points in shares of the canvas."""
    page.locator("#drawing").scroll_into_view_if_needed()
    box = page.locator("#drawing").bounding_box()
    assert box is not None
    for stroke in strokes:
        for i, (x, y) in enumerate(stroke):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
            if i == 0:
                page.mouse.down()
        page.mouse.up()


def measured(page: sync_api.Page) -> list[float]:
    """Waits for and forgets the milliseconds from each pointer-up or click to the redrawn page."""
    entries = "performance.getEntriesByName('pointer-up to page')"
    for _ in range(5000):  # the page allows no eval, by which Playwright's own function waits
        if durations := page.evaluate(f"{entries}.map((entry) => entry.duration)"):
            page.evaluate("performance.clearMeasures()")
            return durations
        page.wait_for_timeout(5)
    raise AssertionError("nothing was measured")


@pytest.mark.parametrize("model", ["digits", "mnist", "lenet5-1998-distorted"])
def test_strokes_are_read(model: str, opened: Callable[..., sync_api.Page]) -> None:
    page = opened()
    choose(page, model)
    durations = []
    for label, strokes in (("7", SEVEN), ("1", ONE), ("4", FOUR), *[("7", SEVEN), ("1", ONE)] * 4):
        page.click("#clear")
        answer_is(page, "–")
        measured(page)  # of that click
        draw(page, strokes)
        durations += measured(page)
        answer_is(page, label)
        best = page.locator("#bars .best")
        sync_api.expect(best.locator("span")).to_have_text(label)
        share = float(best.locator("meter").get_attribute("value") or 0)
        assert share > 0.5
        sync_api.expect(page.locator("#second")).to_contain_text("Second guess")
        sync_api.expect(page.locator("#live")).to_contain_text(f"{label}. ")
    first, *others = durations
    assert len(others) >= 10
    middle, most = statistics.median(others), max(others)
    print(
        f"\n{model}: from pointer-up to the redrawn page: the first stroke {first:.0f} ms, "
        f"{len(others)} others median {middle:.0f} ms, most {most:.0f} ms"
    )


def test_the_answer_comes_while_one_draws(opened: Callable[..., sync_api.Page]) -> None:
    page = opened()
    page.click("#clear")
    box = page.locator("#drawing").bounding_box()
    assert box is not None
    for i, (x, y) in enumerate(SEVEN[0]):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
        if i == 0:
            page.mouse.down()
    answer_is(page, "7")  # the pen is still down
    page.mouse.up()
    page.click("#undo")
    answer_is(page, "–")


def test_finger_and_keyboard_draw(opened: Callable[..., sync_api.Page]) -> None:
    page = opened("phone")
    page.click("#clear")
    page.locator("#drawing").focus()
    for key in ["ArrowUp"] * 9 + [" "] + ["ArrowDown"] * 18 + [" "]:
        page.keyboard.press(key)
    answer_is(page, "1")
    page.keyboard.press("Backspace")
    answer_is(page, "–")


def hand_over(page: sync_api.Page, way: str, content: bytes | str) -> None:
    """Pastes a PNG file or words, or drags and drops them, by the events that a browser sends."""
    left_to_the_browser = page.evaluate(
        """([way, content]) => {
            const data = new DataTransfer();
            if (typeof content === "string") data.items.add(content, "text/plain");
            else data.items.add(
                new File([Uint8Array.from(content)], "x.png", { type: "image/png" }));
            const manner = { bubbles: true, cancelable: true };
            const events = way === "paste"
                ? [new ClipboardEvent("paste", { ...manner, clipboardData: data })]
                : ["dragover", "drop"].map((type) =>
                    new DragEvent(type, { ...manner, dataTransfer: data }));
            return events.map((event) => document.body.dispatchEvent(event));
        }""",
        [way, content if isinstance(content, str) else list(content)],
    )
    # The browser takes no drop unless both are prevented, and would leave the page for the file.
    assert way == "paste" or left_to_the_browser == [False, False]


def test_upload_paste_and_drop(
    opened: Callable[..., sync_api.Page], digits: Digits, tmp_path: Path
) -> None:
    page = opened()
    images, _ = digits
    predictor = Predictor()
    for i, way in enumerate(["upload", "paste", "drop"]):
        content = picture(images[TRAIN + i], side=200)
        answer = predictor.predict(content)
        page.click("#clear")
        answer_is(page, "–")
        if way == "upload":
            (tmp_path / "x.png").write_bytes(content)
            page.set_input_files("#file", tmp_path / "x.png")
        else:
            hand_over(page, way, content)
        answer_is(page, answer.label or "–")
        steps = page.locator("#steps li").all_inner_texts()
        assert steps == [name.replace("x", "×") for name in answer.steps]
        share = float(page.locator("#bars .best meter").get_attribute("value") or 0)
        assert share == pytest.approx(max(answer.probabilities.values()), abs=1e-4)
    for way, words in {
        "paste": "The clipboard holds no picture.",
        "drop": "What you dropped is not a picture.",
    }.items():
        hand_over(page, way, "words")
        sync_api.expect(page.locator("#status")).to_have_text(words)
    for way in ("paste", "drop"):
        page.click("#clear")
        sync_api.expect(page.locator("#status")).to_have_text("")
        hand_over(page, way, b"junk")
        sync_api.expect(page.locator("#status")).to_contain_text("cannot show that file")
    page.click("#clear")
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"junk"})
    sync_api.expect(page.locator("#status")).to_contain_text("cannot show that file")


def test_numbers_are_drawn_and_followed(opened: Callable[..., sync_api.Page]) -> None:
    page = opened()
    choose(page, "numbers")
    answer_is(page, "1998")  # the example of a number
    page.click("#clear")
    answer_is(page, "–")
    measured(page)
    draw(page, SEVENTEEN)
    measured(page)
    answer_is(page, "17")
    sync_api.expect(page.locator("#live")).to_contain_text("17. ")
    sync_api.expect(page.locator("#bars .best span")).to_have_text("17")
    lit = page.locator(".arcs .lit")
    assert lit.all_inner_texts() == ["1", "7"]
    one, seven = lit.all()
    assert one.get_attribute("aria-pressed") == "true"
    seven.focus()
    page.keyboard.press("Enter")
    sync_api.expect(seven).to_have_attribute("aria-pressed", "true")
    sync_api.expect(page.locator("#graph-words")).to_contain_text("it is read as 7")
    value, expected, best = page.evaluate(
        """async () => {
            const { compute } = await import("./explain.js");
            const { network } = await import("./page.js");
            network.choose({ number: network.views.length - 1, map: 0, y: 7, x: 0 });
            const { values } = network.layers.get(network.views.at(-1).layer.answers);
            return [compute(network).value, values[7], values.indexOf(Math.max(...values))];
        }"""
    )
    assert value == pytest.approx(expected, abs=0.02)
    assert best == 7
    choose(page, "mnist")
    answer_is(page, "2")
    assert not page.locator(".graph").is_visible()


def test_numbers_are_uploaded(opened: Callable[..., sync_api.Page]) -> None:
    page = opened("phone", "dark")
    choose(page, "numbers")
    paper = np.full((200, 300), 225, np.uint8)
    for y, text in ((80, "305"), (160, "48")):
        cv2.putText(paper, text, (60, y), cv2.FONT_HERSHEY_SIMPLEX, 2, 40, 6, cv2.LINE_AA)
    content = cv2.imencode(".png", paper)[1].tobytes()
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": content})
    reading = Reader().read(content)
    answer_is(page, "  ".join(number.written for number in reading.numbers))
    assert page.locator(".written").count() == len(reading.steps) == 2
    arcs = [len(step.segments.ends) for step in reading.steps]
    assert page.locator(".arcs button").count() == sum(arcs)
    assert page.evaluate("document.documentElement.scrollWidth") == SIZES["phone"][0]


@pytest.mark.parametrize("model", ["digits", "mnist", "lenet5-1998-distorted", "LeNet5s", "Paired"])
def test_layers_show_what_lenet_computes(model: str, opened: Callable[..., sync_api.Page]) -> None:
    """The arithmetic of a unit, by the page, is the value that the network's trace has there."""
    page = opened()
    choose(page, model)
    sync_api.expect(page.locator("#unit-words b")).to_have_text(re.compile("^C3, map"))
    names = page.locator("#layers .layer figcaption b").all_inner_texts()
    if model == "Paired":
        assert names == ["input", "C1", "S2", "C3", "S4", "F5", "scores"]
    else:
        assert names == ["input", "C1", "S2", "C3", "S4", "C5", "F6", "output"]
    for name in names[1:]:
        figure = page.locator("#layers .layer").nth(names.index(name))
        target = figure.locator(".codes button, canvas:visible").first
        target.hover(position={"x": 11, "y": 25})
        sync_api.expect(page.locator("#unit-words b")).to_contain_text(f"{name}, ")
        value, expected, most, said = page.evaluate(
            """async () => {
                const { compute } = await import("./explain.js");
                const { sides } = await import("./network.js");
                const { network } = await import("./page.js");
                const { layer, map, y, x, value } = compute(network);
                const { values } = network.layers.get(layer.answers);
                const [, height, width] = sides(layer);
                const words = document.getElementById("arithmetic").textContent;
                const most = Math.max(...values.map(Math.abs));
                return [value, values[(map * height + y) * width + x], most, words];
            }"""
        )
        assert value == pytest.approx(expected, abs=1e-3 * most + 1e-4), name
        assert f"{abs(value):.3g}"[:3] in said, name
        assert "NaN" not in said and "undefined" not in said


def test_the_page_knows_every_activation() -> None:
    source = Path(web.__file__).parent.joinpath("static", "explain.js").read_text()
    [table] = re.findall(r"const SQUASH = {(.*?)\n};", source, re.DOTALL)
    assert set(re.findall(r'^ +"(\S+)":', table, re.MULTILINE)) == set(arithmetic.ACTIVATIONS)


def test_the_page_knows_no_network() -> None:
    for file in Path(web.__file__).parent.glob("static/*.js"):
        assert re.findall(r"LeNet|\b[CSF]\d\b|\b84\b", file.read_text()) == [], file


def test_paired_maps_have_a_table(opened: Callable[..., sync_api.Page]) -> None:
    page = opened()
    choose(page, "Paired")
    sync_api.expect(page.locator("#unit-words b")).to_have_text(re.compile("^C3, map"))
    tables = page.locator(".connections")
    rows = tables.nth(0).locator("tr").all()
    marks = [[cell != "" for cell in row.locator("td").all_inner_texts()] for row in rows]
    np.testing.assert_array_equal(marks, np.arange(4)[:, None] == np.repeat(np.arange(4), 2))
    rows = tables.nth(1).locator("tr").all()
    marks = [[cell != "" for cell in row.locator("td").all_inner_texts()] for row in rows]
    reads = [set(inputs) for group in TABLE for inputs in group]
    assert marks == [[source in inputs for inputs in reads] for source in range(8)]
    page.locator("#layers .layer").nth(2).locator("canvas").first.hover(position={"x": 4, "y": 4})
    assert tables.nth(0).locator(".on").count() == 1
    sync_api.expect(page.locator("#unit-words")).to_contain_text("map 0 of C1")


def test_the_connection_table_lights_up(opened: Callable[..., sync_api.Page]) -> None:
    page = opened()
    assert page.locator(".connections").count() == 0
    choose(page, "lenet5-1998-distorted")
    answer_is(page, "2")
    rows = page.locator(".connections tr")
    marks = [[cell != "" for cell in row.locator("td").all_inner_texts()] for row in rows.all()]
    np.testing.assert_array_equal(np.array(marks).T, c3_table())
    canvas = page.locator("#layers .layer").nth(3).locator("canvas").first
    canvas.hover(position={"x": 3 * 32 + 12, "y": 12})  # the fourth map
    lit = [row.locator("td").nth(3).get_attribute("class") or "" for row in rows.all()]
    assert ["on" in words for words in lit] == c3_table()[3].tolist()
    assert page.locator(".connections .on").count() == c3_table()[3].sum()
    distances = [float(text) for text in page.locator(".codes button").all_inner_texts()]
    assert len(distances) == 10
    assert distances.index(min(distances)) == 2


def test_test_images_and_mistakes(
    opened: Callable[..., sync_api.Page], reader: Path, digits: Digits
) -> None:
    page = opened()
    choose(page, reader.name)
    page.click("#random")
    sync_api.expect(page.locator("#truth")).to_contain_text("The test set says")
    assert not page.locator("#prepare").is_checked()  # as it is
    page.click("#mistakes")
    buttons = page.locator("#hardest-list button")
    sync_api.expect(page.locator("#hardest-words")).to_contain_text("of 200 test images")
    truth, answer = buttons.first.inner_text().split(" → ")
    buttons.first.click()
    answer_is(page, answer)  # exactly the image: the mistake is the same
    sync_api.expect(page.locator("#truth")).to_have_text(f"The test set says {truth}.")
    sync_api.expect(page.locator("#truth")).to_have_class("wrong")


def test_missing_test_sets_are_said(opened: Callable[..., sync_api.Page]) -> None:
    page = opened()
    for button in ("#random", "#mistakes"):
        page.click(button)
        sync_api.expect(page.locator("#status")).to_contain_text("lenet data mnist")
        page.click("#clear")
        sync_api.expect(page.locator("#status")).to_have_text("")


def test_sliders_change_what_the_network_sees(opened: Callable[..., sync_api.Page]) -> None:
    page = opened()
    page.click("#clear")
    draw(page, SEVEN)
    answer_is(page, "7")
    shown = page.locator("#drawing").screenshot()
    for name, value in {"turn": "180", "size": "0.5", "thick": "0.6", "noise": "0.5"}.items():
        page.locator(f"#{name}").fill(value)
        page.locator(f"#{name}").dispatch_event("change")
        changed = page.locator("#drawing").screenshot()
        assert changed != shown, name
        shown = changed
    page.click("#reset")
    answer_is(page, "7")
    page.locator("#across").fill("0.3")
    answer_is(page, "7")  # the preprocessor brings it back ...
    page.locator("#prepare").uncheck()
    page.locator("#across").fill("0.4")
    sync_api.expect(page.locator("#label")).not_to_have_text("7")  # ... and the network does not


def test_units_by_keyboard(opened: Callable[..., sync_api.Page]) -> None:
    page = opened()
    canvas = page.locator("#layers .layer").nth(1).locator("canvas").first
    canvas.focus()
    for key in ["ArrowRight"] * 28 + ["ArrowDown"] * 3:
        page.keyboard.press(key)
    sync_api.expect(page.locator("#unit-words b")).to_have_text("C1, map 1, row 3, column 0")
    sync_api.expect(page.locator("#unit-live")).to_contain_text("C1, map 1, row 3, column 0: ")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("what", ["digit", "number"])
def test_nothing_is_cut_off(
    what: str, size: str, scheme: str, opened: Callable[..., sync_api.Page], tmp_path: Path
) -> None:
    page = opened(size, scheme)
    parts = ["#drawing", "#label", "#bars", "#undo"]
    if what == "number":
        choose(page, "numbers")
        answer_is(page, "1998")
        parts += ["#clear"] if size == "phone" else [".written", ".arcs"]
    else:
        parts += ["#steps", "#mistakes"]
    assert page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]
    for part in parts:
        box = page.locator(part).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= SIZES[size][0] + 0.5
        assert box["y"] + box["height"] <= SIZES[size][1], part
    # LENET_SHOTS names a folder to keep the pictures in.
    file = Path(os.environ.get("LENET_SHOTS", tmp_path), f"page-{what}-{size}-{scheme}.png")
    page.screenshot(path=file)
    brightness = np.asarray(Image.open(file).convert("L")).mean()
    assert (brightness > 128) == (scheme == "light")
