"""The graph of all ways to read a line: nodes between pieces, arcs that read a segment as a digit
or leave it out.

LeCun, Bottou, Bengio and Haffner (1998), sections IV to VI: the score of a string is the sum over
all paths that read it (forward algorithm), its digits' places are on the best (Viterbi).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

PART, JUNK = 10, 11  # classes after the digits: part of one or more than one, no digit at all
CLASSES = 12
PIECES = 0.5  # an arc over n pieces weighs n to this power, or few long arcs would win
DIGIT, SKIP = 1.0, -2.0  # added for every digit read and every segment left out
UNLIKELY = 6.0  # below the best class of its segment a digit is not tried
IMPOSSIBLE = -1e9

Prefix = Callable[[str], bool]


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

    def total(self) -> float:
        """Log of the sum over all paths."""
        score = np.full(self.nodes, IMPOSSIBLE)
        score[0] = 0.0
        weights = np.logaddexp(np.logaddexp.reduce(self.digits, 1), self.skips)
        for node in range(1, self.nodes):
            arcs = self.into[node]
            score[node] = np.logaddexp.reduce(score[self.ends[arcs, 0]] + weights[arcs])
        return float(score[-1])

    def strings(self, width: int, allowed: Prefix | None = None) -> dict[str, float]:
        """Likely strings and the log of the sum over their paths: a beam of `width` prefixes at
        each node, of those that are allowed; None allows all."""
        beams: list[dict[str, float]] = [{} for _ in range(self.nodes)]
        beams[0][""] = 0.0
        likely = self.digits > np.maximum(self.digits.max(1), self.skips)[:, None] - UNLIKELY
        choices: list[list[tuple[str, float]]] = [[("", skip)] for skip in self.skips.tolist()]
        for arc, digit in np.argwhere(likely).tolist():
            choices[arc].append((str(digit), float(self.digits[arc, digit])))
        done = -1
        for arc, (first, last) in enumerate(self.ends.tolist()):
            if first != done:
                done = first
                kept = sorted(beams[first].items(), key=lambda item: -item[1])[:width]
                beams[first] = dict(kept)
            there = beams[last]
            for prefix, score in beams[first].items():
                for digit, more in choices[arc]:
                    text, new = prefix + digit, score + more
                    if allowed is not None and digit and not allowed(text):
                        continue
                    old = there.get(text)
                    if old is not None:
                        new, low = (new, old) if new > old else (old, new)
                        new += math.log1p(math.exp(low - new))
                    there[text] = new
        return dict(sorted(beams[-1].items(), key=lambda item: -item[1])[:width])

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
