"""Values that change over a run, as pure functions of the step."""

import math


def linear(step: int, steps: int, start: float, end: float) -> float:
    """Even steps from `start` at step 0 to `end` at step `steps − 1`; `end` from there on."""
    if step >= steps:
        return end
    return start + (end - start) * step / max(steps - 1, 1)


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """Half a cosine from `start` at step 0 to `end` at step `steps`; `end` from there on.

    SGDR, arXiv:1608.03983, eq. 5, one period.
    """
    if step >= steps:
        return end
    return end + (start - end) * (1 + math.cos(math.pi * step / steps)) / 2
