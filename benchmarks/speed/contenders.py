"""Contenders of a benchmark: one network, one set of images, one batch size, many libraries.

Every contender runs in its own process (`worker`). `epoch` trains once on all images in a new
random order: it shuffles, gathers, normalises, steps, keeps loss and number right, and returns the
number of images. `scores` computes the scores of what `prepare` made of images.
"""

import importlib
import itertools
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.speed.worker import D2L, WEIGHTS, Task
from lenet import data
from lenet.data import Split
from lenet.engine.scores import scorer
from lenet.errors import LenetError
from lenet.export.onnx import graph
from lenet.networks.checkpoint import Checkpoint
from lenet.networks.torch import from_architecture
from lenet.training.autograd import map_criterion
from lenet.training.recipe import Recipe
from lenet.training.recipes import RECIPES
from lenet.training.run import Settings
from lenet.training.train import assemble

PATTERNS = 2_000  # enough to time PyTorch one pattern at a time
LEARNING_RATE = 0.9  # of "Dive into Deep Learning", section 7.6
CLASSES = tuple("0123456789")
MODEL = Checkpoint(Path("d2l"), D2L, {"classes": list(CLASSES)}, WEIGHTS)


class PyTorch:
    """The network as in the articles, without this package."""

    def __init__(self, task: Task, split: Split) -> None:
        self.device, self.batch_size = task.device, task.batch_size
        self.network = nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid()),
            nn.Linear(84, 10),
        )
        with torch.no_grad():
            for parameter, array in zip(self.network.parameters(), WEIGHTS.values(), strict=True):
                parameter.copy_(torch.from_numpy(array))
        self.network.to(task.device)

    def prepare(self, images: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(images).to(self.device).unsqueeze(1).float() / 255

    def scores(self, prepared: Tensor) -> NDArray[np.float32]:
        with torch.no_grad():
            return self.network(prepared).cpu().numpy()


class Articles(PyTorch):
    """`train_ch6` of "Dive into Deep Learning", section 7.6, including its loading of data."""

    def __init__(self, task: Task, split: Split) -> None:
        super().__init__(task, split)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=LEARNING_RATE)
        self.criterion = nn.CrossEntropyLoss()
        self.loader = DataLoader(ArticleData(split), task.batch_size, shuffle=True)

    def epoch(self) -> int:
        loss_sum, right, images = 0.0, 0.0, 0
        for x, y in self.loader:
            self.optimizer.zero_grad()
            x, y = x.to(self.device), y.to(self.device)
            scores = self.network(x)
            loss = self.criterion(scores, y)
            loss.backward()
            self.optimizer.step()
            with torch.no_grad():
                loss_sum += float(loss * len(x))
                right += float((scores.argmax(dim=1) == y).sum())
                images += len(x)
        return images


class Eager(PyTorch):
    """PyTorch on resident uint8 tensors, without a DataLoader."""

    wrap = staticmethod(lambda function: function)

    def __init__(self, task: Task, split: Split) -> None:
        super().__init__(task, split)
        network = self.network
        self.optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, fused=True)
        self.images = torch.from_numpy(split.images).to(self.device)
        self.labels = torch.from_numpy(split.labels).to(self.device)

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


class Compiled(Eager):
    """The same with preparation, network, loss and their gradients compiled."""

    wrap = staticmethod(torch.compile)


class Jax:
    """Flax with optax, the step compiled; a scan over the epoch made convolutions far slower."""

    def __init__(self, task: Task, split: Split) -> None:
        jax, flax, optax = peer("jax"), peer("flax.linen"), peer("optax")
        jnp = jax.numpy

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
        arrays = [jnp.asarray(array) for array in channels_last()]
        layers = zip(arrays[::2], arrays[1::2], strict=True)
        names = ("Conv_0", "Conv_1", "Dense_0", "Dense_1", "Dense_2")
        parts = [{"kernel": kernel, "bias": bias} for kernel, bias in layers]
        self.weights = {"params": dict(zip(names, parts, strict=True))}
        images, labels = jnp.asarray(split.images[..., None]), jnp.asarray(split.labels)
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

    def __init__(self, task: Task, split: Split) -> None:
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
        self.network.set_weights(channels_last())
        self.network.compile(
            optimizer=keras.optimizers.SGD(LEARNING_RATE),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        self.images, self.labels = split.images[..., None], split.labels
        self.batch_size = task.batch_size

    def epoch(self) -> int:
        self.network.fit(
            self.images, self.labels, batch_size=self.batch_size, shuffle=True, verbose=0
        )
        return len(self.images)

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return images[..., None].astype(np.float32)  # the network rescales

    def scores(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self.network.predict_on_batch(prepared))


class Tinygrad:
    """tinygrad with its JIT, as in its MNIST example."""

    def __init__(self, task: Task, split: Split) -> None:
        tinygrad = peer("tinygrad")
        self.Tiny = Tiny = tinygrad.Tensor
        weights = [Tiny(array) for array in WEIGHTS.values()]
        self.images, self.labels = split.images, split.labels.astype(np.int32)
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
        # Its own indexing would read all images for each one of the batch.
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


class Onnx:
    """The network as ONNX, any batch size, input "x" float32 (N, 1, 28, 28)."""

    def file(self, folder: str) -> str:
        path = str(Path(folder) / "network.onnx")
        peer("onnx").save_model(graph(MODEL, pixels=False), path)
        return path

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return planes(images)


class OnnxRuntime(Onnx):
    """ONNX Runtime's CPU provider."""

    def __init__(self, task: Task, split: Split) -> None:
        onnxruntime = peer("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = task.threads
        options.log_severity_level = 3
        with tempfile.TemporaryDirectory() as folder:
            self.session = onnxruntime.InferenceSession(self.file(folder), options)

    def scores(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.session.run(None, {"x": prepared})[0]


class OpenVino(Onnx):
    """OpenVINO's CPU plugin, compiled alike for one image and for many."""

    def __init__(self, task: Task, split: Split) -> None:
        core = peer("openvino").Core()
        with tempfile.TemporaryDirectory() as folder:
            model = core.read_model(self.file(folder))
        # float32 as for all others; the plugin's default here is bfloat16.
        settings = {"INFERENCE_NUM_THREADS": task.threads, "INFERENCE_PRECISION_HINT": "f32"}
        self.compiled = core.compile_model(model, "CPU", settings)

    def scores(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array(self.compiled(prepared)[0])


class Recipes:
    """The training of a recipe between two evaluations of `lenet train`."""

    recipe: Recipe

    def __init__(self, task: Task, split: Split) -> None:
        dataset = data.Dataset(task.data, split, split, CLASSES, {})
        settings = Settings(task.device, "auto", task.threads, None, False, ".")
        self.recipe = self.recipe.changed(batch_size=task.batch_size)
        self.epochs, _ = assemble(self.recipe, dataset, settings)
        self.images, self.numbers = len(split), itertools.count()

    def epoch(self) -> int:
        self.epochs.run(1 + next(self.numbers) % self.recipe.optimisation.epochs)
        return self.images


class Ours(Recipes):
    """Also computes scores as `lenet evaluate` does, including the preparation of images."""

    recipe = RECIPES["d2l"]

    def __init__(self, task: Task, split: Split) -> None:
        super().__init__(task, split)
        self.scores = scorer(MODEL, task.threads)

    def prepare(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return images


class OurPatterns(Recipes):
    """A pass of LeNet-5 of 1998, including the second derivatives."""

    recipe = RECIPES["lenet5-1998"]


class Patterns:
    """LeNet-5 of 1998 by PyTorch, one pattern at a time, plain SGD on criterion (9)."""

    def __init__(self, task: Task, split: Split) -> None:
        torch.set_num_threads(task.threads)
        architecture = OurPatterns.recipe.architecture()
        self.model = from_architecture(architecture, architecture.initial_weights(seed=0))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        self.x = self.model.prepare(split.images[:PATTERNS])
        self.y = torch.from_numpy(split.labels[:PATTERNS])

    def epoch(self) -> int:
        for i in torch.randperm(len(self.x)).tolist():
            self.optimizer.zero_grad()
            map_criterion(self.model(self.x[i : i + 1]), self.y[i : i + 1], 10.0).backward()
            self.optimizer.step()
        return len(self.x)


class Product:
    """A large float32 matrix product: the speed of the processor. The batch size is its side."""

    def __init__(self, task: Task, split: Split) -> None:
        torch.set_num_threads(task.threads)
        self.a = torch.rand(task.batch_size, task.batch_size)

    def epoch(self) -> int:
        torch.mm(self.a, self.a)
        return 1


CONTENDERS: dict[str, Callable[[Task, Split], Any]] = {
    "the articles' loop": Articles,
    "PyTorch eager": Eager,
    "torch.compile": Compiled,
    "JAX, Flax": Jax,
    "Keras on JAX": Keras,
    "tinygrad": Tinygrad,
    "ONNX Runtime": OnnxRuntime,
    "OpenVINO": OpenVino,
    "lenet": Ours,
    "PyTorch eager, plain SGD": Patterns,
    "lenet train lenet5-1998": OurPatterns,
    "matrix product": Product,
}


class ArticleData(Dataset[tuple[Tensor, int]]):
    """One image at a time, as a float tensor (1, 28, 28) in 0..1, as from torchvision."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.split.images[index]).float().div(255).unsqueeze(0)
        return image, int(self.split.labels[index])


def peer(name: str) -> Any:
    """Imports a library of requirements.txt, which development does not need."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise LenetError(f"{error.name} is not installed (benchmarks/requirements.txt)") from None


def whole_batches(images: int, batch_size: int) -> NDArray[np.int32]:
    """Shuffled indices (batches, batch_size) of whole batches, for steps compiled for one shape."""
    order = np.random.default_rng().permutation(images).astype(np.int32)
    whole = images // batch_size * batch_size
    return order[:whole].reshape(-1, batch_size)


def planes(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images[:, None].astype(np.float32) / np.float32(255)


def channels_last() -> list[NDArray[np.float32]]:
    """The weights for images (H, W, C) and dense kernels (inputs, outputs)."""
    c1, c1_bias, c3, c3_bias, c5, *rest = WEIGHTS.values()
    rows = c5.reshape(120, 16, 5, 5).transpose(2, 3, 1, 0).reshape(400, 120)
    dense = [array.T if array.ndim == 2 else array for array in rest]
    return [c1.transpose(2, 3, 1, 0), c1_bias, c3.transpose(2, 3, 1, 0), c3_bias, rows, *dense]
