"""Where the measurements stand in prepared light curves and spectra."""

from collections.abc import Mapping

import torch
from torch import Tensor

from shared.preprocess import Series, SeriesPreprocessor


class LightCurveSeries(SeriesPreprocessor):
    """Of `values` (rows, length, channels) and `mask` (rows, length): flux at times.

    Attributes:
        flux_column: Channel of the flux; the next one is its error, and neither is 0 where a star
            was observed.
    """

    flux_column = 0

    def series(self, inputs: Mapping[str, Tensor]) -> Series:
        flux, error = inputs["values"][..., self.flux_column :].unbind(dim=2)[:2]
        return Series(flux, error, inputs["mask"].bool())

    def hide(self, inputs: Mapping[str, Tensor], hidden: Tensor) -> dict[str, Tensor]:
        values = inputs["values"].clone()
        measured = values[..., self.flux_column : self.flux_column + 2]
        measured.masked_fill_(hidden[..., None], 0)
        return {**inputs, "values": values, "hidden": hidden}


class SpectrumSeries(SeriesPreprocessor):
    """Of `values` (rows, 2 or 3, length): flux / MAD, possibly inverse variance / MAD, log10 MAD.

    A point with the inverse variance 0 was not measured; without this row all points were, with
    unknown errors.
    """

    def series(self, inputs: Mapping[str, Tensor]) -> Series:
        values = inputs["values"]
        flux, log_mad = values[:, 0], values[:, -1]
        if values.shape[1] == 2:
            return Series(flux, torch.zeros_like(flux), torch.ones_like(flux, dtype=torch.bool))
        present = values[:, 1] > 0
        inverse_variance = torch.where(present, values[:, 1], 1.0)
        # σ / MAD of inverse variance / MAD; as logarithms, since the cube of a flux leaves float32
        error = 10 ** (-0.5 * (inverse_variance.log10() + 3 * log_mad))
        return Series(flux, error, present)

    def hide(self, inputs: Mapping[str, Tensor], hidden: Tensor) -> dict[str, Tensor]:
        values = inputs["values"].clone()
        values[:, :-1].masked_fill_(hidden[:, None], 0)
        return {**inputs, "values": values, "hidden": hidden}
