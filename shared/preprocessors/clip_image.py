"""Images as CLIP's published models take them (Radford et al. 2021, arXiv:2103.00020), step by step
as open_clip's `image_transform` does it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from shared.data.image_files import RGB
from shared.errors import ConfigError, DataError, SchemaError, suggest
from shared.optional import import_optional
from shared.preprocess import Prepared, Preprocessor
from shared.schema import Array, Schema

if TYPE_CHECKING:
    from PIL.Image import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the images that CLIP was trained on, in units of 255: OPENAI_DATASET_MEAN and _STD of
open_clip."""

AUGMENTATIONS = ("crop", "crop_flip_rotate")
LARGEST = 2**27
"""Pixels of an image whose shorter side was resized: 400 MB at 3 bytes."""
_AREA = (0.9, 1.0)
_ASPECT = (3 / 4, 4 / 3)


class CLIPImage(Preprocessor):
    """An 8-bit colour image whose shorter side is resized, cut to the square in its middle, and
    normalised.

    Gives `values` (3, image_size, image_size) float32: (x / 255 − mean) / std, after bicubic
    resizing by Pillow, with antialias and rounded to 8 bits. The longer side is rounded down, the
    place of the square half to even, as torchvision does.

    Args:
        schema: With the channels red, green and blue, uint8 of 0 to 255, on axes
            (height, width, channel); others are left out.
        image_size: Side of the result.
        mean: Of red, green and blue, in units of 255; CLIP's by default.
        std: The same.
        augment: What training does instead: `crop`, a random resized crop of .9 to 1 of the area
            and an aspect of 3/4 to 4/3 (open_clip's default); `crop_flip_rotate`, then also
            mirrored left to right with probability .5 and turned by any angle about its middle
            (nearest pixel, black outside), for images that have no up; None: nothing.

    Raises:
        SchemaError: The schema has other channels, or they are not 8-bit.
        ConfigError: Not three means and three positive stds, a size below 1, or no such
            augmentation.
        DependencyError: torchvision is not installed.
    """

    def __init__(
        self,
        schema: Schema,
        image_size: int = 224,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        augment: Literal["crop", "crop_flip_rotate"] | None = None,
    ) -> None:
        settings = {
            "image_size": image_size,
            "mean": list(mean),
            "std": list(std),
            "augment": augment,
        }
        super().__init__(schema, RGB, settings)
        if schema.dtype != "uint8":
            raise SchemaError(
                f"{schema.modality}: CLIPImage takes red, green and blue as uint8 of 0 to 255, the "
                f"dataset gives {schema.dtype}. Which values become 0 and 255 is a choice: an "
                f"adapter makes it, data.adapters.{schema.modality}=NAME (`zoo list adapters`)."
            )
        numbers = [*mean, *std]
        wrong = len(mean) != 3 or len(std) != 3 or not np.isfinite(numbers).all() or min(std) <= 0
        if wrong or image_size < 1:
            raise ConfigError(
                f"clip_image: image_size={image_size}, mean={list(mean)}, std={list(std)}: the "
                "size is at least 1; red, green and blue have one mean and one std above 0 each."
            )
        if augment is not None and augment not in AUGMENTATIONS:
            raise ConfigError(f"clip_image: augment={augment!r}. {suggest(augment, AUGMENTATIONS)}")
        self.image_size, self.augment = image_size, augment
        self.mean, self.std = tuple(mean), tuple(std)
        self._middle, self._drawn = _geometry(image_size, augment)

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"in_channels": 3, "image_size": self.image_size}

    def __call__(self, raw: Array) -> Prepared:
        """(height, width, 3) uint8 → `values`; with an augmentation, which needs them, the
        `pixels` as they are: `crop` makes `values` of them.

        Raises:
            DataError: Not uint8, or so long and narrow that resizing makes it huge.
        """
        if raw.dtype != np.uint8:
            raise DataError(f"the image is {raw.dtype}, not uint8 of 0 to 255.")
        self._check_extent(raw.shape[1], raw.shape[0])
        if self.augment is not None:
            return {"pixels": raw}
        return {"values": self.evaluate(_picture(raw))}

    def views(self, prepared: Prepared) -> list[Prepared] | None:
        return [prepared] if self.augment is None else None

    def crop(self, prepared: Prepared, rng: np.random.Generator | None) -> Prepared:
        """The augmentation (training) or the square in the middle (rng None)."""
        if self.augment is None:
            return prepared
        picture = _picture(prepared["pixels"])
        if rng is None:
            return {"values": self.evaluate(picture)}
        # torchvision draws from the state that all share; torch.manual_seed would set every device
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(rng.integers(2**63)))
            return {"values": self._normalise(self._drawn(picture))}

    def evaluate(self, image: "Image") -> NDArray[np.float32]:
        """An image of any of Pillow's 8-bit modes → (3, image_size, image_size) `values`.

        It is resized *before* it is converted to RGB, as upstream does. Images that come as arrays
        or through `image_files.read_image` are RGB already: those with transparency, whose
        hidden colours Pillow leaves out of the resizing, and those with a palette, which it resizes
        by the nearest pixel, get other values here.

        Raises:
            DataError: It is so long and narrow that resizing makes it huge.
        """
        self._check_extent(*image.size)
        return self._normalise(self._middle(image))

    def _check_extent(self, width: int, height: int) -> None:
        if self.image_size**2 * max(width, height) / min(width, height) > LARGEST:
            raise DataError(
                f"the image has {width} × {height} pixels: too long and narrow to resize its "
                f"shorter side to {self.image_size}. Cut it into tiles."
            )

    def _normalise(self, image: "Image") -> NDArray[np.float32]:
        """An image of the right size → `values`."""
        pixels = np.array(image.convert("RGB"), dtype=np.float32) / 255
        mean, std = (np.array(numbers, dtype=np.float32) for numbers in (self.mean, self.std))
        normal = (pixels - mean) / std
        return np.ascontiguousarray(normal.transpose(2, 0, 1))


def _picture(pixels: Array) -> "Image":
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(pixels))


def _geometry(size: int, augment: str | None) -> tuple[Any, Any]:
    """What evaluation and what training do to the place and size of an image's pixels."""
    v2 = import_optional("torchvision.transforms.v2", "vision", "clip_image")
    bicubic = v2.InterpolationMode.BICUBIC
    middle = [v2.Resize(size, interpolation=bicubic), v2.CenterCrop(size)]
    drawn = [v2.RandomResizedCrop(size, scale=_AREA, ratio=_ASPECT, interpolation=bicubic)]
    if augment == "crop_flip_rotate":
        drawn += [v2.RandomHorizontalFlip(), v2.RandomRotation((0, 360))]
    return v2.Compose(middle), v2.Compose(drawn)
