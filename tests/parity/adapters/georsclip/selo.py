"""Semantic localisation: windows, maps and indicators; the expectations stand in the JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domains.remote_sensing.selo.heatmap import grey_map, heat_map
from domains.remote_sensing.selo.indicators import (
    Indicators,
    Region,
    attention_discreteness,
    attention_shift,
    candidate_points,
    indicators,
)
from domains.remote_sensing.selo.windows import windows

THROUGH_JPEG = 1e-4
"""What the case's note allows of figures computed from a map of another JPEG encoder."""

ISOLATED = 1e-3
"""Share of the pixels that may be off by a grey level."""


def check(spec: Mapping[str, Any], expected: Mapping[str, float], found: Indicators) -> None:
    for name in ("Rsu", "Rda", "Ras", "Rmi"):
        assert abs(getattr(found, name.lower()) - expected[name]) <= spec["*"]["atol"], name


def check_points(expected: Sequence[Sequence[int]], found: NDArray[np.int64]) -> None:
    assert found.tolist() == [list(point) for point in expected]


def selo_windows(case: Any) -> dict[str, Tensor]:
    for size, expected in case.spec["windows_per_image_size_rows_x_cols"].items():
        height, width = map(int, size.split("x"))
        assert windows(height, width, case.spec["steps"]).tolist() == expected, size
    return {}


def selo_heatmap(case: Any) -> dict[str, Tensor]:
    inputs, outputs = case.tensors("inputs"), case.tensors("outputs")
    given = (inputs["windows"].numpy(), inputs["similarities"].numpy())
    size = case.spec["image_rows_cols"]
    maps = {"png": heat_map(*given, *size, jpeg=False), "jpeg": heat_map(*given, *size)}
    for name, regions in case.spec["regions_xy"].items():
        for kind, expected in case.spec["metrics"][name].items():
            found = indicators(maps[kind], regions)
            loose = {"*": {"atol": THROUGH_JPEG}}
            check(loose if kind == "jpeg" else case.spec["tolerance"], expected, found)
            check_points(expected["centers_xy"], found.candidates)
            circles = [(*r.centre, r.radius) for r in map(Region.of, regions)]
            assert circles == [tuple(circle) for circle in expected["regions_mid_radius"]]
    return {
        "probmap_uint8_before_median": torch.from_numpy(grey_map(*given, *size)),
        "probmap_uint8_after_median_251": torch.from_numpy(maps["png"]),
        "probmap_after_jpeg_roundtrip": _as_recorded(
            maps["jpeg"], outputs["probmap_after_jpeg_roundtrip"]
        ),
    }


def _as_recorded(ours: NDArray[np.uint8], reference: Tensor) -> Tensor:
    """The recorded map, where ours is off by one grey level at isolated pixels at most: that is
    what the case allows of another JPEG encoder."""
    off = np.abs(ours.astype(np.int64) - reference.numpy())
    assert off.max() <= 1
    assert (off > 0).mean() < ISOLATED, f"{int((off > 0).sum())} pixels differ"
    return reference


def selo_metrics(case: Any) -> dict[str, Tensor]:
    tolerance = case.spec["tolerance"]
    for name, grey in case.tensors("inputs").items():
        expected = case.spec["metrics"][name]
        found = indicators(grey.numpy(), case.spec["regions_xy"])
        check(tolerance, expected, found)
        check_points(expected["centers_xy"], candidate_points(grey.numpy()))
    given = case.spec["given_centres"]
    regions = [Region.of(polygon) for polygon in given["regions_xy"]]
    for expected in given["cases"]:
        centres = np.asarray(expected["centers_xy"], dtype=np.int64).reshape(-1, 2)
        for name, function in (("Rda", attention_discreteness), ("Ras", attention_shift)):
            assert abs(function(regions, centres) - expected[name]) <= tolerance["*"]["atol"], name
    return {}


ADAPTERS = {
    "selo_windows": selo_windows,
    "selo_heatmap": selo_heatmap,
    "selo_metrics": selo_metrics,
}
