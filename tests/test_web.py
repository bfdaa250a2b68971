"""The REST interface, asked without a port: right answers, clear errors, limits that hold."""

import asyncio
import base64
import contextlib
import io
import json
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from conftest import TRAIN
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from paired import Paired
from PIL import Image

from lenet.data.pictures.preprocess import preprocess
from lenet.engine.scores import scorer
from lenet.errors import LenetError
from lenet.networks import checkpoint
from lenet.networks import torch as networks
from lenet.networks.architecture import LeNet, LeNet5, LeNet5s, Options
from lenet.reading.formats import Expected
from lenet.reading.prediction import Predictor
from lenet.reading.reader import THRESHOLD, Reader
from lenet.web import Limits, app, bodies
from lenet.web.layers import Layer, input_of, layers_of
from lenet.web.problems import Problem
from lenet.web.work import Batcher

Digits = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Ask = Callable[..., httpx.Response]

SLOW_OR_FILTERED = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)
SECURITY = {
    "content-security-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "referrer-policy",
    "x-content-type-options",
    "x-frame-options",
}


async def gather(application: FastAPI, *requests: httpx.Request) -> list[httpx.Response]:
    """Sends requests to the application at one time."""
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport) as client:
        return await asyncio.gather(*(client.send(request) for request in requests))


def request(method: str, path: str, host: str = "test", **kwargs: Any) -> httpx.Request:
    return httpx.Request(method, f"http://{host}{path}", **kwargs)


def asking(application: FastAPI) -> Ask:
    def ask(method: str, path: str, **kwargs: Any) -> httpx.Response:
        return asyncio.run(gather(application, request(method, path, **kwargs)))[0]

    return ask


@pytest.fixture(scope="module")
def service(reader: Path) -> FastAPI:
    return app([reader])


@pytest.fixture(scope="module")
def ask(service: FastAPI) -> Ask:
    return asking(service)


def picture(
    digit: NDArray[np.uint8], form: str = "PNG", side: int | tuple[int, int] = 140
) -> bytes:
    """The digit as dark ink on white paper, as a file."""
    file = io.BytesIO()
    size = side if isinstance(side, tuple) else (side, side)
    Image.fromarray(255 - digit).resize(size, Image.Resampling.BICUBIC).save(file, form)
    return file.getvalue()


def parts(*files: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{number}.png", file)) for number, file in enumerate(files)]


def in_json(*files: bytes) -> dict[str, list[str]]:
    return {"images": [base64.b64encode(file).decode() for file in files]}


def numbers(array: dict[str, Any]) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(array["data"]), "<f4").reshape(array["shape"])


def problem(answer: httpx.Response, status: int) -> str:
    """Checks that the answer is an error in the one format; gives its sentence."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers.keys() >= SECURITY
    details = answer.json()
    assert details.keys() == {"type", "title", "status", "detail"}
    assert details["status"] == status
    return details["detail"]


# Answers


@pytest.mark.parametrize("way", ["multipart", "json"])
def test_predict_answers_as_the_predictor_does(
    way: str, ask: Ask, reader: Path, digits: Digits
) -> None:
    files = [picture(digit) for digit in digits[0][TRAIN : TRAIN + 7]]
    sent = {"files": parts(*files)} if way == "multipart" else {"json": in_json(*files)}
    answer = ask("POST", "/v1/predict", **sent)
    assert answer.status_code == 200
    assert answer.headers.keys() >= SECURITY
    assert answer.json()["model"] == reader.name
    predictor = Predictor(reader)
    for found, file in zip(answer.json()["answers"], files, strict=True):
        expected = predictor.predict(file)
        assert found["label"] == expected.label
        assert found["rejected"] == expected.rejected
        assert found["reason"] == expected.reason
        assert tuple(found["box"]) == expected.box
        assert found["probabilities"] == pytest.approx(expected.probabilities, abs=2e-5)


def test_a_picture_without_a_digit_is_an_answer(ask: Ask, reader: Path) -> None:
    blank = io.BytesIO()
    Image.new("L", (60, 60), 255).save(blank, "PNG")
    [found] = ask("POST", "/v1/predict", files=parts(blank.getvalue())).json()["answers"]
    assert found == {
        "label": None,
        "probabilities": {},
        "rejected": True,
        "reason": "empty",
        "box": None,
    }
    trace = ask("POST", "/v1/trace", files=parts(blank.getvalue())).json()
    assert trace["layers"] == []
    assert trace["image"] is None


@pytest.mark.parametrize("manner", ["digit", "plain", "none"])
def test_preprocessing_can_be_chosen(manner: str, ask: Ask, digits: Digits) -> None:
    digit = digits[0][TRAIN]
    file = io.BytesIO()
    Image.fromarray(digit).save(file, "PNG")
    answer = ask("POST", f"/v1/trace?preprocessing={manner}", files=parts(file.getvalue())).json()
    seen = np.frombuffer(base64.b64decode(answer["image"]["data"]), np.uint8).reshape(28, 28)
    expected = preprocess(file.getvalue()).image if manner == "digit" else digit
    np.testing.assert_array_equal(seen, expected)


def test_trace_is_every_layer(ask: Ask, reader: Path, digits: Digits) -> None:
    file = picture(digits[0][TRAIN])
    answer = ask("POST", "/v1/trace", files=parts(file)).json()
    image = preprocess(file).image
    assert image is not None
    model = networks.load(reader)
    x = model.prepare(image[None])
    expected = {"input": x, **networks.trace(model, x)}
    assert [layer["name"] for layer in answer["layers"]] == list(expected)
    for layer in answer["layers"]:
        found = numbers(layer)
        np.testing.assert_allclose(found, expected[layer["name"]][0].detach(), rtol=1e-4, atol=1e-4)
    [predicted] = ask("POST", "/v1/predict", files=parts(file)).json()["answers"]
    assert answer["answer"]["label"] == predicted["label"]
    assert [step["name"] for step in answer["steps"]][-1] == "28x28"


def test_placement_says_where_the_digit_was(ask: Ask) -> None:
    page = np.full((200, 300), 255, np.uint8)
    page[60:140, 180:200] = 0  # a bar: a fifth as wide as it is high ...
    page[60:80, 180:220] = 0  # ... with a foot
    file = io.BytesIO()
    Image.fromarray(page).save(file, "PNG")
    answer = ask("POST", "/v1/trace", files=parts(file.getvalue())).json()
    left, top, right, bottom = answer["placement"]["box"]
    assert (left, right) == pytest.approx((180 / 300, 220 / 300), abs=0.01)
    assert (top, bottom) == pytest.approx((60 / 200, 140 / 200), abs=0.01)
    x0, y0, x1, y1 = answer["placement"]["field"]
    assert (x1 - x0, y1 - y0) == pytest.approx((10, 20), abs=1.01)
    seen = np.frombuffer(base64.b64decode(answer["image"]["data"]), np.uint8).reshape(28, 28)
    rows, columns = np.nonzero(seen > 100)
    assert (columns.min(), rows.min()) == pytest.approx((x0, y0), abs=1)
    assert (columns.max() + 1, rows.max() + 1) == pytest.approx((x1, y1), abs=1)


# What the page explains


def layer_by_description(layer: Layer, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the layer gives for the maps of the one before, from its description alone."""

    def array(part: Any) -> NDArray[np.float32]:
        return numbers(part.model_dump())

    maps, k = layer.shape[0], layer.window
    height, width = (*layer.shape, 1, 1)[1:3]
    every = [[(i, o * len(x) + i) for i in range(len(x))] for o in range(maps)]
    x = np.pad(x, ((0, 0), *[(layer.padding, layer.padding)] * 2))
    kernels = None if layer.kernels is None else array(layer.kernels).astype(float)
    sums = np.zeros((maps, height, width))
    for o, reads in enumerate(layer.connections or every):
        for i, number in reads:
            kernel = np.ones((k, k)) if kernels is None else kernels[number]
            for row, column in np.ndindex(height, width):
                y, x0 = row * layer.stride, column * layer.stride
                seen = x[i, y : y + k, x0 : x0 + k]
                match layer.operation:
                    case "sum":
                        sums[o, row, column] += (seen * kernel).sum()
                    case "maximum":
                        sums[o, row, column] += kernel[0, 0] * seen.max()
                    case "distances":
                        sums[o, row, column] -= np.square(seen - kernel).sum()
    if layer.biases is not None:
        sums += array(layer.biases)[:, None, None]
    squash: dict[str | None, Callable[[NDArray], NDArray]] = {
        None: lambda a: a,
        "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
        "tanh": np.tanh,
        "scaled-tanh": lambda a: 1.7159 * np.tanh(2 / 3 * a),
        "relu": lambda a: np.maximum(a, 0),
        "gelu": lambda a: a / (1 + np.exp(-1.702 * a)),
    }
    return squash[layer.squash](sums)


@pytest.mark.parametrize(
    "options",
    [
        LeNet(),
        LeNet(activation="gelu", pooling="max", padding=(0,), input_size=32, init="torch"),
        LeNet(activation="relu", channels=(4,), hidden=(), init="torch"),
        LeNet(activation="tanh", channels=(), kernel_sizes=(), padding=(), hidden=(20, 30)),
        LeNet(channels=(3, 5, 7), kernel_sizes=(3,), hidden=(11,), input_size=24, init="torch"),
        LeNet5(),
        LeNet5(subsampling="sum", head="softmax"),
        LeNet5s(),
        Paired(),
    ],
    ids=["d2l", "gelu", "one", "none", "three", "LeNet5", "softmax", "LeNet5s", "paired"],
)
def test_the_description_gives_the_networks_own_answers(options: Options, digits: Digits) -> None:
    architecture = options.architecture()
    weights = architecture.initial_weights(0)
    layers = layers_of(architecture, weights)
    model = networks.from_architecture(architecture, weights)
    x = model.prepare(digits[0][:1])
    expected = {"input": x, **networks.trace(model, x)}
    assert list(input_of(architecture.preparation).shape) == list(x.shape[1:])
    assert layers[-1].answers == list(expected)[-1]
    answers = x[0].double().numpy()
    for layer in layers:
        answers = layer_by_description(layer, answers)
        theirs = expected[layer.answers][0].detach().numpy()
        assert list(theirs.shape) == layer.shape
        np.testing.assert_allclose(
            answers.ravel(), theirs.ravel(), rtol=1e-4, atol=1e-4, err_msg=layer.name
        )


def test_more_channels_than_pictures_have(tmp_path: Path) -> None:
    colour = LeNet().architecture(in_channels=3)
    checkpoint.write(tmp_path / "x.safetensors", colour, colour.initial_weights(0), {})
    with pytest.raises(LenetError, match="reads 3 channels"):
        app([tmp_path / "x.safetensors"])


@pytest.mark.parametrize("options", [LeNet(), LeNet(input_size=20), LeNet5(), LeNet5s()])
def test_the_input_lies_where_the_description_says(options: Options) -> None:
    architecture = options.architecture()
    field = input_of(architecture.preparation)
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 8:12, 15:19] = 255
    prepared = (
        networks.from_architecture(architecture, architecture.initial_weights(0))
        .prepare(image)[0, 0]
        .numpy()
    )
    ink = prepared - prepared.min()
    centre = (ink.sum(0) @ np.arange(len(ink)) + 0.5 * ink.sum()) / ink.sum()
    assert centre == pytest.approx(field.offset + field.scale * 17, abs=0.1)


def test_models(ask: Ask, reader: Path) -> None:
    found, segments = ask("GET", "/v1/models").json()["models"]
    assert found["name"] == reader.name
    assert not found["segments"]
    assert segments["name"] == "numbers"
    assert segments["segments"]
    assert found["parameters"] == 61_706
    assert found["classes"] == list("0123456789")
    whole = ask("GET", f"/v1/models/{reader.name}").json()
    assert {name: whole[name] for name in found} == found
    assert [layer["name"] for layer in whole["layers"]] == [
        "C1",
        "S2",
        "C3",
        "S4",
        "C5",
        "F6",
        "output",
    ]


def test_pretrained_networks_are_the_default() -> None:
    found = asking(app())("GET", "/v1/models").json()["models"]
    assert found[0]["name"] == "digits"
    names = [model["name"] for model in found]
    assert sorted(names[:-1]) == checkpoint.pretrained_names()
    assert names[-1] == "numbers"


def test_examples(ask: Ask, reader: Path, digits: Digits) -> None:
    images, labels = digits
    example = ask("GET", "/v1/examples/random").json()
    index = TRAIN + example["index"]
    assert base64.b64decode(example["image"]["data"]) == images[index].tobytes()
    assert example["label"] == str(labels[index])

    found = ask("GET", "/v1/examples/mistakes").json()
    answers = networks.scores(networks.load(reader), images[TRAIN:]).argmax(1)
    assert found["errors"] == (answers != labels[TRAIN:]).sum()
    assert found["images"] == len(images) - TRAIN
    margins = [mistake["margin"] for mistake in found["mistakes"]]
    assert margins == sorted(margins, reverse=True)
    for mistake in found["mistakes"]:
        assert mistake["answer"] == str(answers[mistake["index"]]) != mistake["label"]


def test_examples_need_the_test_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("LENET_DATA", str(tmp_path))
    answer = asking(app(["lenet5-1998"]))("GET", "/v1/examples/random")
    assert "`lenet data mnist` gets it" in problem(answer, 404)
    assert not list(tmp_path.iterdir())


def test_two_models_of_one_name(reader: Path) -> None:
    with pytest.raises(LenetError, match="two models are called"):
        app([reader, reader])


# Errors


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "words"),
    [
        ("POST", "/v1/predict", {}, 415, "multipart/form-data or application/json"),
        ("POST", "/v1/predict", {"content": b"x"}, 415, "multipart"),
        ("POST", "/v1/predict", {"json": {}}, 422, "images"),
        ("POST", "/v1/predict", {"json": {"images": []}}, 422, "1 to 64"),
        ("POST", "/v1/predict", {"json": {"images": ["?"]}}, 422, "base64"),
        ("POST", "/v1/predict", {"json": {"images": ["aGk="]}}, 422, "not a picture"),
        ("POST", "/v1/predict", {"json": {"images": ["aGk="], "x": 1}}, 422, "x: "),
        ("POST", "/v1/predict", {"json": [1]}, 422, "object"),
        ("POST", "/v1/predict", {"files": parts(b"junk")}, 422, "not a picture"),
        ("POST", "/v1/predict", {"files": parts(b"")}, 422, "empty"),
        ("POST", "/v1/predict", {"files": [("photo", b"junk")]}, 422, "'photo'"),
        ("POST", "/v1/predict", {"files": parts(*[b"x"] * 65)}, 422, "1 to 64"),
        ("POST", "/v1/predict", {"json": in_json(*[b"x"] * 65)}, 422, "1 to 64"),
        ("POST", "/v1/predict", {"files": []}, 415, "multipart"),
        ("POST", "/v1/trace", {"json": in_json(b"x", b"x")}, 422, "1 to 1"),
        ("POST", "/v1/read", {"content": b"x"}, 415, "multipart"),
        ("POST", "/v1/read", {"json": in_json(*[b"x"] * 65)}, 422, "1 to 64"),
        ("POST", "/v1/read", {"files": parts(b"junk")}, 422, "not a picture"),
        ("POST", "/v1/read?format=x", {"files": parts(b"x")}, 422, "query.format"),
        ("POST", "/v1/read?format=,", {"files": parts(b"x")}, 422, "query.format"),
        ("POST", "/v1/read?format=" + "%23" * 101, {"files": parts(b"x")}, 422, "100"),
        ("POST", "/v1/read?length=0", {"files": parts(b"x")}, 422, "query.length"),
        ("POST", "/v1/read?length=-1", {"files": parts(b"x")}, 422, "query.length"),
        ("POST", "/v1/read?range=9", {"files": parts(b"x")}, 422, "query.range"),
        ("POST", "/v1/read?check=isbn", {"files": parts(b"x")}, 422, "luhn"),
        ("POST", "/v1/read?threshold=nan", {"files": parts(b"x")}, 422, "threshold"),
        ("POST", "/v1/read/trace", {"files": parts(b"junk")}, 422, "not a picture"),
        ("POST", "/v1/read/trace", {"json": in_json(b"x", b"x")}, 422, "1 to 1"),
        ("POST", "/v1/predict?model=nope", {"files": parts(b"x")}, 404, "no model 'nope'"),
        ("POST", "/v1/predict?preprocessing=x", {"files": parts(b"x")}, 422, "preprocessing"),
        ("GET", "/v1/models/nope", {}, 404, "no model 'nope'"),
        ("GET", "/v1/predict", {}, 405, ""),
        ("GET", "/v1/nothing", {}, 404, ""),
        ("DELETE", "/", {}, 405, ""),
    ],
)
def test_errors_have_one_format(
    method: str, path: str, sent: dict[str, Any], status: int, words: str, ask: Ask
) -> None:
    assert words in problem(ask(method, path, **sent), status)


@pytest.mark.parametrize(
    "body",
    [
        b'{"images": [' + b"0," * 8_000_000 + b"0]}",
        b'{"images": ' + b"[" * 10_000_000,
        b'{"images": [' + b"{}," * 5_000_000 + b"0]}",
        b'{"images": [' + b"0," * 900 + b"0]}",
        b'{"' + b"x" * 10_000_000 + b'": 0}',
        b'{"images": [' + b"9" * 10_000_000 + b"]}",
    ],
    ids=["numbers", "brackets", "objects", "fewer", "key", "number"],
)
def test_json_that_would_be_costly(body: bytes, ask: Ask) -> None:
    """Neither is it built up, nor is every fault in it told."""
    headers = {"content-type": "application/json"}
    tracemalloc.start()
    answer = ask("POST", "/v1/predict", content=body, headers=headers)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(problem(answer, 422)) < 700
    assert peak < 5 * len(body) + 1_000_000


PART = b'--b\r\nContent-Disposition: form-data; name="images"\r\n\r\nx\r\n'


@pytest.mark.parametrize(
    ("kind", "content", "status"),
    [
        ("", b"x", 400),
        ("; boundary=b", b"", 400),
        ("; boundary=c", PART + b"--b--", 400),
        ("; boundary=b", b"--b\r\nno header\r\n\r\n", 400),
        ("; boundary=b", b"--b\r\nContent-Disposition: x\r\n\r\n1\r\n--b--", 400),
        ("; boundary=b", PART, 400),
        ("; boundary=b", b"--b\r\n" + b"a: b\r\n" * 1_000_000 + PART + b"--b--", 400),
        ("; boundary=b", b"--b--", 422),
        ("; boundary=b", PART * 100_000 + b"--b--", 422),
    ],
)
def test_a_malformed_form(kind: str, content: bytes, status: int, ask: Ask) -> None:
    headers = {"content-type": f"multipart/form-data{kind}"}
    problem(ask("POST", "/v1/predict", content=content, headers=headers), status)


@pytest.mark.fuzz
@given(files=st.lists(st.binary(max_size=80), min_size=1, max_size=64), cut=st.integers(0, 200))
def test_forms_and_json_hold_the_files_that_were_sent(files: list[bytes], cut: int) -> None:
    form = request("POST", "/", files=parts(*files))
    body, kind = form.read(), form.headers["content-type"]
    assert bodies.files_in_form(body, kind, 64) == files
    body_of_json = json.dumps(in_json(*files)).encode()
    assert bodies.files_in_json(body_of_json, 64) == files
    with pytest.raises(Problem):
        bodies.files_in_json(body_of_json[:-1], 64)
    if cut < len(body):  # it ends too early
        with contextlib.suppress(Problem):
            assert len(bodies.files_in_form(body[: len(body) - cut], kind, 64)) == len(files)


@pytest.mark.fuzz
@given(data=st.data())
def test_other_bodies_are_refused(data: st.DataObject) -> None:
    words = (b"--b", b"--", b"\r\n", b"images", b'Content-Disposition: form-data; name="', b'"')
    piece = st.one_of(
        st.sampled_from((*words, b"[", b"]", b"{", b":", b",")), st.binary(max_size=9)
    )
    body = b"".join(data.draw(st.lists(piece, max_size=40)))
    kind = data.draw(st.sampled_from(["", "; boundary=b", '; boundary="b"', "; boundary="]))
    for files_in in (
        lambda: bodies.files_in_form(body, "multipart/form-data" + kind, 3),
        lambda: bodies.files_in_json(body, 3),
    ):
        status, detail, files = 422, "", [b""]
        try:
            files = files_in()
        except Problem as problem:
            status, detail = problem.status_code, problem.detail
        assert status in (400, 422)
        assert len(detail) < 300
        assert 1 <= len(files) <= 3
        assert sum(map(len, files)) <= len(body)


def test_uploads_need_no_disk(ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    page = np.random.default_rng(0).integers(0, 256, (1200, 1200), np.uint8)
    file = io.BytesIO()
    Image.fromarray(page).save(file, "PNG")
    assert ask("POST", "/v1/predict", files=parts(file.getvalue())).status_code == 200


def test_many_large_pictures_in_one_request(reader: Path, digits: Digits) -> None:
    """They come one after the other and do not fill the queue of large pictures."""
    files = parts(*[picture(digits[0][0], side=1100)] * 12)
    answer = asking(app([reader], Limits(large_waiting=2)))("POST", "/v1/predict", files=files)
    assert answer.status_code == 200
    assert len(answer.json()["answers"]) == 12


@pytest.mark.parametrize(
    "text", ["?model=%ED%A0%80", "?model=%00", "?model=" + "x" * 3000, "?threshold=1e999"]
)
def test_odd_queries(text: str, ask: Ask, digits: Digits) -> None:
    answer = ask("POST", "/v1/read" + text, files=parts(picture(digits[0][0])))
    assert answer.status_code in (200, 404, 422)
    answer = ask("POST", "/v1/predict" + text, files=parts(picture(digits[0][0])))
    assert answer.status_code in (200, 404, 422)
    assert len(answer.content) < 4000


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/read"])
def test_a_bad_picture_fails_alone(path: str, ask: Ask, digits: Digits) -> None:
    files = [picture(digits[0][0]), b"junk", picture(digits[0][1])]
    answers = ask("POST", path, files=parts(*files)).json()["answers"]
    alone = [ask("POST", path, files=parts(file)) for file in files]
    assert answers[0::2] == [answer.json()["answers"][0] for answer in alone[0::2]]
    assert answers[1] == {"error": alone[1].json()}


def test_an_unforeseen_failure_says_nothing_of_its_inside(
    reader: Path, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lenet.reading.prediction.Predictor.answer", lambda *_: 1 / 0)
    answer = asking(app([reader]))("POST", "/v1/predict", files=parts(picture(digits[0][0])))
    assert "division" not in problem(answer, 500)


def test_hosts_and_origins(reader: Path) -> None:
    guarded = asking(app([reader], hosts={"localhost", "[::1]"}))
    assert guarded("GET", "/healthz", host="localhost:8028").json() == {"status": "ok"}
    assert guarded("GET", "/healthz", host="[::1]:8028").status_code == 200
    assert "evil.example" in problem(guarded("GET", "/healthz", host="evil.example"), 421)
    problem(guarded("GET", "/healthz", headers={"host": "[::1].evil.example"}), 421)
    elsewhere = {"origin": "http://evil.example"}
    for foreign in ({"sec-fetch-site": "cross-site", **elsewhere}, elsewhere, {"origin": "null"}):
        answer = guarded("POST", "/v1/predict", host="localhost", headers=foreign)
        problem(answer, 403)
        assert "access-control-allow-origin" not in answer.headers
    for own in (
        {"origin": "http://localhost"},
        {"sec-fetch-site": "same-origin", "origin": "http://a.proxy"},
    ):
        problem(guarded("POST", "/v1/predict", host="localhost", headers=own), 415)


def test_the_page_runs_nothing_from_elsewhere(ask: Ask) -> None:
    for path in ("/", "/docs.html"):
        answer = ask("GET", path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert "http://" not in answer.text.replace("http://www.w3.org", "")
        assert "https://" not in answer.text
        assert " style=" not in answer.text
        assert "onclick" not in answer.text
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert ask("GET", "/docs").status_code == 404  # FastAPI's own would load scripts from a CDN


# Limits


def test_limits_of_size(reader: Path, digits: Digits) -> None:
    limited = asking(app([reader], Limits(body_bytes=20_000, pixels=10_000)))
    small = picture(digits[0][0], side=90)
    assert limited("POST", "/v1/predict", files=parts(small)).status_code == 200
    large = limited("POST", "/v1/predict", files=parts(picture(digits[0][0], side=140)))
    assert "more than 10,000 pixels" in problem(large, 413)
    for size in (20_000, 70_000, 200_000):
        answer = limited("POST", "/v1/predict", files=parts(bytes(size)))
        assert "20,000 bytes" in problem(answer, 413)
        assert answer.headers["connection"] == "close"


def test_a_decompression_bomb_is_refused_before_it_is_decoded(ask: Ask) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(30_001) * 1000)  # what is missing does not matter
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows)
    assert "pixels" in problem(ask("POST", "/v1/predict", files=parts(bomb)), 413)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Preprocessing waits until this is set."""
    opened = threading.Event()

    def waiting(*arguments: Any) -> Any:
        opened.wait(20)
        return preprocess(*arguments)

    monkeypatch.setattr("lenet.web.model.MANNERS", {"digit": waiting, "none": preprocess})
    return opened


@pytest.mark.parametrize(
    ("limits", "answered"),
    [(Limits(workers=1, waiting=2), 3), (Limits(requests=4), 4)],
)
def test_too_many_at_one_time(
    limits: Limits, answered: int, gate: threading.Event, reader: Path, digits: Digits
) -> None:
    service = app([reader], limits)
    file = picture(digits[0][0])

    async def flood() -> list[httpx.Response]:
        tasks = [
            asyncio.create_task(gather(service, request("POST", "/v1/predict", files=parts(file))))
            for _ in range(10)
        ]
        done, _ = await asyncio.wait(tasks, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert done
        gate.set()
        return [answer for task in tasks for answer in await task]

    answers = asyncio.run(flood())
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(answers) - len(refused) == answered
    for answer in refused:
        assert "try again" in problem(answer, 503)
        assert answer.headers["retry-after"] == "1"
    again = asking(service)("POST", "/v1/predict", files=parts(file))
    assert again.status_code == 200


def test_an_answer_that_takes_too_long(gate: threading.Event, reader: Path, digits: Digits) -> None:
    impatient = asking(app([reader], Limits(seconds=0.2)))
    answer = impatient("POST", "/v1/predict", files=parts(picture(digits[0][0])))
    gate.set()
    assert "longer than 0.2 s" in problem(answer, 503)


def test_large_pictures_do_not_hold_up_small_ones(
    gate: threading.Event, reader: Path, digits: Digits
) -> None:
    service = app([reader])
    large, small = picture(digits[0][0], side=1100), picture(digits[0][0], side=90)

    async def mixed() -> None:
        slow = [
            asyncio.create_task(gather(service, request("POST", "/v1/predict", files=parts(large))))
            for _ in range(5)
        ]
        path = "/v1/predict?preprocessing=none"
        [answer] = await gather(service, request("POST", path, files=parts(small)))
        assert answer.status_code == 200
        assert not any(task.done() for task in slow)
        gate.set()
        for task in slow:
            assert (await task)[0].status_code == 200

    asyncio.run(mixed())


# Batches


def test_what_waits_is_one_call() -> None:
    calls = []
    started, go_on = threading.Event(), threading.Event()

    def scores(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        calls.append(len(images))
        started.set()
        go_on.wait(10)
        if (images == 13).any():
            raise LenetError("thirteen")
        return images[:, 0, :3].astype(np.float32)

    batcher = Batcher(scores, most=8)
    with ThreadPoolExecutor(16) as threads:
        answers = [threads.submit(batcher, np.full((28, 28), 0, np.uint8))]
        assert started.wait(10)
        for value in range(1, 16):
            answers.append(threads.submit(batcher, np.full((28, 28), value, np.uint8)))
            while len(batcher.waiting) < value:
                time.sleep(0.001)
        go_on.set()
    assert calls == [1, 8, 7]
    for value, answer in enumerate(answers):
        if value >= 9:  # in a batch with the thirteen
            assert isinstance(answer.exception(), LenetError)
        else:
            np.testing.assert_array_equal(answer.result(), np.full(3, value, np.float32))


def test_concurrent_requests_share_engine_calls(
    reader: Path, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def slow_scorer(*arguments: Any, **options: Any) -> Callable[..., NDArray[np.float32]]:
        scores = scorer(*arguments, **options)

        def slowly(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            sizes.append(len(images))
            time.sleep(0.3)
            return scores(images)

        return slowly

    monkeypatch.setattr("lenet.reading.prediction.scorer", slow_scorer)
    service = app([reader], Limits(workers=12))
    files = [picture(digit, side=90) for digit in digits[0][:12]]
    requests = [request("POST", "/v1/predict", files=parts(file)) for file in files]
    answers = asyncio.run(gather(service, *requests))
    assert sum(sizes) == 12
    assert len(sizes) < 12
    predictor = Predictor(reader)
    for answer, file in zip(answers, files, strict=True):
        assert answer.json()["answers"][0]["label"] == predictor.predict(file).label


def test_torch_is_not_imported(reader: Path) -> None:
    program = f"""
import asyncio, httpx, io, sys
from PIL import Image, ImageDraw
from lenet.web import app
service = app([{str(reader)!r}, "lenet5-1998", "mnist"])
page = Image.new("L", (100, 100), 255)
ImageDraw.Draw(page).line([(30, 20), (70, 20), (45, 80)], fill=0, width=9)
file = io.BytesIO()
page.save(file, "PNG")
async def ask():
    transport = httpx.ASGITransport(service)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for model in ({reader.name!r}, "lenet5-1998", "mnist"):
            for path in ("predict", "trace"):
                files = [("images", file.getvalue())]
                answer = await client.post(f"/v1/{{path}}?model={{model}}", files=files)
                assert answer.status_code == 200, answer.text
asyncio.run(ask())
assert "torch" not in sys.modules
assert "matplotlib" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()


# Numbers


@pytest.fixture(scope="module")
def code(digits: Digits) -> bytes:
    """Three digits side by side: 0, 1, 2."""
    return picture(np.hstack(list(digits[0][:3])), side=(300, 100))


def test_read_answers_as_the_reader_does(ask: Ask, code: bytes) -> None:
    expected = Reader().read(code)
    [found] = ask("POST", "/v1/read", files=parts(code)).json()["answers"]
    assert found == json.loads(json.dumps(expected.as_dict()))
    assert [len(number["text"]) for number in found["numbers"]] == [3]


@pytest.mark.parametrize(
    ("query", "expected", "threshold"),
    [
        ("length=2", Expected(length=2), THRESHOLD),
        ("length=5-4", Expected(length=(4, 5)), THRESHOLD),
        ("format=%23.%23%23", Expected("#.##"), THRESHOLD),
        ("range=50-99", Expected(range=(50, 99)), THRESHOLD),
        ("check=luhn&length=3", Expected(length=3, check="luhn"), THRESHOLD),
        ("threshold=1", Expected(), 1.0),
    ],
)
def test_read_expects_what_it_is_told(
    query: str, expected: Expected, threshold: float, ask: Ask, code: bytes
) -> None:
    reading = Reader(expected=expected, threshold=threshold).read(code)
    [found] = ask("POST", f"/v1/read?{query}", files=parts(code)).json()["answers"]
    assert found == json.loads(json.dumps(reading.as_dict()))
    assert reading.as_dict() != Reader().read(code).as_dict()


def test_a_picture_without_a_number_is_an_answer(ask: Ask) -> None:
    blank = io.BytesIO()
    Image.new("L", (200, 60), 255).save(blank, "PNG")
    [found] = ask("POST", "/v1/read", files=parts(blank.getvalue())).json()["answers"]
    assert found == {"numbers": [], "reason": "empty"}
    trace = ask("POST", "/v1/read/trace", files=parts(blank.getvalue())).json()
    assert trace == {"answer": found, "size": None, "lines": []}


def test_the_trace_of_a_number_is_its_graph(ask: Ask, code: bytes) -> None:
    trace = ask("POST", "/v1/read/trace", files=parts(code)).json()
    [line], [number] = trace["lines"], trace["answer"]["numbers"]
    assert trace["size"] == [300, 100]
    nodes, segments = line["nodes"], line["segments"]
    assert nodes == sorted(nodes)
    assert nodes[-1] <= line["ink"]["width"]
    path = [segment for segment in segments if segment["read"] is not None]
    assert [segment["ends"][0] for segment in path] == [0, *(s["ends"][1] for s in path[:-1])]
    assert path[-1]["ends"][1] == len(nodes) - 1
    assert "".join(segment["read"] for segment in path) == number["text"]
    for segment in segments:
        assert sum(segment["probabilities"].values()) == pytest.approx(1, abs=2e-3)
    # The network that the page shows says the same of the segment's picture.
    image = base64.b64decode(path[0]["image"]["data"])
    pgm = b"P5 28 28 255\n" + image
    layers = ask("POST", "/v1/trace?model=numbers", files=parts(pgm)).json()["layers"]
    scores = np.exp(numbers(layers[-1]))
    shares = list(path[0]["probabilities"].values())
    assert shares == pytest.approx((scores / scores.sum()).tolist(), abs=1e-3)


# Hostile input


@pytest.fixture(scope="module")
def pictures(digits: Digits) -> list[bytes]:
    return [picture(digits[0][0], form, 40) for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP")]


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/read"])
@given(data=st.data())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_files_are_answered(
    path: str, data: st.DataObject, ask: Ask, pictures: list[bytes]
) -> None:
    file = bytearray(data.draw(st.sampled_from(pictures)))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(file) - 1))
        match data.draw(st.sampled_from(["set", "cut", "insert", "repeat"])):
            case "set":
                file[at] = data.draw(st.integers(0, 255))
            case "cut":
                del file[at : at + data.draw(st.integers(1, 40))]
            case "insert":
                file[at:at] = data.draw(st.binary(min_size=1, max_size=40))
            case "repeat":
                file[at:at] = file[at : at + data.draw(st.integers(1, 40))]
        if not file:
            break
    answer = ask("POST", path, files=parts(bytes(file)))
    if answer.status_code == 200:
        assert len(answer.json()["answers"]) == 1
    else:
        assert problem(answer, answer.status_code)
        assert answer.status_code in (413, 422)


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        ("POST", "/v1/predict", "positive"),
        ("POST", "/v1/predict", "negative"),
        ("POST", "/v1/trace", "positive"),
        ("POST", "/v1/trace", "negative"),
        ("POST", "/v1/read", "positive"),
        ("POST", "/v1/read", "negative"),
        ("POST", "/v1/read/trace", "positive"),
        ("GET", "/v1/models", "positive"),
        ("GET", "/v1/models/{name}", "positive"),
        ("GET", "/v1/examples/random", "positive"),
        ("GET", "/v1/examples/mistakes", "positive"),
        ("GET", "/healthz", "positive"),
    ],
)
def test_the_interface_does_what_its_description_says(
    method: str, path: str, mode: str, service: FastAPI, digits: Digits
) -> None:
    file = picture(digits[0][0], side=28)
    schemathesis.openapi.format("binary", st.just(file))
    schemathesis.openapi.format("byte", st.just(base64.b64encode(file).decode()))
    operation = schemathesis.openapi.from_asgi("/openapi.json", service)[path][method]

    cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))

    @given(case=cases)
    @settings(max_examples=15, deadline=None, suppress_health_check=SLOW_OR_FILTERED)
    def check(case: Any) -> None:
        case.call_and_validate()

    check()


def test_the_description_names_no_other_server(ask: Ask) -> None:
    document = ask("GET", "/openapi.json").json()
    assert "http" not in json.dumps(document).replace("HTTPValidationError", "")
    assert {"/v1/predict", "/v1/trace", "/v1/read", "/v1/models", "/healthz"} <= document[
        "paths"
    ].keys()
