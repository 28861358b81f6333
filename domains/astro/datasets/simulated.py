"""The built-in dataset of the domain: synthetic variable stars, made when they are read."""

import numpy as np

from domains.astro.simulator import (
    CLASSES,
    draw_class,
    draw_star,
    observe_catalogue,
    observe_light_curve,
    observe_spectrum,
)
from shared.data.dataset import Dataset, Raw, SampleTable
from shared.errors import ConfigError
from shared.schema import POSITIVE, Channel, Schema

VERSION = 1
"""Of the simulator: the same version, seed and number are the same star for ever."""

_NOT_NEGATIVE = (0.0, None)

PHOTOMETRY = Schema(
    "photometry",
    ("time", "channel"),
    (Channel("time", "d"), Channel("flux", "mJy"), Channel("flux_error", "mJy", POSITIVE)),
)
SPECTRA = Schema(
    "spectra",
    ("wavelength", "channel"),
    (
        Channel("wavelength", "Angstrom", (1.0, None)),
        Channel("flux"),
        Channel("inverse_variance", "", _NOT_NEGATIVE),
    ),
)

_COLUMNS = (
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
_RANGES = {"l": (0.0, 360.0), "b": (-90.0, 90.0), "pm": _NOT_NEGATIVE, "ruwe": _NOT_NEGATIVE}


def _column(name: str, unit: str) -> Channel:
    is_error = name.startswith("e_") or name in ("parallax_error", "pmra_error", "pmdec_error")
    return Channel(name, unit, _NOT_NEGATIVE if is_error else _RANGES.get(name, (None, None)))


METADATA = Schema(
    "metadata",
    ("channel",),
    tuple(_column(name, unit) for unit, names in _COLUMNS for name in names.split()),
)
"""The 34 `meta_cols` of AstroM3 (arXiv:2411.08842) in its order; no period, no amplitude."""


class SimulatedVariableStars(Dataset):
    """Synthetic variable stars of the ten classes of AstroM3, in three modalities.

    - `photometry` (n, 3): HJD [d], V-band flux [mJy], its error [mJy]; 60 to 350 rows.
    - `spectra` (3909, 3): wavelength [Angstrom], relative flux, inverse variance.
    - `metadata` (34,): Gaia, 2MASS and WISE columns; no period and no amplitude.

    Star i depends on (`VERSION`, seed, i) alone, so a longer set begins with a shorter one.

    Args:
        n_stars: Number of stars.
        seed: Of the whole set.
        spectra_fraction: Share of the stars that have a spectrum, 0 to 1.

    Raises:
        ConfigError: A setting is out of range.
    """

    name = "simulated_variable_stars"
    version = str(VERSION)
    synthetic = True
    schemas = {"photometry": PHOTOMETRY, "spectra": SPECTRA, "metadata": METADATA}  # noqa: RUF012

    def __init__(self, n_stars: int = 2000, seed: int = 0, spectra_fraction: float = 0.8) -> None:
        if n_stars < 1 or seed < 0 or not 0 <= spectra_fraction <= 1:
            raise ConfigError(
                f"{self.name}: n_stars={n_stars}, seed={seed}, spectra_fraction={spectra_fraction} "
                "cannot be; give n_stars >= 1, seed >= 0 and spectra_fraction in 0 … 1."
            )
        self.n_stars, self.seed, self.spectra_fraction = n_stars, seed, spectra_fraction

    def make_table(self) -> SampleTable:
        labels = [draw_class(self._rng(index)) for index in range(self.n_stars)]
        return SampleTable([f"sim{i:06d}" for i in range(self.n_stars)], labels, CLASSES)

    def read(self, index: int) -> Raw:
        if not -self.n_stars <= index < self.n_stars:
            raise IndexError(index)
        rng = self._rng(index % self.n_stars)
        star = draw_star(CLASSES[draw_class(rng)], rng)
        photometry, row = observe_light_curve(star, rng), observe_catalogue(star, rng)
        raw = {"photometry": photometry, "metadata": np.array([row[n] for n in METADATA.names])}
        if rng.random() < self.spectra_fraction:
            raw["spectra"] = observe_spectrum(star, rng)
        return raw

    def content_fingerprint(self) -> str:
        return (
            f"{self.name} version {VERSION}, {self.n_stars} stars, seed {self.seed}, "
            f"spectra {self.spectra_fraction}"
        )

    def _rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.seed, index]))
