"""Search spaces: every spelling of `--vary`, and what is said about those that cannot be read."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet.errors import LenetError
from lenet.sweep.search_space import Dimension, parsed, search_space, spelled
from lenet.training.recipe import Recipe
from lenet.training.recipes import RECIPES

MNIST = RECIPES["mnist"]


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("lr=1e-4..1e-2:log", ("lr", (), 1e-4, 1e-2, True, False)),
        ("weight_decay=0..0.1", ("weight_decay", (), 0.0, 0.1, False, False)),
        ("weight-decay=0..0.1", ("weight_decay", (), 0.0, 0.1, False, False)),
        ("epochs=5..30", ("epochs", (), 5, 30, False, True)),
        ("batch_size=16..512:log", ("batch_size", (), 16, 512, True, True)),
        (" activation = relu, tanh ", ("activation", ("relu", "tanh"), 0.0, 0.0, False, False)),
        ("channels=6+16,12+32", ("channels", ("6+16", "12+32"), 0.0, 0.0, False, False)),
    ],
)
def test_spellings(spelling: str, expected: tuple) -> None:
    (dimension,) = search_space([spelling], MNIST)
    assert dimension == Dimension(spelling, *expected)


@pytest.mark.parametrize(
    ("field", "choice", "value"),
    [
        ("channels", "6+16", (6, 16)),
        ("hidden", "84", (84,)),
        ("hidden", "none", ()),
        ("teachers", "runs/a+mnist", ("runs/a", "mnist")),
        ("batch_size", "32", 32),
        ("lr", "1e-3", 0.001),
        ("pooling", "max", "max"),
        ("flip", "true", True),
    ],
)
def test_choices_become_the_recipes_values(field: str, choice: str, value: object) -> None:
    drawn = Dimension("", field, (choice, "another")).value(choice)
    assert drawn == value
    assert type(drawn) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_what_is_spelled_is_read_again(number: float) -> None:
    assert parsed("lr", spelled(number)) == number


@given(st.lists(st.integers(1, 10**6), max_size=3).map(tuple))
def test_what_is_spelled_is_read_again_with_several_numbers(numbers: tuple[int, ...]) -> None:
    assert parsed("hidden", spelled(numbers)) == numbers


@pytest.mark.parametrize(
    ("spelling", "words"),
    [
        ("lr", "no values"),
        ("lr=", "no values"),
        ("lr=0.1", "one value is no choice"),
        ("lr=1e-2..1e-4", "not below"),
        ("lr=0.1..nan", "not below"),
        ("lr=a..b", "two numbers"),
        ("lr=1..2..3", "two numbers"),
        ("lr=0..1:log", "begins above 0"),
        ("lr=1e-4..1e-2:lin", "only :log"),
        ("epochs=1.5..3", "whole numbers"),
        ("activation=relu..tanh", "no range"),
        ("activation=relu,swish", "must be one of sigmoid"),
        ("channels=6x16,12x32", "cannot be '6x16'"),
        ("batch_size=32,64.5", "cannot be '64.5'"),
    ],
)
def test_bad_values_name_the_flag_and_an_example(spelling: str, words: str) -> None:
    field = spelling.partition("=")[0]
    with pytest.raises(LenetError, match=re.escape(words)) as error:
        search_space([spelling], MNIST)
    message = str(error.value)
    assert f"--vary {spelling}" in message
    example = re.search(rf"for example --vary ({field}=\S+)", message)
    assert example
    search_space([example[1].rstrip(",;")], MNIST)  # it holds what it promises


@pytest.mark.parametrize(
    ("spellings", "words"),
    [
        ([], "at least one --vary"),
        (["learning_rate=1..2"], "a recipe has no learning_rate"),
        (["momentun=0..0.9"], "did you mean momentum?"),
        (["validation=10,20"], "one part of one data set"),
        (["data=mnist,fashion-mnist"], "one part of one data set"),
        (["lr=1..2", "lr=3..4"], "given twice"),
        (["lr=0.1,0.1"], "a value is given twice"),
        (["lr=-1..1"], "lr cannot be -1.0"),
        (["momentum=0..0.9"], "momentum goes with the optimizer sgd"),
    ],
)
def test_what_cannot_be_varied(spellings: list[str], words: str) -> None:
    with pytest.raises(LenetError, match=re.escape(words)):
        search_space(spellings, MNIST)


def test_a_value_may_need_another_field() -> None:
    """Momentum alone is refused for adamw; with sgd among the optimizers it is possible."""
    assert len(search_space(["momentum=0..0.9", "optimizer=sgd,adamw"], MNIST)) == 2
    with pytest.raises(LenetError, match="goes with the optimizer sgd"):
        search_space(["momentum=0.5..0.9", "optimizer=adamw,sdlm"], Recipe())
