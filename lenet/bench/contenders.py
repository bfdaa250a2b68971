"""Who takes part in a benchmark: one network, one set of images, one batch size, many libraries.

Every contender runs in a process of its own (`lenet.bench.worker`). A trainer's `epoch` goes once
through all images in a new random order: it shuffles, gathers, normalises, steps, and keeps loss
and number right. A reader's `scores` answers prepared images.
"""

import importlib
import itertools
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lenet.data import Split
from lenet.errors import extra
from lenet.evaluation.evaluation import scorer
from lenet.export.onnx import graph
from lenet.networks.architecture import build
from lenet.networks.checkpoint import Checkpoint
from lenet.networks.models import LeNet
from lenet.training.epochs import make_epochs
from lenet.training.recipes import RECIPES, Recipe
from lenet.training.training import initial_network, make_optimizer

PATTERNS = 2_000  # are enough to time PyTorch one pattern at a time
LEARNING_RATE = 0.9  # of "Dive into Deep Learning", section 7.6


@dataclass(frozen=True)
class Task:
    """What all contenders are given.

    Attributes:
        train: images uint8 (N, 28, 28) and labels.
        weights: the ten arrays of the d2l network, float32 in PyTorch's shapes.
        batch_size: images in a step.
        threads: CPU threads.
        device: of PyTorch and of `lenet train`: "cpu" or "cuda".
    """

    train: Split
    weights: tuple[NDArray[np.float32], ...]
    batch_size: int
    threads: int
    device: str


class Reader(Protocol):
    """Answers images with the network of the task."""

    def prepare(self, images: NDArray[np.uint8]) -> Any:
        """What `scores` takes; its time is not counted."""
        ...

    def scores(self, prepared: Any) -> NDArray[np.float32]:
        """Scores (N, 10) of N images."""
        ...


class Trainer(Reader, Protocol):
    """Also trains it."""

    def epoch(self) -> int:
        """One epoch; returns the number of images seen."""
        ...


class Articles:
    """`train_ch6` of "Dive into Deep Learning", section 7.6, its loading of data counted in."""

    def __init__(self, task: Task) -> None:
        self.device, self.network = task.device, article_network(task)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=LEARNING_RATE)
        self.criterion = nn.CrossEntropyLoss()
        self.loader = DataLoader(ArticleData(task.train), task.batch_size, shuffle=True)

    def epoch(self) -> int:
        totals = [0.0, 0.0, 0.0]
        for x, y in self.loader:
            self.optimizer.zero_grad()
            x, y = x.to(self.device), y.to(self.device)
            scores = self.network(x)
            loss = self.criterion(scores, y)
            loss.backward()
            self.optimizer.step()
            with torch.no_grad():
                totals[0] += float(loss * len(x))
                totals[1] += float((scores.argmax(dim=1) == y).sum())
                totals[2] += len(x)
        return int(totals[2])

    def prepare(self, images: NDArray[np.uint8]) -> Tensor:
        return floats(images, self.device)

    def scores(self, prepared: Tensor) -> NDArray[np.float32]:
        with torch.no_grad():
            return self.network(prepared).cpu().numpy()


class Eager:
    """PyTorch on resident uint8 tensors, with no DataLoader in the way."""

    wrap = staticmethod(lambda function: function)

    def __init__(self, task: Task) -> None:
        self.device, self.batch_size = task.device, task.batch_size
        network = article_network(task)
        self.optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, fused=True)
        self.images = torch.from_numpy(task.train.images).to(self.device)
        self.labels = torch.from_numpy(task.train.labels).to(self.device)

        def forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            scores = network(x.unsqueeze(1).float() / 255)
            return nn.functional.cross_entropy(scores, y), (scores.argmax(dim=1) == y).sum()

        self.forward, self.network = self.wrap(forward), self.wrap(network)

    def epoch(self) -> int:
        losses, right = [], []
        order = torch.randperm(len(self.images), device=self.device)
        for batch in order.split(self.batch_size):
            loss, correct = self.forward(self.images[batch], self.labels[batch])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
            right.append(correct)
        float(torch.stack(losses).sum() + torch.stack(right).sum())  # waits for a GPU
        return len(self.images)

    def prepare(self, images: NDArray[np.uint8]) -> Tensor:
        return floats(images, self.device)

    def scores(self, prepared: Tensor) -> NDArray[np.float32]:
        with torch.no_grad():
            return self.network(prepared).cpu().numpy()


class Compiled(Eager):
    """The same with preparation, network, loss and their gradients compiled."""

    wrap = staticmethod(torch.compile)


class Jax:
    """Flax with optax, the step compiled; a scan over the epoch has far slower convolutions."""

    def __init__(self, task: Task) -> None:
        jax, jnp = peer("jax"), peer("jax.numpy")
        flax, optax = peer("flax.linen"), peer("optax")

        class Network(flax.Module):
            @flax.compact
            def __call__(self, x: Any) -> Any:
                for channels, padding in ((6, 2), (16, 0)):
                    x = flax.Conv(channels, (5, 5), padding=padding)(x)
                    x = flax.avg_pool(flax.sigmoid(x), (2, 2), (2, 2))
                x = x.reshape(len(x), -1)
                for units in (120, 84):
                    x = flax.sigmoid(flax.Dense(units)(x))
                return flax.Dense(10)(x)

        network = Network()
        names = ("Conv_0", "Conv_1", "Dense_0", "Dense_1", "Dense_2")
        arrays = channels_last(task.weights)
        self.weights = {
            "params": {
                name: {"kernel": jnp.asarray(arrays[2 * i]), "bias": jnp.asarray(arrays[2 * i + 1])}
                for i, name in enumerate(names)
            }
        }
        images = jnp.asarray(task.train.images[..., None])
        labels = jnp.asarray(task.train.labels)
        sgd = optax.sgd(LEARNING_RATE)
        self.state = sgd.init(self.weights)

        def loss_of(weights: Any, x: Any, y: Any) -> Any:
            scores = network.apply(weights, x.astype(jnp.float32) / 255)
            loss = optax.softmax_cross_entropy_with_integer_labels(scores, y).mean()
            return loss, (scores.argmax(1) == y).sum()

        def step(weights: Any, state: Any, batch: Any) -> Any:
            gradient = jax.value_and_grad(loss_of, has_aux=True)
            results, gradients = gradient(weights, images[batch], labels[batch])
            updates, state = sgd.update(gradients, state)
            return optax.apply_updates(weights, updates), state, results

        self.jax, self.images, self.batch_size = jax, len(images), task.batch_size
        self.step = jax.jit(step, donate_argnums=(0, 1))
        self.apply = jax.jit(network.apply)

    def epoch(self) -> int:
        results = []
        for batch in whole_batches(self.images, self.batch_size):
            self.weights, self.state, result = self.step(self.weights, self.state, batch)
            results.append(result)
        self.jax.block_until_ready(results)
        return len(results) * self.batch_size

    def prepare(self, images: NDArray[np.uint8]) -> Any:
        return self.jax.numpy.asarray(images[..., None].astype(np.float32) / 255)

    def scores(self, prepared: Any) -> NDArray[np.float32]:
        return np.asarray(self.apply(self.weights, prepared))


class Keras:
    """Keras on JAX: compile, fit and predict_on_batch."""

    def __init__(self, task: Task) -> None:
        os.environ["KERAS_BACKEND"] = "jax"
        keras = peer("keras")

        def pooled(channels: int, padding: str) -> list[Any]:
            convolution = keras.layers.Conv2D(channels, 5, padding=padding, activation="sigmoid")
            return [convolution, keras.layers.AveragePooling2D(2)]

        self.network = keras.Sequential(
            [
                keras.layers.Input((28, 28, 1)),
                keras.layers.Rescaling(1 / 255),
                *pooled(6, "same"),
                *pooled(16, "valid"),
                keras.layers.Flatten(),
                keras.layers.Dense(120, activation="sigmoid"),
                keras.layers.Dense(84, activation="sigmoid"),
                keras.layers.Dense(10),
            ]
        )
        self.network.set_weights(channels_last(task.weights))
        self.network.compile(
            optimizer=keras.optimizers.SGD(LEARNING_RATE),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        self.images, self.labels = task.train.images[..., None], task.train.labels
        self.batch_size = task.batch_size

    def epoch(self) -> int:
        self.network.fit(
            self.images, self.labels, batch_size=self.batch_size, shuffle=True, verbose=0
        )
        return len(self.images)

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return images[..., None].astype(np.float32)  # the network has the rescaling

    def scores(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self.network.predict_on_batch(prepared))


class Tinygrad:
    """tinygrad with its JIT, as in its MNIST example."""

    def __init__(self, task: Task) -> None:
        tinygrad = peer("tinygrad")
        self.Tiny = Tiny = tinygrad.Tensor
        weights = [Tiny(array) for array in task.weights]
        self.images, self.labels = task.train.images, task.train.labels.astype(np.int32)
        optimizer = tinygrad.nn.optim.SGD(weights, lr=LEARNING_RATE)

        def network(x: Any) -> Any:
            c1, c1_bias, c3, c3_bias, *dense = weights
            x = x.conv2d(c1, c1_bias, padding=2).sigmoid().avg_pool2d()
            x = x.conv2d(c3, c3_bias).sigmoid().avg_pool2d().flatten(1)
            for weight, bias in zip(dense[:-2:2], dense[1:-2:2], strict=True):
                x = x.linear(weight.T, bias).sigmoid()
            return x.linear(dense[-2].T, dense[-1])

        @tinygrad.TinyJit
        @tinygrad.Context(TRAINING=1)
        def step(x: Any, y: Any) -> tuple[Any, Any]:
            optimizer.zero_grad()
            scores = network(x.unsqueeze(1).float() / 255)
            loss = scores.sparse_categorical_crossentropy(y).backward()
            right = (scores.argmax(axis=1) == y).sum()
            return loss.realize(*optimizer.schedule_step()), right.realize()

        self.step, self.batch_size = step, task.batch_size
        # It compiles for one shape.
        self.answers = defaultdict(lambda: tinygrad.TinyJit(lambda x: network(x).realize()))

    def epoch(self) -> int:
        batches = whole_batches(len(self.images), self.batch_size)
        # Its own gathering would look at all images for each of the batch.
        results = [
            self.step(*(self.Tiny(part[batch]).realize() for part in (self.images, self.labels)))
            for batch in batches
        ]
        for number in results[-1]:
            number.item()
        return len(results) * self.batch_size

    def prepare(self, images: NDArray[np.uint8]) -> Any:
        return self.Tiny(planes(images)).realize()

    def scores(self, prepared: Any) -> NDArray[np.float32]:
        return self.answers[prepared.shape[0]](prepared).numpy()


class OnnxRuntime:
    """ONNX Runtime's CPU provider."""

    def __init__(self, task: Task) -> None:
        onnxruntime = peer("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = task.threads
        options.log_severity_level = 3
        with tempfile.TemporaryDirectory() as folder:
            self.session = onnxruntime.InferenceSession(onnx_file(task, Path(folder)), options)

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return planes(images)

    def scores(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.session.run(None, {"x": prepared})[0]


class OpenVino:
    """OpenVINO's CPU plugin, compiled for latency (one image) or throughput alike."""

    def __init__(self, task: Task) -> None:
        openvino = peer("openvino")
        core = openvino.Core()
        with tempfile.TemporaryDirectory() as folder:
            model = core.read_model(onnx_file(task, Path(folder)))
        # float32 as all others compute; the plugin's default here is bfloat16.
        settings = {"INFERENCE_NUM_THREADS": task.threads, "INFERENCE_PRECISION_HINT": "f32"}
        self.compiled = core.compile_model(model, "CPU", settings)

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return planes(images)

    def scores(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array(self.compiled(prepared)[0])


class Ours:
    """What `lenet train d2l` does between two evaluations, and `lenet evaluate` to answer."""

    def __init__(self, task: Task) -> None:
        recipe = replace(RECIPES["d2l"], batch_size=task.batch_size)
        self.images, self.train = len(task.train), epochs_of(recipe, task)
        model = LeNet()
        names = [name for name, _ in model.named_parameters()]
        weights = dict(zip(names, task.weights, strict=True))
        found = Checkpoint(Path("d2l"), "LeNet", model.options, {}, weights)
        self.answer = scorer(found, "auto", task.threads)

    def epoch(self) -> int:
        self.train()
        return self.images

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return images  # preparation is part of our answer

    def scores(self, prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.answer(prepared)


class Pattern:
    """LeNet-5 of 1998 by PyTorch, one pattern at a time, plain SGD on criterion (9)."""

    def __init__(self, task: Task) -> None:
        from lenet.training.losses import map_criterion

        self.model = initial_network(RECIPES["lenet5-1998"], 10)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        self.x = self.model.prepare(task.train.images[:PATTERNS])
        self.y = torch.from_numpy(task.train.labels[:PATTERNS])
        self.criterion: Callable[..., Tensor] = map_criterion

    def epoch(self) -> int:
        for i in torch.randperm(len(self.x)).tolist():
            self.optimizer.zero_grad()
            self.criterion(self.model(self.x[i : i + 1]), self.y[i : i + 1], 10.0).backward()
            self.optimizer.step()
        return len(self.x)


class OurPattern:
    """A pass of `lenet train lenet5-1998`, its second derivatives counted in."""

    def __init__(self, task: Task) -> None:
        self.images, self.train = len(task.train), epochs_of(RECIPES["lenet5-1998"], task)

    def epoch(self) -> int:
        self.train()
        return self.images


class Product:
    """A large float32 matrix product: what the processor can do."""

    def __init__(self, task: Task) -> None:
        self.a = torch.rand(task.batch_size, task.batch_size)

    def epoch(self) -> int:
        torch.mm(self.a, self.a)
        return 1


CONTENDERS: dict[str, Callable[[Task], Any]] = {
    "articles": Articles,
    "eager": Eager,
    "compiled": Compiled,
    "jax": Jax,
    "keras": Keras,
    "tinygrad": Tinygrad,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "lenet": Ours,
    "eager-lenet5": Pattern,
    "lenet-lenet5": OurPattern,
    "product": Product,
}


class ArticleData(Dataset[tuple[Tensor, int]]):
    """One image at a time, as a float tensor (1, 28, 28) in 0..1: what torchvision's gives."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.split.images[index]).float().div(255).unsqueeze(0)
        return image, int(self.split.labels[index])


def article_network(task: Task) -> nn.Sequential:
    """The network as the articles write it, with nothing of this package."""
    network = nn.Sequential(
        nn.Conv2d(1, 6, kernel_size=5, padding=2),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.Sigmoid(),
        nn.AvgPool2d(kernel_size=2, stride=2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Sigmoid(),
        nn.Linear(120, 84),
        nn.Sigmoid(),
        nn.Linear(84, 10),
    )
    with torch.no_grad():
        for parameter, array in zip(network.parameters(), task.weights, strict=True):
            parameter.copy_(torch.from_numpy(array))
    return network.to(task.device)


def peer(name: str) -> Any:
    """A library of the extra `benchmark`, which development goes without."""
    with extra("benchmark"):
        return importlib.import_module(name)


def whole_batches(images: int, batch_size: int) -> NDArray[np.int32]:
    """Shuffled indices (batches, batch_size); who compiles for one shape leaves out the rest."""
    order = np.random.default_rng().permutation(images).astype(np.int32)
    whole = images // batch_size * batch_size
    return order[:whole].reshape(-1, batch_size)


def planes(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images[:, None].astype(np.float32) / np.float32(255)


def floats(images: NDArray[np.uint8], device: str) -> Tensor:
    return torch.from_numpy(images).to(device).unsqueeze(1).float() / 255


def channels_last(weights: tuple[NDArray[np.float32], ...]) -> list[NDArray[np.float32]]:
    """The weights where an image is (H, W, C) and a dense kernel (inputs, outputs)."""
    c1, c1_bias, c3, c3_bias, c5, *rest = weights
    rows = c5.reshape(120, 16, 5, 5).transpose(2, 3, 1, 0).reshape(400, 120)
    dense = [array.T if array.ndim == 2 else array for array in rest]
    return [c1.transpose(2, 3, 1, 0), c1_bias, c3.transpose(2, 3, 1, 0), c3_bias, rows, *dense]


def onnx_file(task: Task, folder: Path) -> str:
    """The network as ONNX, any batch size, input "x" float32 (N, 1, 28, 28)."""
    import onnx

    architecture, file = build("LeNet", {}), folder / "network.onnx"
    names = [parameter.name for parameter in architecture.parameters]
    classes = [str(digit) for digit in range(10)]
    weights = dict(zip(names, task.weights, strict=True))
    model = Checkpoint(file, architecture, {"classes": classes}, weights)
    onnx.save_model(graph(model, pixels=False), file)
    return str(file)


def epochs_of(recipe: Recipe, task: Task) -> Callable[[], object]:
    """A function that trains by a recipe for one epoch more."""
    model = initial_network(recipe, 10).to(task.device)
    epochs, _ = make_epochs(
        recipe,
        torch.device(task.device),
        "auto",
        task.threads,
        model,
        make_optimizer(recipe, model),
        task.train,
    )
    numbers = itertools.count(1)
    return lambda: epochs.run(1 + next(numbers) % recipe.epochs)
