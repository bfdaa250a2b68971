"""What the compiled kernels can use of this processor: cores and instruction sets."""

import os
from collections.abc import Sequence

from lenet.errors import LenetError


def usable_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def instruction_set(available: Sequence[str], isa: str | None = None) -> str:
    """The instruction set to use: `isa`, or that of the variable LENET_ENGINE, or the first.

    Raises:
        LenetError: it is not available.
    """
    isa = isa or os.environ.get("LENET_ENGINE") or available[0]
    if isa not in available:
        names = ", ".join(available)
        raise LenetError(
            f"the instruction set {isa!r} is not available here; choose one of {names}"
        )
    return isa
