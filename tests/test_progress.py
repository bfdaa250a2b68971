"""Progress where there is no terminal, with a clock of our own."""

import pytest

from lenet import progress
from lenet.progress import Progress


def test_plain_lines_come_now_and_then_with_the_last_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Progress("work", 100) as bar:
        for step in range(100):
            now += 0.25
            # As in training: a new note comes seldom, and hardly ever with the line.
            bar.advance(note=f"loss {step}" if step % 10 == 0 else None)
        bar.say("done")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "work:  20%, 20 s left, loss 10",
        "work:  40%, 15 s left, loss 30",
        "work:  60%, 10 s left, loss 50",
        "work:  80%, 5 s left, loss 70",
        "work: 100%, 0 s left, loss 90",
        "done",
    ]


def test_short_work_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("work", 3) as bar:
        for _ in range(3):
            bar.advance(note="x")
    assert capsys.readouterr().err == ""
