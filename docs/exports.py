"""Writes the table of export.md: ``python docs/exports.py`` from the root.

Every network that comes with the package is exported as C in both kinds of numbers, as ``lenet
export NAME --format c`` does it. Needs a C compiler and the data sets.
"""

import tempfile
from pathlib import Path
from typing import Any

from lenet import data
from lenet.export import c
from lenet.export.agreement import trial
from lenet.files import write_text
from lenet.networks import checkpoint

PAGE = Path(__file__).parent / "export.md"
TABLE = "<!-- The table is written by docs/exports.py. -->\n"
HEAD = (
    "| network | numbers | code, bytes | weights and tables | RAM "
    "| largest difference of a score (largest score) | same answers | test error, % |\n"
    f"{'|---' * 8}|\n"
)


def rows(name: str) -> str:
    """A network's two rows."""
    model = checkpoint.read(name)
    shown = trial(model, None, None)
    with tempfile.TemporaryDirectory() as folder:
        whole = c.export(model, Path(folder) / "int8", data.load(model.data), shown).facts
        real = c.export(model, Path(folder) / "float32", None, shown).facts
    return row(name, real, whole["loss"]["error"]) + row(name, whole, whole["loss"]["error_int8"])


def row(name: str, facts: dict[str, Any], error: float) -> str:
    check, size = facts["check"], facts["bytes"]
    if check is None or size["code"] is None:
        raise SystemExit("docs/exports.py needs a C compiler and `size`")
    return (
        f"| `{name}` | {facts['numbers']} | {size['code']:,} | {size['weights']:,} "
        f"| {size['memory']:,} | {check['largest_difference']:.2g} ({check['largest_score']:.0f}) "
        f"| {check['same_answers']:.1%} | {100 * error:.2f} |\n"
    )


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(TABLE)
    _, _, after = rest.partition("\n\n")
    table = HEAD + "".join(rows(name) for name in checkpoint.pretrained_names())
    write_text(PAGE, f"{before}{TABLE}{table}\n{after}")


if __name__ == "__main__":
    main()
