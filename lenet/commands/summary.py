"""The layers of a network and their costs."""

import json
from dataclasses import dataclass
from typing import Annotated

import tyro
from tyro.conf import Positional

from lenet.commands import parse_model


@dataclass(frozen=True)
class SummaryFlags:
    """Shows the layers of a network: kind, output, parameters and cost for one image.

    Examples: `lenet summary lenet5-1998`, `lenet summary LeNet --channels 8 24`.
    """

    model: Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
    """A run folder, a weights file, a pretrained name or latest; or the name of a network (LeNet,
    LeNet5 ...) or recipe, optionally with options of the network."""
    json: bool = False
    """Print one JSON object."""


def run(flags: list[str]) -> int:
    arguments, model = parse_model(SummaryFlags, "summary", flags)

    from lenet.networks import inspection

    summary = inspection.summary(model)
    print(json.dumps(summary.as_dict()) if arguments.json else summary)
    return 0
