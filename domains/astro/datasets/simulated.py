"""The built-in dataset of the domain: synthetic variable stars, made when they are read."""

import numpy as np

from domains.astro.simulator.catalogue import METADATA, observe_catalogue
from domains.astro.simulator.photometry import PHOTOMETRY, observe_light_curve
from domains.astro.simulator.spectroscopy import SPECTRA, observe_spectrum
from domains.astro.simulator.stars import CLASSES, draw_class, draw_star
from shared.data.dataset import Dataset, Raw, SampleTable
from shared.errors import ConfigError

VERSION = 1
"""Of the simulator: the same version, seed and number are the same star for ever."""


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
        raw = {
            "photometry": observe_light_curve(star, rng),
            "metadata": observe_catalogue(star, rng),
        }
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
