"""The recipes by name."""

from pathlib import Path

from lenet.errors import LenetError
from lenet.training.recipe import Recipe

LENET5_1998 = Recipe(
    name="lenet5-1998",
    model="LeNet5",
    initial="sqrt",
    epochs=20,
    batch_size=1,
    loss="map",
    optimizer="sdlm",
    lr=5e-4,
    mu=0.2,
    schedule="1998",
)
FASHION_MNIST_TEACHER = Recipe(
    name="fashion-mnist-teacher",
    data="fashion-mnist",
    activation="relu",
    pooling="max",
    init="torch",
    epochs=100,
    optimizer="adamw",
    lr=6e-3,
    weight_decay=0.02,
    schedule="cosine",
    warmup=0.1,
    shift=1.0,
    rotation=4.0,
    scale=0.05,
    shear=0.04,
    flip=True,
)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="mnist",
            activation="gelu",
            pooling="max",
            init="torch",
            epochs=30,
            optimizer="adamw",
            lr=5e-3,
            weight_decay=1e-4,
            schedule="cosine",
            warmup=0.1,
            shift=1.0,
            rotation=10.0,
            scale=0.1,
            shear=0.1,
        ),
        # 99% of the test images in one epoch; RESULTS.md has the evidence.
        Recipe(
            name="mnist-99",
            activation="silu",
            pooling="max",
            init="torch",
            mean=0.1307,
            std=0.3081,
            epochs=1,
            batch_size=32,
            optimizer="adamw",
            lr=5e-3,
            weight_decay=0.02,
            beta2=0.99,
            label_smoothing=0.05,
            schedule="linear",
            warmup=0.2,
        ),
        # "Dive into Deep Learning", section 7.6: printed test accuracies 0.779 and 0.795.
        Recipe(name="d2l", data="fashion-mnist"),
        # A ReLU network with shared C3 kernels, one-hot targets, momentum.
        Recipe(
            name="lenet5s",
            model="LeNet5s",
            batch_size=32,
            loss="mse",
            lr=0.01,
            momentum=0.9,
            print_every=100,
        ),
        # The best that 61,706 parameters can do; docs/best.md has the evidence.
        Recipe(
            name="mnist-best",
            activation="relu",
            pooling="average",
            init="torch",
            epochs=200,
            optimizer="adamw",
            lr=5e-3,
            weight_decay=0.1,
            schedule="cosine",
            warmup=0.1,
            shift=1.0,
            rotation=10.0,
            scale=0.1,
            shear=0.1,
            elastic=1.0,
            paper=0.4,
            fade=0.7,
            noise=0.3,
        ),
        # Digits of writers whom MNIST lacks, and "none" for what is no digit: docs/strokes.md.
        Recipe(
            name="digits",
            data="digits",
            channels=(8, 24),
            activation="relu",
            pooling="average",
            init="torch",
            mean=0.1307,
            std=0.3081,
            epochs=20,
            validation=10_000,
            optimizer="adamw",
            lr=5e-3,
            weight_decay=0.1,
            schedule="cosine",
            warmup=0.1,
            averaging=0.9997,
            shift=1.0,
            rotation=10.0,
            scale=0.1,
            shear=0.1,
            elastic=0.7,
            paper=0.12,
            fade=0.21,
            noise=0.09,
        ),
        FASHION_MNIST_TEACHER,
        FASHION_MNIST_TEACHER.changed(
            name="fashion-mnist-best",
            epochs=240,
            copies=30,
            teachers=tuple(f"runs/fashion-mnist-teacher-{seed}" for seed in range(4)),
            distillation=0.9,
            temperature=4.0,
        ),
        # The network of the 1998 paper and its optimizer; see docs/lenet5-1998.md.
        LENET5_1998,
        LENET5_1998.changed(
            name="lenet5-1998-distorted",
            lr=3e-4,
            schedule="cosine",
            shift=1.0,
            scale=0.1,
            squeeze=0.1,
            shear=0.15,
        ),
    )
}


def find(name: str) -> Recipe:
    """The recipe of that name, or in that .json file.

    Raises:
        LenetError: there is none, or the file holds no recipe.
    """
    if name in RECIPES:
        return RECIPES[name]
    if name.endswith(".json"):
        return Recipe.from_file(Path(name))
    raise LenetError(
        f"no recipe {name!r}: choose one of {', '.join(RECIPES)}, or name a .json file"
    )
