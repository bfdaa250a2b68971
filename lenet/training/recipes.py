"""The recipes by name."""

from pathlib import Path

from lenet.errors import LenetError
from lenet.training.recipe import Recipe

ADAMW = Recipe(
    pooling="max", init="torch", optimizer="adamw", lr=5e-3, schedule="cosine", warmup=0.1
)
SCALED = dict(mean=0.1307, std=0.3081)  # of MNIST's pixels
MOVED = dict(shift=1.0, rotation=10.0, scale=0.1, shear=0.1)
MNIST = ADAMW.changed(name="mnist", activation="gelu", epochs=30, weight_decay=1e-4, **MOVED)
# 99% of the test images in one epoch; RESULTS.md has the evidence.
MNIST_99 = ADAMW.changed(
    name="mnist-99",
    activation="silu",
    epochs=1,
    batch_size=32,
    label_smoothing=0.05,
    weight_decay=0.02,
    beta2=0.99,
    schedule="linear",
    warmup=0.2,
    **SCALED,
)
# "Dive into Deep Learning", section 7.6: printed test accuracies 0.779 and 0.795.
D2L = Recipe(name="d2l", data="fashion-mnist")
# A ReLU network with shared C3 kernels, one-hot targets, momentum.
LENET5S = Recipe(
    name="lenet5s",
    model="LeNet5s",
    loss="mse",
    batch_size=32,
    lr=0.01,
    momentum=0.9,
    print_every=100,
)
# The best that 61,706 parameters can do; docs/best.md has the evidence.
MNIST_BEST = MNIST.changed(
    name="mnist-best",
    activation="relu",
    pooling="average",
    epochs=200,
    weight_decay=0.1,
    elastic=1.0,
    paper=0.4,
    fade=0.7,
    noise=0.3,
)
# Digits of writers that MNIST lacks, and "none" for what is no digit: docs/strokes.md.
DIGITS = MNIST.changed(
    name="digits",
    data="digits",
    channels=(8, 24),
    activation="relu",
    pooling="average",
    epochs=20,
    validation=10_000,
    weight_decay=0.1,
    averaging=0.9997,
    elastic=0.7,
    paper=0.12,
    fade=0.21,
    noise=0.09,
    **SCALED,
)
FASHION_TEACHER = ADAMW.changed(
    name="fashion-mnist-teacher",
    data="fashion-mnist",
    activation="relu",
    epochs=100,
    lr=6e-3,
    weight_decay=0.02,
    shift=1.0,
    rotation=4.0,
    scale=0.05,
    shear=0.04,
    flip=True,
)
FASHION_BEST = FASHION_TEACHER.changed(
    name="fashion-mnist-best",
    epochs=240,
    copies=30,
    distillation=0.9,
    temperature=4.0,
    teachers=tuple(f"runs/fashion-mnist-teacher-{seed}" for seed in range(4)),
)
# The network of the 1998 paper and its optimizer; see docs/lenet5-1998.md.
LENET5_1998 = Recipe(
    name="lenet5-1998",
    model="LeNet5",
    initial="sqrt",
    loss="map",
    epochs=20,
    batch_size=1,
    optimizer="sdlm",
    lr=5e-4,
    mu=0.2,
    schedule="1998",
)
LENET5_1998_DISTORTED = LENET5_1998.changed(
    name="lenet5-1998-distorted",
    lr=3e-4,
    schedule="cosine",
    shift=1.0,
    scale=0.1,
    squeeze=0.1,
    shear=0.15,
)
# The zip code network of 1989 on its data, and its descendants on MNIST; see docs/lenet1989.md.
LENET_1989 = Recipe(
    name="lenet-1989",
    model="LeNet1989",
    data="usps",
    loss="mse-bipolar",
    epochs=23,
    batch_size=1,
    optimizer="sdlm",
    lr=1e-3,
)
LENET1 = Recipe(
    name="lenet1",
    model="LeNet1",
    loss="mse-bipolar",
    epochs=20,
    batch_size=32,
    optimizer="adamw",
    lr=5e-3,
    schedule="linear",
)
LENET4 = LENET1.changed(name="lenet4", model="LeNet4", lr=3e-3)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        *(MNIST, MNIST_99, D2L, LENET5S, MNIST_BEST, DIGITS),
        *(FASHION_TEACHER, FASHION_BEST, LENET5_1998, LENET5_1998_DISTORTED),
        *(LENET_1989, LENET1, LENET4),
    )
}


def find(name: str) -> Recipe:
    """The recipe of that name, or in that .json file.

    Raises:
        LenetError: there is no such recipe, or the file holds none.
    """
    if name in RECIPES:
        return RECIPES[name]
    if name.endswith(".json"):
        return Recipe.from_file(Path(name))
    raise LenetError(
        f"no recipe {name!r}: choose one of {', '.join(RECIPES)}, or name a .json file"
    )
