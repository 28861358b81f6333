"""Light curves, spectra and catalogue rows as arrays on the scale that the encoders expect."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from shared.errors import ConfigError, DataError
from shared.preprocess import Prepared, Preprocessor
from shared.schema import Array, Channel, Schema

_DAMAGED = "metadata: the saved statistics of MetadataTable are damaged"


def median_absolute_deviation(values: Array) -> float:
    """median |x - median(x)|, without the factor 1.4826 of a normal distribution."""
    return float(np.median(np.abs(values - np.median(values))))


class LightCurve(Preprocessor):
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
        used = (Channel("time", "d"), Channel("flux", "mJy"), Channel("flux_error", "mJy"))
        super().__init__(schema, used, {"max_length": max_length})
        if max_length < 1:
            raise ConfigError(f"LightCurve: max_length={max_length}; give at least 1.")
        self.max_length = max_length

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"in_channels": 2, "context_dim": 3}

    def __call__(self, raw: Array) -> Prepared:
        # unique sorts by the first channel, time, and makes the order of ties definite
        time, flux, error = np.unique(np.asarray(raw, dtype=np.float64), axis=0).T
        mad = median_absolute_deviation(flux)
        span = time[-1] - time[0]
        if mad == 0 or span == 0:
            raise DataError(
                f"photometry: a light curve cannot be scaled: {_why_not_scaled(len(time), mad)}. "
                "Leave this light curve out."
            )
        mean = flux.mean()
        return {
            "time": (time - time[0]).astype(np.float32),
            "values": np.stack([(flux - mean) / mad, error / mad], axis=1).astype(np.float32),
            "context": np.log10([mad, max(abs(mean), mad), span]).astype(np.float32),
            "mask": np.ones(len(time), dtype=bool),
        }

    def crop(self, prepared: Prepared, rng: np.random.Generator | None) -> Prepared:
        """At most `max_length` consecutive rows: anywhere with `rng`, in the middle without."""
        spare = len(prepared["time"]) - self.max_length
        if spare <= 0:
            return prepared
        start = spare // 2 if rng is None else int(rng.integers(0, spare + 1))
        window = slice(start, start + self.max_length)
        return {k: v if k == "context" else v[window] for k, v in prepared.items()}


def _why_not_scaled(rows: int, mad: float) -> str:
    if rows == 1:
        return "it has one observation"
    equal = "more than half of the fluxes" if mad == 0 else "all times"
    return f"in its {rows} distinct rows {equal} are equal"


class Spectrum(Preprocessor):
    """A spectrum on a regular wavelength grid, centred on its mean and divided by its MAD.

    As in AstroM3 (arXiv:2411.08842 §3.1): linear interpolation, constant beyond the ends; the mean
    over all points of the grid, the MAD over those with a flux other than 0. Gives `values`
    (2 or 3, n) float32 with the rows (flux - mean) / MAD, inverse variance / MAD (when the dataset
    has it) and log10 MAD. Rows in any order; between rows at one wavelength the given order counts.

    Args:
        schema: Channels wavelength [Angstrom], flux and, possibly, inverse_variance.
        start: First wavelength [Angstrom].
        stop: End of the grid [Angstrom], not part of it.
        step: Of the grid [Angstrom].
        min_coverage: Smallest share of the grid that must lie inside the observed range. One half
            by default: with less, most of the input would be invented by extrapolation, and the
            MAD could be zero.

    Raises:
        ConfigError: The grid has less than two points.
    """

    def __init__(
        self,
        schema: Schema,
        start: float = 3850.0,
        stop: float = 9000.0,
        step: float = 2.0,
        min_coverage: float = 0.5,
    ) -> None:
        used = [Channel("wavelength", "Angstrom"), Channel("flux")]
        if "inverse_variance" in schema.names:
            used.append(Channel("inverse_variance"))
        settings = {"start": start, "stop": stop, "step": step, "min_coverage": min_coverage}
        super().__init__(schema, tuple(used), settings)
        if step <= 0 or stop - start <= step:
            raise ConfigError(
                f"Spectrum: start={start}, stop={stop}, step={step} Angstrom make no grid; give "
                "start < stop and a positive step."
            )
        self.grid = np.arange(start, stop, step)
        self.min_coverage = min_coverage

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"in_channels": len(self.takes.channels), "input_length": len(self.grid)}

    def __call__(self, raw: Array) -> Prepared:
        raw = np.asarray(raw, dtype=np.float64)
        wavelength, *rows = raw[np.argsort(raw[:, 0], kind="stable")].T
        inside = (self.grid >= wavelength[0]) & (self.grid <= wavelength[-1])
        if inside.mean() < self.min_coverage:
            raise DataError(
                f"spectra: {wavelength[0]:.0f} to {wavelength[-1]:.0f} Angstrom cover "
                f"{inside.mean():.0%} of the grid {self.grid[0]:.0f} to {self.grid[-1]:.0f}, less "
                f"than min_coverage={self.min_coverage:.0%}. Leave this spectrum out or change the "
                "grid."
            )
        flux, *others = (np.interp(self.grid, wavelength, row) for row in rows)
        measured = flux[flux != 0]
        mad = median_absolute_deviation(measured) if len(measured) else 0.0
        if mad == 0:
            raise DataError(
                "spectra: the flux is the same on more than half of the grid, or zero everywhere, "
                "so it cannot be scaled. Leave this spectrum out."
            )
        scaled = [(flux - flux.mean()) / mad, *(row / mad for row in others)]
        values = np.stack([*scaled, np.full(len(self.grid), np.log10(mad))])
        return {"values": values.astype(np.float32)}


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
        self._mean: Array | None = None
        self._std: Array | None = None

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"in_channels": len(self._optional) + int(self._optional.sum())}

    def fit(self, raws: Iterable[Array]) -> None:
        rows = np.array(list(raws), dtype=np.float64)
        if rows.size == 0:
            raise DataError("metadata: no training sample has metadata to learn the scale from.")
        known = np.isfinite(rows)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, rows, 0).sum(0) / count
        std = np.sqrt((np.where(known, rows - mean, 0) ** 2).sum(0) / count)
        self._mean, self._std = mean, np.where(std > 0, std, 1.0)

    def state(self) -> dict[str, Any]:
        if self._mean is None or self._std is None:
            return {}
        return {"mean": self._mean.tolist(), "std": self._std.tolist()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`.

        Raises:
            DataError: Not one finite mean and one positive deviation a channel.
        """
        if not state:
            return
        try:
            mean, std = (np.array(state[name], dtype=np.float64) for name in ("mean", "std"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{_DAMAGED} ({type(error).__name__}: {error}).") from error
        right = mean.shape == std.shape == self._optional.shape
        if not right or not np.isfinite([mean, std]).all() or (std <= 0).any():
            raise DataError(
                f"{_DAMAGED}: it takes a finite mean and a positive deviation for each of the "
                f"{len(self._optional)} channels."
            )
        self._mean, self._std = mean, std

    def __call__(self, raw: Array) -> Prepared:
        if self._mean is None or self._std is None:
            raise DataError("metadata: MetadataTable has no statistics yet; call fit first.")
        row = np.asarray(raw, dtype=np.float64)
        missing = np.isnan(row)
        if (unknown := missing & ~self._optional).any():
            name = self.takes.names[int(unknown.argmax())]
            raise DataError(
                f"metadata: {name!r} is missing, but no star lacked it where this model was "
                "trained. Leave the star or its metadata out."
            )
        scaled = np.where(missing, 0.0, (row - self._mean) / self._std)
        return {"values": np.concatenate([scaled, missing[self._optional]]).astype(np.float32)}
