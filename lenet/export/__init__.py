"""Trained networks for other software: ONNX, safetensors, and C99 for small devices.

`onnx`, `tensors` and `c` write one format each, from the layers and weights of a checkpoint, and
check at once that the result answers as the network does.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        files: file -> its size in bytes.
        facts: what else there is to say of it, JSON-able: what it takes, how large it is, what was
            checked and found.
    """

    format: str
    files: dict[Path, int]
    facts: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        files = {str(path): size for path, size in self.files.items()}
        return {"format": self.format, "files": files, **self.facts}
