"""The articles' training as a program: articles.py DATA EPOCHS."""

import sys

from torch.utils.data import DataLoader

from benchmarks.speed.contenders import ArticleData, Articles
from benchmarks.speed.worker import Task
from lenet import data
from lenet.engine.processor import usable_cores


def main(name: str, epochs: str) -> None:
    """Prints the test accuracy after every epoch, as `train_ch6` does."""
    dataset = data.load(name)
    task = Task(name, len(dataset.train), 256, usable_cores())
    loop = Articles(task, dataset.train)
    test = DataLoader(ArticleData(dataset.test), 256)
    for epoch in range(int(epochs)):
        loop.epoch()
        right = sum(int((loop.network(x).argmax(1) == y).sum()) for x, y in test)
        print(f"epoch {epoch + 1}: test accuracy {right / len(dataset.test):.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
