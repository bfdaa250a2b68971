"""The house: rooms import in one direction, and only the PyTorch rooms import PyTorch."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from conftest import needs_kernels
from numpy.typing import NDArray
from packaging.requirements import Requirement
from PIL import Image

from lenet.engine import fused, sequential, single

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lenet"

# From the ground up; a room imports those before it. What stands in one line are neighbours.
FLOORS = (
    ("errors", "notebook"),
    ("fields", "files", "progress", "tables"),
    ("data",),
    ("networks",),
    ("engine",),
    ("evaluation",),
    ("training",),
    ("reading",),
    ("figures",),
    ("sweep", "export", "web", "pretrained", "classifier"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
TORCH_ROOMS = re.compile(r"networks/(torch|primitives)|training/(autograd|distributed)")


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Path below the package, and syntax tree, of every module."""
    for file in sorted(PACKAGE.rglob("*.py")):
        yield file.relative_to(PACKAGE).as_posix(), ast.parse(file.read_text())


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(module, line) of everything that is imported, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def typing_only(tree: ast.Module) -> set[int]:
    """Lines that only type checkers read."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            lines |= {line for child in node.body for line in range(child.lineno, 10_000)} & set(
                range(node.lineno, (node.end_lineno or node.lineno) + 1)
            )
    return lines


def test_rooms_import_in_one_direction() -> None:
    for path, tree in modules():
        room = path.split("/")[0].removesuffix(".py")
        if room == "__init__":
            continue
        quiet = typing_only(tree)
        for name, line in imported(tree):
            parts = name.split(".")
            if parts[0] != "lenet" or len(parts) < 2 or line in quiet or parts[1] not in LEVEL:
                continue
            other = parts[1]
            assert LEVEL[other] < LEVEL[room] or other == room, f"{path}:{line} imports {name}"


def test_every_room_says_what_it_is() -> None:
    rooms = [folder for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()]
    assert len(rooms) <= 13
    for room in rooms:
        words = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
        assert len(words.split()) >= 10, f"{room.name} does not say what it is"
    assert {room.name for room in rooms} <= LEVEL.keys()


def test_only_the_pytorch_rooms_import_pytorch() -> None:
    for path, tree in modules():
        if TORCH_ROOMS.match(path):
            continue
        for name, line in imported(tree):
            assert name.split(".")[0] != "torch", f"{path}:{line} imports {name}"


def test_readme_draws_the_tree() -> None:
    """Every room and every file on the ground floor stands in README's tree, and no other."""
    readme = (ROOT / "README.md").read_text()
    tree = readme.split("```\nlenet/\n")[1].split("```")[0]
    drawn = {word.rstrip("/") for word in re.findall(r"^  (\w+(?:\.py|/))", tree, re.MULTILINE)}
    there = {
        entry.name
        for entry in PACKAGE.iterdir()
        if entry.suffix == ".py" or (entry / "__init__.py").exists()
    }
    assert drawn == there


def closure(distribution: str) -> set[str]:
    """The distribution and all that it needs, without extras."""
    names, left = set[str](), [distribution]
    while left:
        name = left.pop().lower()
        if name in names:
            continue
        names.add(name)
        for line in metadata.requires(name) or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                left.append(needed.name)
    return names


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds what `pip install lenet[onnx,sweep]` brings."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    roots = declared(("dependencies", "onnx", "sweep"))
    for name in set().union(*(closure(root) for root in roots)):
        for file in metadata.files(name) or ():
            top = Path(file).parts[0]
            source, link = Path(str(metadata.distribution(name).locate_file(top))), site / top
            if top not in ("..", "__pycache__") and not link.exists():
                link.symlink_to(source)
    (site / "lenet" / "engine").mkdir(parents=True)
    for part in ("", "engine"):
        for entry in (PACKAGE / part).iterdir():
            if not (site / "lenet" / part / entry.name).exists():
                (site / "lenet" / part / entry.name).symlink_to(entry)
    for module in (fused._fused, single._single, sequential.native):  # an editable install's lie
        assert module is not None
        file = Path(str(module.__file__))  # elsewhere
        if not (site / "lenet" / "engine" / file.name).exists():
            (site / "lenet" / "engine" / file.name).symlink_to(file)
    return folder / "bin" / "python"


def declared(groups: tuple[str, ...]) -> list[str]:
    """The distributions that pyproject.toml names in these groups."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = {"dependencies": project["dependencies"], **project["optional-dependencies"]}
    return [re.split(r"[<>=\[]", line)[0] for group in groups for line in lists[group]]


WALK = """
train {recipe} --out run --threads 1
evaluate run --out figures
evaluate mnist --data {data}
summary LeNet5
summary run
models
data {data}
show run --out network
show lenet5-1998 {picture} --out network5
predict {picture} --json
export run --format c --out c
export run --format safetensors --out plain.safetensors
export run --format onnx --out network.onnx
sweep {recipe} --vary lr=1e-3..1e-2:log --trials 2 --epochs 1 --validation 100 --out sweep
"""


@pytest.fixture
def picture(digits: tuple[NDArray[np.uint8], NDArray[np.uint8]], tmp_path: Path) -> Path:
    """A digit on white paper."""
    file = tmp_path / "digit.png"
    Image.fromarray(255 - digits[0][0]).resize((140, 140)).save(file)
    return file


@pytest.mark.slow
@needs_kernels
def test_everything_but_modules_works_without_pytorch(
    without_torch: Path, digit_folder: Path, quick_recipe, picture: Path, tmp_path: Path
) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [without_torch, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert run("-c", "import torch").returncode != 0
    (tmp_path / "quick.json").write_text(json.dumps(quick_recipe.as_dict()))
    names = {"recipe": "quick.json", "data": str(digit_folder), "picture": str(picture)}
    for line in WALK.strip().splitlines():
        done = run("-m", "lenet", *line.format(**names).split())
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    for line in ("lenet.LeNet()", "lenet.load('mnist')", "lenet.train('d2l', device='cuda')"):
        done = run("-c", f"import lenet; {line}")
        last = done.stderr.strip().splitlines()[-1]
        assert "pip install 'lenet[torch]'" in last, last
