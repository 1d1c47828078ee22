"""Figures by class against their definitions, on a case that is counted by hand."""

import numpy as np
import pytest

from sg_resnets.diagnostics.classification import Classification

#                 says a, a, b, b, b, a
LABELS = np.array([0, 0, 0, 1, 1, 1])
SURE = np.array([0.9, 0.8, 0.7, 0.95, 0.6, 0.99])
SAID = np.array([0, 0, 1, 1, 1, 0])


def found():
    probabilities = np.zeros((6, 3), np.float32)
    probabilities[np.arange(6), SAID] = SURE
    probabilities[np.arange(6), 1 - SAID] = 1 - SURE
    return Classification(["a", "b", "c"], LABELS, probabilities)


def test_precision_recall_and_f1_of_each_class():
    a, b, c = found().by_class()
    assert (a.count, a.precision, a.recall, a.f1) == pytest.approx((3, 2 / 3, 2 / 3, 2 / 3)) and a.name == "a"
    assert (b.precision, b.recall) == pytest.approx((2 / 3, 2 / 3))
    assert c.count == 0 and np.isnan([c.precision, c.recall, c.f1]).all()
    assert found().accuracy == pytest.approx(4 / 6) and found().mean("recall") == pytest.approx(2 / 3)
    assert found().confusion().tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]


def test_a_class_that_is_never_said_has_no_precision_and_counts_as_zero():
    probabilities = np.float32([[0.9, 0.1], [0.8, 0.2]])
    figures = Classification(["a", "b"], np.array([0, 1]), probabilities)
    b = figures.by_class()[1]
    assert np.isnan(b.precision) and b.recall == b.f1 == 0
    assert figures.mean("precision") == pytest.approx(0.25)


def test_the_surest_mistakes_come_first_and_pairs_are_counted():
    assert found().worst_mistakes(5) == [5, 2] and found().worst_mistakes(1) == [5]
    assert list(found().most_confused()) == [("a", "b", 1), ("b", "a", 1)]


def test_the_calibration_error_is_the_mean_distance_over_the_steps():
    expected = (  # 15 steps: 0.6 and 0.7 stand alone, 0.8 too, 0.9 too, and 0.95 with 0.99
        abs(0.6 - 1) + abs(0.7 - 0) + abs(0.8 - 1) + abs(0.9 - 1) + 2 * abs(0.97 - 0.5)
    ) / 6
    assert found().calibration_error() == pytest.approx(expected, abs=1e-6)
    assert [each.count for each in found().reliability()] == [1, 1, 1, 1, 2]
