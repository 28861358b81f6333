"""Semantic localisation as functions of arrays: windows, maps, indicators."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.remote_sensing.selo.heatmap import grey_map, heat_map
from domains.remote_sensing.selo.indicators import (
    Region,
    attention_discreteness,
    attention_shift,
    candidate_points,
    fill,
    indicators,
    salient_area,
)
from domains.remote_sensing.selo.opencv import crop, jpeg_round_trip
from domains.remote_sensing.selo.windows import windows
from shared.errors import DataError, EvaluationError

SQUARE = [[100, 100], [300, 100], [300, 300], [100, 300]]
sides = st.integers(768, 2500)


@given(sides, sides)
@settings(max_examples=30, deadline=None)
def test_windows_cover_a_scene_and_stay_inside(height, width):
    found = windows(height, width)
    assert len(np.unique(found, axis=0)) == len(found)
    assert (found[:, [0, 2]] >= 0).all()
    assert (found[:, 1].max(), found[:, 3].max()) == (height, width)
    size = found[:, [1, 3]] - found[:, [0, 2]]
    assert (size[:, 0] == size[:, 1]).all()
    assert set(size[:, 0].tolist()) == {256, 512, 768}
    for step in (256, 512, 768):
        for low, high, length in ((0, 1, height), (2, 3, width)):
            spans = np.unique(found[size[:, 0] == step][:, [low, high]], axis=0)
            covered = np.zeros(length, bool)
            for start, end in spans.tolist():
                covered[start:end] = True
            assert covered.all()
    turned = windows(width, height)
    assert sorted(map(tuple, turned[:, [2, 3, 0, 1]].tolist())) == list(map(tuple, found.tolist()))


def test_windows_by_hand():
    # 256: 9 on the grid, 8 shifted ones, since the last is one of the grid; 512: 4, the shifted one
    # of which is one of them; 768: the whole
    assert len(windows(768, 768)) == 9 + 8 + 4 + 1


@pytest.mark.parametrize("size", [(767, 2000), (2000, 500)])
def test_a_small_scene_is_refused(size):
    with pytest.raises(DataError, match="smaller than the largest window, 768"):
        windows(*size)


def test_the_map_is_the_mean_of_the_windows_over_each_pixel():
    height, width = 30, 41
    cut = windows(height, width, (8, 16))
    scores = np.random.default_rng(0).normal(size=len(cut))
    mean = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            top, bottom, left, right = cut.T
            over = (top <= row) & (row < bottom) & (left <= column) & (column < right)
            mean[row, column] = scores[over].mean()
    scaled = (mean - mean.min()) / (mean.max() - mean.min())
    found = grey_map(cut, scores, height, width)
    np.testing.assert_allclose(found, np.floor(scaled * 255), atol=1)
    assert (found.min(), found.max(), found.dtype) == (0, 255, np.uint8)
    order = np.random.default_rng(1).permutation(len(cut))
    np.testing.assert_array_equal(grey_map(cut[order], scores[order], height, width), found)
    np.testing.assert_array_equal(grey_map(cut, 4 * scores, height, width), found)


def test_equal_scores_make_a_black_map():
    assert not heat_map(windows(768, 800), np.full(len(windows(768, 800)), 0.3), 768, 800).any()


def test_windows_that_leave_a_gap_are_refused():
    cut = windows(30, 41, (8,))
    with pytest.raises(EvaluationError, match="do not cover a scene of 41 × 30"):
        grey_map(cut[1:], np.zeros(len(cut) - 1), 30, 41)


def test_a_map_through_jpeg_is_nearly_the_same():
    cut = windows(768, 900)
    scores = np.random.default_rng(0).normal(size=len(cut))
    plain, jpeg = (heat_map(cut, scores, 768, 900, jpeg=on) for on in (False, True))
    assert 0 < np.abs(plain.astype(int) - jpeg).mean() < 1


def test_a_crop_keeps_the_order_of_the_channels():
    scene = np.zeros((800, 800, 3), np.uint8)
    scene[:, :, 0] = 200
    image = crop(scene, np.array([0, 512, 0, 512]))
    assert image.shape == (256, 256, 3)
    assert np.abs(image.reshape(-1, 3).mean(0) - [200, 0, 0]).max() < 3
    assert jpeg_round_trip(scene).shape == scene.shape


def test_a_side_that_jpeg_has_not_is_told():
    with pytest.raises(DataError, match="cannot be written as JPEG"):
        jpeg_round_trip(np.zeros((1, 70000), np.uint8))


def test_a_uniform_map_has_the_rsu_of_chance():
    mask = fill([SQUARE], 600, 800)
    # inside the outline, too: 201 × 201 pixels
    assert mask.sum() == 201**2
    assert salient_area(np.full(mask.shape, 0.3), mask) == pytest.approx(1 - math.exp(-0.707))
    assert salient_area(mask.astype(float), mask) == pytest.approx(1)
    assert salient_area(1.0 - mask, mask) == 0


def test_shift_and_discreteness_by_hand():
    region = Region.of(SQUARE)
    assert (region.centre, region.radius) == ((200, 200), 212)  # 1.5 · 100 √2, truncated
    centre, none = np.array([[200, 200]]), np.empty((0, 2), np.int64)
    far = np.array([[200, 413]])
    assert attention_shift([region], centre) == 0
    assert attention_shift([region], none) == attention_shift([region], far) == pytest.approx(1)
    half = np.array([[200, 306]])
    expected = (math.exp(1.5) - 1) / (math.exp(3) - 1)
    assert attention_shift([region], half) == pytest.approx(expected)
    assert attention_discreteness([region], none) == attention_discreteness([region], far) == 0
    assert attention_discreteness([region], np.concatenate([centre, far])) == 1
    twice = np.repeat(centre, 2, axis=0)
    assert attention_discreteness([region], twice) == pytest.approx(0.5 + math.exp(-2))
    other = Region.of([[x + 400, y] for x, y in SQUARE])
    assert attention_discreteness([region, other], centre) == 0.5


def test_a_map_that_is_right_beats_one_that_is_not():
    grey = np.zeros((900, 1200), np.uint8)
    cv2.circle(grey, (200, 200), 90, 255, -1)
    grey = cv2.GaussianBlur(grey, (101, 101), 30)
    found = indicators(grey, [SQUARE])
    assert np.abs(found.candidates - [[200, 200]]).max() <= 2
    assert found.rmi == pytest.approx(0.4 * found.rsu + 0.35 * (1 - found.ras) + 0.25 * found.rda)
    wrong = indicators(np.ascontiguousarray(grey[:, ::-1]), [SQUARE])
    assert (wrong.ras, wrong.rda) == (1, 0)
    assert wrong.rmi < 0.2 < 0.95 < found.rmi


def test_a_faint_map_proposes_nothing():
    assert not len(candidate_points(np.full((800, 800), 127, np.uint8)))
    assert candidate_points(np.full((801, 801), 128, np.uint8)).tolist() == [[400, 400]]
    assert not len(candidate_points(np.zeros((800, 800), np.uint8)))


@pytest.mark.parametrize(
    ("polygon", "message"),
    [([[5, 5], [5, 5], [5, 5]], "no extent"), ([[-90, 0], [-20, 0], [-20, 50]], "do not lie in")],
)
def test_polygons_that_cannot_be_found_are_refused(polygon, message):
    with pytest.raises(DataError, match=message):
        indicators(np.zeros((800, 900), np.uint8), [polygon])
