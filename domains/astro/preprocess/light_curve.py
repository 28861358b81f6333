"""Light curves at their own times, scaled."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from domains.astro.preprocess.metadata import require_finite, transform_columns
from domains.astro.preprocess.scaling import Standardiser, median_absolute_deviation
from domains.astro.preprocess.series import LightCurveSeries
from domains.astro.schemas import CATALOGUE_PHOTOMETRY, PHOTOMETRY
from shared.errors import ConfigError, DataError
from shared.preprocess import Prepared
from shared.schema import Array, Channel, Schema


class Scaled(NamedTuple):
    """Distinct rows in the order of time, after AstroM3 (arXiv:2411.08842 §3.1)."""

    time: Array  # (n,) [d] since the first
    flux: Array  # (n,) (flux - mean) / MAD
    error: Array  # (n,) flux_error / MAD
    mean: float  # [mJy]
    mad: float  # [mJy]

    @property
    def span(self) -> float:
        """[d]"""
        return float(self.time[-1])


def scale_light_curve(raw: Array) -> Scaled:
    """(n, 3) time [d], flux [mJy], flux_error [mJy]; rows in any order, equal ones count once.

    Raises:
        DataError: One observation, more than half of the fluxes or all times equal.
    """
    # unique sorts by the first channel, time, and makes the order of ties definite
    time, flux, error = np.unique(np.asarray(raw, dtype=np.float64), axis=0).T
    mad = median_absolute_deviation(flux)
    if mad == 0 or time[-1] == time[0]:
        raise DataError(
            f"photometry: a light curve cannot be scaled: {_why_not_scaled(len(time), mad)}. "
            "Leave this light curve out."
        )
    mean = float(flux.mean())
    return Scaled(time - time[0], (flux - mean) / mad, error / mad, mean, mad)


def _why_not_scaled(rows: int, mad: float) -> str:
    if rows == 1:
        return "it has one observation"
    equal = "more than half of the fluxes" if mad == 0 else "all times"
    return f"in its {rows} distinct rows {equal} are equal"


def require_positive(owner: str, value: int, setting: str = "max_length") -> int:
    """Raises ConfigError when a length is less than 1."""
    if value < 1:
        raise ConfigError(f"{owner}: {setting}={value}; give at least 1.")
    return value


def crop_window(
    prepared: Prepared, max_length: int, rng: np.random.Generator | None, keep: Sequence[str] = ()
) -> Prepared:
    """At most `max_length` consecutive rows: anywhere with `rng`, in the middle without.

    All windows are equally likely, the last one included: one version of AstroM3's code never takes
    that one. A number is drawn only where there is a choice.

    Args:
        prepared: Arrays of one length.
        max_length: Of the window.
        rng: Where the start is drawn from; without, it is half of the spare rows, rounded down.
        keep: Names of arrays that are not rows.
    """
    spare = len(prepared["mask"]) - max_length
    if spare <= 0:
        return prepared
    start = spare // 2 if rng is None else int(rng.integers(0, spare + 1))
    window = slice(start, start + max_length)
    return {k: v if k in keep else v[window] for k, v in prepared.items()}


class LightCurve(LightCurveSeries):
    """A light curve at its own times: flux centred on its mean and divided by its MAD.

    Scaling after AstroM3 (arXiv:2411.08842 §3.1); what it removes goes to `context`. Gives

    - `time` (n,) float32: days since the first observation of the whole curve;
    - `values` (n, 2) float32: (flux - mean) / MAD and flux_error / MAD;
    - `context` (3,) float32: log10 of the MAD [mJy], of |mean flux| [mJy] (not below the MAD) and
      of the time span [d];
    - `mask` (n,) bool: True.

    Rows in any order; rows that are equal in all channels count once.

    Args:
        schema: Channels time [d], flux [mJy], flux_error [mJy].
        max_length: Longest window that `crop` keeps.

    Raises:
        ConfigError: `max_length` is not positive.
    """

    def __init__(self, schema: Schema, max_length: int = 200) -> None:
        super().__init__(schema, PHOTOMETRY.channels, {"max_length": max_length})
        self.max_length = require_positive("LightCurve", max_length)

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"in_channels": 2, "context_dim": 3}

    def __call__(self, raw: Array) -> Prepared:
        curve = scale_light_curve(raw)
        level = max(abs(curve.mean), curve.mad)
        return {
            "time": curve.time.astype(np.float32),
            "values": np.stack([curve.flux, curve.error], axis=1).astype(np.float32),
            "context": np.log10([curve.mad, level, curve.span]).astype(np.float32),
            "mask": np.ones(len(curve.time), dtype=bool),
        }

    def crop(self, prepared: Prepared, rng: np.random.Generator | None) -> Prepared:
        """At most `max_length` consecutive rows: anywhere with `rng`, in the middle without."""
        return crop_window(prepared, self.max_length, rng, keep=("context",))


class AstroM3LightCurve(LightCurveSeries):
    """A light curve as AstroM3 (arXiv:2411.08842 §3.1) reads it: all in one table.

    Gives `values` (n, 5 + columns) float32 and `mask` (n,) bool. The channels are time, from 0 to 1
    over the whole curve; (flux - mean) / MAD; flux_error / MAD; then constants of the star, the
    same in each row: the catalogue columns, transformed (`transform_columns`) and standardised over
    the stars of the training split; log10 MAD [mJy]; time span [365 d].

    Rows in any order; rows that are equal in all channels count once.

    Args:
        schema: Channels time [d], flux [mJy], flux_error [mJy] and `columns`, the latter with one
            value a star.
        columns: Catalogue columns. The published recipe takes amplitude, period, lksl_statistic and
            rfr_score; not every survey has them.
        max_length: Longest window that `crop` keeps.
        time_dtype: Of the times before they are scaled. `float32` rounds Julian dates to 0.25 d:
            so were the data of the published weights.
        padding: What rows hold that `mask` excludes. `zeros`, or `columns`: the constants of the
            star, as the first version of AstroM3's code does. An encoder that heeds the mask sees
            no difference.

    Raises:
        ConfigError: `max_length` is not positive, or a column is named twice.
        SchemaError: The schema lacks a column.
    """

    flux_column = 1

    def __init__(
        self,
        schema: Schema,
        columns: Sequence[str] = (),
        max_length: int = 200,
        time_dtype: Literal["float64", "float32"] = "float64",
        padding: Literal["zeros", "columns"] = "zeros",
    ) -> None:
        self.columns = tuple(columns)
        if len(set(self.columns) - set(PHOTOMETRY.names)) < len(columns):
            raise ConfigError(
                f"AstroM3LightCurve: columns={list(columns)}; name each catalogue column once, and "
                f"none of {', '.join(PHOTOMETRY.names)}."
            )
        settings = {"columns": list(columns), "max_length": max_length}
        settings |= {"time_dtype": time_dtype, "padding": padding}
        used = (*PHOTOMETRY.channels, *(_constant(schema, name) for name in columns))
        if columns:
            self.remedy = (
                "Catalogue columns come beside the light curve by data.catalogue_columns=true "
                "(built-in stars) or data.photometry_columns=[…] (star_folder); fluxes from "
                "magnitudes by an adapter."
            )
        super().__init__(schema, used, settings)
        self.max_length = require_positive("AstroM3LightCurve", max_length)
        self.time_dtype, self.padding = time_dtype, padding
        self._standardise = Standardiser("photometry: AstroM3LightCurve", len(columns))

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"in_channels": 5 + len(self.columns), "input_length": self.max_length}

    def fit(self, raws: Iterable[Array]) -> None:
        """Learn mean and population deviation of the columns; each light curve counts once."""
        if self.columns:
            self._standardise.fit(np.array([self._transform(raw) for raw in raws]))

    def state(self) -> dict[str, Any]:
        return self._standardise.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._standardise.load_state(state)

    def __call__(self, raw: Array) -> Prepared:
        rows = np.array(raw[:, : len(PHOTOMETRY.names)], dtype=np.float64)
        rows[:, 0] = rows[:, 0].astype(self.time_dtype)
        curve = scale_light_curve(rows)
        columns = self._standardise(self._transform(raw)) if self.columns else ()
        constants = [*columns, np.log10(curve.mad), curve.span / 365]
        series = np.stack([curve.time / curve.span, curve.flux, curve.error], axis=1)
        values = np.hstack([series, np.tile(constants, (len(series), 1))])
        return {"values": values.astype(np.float32), "mask": np.ones(len(series), dtype=bool)}

    def crop(self, prepared: Prepared, rng: np.random.Generator | None) -> Prepared:
        """As `LightCurve.crop`; with `padding="columns"` shorter ones are padded to `max_length`,
        and `mask` is False there."""
        prepared = crop_window(prepared, self.max_length, rng)
        missing = self.max_length - len(prepared["mask"])
        if self.padding == "zeros" or missing <= 0:
            return prepared
        row = prepared["values"][:1].copy()
        row[:, : len(PHOTOMETRY.names)] = 0
        values = np.concatenate([prepared["values"], np.repeat(row, missing, axis=0)])
        return {"values": values, "mask": np.pad(prepared["mask"], (0, missing))}

    def _transform(self, raw: Array) -> Array:
        """The catalogue columns of a star, (columns,) float64, not standardised yet."""
        columns = np.asarray(raw[:, len(PHOTOMETRY.names) :], dtype=np.float64)
        values = transform_columns(self.columns, columns[0])
        require_finite("photometry", self.columns, columns[0], values)
        if (different := (columns != columns[0]).any(axis=0)).any():
            position = int(different.argmax())
            low, high = columns[:, position].min(), columns[:, position].max()
            raise DataError(
                f"photometry: {self.columns[position]!r} runs from {low:g} to {high:g} within one "
                "light curve, and has to be one value a star, the same in each row."
            )
        return values


def _constant(schema: Schema, name: str) -> Channel:
    """A catalogue column: in the unit that AstroM3 has it, or else in the schema's."""
    for known in (CATALOGUE_PHOTOMETRY, schema):
        if name in known.names:
            return known.channel(name)
    return Channel(name)
