"""What the layers of a network are and cost."""

import json
from dataclasses import dataclass
from typing import Annotated

import tyro
from tyro.conf import Positional

from lenet.commands import find_network, parse, print_rows


@dataclass(frozen=True)
class SummaryFlags:
    """Shows what every layer of a network is and costs, for one image."""

    model: Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
    """LeNet, LeNet5 or LeNet5s; a recipe; or a run folder, weights file or pretrained name."""
    json: bool = False
    """Print one JSON object."""


def run(flags: list[str]) -> int:
    asked = parse(SummaryFlags, "summary", flags)

    from lenet.networks import inspection

    found = inspection.summary(find_network(asked.model))
    if asked.json:
        print(json.dumps(found.as_dict()))
        return 0
    rows = [
        [
            row.name,
            row.kind,
            "x".join(map(str, row.output_shape)),
            f"{row.parameters:,}",
            f"{row.connections:,}",
            f"{row.multiply_adds:,}",
            f"{row.receptive_field}x{row.receptive_field}",
        ]
        for row in found
    ]
    numbers = (found.parameters, found.connections, found.multiply_adds)
    rows.append(["total", "", "", *(f"{number:,}" for number in numbers), ""])
    side = "x".join(map(str, found.input_shape))
    print_rows(
        f"{found.network}, input {side}",
        ["layer", "kind", "output", "parameters", "connections", "multiply-adds", "sees"],
        rows,
        totals=True,
    )
    return 0
