"""Low-resolution spectra as LAMOST would have taken them."""

from functools import lru_cache

import numpy as np

from domains.astro.simulator.stars import Star
from shared.schema import Array, Channel, Schema

_STEP = 1e-4
WAVELENGTH = 10 ** (3.5682 + _STEP * np.arange(3909))
"""(3909,) [Angstrom] in vacuum-like log steps, 3700 to 9100, as LAMOST DR data have them."""

SPECTRA = Schema(
    "spectra",
    ("wavelength", "channel"),
    (
        Channel("wavelength", "Angstrom", (1.0, None)),
        Channel("flux"),
        Channel("inverse_variance", "", (0.0, None)),
    ),
)

_LIGHT = 299_792.458  # km/s
_BALMER = {
    6562.8: 1.0, 4861.3: 1.0, 4340.5: 0.9, 4101.7: 0.9, 3970.1: 0.8, 3889.1: 0.7, 3835.4: 0.6,
    3797.9: 0.5,
}  # fmt: skip
_IRON = (
    3760.0, 3787.0, 3820.4, 3860.0, 3878.0, 3905.5, 4005.2, 4045.8, 4063.6, 4071.7, 4143.9, 4202.0,
    4226.7, 4260.5, 4271.8, 4325.8, 4383.5, 4404.8, 4415.1, 4455.0, 4528.6, 4668.0, 4891.5, 4920.5,
    4957.6, 5015.0, 5110.0, 5227.0, 5269.5, 5328.0, 5371.0, 5406.0, 5430.0, 5446.0, 5497.0, 5615.6,
    5857.5, 6102.7, 6122.2, 6162.2, 6191.6, 6230.7, 6400.0, 6495.0,
)  # fmt: skip
# band heads of TiO (Gray & Corbally 2009, Stellar Spectral Classification, ch. 8), rough depths
_TITANIUM_OXIDE = {
    4761.0: 0.6, 4954.0: 0.9, 5167.0: 0.9, 5448.0: 0.8, 5847.0: 0.7, 6158.0: 1.0, 6651.0: 0.8,
    7054.0: 1.2, 7589.0: 0.9, 8432.0: 0.8, 8859.0: 0.5,
}  # fmt: skip


def observe_spectrum(star: Star, rng: np.random.Generator) -> Array:
    """(3909, 3) wavelength [Angstrom], relative flux, inverse variance of the flux.

    A Planck continuum, reddened, times exp(-optical depth) of lines and bands whose strengths
    follow temperature and metallicity as in the MK sequence (Gray & Corbally 2009). The shapes are
    schematic: Lorentzian or Gaussian lines, no model atmosphere.
    """
    flux = _intrinsic(star, rng)
    shift = np.log10(1 + star.velocity / _LIGHT) / _STEP
    pixel = np.arange(len(flux))
    flux = np.interp(pixel - shift, pixel, flux)
    flux *= np.exp(-_templates()["telluric"] * rng.uniform(0.3, 0.9))
    # flux calibration of LAMOST is relative: the slope is uncertain by several per cent
    x = np.linspace(-1, 1, len(flux))
    flux *= 1 + rng.normal(0, 0.04) * x + rng.normal(0, 0.03) * x**2
    flux *= 100 * 10 ** (-0.4 * (star.v - 14)) / np.median(flux)
    ratio = np.clip(35 * 10 ** (-0.15 * (star.v - 13)) * np.exp(rng.normal(0, 0.3)), 5, 60)
    # sky and the falling throughput at the blue end leave noise where the star has no light
    sigma = np.sqrt(np.median(flux) * np.clip(flux, 0, None)) / ratio
    sigma = np.hypot(sigma, 0.3 * np.median(flux) / ratio) * (
        1 + np.exp(-(WAVELENGTH - 3700) / 200)
    )
    noisy = flux + sigma * rng.standard_normal(len(flux))
    inverse_variance = sigma**-2
    inverse_variance[rng.random(len(flux)) < 0.002] = 0.0  # masked pixels
    return np.stack([WAVELENGTH, noisy, inverse_variance], axis=1)


def _intrinsic(star: Star, rng: np.random.Generator) -> Array:
    """Reddened flux at rest, arbitrary scale."""
    metre = WAVELENGTH * 1e-10
    flux = metre**-5 / np.expm1(1.438777e-2 / (metre * star.teff))
    # optical extinction curve as a power law of wavelength
    flux *= 10 ** (-0.4 * star.extinction * ((5500 / WAVELENGTH) ** 1.3))
    templates = _templates()
    depth = sum(strength * templates[name] for name, strength in line_strengths(star, rng).items())
    lines = flux * np.exp(-np.asarray(depth))
    if star.name == "M":  # shocks: Balmer emission around maximum light
        lines += flux * rng.uniform(0, 2.5) * templates["shock"]
    elif star.name == "ROT" and rng.random() < 0.6:  # chromospheric activity
        lines += flux * rng.uniform(0.1, 0.5) * templates["chromosphere"]
    return np.asarray(lines)


def line_strengths(star: Star, rng: np.random.Generator) -> dict[str, float]:
    """Optical depth at the centre of each family of lines (rows of the templates)."""
    t = star.teff
    balmer = np.exp(-(((np.log10(t) - 3.96) / 0.13) ** 2))
    metals = 10 ** (0.3 * star.metallicity + rng.normal(0, 0.03))

    def rising(hot: float, width: float, limit: float = 1.2) -> float:
        """0 above a temperature, growing linearly as the star gets cooler."""
        return float(np.clip((hot - t) / width, 0, limit))

    return {
        "balmer_core": 0.22 * float(np.clip((t - 3600) / 1500, 0, 1)) + 0.5 * balmer,
        "balmer_wing": 0.9 * balmer,
        "calcium_hk": 2.5 * metals * rising(9200, 3200, 1.0) ** 1.5,
        "calcium_triplet": 0.5 * metals * rising(8500, 2500, 1.0),
        "iron": 0.5 * metals * rising(7900, 3300),
        "magnesium_b": 0.7 * metals * rising(7000, 2800),
        "sodium_d": 0.1 + 0.9 * metals * rising(5600, 1800),
        "g_band": 0.5 * metals * np.exp(-(((t - 5200) / 900) ** 2)),
        "titanium_oxide": 1.1 * rising(4050, 1000, 1.6),
    }


@lru_cache(maxsize=1)
def _templates() -> dict[str, Array]:
    """Family of lines → (3909,) profile with centre 1 (before blending)."""
    resolution = 1.2  # Angstrom, sigma of LAMOST at R = 1800

    def gauss(centre: float, sigma: float) -> Array:
        return np.asarray(np.exp(-0.5 * ((WAVELENGTH - centre) / np.hypot(sigma, resolution)) ** 2))

    def lorentz(centre: float, width: float) -> Array:
        return np.asarray(1 / (1 + ((WAVELENGTH - centre) / width) ** 2))

    def band(head: float, length: float) -> Array:
        beyond = WAVELENGTH - head
        edge = np.clip((beyond + 8) / 16, 0, 1)
        return np.asarray(edge * np.exp(-np.clip(beyond, 0, None) / length))

    def total(lines: list[Array]) -> Array:
        return np.asarray(np.sum(lines, axis=0))

    balmer = _BALMER.items()
    return {
        "balmer_core": total([w * gauss(c, 3.5) for c, w in balmer]),
        "balmer_wing": total([w * lorentz(c, 11.0) for c, w in balmer]),
        "calcium_hk": total([lorentz(c, 4.5) for c in (3933.7, 3968.5)]),
        "calcium_triplet": total([gauss(c, 2.5) for c in (8498.0, 8542.1, 8662.1)]),
        "iron": total([(1.3 if c < 4500 else 0.7) * gauss(c, 2.5) for c in _IRON]),
        "magnesium_b": total([gauss(c, 3.0) for c in (5167.3, 5172.7, 5183.6)]),
        "sodium_d": total([gauss(c, 2.0) for c in (5890.0, 5895.9)]),
        "g_band": gauss(4302.0, 9.0),
        "titanium_oxide": total([w * band(c, 130.0) for c, w in _TITANIUM_OXIDE.items()]),
        "telluric": total([1.2 * band(7594.0, 30.0), 0.5 * band(6868.0, 20.0)]),
        "shock": total([w * gauss(c, 1.0) for c, w in ((4101.7, 1.0), (4340.5, 0.7))]),
        "chromosphere": total([gauss(c, 0.8) for c in (3933.7, 3968.5, 6562.8)]),
    }
