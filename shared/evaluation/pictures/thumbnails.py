"""One sample as a small picture."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared.data.dataset import Dataset, Raw
from shared.errors import SchemaError
from shared.evaluation.pictures.figures import SMALL, plain
from shared.schema import Schema

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from shared.evaluation.evaluator import Drawing, Thumbnail

MAX_PIXELS = 256
"""Of a side; more are not seen in a thumbnail."""
LETTERS, TEXT_LINES = 22, 7
"""Of a text in a panel."""
SHOWN_PERCENTILES = (1.0, 99.0)
"""Values of a grey image between black and white, where the schema states no range."""


@dataclass(frozen=True)
class Artist:
    """Draws samples of a dataset.

    Attributes:
        dataset: The samples, in the order of the embeddings.
        thumbnails: By modality, how one is drawn.
    """

    dataset: Dataset
    thumbnails: Mapping[str, "Thumbnail"]

    def shown(self, modality: str) -> str:
        """The modality that stands for a sample: itself, or the first that can be drawn."""
        return modality if modality in self.thumbnails else self.first

    @property
    def first(self) -> str:
        return next(m for m in self.thumbnails if m in self.dataset.schemas)

    def draw(self, axes: "Axes", row: int, modality: str) -> None:
        """A sample as its thumbnail, or a word where there is nothing to draw."""
        axes.tick_params(labelsize=7, length=2, pad=1.5)
        axes.locator_params(nbins=4)
        raw = self.dataset[row]
        try:
            if modality in raw:
                self.thumbnails[modality](axes, self.dataset.schemas, raw)
                return
            reason = f"no {modality}"
        except SchemaError:
            reason = f"{modality}: no\nchannels to draw"
        axes.text(0.5, 0.5, plain(reason), ha="center", va="center", fontsize=SMALL)
        axes.set_xticks([])
        axes.set_yticks([])


def make_artist(drawing: "Drawing") -> Artist | None:
    """None where there are no samples, or nothing says how to draw one of their modalities."""
    if drawing.dataset is None:
        return None
    thumbnails = {
        **drawing.thumbnails,
        **{m: GENERIC[m] for m in GENERIC.keys() - drawing.thumbnails.keys()},
    }
    drawn = {m: draw for m, draw in thumbnails.items() if m in drawing.dataset.schemas}
    return Artist(drawing.dataset, drawn) if drawn else None


def draw_image(axes: "Axes", schemas: Mapping[str, Schema], raw: Raw) -> None:
    """Red, green and blue where the image has them, else its only channel in grey.

    Raises:
        SchemaError: Other channels than these.
    """
    schema, image = schemas["image"], np.asarray(raw["image"])
    if schema.axes != ("height", "width", "channel"):
        raise SchemaError(f"image: axes {schema.axes} are not drawn as an image.")
    step = max(1, -(-max(image.shape[:2]) // MAX_PIXELS))
    image = image[::step, ::step]
    if {"red", "green", "blue"} <= set(schema.names):
        order = [schema.names.index(name) for name in ("red", "green", "blue")]
        low, high = schema.channel("red").valid_range
        image = image[..., order].astype(np.float64)
        if low is None or high is None:
            low, high = np.nanpercentile(image, SHOWN_PERCENTILES)
        axes.imshow(np.clip((image - low) / max(high - low, 1e-12), 0, 1))
    elif len(schema.channels) == 1:
        low, high = np.nanpercentile(image, SHOWN_PERCENTILES)
        axes.imshow(image[..., 0], cmap="gray", vmin=low, vmax=high)
    else:
        raise SchemaError(f"image: channels {', '.join(schema.names)} are not drawn in colour.")
    axes.set_adjustable("datalim")  # all frames of a gallery are equal, whatever the image's shape
    axes.set_xticks([])
    axes.set_yticks([])


def draw_text(axes: "Axes", schemas: Mapping[str, Schema], raw: Raw) -> None:
    """The first words, wrapped."""
    lines = textwrap.wrap(raw["text"], LETTERS, max_lines=TEXT_LINES, placeholder=" …")
    axes.text(
        0.03,
        0.95,
        plain("\n".join(lines)),
        ha="left",
        va="top",
        fontsize=7.5,
        transform=axes.transAxes,
        clip_on=True,
    )
    axes.set_xticks([])
    axes.set_yticks([])


GENERIC: "Mapping[str, Thumbnail]" = {"image": draw_image, "text": draw_text}
"""Of modalities that many sciences have; a domain's own take precedence."""
