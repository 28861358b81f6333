"""How a light curve or a spectrum looks in a gallery."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import Raw
from shared.errors import SchemaError
from shared.schema import Array, Schema

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#1F3B57"
PALE = "#A9BCCD"
MEANS = 250
"""Points of the dark line of a spectrum, about."""
PERIOD_TEXT: Mapping[str, Any] = {"ha": "right", "va": "top", "fontsize": 5.5, "color": "#555555"}
SHOWN_PERCENTILES = (0.5, 99.5)
"""Of the values of a spectrum or light curve that are inside the frame before the margin: single
bad points do not flatten the rest."""
MARGIN, ROOM_FOR_TEXT = 0.12, 0.3


def light_curve(axes: "Axes", schemas: Mapping[str, Schema], raw: Raw) -> None:
    """Flux or magnitude with error bars against time, or, where the sample has a period in days
    (channel `period` of the light curve or of the catalogue columns), against phase over two
    cycles from the first observation. Magnitudes grow downwards.

    Args:
        axes: Empty axes.
        schemas: Of the dataset.
        raw: A sample with `photometry`, (n, channels).

    Raises:
        SchemaError: There is no `time`, or neither `flux` nor `magnitude`.
    """
    schema, curve = schemas["photometry"], raw["photometry"]
    name = _first_of(schema, "flux", "magnitude")
    values, time = _column(schema, curve, name), _column(schema, curve, _first_of(schema, "time"))
    has_error = f"{name}_error" in schema.names
    error = _column(schema, curve, f"{name}_error") if has_error else None
    period = _period(schemas, raw)
    if period is not None:
        phase = (time - time.min()) / period % 1.0
        x, label = np.concatenate([phase, phase + 1]), "phase"
        values = np.tile(values, 2)
        error = None if error is None else np.tile(error, 2)
    elif schema.channel("time").unit == "d":
        # days since an epoch do not fit on ticks; whole hundreds are easy to add back
        start = np.floor(time.min() / 100) * 100
        x, label = time - start, f"time − {start:.0f} [d]" if start else "time [d]"
    else:
        x, label = time, "scaled time"
    axes.errorbar(x, values, error, fmt=".", ms=2.5, mew=0, color=INK, ecolor=PALE, elinewidth=0.5)
    upwards = name == "flux"
    if period is None:
        _frame(axes, values, upwards)
    else:
        axes.set_xlim(0, 2)
        _frame(axes, values, upwards, top=ROOM_FOR_TEXT)
        text = f"{period:.4g} d"
        axes.annotate(text, (1, 1), (-2, -2), "axes fraction", "offset points", **PERIOD_TEXT)
    axes.set_xlabel(label)
    axes.set_ylabel(_with_unit(schema, name))


def spectrum(axes: "Axes", schemas: Mapping[str, Schema], raw: Raw) -> None:
    """Flux against wavelength, or against the number of the grid point where the schema has no
    wavelength: every point pale, means of neighbouring points dark.

    Args:
        axes: Empty axes.
        schemas: Of the dataset.
        raw: A sample with `spectra`, (n, channels).

    Raises:
        SchemaError: There is neither `flux` nor `flattened_flux`.
    """
    schema, table = schemas["spectra"], raw["spectra"]
    name = _first_of(schema, "flux", "flattened_flux")
    values = _column(schema, table, name)
    if "wavelength" in schema.names:
        x, label = _column(schema, table, "wavelength"), _with_unit(schema, "wavelength")
    else:
        x, label = np.arange(len(values), dtype=np.float64), "grid point"
    axes.plot(x, values, color=PALE, linewidth=0.4)
    width = max(1, len(x) // MEANS)
    whole = len(x) // width * width
    mean_x, mean = (a[:whole].reshape(-1, width).mean(axis=1) for a in (x, values))
    axes.plot(mean_x, mean, color=INK, linewidth=0.7)
    axes.margins(x=0)
    _frame(axes, values, upwards=True)
    axes.set_xlabel(label)
    axes.set_ylabel(_with_unit(schema, name))


def _first_of(schema: Schema, *names: str) -> str:
    for name in names:
        if name in schema.names:
            return name
    raise SchemaError(
        f"{schema.modality}: to be drawn it needs {' or '.join(names)}; the dataset gives "
        f"{', '.join(schema.names)}."
    )


def _column(schema: Schema, table: Array, name: str) -> NDArray[np.float64]:
    return np.asarray(table[:, schema.names.index(name)], dtype=np.float64)


def _period(schemas: Mapping[str, Schema], raw: Raw) -> float | None:
    """Days; None where the sample has none above 0."""
    for modality in ("photometry", "metadata"):
        schema = schemas.get(modality)
        if schema is None or modality not in raw or "period" not in schema.names:
            continue
        # a standardised period has no unit, and folds nothing
        if schema.channel("period").unit == "d":
            period = float(np.atleast_2d(raw[modality])[0, schema.names.index("period")])
            if period > 0:  # also false for NaN
                return period
    return None


def _frame(axes: "Axes", values: Array, upwards: bool, top: float = MARGIN) -> None:
    """Limits of y with margins as shares of the range; downwards: the small values at the top."""
    bottom_value, top_value = np.percentile(values, SHOWN_PERCENTILES)[:: 1 if upwards else -1]
    span = top_value - bottom_value or 1.0
    axes.set_ylim(bottom_value - MARGIN * span, top_value + top * span)


def _with_unit(schema: Schema, name: str) -> str:
    unit = schema.channel(name).unit
    words = name.replace("_", " ")
    return f"{words} [{'Å' if unit == 'Angstrom' else unit}]" if unit else words
