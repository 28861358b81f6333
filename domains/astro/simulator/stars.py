"""The latent star: what all three modalities of one synthetic star have in common."""

from dataclasses import dataclass

import numpy as np

from domains.astro.simulator.variability import Variation, draw_variation
from shared.schema import Array

FREQUENCIES = {
    "DSCT": 0.07,
    "EA": 0.12,
    "EB": 0.09,
    "EW": 0.18,
    "HADS": 0.06,
    "M": 0.07,
    "ROT": 0.09,
    "RRAB": 0.11,
    "RRC": 0.07,
    "SR": 0.14,
}
"""Classes of AstroM3 (arXiv:2411.08842 table 1), in that order of frequency, but less unequal."""

CLASSES = tuple(sorted(FREQUENCIES))

# class → shortest and longest period [d] and the two shape numbers of a beta distribution of log P.
# Ranges after Percy 2007 (Understanding Variable Stars) and Catelan & Smith 2015 (Pulsating Stars);
# they overlap on purpose where the classes do in the sky.
_PERIODS = {
    "DSCT": (0.03, 0.25, 2.0, 2.0),
    "EA": (0.4, 40.0, 1.5, 2.5),
    "EB": (0.28, 5.0, 1.5, 3.0),
    "EW": (0.21, 1.0, 2.0, 3.5),
    "HADS": (0.045, 0.25, 2.0, 2.0),
    "M": (100.0, 600.0, 4.0, 2.5),
    "ROT": (0.3, 60.0, 1.5, 1.5),
    "RRAB": (0.40, 0.95, 2.5, 3.0),
    "RRC": (0.22, 0.45, 3.0, 2.0),
    "SR": (15.0, 500.0, 2.0, 2.0),
}

# Dwarfs: Teff [K], M_V [mag], B-V [mag]; Pecaut & Mamajek 2013 (ApJS 208, 9), rounded.
_DWARFS = np.array(
    [
        [3850, 4440, 5270, 5660, 5930, 6550, 7220, 8080, 9700, 12500],
        [8.8, 7.3, 5.8, 5.0, 4.4, 3.4, 2.5, 1.9, 1.1, -0.2],
        [1.43, 1.13, 0.82, 0.68, 0.60, 0.44, 0.29, 0.16, 0.00, -0.10],
    ]
)

# Teff [K] and V-K [mag]: giants below 4500 K after Bessell & Brett 1988 (PASP 100, 1134), dwarfs
# above after Pecaut & Mamajek 2013; rounded, and continued to the coolest Miras.
V_MINUS_K = np.array(
    [
        [2500, 2800, 3000, 3250, 3400, 3600, 3850, 4400, 4900, 5300, 5700, 6500, 7200, 8200, 9700],
        [10.0, 8.8, 7.8, 6.8, 5.9, 4.7, 3.8, 2.8, 2.25, 1.9, 1.6, 1.1, 0.73, 0.38, 0.0],
    ]
)


@dataclass(frozen=True)
class Star:
    """One synthetic star; magnitudes are means of the flux, not of the magnitude.

    Attributes:
        name: Class.
        period: Of the light curve [d].
        teff: Effective temperature [K].
        metallicity: [Fe/H] [dex].
        halo: Whether its kinematics are those of the halo.
        giant: Whether it is a red giant.
        dust: Circumstellar dust, 0 (none) to about 1.
        absolute_v: M_V without extinction [mag].
        v: Apparent V with extinction [mag].
        extinction: A_V [mag].
        distance: [pc].
        longitude: Galactic [deg].
        latitude: Galactic [deg].
        velocity: Radial velocity [km/s].
        variation: Δ magnitude as a function of days.
        amplitude: Peak to peak in V [mag].
    """

    name: str
    period: float
    teff: float
    metallicity: float
    halo: bool
    giant: bool
    dust: float
    absolute_v: float
    v: float
    extinction: float
    distance: float
    longitude: float
    latitude: float
    velocity: float
    variation: Variation
    amplitude: float


def draw_class(rng: np.random.Generator) -> int:
    """Index into `CLASSES`; always the first draw of a star."""
    edges = np.cumsum([FREQUENCIES[name] for name in CLASSES])
    return min(int(np.searchsorted(edges, rng.random(), side="right")), len(CLASSES) - 1)


def draw_star(name: str, rng: np.random.Generator) -> Star:
    """A star of a class."""
    shortest, longest, a, b = _PERIODS[name]
    period = float(shortest * (longest / shortest) ** rng.beta(a, b))
    halo = name in ("RRAB", "RRC") and rng.random() < 0.9
    metallicity = rng.normal(-1.5, 0.35) if halo else rng.normal(-0.15, 0.2)
    giant = name in ("M", "SR") or (name == "ROT" and rng.random() < 0.35)
    teff = _temperature(name, period, giant, rng)
    absolute_v = _absolute_magnitude(name, period, teff, metallicity, giant, rng)
    variation = draw_variation(name, period, rng)
    amplitude = float(np.ptp(variation(np.linspace(0.0, period, 257))))
    dust = 0.0
    if name in ("M", "SR"):
        # mass loss grows with the period of the pulsation (Whitelock et al. 2006, MNRAS 369, 751)
        dust = float(np.clip((period - 100) / 400, 0, 1) * rng.uniform(0.3, 1.0))
        dust *= 1.0 if name == "M" else 0.4
    sin_b = rng.uniform(-1, 1) if halo else np.sin(np.clip(rng.laplace(0, 0.25), -1.5, 1.5))
    distance, extinction, apparent = _line_of_sight(absolute_v, abs(sin_b))
    # a survey finds a small variation only in a bright star, and none outside the Galaxy
    limit = 14.0 + 2.5 * np.log10(max(amplitude, 0.03) / 0.05)
    faintest = min(16.2, limit, apparent[-1])
    v = 10.8 + (faintest - 10.8) * rng.beta(2.2, 1.4)
    return Star(
        name=name,
        period=period,
        teff=teff,
        metallicity=float(metallicity),
        halo=halo,
        giant=giant,
        dust=dust,
        absolute_v=absolute_v,
        v=float(v),
        extinction=float(np.interp(v, apparent, extinction)),
        distance=float(np.interp(v, apparent, distance)),
        longitude=float(rng.uniform(0, 360)),
        latitude=float(np.degrees(np.arcsin(sin_b))),
        velocity=float(rng.normal(0, 120 if halo else 30)),
        variation=variation,
        amplitude=amplitude,
    )


def _temperature(name: str, period: float, giant: bool, rng: np.random.Generator) -> float:
    """Teff [K] by class and period."""
    if name == "EW":  # period-colour relation, Eggen 1967 (MmRAS 70, 111)
        mean, scatter = 5750 + 5000 * np.log10(period / 0.35), 250.0
    elif name in ("EA", "EB"):
        return float(np.clip(10 ** rng.normal(3.84, 0.07), 4500, 12000))
    elif name == "ROT":
        mean, scatter = (4800.0, 150.0) if giant else (5200.0, 500.0)
    elif name == "RRAB":  # redder towards longer periods inside the instability strip
        mean, scatter = 6550 - 2000 * (period - 0.55), 120.0
    elif name == "SR":
        mean, scatter = 3650 - 300 * np.log10(period / 80), 150.0
    elif name == "M":
        mean, scatter = 3050 - 700 * np.log10(period / 270), 150.0
    else:
        mean, scatter = {"RRC": (7050.0, 150.0), "HADS": (7350.0, 300.0), "DSCT": (7600.0, 350.0)}[
            name
        ]
    return float(np.clip(rng.normal(mean, scatter), 2500, 12000))


def _absolute_magnitude(
    name: str, period: float, teff: float, metallicity: float, giant: bool, rng: np.random.Generator
) -> float:
    """M_V [mag] from the relation of each class, with scatter."""
    log_period = np.log10(period)
    dwarf, b_v = (float(np.interp(teff, _DWARFS[0], row)) for row in _DWARFS[1:])
    if name in ("DSCT", "HADS"):  # McNamara 2011 (AJ 142, 110)
        mean, scatter = -2.89 * log_period - 1.31, 0.25
    elif name in ("RRAB", "RRC"):  # Chaboyer 1999 (Post-Hipparcos Cosmic Candles, 111)
        mean, scatter = 0.23 * (metallicity + 1.6) + 0.56, 0.1
    elif name == "EW":  # Rucinski & Duerbeck 1997 (PASP 109, 1340)
        mean, scatter = -4.44 * log_period + 3.02 * b_v + 0.12, 0.25
    elif name in ("M", "SR"):  # Whitelock, Feast & van Leeuwen 2008 (MNRAS 386, 313), oxygen-rich;
        # semi-regulars lie on a brighter parallel sequence (Wood 2000, PASA 17, 18)
        zero = -7.25 if name == "M" else -7.9
        mean = -3.51 * (log_period - 2.38) + zero + float(np.interp(teff, *V_MINUS_K))
        scatter = 0.3
    elif giant:
        mean, scatter = 1.8, 0.7
    else:  # a companion and some evolution put these stars above the zero-age main sequence
        mean, scatter = dwarf - rng.uniform(0, 1.0), 0.2
    return float(rng.normal(mean, scatter))


def _line_of_sight(absolute_v: float, sin_b: float) -> tuple[Array, Array, Array]:
    """Distance [pc], A_V [mag] and apparent V [mag] from 10 pc to 15 kpc, through an exponential
    dust layer (0.8 mag/kpc in the plane, scale height 125 pc; after Parenago 1940)."""
    distance: Array = np.logspace(1.0, np.log10(15_000), 600)
    path = 125.0 / max(sin_b, 1e-3)
    extinction = 0.8e-3 * path * (1 - np.exp(-distance / path))
    return distance, extinction, absolute_v + 5 * np.log10(distance / 10) + extinction
