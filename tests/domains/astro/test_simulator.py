"""The synthetic sky: reproducible, in the promised shape, and physically in order."""

import numpy as np
import pytest

from domains.astro.datasets.simulated import SimulatedVariableStars
from domains.astro.schemas import METADATA, PHOTO_COLUMNS
from domains.astro.simulator import (
    CLASSES,
    KINDS,
    V_ZERO_POINT,
    WAVELENGTH,
    Star,
    draw_class,
    draw_star,
    eclipse,
    lafler_kinman,
    observe_light_curve,
    pulse,
)
from shared.errors import ConfigError


def stars(number: int, seed: int = 0) -> list[Star]:
    rngs = [np.random.default_rng(np.random.SeedSequence([seed, i])) for i in range(number)]
    return [draw_star(CLASSES[draw_class(rng)], rng) for rng in rngs]


SKY = stars(1500)


def of(*names: str) -> list[Star]:
    return [star for star in SKY if star.name in names]


def column(raw: np.ndarray, name: str) -> float:
    return float(raw[METADATA.names.index(name)])


def test_two_hundred_stars_conform_to_their_schemas() -> None:
    dataset = SimulatedVariableStars(200)
    for index in range(200):
        raw = dataset[index]  # holds every modality against its schema
        assert 60 <= len(raw["photometry"]) <= 350
        assert (np.diff(raw["photometry"][:, 0]) > 0).all()
        assert raw["metadata"].shape == (34,)
        if "spectra" in raw:
            np.testing.assert_array_equal(raw["spectra"][:, 0], WAVELENGTH)


def test_wavelengths_are_those_of_lamost() -> None:
    assert WAVELENGTH.shape == (3909,)
    assert WAVELENGTH[0] == pytest.approx(3700, abs=1)
    assert WAVELENGTH[-1] == pytest.approx(9100, abs=2)


def test_a_star_is_the_same_whatever_the_size_of_the_set_and_the_order_of_reading() -> None:
    short, long = SimulatedVariableStars(20, seed=3), SimulatedVariableStars(5000, seed=3)
    np.testing.assert_array_equal(short.labels, long.labels[:20])
    for index in (19, 0, 7):
        first, again = short[index], long[index]
        assert first.keys() == again.keys()
        for modality in first:
            np.testing.assert_array_equal(first[modality], again[modality])


def test_seeds_give_other_stars() -> None:
    one, two = SimulatedVariableStars(50, seed=0), SimulatedVariableStars(50, seed=1)
    assert (one.labels != two.labels).any()
    assert not np.array_equal(one[0]["metadata"], two[0]["metadata"])
    assert one.fingerprint != two.fingerprint


def test_label_is_the_class_that_was_drawn() -> None:
    dataset = SimulatedVariableStars(300)
    assert dataset.classes == CLASSES
    assert [CLASSES[label] for label in dataset.labels] == [star.name for star in SKY[:300]]


def test_frequencies() -> None:
    shares = [kind.share for kind in KINDS.values()]
    assert sum(shares) == pytest.approx(1)
    share = np.bincount(SimulatedVariableStars(5000).labels, minlength=10) / 5000
    np.testing.assert_allclose(share, shares, atol=0.02)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_share_of_spectra(fraction: float) -> None:
    dataset = SimulatedVariableStars(200, spectra_fraction=fraction)
    share = np.mean(["spectra" in dataset.read(i) for i in range(200)])
    assert share == pytest.approx(fraction, abs=0.12 if fraction == 0.5 else 0)


@pytest.mark.parametrize(
    "settings", [{"n_stars": 0}, {"seed": -1}, {"spectra_fraction": 1.5}, {"spectra_fraction": -1}]
)
def test_impossible_settings(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="simulated_variable_stars"):
        SimulatedVariableStars(**settings)


def test_mean_vmag_agrees_with_the_mean_flux() -> None:
    dataset = SimulatedVariableStars(200)
    for index in range(200):
        raw = dataset.read(index)
        v = -2.5 * np.log10(raw["photometry"][:, 1].mean() / V_ZERO_POINT)
        assert v == pytest.approx(column(raw["metadata"], "mean_vmag"), abs=0.12)


def test_hot_stars_are_bluer_in_the_catalogue_and_in_the_spectrum() -> None:
    dataset = SimulatedVariableStars(300, spectra_fraction=1.0)
    raws = [dataset.read(i) for i in range(300)]
    teff = np.array([star.teff for star in SKY[:300]])
    bp_rp = np.array([column(raw["metadata"], "bp_rp") for raw in raws])
    red = WAVELENGTH > 7000
    slope = np.array(
        [raw["spectra"][red, 1].mean() / raw["spectra"][~red, 1].mean() for raw in raws]
    )
    rank = [np.argsort(np.argsort(values)) for values in (teff, bp_rp, slope)]
    assert np.corrcoef(rank[0], rank[1])[0, 1] < -0.85
    assert np.corrcoef(rank[0], rank[2])[0, 1] < -0.75  # dust reddens them as well
    labels = dataset.labels
    medians = [np.median(bp_rp[labels == CLASSES.index(n)]) for n in ("DSCT", "EW", "SR", "M")]
    assert medians == sorted(medians)


def test_luminosity_follows_radius_and_temperature() -> None:
    """The Sun itself has M_V = 4.82; longer periods belong to larger, brighter stars."""

    def absolute(star: Star, column: str, reddening: float) -> float:
        modulus = 5 * np.log10(star.distance / 10)
        return float(star.magnitudes[column] - modulus - reddening * star.extinction)

    rotators = [star for star in of("ROT") if abs(star.teff - 5772) < 150 and star.period < 3]
    assert rotators
    for star in rotators:
        assert 2.8 < absolute(star, "mean_vmag", 1.0) < 6.4  # radii of 0.5 to 2.5 of the Sun's
    for name in ("DSCT", "EW", "M", "SR"):
        k = [absolute(star, "k_mag", 0.08) for star in of(name)]
        log_period = [np.log10(star.period) for star in of(name)]
        assert np.corrcoef(log_period, k)[0, 1] < -0.8, name


def test_period_amplitude_relations() -> None:
    for name, sign in (("RRAB", -1), ("SR", 1)):
        logs = np.log([(star.period, star.amplitude) for star in of(name)])
        assert sign * np.corrcoef(logs.T)[0, 1] > 0.4, name


def test_catalogue_columns_are_consistent() -> None:
    row = SimulatedVariableStars(1).read(0)["metadata"]
    assert column(row, "j_k") == pytest.approx(column(row, "j_mag") - column(row, "k_mag"))
    assert column(row, "bp_rp") == pytest.approx(
        column(row, "phot_bp_mean_mag") - column(row, "phot_rp_mean_mag")
    )
    ratio = column(row, "parallax") / column(row, "parallax_error")
    assert column(row, "parallax_over_error") == pytest.approx(ratio)
    assert column(row, "pm") == pytest.approx(np.hypot(column(row, "pmra"), column(row, "pmdec")))


def test_parallax_is_that_of_the_distance() -> None:
    dataset = SimulatedVariableStars(300)
    pulls = []
    for index, star in enumerate(SKY[:300]):
        row = dataset.read(index)["metadata"]
        pulls.append(
            (column(row, "parallax") - 1000 / star.distance) / column(row, "parallax_error")
        )
    assert np.std(pulls) == pytest.approx(1, abs=0.15)


def test_classes_overlap_in_period_but_not_everywhere() -> None:
    def periods(name: str) -> np.ndarray:
        return np.array([star.period for star in of(name)])

    for first, second in (("EW", "EB"), ("RRC", "EW"), ("SR", "M"), ("HADS", "DSCT")):
        low = max(periods(first).min(), periods(second).min())
        high = min(periods(first).max(), periods(second).max())
        assert low < high, (first, second)
    assert periods("M").min() > periods("RRAB").max()
    assert periods("DSCT").max() < periods("RRAB").min()


def swing(star: Star) -> np.ndarray:
    """One period of the variation, from 0 at its brightest [mag]."""
    change = star.variation(np.linspace(0, star.period, 1000, endpoint=False))
    return np.asarray(change - change.min())


def test_amplitudes_are_those_that_define_the_classes() -> None:
    amplitude = {name: np.median([np.ptp(swing(star)) for star in of(name)]) for name in CLASSES}
    assert amplitude["M"] > 2.5 > amplitude["SR"]
    assert amplitude["HADS"] > 0.3 > amplitude["DSCT"]
    assert amplitude["RRAB"] > amplitude["RRC"] > amplitude["ROT"]


def test_detached_binary_is_flat_with_dips() -> None:
    for star in of("EA"):
        change = swing(star)
        assert np.median(change) < 0.15 * change.max()  # most of the time it is at its brightest
        assert 0 < (change > 0.5 * change.max()).mean() < 0.25
        assert change.max() > 0.05


def test_contact_binary_has_two_equal_minima_and_eb_two_unequal_ones() -> None:
    def unequal(star: Star) -> float:
        change = swing(star)
        return float(1 - change[(int(change.argmax()) + 500) % 1000] / change.max())

    assert np.median([unequal(star) for star in of("EW")]) < 0.2
    assert np.median([unequal(star) for star in of("EB")]) > 0.3


def test_rr_lyrae_rise_faster_than_they_fall() -> None:
    for star in of("RRAB")[:20]:
        change = star.variation(np.linspace(0, star.period, 1000))
        assert (np.diff(change) < 0).mean() < 0.35  # magnitudes fall while the star brightens


def test_noise_is_what_the_errors_say() -> None:
    star = next(s for s in of("ROT") if s.amplitude < 0.05)
    curve = observe_light_curve(star, np.random.default_rng(0))
    relative = 10 ** (-0.4 * star.variation(curve[:, 0] - 2_456_700.0))
    flux = V_ZERO_POINT * 10 ** (-0.4 * star.magnitudes["mean_vmag"]) * relative / relative.mean()
    pull = (curve[:, 1] - flux) / curve[:, 2]
    assert np.median(np.abs(pull)) == pytest.approx(0.6745, abs=0.12)  # of a unit normal


def test_balmer_lines_are_strong_in_hot_stars_and_titanium_oxide_in_cool_ones() -> None:
    dataset = SimulatedVariableStars(300, spectra_fraction=1.0)

    def depth(flux: np.ndarray, low: float, high: float, left: float, right: float) -> float:
        inside = (low < WAVELENGTH) & (high > WAVELENGTH)
        beside = (left < WAVELENGTH) & (right > WAVELENGTH)
        return float(1 - flux[inside].mean() / flux[beside].mean())

    beta, oxide = {}, {}
    for index in range(300):
        flux = dataset.read(index)["spectra"][:, 1]
        beta[index] = depth(flux, 4855, 4868, 4890, 4940)
        oxide[index] = depth(flux, 7060, 7100, 7020, 7045)
    hot = [i for i in beta if SKY[i].teff > 7500]
    sunlike = [i for i in beta if 5000 < SKY[i].teff < 6000]
    cool = [i for i in beta if SKY[i].teff < 3400]
    assert np.median([beta[i] for i in hot]) > np.median([beta[i] for i in sunlike]) + 0.2
    assert np.median([oxide[i] for i in cool]) > 0.25
    assert abs(np.median([oxide[i] for i in sunlike])) < 0.05


def test_pulse_is_its_fourier_series() -> None:
    phase, q = np.linspace(0, 1, 50), 0.6
    k = np.arange(1, 80)
    series = (q**k / k * np.sin(2 * np.pi * phase[:, None] * k)).sum(1)
    np.testing.assert_allclose(pulse(phase, q, 0.0), -series / (2 * np.arcsin(q)), atol=1e-12)
    assert np.ptp(pulse(np.linspace(0, 1, 10_001), q, 0.0)) == pytest.approx(1, abs=1e-5)


def test_eclipse_has_its_minima_where_the_stars_are_in_line() -> None:
    phase = np.array([0.0, 0.25, 0.5, 0.75, 7.0])
    tide = 12 * 0.1**2
    expected = np.array([1 + tide, 0, 0.4 + tide, 0, 1 + tide]) / (1 + tide)
    np.testing.assert_allclose(eclipse(phase, 0.1, 0.4), expected, atol=1e-12)


def test_outliers_are_few_and_there() -> None:
    dataset = SimulatedVariableStars(150, spectra_fraction=0.0)
    far = 0
    rows = 0
    for index, star in enumerate(SKY[:150]):
        curve = dataset.read(index)["photometry"]
        relative = 10 ** (-0.4 * star.variation(curve[:, 0] - 2_456_700.0))
        flux = V_ZERO_POINT * 10 ** (-0.4 * star.magnitudes["mean_vmag"])
        flux = flux * relative / relative.mean()
        far += int((np.abs(curve[:, 1] - flux) > 6 * curve[:, 2]).sum())
        rows += len(curve)
    assert 0.001 < far / rows < 0.01


def test_catalogue_columns_say_what_the_light_curve_shows() -> None:
    plain = SimulatedVariableStars(150, spectra_fraction=0.5)
    dataset = SimulatedVariableStars(150, spectra_fraction=0.5, catalogue_columns=True)
    assert dataset.schemas["photometry"].names[3:] == PHOTO_COLUMNS
    assert plain.content_fingerprint() != dataset.content_fingerprint()
    rows = {name: [] for name in PHOTO_COLUMNS}
    for index in range(150):
        before, raw = plain.read(index), dataset[index]
        columns = raw["photometry"][:, 3:]
        raw["photometry"] = raw["photometry"][:, :3]
        assert before.keys() == raw.keys()
        for modality in raw:
            np.testing.assert_array_equal(before[modality], raw[modality])
        assert (columns == columns[0]).all()
        for name, value in zip(PHOTO_COLUMNS, columns[0], strict=True):
            rows[name].append(value)
    amplitude, period, statistic, score = (np.array(rows[name]) for name in PHOTO_COLUMNS)
    assert np.abs(period / [star.period for star in SKY[:150]] - 1).max() < 0.03
    regular = [i for i, s in enumerate(SKY[:150]) if s.name.startswith("RR") or s.name == "HADS"]
    ratio = amplitude[regular] / [SKY[i].amplitude for i in regular]
    assert np.median(ratio) == pytest.approx(1, abs=0.15)
    assert np.median(statistic[regular]) < 0.1  # regular and bright enough: smooth when folded
    assert ((score > 0) & (score <= 1)).all()
    assert len(np.unique(score)) == 150


def test_lafler_kinman_is_small_at_the_period_and_one_for_noise() -> None:
    rng = np.random.default_rng(0)
    time = rng.uniform(0, 100, 1000)
    wave = np.sin(2 * np.pi * time / 1.7)
    assert lafler_kinman(time / 1.7, wave) < 1e-3
    assert lafler_kinman(time / 1.7, rng.normal(size=1000)) == pytest.approx(1, abs=0.1)
    # 1, 3, 2 in the order of phase: steps 2, 1, 1 and distances 1, 1, 0, times (3 - 1) / 6
    assert lafler_kinman(np.array([5.1, 0.9, 3.5]), np.array([1.0, 2, 3])) == pytest.approx(1.0)
