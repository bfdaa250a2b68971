"""The pages: their code runs and prints what they show, their commands exist, their words agree."""

import contextlib
import importlib
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import lenet
import lenet.commands
from lenet import data
from lenet.cli import COMMANDS
from lenet.errors import LenetError
from lenet.export import onnx
from lenet.networks import checkpoint

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Of the others in two languages, the English page is run.
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
NOT_RUN = "<!-- not run: needs "  # stands above a block
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n^```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
REAL = {"lenet5-1998"}  # what this page prints is of the real MNIST
Digits = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@pytest.fixture
def small_data(monkeypatch: pytest.MonkeyPatch, digit_folder: Path) -> None:
    """The small digits in place of the public data sets."""
    load = data.load

    def small(name: str, *others: Any) -> data.Dataset:
        return load(str(digit_folder) if name in data.SOURCES else name, *others)

    monkeypatch.setattr(data, "load", small)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Digits) -> Path:
    """The current folder, with the files that pages mention."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(mpl.rcParams, "backend", "Agg")
    digit = Image.fromarray(255 - digits[0][7]).resize((140, 140))
    for name in ("photo.jpg", "cheque.jpg", "7.png"):
        digit.save(name)
    return tmp_path


def run(code: str, namespace: dict[str, Any]) -> str:
    """What a block prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "block", "exec"), namespace)
    return printed.getvalue()


@pytest.mark.parametrize("page", [p for p in PAGES if BLOCK.search(text(p))], ids=lambda p: p.stem)
def test_code_runs_and_prints_what_stands_under_it(
    page: Path, desk: Path, digits: Digits, request: pytest.FixtureRequest
) -> None:
    words = re.sub(rf"{NOT_RUN}.*?```python.*?```\n", "", text(page), flags=re.DOTALL)
    blocks = BLOCK.findall(words)
    assert len(blocks) == words.count("```python")
    assert sum(bool(shown) for _, shown in blocks) == words.count("```text")
    request.getfixturevalue("mnist" if page.stem in REAL else "small_data")
    namespace: dict[str, Any] = {}
    if page.stem == "export":
        graph = onnx.graph(checkpoint.read("mnist"), pixels=True)
        Path("digits.onnx").write_bytes(graph.SerializeToString())
        namespace["images"] = digits[0][:3]
    for code, shown in blocks:
        printed = run(code, namespace)
        assert not shown or printed == shown, code


def commands(page: str) -> set[str]:
    """The commands of the package in a page's blocks, without comments."""
    page = page.replace("\\\n", " ")
    lines = re.findall(r"^    (?:.*?[;&] )?(?:do )?lenet (.*)$", page, re.MULTILINE)
    lines += re.findall(r"^    .* -m lenet (.*)$", page, re.MULTILINE)
    return {re.split(r"\s#|[;&|>]", line)[0].strip() for line in lines}


class Parsed(Exception):  # noqa: N818
    """The flags are right; nothing else is done."""


def test_commands_of_the_pages_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    real = lenet.commands.parse

    def parse(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        raise Parsed

    modules = [importlib.import_module(f"lenet.commands.{name}") for name in COMMANDS]
    for module in (lenet.commands, *modules):
        if hasattr(module, "parse"):
            monkeypatch.setattr(module, "parse", parse)
    lines = set().union(*(commands(text(page)) for page in (*PAGES, ROOT / "RESULTS.md")))
    assert len(lines) > 40
    for line in sorted(lines):
        command, *flags = shlex.split(line)
        if any(re.fullmatch(r"\W*[A-Z]+\W*|\[.*", flag) for flag in (command, *flags)):
            continue  # a placeholder
        assert command in COMMANDS, line
        try:
            importlib.import_module(f"lenet.commands.{command}").run(flags)
        except Parsed:
            continue
        except (SystemExit, LenetError) as error:
            pytest.fail(f"lenet {line}: {error}")
        pytest.fail(f"lenet {line} was run")


# The articles

CELL = re.compile(r"^# %%(.*)\n", re.MULTILINE)
NOTEBOOKS = {"en": DOCS / "articles.ipynb", "zh": DOCS / "articles.zh-CN.ipynb"}


def cells() -> list[tuple[str, str]]:
    """(head, contents) of each cell of the notebooks' source, in both languages."""
    _, *parts = CELL.split(text(DOCS / "articles.py"))
    return [(head, cell.strip()) for head, cell in zip(parts[::2], parts[1::2], strict=True)]


@pytest.mark.usefixtures("desk")
def test_the_articles_and_ours_run(digit_folder: Path) -> None:
    quick = {"fashion": str(digit_folder), "mnist": str(digit_folder), "epochs": 1}
    namespace: dict[str, Any] = {}
    printed: dict[str, list[str]] = {"left": [], "right": []}
    code = [(head, cell) for head, cell in cells() if "markdown" not in head]
    for head, cell in code:
        if "parameters" in head:
            assert {name for name in quick if name not in cell} == set()
            namespace |= quick
            continue
        shown = run(cell, namespace)
        for side in printed:
            if side in head:
                printed[side].append(shown)
    shapes, copied, *_ = zip(*printed.values(), strict=True)
    left, right = (re.findall(r"\(.*\)", side) for side in shapes)
    assert left == right
    assert len(left) == 12
    assert copied[1].count("difference 0.0 0.0") == 2
    assert "LeNet5s C3: 429" in "".join(printed["right"])
    assert "False" not in "".join(printed["right"][-5:-2]), "PyTorch's results differ"
    assert namespace["answer"].label == "7"


@pytest.mark.parametrize("language", NOTEBOOKS)
def test_notebooks_are_made_of_their_source(language: str) -> None:
    notebook = json.loads(text(NOTEBOOKS[language]))
    expected = []
    for head, cell in cells():
        if "markdown" in head and f'lang="{language}"' in head:
            expected.append(re.sub(r"^# ?", "", cell, flags=re.MULTILINE))
        elif "markdown" not in head:
            expected.append(cell)
    assert ["".join(cell["source"]) for cell in notebook["cells"]] == expected
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    assert outputs, "the notebook was not run"
    assert not any(output["output_type"] == "error" for output in outputs)


# Two languages


def test_the_chinese_readme_is_the_english_one() -> None:
    """The same headings, code, commands, tree, links, and numbers in every row of tables."""
    english, chinese = (text(ROOT / name) for name in ("README.md", "README.zh-CN.md"))
    for pattern in (
        r"^##+(?= )",  # headings
        r"^```python\n(?:.*\n)*?```",
        r"^    ((?:lenet|make|torchrun).*)",
        r"^  (\w+(?:\.py|/))",  # the tree
        r"\]\(((?!README).*?)\)",  # links
    ):
        parts = [re.findall(pattern, page, re.MULTILINE) for page in (english, chinese)]
        one, other = ([re.sub(r" *#.*", "", part) for part in found] for found in parts)
        assert one == other, pattern
        assert one
    rows = [re.findall(r"^\|.*", page, re.MULTILINE) for page in (english, chinese)]
    for one, other in zip(*rows, strict=True):
        numbers = [re.findall(r"\d(?:[\d.,]*\d)?%?", row) for row in (one, other)]
        assert sorted(numbers[0]) == sorted(numbers[1]), other
