"""The spectrum transformer and how hidden parts of light curves and spectra reach encoders."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from domains.astro.encoders.light_curve_transformer import LightCurveTransformer
from domains.astro.encoders.spectrum_transformer import SpectrumTransformer
from domains.astro.preprocess.light_curve import AstroM3LightCurve, LightCurve
from domains.astro.preprocess.processed import ProcessedLightCurve, ProcessedSpectrum
from domains.astro.preprocess.spectrum import Spectrum
from domains.astro.schemas import PHOTOMETRY, PROCESSED_PHOTOMETRY, PROCESSED_SPECTRA, SPECTRA
from shared.errors import ConfigError
from shared.preprocess import SeriesPreprocessor
from shared.schema import Channel, Schema

SIZES = {"dim": 8, "depth": 1, "num_heads": 2}


def make(**settings: object) -> SpectrumTransformer:
    torch.manual_seed(0)
    return SpectrumTransformer(3, 10, **{"patch_size": 4, **SIZES, **settings}).eval()  # type: ignore[arg-type]


def raw_curve(seed: int = 0, rows: int = 9) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.random(rows) * 9, rng.normal(5, 1, rows), 0.1 + rng.random(rows)], axis=1)


def raw_spectrum(seed: int = 0, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    inverse_variance = np.where(np.arange(11) < 3, 0.0, 1 + rng.random(11))
    flux = scale * rng.normal(5, 1, 11)
    return np.stack([np.arange(100.0, 111), flux, inverse_variance / scale**2], axis=1)


def test_tokens_are_patches() -> None:
    encoder = make()
    embedding = encoder({"values": torch.randn(2, 3, 10)})
    assert embedding.pooled.shape == (2, 8)
    assert embedding.tokens is not None
    assert embedding.mask is not None
    assert embedding.tokens.shape == (2, 3, 8)
    assert embedding.mask.all()
    torch.testing.assert_close(embedding.pooled, embedding.tokens.mean(1))
    assert encoder({"values": torch.randn(0, 3, 10)}).pooled.shape == (0, 8)


def test_the_place_of_a_patch_matters() -> None:
    encoder, values = make(), torch.randn(1, 3, 10)
    swapped = values[:, :, [4, 5, 6, 7, 0, 1, 2, 3, 8, 9]]
    one, other = (encoder({"values": v}).pooled for v in (values, swapped))
    assert not torch.allclose(one, other, atol=1e-4)


def test_the_mask_token_stands_for_whole_patches() -> None:
    encoder, values = make(mask_token=True), torch.randn(1, 3, 10)
    torch.nn.init.normal_(encoder.get_parameter("mask_token"))
    plain = encoder({"values": values}).pooled
    nothing = torch.zeros(1, 10, dtype=torch.bool)
    torch.testing.assert_close(encoder({"values": values, "hidden": nothing}).pooled, plain)
    hidden = nothing.clone()
    hidden[:, 8:] = True  # the last patch of a spectrum that ends within it
    masked = encoder({"values": values, "hidden": hidden}).pooled
    assert not torch.allclose(masked, plain, atol=1e-4)
    changed = values.clone()
    changed[:, :, 8:] = 7.0
    torch.testing.assert_close(encoder({"values": changed, "hidden": hidden}).pooled, masked)
    part = nothing.clone()
    part[:, 8] = True
    torch.testing.assert_close(encoder({"values": values, "hidden": part}).pooled, plain)


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match="patch_size=11 has to be from 1 to the 10 points"):
        make(patch_size=11)
    with pytest.raises(ConfigError, match="dim=7"):
        make(dim=7)
    with pytest.raises(ConfigError, match="num_heads=3"):
        make(num_heads=3)


def test_a_hidden_observation_is_seen_by_its_time_alone() -> None:
    torch.manual_seed(0)
    encoder = LightCurveTransformer(2, 3, mask_token=True, **SIZES).eval()  # type: ignore[arg-type]
    prepare = LightCurve(PHOTOMETRY)
    inputs = prepare.collate([prepare(raw_curve())])
    hidden = torch.zeros_like(inputs["mask"])
    hidden[:, 2:5] = True
    masked = encoder({**inputs, "hidden": hidden})
    torch.testing.assert_close(encoder(prepare.hide(inputs, hidden)).tokens, masked.tokens)
    later = {**inputs, "hidden": hidden, "time": inputs["time"] + 3.0 * hidden}
    assert not torch.allclose(encoder(later).pooled, masked.pooled, atol=1e-5)


def test_light_curve_transformer_takes_no_rows() -> None:
    prepare = LightCurve(PHOTOMETRY)
    encoder = LightCurveTransformer(2, 3, mask_token=True, **SIZES)  # type: ignore[arg-type]
    empty = {k: t[:0] for k, t in prepare.collate([prepare(raw_curve())]).items()}
    embedding = encoder(empty)
    assert embedding.tokens is not None
    assert embedding.tokens.shape == (0, 10, 8)
    embedding.pooled.sum().backward()
    assert not any(p.grad is None or p.grad.any() for p in encoder.parameters())


def collated(preprocessor: SeriesPreprocessor, *raws: np.ndarray) -> dict[str, Tensor]:
    return preprocessor.collate([preprocessor(raw) for raw in raws])


def check_hiding(
    preprocessor: SeriesPreprocessor, inputs: Mapping[str, Tensor], axis: int, untouched: list[int]
) -> None:
    """At hidden positions values and errors are 0, and all else is as it was."""
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    series = preprocessor.series(inputs)
    hidden = torch.zeros_like(series.present)
    hidden[:, 1:4] = True
    found = preprocessor.hide(inputs, hidden)
    for name in before:
        torch.testing.assert_close(inputs[name], before[name])
    assert found.keys() == {*before, "hidden"}
    channels = found["values"].movedim(axis, -1)
    expected = before["values"].movedim(axis, -1)
    for channel in range(channels.shape[-1]):
        kept = expected[..., channel]
        if channel not in untouched:
            kept = torch.where(hidden, 0.0, kept)
        torch.testing.assert_close(channels[..., channel], kept)
    assert not preprocessor.series(found).values[hidden].any()


def test_light_curves_as_series() -> None:
    raws = raw_curve(), raw_curve(1, 6)
    own, published = LightCurve(PHOTOMETRY), AstroM3LightCurve(PHOTOMETRY)
    ready = ProcessedLightCurve(PROCESSED_PHOTOMETRY)
    for preprocessor, untouched in ((own, []), (published, [0, 3, 4])):
        inputs = collated(preprocessor, *raws)
        series = preprocessor.series(inputs)
        order = np.argsort(raws[0][:, 0])
        flux, error = raws[0][order, 1], raws[0][order, 2]
        mad = np.median(np.abs(flux - np.median(flux)))
        torch.testing.assert_close(
            series.values[0].double(),
            torch.from_numpy((flux - flux.mean()) / mad),
            atol=1e-5,
            rtol=0,
        )
        torch.testing.assert_close(
            series.error[0].double(), torch.from_numpy(error / mad), atol=1e-5, rtol=0
        )
        assert series.present.sum(1).tolist() == [9, 6]
        check_hiding(preprocessor, inputs, -1, untouched)
    table = np.arange(1.0, 37).reshape(4, 9)
    check_hiding(ready, collated(ready, table), -1, [0, 3, 4, 5, 6, 7, 8])


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_spectra_as_series(scale: float) -> None:
    """Errors are those of the scaled flux, 1 / √(inverse variance) / MAD, whatever the unit."""
    raw = raw_spectrum(scale=scale)
    prepare = Spectrum(SPECTRA, 100, 111, 1)
    inputs = collated(prepare, raw)
    series = prepare.series(inputs)
    flux, inverse_variance = raw[:, 1], raw[:, 2]
    mad = np.median(np.abs(flux - np.median(flux)))
    assert series.present[0].tolist() == (inverse_variance > 0).tolist()
    measured = series.present[0].numpy()
    expected = 1 / np.sqrt(inverse_variance[measured]) / mad
    np.testing.assert_allclose(series.error[0, measured], expected, rtol=1e-4)
    assert series.error.isfinite().all()
    check_hiding(prepare, inputs, 1, [2])


def test_spectra_without_errors_as_series() -> None:
    schema = Schema("spectra", SPECTRA.axes, SPECTRA.channels[:2])
    prepare = Spectrum(schema, 100, 111, 1)
    inputs = collated(prepare, raw_spectrum()[:, :2])
    series = prepare.series(inputs)
    assert series.present.all()
    assert not series.error.any()
    check_hiding(prepare, inputs, 1, [1])


def test_processed_channels_have_to_be_known() -> None:
    channels = tuple(map(Channel, ("time", "magnitude", "error")))
    curve = ProcessedLightCurve(Schema("photometry", ("time", "channel"), channels))
    with pytest.raises(ConfigError, match=r"photometry.*time, flux, flux_error.*magnitude"):
        curve.series(collated(curve, np.ones((4, 3))))
    spectrum = ProcessedSpectrum(PROCESSED_SPECTRA, 6)
    inputs = collated(spectrum, np.ones((6, 3)))
    assert spectrum.series(inputs).present.all()
    check_hiding(spectrum, inputs, 1, [2])
