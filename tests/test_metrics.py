"""Measures against scikit-learn, the rejection curve against its definition."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize, special
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from lenet.errors import LenetError
from lenet.evaluation import metrics

DIGITS = tuple("0123456789")
SCORES = st.floats(-50, 50, width=32)


@st.composite
def examples(draw, elements=SCORES):
    """Scores (N, C) and labels (N,), often with classes that never occur."""
    count, classes = draw(st.integers(1, 30)), draw(st.integers(2, 6))
    scores = draw(hnp.arrays(np.float64, (count, classes), elements=elements))
    last = draw(st.integers(0, classes - 1))
    labels = draw(hnp.arrays(np.int64, count, elements=st.integers(0, last)))
    return scores, labels


def names(scores):
    return tuple(f"class {i}" for i in range(scores.shape[1]))


def random_examples(count, seed=0, strength=2.0):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 10, count)
    scores = draw.normal(size=(count, 10))
    scores[np.arange(count), labels] += strength
    return scores, labels


@given(examples())
def test_report_agrees_with_scikit_learn(data):
    scores, labels = data
    classes = range(scores.shape[1])
    answers = scores.argmax(1)
    report = metrics.report(scores, labels, names(scores))

    assert report.count == len(labels)
    assert report.accuracy == pytest.approx(sklearn_metrics.accuracy_score(labels, answers))
    assert report.error == pytest.approx(sklearn_metrics.zero_one_loss(labels, answers))
    probabilities = special.softmax(scores, axis=1)
    if probabilities[np.arange(len(labels)), labels].min() > 1e-12:  # log_loss clips small ones
        expected = sklearn_metrics.log_loss(labels, probabilities, labels=list(classes))
        assert report.loss == pytest.approx(expected, rel=1e-9, abs=1e-12)
    expected = -special.log_softmax(scores, axis=1)[np.arange(len(labels)), labels].mean()
    assert report.loss == pytest.approx(expected, rel=1e-9, abs=1e-12)
    confusion = sklearn_metrics.confusion_matrix(labels, answers, labels=list(classes))
    assert np.array_equal(report.confusion, confusion)
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels,
        answers,
        labels=list(classes),
        zero_division=0,  # pyright: ignore[reportArgumentType]
    )
    assert [row.precision for row in report.per_class] == pytest.approx(precision)
    assert [row.recall for row in report.per_class] == pytest.approx(recall)
    assert [row.f1 for row in report.per_class] == pytest.approx(f1)
    assert [row.support for row in report.per_class] == list(np.array(support))
    assert report.classes == names(scores)


def curve_by_definition(scores, labels):
    """O(N^2): for each confidence that occurs, reject what is below it and count."""
    ordered = np.sort(scores, axis=1)
    confidence = ordered[:, -1] - ordered[:, -2]
    points = []
    for threshold in sorted(set(confidence)):
        accepted = [i for i in range(len(labels)) if confidence[i] >= threshold]
        wrong = sum(scores[i].argmax() != labels[i] for i in accepted)
        rejected = (len(labels) - len(accepted)) / len(labels)
        points.append((threshold, rejected, wrong / len(accepted)))
    return points


@given(examples(st.integers(0, 4).map(float)))  # few levels, so that there are ties
def test_rejection_curve_is_its_definition(data):
    curve = metrics.rejection_curve(*data)
    expected = curve_by_definition(*data)
    assert list(zip(curve.rejected, curve.error, strict=True)) == [p[1:] for p in expected]
    assert curve.threshold[0] == 0
    assert list(curve.threshold[1:]) == [p[0] for p in expected[1:]]


@given(examples(st.integers(0, 9).map(float)), st.sampled_from([0.0, 0.1, 0.25, 0.5]))
def test_rejection_is_the_smallest_that_reaches_the_target(data, target):
    scores, labels = data
    found = metrics.rejection(metrics.rejection_curve(scores, labels), target)
    reaching = [rejected for _, rejected, e in curve_by_definition(scores, labels) if e <= target]
    assert found.rejected == min(reaching, default=None)
    if found.threshold is not None:
        accepted = metrics.confidence(scores) >= found.threshold
        assert 1 - accepted.mean() == pytest.approx(found.rejected)
        assert (scores.argmax(1) != labels)[accepted].mean() == found.error


def test_known_answers():
    scores = np.array([[3.0, 0, 0], [0, 2, 1], [1, 0, 0.5], [0, 5, 0]])
    report = metrics.report(scores, np.array([0, 1, 1, 1]), ("a", "b", "c"))
    assert (report.accuracy, report.error) == (0.75, 0.25)
    assert report.confusion == ((1, 0, 0), (1, 2, 0), (0, 0, 0))
    assert report.per_class[0] == metrics.ClassReport("a", 0.5, 1.0, 2 / 3, 1)
    assert report.per_class[1] == metrics.ClassReport("b", 1.0, 2 / 3, 0.8, 3)
    assert report.per_class[2] == metrics.ClassReport("c", 0.0, 0.0, 0.0, 0)
    # Confidences 3, 1, 0.5 (the mistake) and 5.
    assert report.curve.threshold == (0, 1, 3, 5)
    assert report.curve.rejected == (0, 0.25, 0.5, 0.75)
    assert report.curve.error == (0.25, 0, 0, 0)
    half, tenth = report.rejections
    assert half == metrics.Rejection(0.005, 0.25, 0.0, 1.0)
    assert tenth == metrics.Rejection(0.001, 0.25, 0.0, 1.0)


def test_an_error_that_equals_the_target_reaches_it():
    """One mistake in 200 is 0.5%: nothing has to be rejected."""
    scores = np.tile([9.0, 0.0], (200, 1)) + np.arange(200)[:, None] * [0.01, 0]
    labels = np.zeros(200, int)
    labels[-1] = 1  # the most confident answer is the mistake, so 0.1% is never reached
    half, tenth = metrics.report(scores, labels, ("a", "b")).rejections
    assert half == metrics.Rejection(0.005, 0.0, 0.005, 0.0)
    assert tenth == metrics.Rejection(0.001, None, None, None)


def test_equal_confidences_are_rejected_together():
    scores = np.array([[2.0, 1], [1, 2], [5, 1]])  # the first two tie, one of them is wrong
    curve = metrics.rejection_curve(scores, np.array([0, 0, 0]))
    assert curve.rejected == (0, 2 / 3)
    assert curve.error == (1 / 3, 0)


def test_equal_best_scores_answer_the_first_class_without_confidence():
    report = metrics.report(np.zeros((2, 3)), np.array([0, 2]), "abc")
    assert report.accuracy == 0.5
    assert report.loss == pytest.approx(np.log(3))
    assert report.curve == metrics.Curve((0.0,), (0.0,), (0.5,))
    assert report.rejections[0].rejected is None


@pytest.mark.parametrize("label", [0, 1])
def test_single_example(label):
    report = metrics.report(np.array([[1.0, 0.0]]), np.array([label]), ("a", "b"))
    assert report.error == label
    assert report.loss == pytest.approx(np.log1p(np.exp(-1)) + label)
    assert report.rejections[0].rejected == (None if label else 0.0)


@pytest.mark.parametrize("count", [1_000, 70_000])
def test_thinned_curve_keeps_points_of_the_whole_curve(count):
    scores, labels = random_examples(count, strength=4.0)
    report = metrics.report(scores, labels, DIGITS)
    whole = metrics.rejection_curve(scores, labels)

    def points(curve):
        return list(zip(curve.threshold, curve.rejected, curve.error, strict=True))

    assert set(points(report.curve)) <= set(points(whole))
    assert points(report.curve)[0] == points(whole)[0]
    assert points(report.curve)[-1] == points(whole)[-1]
    assert len(whole.error) == count
    assert len(report.curve.error) <= metrics.CURVE_POINTS + 3
    assert list(report.curve.rejected) == sorted(set(report.curve.rejected))
    for found, target in zip(report.rejections, metrics.TARGETS, strict=True):
        assert found == metrics.rejection(whole, target)
        assert (found.threshold, found.rejected, found.error) in points(report.curve)
    first_clean = metrics.rejection(whole, 0.0)
    assert metrics.rejection(report.curve, 0.0) == first_clean


@given(examples(st.integers(0, 9).map(float)), st.integers(0, 40))
def test_worst_mistakes_come_first(data, k):
    scores, labels = data
    found = metrics.worst(scores, labels, k)
    gaps = {
        i: row.max() - row[label]
        for i, (row, label) in enumerate(zip(scores, labels, strict=True))
        if row.argmax() != label
    }
    assert found.tolist() == sorted(gaps, key=lambda i: (-gaps[i], i))[:k]


@given(hnp.arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6)))
def test_softmax_and_cross_entropy_agree_with_scipy(scores):
    np.testing.assert_allclose(metrics.softmax(scores), special.softmax(scores, axis=-1), 1e-12)
    labels = np.array([0, 3, 1])
    expected = -special.log_softmax(scores, axis=-1)[np.arange(3), labels].mean()
    np.testing.assert_allclose(metrics.cross_entropy(scores, labels), expected, 1e-12, atol=1e-9)


def test_helpers_take_one_vector_of_scores():
    scores = np.array([2.0, 5.0, 1.0], np.float32)
    assert metrics.softmax(scores).sum() == pytest.approx(1)
    assert metrics.softmax(scores).argmax() == 1
    assert float(metrics.confidence(scores)) == 3.0


@pytest.mark.parametrize("classes", [2, 10, 200])
def test_confidence_is_best_minus_second_best(classes):
    scores = np.random.default_rng(0).normal(size=(50, classes))
    expected = [np.sort(row)[-1] - np.sort(row)[-2] for row in scores]
    assert metrics.confidence(scores).tolist() == expected


def test_huge_scores_overflow_nothing():
    scores = np.array([[9e299, -9e299], [-9e299, 9e299]])
    report = metrics.report(scores, np.array([1, 1]), ("a", "b"))
    assert report.loss == pytest.approx(9e299)
    json.dumps(report.as_dict(), allow_nan=False)


def test_float32_scores_are_measured_in_float64():
    scores, labels = random_examples(500)
    single = scores.astype(np.float32)
    assert metrics.report(single, labels, DIGITS) == metrics.report(
        single.astype(np.float64), labels, DIGITS
    )


@settings(max_examples=30)
@given(examples())
def test_dictionary_is_json_with_every_field(data):
    scores, labels = data
    report = metrics.report(scores, labels, names(scores))
    values = report.as_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["confusion"] == [list(row) for row in report.confusion]
    assert values["per_class"] == [vars(row) for row in report.per_class]
    assert values["curve"]["error"] == list(report.curve.error)
    assert values["rejections"] == [vars(point) for point in report.rejections]
    assert [values[key] for key in ("count", "accuracy", "error", "loss")] == [
        *(report.count, report.accuracy, report.error, report.loss)
    ]


def test_order_of_the_examples_does_not_matter():
    scores, labels = random_examples(2_000)
    order = np.random.default_rng(1).permutation(2_000)
    first = metrics.report(scores, labels, DIGITS).as_dict()
    second = metrics.report(scores[order], labels[order], DIGITS).as_dict()
    assert second.pop("loss") == pytest.approx(first.pop("loss"), rel=1e-12)
    found, expected = second.pop("reliability"), first.pop("reliability")
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-12)
    assert first == second


GOOD = np.eye(3), np.arange(3)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros(3), np.arange(3), r"\(3,\) and \(3,\)"),
        (np.zeros((3, 1)), np.zeros(3, int), "at least 2 classes"),
        (np.zeros((0, 3)), np.zeros(0, int), "no scores"),
        (np.zeros((3, 3)), np.arange(2), r"\(3, 3\) and \(2,\)"),
        (np.zeros((3, 3)), np.zeros((3, 1), int), r"\(3, 1\)"),
        (np.zeros((3, 3)), np.zeros(3), "integers"),
        (np.zeros((3, 3)), np.array([0, 1, 3]), r"0\.\.2, not 0\.\.3"),
        (np.zeros((3, 3)), np.array([0, 1, -1]), r"0\.\.2, not -1\.\.1"),
        (np.full((3, 3), np.nan), np.arange(3), r"finite; the one at \(0, 0\) is nan"),
        (np.where(np.eye(3), np.inf, 1), np.arange(3), "is inf"),
        (np.where(np.eye(3), -np.inf, 1), np.arange(3), "is -inf"),
        (np.array([["a", "b"]]), np.array([0]), "numbers"),
    ],
)
def test_what_cannot_be_measured_is_refused(scores, labels, message):
    with pytest.raises(LenetError, match=message):
        metrics.report(scores, labels, "abc")
    with pytest.raises(LenetError, match=message):
        metrics.worst(scores, labels, 3)
    with pytest.raises(LenetError, match=message):
        metrics.rejection_curve(scores, labels)


def test_wrong_number_of_classes_is_refused():
    with pytest.raises(LenetError, match="3 classes, but 2"):
        metrics.report(*GOOD, ("a", "b"))


def test_negative_number_of_mistakes_is_refused():
    with pytest.raises(LenetError, match="-1 mistakes"):
        metrics.worst(*GOOD, -1)


@pytest.mark.parametrize("helper", [metrics.softmax, metrics.confidence])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_helpers_refuse_what_is_not_finite(helper, value):
    with pytest.raises(LenetError, match="finite"):
        helper(np.array([0.0, value]))


def test_trust_is_for_what_reaches_the_strictest_target():
    labels = np.arange(1000) % 2
    scores = np.eye(2)[labels] * np.linspace(1, 2, 1000)[:, None]
    perfect = metrics.report(scores, labels, "ab")
    assert perfect.trust_threshold == 0.0
    wrong = [0, 1, 2, 3]  # with the four smallest gaps: 0.4% error
    scores[wrong] = scores[wrong][:, ::-1]
    four = metrics.report(scores, labels, "ab")
    assert four.rejections[0].threshold == 0.0
    # Three rejected leave one mistake in 997, more than 0.1%; four leave none.
    assert four.trust_threshold == pytest.approx(scores[4].max())
    hopeless = metrics.report(np.eye(2)[1 - labels], labels, "ab")
    assert hopeless.trust_threshold is None


def test_error_at_a_share_of_the_curve():
    curve = metrics.Curve((0.0, 0.5, 0.9), (0.0, 0.1, 0.4), (0.2, 0.15, 0.0))
    assert [curve.at(share) for share in (0, 0.05, 0.1, 0.39, 0.4, 1)] == [
        *(0.2, 0.2),
        *(0.15, 0.15),
        *(0.0, 0.0),
    ]


# Calibration


@given(examples(), st.sampled_from([0.3, 1.0, 4.0]))
def test_reliability_against_its_definition(data, temperature):
    scores, labels = data
    found = metrics.report(scores, labels, names(scores), temperature).reliability
    probabilities = special.softmax(scores / temperature, axis=1)
    best, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.arange(16) / 15
    if np.abs(best[:, None] - edges[:-1]).min() < 1e-9:
        return  # rounding decides on which side of an edge it falls
    ece = 0.0
    for i in range(15):
        inside = (best > edges[i]) & (best <= max(edges[i + 1], i == 14 and 1.001))
        assert found.count[i] == inside.sum()
        if inside.any():
            assert found.accuracy[i] == pytest.approx(right[inside].mean())
            assert found.probability[i] == pytest.approx(best[inside].mean())
            ece += inside.mean() * abs(right[inside].mean() - best[inside].mean())
        else:
            assert (found.accuracy[i], found.probability[i]) == (0, 0)
    assert found.ece == pytest.approx(ece, abs=1e-12)


def test_reliability_agrees_with_scikit_learn():
    scores, labels = random_examples(3_000)
    found = metrics.report(scores, labels, DIGITS).reliability
    probabilities = special.softmax(scores, axis=1)
    right = probabilities.argmax(axis=1) == labels
    shares, means = calibration_curve(right, probabilities.max(axis=1), n_bins=15)
    used = np.array(found.count) > 0
    np.testing.assert_allclose(np.array(found.accuracy)[used], shares)
    np.testing.assert_allclose(np.array(found.probability)[used], means)


@pytest.mark.parametrize("stretch", [0.02, 0.5, 1.0, 30.0])
def test_at_the_temperature_answers_claim_what_they_achieve(stretch):
    scores, labels = random_examples(2_000)
    scores = scores * stretch
    right = np.mean(scores.argmax(axis=1) == labels)

    def excess(temperature):
        return special.softmax(scores / temperature, axis=1).max(axis=1).mean() - right

    expected = optimize.brentq(excess, 1e-3, 1e3, rtol=np.float64(1e-12))
    found = metrics.fit_temperature(scores, labels)
    assert found == pytest.approx(expected, rel=1e-9)
    report = metrics.report(scores, labels, DIGITS, found)
    assert report.temperature == found
    assert np.average(report.reliability.probability, weights=report.reliability.count) == (
        pytest.approx(report.accuracy)
    )
    shares = special.log_softmax(scores / found, axis=1)
    assert report.loss == pytest.approx(-shares[np.arange(len(labels)), labels].mean())


def test_temperature_calibrates_what_was_only_stretched():
    draw = np.random.default_rng(0)
    scores = draw.normal(scale=2, size=(20_000, 10))
    labels = (draw.random((20_000, 1)) > special.softmax(scores, axis=1).cumsum(axis=1)).sum(axis=1)
    before = metrics.report(7 * scores, labels, DIGITS)
    found = metrics.fit_temperature(7 * scores, labels)
    after = metrics.report(7 * scores, labels, DIGITS, found)
    assert found == pytest.approx(7, rel=0.03)
    assert before.reliability.ece > 0.2
    assert after.reliability.ece < 0.015
    assert before.accuracy == after.accuracy
    assert before.rejections == after.rejections  # thresholds are those of the scores themselves


def test_scores_without_a_temperature():
    cases = {"100.0%": (np.eye(3), np.arange(3)), "0.0%": (np.eye(3), [1, 2, 0])}
    cases["33.3%"] = (np.zeros((3, 3)), np.arange(3))  # of equals the first is taken
    for share, (scores, labels) in cases.items():
        with pytest.raises(LenetError, match=f"no temperature .* of these answers {share}"):
            metrics.fit_temperature(scores, labels)
    with pytest.raises(LenetError, match="integers"):
        metrics.fit_temperature(np.eye(3), [0.0, 1.0, 2.0])
