"""Light curves as ASAS-SN would have taken them in V."""

import numpy as np

from domains.astro.simulator.stars import Star
from shared.schema import Array, Channel, Schema

V_ZERO_POINT = 3.636e6
"""Flux density [mJy] of V = 0: Bessell, Castelli & Plez 1998 (A&A 333, 231) table A2."""

PHOTOMETRY = Schema(
    "photometry",
    ("time", "channel"),
    (
        Channel("time", "d"),
        Channel("flux", "mJy"),
        Channel("flux_error", "mJy", (np.finfo(np.float64).tiny, None)),
    ),
)


def observe_light_curve(star: Star, rng: np.random.Generator) -> Array:
    """(n, 3) HJD [d], flux [mJy], flux error [mJy]; 60 to 350 visits in 3 to 5 years.

    The noise follows the depth of ASAS-SN (Kochanek et al. 2017, PASP 129, 104502): about 5 sigma
    at V = 17, and a floor of 1 % for bright stars.
    """
    time = _visits(rng)
    relative = 10 ** (-0.4 * star.variation(time))
    flux = V_ZERO_POINT * 10 ** (-0.4 * star.v) * relative / relative.mean()
    sigma = np.sqrt(0.08**2 + 8e-4 * flux + (0.01 * flux) ** 2)
    sigma *= np.exp(rng.normal(0, 0.25, len(time)))  # moon and weather
    observed = flux + sigma * rng.standard_normal(len(time))
    # blends, clouds and cosmic rays that the error does not know of
    bad = rng.random(len(time)) < 0.007
    observed[bad] *= rng.uniform(0.7, 1.4, int(bad.sum()))
    return np.stack([2_456_700.0 + time, observed, sigma], axis=1)


def _visits(rng: np.random.Generator) -> Array:
    """Days since the start: a visit every 2 to 3 nights, yearly seasons, clouds."""
    years, cadence = rng.uniform(3, 5), rng.uniform(2, 3)
    night = np.floor(np.arange(0, 365.25 * years, cadence))
    season, start = rng.uniform(190, 290), rng.uniform(0, 365.25)
    up = (night + start) % 365.25 < season
    clouds, length = rng.uniform(0, 365.25 * years, 8), rng.uniform(4, 25, 8)
    clear = ~((night[:, None] >= clouds) & (night[:, None] < clouds + length)).any(1)
    taken = up & clear & (rng.random(len(night)) < rng.uniform(0.45, 0.95))
    kept = np.flatnonzero(taken)
    if len(kept) > 350:
        kept = np.sort(rng.choice(kept, 350, replace=False))
    if len(kept) < 60:
        kept = np.sort(rng.choice(np.flatnonzero(up), 60, replace=False))
    return np.asarray(night[kept] + rng.uniform(0, 0.35, len(kept)))
