"""What notebooks show: tables, images, bars and curves as HTML, and a place that is drawn again."""

import base64
import importlib
import io
import sys
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 460, 240  # of a chart, in pixels
LEFT, RIGHT, TOP, BELOW = 40, 150, 10, 30  # its margins
COLOURS = ("#0072b2", "#009e73", "#d55e00", "#cc79a7")  # Okabe and Ito's, for light and dark pages


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython and ipython.get_ipython(), "kernel", None) is not None


class Display:
    """A place in the output of a notebook's cell."""

    def __init__(self) -> None:
        self.handle: Any = None

    def show(self, html: str, text: str) -> None:
        """Shows this instead of what was shown before; `text` where there is no HTML."""
        content = {"text/html": html, "text/plain": text}
        if self.handle is None:
            display = importlib.import_module("IPython.display").display
            self.handle = display(content, raw=True, display_id=True)
        else:
            self.handle.update(content, raw=True)


def table(rows: Sequence[Sequence[Any]], columns: Sequence[str] = ()) -> str:
    """A table of texts."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{cells(row)}</tr>" for row in rows)
    return (
        f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"
    )


def cells(row: Sequence[Any]) -> str:
    """The cells of a table's row."""
    return "".join(f"<td>{escape(str(cell))}</td>" for cell in row)


def image(pixels: NDArray[np.uint8], side: int = 112) -> str:
    """An image (H, W), ink dark on paper, or in colour (3, H, W), `side` pixels high."""
    from PIL import Image

    shown = 255 - pixels if pixels.ndim == 2 else pixels.transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(shown)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    style = f"height:{side}px;image-rendering:pixelated"
    return f'<img alt="" style="{style}" src="data:image/png;base64,{data}">'


def sheet(images: NDArray[np.uint8], columns: int) -> str:
    """A contact sheet of images (N, H, W) or (N, 3, H, W)."""
    *channels, height, width = images.shape[1:]
    rows = -(-len(images) // columns)
    cells = np.zeros((rows * columns, *channels, height, width), np.uint8)
    cells[: len(images)] = images
    tiled = np.moveaxis(cells.reshape(rows, columns, -1, height, width), 2, 0)
    joined = tiled.swapaxes(2, 3).reshape(-1, rows * height, columns * width)
    return image(joined if channels else joined[0], 28 * rows)


def bars(shares: Mapping[str, float]) -> str:
    """A bar for each name; its share, 0..1, is its length."""
    lines = [
        f"<tr><td>{escape(name)}</td><td style='width:12em;text-align:left'><div style='"
        f"background:{COLOURS[0]};height:.8em;width:{max(share, 0.004):.1%}'></div></td>"
        f"<td>{share:.1%}</td></tr>"
        for name, share in shares.items()
    ]
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def beside(*parts: str) -> str:
    """The parts in a row."""
    return f"<div style='display:flex;gap:1em;align-items:center'>{''.join(parts)}</div>"


def chart(curves: Mapping[str, Points], label: str) -> str:
    """A line chart with its legend; `label` stands below the horizontal axis, which begins at 0."""
    points = [point for curve in curves.values() for point in curve]
    right = max((x for x, _ in points), default=1.0)
    top = max((y for _, y in points if np.isfinite(y)), default=1.0) or 1.0
    across, up = (WIDTH - LEFT - RIGHT) / right, (HEIGHT - TOP - BELOW) / top

    def place(x: float, y: float) -> str:
        return f"{LEFT + across * x:.1f},{HEIGHT - BELOW - up * y:.1f}"

    parts = []
    for tick in np.linspace(0, top, 5):
        y = float(place(0, tick).split(",")[1])
        parts.append(f"<path d='M{LEFT} {y}H{WIDTH - RIGHT}' stroke='currentColor' opacity='.2'/>")
        parts.append(f"<text x='{LEFT - 6}' y='{y + 4}' text-anchor='end'>{tick:.2g}</text>")
    for tick in sorted({0, round(right / 2), round(right)}):
        x = LEFT + across * tick
        parts.append(f"<text x='{x}' y='{HEIGHT - 14}' text-anchor='middle'>{tick}</text>")
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f"<text x='{middle}' y='{HEIGHT - 1}' text-anchor='middle'>{escape(label)}</text>")
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(place(x, y) for x, y in curve if np.isfinite(y))
        parts.append(f"<polyline points='{line}' fill='none' stroke='{colour}' stroke-width='2'/>")
        y, words = TOP + 18 * (number + 1), escape(name)
        if curve:
            words += f" {curve[-1][1]:.3f}"
        parts.append(f"<text x='{WIDTH - RIGHT + 8}' y='{y}' fill='{colour}'>{words}</text>")
    return (
        f"<svg role='img' width='{WIDTH}' height='{HEIGHT}' font-size='11' fill='currentColor' "
        f"font-family='sans-serif'>{''.join(parts)}</svg>"
    )
