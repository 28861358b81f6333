"""Pictures of one shape, with the distance and the kind of what each pixel shows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo import Channel, Dataset, SampleTable, Schema

VERSION = 1
KINDS = ("disc", "square", "cross")
COLOURS = tuple(Channel(name, valid_range=(0, 1)) for name in ("red", "green", "blue"))
AXES = ("height", "width", "channel")
SCHEMAS = {
    "image": Schema("image", AXES, COLOURS),
    "depth": Schema("depth", AXES, (Channel("distance", "m", (0, None)),)),
    "semantic": Schema("semantic", AXES[:2], (), "uint8"),
}


class ShapesDataset(Dataset):
    """Synthetic pictures of a disc, a square or a cross before a tilted wall; the label is which.

    - `image` (size, size, 3): colours in 0 to 1, of shape and wall at random, with normal noise.
    - `depth` (size, size, 1): distance [m]; some pictures lack it.
    - `semantic` (size, size) uint8: 0 where the wall is, 1 + label where the shape is.

    Picture i depends on (`VERSION`, seed, i) alone.

    Args:
        n_images: Number of pictures.
        seed: Of the whole set.
        size: Side of a picture [pixel].
        noise: Standard deviation of the colours.
        depth_fraction: Share of the pictures that have a depth, 0 to 1.
    """

    name = "shapes"
    synthetic = True
    schemas = SCHEMAS

    def __init__(
        self,
        n_images: int = 300,
        seed: int = 0,
        size: int = 24,
        noise: float = 0.05,
        depth_fraction: float = 0.9,
    ) -> None:
        self.n_images, self.seed, self.size = n_images, seed, size
        self.noise, self.depth_fraction = noise, depth_fraction

    def make_table(self) -> SampleTable:
        labels = [self._kind(i)[0] for i in range(self.n_images)]
        return SampleTable([f"shape{i:05d}" for i in range(self.n_images)], labels, KINDS)

    def read(self, index: int) -> dict[str, NDArray[Any]]:
        kind, rng = self._kind(index)
        shape = draw_shape(KINDS[kind], self.size, rng)
        wall, paint = rng.uniform(0, 1, size=(2, 3))
        colours = np.where(shape[..., None], paint, wall)
        noisy = colours + self.noise * rng.normal(size=colours.shape)
        raw: dict[str, NDArray[Any]] = {
            "image": noisy.clip(0, 1),
            "semantic": (shape * (1 + kind)).astype(np.uint8),
        }
        tilt = np.linspace(2, 2 + rng.uniform(0, 1), self.size)
        distance = np.where(shape, rng.uniform(1, 1.5), tilt)[..., None]
        if rng.random() < self.depth_fraction:
            raw["depth"] = distance
        return raw

    def content_fingerprint(self) -> str:
        settings = (self.n_images, self.seed, self.size, self.noise, self.depth_fraction)
        return f"{self.name} version {VERSION}, {settings}"

    def _kind(self, index: int) -> tuple[int, np.random.Generator]:
        """Which shape a picture has, and what draws the rest of it."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, index]))
        return int(rng.integers(len(KINDS))), rng


def draw_shape(kind: str, size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(size, size) where a shape of random place and radius is, wholly inside."""
    radius = rng.uniform(size / 6, size / 3)
    centre = rng.uniform(radius, size - radius, size=2)
    down, across = np.abs(np.indices((size, size)) + 0.5 - centre[:, None, None]) / radius
    if kind == "disc":
        return down**2 + across**2 <= 1
    inside = np.maximum(down, across) <= 1
    return inside if kind == "square" else inside & (np.minimum(down, across) <= 1 / 3)
