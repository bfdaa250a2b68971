"""ONNX in one file, for any batch size, with or without the preparation of images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lenet import __version__
from lenet.errors import LenetError, extra
from lenet.export import Export
from lenet.export.agreement import Trial
from lenet.export.lowering import IMAGE_SIDE
from lenet.files import replacing
from lenet.networks import architecture as net
from lenet.networks.checkpoint import Checkpoint

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

OPSET, IR_VERSION = 18, 10  # ONNX Runtime reads these since 1.18 (2024)
# Activation f(a) -> operators, each with its second input, if any: a number or a itself.
SQUASHES: dict[str, list[tuple[str, *tuple[float | Literal["a"], ...]]]] = {
    "sigmoid": [("Sigmoid",)],
    "tanh": [("Tanh",)],
    "scaled-tanh": [("Mul", 2 / 3), ("Tanh",), ("Mul", 1.7159)],
    "relu": [("Relu",)],
    "gelu": [("Mul", 1.702), ("Sigmoid",), ("Mul", "a")],
    "silu": [("Sigmoid",), ("Mul", "a")],
}


def export(model: Checkpoint, path: Path, pixels: bool, trial: Trial) -> Export:
    """Writes a network as ONNX, if the result gives the scores of the network.

    With `pixels`, the input is `images`, uint8 (N, 28, 28); otherwise `x`, prepared float32
    (N, C, H, W). The output is `scores`, float32 (N, classes), larger is better. The metadata
    hold `classes`, `card`, `network`, `options` (JSON) and `input` (words).

    Raises:
        LenetError: the extra is not installed, the file cannot be written, or its scores differ
            from those of the network.
    """
    with extra("onnx"):
        import onnx
        import onnxruntime
    file = graph(model, pixels)
    with replacing(path) as temporary:
        onnx.checker.check_model(file, full_check=True)
        onnx.save_model(file, temporary)
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        images = trial.images if pixels else model.architecture.preparation(trial.images)
        name = session.get_inputs()[0].name
        batches = [batch for batch in np.split(images, [1, 8]) if len(batch)]
        parts = [np.asarray(session.run(None, {name: batch})[0]) for batch in batches]
        check = trial.require(np.concatenate(parts), "the ONNX file")
        size = temporary.stat().st_size
    words = next(entry.value for entry in file.metadata_props if entry.key == "input")
    facts = {"input": words, "opset": OPSET, "check": check}
    return Export("onnx", {path: size}, facts)


def graph(model: Checkpoint, pixels: bool) -> "ModelProto":
    """Builds the model that `export` writes, and raises LenetError if it does not know a layer or
    an activation."""
    from onnx import TensorProto, helper

    architecture = model.architecture
    how = architecture.preparation
    if pixels:
        name, kind = "images", TensorProto.UINT8
        shape = [*([how.channels] if how.channels > 1 else []), IMAGE_SIDE, IMAGE_SIDE]
        words = f"uint8 (N, {', '.join(map(str, shape))}), 0 is paper and 255 is ink"
    else:
        name, kind, shape = "x", TensorProto.FLOAT, architecture.input_shape
        words = f"float32 (N, {', '.join(map(str, shape))}), prepared"
    nodes = Nodes(name)
    if pixels:
        nodes.preparation(how)
    for layer in architecture.layers:
        nodes.layer(layer, model.weights)
    nodes.rename("scores")
    given = helper.make_tensor_value_info(name, kind, ["N", *shape])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", architecture.classes])
    file = helper.make_model(
        helper.make_graph(nodes.nodes, architecture.network, [given], [scores], nodes.arrays),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lenet",
        producer_version=__version__,
        doc_string=f"{architecture.network}. Input: {words}. Output: scores, the largest wins.",
    )
    metadata = {
        "classes": json.dumps(model.classes),
        "network": architecture.network,
        "options": json.dumps(architecture.as_dict()),
        "card": json.dumps(model.card),
        "input": words,
    }
    helper.set_model_props(file, metadata)
    return file


class Nodes:
    """A chain of operators; each takes the output of the one before, whose name is `last`."""

    def __init__(self, first: str) -> None:
        self.nodes: list[NodeProto] = []
        self.arrays: list[TensorProto] = []
        self.last = first

    def add(self, operator: str, *inputs: Any, **attributes: Any) -> None:
        """Adds an operator. The inputs after the first are names, numbers or arrays; everything but
        int64 arrays becomes float32."""
        from onnx import helper, numpy_helper

        name = f"{operator}_{len(self.nodes)}"
        names = [self.last]
        for number, values in enumerate(inputs):
            if not isinstance(values, str):
                is_whole = isinstance(values, np.ndarray) and values.dtype == np.int64
                array = np.asarray(values, np.int64 if is_whole else np.float32)
                values = f"{name}_{number}"
                self.arrays.append(numpy_helper.from_array(array, values))
            names.append(values)
        self.nodes.append(helper.make_node(operator, names, [name], name, **attributes))
        self.last = name

    def rename(self, name: str) -> None:
        """Names the last operator and its output."""
        self.nodes[-1].name = self.nodes[-1].output[0] = self.last = name

    def preparation(self, how: net.Preparation) -> None:
        """From uint8 images to the network's input."""
        self.add("Cast", to=1)  # float32
        if how.channels == 1:
            self.add("Unsqueeze", np.array([1]))
        if (margin := how.margin(IMAGE_SIDE)) is not None:
            rest = how.size - IMAGE_SIDE - margin
            self.add("Pad", np.array([0, 0, margin, margin, 0, 0, rest, rest]))
        else:
            for _ in "yx":  # each time the last axis, and the axes change places
                self.add("MatMul", how.rows(IMAGE_SIDE, IMAGE_SIDE).T)
                self.add("Transpose", perm=(0, 1, 3, 2))
        self.add("Mul", how.scale)
        self.add("Add", how.background)
        self.rename("input")

    def layer(self, layer: net.Layer, weights: net.Weights) -> None:
        match layer:
            case net.Convolution():
                self.convolution(layer, weights)
            case net.Pooling():
                self.pooling(layer, weights)
            case net.Squashing():
                pass
            case net.Flatten():
                self.add("Flatten")
            case net.FullConnection():
                self.add("Flatten")
                self.add("Gemm", *(weights[p.name] for p in layer.parameters), transB=1)
            case net.Distances():
                self.add("Flatten")
                self.add("Unsqueeze", np.array([1]))
                self.add("Sub", layer.codes)
                self.add("ReduceSumSquare", np.array([2]), keepdims=0)
                self.add("Neg")
            case _:
                raise LenetError(f"{layer.name}: ONNX export knows no layer of kind {layer.kind}")
        if squash := getattr(layer, "squash", None):
            self.squash(layer.name, squash)
        self.rename(layer.name)

    def convolution(self, layer: net.Convolution, weights: net.Weights) -> None:
        around = padding = layer.padding
        if layer.border:
            self.add("Pad", np.array([0, 0, around, around] * 2), layer.border)
            padding = 0
        filters, biases = layer.filters(weights), layer.biases(weights)
        of_maps = () if layer.unit_biases else (biases,)
        self.add("Conv", filters, *of_maps, pads=[padding] * 4, strides=[layer.stride] * 2)
        if layer.unit_biases:
            self.add("Add", biases)

    def pooling(self, layer: net.Pooling, weights: net.Weights) -> None:
        if layer.sources is not None:
            self.add("Gather", np.array(layer.sources), axis=1)
        operator = "MaxPool" if layer.method == "max" else "AveragePool"
        self.add(operator, kernel_shape=[2, 2], strides=[2, 2])
        if layer.method == "sum":
            self.add("Mul", 4.0)
        for operator, parameter in zip(("Mul", "Add"), layer.parameters, strict=False):
            self.add(operator, weights[parameter.name][:, None, None])

    def squash(self, layer: str, name: str) -> None:
        if name not in SQUASHES:
            raise LenetError(f"{layer}: ONNX export knows no activation {name}")
        a = self.last
        for operator, *inputs in SQUASHES[name]:
            self.add(operator, *(a if i == "a" else i for i in inputs))
