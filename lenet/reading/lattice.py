"""The graph of all ways to read a line: nodes between pieces, arcs that read a segment as a digit
or leave it out.

LeCun, Bottou, Bengio and Haffner (1998), sections IV to VI: the score of a string is the sum over
all paths that read it (forward algorithm), its digits' places are on the best (Viterbi).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from heapq import nlargest
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

PART, JUNK = 10, 11  # classes after the digits: part of one or more than one, no digit at all
CLASSES = 12
PIECES = 0.5  # an arc over n pieces weighs n to this power, or few long arcs would win
DIGIT, SKIP = 1.0, -2.0  # added for every digit read and every segment left out
NAMES = [*"0123456789", ""]
NEGLIGIBLE = 6.0  # so far below all paths' sum, a digit of a segment is not tried ...
UNLIKELY = 6.0  # ... or, where not all is allowed, so far below the best class of the segment
IMPOSSIBLE = -1e9

Prefix = Callable[[str], bool]


def log_sum(a: float, b: float) -> float:
    """Log of the sum of two numbers whose logs are given."""
    return a + math.log1p(math.exp(b - a)) if a > b else b + math.log1p(math.exp(a - b))


@dataclass(frozen=True)
class Lattice:
    """Arcs of a line in the order of their first node.

    Attributes:
        nodes: number of nodes; paths go from node 0 to node nodes - 1.
        ends: int (N, 2), first and last node of each arc.
        digits: float64 (N, 10), score of reading it as each digit.
        skips: float64 (N,), score of leaving it out.
    """

    nodes: int
    ends: NDArray[np.int64]
    digits: NDArray[np.float64]
    skips: NDArray[np.float64]

    @classmethod
    def of(cls, pieces: int, ends: NDArray[np.int64], logs: NDArray[np.float64]) -> "Lattice":
        """The lattice of segments `ends` with log probabilities (N, 12) of their classes."""
        weights = (ends[:, 1] - ends[:, 0]) ** PIECES
        digits = weights[:, None] * logs[:, :10] + DIGIT
        return cls(pieces + 1, ends, digits, weights * logs[:, JUNK] + SKIP)

    @cached_property
    def into(self) -> list[NDArray[np.int64]]:
        """The arcs that lead to each node."""
        order = np.argsort(self.ends[:, 1], kind="stable")
        return np.split(order, np.searchsorted(self.ends[order, 1], np.arange(1, self.nodes)))

    @cached_property
    def around(self) -> tuple[float, NDArray[np.float64]]:
        """Log of the sum over all paths, and of the share of it that goes before and after each
        arc (N,)."""
        weights = np.logaddexp(np.logaddexp.reduce(self.digits, 1), self.skips).tolist()
        ends = self.ends.tolist()
        forward, backward = [IMPOSSIBLE] * self.nodes, [IMPOSSIBLE] * self.nodes
        forward[0] = backward[-1] = 0.0
        for (first, last), weight in zip(ends, weights, strict=True):
            forward[last] = log_sum(forward[last], forward[first] + weight)
        for (first, last), weight in zip(reversed(ends), reversed(weights), strict=True):
            backward[first] = log_sum(backward[first], backward[last] + weight)
        before, after = np.array(forward)[self.ends[:, 0]], np.array(backward)[self.ends[:, 1]]
        return forward[-1], before + after - forward[-1]

    def total(self) -> float:
        """Log of the sum over all paths."""
        return self.around[0]

    def strings(self, width: int, allowed: Prefix | None = None) -> dict[str, float]:
        """Likely strings and the log of the sum over their paths: a beam of `width` prefixes at
        each node, of those that are allowed; None allows all."""
        beams: list[dict[str, float]] = [{} for _ in range(self.nodes)]
        beams[0][""] = 0.0
        options = np.concatenate([self.digits, self.skips[:, None]], 1)
        if allowed is None:
            likely = options + self.around[1][:, None] > -NEGLIGIBLE
        else:
            likely = options > options.max(1, keepdims=True) - UNLIKELY
            likely[:, 10] = True
        choices: list[list[tuple[str, float]]] = [[] for _ in self.ends]
        for arc, digit in np.argwhere(likely).tolist():
            choices[arc].append((NAMES[digit], float(options[arc, digit])))
        done = -1
        for arc, (first, last) in enumerate(self.ends.tolist()):
            if first != done:
                done = first
                beams[first] = dict(nlargest(width, beams[first].items(), itemgetter(1)))
            there = beams[last]
            for digit, more in choices[arc]:
                for prefix, score in beams[first].items():
                    text, new = prefix + digit, score + more
                    if allowed is not None and digit and not allowed(text):
                        continue
                    there[text] = log_sum(there[text], new) if text in there else new
        return dict(nlargest(width, beams[-1].items(), itemgetter(1)))

    def score(self, texts: list[str]) -> NDArray[np.float64]:
        """Log of the sum over the paths that read each string."""
        scores = self.follow(texts, np.logaddexp)
        return scores[-1, np.arange(len(texts)), [len(text) for text in texts]]

    def follow(self, texts: list[str], join: np.ufunc) -> NDArray[np.float64]:
        """What `join` makes of the scores of all paths to each node that read each beginning of
        each string: (nodes, texts, longest + 1)."""
        most = max(map(len, texts))
        codes = np.array([[int(c) for c in text.ljust(most, "0")] for text in texts], np.int64)
        score = np.full((self.nodes, len(texts), most + 1), IMPOSSIBLE)
        score[0, :, 0] = 0.0
        digits = self.digits[:, codes.reshape(len(texts), most)]
        for node in range(1, self.nodes):
            arcs = self.into[node]
            before = score[self.ends[arcs, 0]]
            ways = np.full((2, *before.shape), IMPOSSIBLE)
            ways[0] = before + self.skips[arcs, None, None]
            ways[1, ..., 1:] = before[..., :-1] + digits[arcs]
            score[node] = join.reduce(ways, (0, 1))
        return score

    def path(self, text: str) -> list[tuple[int, str]]:
        """Arcs of the best path that reads the string, with the digit of each, "" if left out."""
        score = self.follow([text], np.maximum)[:, 0]
        if score[-1, -1] < IMPOSSIBLE / 2:
            return []
        steps: list[tuple[int, str]] = []
        node, count = self.nodes - 1, len(text)
        while node > 0:
            ways = []
            for arc in self.into[node].tolist():
                before = score[self.ends[arc, 0]]
                ways.append((before[count] + self.skips[arc], arc, ""))
                if count:
                    digit = text[count - 1]
                    ways.append((before[count - 1] + self.digits[arc, int(digit)], arc, digit))
            _, arc, digit = max(ways)
            steps.append((arc, digit))
            node, count = self.ends[arc, 0], count - len(digit)
        return steps[::-1]
