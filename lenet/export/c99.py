"""C99 for a network: a header and a source file, with constant weights and no allocation.

A loop over the layers writes the text. Loops in C have constant bounds and every array has the
shape of its layer, which suits human readers and tools for hardware synthesis.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import zip_longest
from math import ceil, prod
from textwrap import indent, wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.errors import LenetError
from lenet.export.lowering import IMAGE_SIDE, lower
from lenet.export.quantised import RESIZE, TABLE, Quantised, whole_rows
from lenet.networks import architecture as net
from lenet.networks.checkpoint import Checkpoint

Shape = tuple[int, ...]

COLUMNS = 96  # of comments and numbers
SIZES = {"float": 4, "int8_t": 1, "uint8_t": 1, "uint16_t": 2, "int32_t": 4}  # bytes
SQUASHES = {  # activation -> C of a `total`
    "sigmoid": "1.0f / (1.0f + expf(-total))",
    "tanh": "tanhf(total)",
    "scaled-tanh": "1.7159f * tanhf(2.0f / 3.0f * total)",
    "relu": "total > 0.0f ? total : 0.0f",
    "gelu": "total / (1.0f + expf(-1.702f * total))",
    "silu": "total / (1.0f + expf(-total))",
}


@dataclass(frozen=True)
class Program:
    """C source files and their size on a device."""

    files: dict[str, str]  # name -> text: lenet.h, lenet.c, main.c
    weight_bytes: int  # constant arrays: weights, biases and tables
    memory_bytes: int  # `lenet_memory`, all that a call needs besides a little stack


class Float32:
    """Computes with float throughout, and with the functions of libm."""

    name = "float32"
    element = total = weight = bias = score = resizing = "float"
    mean = "0.25f * total"
    resized = "total"
    unit = 1.0  # the value of 1 in a score

    def __init__(self, architecture: net.Architecture, weights: net.Weights) -> None:
        self.architecture, self.weights = lower(architecture), weights

    def rows(self) -> NDArray[Any]:
        """The weights by which images are resized."""
        return self.architecture.preparation.rows(IMAGE_SIDE, IMAGE_SIDE)

    def prepared(self, pixel: str) -> str:
        """The network's input at a pixel."""
        how = self.architecture.preparation
        scaled = f"{literal('float', how.scale)} * (float)({pixel})"
        return f"{literal('float', how.background)} + {scaled}" if how.background else scaled

    def value(self, layer: net.Layer, x: str) -> str:
        """An element x of a layer's input, as a term of its sums."""
        return x

    def squashed(self, layer: net.Layer, writer: "Writer") -> str:
        """What output m of a layer passes on, computed from its `total`."""
        squash: str | None = getattr(layer, "squash", None)
        if squash and squash not in SQUASHES:
            raise LenetError(f"{layer.name}: C99 export knows no activation {squash}")
        return SQUASHES[squash] if squash else "total"


class Int8:
    """Computes with bytes, integer sums and tables of the activations: without floating point."""

    name, element, weight, resizing = "int8", "uint8_t", "int8_t", "uint16_t"
    total = bias = score = "int32_t"
    mean = "(uint8_t)((total + 2) / 4)"
    resized = f"(total + {RESIZE**2 // 2}) / {RESIZE**2}"

    def __init__(self, network: Quantised) -> None:
        self.network, self.unit = network, network.unit
        self.architecture, self.weights = network.architecture, network.weights

    def rows(self) -> NDArray[Any]:
        return whole_rows(self.architecture.preparation)

    def prepared(self, pixel: str) -> str:
        return f"(uint8_t)({pixel})"

    def value(self, layer: net.Layer, x: str) -> str:
        return f"({plus(f'(int32_t){x}', -self.network.zeros[layer.name])})"

    def squashed(self, layer: net.Layer, writer: "Writer") -> str:
        name, rescaling = layer.name, self.network.rescalings[layer.name]
        writer.constant("int32_t", f"{name}_multiplier", rescaling.multiplier)
        writer.constant("uint8_t", f"{name}_shift", rescaling.shift)
        r = f"rescaled(total, {name}_multiplier[m], {name}_shift[m])"
        is_last = layer is self.architecture.layers[-1]
        if is_last and not getattr(layer, "squash", None):
            return f"(int32_t){r}"
        byte = f"(uint8_t)clamped({plus(r, rescaling.offset)}, 255)"
        if rescaling.table is not None:
            table = writer.table(f"{name}_table", rescaling.table)
            byte = f"{table}[clamped({plus(r, rescaling.offset)}, {TABLE - 1})]"
        return plus(byte, -self.network.zeros["scores"]) if is_last else byte


class Writer:
    """Writes the functions of one network."""

    def __init__(self, numbers: Float32 | Int8) -> None:
        self.numbers = numbers
        self.constants: list[str] = []  # declarations for the next function
        self.tables: dict[bytes, str] = {}  # names by content
        self.size = 0  # bytes of all constant arrays
        how = numbers.architecture.preparation
        # Members of `lenet_memory`, and convolutions that keep one map at a time: name -> shape.
        self.members: dict[str, Shape] = {"input": (how.channels, how.size, how.size)}
        self.one_map: dict[str, Shape] = {}
        self.functions: list[str] = []
        self.calls = ["prepare(image, memory);"]
        self.preparation()
        pooled = None
        for layer, following in zip_longest(layers := numbers.architecture.layers, layers[1:]):
            if layer is pooled:
                continue
            pooled = None
            if isinstance(layer, net.Convolution) and isinstance(following, net.Pooling):
                # Maps that are pooled twice or in another order must all be kept.
                pooled = following if following.sources is None else None
            self.function(layer, pooled)

    def function(self, layer: net.Layer, pooled: net.Pooling | None) -> None:
        """Writes the function of a layer, or of a convolution with the pooling of its maps."""
        name, source = layer.name, f"memory->{list(self.members)[-1]}"
        shape = list(self.members.values())[-1]
        signature, call, result = f"{name}(lenet_memory *memory)", "memory", f"memory->{name}[m]"
        if is_last := layer is self.numbers.architecture.layers[-1]:
            signature = f"{name}(const lenet_memory *memory, lenet_score scores[LENET_CLASSES])"
            call, result = "memory, scores", "scores[m]"
        match layer:
            case net.Convolution() if pooled:
                plane = f"memory->map.{name}"
                code = self.convolution(layer, source, plane) + self.pooling(pooled, plane)
                self.one_map[name] = layer.output_shape[1:]
            case net.Convolution():
                code = self.convolution(layer, source, result)
            case net.Pooling():
                plane = f"{source}[m]"
                if layer.sources is not None:
                    self.constant("uint16_t", f"{name}_from", layer.sources)
                    plane = f"{source}[{name}_from[m]]"
                code = self.pooling(layer, plane)
            case net.Squashing():
                code = self.squashing(layer, source, shape, result)
            case net.FullConnection():
                code = self.connection(layer, source, shape, result)
            case net.Distances():
                code = self.distances(layer, source, shape, result)
            case _:
                raise LenetError(f"{name}: C99 export knows no layer of kind {layer.kind}")
        ends = pooled or layer
        if not is_last:
            self.members[ends.name] = ends.output_shape
        words = [description(layer, shape)]
        if pooled:
            words.append(description(pooled, pooled.input_shape))
        self.add(words, signature, loops({"m": ends.output_shape[0]}, code))
        self.calls.append(f"{name}({call});")

    def preparation(self) -> None:
        """Writes the function that turns an image into the network's input."""
        numbers, how = self.numbers, self.numbers.architecture.preparation
        place = f"image[({IMAGE_SIDE} * n + y) * {IMAGE_SIDE} + x]"
        if (margin := how.margin(IMAGE_SIDE)) is not None:
            words = f"the image with {margin} pixels of paper around it"
            inside = " && ".join(f"{v} >= 0 && {v} < {IMAGE_SIDE}" for v in "yx")
            pixel = f"{inside} ? {place} : 0"
            code = f"int y = i - {margin};\nint x = j - {margin};\n"
        else:
            words, pixel, rows = "the image, resized", numbers.resized, numbers.rows()
            taps = max(int(np.ptp(np.flatnonzero(row))) + 1 for row in rows)
            first = [min(int(np.flatnonzero(row)[0]), IMAGE_SIDE - taps) for row in rows]
            weights = [row[start : start + taps] for row, start in zip(rows, first, strict=True)]
            self.constant("uint8_t", "input_first", first)
            self.constant(numbers.resizing, "input_weight", weights)
            code = f"{numbers.total} total = 0;\n" + loops(
                {"u": taps, "v": taps},
                "int y = input_first[i] + u;\nint x = input_first[j] + v;\n"
                f"total += input_weight[i][u] * input_weight[j][v] * {place};\n",
            )
        code += f"memory->input[n][i][j] = {numbers.prepared(pixel)};\n"
        self.add(
            [f"Input: {shape_words(self.members['input'])}: {words}."],
            "prepare(const uint8_t image[LENET_PIXELS], lenet_memory *memory)",
            loops(dict(zip("nij", self.members["input"], strict=True)), code),
        )

    def constant(self, kind: str, name: str, values: Any) -> None:
        """Declares an array, for the next function."""
        array = np.asarray(values)
        self.size += SIZES[kind] * array.size
        declared = f"static const {kind} {name}{extent(array.shape)}"
        self.constants.append(f"{declared} = {braces(kind, array)};\n")

    def table(self, name: str, values: NDArray[np.uint8]) -> str:
        """Declares a table unless an equal one exists, and returns its name."""
        key = values.tobytes()
        if key not in self.tables:
            self.constant("uint8_t", name, values)
            self.tables[key] = name
        return self.tables[key]

    def add(self, words: Sequence[str], signature: str, body: str) -> None:
        """Adds a function, after the constants that its body needs."""
        lines = [comment(words), *self.constants, ""]
        self.constants = []
        text = f"static void {signature}\n{{\n{indent(body, '    ')}}}\n"
        self.functions.append("\n".join(lines).replace("*/\n\n", "*/\n", 1) + text)

    # Code for map or unit m of a layer

    def convolution(self, layer: net.Convolution, source: str, result: str) -> str:
        name, k, numbers = layer.name, layer.kernel, self.numbers
        inputs, height, width = layer.input_shape
        kernels = layer.kernels(numbers.weights)
        if layer.groups is None:
            kernels = kernels.reshape(layer.outputs, inputs, k, k)
            kernel, over_inputs, n = f"{name}_kernel[m][n]", loop("n", inputs), ""
        else:
            kernel, over_inputs = self.wires(layer)
            n = f"int n = {name}_from[w];\n"
        self.constant(numbers.weight, f"{name}_kernel", kernels)
        self.constant(numbers.bias, f"{name}_bias", layer.biases(numbers.weights))
        add = f"total += {kernel}[u][v] * {numbers.value(layer, f'{source}[n][y][x]')};\n"
        if layer.padding:
            add = block(f"if (y >= 0 && y < {height} && x >= 0 && x < {width})", add)
            if layer.border:
                outside = f"total += {kernel}[u][v] * {literal(numbers.total, layer.border)};\n"
                add = f"{add.rstrip()} {block('else', outside)}"
        times = f"{layer.stride} * " if layer.stride > 1 else ""
        y, x = (plus(f"{times}{index}", -layer.padding) for index in ("i + u", "j + v"))
        bias = f"{name}_bias[m]{'[i][j]' if layer.unit_biases else ''}"
        window = n + loops({"u": k, "v": k}, f"int y = {y};\nint x = {x};\n{add}")
        return loops(
            dict(zip("ij", layer.output_shape[1:], strict=True)),
            f"{numbers.total} total = {bias};\n{block(over_inputs, window)}"
            f"{result}[i][j] = {numbers.squashed(layer, self)};\n",
        )

    def wires(self, layer: net.Convolution) -> tuple[str, str]:
        """Declares the connections of maps; returns the kernel of wire w, and the head of the loop
        over the wires of map m."""
        name, pairs = layer.name, [pair for pairs in layer.wiring for pair in pairs]
        kind = "uint8_t" if max(len(pairs), layer.input_shape[0]) < 256 else "uint16_t"
        self.constant(kind, f"{name}_first", np.cumsum([0, *map(len, layer.wiring)]))
        self.constant(kind, f"{name}_from", [source for source, _ in pairs])
        kernels = [kernel for _, kernel in pairs]
        kernel = f"{name}_kernel[w]"
        if kernels != [*range(len(kernels))]:  # maps share kernels
            self.constant(kind, f"{name}_with", kernels)
            kernel = f"{name}_kernel[{name}_with[w]]"
        return kernel, f"for (int w = {name}_first[m]; w < {name}_first[m + 1]; w++)"

    def pooling(self, layer: net.Pooling, plane: str) -> str:
        name, numbers = layer.name, self.numbers
        x = f"{plane}[2 * i + u][2 * j + v]"
        if layer.squash:
            x = numbers.value(layer, x)
        if layer.method == "max":
            start, result = x.replace(" + u", "").replace(" + v", ""), "total"
            step = f"{numbers.total} x = {x};\ntotal = x > total ? x : total;\n"
        else:
            start, step = "0", f"total += {x};\n"
            result = numbers.mean if layer.method == "average" else "total"
        code = f"{numbers.total} total = {start};\n" + loops({"u": 2, "v": 2}, step)
        if layer.squash:
            coefficient, bias = (numbers.weights[p.name] for p in layer.parameters)
            share = 1.0 if layer.method == "max" else layer.share
            self.constant(numbers.weight, f"{name}_weight", share * coefficient)
            self.constant(numbers.bias, f"{name}_bias", bias)
            code += f"total = {name}_weight[m] * total + {name}_bias[m];\n"
            result = numbers.squashed(layer, self)
        elif numbers.element != numbers.total:
            result = f"({numbers.element})({result})"
        code += f"memory->{name}[m][i][j] = {result};\n"
        return loops(dict(zip("ij", layer.output_shape[1:], strict=True)), code)

    def squashing(self, layer: net.Squashing, source: str, shape: Shape, result: str) -> str:
        axes, at = indices("ij", shape[1:])
        x = self.numbers.value(layer, f"{source}[m]{at}")
        squashed = self.numbers.squashed(layer, self)
        return loops(axes, f"{self.numbers.total} total = {x};\n{result}{at} = {squashed};\n")

    def connection(self, layer: net.FullConnection, source: str, shape: Shape, result: str) -> str:
        name, numbers, (axes, at) = layer.name, self.numbers, indices("nij", shape)
        weight, bias = (numbers.weights[p.name] for p in layer.parameters)
        self.constant(numbers.weight, f"{name}_weight", weight.reshape(-1, *shape))
        self.constant(numbers.bias, f"{name}_bias", bias)
        add = f"total += {name}_weight[m]{at} * {numbers.value(layer, source + at)};\n"
        return (
            f"{numbers.total} total = {name}_bias[m];\n{loops(axes, add)}"
            f"{result} = {numbers.squashed(layer, self)};\n"
        )

    def distances(self, layer: net.Distances, source: str, shape: Shape, result: str) -> str:
        name, numbers, (axes, at) = layer.name, self.numbers, indices("nij", shape)
        self.constant(numbers.weight, f"{name}_code", layer.codes.reshape(-1, *shape))
        difference = f"{numbers.value(layer, source + at)} - {name}_code[m]{at}"
        add = f"{numbers.total} d = {difference};\ntotal += d * d;\n"
        return f"{numbers.total} total = 0;\n{loops(axes, add)}{result} = -total;\n"

    def memory(self) -> tuple[str, int]:
        """The members of `lenet_memory`, and its size in bytes."""
        element = self.numbers.element
        lines = [f"    {element} {name}{extent(shape)};" for name, shape in self.members.items()]
        units = sum(map(prod, self.members.values()))
        if self.one_map:
            maps = [f"        {element} {n}{extent(s)};" for n, s in self.one_map.items()]
            lines += ["    union {", *maps, "    } map; /* before the pooling, one at a time */"]
            units += max(map(prod, self.one_map.values()))
        return "\n".join(lines), units * SIZES[element]


def program(numbers: Float32 | Int8, model: Checkpoint, about: Sequence[str]) -> Program:
    """Writes the C of a network, whose classes, temperature and rejection threshold are `model`'s.

    `about` has the lines for the comment at the top of both files. Raises LenetError if C99 export
    does not know a layer or an activation.
    """
    writer = Writer(numbers)
    members, memory_bytes = writer.memory()
    margin = model.card.get("rejection_threshold")
    if margin is not None and numbers.name == "int8":
        margin = ceil(margin / numbers.unit)
    parts = {
        "channels": numbers.architecture.preparation.channels,
        "classes": len(model.classes),
        "score": numbers.score,
        "unit": repr(numbers.unit),
        "temperature": repr(model.temperature / numbers.unit),
        "threshold": "/* unknown */" if margin is None else f"#define LENET_THRESHOLD {margin!r}",
        "memory": members,
        "helpers": own_text("int8.c") if numbers.name == "int8" else "#include <math.h>\n",
        "functions": "\n".join(writer.functions),
        "calls": indent("\n".join(writer.calls), "    "),
        "names": ",\n".join(f"    {quoted(name)}" for name in model.classes),
        "about": comment([*about, f"Numbers: {numbers.name}."]),
    }
    files = {"main.c": own_text("main.c")}
    for name in ("lenet.h", "lenet.c"):
        # All at once, because a part may hold the name of another between @ signs.
        pieces = own_text(f"{name}.in").split("@")
        files[name] = "".join(str(parts[p]) if i % 2 else p for i, p in enumerate(pieces))
    return Program(files, writer.size, memory_bytes)


def own_text(name: str) -> str:
    """Reads a file of this folder."""
    return resources.files("lenet.export").joinpath(name).read_text(encoding="utf-8")


# C syntax


def loop(index: str, count: int) -> str:
    return f"for (int {index} = 0; {index} < {count}; {index}++)"


def loops(counts: Mapping[str, int], body: str) -> str:
    """Nested loops over the indices, the first outermost."""
    for index, count in reversed(list(counts.items())):
        body = block(loop(index, count), body)
    return body


def block(head: str, body: str) -> str:
    return f"{head} {{\n{indent(body, '    ')}}}\n"


def indices(names: str, shape: Sequence[int]) -> tuple[dict[str, int], str]:
    """The loops over an array of that shape, and the subscripts of its element in them."""
    axes = dict(zip(names, shape, strict=False))
    return axes, "".join(f"[{axis}]" for axis in axes)


def plus(words: str, number: int) -> str:
    return f"{words} {'-' if number < 0 else '+'} {abs(number)}" if number else words


def extent(shape: Sequence[int]) -> str:
    return "".join(f"[{n}]" for n in shape)


def braces(kind: str, array: NDArray[Any]) -> str:
    """An initialiser, nested as the array is."""
    if array.ndim > 1:
        return "{\n" + ",\n".join(indent(braces(kind, part), "    ") for part in array) + "\n}"
    words = ", ".join(literal(kind, value) for value in array)
    lines = wrap(words, COLUMNS - 12, break_on_hyphens=False)
    text = "\n".join(lines)
    return "{\n" + indent(text, "    ") + "\n}" if len(lines) > 1 else f"{{{text}}}"


def literal(kind: str, value: float) -> str:
    """A number in C; nine digits determine a float exactly."""
    if kind != "float":
        return str(int(value))
    digits = f"{float(np.float32(value)):.9g}"
    return digits + ("f" if "." in digits or "e" in digits else ".0f")


def comment(lines: Sequence[str]) -> str:
    """A comment, whatever the lines contain."""
    text = "\n".join("\n".join(wrap(line, COLUMNS)) for line in lines)
    safe = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return "/* " + safe.replace("*/", "* /").replace("/*", "/ *").replace("\n", "\n   ") + " */\n"


def quoted(words: str) -> str:
    """A string literal, with spaces for control characters and octal escapes for UTF-8."""
    words = "".join(c if c.isprintable() else " " for c in words)
    plain = {*range(32, 127)} - {*b'"\\?'}
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in words.encode()) + '"'


def description(layer: net.Layer, shape: Shape) -> str:
    """Describes a layer for an input of that shape."""
    words = f"{layer.name}: {layer.kind}, {shape_words(shape)} to {shape_words(layer.output_shape)}"
    if isinstance(layer, net.Convolution):
        words += f", kernels of {layer.kernel}x{layer.kernel}, padding {layer.padding}"
        words += f" of {layer.border:g}" if layer.border else ""
        words += f", stride {layer.stride}" if layer.stride > 1 else ""
        if layer.groups is not None:
            words += (
                f"; map m sums the wires {layer.name}_first[m] to {layer.name}_first[m + 1] - 1,"
                f" each from an input map ({layer.name}_from) through a kernel"
            )
    squash = getattr(layer, "squash", None)
    return f"{words}; {squash}." if squash and squash != layer.kind else f"{words}."


def shape_words(shape: Shape) -> str:
    if len(shape) == 1:
        return f"{shape[0]} units"
    maps, height, width = shape
    return f"{maps} {'map' if maps == 1 else 'maps'} of {height}x{width}"
