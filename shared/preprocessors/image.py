"""Images as normalised arrays of one size."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate

from shared.errors import ConfigError, DataError
from shared.preprocess import Prepared, Preprocessor
from shared.schema import Array, Schema

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImagePreprocessor(Preprocessor):
    """An image whose shorter side is resized, cut to the square in its middle, and normalised.

    Gives `values` (channels, image_size, image_size) float32: (x / scale − mean) / std, after
    bicubic resizing with antialias, clipped to the range of the original's values.

    Args:
        schema: Any channels, on axes (height, width, channel).
        image_size: Side of the result.
        mean: By channel, in units of `scale`; ImageNet's by default.
        std: The same.
        scale: Value of a full channel; 255 for 8-bit images.

    Raises:
        ConfigError: Not one mean and one positive std a channel, or a size or scale below 1.
    """

    def __init__(
        self,
        schema: Schema,
        image_size: int = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        scale: float = 255.0,
    ) -> None:
        settings = {"image_size": image_size, "mean": list(mean), "std": list(std), "scale": scale}
        super().__init__(schema, schema.channels, settings)
        channels = len(schema.channels)
        if len(mean) != channels or len(std) != channels or min(std, default=1) <= 0:
            raise ConfigError(
                f"image: mean={list(mean)} and std={list(std)} need one number for each of the "
                f"channels {', '.join(schema.names)}, those of std above 0."
            )
        if image_size < 1 or scale <= 0:
            raise ConfigError(f"image: image_size={image_size} and scale={scale} must be above 0.")
        self.image_size, self.scale = image_size, scale
        self.mean, self.std = tuple(mean), tuple(std)

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"in_channels": len(self.mean), "image_size": self.image_size}

    def __call__(self, raw: Array) -> Prepared:
        """Raises DataError where values are missing."""
        if missing := int(np.isnan(raw).sum()):
            raise DataError(
                f"image: {missing} of {raw.size} values are missing (no data), which resizing "
                "would spread. Leave the image out, or fill them where the data are read."
            )
        pixels = torch.from_numpy(np.asarray(raw, dtype=np.float32)).permute(2, 0, 1)
        square = _centre_square(_resize(pixels, self.image_size), self.image_size)
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return {"values": ((square / self.scale - mean) / std).numpy()}


def _resize(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """(C, H, W) → the same picture with a shorter side of this length."""
    shorter = min(pixels.shape[1:])
    if shorter == side:
        return pixels
    size = [max(side, round(length * side / shorter)) for length in pixels.shape[1:]]
    resized = interpolate(pixels[None], size=size, mode="bicubic", antialias=True)[0]
    # bicubic overshoots at edges
    return resized.clamp(pixels.min(), pixels.max())


def _centre_square(pixels: torch.Tensor, side: int) -> torch.Tensor:
    top, left = ((length - side) // 2 for length in pixels.shape[1:])
    return pixels[:, top : top + side, left : left + side]
