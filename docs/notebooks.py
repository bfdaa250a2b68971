"""Makes articles.ipynb and articles.zh-CN.ipynb of articles.py: one source, two languages.

python docs/notebooks.py            runs the code (some minutes) and keeps what it shows
python docs/notebooks.py --keep     changes the words, and keeps what the code showed before

Cells of text have a language, those of code are common to both. Needs jupytext and nbclient.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

DOCS = Path(__file__).parent
SOURCE = DOCS / "articles.py"
PAGES = {"en": DOCS / "articles.ipynb", "zh": DOCS / "articles.zh-CN.ipynb"}


def cells(language: str) -> Any:
    """The notebook in one language, without what its code shows."""
    notebook = jupytext.read(SOURCE)
    kept = []
    for cell in notebook.cells[1:]:  # the first is the comment on the source
        if cell.metadata.pop("lang", language) == language:
            cell["id"] = f"cell-{len(kept)}"  # the same file from the same source
            kept.append(cell)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(
        cells=kept, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )


def main(keep: bool) -> None:
    english = cells("en")
    if keep:
        old = nbformat.read(PAGES["en"], as_version=4)
    else:
        with tempfile.TemporaryDirectory() as folder:
            resources = {"metadata": {"path": folder}}
            NotebookClient(english, timeout=1800, resources=resources).execute()
        old = english
    shown = [cell.outputs for cell in old.cells if cell.cell_type == "code"]
    for language, file in PAGES.items():
        notebook = cells(language)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for number, (cell, outputs) in enumerate(zip(code, shown, strict=True), start=1):
            cell.outputs, cell.execution_count = list(map(lasting, outputs)), number
        nbformat.write(notebook, file)


def lasting(output: Any) -> Any:
    """What a cell shows, without what differs from run to run."""
    output.pop("transient", None)
    if "execution_count" in output:
        output["execution_count"] = None
    return output


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="do not run the code")
    main(parser.parse_args().keep)
