"""Means and standard deviations of colours, by the name of the images they are of.

Source: RS5M's evaluation code (github.com/om-ai-lab/RS5M, state of March 2025). All published
weights of GeoRSCLIP are evaluated with `clip`, which is what `clip_image` takes unless it is told
otherwise; the others are for training of one's own.
"""

from typing import NamedTuple

from shared.preprocessors.clip_image import CLIP_MEAN, CLIP_STD
from shared.preprocessors.image import IMAGENET_MEAN, IMAGENET_STD

Colours = tuple[float, float, float]


class Statistics(NamedTuple):
    """Of red, green and blue, in units of 255."""

    mean: Colours
    std: Colours


STATISTICS = {
    "clip": Statistics(CLIP_MEAN, CLIP_STD),
    "imagenet": Statistics(IMAGENET_MEAN, IMAGENET_STD),
    "rs5m": Statistics((0.406, 0.423, 0.390), (0.188, 0.175, 0.185)),
    "pub11": Statistics((0.445, 0.469, 0.441), (0.208, 0.193, 0.213)),
    "rs3": Statistics((0.350, 0.356, 0.316), (0.158, 0.147, 0.143)),
    "geometa": Statistics((0.320, 0.322, 0.285), (0.179, 0.168, 0.166)),
}
