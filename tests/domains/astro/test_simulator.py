"""The synthetic sky: reproducible, in the promised shape, and physically in order."""

import numpy as np
import pytest

from domains.astro.datasets.simulated import SimulatedVariableStars
from domains.astro.simulator.catalogue import METADATA
from domains.astro.simulator.photometry import V_ZERO_POINT, observe_light_curve
from domains.astro.simulator.spectroscopy import WAVELENGTH
from domains.astro.simulator.stars import CLASSES, FREQUENCIES, Star, draw_class, draw_star
from domains.astro.simulator.variability import overlap, roche_lobe, sawtooth
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
    assert sum(FREQUENCIES.values()) == pytest.approx(1)
    assert min(FREQUENCIES.values()) >= 0.04
    share = np.bincount(SimulatedVariableStars(5000).labels, minlength=10) / 5000
    np.testing.assert_allclose(share, [FREQUENCIES[name] for name in CLASSES], atol=0.02)


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


def test_period_luminosity_relation_of_miras() -> None:
    """Whitelock, Feast & van Leeuwen 2008: M_K = -3.51 (log P - 2.38) - 7.25."""
    dataset = SimulatedVariableStars(1500)
    residual = []
    for index in [i for i, star in enumerate(SKY) if star.name == "M"]:
        star, row = SKY[index], dataset.read(index)["metadata"]
        absolute = column(row, "k_mag") - 5 * np.log10(star.distance / 10) - 0.078 * star.extinction
        residual.append(absolute - (-3.51 * (np.log10(star.period) - 2.38) - 7.25))
    assert np.median(residual) == pytest.approx(0, abs=0.2)


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


def test_amplitudes_are_those_that_define_the_classes() -> None:
    amplitude = {name: np.median([star.amplitude for star in of(name)]) for name in CLASSES}
    assert amplitude["M"] > 2.5 > amplitude["SR"]
    assert amplitude["HADS"] > 0.3 > amplitude["DSCT"]
    assert amplitude["RRAB"] > amplitude["RRC"] > amplitude["ROT"]


def test_folded_detached_binary_is_flat_with_a_dip() -> None:
    for star in of("EA")[:20]:
        change = star.variation(np.linspace(0, star.period, 1000, endpoint=False))
        assert np.median(change) - change.min() < 0.1  # most of the time it is at its brightest
        dip = change > change.min() + 0.5 * np.ptp(change)
        assert 0 < dip.mean() < 0.25
        assert np.ptp(change) > 0.05


def test_contact_binary_has_two_equal_minima_and_eb_two_unequal_ones() -> None:
    def unequal(star: Star) -> float:
        change = star.variation(np.linspace(0, star.period, 1000, endpoint=False))
        deepest = int(change.argmax())
        opposite = change[(deepest + 500 + np.arange(-50, 50)) % 1000].max()
        return float(1 - opposite / change.max())

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
    flux = V_ZERO_POINT * 10 ** (-0.4 * star.v) * relative / relative.mean()
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


def test_sawtooth_is_its_fourier_series() -> None:
    phase, q = np.linspace(0, 1, 50), 0.6
    k = np.arange(1, 80)
    series = (q**k / k * np.sin(2 * np.pi * phase[:, None] * k)).sum(1)
    np.testing.assert_allclose(sawtooth(phase, q), series / (2 * np.arcsin(q)), atol=1e-12)


def test_overlap_of_discs() -> None:
    separation = np.array([0.0, 0.3, 0.69999, 0.71, 2.0])
    area = overlap(separation, 0.5, 0.2)
    np.testing.assert_allclose(area[:2], np.pi * 0.2**2, rtol=1e-4)  # the small one is inside
    assert area[2] < 1e-4
    np.testing.assert_allclose(area[3:], 0, atol=1e-8)
    # two unit discs at distance 1: 2π/3 - √3/2
    np.testing.assert_allclose(
        overlap(np.array([1.0]), 1, 1), 2 * np.pi / 3 - np.sqrt(3) / 2, rtol=1e-12
    )


def test_roche_lobe_of_equal_masses() -> None:
    assert roche_lobe(1.0) == pytest.approx(0.379, abs=1e-3)  # Eggleton 1983, table 1
