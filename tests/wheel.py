"""Tries an installed wheel: a digit is read by a network of the package. No test file.

python tests/wheel.py    in an environment with the wheel and what it needs, without PyTorch
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import lenet
from lenet.engine import fused, sequential, single

sets = fused.instruction_sets()
assert (single._single is not None) == bool(sets)
# The wheel for Windows has no kernels: NumPy answers.
assert (sequential.native is not None) == bool(sets) == (sys.platform != "win32")
seven = Image.new("L", (120, 160), 255)
ImageDraw.Draw(seven).line([(25, 35), (95, 35), (50, 130)], fill=0, width=14, joint="curve")
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "seven.png"
    seven.save(file)
    answer = lenet.Predictor("lenet5-1998").predict(file)
assert answer.label == "7", answer.as_dict()
assert np.isfinite(list(answer.probabilities.values())).all()
assert "torch" not in sys.modules
print("lenet", lenet.__version__, sets)
