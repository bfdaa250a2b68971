"""What a number may look like: narrows what the reader reads."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from operator import mul

from lenet.errors import LenetError

SEPARATORS = ".,-/: "


@dataclass(frozen=True)
class Expected:
    """What is known of the numbers in a picture; by default nothing.

    Attributes:
        format: "#" for every digit, digits that are always the same, and separators among
            ".,-/: ": "#####", "#,###.##", "19##".
        length: digits, or (fewest, most).
        range: (least, largest) value of the digits read as a whole number.
        check: the check digit that they have, one of `CHECKS`.
    """

    format: str | None = None
    length: int | tuple[int, int] | None = None
    range: tuple[int, int] | None = None
    check: str | None = None

    def __post_init__(self) -> None:
        if self.format is not None and not re.fullmatch(rf"[#0-9{SEPARATORS}]*", self.format):
            raise LenetError(
                f"the format {self.format!r} may hold # for a digit, digits and {SEPARATORS!r} only"
            )
        if self.format is not None and not self.places:
            raise LenetError(
                f"the format {self.format!r} has no place for a digit; write # for one"
            )
        if self.check is not None and self.check not in CHECKS:
            raise LenetError(f"no check digit {self.check!r}; choose {', '.join(CHECKS)}")
        if self.fewest < 1 or self.fewest > self.most:
            raise LenetError(f"no number has the length {self.length}")
        if self.range is not None and not 0 <= self.range[0] <= self.range[1]:
            raise LenetError(f"the range {self.range} holds no number; give (least, largest)")

    @property
    def places(self) -> str:
        """The format without separators."""
        return "".join(c for c in self.format or "" if c not in SEPARATORS)

    @property
    def fewest(self) -> int:
        if self.format is not None:
            return len(self.places)
        if self.length is None:
            return 1
        return self.length[0] if isinstance(self.length, tuple) else self.length

    @property
    def most(self) -> int:
        if self.format is not None:
            return len(self.places)
        if self.length is None:
            return 10**9
        return self.length[1] if isinstance(self.length, tuple) else self.length

    @property
    def anything(self) -> bool:
        return self == Expected()

    def begins(self, prefix: str) -> bool:
        """Whether a number may begin so."""
        if len(prefix) > self.most:
            return False
        if self.range is not None and prefix and int(prefix) > self.range[1]:
            return False
        places = zip(prefix, self.places, strict=False)
        return all(place in ("#", digit) for digit, place in places)

    def accepts(self, text: str) -> bool:
        """Whether this may be a number."""
        if not self.fewest <= len(text) <= self.most or not self.begins(text):
            return False
        if self.range is not None and not self.range[0] <= int(text) <= self.range[1]:
            return False
        return self.check is None or CHECKS[self.check](text)

    def written(self, text: str) -> str:
        """The digits with the format's separators."""
        digits = iter(text)
        return "".join(c if c in SEPARATORS else next(digits) for c in self.format or "")


def luhn(text: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B).

    >>> luhn("4539148803436467"), luhn("4539148803436468")
    (True, False)
    """
    doubled = (int(c) * (1 + n % 2) for n, c in enumerate(reversed(text)))
    return len(text) > 1 and sum(d - 9 * (d > 9) for d in doubled) % 10 == 0


def weighted(weights: Sequence[int], modulus: int) -> Callable[[str], bool]:
    """Whether the sum of the digits, with these weights in turn from the last on, is 0."""

    def check(text: str) -> bool:
        digits = map(int, reversed(text))
        return sum(map(mul, digits, cycle(weights))) % modulus == 0

    return check


CHECKS: dict[str, Callable[[str], bool]] = {
    "luhn": luhn,  # payment cards, IMEI, many identity numbers
    "ean": weighted((1, 3), 10),  # EAN, UPC, ISBN-13
    "isbn10": weighted(range(1, 11), 11),  # without those that end in X
    "aba": weighted((1, 7, 3), 10),  # routing numbers of cheques
    "mod97": lambda text: int(text) % 97 == 1,  # ISO 7064, MOD 97-10: payment references
}
