"""How the ten classes vary: Δ magnitude in V as a function of time."""

from collections.abc import Callable

import numpy as np

from shared.schema import Array

Variation = Callable[[Array], Array]
"""Days since the start of the survey (n,) → Δ magnitude (n,)."""

_TURN = 2 * np.pi


def draw_variation(name: str, period: float, rng: np.random.Generator) -> Variation:
    """The variation of one star of a class.

    Args:
        name: Class.
        period: [d].
        rng: Source of every parameter that is not the period.
    """
    if name in ("EA", "EB", "EW"):
        return _binary(name, period, rng)
    if name == "ROT":
        return _spots(period, rng)
    if name in ("M", "SR"):
        return _red_giant(name, period, rng)
    return _pulsation(name, period, rng)


def sawtooth(phase: Array, steepness: float) -> Array:
    """Brightness of a pulsation: fast rise around phase 0, slow decline; peak to peak 1.

    arctan2(q sin x, 1 - q cos x) = Σ_k q^k sin(kx)/k is a sawtooth whose Fourier amplitude ratios
    R_k1 = q^(k-1)/k fall as those of RR Lyrae stars do (Simon & Lee 1981, ApJ 248, 291); q → 0 is
    a sine wave.
    """
    x = _TURN * phase
    wave = np.arctan2(steepness * np.sin(x), 1 - steepness * np.cos(x))
    return np.asarray(wave / (2 * np.arcsin(steepness)))


def _pulsation(name: str, period: float, rng: np.random.Generator) -> Variation:
    if name == "RRAB":  # amplitude falls with period: the Bailey diagram (Smith 1995, ch. 1)
        amplitude = np.clip(1.0 - 3.5 * (period - 0.55) + rng.normal(0, 0.12), 0.25, 1.5)
        steepness = np.clip(0.62 + 0.22 * amplitude + rng.normal(0, 0.03), 0.5, 0.92)
    elif name == "RRC":
        amplitude, steepness = np.clip(rng.normal(0.45, 0.08), 0.2, 0.65), rng.uniform(0.1, 0.35)
    elif name == "HADS":  # high amplitude by definition; the limit is not sharp
        amplitude, steepness = rng.uniform(0.22, 0.8), rng.uniform(0.35, 0.65)
    else:
        amplitude, steepness = np.exp(rng.uniform(np.log(0.04), np.log(0.3))), rng.uniform(0.1, 0.4)
    start = rng.random()
    # Blazhko effect in a third of the RRab; many modes in most delta Scuti stars
    modulation = rng.uniform(0.1, 0.35) if name == "RRAB" and rng.random() < 0.33 else 0.0
    modulation_period, modulation_phase = rng.uniform(20, 120), rng.random()
    second = rng.uniform(0.2, 0.6) if name == "DSCT" else 0.0
    second_period, second_phase = period * rng.uniform(0.7, 0.82), rng.random()

    def variation(time: Array) -> Array:
        swing = 1 + modulation * np.sin(_TURN * (time / modulation_period + modulation_phase))
        main = swing * sawtooth(time / period + start, steepness)
        other = 0.5 * second * np.sin(_TURN * (time / second_period + second_phase))
        return np.asarray(-amplitude * (main + other))

    return variation


def _red_giant(name: str, period: float, rng: np.random.Generator) -> Variation:
    """Miras: more than 2.5 mag in V, changing from cycle to cycle; semi-regulars: less, with a
    second period and an irregular part (General Catalogue of Variable Stars, types M and SR)."""
    mira = name == "M"
    # both sides of the 2.5 mag limit are reached: surveys confuse the two there
    amplitude = rng.uniform(2.3, 5.5) if mira else np.exp(rng.uniform(np.log(0.15), np.log(2.4)))
    steepness = rng.uniform(0.2, 0.5) if mira else rng.uniform(0.05, 0.3)
    irregular = rng.uniform(0.03, 0.12) if mira else rng.uniform(0.2, 0.5)
    wander = 0.03 if mira else 0.12
    start, second_phase = rng.random(2)
    second_period = period * (rng.uniform(0.45, 0.6) if rng.random() < 0.7 else rng.uniform(7, 11))
    second = 0.0 if mira else rng.uniform(0.1, 0.5)
    slow = period * rng.uniform(1.3, 6.0, 4)
    weights, phases = rng.normal(0, 0.5, 4), rng.random(4)

    def variation(time: Array) -> Array:
        noise = np.sin(_TURN * (time[:, None] / slow + phases)) @ weights
        main = sawtooth(time / period + start + wander * noise, steepness)
        other = 0.5 * second * np.sin(_TURN * (time / second_period + second_phase))
        return np.asarray(-amplitude * (main * (1 + irregular * noise) + other + irregular * noise))

    return variation


def _spots(period: float, rng: np.random.Generator) -> Variation:
    """Two spots that the rotation carries across the disc and that grow and decay over years."""
    depth = np.exp(rng.uniform(np.log(0.03), np.log(0.25))) * np.array([1.0, rng.uniform(0, 0.8)])
    longitude = rng.random(2)
    cycle, cycle_phase = rng.uniform(400, 3000, 2), rng.random(2)

    def variation(time: Array) -> Array:
        turn = time[:, None] / period + longitude
        size = 1 + 0.4 * np.sin(_TURN * (time[:, None] / cycle + cycle_phase))
        return np.asarray((np.clip(np.cos(_TURN * turn), 0, None) * size) @ depth)

    return variation


def roche_lobe(mass_ratio: float) -> float:
    """Radius of a Roche lobe over the separation, Eggleton 1983 (ApJ 268, 368) eq. 2."""
    third = mass_ratio ** (1 / 3)
    return float(0.49 * third**2 / (0.6 * third**2 + np.log1p(third)))


def _binary(name: str, period: float, rng: np.random.Generator) -> Variation:
    """Two uniform spheres in a circular orbit with ellipsoidal variation.

    Detached (EA), one lobe filled (EB) or in contact (EW). Contact stars share one envelope, hence
    one temperature and equal minima.
    """
    mass_ratio = rng.uniform(0.2, 1.0) if name == "EW" else rng.uniform(0.3, 1.0)
    if name == "EA":
        fill, ratio = rng.uniform(0.25, 0.7, 2), rng.uniform(0.55, 1.0)
    elif name == "EB":
        fill, ratio = np.array([rng.uniform(0.75, 0.98), 1.0]), rng.uniform(0.55, 0.93)
    else:
        fill, ratio = np.ones(2), rng.uniform(0.93, 1.0)
    radius = fill * np.array([roche_lobe(1 / mass_ratio), roche_lobe(mass_ratio)])
    # grazing geometries show too little to be found
    cos_i = rng.uniform(0, 0.75 * radius.sum())
    # surface brightness in V falls faster than T^4 in the Wien tail; 5 is a compromise
    light = radius**2 * np.array([1.0, ratio**5])
    light /= light.sum()
    # Morris & Naftilan 1993 (ApJ 419, 344): about 1.3 q r^3 sin^2 i for each star
    tide = 1.3 * light @ (np.array([mass_ratio, 1 / mass_ratio]) * radius**3) * (1 - cos_i**2)
    start = rng.random()

    def variation(time: Array) -> Array:
        angle = _TURN * (time / period + start)
        separation = np.sqrt(np.sin(angle) ** 2 + (cos_i * np.cos(angle)) ** 2)
        covered = overlap(separation, radius[0], radius[1]) / np.pi
        behind = np.where(np.cos(angle) > 0, light[0] / radius[0] ** 2, light[1] / radius[1] ** 2)
        flux = 1 - covered * behind - tide * np.cos(2 * angle)
        return np.asarray(-2.5 * np.log10(np.clip(flux, 0.02, None)))

    return variation


def overlap(separation: Array, first: float, second: float) -> Array:
    """Area common to two circles of given radii at given distances of their centres."""
    d = np.clip(separation, abs(first - second) + 1e-9, first + second)
    cos_1 = np.clip((d**2 + first**2 - second**2) / (2 * d * first), -1, 1)
    cos_2 = np.clip((d**2 + second**2 - first**2) / (2 * d * second), -1, 1)
    kite = (second + first - d) * (d + first - second) * (d - first + second) * (d + first + second)
    return np.asarray(
        first**2 * np.arccos(cos_1)
        + second**2 * np.arccos(cos_2)
        - 0.5 * np.sqrt(np.clip(kite, 0, None))
    )
