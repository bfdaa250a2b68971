"""The networks that come with the package."""

import json
from dataclasses import dataclass

from lenet.commands import parse
from lenet.tables import table


@dataclass(frozen=True)
class ModelsFlags:
    """Lists the trained networks that come with the package; use them by name, offline.

    `lenet predict photo.jpg --model NAME`, `lenet evaluate NAME`, `lenet.load("NAME")`.

    The column "recipe" names the recipe that a network was trained by. For `mnist` it is not the
    quick recipe of the same name, which `lenet train mnist` uses.
    """

    json: bool = False
    """Print one JSON object a line, with the whole model card."""


def run(flags: list[str]) -> int:
    arguments = parse(ModelsFlags, "models", flags)

    from lenet.networks import checkpoint

    rows = []
    for name in checkpoint.pretrained_names():
        model = checkpoint.read(name)
        card, size = model.card, model.path.stat().st_size
        parameters = sum(array.size for array in model.weights.values())
        if arguments.json:
            about = {"name": name, "network": model.architecture.network, "parameters": parameters}
            print(json.dumps({**about, "bytes": size, **card}))
        rows.append(
            [
                name,
                card["about"],
                f"{parameters:,}",
                f"{size / 1000:.0f} kB",
                f"{card['error']:.2%}",
                f"{card['recipe']['name']}, seed {card['recipe']['seed']}",
                card["date"],
            ]
        )
    if not arguments.json:
        columns = ["name", "what", "parameters", "size", "test error", "recipe", "date"]
        print(table("networks that come with the package", columns, rows))
    return 0
