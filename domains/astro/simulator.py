"""A synthetic sky: variable stars of ten classes with light curve, spectrum and catalogue row.

One latent `Star` drives all three modalities. It is a test bed with the right orders of magnitude,
not a population synthesis: no figure obtained on it is a statement about the real sky. Constants
with a source name it; every other number in this file is a round value chosen here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from shared.schema import Array

V_ZERO_POINT = 3.636e6
"""Flux density [mJy] of V = 0: Bessell, Castelli & Plez 1998 (A&A 333, 231) table A2."""
WAVELENGTH = 10 ** (3.5682 + 1e-4 * np.arange(3909))
"""(3909,) [Angstrom] log steps from 3700 to 9100, as LAMOST's low-resolution spectra have."""


def pulse(phase: Array, steepness: float, second: float) -> Array:
    """Δ magnitude of a fast rise and slow decline, the sawtooth Σ_k q^k sin(kx)/k of peak to peak
    1 (a sine wave for q → 0), and of a second mode of 0.77 periods."""
    x = 2 * np.pi * phase
    wave = np.arctan2(steepness * np.sin(x), 1 - steepness * np.cos(x)) / np.arcsin(steepness)
    return np.asarray(-0.5 * (wave + second * np.sin(x / 0.77)))


def eclipse(phase: Array, half_width: float, second: float) -> Array:
    """Δ magnitude of two minima, the first of depth 1, and of the tides of close binaries."""
    offset = np.abs((phase + 0.25) % 0.5 - 0.25)
    dip = np.cos(0.5 * np.pi * np.clip(offset / min(half_width, 0.25), 0, 1)) ** 2
    depth = np.where((phase + 0.25) % 1 < 0.5, 1.0, second)
    tide = 12 * half_width**2
    return np.asarray((depth * dip + tide * np.cos(2 * np.pi * phase) ** 2) / (1 + tide))


class Kind(NamedTuple):
    """What makes a class. A pair holds the values at the shortest and the longest period; between
    them logarithms run linearly: period-amplitude, -temperature and -radius relations."""

    share: float
    period: tuple[float, float]  # d
    amplitude: tuple[float, float]  # mag in V, peak to peak
    teff: tuple[float, float]  # K
    radius: tuple[float, float]  # of the Sun
    scatter: float  # of Teff, dex; that of the radius is twice as large
    shape: Callable[[Array, float, float], Array]
    form: float  # second argument of the shape, within 25 %
    second: float = 0.0  # third argument of the shape, within 25 %
    irregular: float = 0.0  # change from cycle to cycle, of the amplitude


# fmt: off
KINDS = {
    "DSCT": Kind(0.07, (0.03, 0.25), (0.1, 0.1), (7900, 7200), (1.3, 4.5), 0.02, pulse, 0.25, 0.4),
    "EA": Kind(0.12, (0.4, 40.0), (0.45, 0.45), (6000, 7800), (1.3, 2.6), 0.05, eclipse, 0.07, 0.5),
    "EB": Kind(0.09, (0.28, 5.0), (0.45, 0.45), (5600, 8000), (1.2, 3.0), 0.05, eclipse, 0.15, 0.5),
    "EW": Kind(0.18, (0.21, 1.0), (0.5, 0.35), (4900, 7400), (0.9, 2.6), 0.02, eclipse, 0.23, 1.0),
    "HADS": Kind(0.06, (0.045, 0.25), (0.4, 0.4), (7600, 7000), (1.7, 4.5), 0.02, pulse, 0.5),
    "M": Kind(0.07, (100, 600), (3.0, 4.2), (3350, 2800), (110, 480), 0.02, pulse, 0.35, 0.0, 0.1),
    "ROT": Kind(0.09, (0.3, 60), (0.12, 0.08), (5500, 4700), (0.8, 6), 0.04, pulse, 0.1, 0.0, 0.5),
    "RRAB": Kind(0.11, (0.4, 0.95), (1.3, 0.35), (6800, 6000), (4.8, 6.2), 0.01, pulse, 0.72),
    "RRC": Kind(0.07, (0.22, 0.45), (0.45, 0.45), (7200, 6900), (4.3, 4.7), 0.01, pulse, 0.2),
    "SR": Kind(0.14, (15, 500), (0.3, 1.6), (3800, 3050), (35, 400), 0.03, pulse, 0.2, 0.3, 0.5),
}
CLASSES = tuple(KINDS)
"""The classes of AstroM3; their shares are in its order of frequency, but less unequal."""

_TEFF = (2500, 3000, 3400, 3850, 4400, 5700, 7200, 9700)
# A / A_V, smallest error [mag], magnitude where the error is 0.1 mag, M - M_bol at _TEFF [mag]
_MAGNITUDES = {
    "mean_vmag": (1.00, 0.020, 17.0, (6.95, 4.70, 2.90, 1.20, 0.60, 0.08, 0.00, 0.20)),
    "phot_g_mean_mag": (0.79, 0.002, 21.0, (2.75, 1.70, 1.00, 0.35, 0.15, -0.07, -0.04, 0.20)),
    "phot_bp_mean_mag": (1.00, 0.003, 20.0, (6.70, 4.60, 2.70, 1.25, 0.80, 0.27, 0.10, 0.20)),
    "phot_rp_mean_mag": (0.59, 0.003, 20.0, (1.10, 0.20, -0.30, -0.60, -0.58, -0.57, -0.30, 0.20)),
    "j_mag": (0.24, 0.020, 15.8, (-1.65, -1.80, -1.78, -1.67, -1.44, -1.10, -0.57, 0.20)),
    "h_mag": (0.13, 0.020, 15.1, (-2.60, -2.76, -2.71, -2.45, -2.06, -1.44, -0.70, 0.20)),
    "k_mag": (0.08, 0.020, 14.3, (-3.05, -3.10, -3.00, -2.65, -2.20, -1.52, -0.73, 0.20)),
    "w1_mag": (0.04, 0.023, 15.0, (-3.20, -3.20, -3.05, -2.70, -2.25, -1.57, -0.78, 0.15)),
    "w2_mag": (0.03, 0.020, 14.0, (-3.50, -3.30, -3.02, -2.61, -2.17, -1.53, -0.76, 0.15)),
    "w3_mag": (0.04, 0.015, 10.5, (-4.10, -3.70, -3.20, -2.65, -2.19, -1.55, -0.78, 0.15)),
    "w4_mag": (0.04, 0.030, 7.5, (-4.80, -4.20, -3.50, -2.75, -2.24, -1.58, -0.80, 0.15)),
}
_COLOURS = (("bp_rp", "phot_bp_mean_mag", "phot_rp_mean_mag"), ("j_k", "j_mag", "k_mag"),
            ("w1_w2", "w1_mag", "w2_mag"), ("w3_w4", "w3_mag", "w4_mag"))

# Teff [K] cool and hot, optical depth at each, half width [Angstrom], centres in air [Angstrom];
# of titanium oxide the heads of its bands, which decay to the red
_LINES = {
    "hydrogen": ((4000, 9000), (0.05, 1.3), 7.0, (6562.8, 4861.3, 4340.5, 4101.7, 3970.1, 3889.1)),
    "calcium": ((5700, 9200), (2.5, 0.0), 5.0, (3933.7, 3968.5)),
    "calcium triplet": ((5700, 9000), (0.5, 0.1), 3.0, (8498.0, 8542.1, 8662.1)),
    "iron": ((4200, 8000), (0.8, 0.0), 3.0, (4045.8, 4271.8, 4383.5, 4957.6, 5269.5, 5328.0)),
    "magnesium": ((4200, 7000), (0.8, 0.0), 3.0, (5167.3, 5172.7, 5183.6)),
    "sodium": ((4000, 6000), (1.0, 0.1), 2.5, (5890.0, 5895.9)),
    "oxide": ((2800, 4050), (1.5, 0.0), 130.0, (4761.0, 4954.0, 5448.0, 5847.0, 6158.0, 7054.0)),
}
# fmt: on


@dataclass(frozen=True)
class Star:
    """One synthetic star; magnitudes are of the mean flux."""

    name: str
    period: float  # d
    amplitude: float  # mag in V, peak to peak
    teff: float  # K
    halo: bool  # few metals, fast
    distance: float  # pc
    extinction: float  # A_V, mag
    magnitudes: dict[str, float]  # apparent, by catalogue column
    latitude: float  # Galactic, deg
    variation: Callable[[Array], Array]  # days (n,) → Δ magnitude (n,)


def draw_class(rng: np.random.Generator) -> int:
    """Index into `CLASSES`; always the first draw of a star."""
    edges = np.cumsum([kind.share for kind in KINDS.values()])[:-1]
    return int(np.searchsorted(edges, rng.random(), side="right"))


def draw_star(name: str, rng: np.random.Generator) -> Star:
    """A star of a class: Stefan-Boltzmann gives its luminosity, a survey limit its distance."""
    kind, where = KINDS[name], rng.beta(2, 2)
    trends = (kind.period, kind.amplitude, kind.teff, kind.radius)
    scatter = rng.normal(0, (0, 0.15, kind.scatter, 2 * kind.scatter))
    ends = np.log10(np.array(trends, dtype=np.float64)).T
    values = 10 ** (ends[0] + (ends[1] - ends[0]) * where + scatter)
    period, amplitude, teff, radius = map(float, values)
    halo = name in ("RRAB", "RRC")
    sin_b = rng.uniform(-1, 1) if halo else np.tanh(rng.laplace(0, 0.25))
    # solar values: IAU 2015 resolutions B2 and B3
    bolometric = 4.74 - 5 * np.log10(radius) - 10 * np.log10(teff / 5772)
    absolute = {m: bolometric + np.interp(teff, _TEFF, row[3]) for m, row in _MAGNITUDES.items()}
    # dust: 0.8 mag/kpc in the Galactic plane, falling off with a scale height of 125 pc
    distances, path = np.logspace(1, 4.2, 600), 125 / max(abs(sin_b), 1e-3)
    dust = 0.8e-3 * path * (1 - np.exp(-distances / path))
    apparent = absolute["mean_vmag"] + 5 * np.log10(distances / 10) + dust
    # small variations are found in bright stars only
    faintest = min(16.2, 14 + 2.5 * np.log10(amplitude / 0.05), apparent[-1])
    v = 10.8 + (faintest - 10.8) * rng.beta(2.2, 1.4)
    distance, extinction = (float(np.interp(v, apparent, row)) for row in (distances, dust))
    modulus = 5 * np.log10(distance / 10)
    magnitudes = {m: absolute[m] + modulus + extinction * _MAGNITUDES[m][0] for m in absolute}
    latitude = float(np.degrees(np.arcsin(sin_b)))
    variation = _draw_variation(kind, period, amplitude, rng)
    return Star(
        name, period, amplitude, teff, halo, distance, extinction, magnitudes, latitude, variation
    )


def _draw_variation(
    kind: Kind, period: float, amplitude: float, rng: np.random.Generator
) -> Callable[[Array], Array]:
    form, second = rng.uniform(0.75, 1.25, 2) * (kind.form, kind.second)
    slow, start, phases = max(period, 100) * rng.uniform(1.5, 6, 4), rng.random(), rng.random(4)

    def variation(time: Array) -> Array:
        drift = kind.irregular * np.sin(2 * np.pi * (time[:, None] / slow + phases)).mean(1)
        turn = time / period + start + 0.3 * drift
        return np.asarray(amplitude * ((1 + drift) * kind.shape(turn, form, second) + drift))

    return variation


def observe_light_curve(star: Star, rng: np.random.Generator) -> Array:
    """(n, 3) HJD [d], V flux [mJy] and its error [mJy]; 60 to 350 visits in 3 to 5 years: one every
    few nights, yearly seasons, clouds; 1 % noise if bright, 5 sigma at V = 17, a few outliers."""
    night = np.floor(np.arange(0, 365.25 * rng.uniform(3, 5), rng.uniform(2, 3)))
    up = night[(night + rng.uniform(0, 365)) % 365.25 < rng.uniform(190, 290)]
    clouds, length = rng.uniform(0, night[-1], 8), rng.uniform(4, 25, 8)
    cloudy = (np.abs(up[:, None] - clouds) < length / 2).any(1)
    clear = up[~cloudy & (rng.random(len(up)) < rng.uniform(0.45, 0.95))]
    number = int(np.clip(len(clear), 60, 350))
    taken = np.sort(rng.choice(clear if len(clear) >= 60 else up, number, replace=False))
    time = taken + rng.uniform(0, 0.35, number)
    relative = 10 ** (-0.4 * star.variation(time))
    flux = V_ZERO_POINT * 10 ** (-0.4 * star.magnitudes["mean_vmag"]) * relative / relative.mean()
    sigma = np.sqrt(0.08**2 + 8e-4 * flux + (0.01 * flux) ** 2) * rng.lognormal(0, 0.25, number)
    outlier = np.where(rng.random(number) < 0.007, rng.uniform(0.7, 1.4, number), 1.0)
    return np.stack([2_456_700.0 + time, rng.normal(flux, sigma) * outlier, sigma], axis=1)


def observe_spectrum(star: Star, rng: np.random.Generator) -> Array:
    """(3909, 3) wavelength [Angstrom], relative flux, its inverse variance: a reddened Planck
    continuum through schematic lines and bands, with an uncertain slope, noise and dead pixels."""
    metre = WAVELENGTH * 1e-10
    flux = metre**-5 / np.expm1(1.438777e-2 / (metre * star.teff))  # CODATA c2 [m K]
    flux *= 10 ** (-0.4 * star.extinction * (5500 / WAVELENGTH) ** 1.3)
    metals = rng.lognormal(-1.0 if star.halo else -0.1, 0.2)
    depths = np.array([metals * np.interp(star.teff, *row[:2]) for row in _LINES.values()])
    depths[0] /= metals  # hydrogen; in Miras, shocks bring it into emission
    depths[0] = -rng.uniform(0, 0.8) if star.name == "M" else depths[0]
    flux *= np.exp(-depths @ _profiles())
    slope = np.linspace(-1, 1, len(flux))
    flux *= 1 + rng.normal(0, 0.04) * slope + rng.normal(0, 0.03) * slope**2
    v = star.magnitudes["mean_vmag"]
    level = 100 * 10 ** (-0.4 * (v - 14))
    flux *= level / np.median(flux)
    ratio = np.clip(35 * 10 ** (-0.15 * (v - 13) + rng.normal(0, 0.13)), 5, 60)
    sigma = np.sqrt(level * flux + (0.3 * level) ** 2) / ratio
    sigma *= 1 + np.exp(-(WAVELENGTH - 3700) / 200)  # throughput falls in the blue
    dead = rng.random(len(flux)) < 0.002
    return np.stack([WAVELENGTH, rng.normal(flux, sigma), np.where(dead, 0, sigma**-2)], axis=1)


def observe_columns(star: Star, photometry: Array, rng: np.random.Generator) -> Array:
    """(4,) amplitude [mag], period [d], lksl_statistic, rfr_score: what a catalogue of variable
    stars would say of this light curve.

    The amplitude is from the 2nd to the 98th percentile of the flux, not below the median error;
    the period that of the star, off by some 2 % of a turn over the time observed; the score, which
    in a real catalogue is a classifier's, says nothing here.
    """
    time, flux, error = photometry.T
    low, high = np.percentile(flux, [2, 98])
    amplitude = 2.5 * np.log10(high / max(low, float(np.median(error))))
    period = star.period * (1 + rng.normal(0, 0.02) * star.period / np.ptp(time))
    statistic = lafler_kinman(time / period, flux)
    return np.array([amplitude, period, statistic, rng.beta(8, 1)])


def lafler_kinman(turns: Array, values: Array) -> float:
    """String length of a folded light curve, Clarke 2002 (A&A 386, 763) eq. 2: the squares of the
    steps between neighbours in phase, the last and the first too, over the squares of the distances
    from the mean; near 1 for noise, near 0 for a smooth curve.

    Args:
        turns: (n,) time over period.
        values: (n,) magnitudes or fluxes.
    """
    folded = values[np.argsort(turns % 1)]
    steps = ((np.roll(folded, -1) - folded) ** 2).sum()
    number = len(values)
    return float(steps / ((values - values.mean()) ** 2).sum() * (number - 1) / (2 * number))


@lru_cache(maxsize=1)
def _profiles() -> Array:
    """(families, 3909) optical depth of each family of lines for a depth of 1 at a line centre."""
    rows = []
    for name, (_, _, width, centres) in _LINES.items():
        x = (WAVELENGTH - np.array(centres)[:, None]) / width
        band = np.where(x > 0, np.exp(-np.clip(x, 0, None)), 0)
        rows.append((band if name == "oxide" else 1 / (1 + x**2)).sum(0))
    return np.stack(rows)


def observe_catalogue(star: Star, rng: np.random.Generator) -> dict[str, float]:
    """Gaia, 2MASS and WISE magnitudes and astrometry by column; units as in `METADATA`."""
    row = {"ruwe": rng.lognormal(0.03, 0.08), "l": rng.uniform(0, 360), "b": star.latitude}
    other_phase = rng.normal(0, 0.1 * min(star.amplitude, 3))
    for name, magnitude in star.magnitudes.items():
        _, smallest, faint, _ = _MAGNITUDES[name]
        error = np.hypot(smallest, 0.1 * 10 ** (0.3 * (magnitude - faint)))
        error = min(error + 0.004 * star.amplitude, 0.5)
        # fainter than a survey reaches, the catalogue gives its limit
        row[name] = min(rng.normal(magnitude + other_phase, error), faint + 1.5)
        row[f"e_{name}"] = error * rng.lognormal(0, 0.1)
    row["mean_vmag"] = rng.normal(star.magnitudes["mean_vmag"], 0.02)
    for colour, blue, red in _COLOURS:
        row[colour] = row[blue] - row[red]
    error = np.hypot(0.015, 0.06 * 10 ** (0.2 * (star.magnitudes["phot_g_mean_mag"] - 17)))
    error *= rng.lognormal(0, 0.15)
    row["parallax"], row["parallax_error"] = rng.normal(1000 / star.distance, error), error
    row["parallax_over_error"] = row["parallax"] / error
    # 1 AU a year is 4.74 km/s
    motion = rng.normal(0, 150 if star.halo else 35, 2) / (4.74 * star.distance / 1000)
    row["pmra"], row["pmdec"] = rng.normal(motion, error)
    row["pmra_error"], row["pmdec_error"] = error * rng.lognormal(0, 0.05, 2)
    row["pm"] = np.hypot(row["pmra"], row["pmdec"])
    return row
