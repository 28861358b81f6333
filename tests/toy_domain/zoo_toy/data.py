"""The dataset: points near the unit circle, seen in two ways."""

import numpy as np
from numpy.typing import NDArray

from zoo import Channel, Dataset, SampleTable, Schema

VERSION = 1
QUADRANTS = ("north-east", "north-west", "south-west", "south-east")
POSITION = Schema("position", ("channel",), (Channel("x", "m"), Channel("y", "m")))
BEARING = Schema("bearing", ("channel",), (Channel("angle", "deg", (0.0, 360.0)),))


class NoisyCircle(Dataset):
    """Synthetic points at random angles on the unit circle; the label is the quadrant.

    - `position` (2,): x and y [m], each with normal noise.
    - `bearing` (1,): angle [deg], with as much noise along the circle; some points lack it.

    Point i depends on (`VERSION`, seed, i) alone.

    Args:
        n_points: Number of points.
        seed: Of the whole set.
        noise: Standard deviation [m].
        bearing_fraction: Share of the points that have a bearing, 0 to 1.
    """

    name = "noisy_circle"
    synthetic = True

    def __init__(
        self,
        n_points: int = 1000,
        seed: int = 0,
        noise: float = 0.1,
        bearing_fraction: float = 0.8,
    ) -> None:
        self.n_points, self.seed = n_points, seed
        self.noise, self.bearing_fraction = noise, bearing_fraction
        self.schemas = {"position": POSITION, "bearing": BEARING}

    def make_table(self) -> SampleTable:
        labels = [int(self._draw(i)[0] // 90) for i in range(self.n_points)]
        return SampleTable([f"point{i:05d}" for i in range(self.n_points)], labels, QUADRANTS)

    def read(self, index: int) -> dict[str, NDArray[np.float64]]:
        angle, rng = self._draw(index)
        on_circle = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
        raw = {"position": on_circle + self.noise * rng.normal(size=2)}
        if rng.random() < self.bearing_fraction:
            raw["bearing"] = np.array([angle + np.rad2deg(self.noise * rng.normal())]) % 360
        return raw

    def content_fingerprint(self) -> str:
        settings = (self.n_points, self.seed, self.noise, self.bearing_fraction)
        return f"{self.name} version {VERSION}, {settings}"

    def _draw(self, index: int) -> tuple[float, np.random.Generator]:
        """Angle [deg] of a point, and what draws the rest of it."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, index]))
        return float(rng.uniform(0, 360)), rng
