"""Trained networks for other software: ONNX, safetensors, and C99 for small devices.

`onnx`, `tensors` and `c` each write one format from a checkpoint; `onnx` and `c` first check that
the result gives the scores of the network. `hub` brings one to the Hugging Face Hub and back.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Export:
    """What was written."""

    format: str  # onnx, safetensors or c
    files: dict[Path, int]  # file -> size in bytes
    facts: dict[str, Any]  # inputs, sizes, results of checks; ready for JSON

    def as_dict(self) -> dict[str, Any]:
        files = {str(path): size for path, size in self.files.items()}
        return {"format": self.format, "files": files, **self.facts}
