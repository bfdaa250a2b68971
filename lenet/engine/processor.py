"""What this processor has for the compiled kernels: cores and instruction sets."""

import os
from collections.abc import Sequence

from lenet.errors import LenetError


def usable_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def instruction_set(available: Sequence[str], asked: str | None = None) -> str:
    """The instruction set to use: `asked`, else that of the variable LENET_ENGINE, else the first.

    Raises:
        LenetError: it is not among the available ones.
    """
    chosen = asked or os.environ.get("LENET_ENGINE") or available[0]
    if chosen not in available:
        raise LenetError(
            f"the instruction set {chosen!r} is not available here; choose one of "
            + ", ".join(available)
        )
    return chosen
