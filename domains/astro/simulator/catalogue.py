"""Catalogue rows: Gaia EDR3, 2MASS and WISE columns and the mean V, as AstroM3 joins them."""

import numpy as np

from domains.astro.simulator.stars import V_MINUS_K, Star
from shared.schema import Array, Channel, Schema


def _error(name: str, unit: str) -> Channel:
    return Channel(name, unit, (0.0, None))


METADATA = Schema(
    "metadata",
    ("channel",),
    (
        Channel("mean_vmag", "mag"),
        Channel("phot_g_mean_mag", "mag"),
        _error("e_phot_g_mean_mag", "mag"),
        Channel("phot_bp_mean_mag", "mag"),
        _error("e_phot_bp_mean_mag", "mag"),
        Channel("phot_rp_mean_mag", "mag"),
        _error("e_phot_rp_mean_mag", "mag"),
        Channel("bp_rp", "mag"),
        Channel("parallax", "mas"),
        _error("parallax_error", "mas"),
        Channel("parallax_over_error"),
        Channel("pmra", "mas/yr"),
        _error("pmra_error", "mas/yr"),
        Channel("pmdec", "mas/yr"),
        _error("pmdec_error", "mas/yr"),
        Channel("j_mag", "mag"),
        _error("e_j_mag", "mag"),
        Channel("h_mag", "mag"),
        _error("e_h_mag", "mag"),
        Channel("k_mag", "mag"),
        _error("e_k_mag", "mag"),
        Channel("w1_mag", "mag"),
        _error("e_w1_mag", "mag"),
        Channel("w2_mag", "mag"),
        _error("e_w2_mag", "mag"),
        Channel("w3_mag", "mag"),
        Channel("w4_mag", "mag"),
        Channel("j_k", "mag"),
        Channel("w1_w2", "mag"),
        Channel("w3_w4", "mag"),
        _error("pm", "mas/yr"),
        _error("ruwe", ""),
        Channel("l", "deg", (0.0, 360.0)),
        Channel("b", "deg", (-90.0, 90.0)),
    ),
)
"""The 34 `meta_cols` of AstroM3 (arXiv:2411.08842 §2.3) in its order; no period, no amplitude."""

# Teff [K] → G-V, G-RP, BP-RP, J-K, H-K, W1-W2 [mag]; Pecaut & Mamajek 2013 (ApJS 208, 9) and, below
# 4000 K, giants of Bessell & Brett 1988 (PASP 100, 1134); rounded.
_TEFF = (2500, 2800, 3000, 3400, 3850, 4400, 4900, 5300, 5700, 6000, 6500, 7200, 8200, 9700)
_COLOURS = {
    "g_v": (
        -4.2,
        -3.6,
        -3.0,
        -1.9,
        -0.85,
        -0.45,
        -0.30,
        -0.20,
        -0.15,
        -0.12,
        -0.08,
        -0.04,
        -0.01,
        0,
    ),
    "g_rp": (1.65, 1.55, 1.5, 1.3, 0.93, 0.73, 0.64, 0.57, 0.50, 0.46, 0.37, 0.26, 0.14, 0),
    "bp_rp": (5.6, 5.0, 4.4, 3.0, 1.85, 1.38, 1.15, 0.98, 0.84, 0.75, 0.58, 0.40, 0.20, 0),
    "j_k": (1.40, 1.34, 1.30, 1.22, 0.98, 0.76, 0.62, 0.52, 0.42, 0.36, 0.27, 0.16, 0.08, 0),
    "h_k": (0.45, 0.38, 0.34, 0.29, 0.20, 0.14, 0.11, 0.09, 0.08, 0.07, 0.05, 0.03, 0.01, 0),
    "w1_w2": (0.15, 0.05, 0.0, -0.05, -0.09, -0.08, -0.06, -0.05, -0.04, -0.04, -0.03, -0.02, 0, 0),
}
# A_X / A_V: Wang & Chen 2019 (ApJ 877, 116) table 3; W4, not given there, as W3
_EXTINCTION = {
    "g": 0.789, "bp": 1.002, "rp": 0.589, "j": 0.243, "h": 0.131, "k": 0.078, "w1": 0.039,
    "w2": 0.026, "w3": 0.040, "w4": 0.040,
}  # fmt: skip


def observe_catalogue(star: Star, rng: np.random.Generator) -> Array:
    """(34,) one value a channel of `METADATA`."""
    true = magnitudes(star)
    row: dict[str, float] = {"mean_vmag": rng.normal(star.v, 0.02)}
    # the surveys saw the star at other phases; the swing is smaller in the infrared
    swing = 0.15 * min(star.amplitude, 3.0)
    for band in ("g", "bp", "rp"):
        error = 0.001 + 0.004 * star.amplitude + 0.002 * 10 ** (0.2 * (true[band] - 16))
        row[f"phot_{band}_mean_mag"] = rng.normal(true[band], error + 0.1 * swing)
        row[f"e_phot_{band}_mean_mag"] = error * np.exp(rng.normal(0, 0.1))
    offset_2mass, offset_wise = rng.normal(0, swing, 2)
    for band in ("j", "h", "k"):
        error = np.hypot(0.02, 0.02 * 10 ** (0.3 * (true[band] - 13.5)))
        row[f"{band}_mag"] = rng.normal(true[band] + offset_2mass, error)
        row[f"e_{band}_mag"] = error * np.exp(rng.normal(0, 0.1))
    for band, faint in (("w1", 15.0), ("w2", 14.0), ("w3", 10.5), ("w4", 7.5)):
        error = np.hypot(0.023, 0.1 * 10 ** (0.35 * (true[band] - faint)))
        # fainter than the survey reaches, the catalogue gives its limit
        limit = faint + 1.5
        row[f"{band}_mag"] = min(rng.normal(true[band] + 0.6 * offset_wise, min(error, 0.5)), limit)
        row[f"e_{band}_mag"] = min(error, 0.5) * np.exp(rng.normal(0, 0.1))
    row |= _astrometry(star, true["g"], rng)
    row["bp_rp"] = row["phot_bp_mean_mag"] - row["phot_rp_mean_mag"]
    row["j_k"] = row["j_mag"] - row["k_mag"]
    row["w1_w2"] = row["w1_mag"] - row["w2_mag"]
    row["w3_w4"] = row["w3_mag"] - row["w4_mag"]
    return np.array([row[name] for name in METADATA.names], dtype=np.float64)


def magnitudes(star: Star) -> dict[str, float]:
    """Apparent magnitude by band, without noise, from temperature, dust and extinction [mag]."""
    colour = {name: float(np.interp(star.teff, _TEFF, row)) for name, row in _COLOURS.items()}
    v = star.v - star.extinction
    g, k = v + colour["g_v"], v - float(np.interp(star.teff, *V_MINUS_K))
    rp = g - colour["g_rp"]
    w1 = k - 0.05 - 0.5 * star.dust
    w2 = w1 - colour["w1_w2"] - 0.3 * star.dust
    w3 = w2 - 0.02 - 1.5 * star.dust
    bare = {
        "g": g,
        "bp": rp + colour["bp_rp"],
        "rp": rp,
        "j": k + colour["j_k"] + 0.5 * star.dust,
        "h": k + colour["h_k"] + 0.2 * star.dust,
        "k": k,
        "w1": w1,
        "w2": w2,
        "w3": w3,
        "w4": w3 - 0.05 - 0.9 * star.dust,
    }
    return {
        band: value + star.extinction * _EXTINCTION.get(band, 0.0) for band, value in bare.items()
    }


def _astrometry(star: Star, g: float, rng: np.random.Generator) -> dict[str, float]:
    """Parallax, proper motion and position; errors after Lindegren et al. 2021 (A&A 649, A2)."""
    error = np.hypot(0.015, 0.06 * 10 ** (0.2 * (g - 17))) * np.exp(rng.normal(0, 0.15))
    error *= 3.0 if star.name == "M" else 1.0  # their photocentre wanders
    parallax = rng.normal(1000 / star.distance, error)
    spread = 150.0 if star.halo else 35.0  # km/s on each axis
    motion = rng.normal(0, spread, 2) / (4.74 * star.distance / 1000)
    pmra, pmdec = rng.normal(motion, error)
    companion = star.name in ("EA", "EB", "EW")
    return {
        "parallax": parallax,
        "parallax_error": error,
        "parallax_over_error": parallax / error,
        "pmra": pmra,
        "pmra_error": error * np.exp(rng.normal(0, 0.05)),
        "pmdec": pmdec,
        "pmdec_error": error * np.exp(rng.normal(0, 0.05)),
        "pm": float(np.hypot(pmra, pmdec)),
        "ruwe": float(np.exp(rng.normal(0.08 if companion else 0.02, 0.08))),
        "l": star.longitude,
        "b": star.latitude,
    }
