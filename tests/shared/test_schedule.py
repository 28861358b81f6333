"""Schedules: closed forms at their ends and beyond."""

import math

import pytest

from shared.schedule import cosine, linear


def test_linear_includes_both_ends() -> None:
    assert [linear(i, 5, 1.0, 3.0) for i in range(7)] == [1.0, 1.5, 2.0, 2.5, 3.0, 3.0, 3.0]
    assert linear(0, 1, 1.0, 3.0) == 1.0
    assert linear(0, 0, 1.0, 3.0) == 3.0


def test_cosine() -> None:
    assert cosine(0, 8, 2.0, 1.0) == 2.0
    assert cosine(4, 8, 2.0, 1.0) == pytest.approx(1.5)
    assert cosine(2, 8, 2.0, 1.0) == pytest.approx(1.5 + math.cos(math.pi / 4) / 2)
    assert cosine(8, 8, 2.0, 1.0) == cosine(80, 8, 2.0, 1.0) == 1.0
