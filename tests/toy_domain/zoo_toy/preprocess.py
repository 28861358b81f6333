"""From raw inputs in their units to the numbers that the encoder expects."""

import numpy as np
from numpy.typing import NDArray

from zoo import Channel, Preprocessor, Schema


class Position(Preprocessor):
    """x and y [m] → `values` (2,) float32, as they are: the circle has unit radius."""

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema, (Channel("x", "m"), Channel("y", "m")), {})

    @property
    def sizes(self) -> dict[str, int]:
        return {"in_channels": 2}

    def __call__(self, raw: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
        return {"values": raw.astype(np.float32)}


class Bearing(Preprocessor):
    """angle [deg] → `values` (2,) float32: its cosine and sine, which do not jump at 360."""

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema, (Channel("angle", "deg"),), {})

    @property
    def sizes(self) -> dict[str, int]:
        return {"in_channels": 2}

    def __call__(self, raw: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
        angle = np.deg2rad(raw[0])
        return {"values": np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)}
