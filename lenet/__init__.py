"""LeNet: the networks, their training, their evaluation, and their use on pictures.

    import lenet
    run = lenet.train("mnist")
    print(run.report.error)
    print(lenet.Predictor(run.path).predict("photo.jpg").label)
    print(lenet.Reader().read("cheque.jpg").text)

Everything is imported when it is first used: `import lenet` alone costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from lenet.errors import extra

if TYPE_CHECKING:
    from lenet import data as data
    from lenet import figures as figures
    from lenet.classifier import LeNetClassifier as LeNetClassifier
    from lenet.errors import LenetError as LenetError
    from lenet.evaluation.evaluate import evaluate as evaluate
    from lenet.networks import primitives as primitives
    from lenet.networks.inspection import summary as summary
    from lenet.networks.torch import Network
    from lenet.networks.torch import copy_weights as copy_weights
    from lenet.networks.torch import load as load
    from lenet.networks.torch import save as save
    from lenet.networks.torch import trace as trace
    from lenet.reading.prediction import Predictor as Predictor
    from lenet.reading.reader import Reader as Reader
    from lenet.training.recipe import Recipe as Recipe
    from lenet.training.recipes import RECIPES as RECIPES
    from lenet.training.train import resume as resume
    from lenet.training.train import train as train

    LeNet: type[Network]
    LeNet1: type[Network]
    LeNet4: type[Network]
    LeNet5: type[Network]
    LeNet5s: type[Network]
    LeNet1989: type[Network]

__version__ = "0.1.0"

HOMES = {
    "LeNet": "networks.torch",
    "LeNet1": "networks.torch",
    "LeNet4": "networks.torch",
    "LeNet5": "networks.torch",
    "LeNet5s": "networks.torch",
    "LeNet1989": "networks.torch",
    "LeNetClassifier": "classifier",
    "LenetError": "errors",
    "Predictor": "reading.prediction",
    "RECIPES": "training.recipes",
    "Reader": "reading.reader",
    "Recipe": "training.recipe",
    "copy_weights": "networks.torch",
    "evaluate": "evaluation.evaluate",
    "load": "networks.torch",
    "resume": "training.train",
    "save": "networks.torch",
    "summary": "networks.inspection",
    "trace": "networks.torch",
    "train": "training.train",
}
MODULES = {
    "data": "lenet.data",
    "figures": "lenet.figures",
    "primitives": "lenet.networks.primitives",
}
__all__ = sorted(HOMES | MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in MODULES:
        with extra("torch"):  # primitives are written in it
            return importlib.import_module(MODULES[name])
    if name not in HOMES:
        raise AttributeError(f"module 'lenet' has no attribute {name!r}")
    with extra("torch"):
        value = getattr(importlib.import_module(f"lenet.{HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
