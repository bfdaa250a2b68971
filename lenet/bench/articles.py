"""The articles' training as a program of its own: data set, epochs, folder of the data."""

import sys

from torch.utils.data import DataLoader

from lenet import data
from lenet.bench.contenders import ArticleData, Articles, Task
from lenet.engine.processor import usable_cores
from lenet.training.recipes import RECIPES
from lenet.training.training import initial_network


def main(name: str, epochs: str, folder: str) -> None:
    """Prints the test accuracy after every epoch, as `train_ch6` does."""
    found = data.load(name, folder or None)
    weights = tuple(p.detach().numpy() for p in initial_network(RECIPES["d2l"], 10).parameters())
    loop = Articles(Task(found.train, weights, 256, usable_cores(), "cpu"))
    test = DataLoader(ArticleData(found.test), 256)
    for epoch in range(int(epochs)):
        loop.epoch()
        right = sum(int((loop.network(x).argmax(1) == y).sum()) for x, y in test)
        print(f"epoch {epoch + 1}: test accuracy {right / len(found.test):.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
