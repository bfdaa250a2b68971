"""Tries an installed wheel without PyTorch: a digit is read by the shipped network. No test file.

python tests/wheel.py    in an environment with the wheel and what it needs but torch
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import lenet
from lenet.engine import fused, single

if sys.platform != "win32":  # the wheel for Windows has no kernels
    assert single.instruction_sets() == fused.instruction_sets() != ()
    seven = Image.new("L", (120, 160), 255)
    ImageDraw.Draw(seven).line([(25, 35), (95, 35), (50, 130)], fill=0, width=14, joint="curve")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "seven.png"
        seven.save(file)
        answer = lenet.Predictor("lenet5-1998").predict(file)
    assert answer.label == "7", answer.as_dict()
    assert np.isfinite(list(answer.probabilities.values())).all()
    assert "torch" not in sys.modules
print("lenet", lenet.__version__, fused.instruction_sets())
