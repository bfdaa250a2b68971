"""The recipe `mnist-99` in plain PyTorch, as a program without lenet: plain.py FOLDER RECIPE.

FOLDER holds MNIST's four files, RECIPE is the recipe as JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def read(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    pixels = np.fromfile(folder / f"{part}-images-idx3-ubyte", np.uint8)[16:]
    labels = np.fromfile(folder / f"{part}-labels-idx1-ubyte", np.uint8)[8:]
    images = torch.from_numpy(pixels.reshape(-1, 1, 28, 28)).float() / 255
    return (images - 0.1307) / 0.3081, torch.from_numpy(labels.astype(np.int64))


def main(folder: Path, recipe: dict) -> None:
    torch.manual_seed(recipe["seed"])
    squash = {"relu": nn.ReLU, "silu": nn.SiLU}[recipe["activation"]]
    network = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), squash(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), squash(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), squash(), nn.Linear(120, 84), squash(), nn.Linear(84, 10)),
    )
    optimizer = torch.optim.AdamW(
        network.parameters(),
        betas=(0.9, recipe["beta2"]),
        weight_decay=recipe["weight_decay"],
        fused=True,
    )
    images, labels = read(folder, "train")
    batches = -(-len(images) // recipe["batch_size"])
    steps, step = recipe["epochs"] * batches, 0
    for _ in range(recipe["epochs"]):
        for batch in torch.randperm(len(images)).split(recipe["batch_size"]):
            loss = F.cross_entropy(
                network(images[batch]), labels[batch], label_smoothing=recipe["label_smoothing"]
            )
            optimizer.zero_grad()
            loss.backward()
            warm = recipe["warmup"] * steps
            rising, falling = (step + 1) / (warm + 1), (steps - step) / (steps - warm)
            optimizer.param_groups[0]["lr"] = recipe["lr"] * min(rising, falling)
            optimizer.step()
            step += 1
    images, labels = read(folder, "t10k")
    with torch.no_grad():
        accuracy = (network(images).argmax(1) == labels).float().mean()
    print(f"{float(accuracy):.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
