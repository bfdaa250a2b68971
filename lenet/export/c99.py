"""C99 for a network: one header and one source, constant weights, no allocation.

The text is made by walking through the stages of a network. Loops have constant bounds and every
array has the shape of its layer, which is what people and tools for hardware like to read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from math import prod
from textwrap import indent, wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.export.quantised import RESIZE, TABLE, Quantised
from lenet.networks.stages import (
    IMAGE_SIDE,
    Convolution,
    Dense,
    Distances,
    Pooling,
    Preparation,
    Stage,
)

NUMBERS = 84  # characters of a line of numbers
SHORT = 70  # characters of numbers that stand on the line of their array
COMMENT = 96  # characters of a line of a comment
SIZES = {"float": 4, "int8_t": 1, "uint8_t": 1, "uint16_t": 2, "int32_t": 4}  # bytes
SQUASHES = {  # name -> function in C, its definition
    "sigmoid": ("sigmoid", "1.0f / (1.0f + expf(-a))"),
    "tanh": ("tanhf", None),
    "scaled-tanh": ("scaled_tanh", "1.7159f * tanhf(2.0f / 3.0f * a)"),
    "relu": ("relu", "a > 0.0f ? a : 0.0f"),
    "gelu": ("gelu", "a / (1.0f + expf(-1.702f * a))"),
    "silu": ("silu", "a / (1.0f + expf(-a))"),
}
RESCALED = """\
/* total * multiplier / 2^shift, rounded. */
static int64_t rescaled(int32_t total, int32_t multiplier, int shift)
{
    return ((int64_t)total * multiplier + ((int64_t)1 << (shift - 1))) >> shift;
}

/* C99 leaves open what >> does to negative numbers. Here it has to keep their sign: if the
   compiler does otherwise, this array has a negative size. */
typedef char shifts_keep_signs[(-1 >> 1) == -1 ? 1 : -1];
"""
CLAMPED = """\
static uint8_t clamped(int64_t value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}
"""
LOOKED_UP = f"""\
static uint8_t looked_up(const uint8_t table[{TABLE}], int64_t index)
{{
    return table[index < 0 ? 0 : index > {TABLE - 1} ? {TABLE - 1} : index];
}}
"""


@dataclass(frozen=True)
class Program:
    """C source files, and what they take on a device.

    Attributes:
        files: name -> text: lenet.h, lenet.c, main.c.
        weight_bytes: constant arrays: weights, biases and tables.
        memory_bytes: `lenet_memory`, all that a call needs beside a little stack.
    """

    files: dict[str, str]
    weight_bytes: int
    memory_bytes: int


@dataclass
class Constants:
    """Constant arrays of one C file."""

    texts: list[str] = field(default_factory=list)
    tables: dict[bytes, str] = field(default_factory=dict)
    size: int = 0  # bytes

    def add(self, kind: str, name: str, values: Any) -> None:
        """Writes an array down."""
        array = np.asarray(values)
        self.size += SIZES[kind] * array.size
        self.texts.append(f"static const {kind} {name}{extent(array.shape)} = ")
        self.texts[-1] += f"{braces(kind, array)};\n"

    def table(self, name: str, values: NDArray[np.uint8]) -> str:
        """Writes a table down unless it is there, and returns the name under which it is found."""
        key = values.tobytes()
        if key not in self.tables:
            self.add("uint8_t", name, values)
            self.tables[key] = name
        return self.tables[key]

    def take(self) -> str:
        """What was written down since the last call, and an empty line."""
        text, self.texts = "\n".join([*self.texts, ""]), []
        return text


class Float32:
    """float throughout, and the functions of libm."""

    name = "float32"
    element = total = weight = bias = score = "float"
    unit = 1.0  # what 1 of a score stands for

    def __init__(self, how: Preparation, stages: Sequence[Stage]) -> None:
        self.how, self.stages = how, stages

    def helpers(self) -> str:
        """Functions that the layers call."""
        used = dict.fromkeys(name for stage in self.stages for name in squashes_of(stage))
        found = [SQUASHES[name] for name in used]
        return "\n".join(
            f"static float {name}(float a)\n{{\n    return {value};\n}}\n"
            for name, value in found
            if value
        )

    def prepared(self, pixel: str) -> str:
        """The input of the network for a pixel."""
        shift, scale = literal("float", self.how.shift), literal("float", self.how.scale)
        scaled = f"{scale} * (float){pixel}"
        return f"{shift} + {scaled}" if self.how.shift else scaled

    def resizing(self) -> tuple[str, NDArray[Any]]:
        """Type and values of the weights by which an image is resized."""
        return "float", self.how.rows

    def resized(self, total: str) -> str:
        """A pixel, from the total of the weights' products."""
        return total

    def value(self, layer: str, x: str) -> str:
        """An element x of a layer's input, as its sums take it."""
        return x

    def product(self, weight: str, x: str) -> str:
        return f"{weight} * {x}"

    def mean(self, total: str) -> str:
        """A quarter of the total of four elements."""
        return f"0.25f * {total}"

    def squashed(self, layer: str, squash: str | None, output: str, constants: Constants) -> str:
        """What a layer passes on for its `total`."""
        return f"{SQUASHES[squash][0]}(total)" if squash else "total"


class Int8:
    """Bytes, whole sums, and tables for what is no polynomial: no floating point at all."""

    name, element, weight = "int8", "uint8_t", "int8_t"
    total = bias = score = "int32_t"

    def __init__(self, network: Quantised) -> None:
        self.network, self.how, self.stages = network, network.preparation, network.stages
        self.unit = network.unit

    def helpers(self) -> str:
        used = self.network.rescalings.values()
        last = self.network.rescalings.get(self.stages[-1].name)
        return "\n".join(
            [
                RESCALED,
                *([CLAMPED] if any(r.table is None for r in used if r is not last) else []),
                *([LOOKED_UP] if any(r.table is not None for r in used) else []),
            ]
        )

    def prepared(self, pixel: str) -> str:
        return f"(uint8_t){pixel}"

    def resizing(self) -> tuple[str, NDArray[Any]]:
        return "uint16_t", self.how.rows

    def resized(self, total: str) -> str:
        return f"({total} + {RESIZE * RESIZE // 2}) / {RESIZE * RESIZE}"

    def value(self, layer: str, x: str) -> str:
        zero = self.network.zeros[layer]
        return f"({x} {'-' if zero > 0 else '+'} {abs(zero)})" if zero else x

    def product(self, weight: str, x: str) -> str:
        return f"(int32_t){weight} * {x}"

    def mean(self, total: str) -> str:
        return f"(uint8_t)(({total} + 2) / 4)"

    def squashed(self, layer: str, squash: str | None, output: str, constants: Constants) -> str:
        rescaling = self.network.rescalings[layer]
        constants.add("int32_t", f"{layer}_multiplier", rescaling.multiplier)
        constants.add("uint8_t", f"{layer}_shift", rescaling.shift)
        r = f"rescaled(total, {layer}_multiplier[{output}], {layer}_shift[{output}])"
        if squash is None:
            return f"(int32_t){r}"
        if rescaling.table is None:
            return f"clamped({r})"
        table = constants.table(f"{layer}_table", rescaling.table)
        return f"looked_up({table}, {r} + {rescaling.offset})"


Arithmetic = Float32 | Int8


def program(arithmetic: Arithmetic, classes: Sequence[str], about: Sequence[str]) -> Program:
    """The C of a network.

    Args:
        arithmetic: the network in the numbers that it is to be computed in.
        classes: names of the classes.
        about: lines for the comment at the top of both files.
    """
    how, stages = arithmetic.how, arithmetic.stages
    constants = Constants()
    layers, source = [], "input"
    for number, stage in enumerate(stages):
        shape = stages[number - 1].output_shape if number else (how.channels, how.side, how.side)
        layers.append(layer(stage, source, shape, arithmetic, constants))
        source = result_name(stage)
    about = [*about, f"Numbers: {arithmetic.name}."]
    text = "\n".join(
        [
            comment([*about, "Compile it with: cc -std=c99 -O2 -c lenet.c"]),
            '#include "lenet.h"\n',
            *(["#include <math.h>\n"] if isinstance(arithmetic, Float32) else []),
            "const char *const lenet_class[LENET_CLASSES] = "
            + "{\n"
            + ",\n".join(f"    {quoted(name)}" for name in classes)
            + "\n};\n",
            arithmetic.helpers(),
            preparation(how, arithmetic, constants),
            *layers,
            answer(stages),
        ]
    )
    members, memory_bytes = memory(how, stages, arithmetic)
    header = (
        HEADER.replace("@about@", comment(about))
        .replace("@channels@", str(how.channels))
        .replace("@classes@", str(len(classes)))
        .replace("@score@", arithmetic.score)
        .replace("@unit@", repr(arithmetic.unit))
        .replace("@memory@", members)
    )
    main = resources.files("lenet.export").joinpath("main.c").read_text(encoding="utf-8")
    files = {"lenet.h": header, "lenet.c": text, "main.c": main}
    return Program(files, constants.size, memory_bytes)


HEADER = """\
@about@
#ifndef LENET_H
#define LENET_H

#include <stdint.h>

#define LENET_CHANNELS @channels@
#define LENET_SIDE 28
#define LENET_PIXELS (LENET_CHANNELS * LENET_SIDE * LENET_SIDE)
#define LENET_CLASSES @classes@

typedef @score@ lenet_score;
#define LENET_SCORE_UNIT @unit@ /* what 1 of a score stands for */

/* What every layer answers, for the last image. All that a call needs beside a little stack. */
typedef struct {
@memory@
} lenet_memory;

#ifdef __cplusplus
extern "C" {
#endif

extern const char *const lenet_class[LENET_CLASSES];

/* Reads an image: rows of pixels, channel by channel, 0 is paper and 255 is ink. Fills the scores,
   of which the largest answers, and returns its class. Nothing but *memory is changed, which may
   hold anything before; calls with a memory of their own may run at the same time. */
int lenet_answer(const uint8_t image[LENET_PIXELS], lenet_score scores[LENET_CLASSES],
                 lenet_memory *memory);

#ifdef __cplusplus
}
#endif

#endif
"""


def memory(how: Preparation, stages: Sequence[Stage], arithmetic: Arithmetic) -> tuple[str, int]:
    """The members of `lenet_memory`, and its size in bytes.

    Of a convolution that is pooled only one map is kept at a time.
    """
    shapes = {"input": (how.channels, how.side, how.side)}
    shapes |= {result_name(stage): stage.output_shape for stage in stages[:-1]}
    lines = [f"    {arithmetic.element} {name}{extent(shape)};" for name, shape in shapes.items()]
    units = sum(map(prod, shapes.values()))
    maps = {s.name: (s.side, s.side) for s in stages if isinstance(s, Convolution) and s.pooling}
    if maps:
        one_map = [f"        {arithmetic.element} {n}{extent(s)};" for n, s in maps.items()]
        lines += ["    union {", *one_map, "    } map; /* before the pooling, one after another */"]
        units += max(map(prod, maps.values()))
    return "\n".join(lines), units * SIZES[arithmetic.element]


def preparation(how: Preparation, arithmetic: Arithmetic, constants: Constants) -> str:
    """The function that makes the network's input of an image."""
    side, place = how.side, f"image[({IMAGE_SIDE} * n + y) * {IMAGE_SIDE} + x]"
    if how.padding is not None:
        words = f"the image and {how.padding} pixels of paper around it"
        inside = " && ".join(f"{v} >= 0 && {v} < {IMAGE_SIDE}" for v in "yx")
        body = (
            f"int y = i - {how.padding};\nint x = j - {how.padding};\n"
            f"int pixel = {inside} ? {place} : 0;\n"
        )
        pixel = "pixel"
    else:
        words = "the image, resized"
        kind, rows = arithmetic.resizing()
        taps = max(int(np.ptp(np.flatnonzero(row))) + 1 for row in rows)
        first = [min(int(np.flatnonzero(row)[0]), IMAGE_SIDE - taps) for row in rows]
        weights = [row[start : start + taps] for row, start in zip(rows, first, strict=True)]
        constants.add("uint8_t", "input_first", first)
        constants.add(kind, "input_weight", weights)
        body = f"{arithmetic.total} total = 0;\n" + loops(
            {"u": taps, "v": taps},
            "int y = input_first[i] + u;\nint x = input_first[j] + v;\n"
            f"total += input_weight[i][u] * input_weight[j][v] * {place};\n",
        )
        pixel = f"({arithmetic.resized('total')})"
    body += f"memory->input[n][i][j] = {arithmetic.prepared(pixel)};\n"
    code = loops({"n": how.channels, "i": side, "j": side}, body)
    return (
        comment([f"Input: {shape_words((how.channels, side, side))}: {words}."])
        + constants.take()
        + function("prepare(const uint8_t image[LENET_PIXELS], lenet_memory *memory)", code)
    )


def layer(
    stage: Stage,
    source: str,
    shape: tuple[int, ...],
    arithmetic: Arithmetic,
    constants: Constants,
) -> str:
    """Comment, constants and function of one stage, whose input is the member `source`."""
    is_last = stage is arithmetic.stages[-1]
    match stage:
        case Convolution():
            words, code = convolution(stage, source, arithmetic, constants)
        case Dense():
            result = "scores[m]" if is_last else f"memory->{stage.name}[m]"
            words, code = dense(stage, source, shape, result, arithmetic, constants)
        case Distances():
            words, code = distances(stage, source, arithmetic, constants)
    signature = f"{stage.name}(lenet_memory *memory)"
    if is_last:
        scores = "lenet_score scores[LENET_CLASSES]"
        signature = f"{stage.name}(const lenet_memory *memory, {scores})"
    return comment(words) + constants.take() + function(signature, code)


def convolution(
    stage: Convolution, source: str, arithmetic: Arithmetic, constants: Constants
) -> tuple[list[str], str]:
    """What the comment says, and the code."""
    name, (inputs, height, _) = stage.name, stage.input_shape
    outputs, k, side = len(stage.bias), stage.kernels.shape[1], stage.side
    words = [
        f"{name}: {shape_words((outputs, side, side))} from {shape_words(stage.input_shape)}; "
        f"{len(stage.kernels)} kernels of {k}x{k}"
        + (f"; padding {stage.padding}" if stage.padding else "")
        + f"; {stage.squash}."
    ]
    shape = (outputs, inputs) if stage.is_full else (len(stage.kernels),)
    constants.add(arithmetic.weight, f"{name}_kernel", stage.kernels.reshape(*shape, k, k))
    constants.add(arithmetic.bias, f"{name}_bias", stage.bias)
    if stage.is_full:
        kernel, over_inputs = f"{name}_kernel[m][n]", loop("n", inputs)
    else:
        kernel, over_inputs = wires(stage, constants)
        words.append(
            f"Map m adds up the wires {name}_first[m] to {name}_first[m + 1] - 1; a wire is a map "
            f"of the input ({name}_from) seen through {kernel}."
        )
    x = arithmetic.value(name, f"memory->{source}[n][y][x]")
    add = f"total += {arithmetic.product(f'{kernel}[u][v]', x)};\n"
    if stage.padding:
        inside = " && ".join(f"{v} >= 0 && {v} < {height}" for v in "yx")
        add = block(f"if ({inside})", add)
    offset = f" - {stage.padding}" if stage.padding else ""
    window = loops({"u": k, "v": k}, f"int y = i + u{offset};\nint x = j + v{offset};\n" + add)
    if not stage.is_full:
        window = f"int n = {name}_from[w];\n{window}"
    place = f"map.{name}[i][j]" if stage.pooling else f"{name}[m][i][j]"
    code = loops(
        {"i": side, "j": side},
        f"{arithmetic.total} total = {name}_bias[m];\n{block(over_inputs, window)}"
        f"memory->{place} = {arithmetic.squashed(name, stage.squash, 'm', constants)};\n",
    )
    if stage.pooling:
        words.append(pooling_words(stage.pooling, stage.output_shape))
        code += pooling(stage.pooling, stage, arithmetic, constants)
    return words, loops({"m": outputs}, code)


def wires(stage: Convolution, constants: Constants) -> tuple[str, str]:
    """Arrays of the connections of maps; the kernel of wire w, and the loop over a map's wires."""
    name, pairs = stage.name, [pair for pairs in stage.wiring for pair in pairs]
    kind = "uint8_t" if len(pairs) < 256 else "uint16_t"
    constants.add(kind, f"{name}_first", np.cumsum([0, *map(len, stage.wiring)]))
    constants.add(kind, f"{name}_from", [source for source, _ in pairs])
    kernels = [kernel for _, kernel in pairs]
    kernel = f"{name}_kernel[w]"
    if kernels != list(range(len(kernels))):  # maps share kernels
        constants.add(kind, f"{name}_with", kernels)
        kernel = f"{name}_kernel[{name}_with[w]]"
    return kernel, f"for (int w = {name}_first[m]; w < {name}_first[m + 1]; w++)"


def pooling(
    pooling: Pooling, stage: Convolution, arithmetic: Arithmetic, constants: Constants
) -> str:
    """Code that pools one map."""
    name, x = pooling.name, f"memory->map.{stage.name}[2 * i + u][2 * j + v]"
    if pooling.kind == "max":
        begin = f"{arithmetic.element} most = memory->map.{stage.name}[2 * i][2 * j];\n"
        step = f"{arithmetic.element} x = {x};\nmost = x > most ? x : most;\n"
        result = "most"
    elif pooling.weight is None:
        begin, step = f"{arithmetic.total} total = 0;\n", f"total += {x};\n"
        result = arithmetic.mean("total")
    else:
        constants.add(arithmetic.weight, f"{name}_weight", pooling.weight)
        constants.add(arithmetic.bias, f"{name}_bias", pooling.bias)
        begin = f"{arithmetic.total} total = {name}_bias[m];\n"
        step = f"total += {arithmetic.product(f'{name}_weight[m]', arithmetic.value(name, x))};\n"
        result = arithmetic.squashed(name, pooling.squash, "m", constants)
    side = stage.output_shape[1]
    end = f"memory->{name}[m][i][j] = {result};\n"
    return loops({"i": side, "j": side}, begin + loops({"u": 2, "v": 2}, step) + end)


def dense(
    stage: Dense,
    source: str,
    shape: tuple[int, ...],
    result: str,
    arithmetic: Arithmetic,
    constants: Constants,
) -> tuple[list[str], str]:
    name, outputs = stage.name, len(stage.bias)
    constants.add(arithmetic.weight, f"{name}_weight", stage.weight.reshape(outputs, *shape))
    constants.add(arithmetic.bias, f"{name}_bias", stage.bias)
    axes = dict(zip("nij" if len(shape) == 3 else "n", shape, strict=True))
    at = "".join(f"[{axis}]" for axis in axes)
    x = arithmetic.value(name, f"memory->{source}{at}")
    add = f"total += {arithmetic.product(f'{name}_weight[m]{at}', x)};\n"
    value = arithmetic.squashed(name, stage.squash, "m", constants)
    code = loops(
        {"m": outputs},
        f"{arithmetic.total} total = {name}_bias[m];\n{loops(axes, add)}{result} = {value};\n",
    )
    bend = f"; {stage.squash}" if stage.squash else ""
    return [f"{name}: {outputs} units, each sees all of {shape_words(shape)}{bend}."], code


def distances(
    stage: Distances, source: str, arithmetic: Arithmetic, constants: Constants
) -> tuple[list[str], str]:
    name, (outputs, inputs) = stage.name, stage.codes.shape
    constants.add(arithmetic.weight, f"{name}_code", stage.codes)
    difference = f"{arithmetic.value(name, f'memory->{source}[n]')} - {name}_code[m][n]"
    code = loops(
        {"m": outputs},
        f"{arithmetic.total} total = 0;\n"
        + loops({"n": inputs}, f"{arithmetic.total} d = {difference};\ntotal += d * d;\n")
        + "scores[m] = -total;\n",
    )
    return [f"{name}: minus the squared distance to each of {outputs} codes."], code


def answer(stages: Sequence[Stage]) -> str:
    calls = [f"{stage.name}(memory);" for stage in stages[:-1]]
    lines = [
        "prepare(image, memory);",
        *calls,
        f"{stages[-1].name}(memory, scores);",
        "int best = 0;",
        "for (int m = 1; m < LENET_CLASSES; m++) {",
        "    if (scores[m] > scores[best]) {",
        "        best = m;",
        "    }",
        "}",
        "return best;",
    ]
    return (
        "int lenet_answer(const uint8_t image[LENET_PIXELS], lenet_score scores[LENET_CLASSES],\n"
        "                 lenet_memory *memory)\n{\n" + indent("\n".join(lines), "    ") + "\n}\n"
    )


# Words and their order in C


def function(signature: str, body: str) -> str:
    return f"static void {signature}\n{{\n{indent(body, '    ')}}}\n"


def loop(index: str, count: int) -> str:
    return f"for (int {index} = 0; {index} < {count}; {index}++)"


def loops(counts: Mapping[str, int], body: str) -> str:
    """Nested loops over the indices, the first outermost."""
    for index, count in reversed(list(counts.items())):
        body = block(loop(index, count), body)
    return body


def block(head: str, body: str) -> str:
    return f"{head} {{\n{indent(body, '    ')}}}\n"


def braces(kind: str, array: NDArray[Any]) -> str:
    """An initialiser, nested as the array is."""
    if array.ndim > 1:
        return "{\n" + ",\n".join(indent(braces(kind, part), "    ") for part in array) + "\n}"
    lines = [""]
    for value in array:
        word = literal(kind, value) + ", "
        if len(lines[-1]) + len(word) > NUMBERS:
            lines.append("")
        lines[-1] += word
    text = "\n".join(line.rstrip() for line in lines).rstrip(",")
    return "{\n" + indent(text, "    ") + "\n}" if len(text) > SHORT else f"{{{text}}}"


def literal(kind: str, value: float) -> str:
    """A number in C; nine digits bring a float back exactly."""
    if kind != "float":
        return str(int(value))
    digits = f"{float(np.float32(value)):.9g}"
    return digits + ("f" if "." in digits or "e" in digits else ".0f")


def comment(lines: Sequence[str]) -> str:
    """A comment, whatever the lines hold."""
    text = "\n".join("\n".join(wrap(line, COMMENT)) for line in lines)
    safe = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return "/* " + safe.replace("*/", "* /").replace("/*", "/ *").replace("\n", "\n   ") + " */\n"


def quoted(words: str) -> str:
    """A string literal; all but plain ASCII as octal escapes of its UTF-8, controls as spaces."""
    words = "".join(c if c.isprintable() else " " for c in words)
    plain = {*range(32, 127)} - {*b'"\\?'}
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in words.encode()) + '"'


def extent(shape: tuple[int, ...]) -> str:
    return "".join(f"[{n}]" for n in shape)


def shape_words(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"{shape[0]} units"
    maps, height, width = shape
    return f"{maps} {'map' if maps == 1 else 'maps'} of {height}x{width}"


def pooling_words(pooling: Pooling, shape: tuple[int, int, int]) -> str:
    how = {
        "average": "the mean of each 2x2",
        "max": "the largest of each 2x2",
        "sum": f"weight times the sum of each 2x2, plus bias; {pooling.squash}",
    }
    return f"{pooling.name}: {shape_words(shape)}; {how[pooling.kind]}."


def result_name(stage: Stage) -> str:
    """The member of `lenet_memory` that a stage fills."""
    if isinstance(stage, Convolution) and stage.pooling:
        return stage.pooling.name
    return stage.name


def squashes_of(stage: Stage) -> list[str]:
    """Squashing functions that a stage calls."""
    own = None if isinstance(stage, Distances) else stage.squash
    of_pooling = stage.pooling.squash if isinstance(stage, Convolution) and stage.pooling else None
    return [name for name in (own, of_pooling) if name]
