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
    from lenet.errors import LenetError as LenetError
    from lenet.evaluation.evaluation import evaluate as evaluate
    from lenet.networks import primitives as primitives
    from lenet.networks.checkpoint import load as load
    from lenet.networks.checkpoint import save as save
    from lenet.networks.inspection import summary as summary
    from lenet.networks.inspection import trace as trace
    from lenet.networks.models import LeNet as LeNet
    from lenet.networks.models import LeNet5 as LeNet5
    from lenet.networks.models import LeNet5s as LeNet5s
    from lenet.reading.prediction import Predictor as Predictor
    from lenet.training.recipes import RECIPES as RECIPES
    from lenet.training.recipes import Recipe as Recipe
    from lenet.training.training import resume as resume
    from lenet.training.training import train as train

__version__ = "0.1.0"

HOMES = {
    "LeNet": "networks.models",
    "LeNet5": "networks.models",
    "LeNet5s": "networks.models",
    "LenetError": "errors",
    "Predictor": "reading.prediction",
    "RECIPES": "training.recipes",
    "Recipe": "training.recipes",
    "data": "data",
    "evaluate": "evaluation.evaluation",
    "load": "networks.checkpoint",
    "primitives": "networks.primitives",
    "resume": "training.training",
    "save": "networks.checkpoint",
    "summary": "networks.inspection",
    "trace": "networks.inspection",
    "train": "training.training",
}
__all__ = sorted(HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'lenet' has no attribute {name!r}")
    home = HOMES[name]
    module = importlib.import_module(f"lenet.{home}")
    value = module if home.split(".")[-1] == name else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
