"""The schemas of variable stars: what the preprocessors take and the datasets give."""

from shared.schema import POSITIVE, Channel, Schema

NOT_NEGATIVE = (0.0, None)

PHOTO_COLUMNS = ("amplitude", "period", "lksl_statistic", "rfr_score")
"""The catalogue columns that AstroM3 (arXiv:2411.08842) puts beside the light curve, in order."""

_LIGHT_CURVE = (
    Channel("time", "d"),
    Channel("flux", "mJy"),
    Channel("flux_error", "mJy", POSITIVE),
)
_SERIES = ("time", "channel")
_SPECTRUM = ("wavelength", "channel")

PHOTOMETRY = Schema("photometry", _SERIES, _LIGHT_CURVE)
"""A light curve, (n, 3)."""

CATALOGUE_PHOTOMETRY = Schema(
    "photometry",
    _SERIES,
    (
        *_LIGHT_CURVE,
        Channel("amplitude", "mag"),
        Channel("period", "d", POSITIVE),
        Channel("lksl_statistic"),
        Channel("rfr_score"),
    ),
)
"""A light curve with `PHOTO_COLUMNS` (n, 7): constants of the star, the same on each row."""

SPECTRA = Schema(
    "spectra",
    _SPECTRUM,
    (
        Channel("wavelength", "Angstrom", (1.0, None)),
        Channel("flux"),
        Channel("inverse_variance", "", NOT_NEGATIVE),
    ),
)
"""A spectrum, (n, 3)."""

_UNITS = (
    ("mag", "mean_vmag phot_g_mean_mag e_phot_g_mean_mag phot_bp_mean_mag e_phot_bp_mean_mag"),
    ("mag", "phot_rp_mean_mag e_phot_rp_mean_mag bp_rp"),
    ("mas", "parallax parallax_error"),
    ("", "parallax_over_error"),
    ("mas/yr", "pmra pmra_error pmdec pmdec_error"),
    ("mag", "j_mag e_j_mag h_mag e_h_mag k_mag e_k_mag w1_mag e_w1_mag w2_mag e_w2_mag"),
    ("mag", "w3_mag w4_mag j_k w1_w2 w3_w4"),
    ("mas/yr", "pm"),
    ("", "ruwe"),
    ("deg", "l b"),
)
_RANGES = {"l": (0.0, 360.0), "b": (-90.0, 90.0), "pm": NOT_NEGATIVE, "ruwe": NOT_NEGATIVE}


def _column(name: str, unit: str) -> Channel:
    is_error = name.startswith("e_") or name in ("parallax_error", "pmra_error", "pmdec_error")
    return Channel(name, unit, NOT_NEGATIVE if is_error else _RANGES.get(name, (None, None)))


METADATA = Schema(
    "metadata",
    ("channel",),
    tuple(_column(name, unit) for unit, names in _UNITS for name in names.split()),
)
"""The 34 `meta_cols` of AstroM3 in its order; no period, no amplitude."""

META_COLUMNS = METADATA.names

PROCESSED_PHOTOMETRY = Schema(
    "photometry",
    _SERIES,
    (
        *(Channel("time"), Channel("flux"), Channel("flux_error", "", NOT_NEGATIVE)),
        *(Channel(name) for name in (*PHOTO_COLUMNS, "log_mad", "time_span")),
    ),
)
"""A light curve as `astrom3_light_curve` makes it (n, 9), standardised and without units."""

PROCESSED_SPECTRA = Schema(
    "spectra",
    _SPECTRUM,
    (Channel("flux"), Channel("inverse_variance", "", NOT_NEGATIVE), Channel("log_mad")),
)
"""A spectrum on AstroM3's grid (2575, 3), scaled: flux, inverse variance / MAD, log10 MAD."""

PROCESSED_METADATA = Schema("metadata", ("channel",), tuple(Channel(n) for n in META_COLUMNS))
"""`METADATA`, transformed and standardised."""
