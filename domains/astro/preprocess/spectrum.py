"""Spectra on a regular grid of wavelengths."""

from collections.abc import Mapping

import numpy as np

from domains.astro.preprocess.scaling import median_absolute_deviation
from domains.astro.preprocess.series import SpectrumSeries
from shared.errors import ConfigError, DataError
from shared.preprocess import Prepared
from shared.schema import Array, Channel, Schema


class Spectrum(SpectrumSeries):
    """A spectrum on a regular wavelength grid, centred on its mean and divided by its MAD.

    As in AstroM3 (arXiv:2411.08842 §3.1): linear interpolation, constant beyond the ends, where a
    flattened flux is 0 instead, its continuum; the mean over all points of the grid, the MAD over
    those with a flux other than 0. Gives `values`
    (2 or 3, n) float32 with the rows (flux - mean) / MAD, inverse variance / MAD (when the dataset
    has it) and log10 MAD. Rows in any order; between rows at one wavelength the given order counts.

    Args:
        schema: Channels wavelength [Angstrom], flux and, possibly, inverse_variance; or
            flattened_flux (flux / continuum - 1) in place of the flux.
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
        flux = "flattened_flux" if "flattened_flux" in schema.names else "flux"
        used = [Channel("wavelength", "Angstrom"), Channel(flux)]
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
        flux, *others = (self._on_grid(wavelength, row) for row in rows)
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

    def _on_grid(self, wavelength: Array, values: Array) -> Array:
        ends = 0.0 if "flattened_flux" in self.takes.names else None
        return np.asarray(np.interp(self.grid, wavelength, values, left=ends, right=ends))
