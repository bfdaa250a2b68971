"""Progress of long work: a bar on a terminal and in notebooks, a plain line elsewhere."""

import sys
import time
from html import escape

from lenet.notebook import Display, is_notebook

PLAIN_INTERVAL = 5.0  # seconds between lines where the output is no terminal
NOTEBOOK_INTERVAL = 0.5  # seconds between changes of the bar in a notebook


class Progress:
    """Shows on standard error, or in a notebook's output, how many of `total` units are done.

    Use as a context manager; `advance` is cheap enough for every training step. `quiet` shows
    nothing, for all processes of a run but the first.
    """

    def __init__(self, title: str, total: int, quiet: bool = False) -> None:
        self.title, self.total, self.quiet = title, total, quiet
        self.done: float = 0
        self.note = ""
        self.started = self.last_line = time.monotonic()
        self.bar = None
        self.display = Display() if is_notebook() and not quiet else None
        if self.display or quiet or not sys.stderr.isatty():
            return
        from rich.console import Console  # here, as it takes long to import
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f}%  {task.fields[note]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        self.bar = Bar(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task(title, total=total, note="")

    def __enter__(self) -> "Progress":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()
        if self.display and self.display.handle:
            self.display.show("", "")

    def advance(self, count: float = 1, note: str | None = None) -> None:
        """Counts `count` more units as done; `note` replaces the words beside the bar."""
        self.done += count
        self.note = note or self.note
        if self.bar:
            self.bar.update(self.task, advance=count, note=self.note)
            return
        now = time.monotonic()
        if self.display:
            if now - self.last_line >= NOTEBOOK_INTERVAL:
                self.last_line = now
                words = f"{self.title} {self.done / max(self.total, 1):.0%}  {self.note}"
                bar = f"<progress value='{self.done}' max='{self.total}'></progress>"
                self.display.show(f"{bar} {escape(words)}", words)
            return
        if now - self.last_line >= PLAIN_INTERVAL and self.done and not self.quiet:
            self.last_line = now
            left = (now - self.started) * (self.total - self.done) / self.done
            words = f"{self.title}: {self.done / max(self.total, 1):4.0%}, {left:.0f} s left"
            print(f"{words}, {self.note}" if self.note else words, file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Prints a line that stays, above the bar."""
        if self.bar:
            self.bar.console.print(line, highlight=False)
        elif self.display:
            print(line, flush=True)  # standard error would look like a failure
        elif not self.quiet:
            print(line, file=sys.stderr, flush=True)


class DownloadProgress(Progress):
    """Progress of a download; pooch sets `total` (bytes) and calls the methods below."""

    def __init__(self, title: str) -> None:
        super().__init__(title, 0)

    def update(self, count: int) -> None:
        if self.bar:
            self.bar.update(self.task, total=self.total)
        self.advance(count)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass
