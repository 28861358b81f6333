"""The built-in dataset of the domain: synthetic aerial scenes, made when they are read."""

from typing import Literal

import numpy as np

from domains.remote_sensing.bands import REFLECTANCE, channels
from domains.remote_sensing.scene_captions import MOST, describe
from domains.remote_sensing.simulator import BANDS, CLASSES, VERSION, Scene, draw_scene
from shared.data.captions import CAPTIONS
from shared.data.dataset import Dataset, Raw, SampleTable
from shared.data.image_files import IMAGE
from shared.errors import ConfigError
from shared.schema import Array, Schema

SMALLEST, LARGEST = 16, 2048
MULTIBAND = Schema(
    "image", ("height", "width", "channel"), channels(BANDS, REFLECTANCE, False), "float32"
)
WHITE, GAMMA = 0.6, 2.2
"""Reflectance that becomes 255, so that snow is not, and the curve of common pictures."""


class SimulatedScenes(Dataset):
    """Synthetic aerial scenes of ten classes, with captions that tell what is in them.

    - `image` (size, size, 3): red, green and blue, uint8; or (size, size, 4): reflectance of red,
      green, blue and near infrared, float32.
    - `text`: one to five captions.

    Scene i depends on (the simulator's version, seed, i) alone, so a longer set begins with a
    shorter one, and it shows the same at any size and in any bands.

    Args:
        n_scenes: Number of scenes.
        seed: Of the whole set.
        size: Side of an image in pixels.
        captions: Captions of a scene.
        bands: `rgb`, the picture, or `rgb_nir`, reflectance in four bands.

    Raises:
        ConfigError: A setting is out of range.
    """

    name = "simulated_scenes"
    evaluator = "remote_sensing"
    version = VERSION
    synthetic = True

    def __init__(
        self,
        n_scenes: int = 2000,
        seed: int = 0,
        size: int = 64,
        captions: int = MOST,
        bands: Literal["rgb", "rgb_nir"] = "rgb",
    ) -> None:
        if n_scenes < 1 or seed < 0 or not SMALLEST <= size <= LARGEST or not 1 <= captions <= MOST:
            raise ConfigError(
                f"{self.name}: n_scenes={n_scenes}, seed={seed}, size={size}, captions={captions} "
                f"cannot be; give n_scenes >= 1, seed >= 0, size in {SMALLEST} … {LARGEST} and "
                f"captions in 1 … {MOST}."
            )
        if bands not in ("rgb", "rgb_nir"):
            raise ConfigError(f"{self.name}: bands={bands!r} has to be rgb or rgb_nir.")
        self.n_scenes, self.seed, self.size = n_scenes, seed, size
        self.captions, self.bands = captions, bands
        self.schemas = {"image": IMAGE if bands == "rgb" else MULTIBAND, "text": CAPTIONS}

    def make_table(self) -> SampleTable:
        labels = [int(self._rng(i).integers(len(CLASSES))) for i in range(self.n_scenes)]
        return SampleTable([f"scene{i:06d}" for i in range(self.n_scenes)], labels, tuple(CLASSES))

    def scene(self, index: int) -> Scene:
        """What is drawn at an index, and the record of it."""
        if not -self.n_scenes <= index < self.n_scenes:
            raise IndexError(index)
        return draw_scene(self.size, self._rng(index % self.n_scenes))

    def read(self, index: int) -> Raw:
        scene = self.scene(index)
        # a stream of its own: the number of pixels and of captions changes nothing else
        captions = describe(scene, self.captions, self._rng(index % self.n_scenes, 1))
        rgb = self.bands == "rgb"
        return {"image": picture(scene.reflectance) if rgb else scene.reflectance, "text": captions}

    @property
    def caption_counts(self) -> list[int]:
        return [self.captions] * self.n_scenes

    def content_fingerprint(self) -> str:
        return (
            f"{self.name} version {VERSION}, {self.n_scenes} scenes of {self.size} pixels, seed "
            f"{self.seed}, {self.captions} captions, {self.bands}"
        )

    def _rng(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *numbers])


def picture(reflectance: Array) -> Array:
    """(height, width, bands) reflectance, red, green and blue first → (height, width, 3) uint8."""
    share = np.clip(reflectance[..., :3] / WHITE, 0, 1) ** (1 / GAMMA)
    return np.asarray((255 * share).round().astype(np.uint8))
