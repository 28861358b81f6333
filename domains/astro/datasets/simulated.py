"""The built-in dataset of the domain: synthetic variable stars, made when they are read."""

import numpy as np

from domains.astro.schemas import CATALOGUE_PHOTOMETRY, METADATA, PHOTOMETRY, SPECTRA
from domains.astro.simulator import (
    CLASSES,
    draw_class,
    draw_star,
    observe_catalogue,
    observe_columns,
    observe_light_curve,
    observe_spectrum,
)
from shared.data.dataset import Dataset, Raw, SampleTable
from shared.errors import ConfigError

VERSION = 1
"""Of the simulator: the same version, seed and number are the same star for ever."""


class SimulatedVariableStars(Dataset):
    """Synthetic variable stars of the ten classes of AstroM3, in three modalities.

    - `photometry` (n, 3): HJD [d], V-band flux [mJy], its error [mJy]; 60 to 350 rows. With
      `catalogue_columns` (n, 7): amplitude [mag], period [d], lksl_statistic and rfr_score, too,
      the same in each row.
    - `spectra` (3909, 3): wavelength [Angstrom], relative flux, inverse variance.
    - `metadata` (34,): Gaia, 2MASS and WISE columns; no period and no amplitude.

    Star i depends on (`VERSION`, seed, i) alone, so a longer set begins with a shorter one.

    Args:
        n_stars: Number of stars.
        seed: Of the whole set.
        spectra_fraction: Share of the stars that have a spectrum, 0 to 1.
        catalogue_columns: Measure and give the columns that the published AstroM3 takes with a
            light curve. All else about a star is the same.

    Raises:
        ConfigError: A setting is out of range.
    """

    name = "simulated_variable_stars"
    version = str(VERSION)
    synthetic = True
    schemas = {"photometry": PHOTOMETRY, "spectra": SPECTRA, "metadata": METADATA}  # noqa: RUF012

    def __init__(
        self,
        n_stars: int = 2000,
        seed: int = 0,
        spectra_fraction: float = 0.8,
        catalogue_columns: bool = False,
    ) -> None:
        if n_stars < 1 or seed < 0 or not 0 <= spectra_fraction <= 1:
            raise ConfigError(
                f"{self.name}: n_stars={n_stars}, seed={seed}, spectra_fraction={spectra_fraction} "
                "cannot be; give n_stars >= 1, seed >= 0 and spectra_fraction in 0 … 1."
            )
        self.n_stars, self.seed, self.spectra_fraction = n_stars, seed, spectra_fraction
        self.catalogue_columns = catalogue_columns
        if catalogue_columns:
            self.schemas = {**self.schemas, "photometry": CATALOGUE_PHOTOMETRY}

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
        if self.catalogue_columns:
            # a stream of its own, so that the others do not depend on it, nor it on them
            columns = observe_columns(star, photometry, self._rng(index % self.n_stars, 1))
            raw["photometry"] = np.hstack([photometry, np.tile(columns, (len(photometry), 1))])
        return raw

    def content_fingerprint(self) -> str:
        columns = ", catalogue columns" if self.catalogue_columns else ""
        return (
            f"{self.name} version {VERSION}, {self.n_stars} stars, seed {self.seed}, "
            f"spectra {self.spectra_fraction}{columns}"
        )

    def _rng(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.seed, *numbers]))
