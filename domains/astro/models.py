"""Astronomy's models."""

from shared.model_entry import ModelEntry

STAR_CLIP = ModelEntry(
    variants={"small": "star-clip/small", "base": "star-clip/base"},
    dataset="simulated_variable_stars",
    train="zoo train domain=astro",
    hub={},
)
