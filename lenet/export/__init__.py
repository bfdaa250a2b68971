"""Trained networks for other software: ONNX, safetensors, and C99 for small devices.

`onnx`, `tensors` and `c` each write one format from a checkpoint; `onnx` and `c` first check that
the result gives the scores of the network.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        format: onnx, safetensors or c.
        files: file -> its size in bytes.
        facts: what else is known about it, ready for JSON: inputs, sizes, results of checks.
    """

    format: str
    files: dict[Path, int]
    facts: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        files = {str(path): size for path, size in self.files.items()}
        return {"format": self.format, "files": files, **self.facts}
