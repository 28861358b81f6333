"""Catalogue rows, standardised with statistics of the training split."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from domains.astro.preprocess.scaling import Standardiser, read_statistics
from domains.astro.schemas import META_COLUMNS, METADATA, PHOTO_COLUMNS
from shared.errors import ConfigError, DataError
from shared.preprocess import Prepared, Preprocessor
from shared.schema import Array, Schema

MAGNITUDES = (
    *("mean_vmag", "phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag"),
    *("j_mag", "h_mag", "k_mag", "w1_mag", "w2_mag", "w3_mag", "w4_mag"),
)
"""Apparent magnitudes that AstroM3 turns into absolute ones."""


def transform_columns(names: Sequence[str], rows: Array) -> Array:
    """Catalogue columns as the code of AstroM3 (arXiv:2411.08842) transforms them.

    `MAGNITUDES` m become m - 10 + 5 log10(parallax [mas]), absolute but for extinction, with a
    parallax of 1 where it is not positive; `l` its cosine, `b` its sine, `period` its log10. All
    other columns stay.

    Args:
        names: Of the columns; with a magnitude, `parallax` [mas] too.
        rows: (…, columns) in the units of the schemas.

    Returns:
        (…, columns) float64; not finite where the input is not, or where a period is not positive.

    Raises:
        ConfigError: A magnitude without `parallax`.
    """
    values = np.array(rows, dtype=np.float64)
    magnitudes = [position for position, name in enumerate(names) if name in MAGNITUDES]
    if magnitudes:
        if "parallax" not in names:
            raise ConfigError(
                f"{names[magnitudes[0]]!r} is made absolute with 'parallax', which is not among "
                "the columns; name it too, or neither."
            )
        parallax = values[..., names.index("parallax"), None]
        values[..., magnitudes] += 5 * np.log10(np.where(parallax <= 0, 1, parallax)) - 10
    with np.errstate(divide="ignore", invalid="ignore"):
        for name, transform in _TRANSFORMS.items():
            if name in names:
                column = values[..., names.index(name)]
                column[...] = transform(column)
    return values


_TRANSFORMS: dict[str, Callable[[Array], Array]] = {
    "l": lambda degrees: np.cos(np.radians(degrees)),
    "b": lambda degrees: np.sin(np.radians(degrees)),
    "period": np.log10,
}


def statistics_states(info: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What AstroM3's `info.json` holds, as states of its preprocessors by modality.

    Args:
        info: `mean` and `std` of the 38 transformed columns, `PHOTO_COLUMNS` before `META_COLUMNS`.

    Returns:
        `photometry`: state of `AstroM3LightCurve` with `columns=PHOTO_COLUMNS`; `metadata`: of
        `AstroM3Metadata`.

    Raises:
        DataError: Not one finite mean and one positive deviation a column.
    """
    split = len(PHOTO_COLUMNS)
    statistics = read_statistics(
        info, split + len(META_COLUMNS), "AstroM3's statistics (info.json)"
    )
    parts = {"photometry": slice(split), "metadata": slice(split, None)}
    return {
        modality: {
            name: values[part].tolist()
            for name, values in zip(("mean", "std"), statistics, strict=True)
        }
        for modality, part in parts.items()
    }


class MetadataTable(Preprocessor):
    """A catalogue row, standardised with the mean and deviation of the training split.

    Gives `values` (d,) float32: every channel standardised (population deviation, AstroM3 §2.3),
    then, for each channel that may be missing, 1 where it is missing and 0 elsewhere. A missing
    value itself becomes 0, the training mean.

    Args:
        schema: Any channels; all are taken.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema, schema.channels, {})
        self._optional = np.array([channel.allow_missing for channel in schema.channels])
        self._standardise = Standardiser("metadata: MetadataTable", len(schema.channels))

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"in_channels": len(self._optional) + int(self._optional.sum())}

    def fit(self, raws: Iterable[Array]) -> None:
        self._standardise.fit(np.array(list(raws), dtype=np.float64))

    def state(self) -> dict[str, Any]:
        return self._standardise.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._standardise.load_state(state)

    def __call__(self, raw: Array) -> Prepared:
        row = np.asarray(raw, dtype=np.float64)
        missing = np.isnan(row)
        if (unknown := missing & ~self._optional).any():
            name = self.takes.names[int(unknown.argmax())]
            raise DataError(
                f"metadata: {name!r} is missing, but no star lacked it where this model was "
                "trained. Leave the star or its metadata out."
            )
        scaled = np.where(missing, 0.0, self._standardise(row))
        return {"values": np.concatenate([scaled, missing[self._optional]]).astype(np.float32)}


class AstroM3Metadata(Preprocessor):
    """AstroM3's 34 catalogue columns, transformed (`transform_columns`) and standardised with the
    training split's mean and population deviation: `values` (34,) float32.

    Args:
        schema: The columns of `METADATA`, in any order among others.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema, METADATA.channels, {})
        self._standardise = Standardiser("metadata: AstroM3Metadata", len(META_COLUMNS))

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"in_channels": len(META_COLUMNS)}

    def fit(self, raws: Iterable[Array]) -> None:
        self._standardise.fit(np.array([self._transform(raw) for raw in raws]))

    def state(self) -> dict[str, Any]:
        return self._standardise.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._standardise.load_state(state)

    def __call__(self, raw: Array) -> Prepared:
        return {"values": self._standardise(self._transform(raw)).astype(np.float32)}

    def _transform(self, raw: Array) -> Array:
        values = transform_columns(META_COLUMNS, raw)
        require_finite("metadata", META_COLUMNS, raw, values)
        return values


def require_finite(modality: str, names: Sequence[str], raw: Array, values: Array) -> None:
    """Refuse a star with a column that is missing, or whose transform does not exist.

    Args:
        modality: For the message.
        names: Of the columns.
        raw: (columns,) as given.
        values: (columns,) transformed.

    Raises:
        DataError: Names the column.
    """
    if np.isfinite(values).all():
        return
    # a missing parallax leaves no magnitude either
    wrong = ~np.isfinite(values if np.isfinite(raw).all() else raw)
    position = int(wrong.argmax())
    given = "is missing" if np.isnan(raw[position]) else f"is {raw[position]:g}, which cannot be"
    raise DataError(
        f"{modality}: {names[position]!r} {given}, and AstroM3's preprocessing takes all columns "
        f"of every star. Leave out the star, or its {modality}."
    )
