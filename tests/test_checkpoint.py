"""Networks on disk: bit for bit, without PyTorch, and safe from whatever a file holds."""

import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import file_size_limit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from torch import nn

import lenet
from lenet.engine.scores import scorer
from lenet.errors import LenetError
from lenet.networks import checkpoint
from lenet.networks.architecture import NETWORKS
from lenet.networks.torch import Network

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
OTHERS: dict[str, Callable[[], Network]] = {
    "small": lambda: lenet.LeNet(channels=(4,), hidden=(), activation="silu", classes=3),
    "large": lambda: lenet.LeNet(input_size=32, padding=(0,), mean=0.13, std=0.3, pooling="max"),
    "softmax": lambda: lenet.LeNet5(head="softmax", subsampling="sum"),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an untrained LeNet; not to be changed."""
    file = tmp_path_factory.mktemp("weights") / "lenet.safetensors"
    torch.manual_seed(0)
    lenet.save(lenet.LeNet(), file)
    return file


@pytest.mark.parametrize("network", [*NETWORKS, *OTHERS])
def test_round_trip(network: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model: Network = OTHERS[network]() if network in OTHERS else getattr(lenet, network)()
    names = [*"éabcdefghi"][: model.classes]
    model.card = {"classes": names, "rejection_threshold": 0.25, "more": [1, {"x": None}]}
    file = tmp_path / "model.safetensors"
    lenet.save(model, file)
    loaded = lenet.load(file)
    assert type(loaded) is type(model)
    assert loaded.architecture == model.architecture
    assert loaded.card == model.card
    assert not loaded.training
    expected, state = model.state_dict(), loaded.state_dict()
    assert list(state) == list(expected)
    for name, tensor in expected.items():
        assert state[name].numpy().tobytes() == tensor.numpy().tobytes(), name
    with torch.no_grad():
        prepared = model.prepare(IMAGES)
        assert torch.equal(loaded.prepare(IMAGES), prepared)
        assert torch.equal(loaded(prepared), model.eval()(prepared))
    lenet.save(checkpoint.read(file), tmp_path / "again.safetensors")  # also without PyTorch
    again = checkpoint.read(tmp_path / "again.safetensors")
    assert (again.architecture, again.card) == (model.architecture, model.card)


def replaced(name: str, layer: nn.Module) -> Network:
    model = lenet.LeNet(activation="relu")
    setattr(model, name, layer)
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: lenet.LeNet().half(), "C1.weight is .*float16, expected .*float32"),
        (lambda: lenet.LeNet().bfloat16(), "C1.weight is .*bfloat16, expected .*float32"),
        (lambda: lenet.LeNet5().double(), "C1.weight is .*float64, expected .*float32"),
        (lambda: replaced("C1", nn.Conv2d(1, 6, 3, padding=1)), "the layer C1 was replaced"),
        (lambda: replaced("F6", nn.Identity()), "the layer F6 was replaced"),
        (lambda: replaced("C1_relu", nn.Tanh()), "the layer C1_relu was replaced"),
        (lambda: replaced("dropout", nn.Dropout()), "the layer dropout was"),
        (lambda: replaced("S2", nn.MaxPool2d(2)), "the layer S2 was replaced"),
    ],
)
def test_what_could_not_be_loaded_again_is_not_saved(
    model: Callable[[], Network], words: str, tmp_path: Path
) -> None:
    file = tmp_path / "x.safetensors"
    with pytest.raises(LenetError, match=f"x.safetensors is not written: {words}"):
        lenet.save(model(), file)
    assert os.listdir(tmp_path) == []


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    model = lenet.LeNet()
    nn.init.constant_(model.get_parameter("F6.bias"), torch.inf)
    with pytest.raises(LenetError, match=r"F6\.bias has values that are not finite"):
        lenet.save(model, tmp_path / "x.safetensors")


def test_loading_leaves_the_random_numbers_alone(weights: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    lenet.load(weights)
    assert torch.equal(torch.rand(4), expected)


def test_read_needs_no_pytorch(weights: Path) -> None:
    script = (
        "import sys\nfrom lenet.networks import checkpoint\n"
        "network = checkpoint.read(sys.argv[1])\n"
        "assert network.architecture.network == 'LeNet'\n"
        "assert list(network.weights)[:2] == ['C1.weight', 'C1.bias']\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script, str(weights)], check=True, timeout=60)


def test_read_gives_the_order_of_the_network(weights: Path) -> None:
    names = [name for name, _ in lenet.LeNet().named_parameters()]
    assert list(checkpoint.read(weights).weights) == names


# Damaged and hostile files


LENET = lenet.LeNet().architecture


def metadata(**changes: str | None) -> dict[str, str]:
    right = {"model": "LeNet", "options": json.dumps(LENET.as_dict()), "card": "{}"}
    return {name: value for name, value in (right | changes).items() if value is not None}


def arrays(**changes: Any) -> dict[str, Any]:
    changes = {name.replace("_", "."): value for name, value in changes.items()}
    return {**LENET.initial_weights(0), **changes}


def options(**changes: Any) -> str:
    return json.dumps(LENET.as_dict() | changes)


def assert_refused(file: Path) -> None:
    """Neither way of using the network may end in anything but a message with the file's name."""
    for use in (lenet.load, lambda f: scorer(checkpoint.read(f))(IMAGES)):
        with pytest.raises(LenetError) as caught:
            use(file)
        assert str(file) in str(caught.value)
        assert len(str(caught.value)) < 2000


def header(content: bytes, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(content)) + content + rest


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"\xff" * 8,
        header(b""),
        header(b"{}"),
        header(b"[" * 100_000),
        header(b'{"__metadata__":{"model":1}}'),
        header(b'{"a":{"dtype":"F32","shape":[4611686018427387],"data_offsets":[0,4]}}', b"1234"),
        header(b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}', b"12"),
        header(b'{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}', b"1"),
        pickle.dumps({"C1.weight": np.zeros(3)}),
        b"PK\x03\x04" + b"\0" * 100,
    ],
)  # fmt: skip
def test_files_that_are_no_weights(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    assert_refused(file)


def test_pickle_is_not_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "harm"),)

    file = tmp_path / "x.safetensors"
    file.write_bytes(pickle.dumps(Harm()))
    assert_refused(file)
    torch.save({"a": Harm()}, file)
    assert_refused(file)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_truncated_file(share: float, weights: Path, tmp_path: Path) -> None:
    content = weights.read_bytes()
    file = tmp_path / "x.safetensors"
    file.write_bytes(content[: int(len(content) * share)])
    assert_refused(file)
    file.write_bytes(content + b"\0")
    assert_refused(file)


@given(content=st.binary(max_size=200))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    with pytest.raises(LenetError, match="safetensors"):
        checkpoint.read(file)


@given(position=st.integers(0, 1400), value=st.integers(0, 255))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_header(position: int, value: int, weights: Path, tmp_path: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[position] = value
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    for use in (lenet.load, lambda f: scorer(checkpoint.read(f), threads=1)(IMAGES)):
        with suppress(LenetError):  # any other exception fails; some changes change nothing
            use(file)


@pytest.mark.parametrize(
    "changes",
    [
        {"C1_weight": np.zeros((6, 1, 5, 4), np.float32)},
        {"C1_weight": np.zeros((1, 1, 5, 5), np.float32)},
        {"C1_weight": np.zeros((0,), np.float32)},
        {"C1_bias": np.zeros(6, np.float64)},
        {"C1_bias": np.zeros(6, np.float16)},
        {"C1_bias": np.zeros(6, np.int64)},
        {"C1_bias": np.full(6, np.nan, np.float32)},
        {"C1_bias": np.full(6, np.inf, np.float32)},
        {"C9_bias": np.zeros(6, np.float32)},
    ],
)
def test_wrong_weights(changes: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file(arrays(**changes), file, metadata())
    assert_refused(file)


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "changes",
    [
        {"model": None},
        {"options": None},
        {"card": None},
        {"model": "Sequential"},
        {"model": "__import__"},
        {"model": "LeNet5"},
        {"options": "{"},
        {"options": "[]"},
        {"options": DEEP},
        {"options": options(input_size=10**9)},
        {"options": options(hidden=[10**6, 10**6])},
        {"options": options(hidden=[10**18, 10**18])},
        {"options": options(hidden=10**30)},
        {"options": options(channels="ab")},
        {"options": options(channels=[6.5, 16])},
        {"options": options(channels=[-6, 16])},
        {"options": options(channels=None)},
        {"options": options(kernel_sizes=[5, {}])},
        {"options": options(padding=[])},
        {"options": options(activation="exec")},
        {"options": options(activation=["gelu"])},
        {"options": options(std=0)},
        {"options": options(std="1")},
        {"options": "1" * 5000},
        {"card": "null"},
        {"card": "[]"},
        {"card": DEEP},
        {"card": '{"classes": 10}'},
        {"card": '{"classes": "0123456789"}'},
        {"card": '{"classes": [1, 2]}'},
        {"card": '{"classes": ["a", "a"]}'},
        {"card": '{"data": "mnist"}'},
        {"card": '{"data": {"name": 3}}'},
        {"card": '{"temperature": "1"}'},
        {"card": '{"temperature": -1}'},
        {"card": '{"temperature": NaN}'},
        {"card": '{"temperature": 1e-300}'},
        {"card": '{"rejection_threshold": "1"}'},
        {"card": '{"rejection_threshold": NaN}'},
        {"card": '{"rejection_threshold": ' + "9" * 400 + "}"},
    ],
)
def test_hostile_metadata(changes: dict[str, str | None], tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file(arrays(), file, metadata(**changes))
    assert_refused(file)


def test_no_memory_is_taken_for_what_the_file_does_not_hold(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file(arrays(), file, metadata(options=options(hidden=[10**12])))
    with pytest.raises(LenetError, match="describes no possible network"):
        lenet.load(file)


def test_every_flipped_bit_is_noticed(weights: Path, tmp_path: Path) -> None:
    content, expected = bytearray(weights.read_bytes()), checkpoint.read(weights)
    file, draw = tmp_path / "x.safetensors", np.random.default_rng(0)
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for place in (*range(header), *draw.integers(header, len(content), 100).tolist()):
        damaged = content.copy()
        damaged[place] ^= 1 << int(draw.integers(8))
        file.write_bytes(damaged)
        with suppress(LenetError):
            # Only the word sha256 itself can change without a word: then nothing else has.
            network = checkpoint.read(file)
            assert network.architecture == expected.architecture
            assert network.card == expected.card
            for name, array in expected.weights.items():
                np.testing.assert_array_equal(network.weights[name], array)


def test_files_without_a_checksum_are_read(weights: Path, tmp_path: Path) -> None:
    metadata, arrays = checkpoint.read_tensors(weights)
    file = tmp_path / "x.safetensors"
    save_file(arrays, file, metadata)
    assert checkpoint.read(file).architecture == LENET
    save_file(arrays, file, metadata | {"sha256": "0" * 64})
    with pytest.raises(LenetError, match="is damaged: its contents do not match its checksum"):
        checkpoint.read(file)


def test_foreign_safetensors(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file(arrays(), file)
    with pytest.raises(LenetError, match=r"lacks the description that lenet\.save writes"):
        lenet.load(file)


def test_full_disk_keeps_the_old_file(weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(weights.read_bytes())
    with file_size_limit(100_000), pytest.raises(LenetError, match=r"cannot write .*is kept"):
        lenet.save(lenet.LeNet(), file)
    assert file.read_bytes() == weights.read_bytes()
    assert os.listdir(tmp_path) == [file.name]


# Finding


def test_locate(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LenetError, match=r"no trained model under runs/: run `lenet train`"):
        checkpoint.locate("latest")
    for number, name in enumerate(("b", "a")):
        file = tmp_path / "runs" / name / checkpoint.WEIGHTS
        file.parent.mkdir(parents=True)
        file.write_bytes(weights.read_bytes())
        os.utime(file, (1000 + number, 1000 + number))
    (tmp_path / "runs" / "unfinished").mkdir()
    newest = Path("runs", "a", checkpoint.WEIGHTS)
    assert checkpoint.locate("latest") == newest
    assert checkpoint.locate("runs/a") == newest
    assert checkpoint.locate(Path("runs/a/")) == newest
    assert checkpoint.locate(newest) == newest
    assert checkpoint.locate(str(newest)) == newest
    with pytest.raises(LenetError, match=r"unfinished has no weights\.safetensors"):
        checkpoint.locate("runs/unfinished")
    for name in ("nowhere", "../pretrained", "", "x/y", "\0"):
        with pytest.raises(LenetError):
            checkpoint.locate(name)


def test_pretrained_names(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr(checkpoint, "PRETRAINED", tmp_path / "shipped")
    assert checkpoint.pretrained_names() == []
    (tmp_path / "shipped" / "digits.safetensors").write_bytes(weights.read_bytes())
    (tmp_path / "secret.safetensors").write_bytes(weights.read_bytes())
    assert checkpoint.pretrained_names() == ["digits"]
    assert checkpoint.read("digits").architecture == LENET
    with pytest.raises(LenetError, match=r"no model '\.\./secret'.*one of: digits"):
        checkpoint.locate("../secret")
    (tmp_path / "digits").mkdir()
    mine = tmp_path / "digits" / checkpoint.WEIGHTS
    mine.write_bytes(weights.read_bytes())
    for own in ("./digits", "digits/", tmp_path / "digits"):
        assert checkpoint.locate(own).resolve() == mine
    assert checkpoint.locate("digits").parent == checkpoint.PRETRAINED


def test_state_dicts_of_pytorch_are_read_safely(tmp_path: Path) -> None:
    model, file = lenet.LeNet(activation="relu"), tmp_path / "weights.pth"
    torch.save(model.state_dict(), file)
    other = lenet.load(file, lenet.LeNet(activation="relu"))
    assert not other.training
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(other(x), model(x))
    torch.save(model[:].state_dict(), file)
    assert torch.equal(lenet.load(file, lenet.LeNet(activation="relu"))(x), model(x))
    with pytest.raises(LenetError, match=r"C1.weight \(6, 1, 5, 5\) beside C1.weight \(8"):
        lenet.load(file, lenet.LeNet(channels=(8, 24)))
    torch.save(model, file)  # the module itself, as a pickle that names its classes
    with pytest.raises(LenetError, match="no state dict that can be read safely") as caught:
        lenet.load(file, lenet.LeNet())
    assert "\n" not in str(caught.value)
    torch.save([1, 2], file)
    with pytest.raises(LenetError, match="holds a list"):
        lenet.load(file, lenet.LeNet())
    with pytest.raises(LenetError, match="no file"):
        lenet.load(tmp_path / "none.pth", lenet.LeNet())


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (
            lambda file: torch.save(lenet.LeNet().state_dict(), file),
            "a state dict of PyTorch.*load",
        ),
        (lambda file: file.write_bytes(b"\x93NUMPY\x01"), "an array of NumPy"),
        (lambda file: file.write_bytes(b"PK\x03\x04arr_0.npy"), "a zip archive"),
        (lambda file: file.write_bytes(pickle.dumps({})), "a pickle, which can run code"),
        (lambda file: file.write_bytes(b"\x89HDF\r\n\x1a\n"), "an HDF5 file"),
        (lambda file: file.write_text("{}"), "a JSON file"),
        (lambda file: file.write_bytes(b"abc"), "not a complete safetensors file"),
    ],
)
def test_other_files_are_named_for_what_they_are(
    write: Callable[[Path], Any], words: str, tmp_path: Path
) -> None:
    write(file := tmp_path / "file")
    with pytest.raises(LenetError, match=words) as caught:
        lenet.load(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
