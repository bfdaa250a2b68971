"""LeNet: the networks, their training, their evaluation, and their use on pictures.

    import lenet
    run = lenet.train("mnist")
    print(run.report.error)
    print(lenet.Predictor(run.path).predict("photo.jpg").label)

Everything is imported when it is first used: `import lenet` alone costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lenet import data as data
    from lenet import primitives as primitives
    from lenet.checkpoint import load as load
    from lenet.checkpoint import save as save
    from lenet.errors import LenetError as LenetError
    from lenet.evaluation import evaluate as evaluate
    from lenet.inspection import summary as summary
    from lenet.inspection import trace as trace
    from lenet.models import LeNet as LeNet
    from lenet.models import LeNet5 as LeNet5
    from lenet.models import LeNet5s as LeNet5s
    from lenet.prediction import Predictor as Predictor
    from lenet.recipes import RECIPES as RECIPES
    from lenet.recipes import Recipe as Recipe
    from lenet.training import resume as resume
    from lenet.training import train as train

__version__ = "0.1.0"

HOMES = {
    "LeNet": "models",
    "LeNet5": "models",
    "LeNet5s": "models",
    "LenetError": "errors",
    "Predictor": "prediction",
    "RECIPES": "recipes",
    "Recipe": "recipes",
    "data": None,
    "evaluate": "evaluation",
    "load": "checkpoint",
    "primitives": None,
    "resume": "training",
    "save": "checkpoint",
    "summary": "inspection",
    "trace": "inspection",
    "train": "training",
}
__all__ = sorted(HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'lenet' has no attribute {name!r}")
    home = HOMES[name]
    if home is None:
        return importlib.import_module(f"lenet.{name}")
    value = getattr(importlib.import_module(f"lenet.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
