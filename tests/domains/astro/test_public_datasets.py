"""The two public sets: their real files where they are there, and broken ones written here."""

import csv
import json
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domains.astro.adapters import AB_MAGNITUDE_TO_FLUX
from domains.astro.datasets.osc_supernovae import OscSupernovae
from domains.astro.datasets.sdss_s82_rrlyrae import SdssS82RRLyrae
from domains.astro.evaluators import VARIABLE_STARS
from domains.astro.preprocess.light_curve import LightCurve
from domains.astro.preprocess.metadata import MetadataTable
from domains.astro.preprocess.spectrum import Spectrum
from shared.data.adapted import AdaptedDataset
from shared.data.dataset import Dataset
from shared.data.skipping import SkippingDataset
from shared.errors import ConfigError, DataError

DATA = Path(os.environ.get("ZOO_DATA", Path(__file__).parents[4] / "shared" / "data")) / "astronomy"
SDSS, OSC = DATA / "sdss_s82_rrlyrae", DATA / "osc_supernovae"
needs_sdss = pytest.mark.skipif(not SDSS.is_dir(), reason=f"no data in {SDSS}")
needs_osc = pytest.mark.skipif(not OSC.is_dir(), reason=f"no data in {OSC}")


Reader = type[SdssS82RRLyrae] | type[OscSupernovae]


def read_everything(dataset: Dataset) -> None:
    for index in range(len(dataset)):
        assert dataset[index]


def balanced_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Of a logistic regression, 5-fold, as in the baselines of the data's own descriptions."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(cross_val_score(model, features, labels, scoring="balanced_accuracy").mean())


def features(dataset: Dataset, modality: str) -> np.ndarray:
    function, schema = VARIABLE_STARS.simple_features[modality], dataset.schemas[modality]
    return np.array([function(schema, dataset[i][modality]) for i in range(len(dataset))])


# ---------------------------------------------------------------- SDSS Stripe 82


@needs_sdss
def test_sdss_counts_are_those_of_its_table() -> None:
    with (SDSS / "periods.csv").open(newline="") as file:
        kinds = Counter(row["Type"] for row in csv.DictReader(file))
    dataset = SdssS82RRLyrae(str(SDSS))
    assert dataset.classes == ("ab", "c")
    assert dict(zip(dataset.classes, np.bincount(dataset.labels), strict=True)) == kinds
    for index in range(len(dataset)):
        raw = dataset[index]
        assert set(raw) == {"photometry", "metadata"}
        assert raw["photometry"][:, 1:].max() < 90


@pytest.mark.slow
@needs_sdss
def test_sdss_baseline_is_reproduced_by_the_simple_features() -> None:
    """Published with the data: balanced accuracy 0.915 from five features in each band."""
    sets = [SdssS82RRLyrae(str(SDSS), band) for band in "ugriz"]
    columns = np.hstack([features(dataset, "photometry") for dataset in sets])
    assert balanced_accuracy(columns, sets[0].labels) == pytest.approx(0.915, abs=0.04)


@needs_sdss
def test_sdss_values_are_those_of_the_files() -> None:
    dataset = SdssS82RRLyrae(str(SDSS), "r")
    raw = dataset[dataset.ids.tolist().index("20406")]
    schema = dataset.schemas["metadata"]
    row = dict(zip(schema.names, raw["metadata"], strict=True))
    assert row["period"] == 0.631853138777
    assert row["amplitude_u"] == 0.553247302385
    assert row["magnitude_at_maximum_z"] == 15.132053024454
    with zipfile.ZipFile(SDSS / "light-curves.zip") as archive:
        text = archive.read("light-curves/20406.csv").decode()
    lines = [line.split(",") for line in text.split()[1:]]
    kept = [[float(c) for c in cells[:3]] for cells in lines if cells[3] == "r"]
    kept = [row for row in kept if row[1] <= 90 and row[2] <= 90]
    np.testing.assert_array_equal(raw["photometry"], kept)


@needs_sdss
def test_sdss_does_not_leak_the_template_that_tells_the_type() -> None:
    names = SdssS82RRLyrae.schemas["metadata"].names
    assert len(names) == 11
    assert not any("template" in name or name.startswith("T") for name in names)


@needs_sdss
def test_sdss_through_adapter_and_preprocessors() -> None:
    dataset = AdaptedDataset(SdssS82RRLyrae(str(SDSS)), {"photometry": AB_MAGNITUDE_TO_FLUX})
    prepare = LightCurve(dataset.schemas["photometry"])
    table = MetadataTable(dataset.schemas["metadata"])
    table.fit(dataset[i]["metadata"] for i in range(50))
    raw = dataset[0]
    assert np.isfinite(prepare(raw["photometry"])["values"]).all()
    assert np.abs(table(raw["metadata"])["values"]).max() < 10


SDSS_TABLE = """Title: Light Curve Templates
Authors: Sesar B.
Table: Light curve parameters
================================================================================
Byte-by-byte Description of file: table2.txt
--------------------------------------------------------------------------------
   Bytes Format Units Label  Explanations
--------------------------------------------------------------------------------
"""


def write_sdss(root: Path) -> None:
    """Two stars in the layout of the real files, with made-up values."""
    labels = ["Num", "Type", "Per"]
    labels += [*(f"A{band}" for band in "ugriz"), *(f"{band}mag" for band in "ugriz")]
    text = SDSS_TABLE
    for position, label in enumerate(labels):
        kind = {"Num": "I10", "Type": "A10"}.get(label, "F10.6")
        text += (
            f" {11 * position + 1:3d}-{11 * position + 10:3d} {kind:6s} ---   {label:6s} value\n"
        )
    text += "-" * 80 + "\n"
    for number, kind in (("11", "ab"), ("12", "c")):
        cells = [number, kind, *[f"{0.3 + i / 10:.6f}" for i in range(11)]]
        text += " ".join(f"{cell:>10s}" for cell in cells) + "\n"
    (root / "apj326724t2.txt").write_text(text)
    (root / "periods.csv").write_text("Num,Type,Per\n11,ab,0.3\n12,c,0.3\n")
    folder = root / "light-curves"
    folder.mkdir()
    for number in ("11", "12"):
        rows = [f"{50000 + i},{15 + i / 10},0.01,{'gr'[i % 2]}" for i in range(20)]
        (folder / f"{number}.csv").write_text("time,mag,magerr,band\n" + "\n".join(rows) + "\n")


def pack(root: Path, folder: str) -> None:
    """Replace a folder by a zip archive of it."""
    with zipfile.ZipFile(root / f"{folder}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((root / folder).iterdir()):
            archive.write(path, f"{folder}/{path.name}")
            path.unlink()
    (root / folder).rmdir()


@pytest.mark.parametrize("zipped", [True, False])
def test_sdss_from_an_archive_and_from_its_folder(tmp_path: Path, zipped: bool) -> None:
    write_sdss(tmp_path)
    if zipped:
        pack(tmp_path, "light-curves")
    dataset = SdssS82RRLyrae(str(tmp_path))
    assert dataset.ids.tolist() == ["11", "12"]
    raw = dataset[1]
    np.testing.assert_allclose(raw["photometry"][:, 0], 50000 + np.arange(0, 20, 2))
    np.testing.assert_allclose(raw["metadata"], 0.3 + np.arange(11) / 10)
    assert len(dataset.fingerprint) == 16


def test_sdss_sentinels_are_masked(tmp_path: Path) -> None:
    write_sdss(tmp_path)
    path = tmp_path / "light-curves" / "11.csv"
    path.write_text(path.read_text() + "50100,99.99,0.01,g\n50101,15.0,99.999,g\n")
    path.write_text(path.read_text() + "50102,-99.99,0.01,g\n50103,15.0,0.000,g\n")
    assert len(SdssS82RRLyrae(str(tmp_path))[0]["photometry"]) == 10
    path.write_text("time,mag,magerr,band\n50100,99.99,0.01,g\n")
    assert "photometry" not in SdssS82RRLyrae(str(tmp_path))[0]


def test_sdss_fingerprint_sees_a_changed_byte(tmp_path: Path) -> None:
    write_sdss(tmp_path)
    before = SdssS82RRLyrae(str(tmp_path)).fingerprint
    assert SdssS82RRLyrae(str(tmp_path)).fingerprint == before
    path = tmp_path / "light-curves" / "12.csv"
    path.write_text(path.read_text().replace("50019", "50018"))
    assert SdssS82RRLyrae(str(tmp_path)).fingerprint != before


def _replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return damage


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(content) and None


def _remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


CURVE = "light-curves/11.csv"


@pytest.mark.parametrize(
    ("damage", "named", "says"),
    [
        (_remove("periods.csv"), "periods.csv", "no such file"),
        (_remove("apj326724t2.txt"), "apj326724t2.txt", "no such file"),
        (_remove(CURVE), "11.csv", "lacks"),
        (_write("periods.csv", b""), "periods.csv", "empty"),
        (_write("apj326724t2.txt", b"\n"), "apj326724t2.txt", "empty"),
        (_write("apj326724t2.txt", b"not a table\n"), "apj326724t2.txt", "machine-readable"),
        (_write("apj326724t2.txt", b"\xff\xfe\x00"), "apj326724t2.txt", "UTF-8"),
        (_write(CURVE, b""), "11.csv", "lacks column"),
        (_replace(CURVE, "magerr", "error"), "11.csv", "'magerr'"),
        (_replace(CURVE, "15.0", "bright"), "11.csv", "bright"),
        (_replace(CURVE, "15.0", "nan"), "11.csv", "NaN"),
        (_replace(CURVE, ",g\n50001", "\n50001"), "11.csv, line 2", "truncated"),
        (_replace("periods.csv", "Type", "Kind"), "periods.csv", "'Type'"),
        (_replace("periods.csv", "12,c", "13,c"), "light-curves", "lacks 13.csv"),
        (_replace("periods.csv", "12,c", "11,c"), "sdss_s82_rrlyrae", "more than once"),
    ],
)
def test_sdss_broken_files(
    tmp_path: Path, damage: Callable[[Path], None], named: str, says: str
) -> None:
    write_sdss(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=says) as caught:
        read_everything(SdssS82RRLyrae(str(tmp_path)))
    assert named in str(caught.value)


def test_sdss_band() -> None:
    with pytest.raises(ConfigError, match="'V'"):
        SdssS82RRLyrae("somewhere", band="V")


# ---------------------------------------------------------------- Open Supernova Catalog


@needs_osc
def test_osc_counts_are_those_of_its_index() -> None:
    with (OSC / "index.csv").open(newline="") as file:
        kinds = Counter(row["claimedtype"] for row in csv.DictReader(file))
    every = tuple(kinds)
    labels = np.bincount(OscSupernovae(str(OSC), every).labels, minlength=len(every))
    assert dict(zip(every, labels.tolist(), strict=True)) == kinds
    dataset = OscSupernovae(str(OSC))
    assert len(dataset) == kinds["Ia"] + kinds["II"]
    assert sum(dataset.dropped.values()) == sum(kinds.values()) - len(dataset)


@needs_osc
def test_osc_assumed_errors_keep_more_light_curves() -> None:
    counts = [
        sum("photometry" in dataset.read(i) for i in range(len(dataset)))
        for dataset in (OscSupernovae(str(OSC), assumed_error=e) for e in (None, 0.15))
    ]
    assert 0 < counts[0] < counts[1]


@needs_osc
@pytest.mark.parametrize("assumed", [None, 0.15])
def test_osc_gives_what_the_preprocessors_can_scale(assumed: float | None) -> None:
    dataset = OscSupernovae(str(OSC), assumed_error=assumed)
    raws = [dataset[i] for i in range(len(dataset))]
    assert any("spectra" in raw for raw in raws)
    assert all("metadata" in raw for raw in raws)
    schema = AB_MAGNITUDE_TO_FLUX.convert_schema(dataset.schemas["photometry"])
    curve, spectrum = LightCurve(schema), Spectrum(dataset.schemas["spectra"])
    for raw in raws:
        if "photometry" in raw:
            flux = AB_MAGNITUDE_TO_FLUX.convert(dataset.schemas["photometry"], raw["photometry"])
            assert np.isfinite(curve(flux)["values"]).all()
        if "spectra" in raw:
            assert np.isfinite(spectrum(raw["spectra"])["values"]).all()


@needs_osc
def test_osc_simple_features_know_something_of_the_type() -> None:
    dataset = OscSupernovae(str(OSC))
    columns = features(dataset, "metadata")
    assert np.isfinite(columns).all()
    assert balanced_accuracy(columns, dataset.labels) > 0.54


def osc_event(kind: str = "Ia", **more: Any) -> dict[str, Any]:
    rows = [
        {"time": str(50000 + i), "band": "B", "magnitude": str(15 + i / 10), "e_magnitude": "0.1"}
        for i in range(8)
    ]
    return {
        "claimedtype": [{"value": kind}, {"value": "other"}],
        "photometry": rows,
        "ra": [{"value": "01:30:00", "u_value": "hours"}],
        "dec": [{"value": "-10:30:00", "u_value": "degrees"}],
        **more,
    }


def write_osc(root: Path, **events: Any) -> None:
    (root / "events").mkdir()
    for name, event in events.items():
        (root / "events" / f"{name}.json").write_text(json.dumps({name: event}))


def test_osc_metadata(tmp_path: Path) -> None:
    known = osc_event(redshift=[{"value": "0.02"}], ebv=[{"value": "0.1"}])
    write_osc(tmp_path, SN1=known, SN2=osc_event("II"))
    dataset = OscSupernovae(str(tmp_path))
    np.testing.assert_allclose(dataset[0]["metadata"], [0.02, 22.5, -10.5, 0.1, np.nan])
    np.testing.assert_allclose(dataset[1]["metadata"], [np.nan, 22.5, -10.5, np.nan, np.nan])


def test_osc_labels_and_dropped_types(tmp_path: Path) -> None:
    write_osc(tmp_path, SN1=osc_event("II"), SN2=osc_event("Ib"), SN3=osc_event("Ia"))
    pack(tmp_path, "events")
    dataset = OscSupernovae(str(tmp_path))
    assert dataset.ids.tolist() == ["SN1", "SN3"]
    assert dataset.labels.tolist() == [1, 0]
    assert dataset.dropped == {"Ib": 1}


def test_osc_rows_that_do_not_count(tmp_path: Path) -> None:
    event = osc_event()
    good = len(event["photometry"])
    point = {"band": "B", "magnitude": "16", "e_magnitude": "0.1"}
    flux = {"upperlimit": True, "e_fluxdensity": "1.0"}
    event["photometry"] += [
        {"time": "50100", "band": "B", "magnitude": "19", "upperlimit": True},
        {"time": "50101", "energy": "2", "flux": "1e-13"},
        {"time": "50102", "magnitude": "16", "e_magnitude": "0.1"},  # of no band
        {"time": "50103", "band": "B", "magnitude": "16"},  # without error
        {"time": "50104", **point, "band": "V"},  # of a band with fewer rows
        {"time": "50105", **point, **flux, "fluxdensity": "2.9"},
        {"time": "50106", **point, **flux, "fluxdensity": "3.1"},
        {"time": ["50107", "50108"], **point},
    ]
    write_osc(tmp_path, SN1=event)
    curve = OscSupernovae(str(tmp_path), ["Ia"])[0]["photometry"]
    assert curve[good:, 0].tolist() == [50106, 50107.5]
    filled = OscSupernovae(str(tmp_path), ["Ia"], assumed_error=0.2)[0]["photometry"]
    assert filled[filled[:, 0] == 50103].tolist() == [[50103, 16, 0.2]]
    strict = OscSupernovae(str(tmp_path), ["Ia"], min_signal_to_noise=4)[0]["photometry"]
    assert 50106 not in strict[:, 0]


def test_osc_odd_rows_of_a_good_event(tmp_path: Path) -> None:
    event = osc_event()
    good = OscSupernovae.schemas["photometry"].names, len(event["photometry"])
    point = {"time": "50100", "band": "B", "magnitude": "16", "e_magnitude": "0.1"}
    for odd in (
        {"magnitude": "<15"},
        {"magnitude": ["15", "16"]},
        {"magnitude": "99.99"},
        {"magnitude": "nan"},
        {"e_magnitude": "0.1:"},
        {"e_magnitude": "nan"},
        {"e_magnitude": "0"},
        {"e_magnitude": "inf"},
        {"time": "night"},
        {"time": []},
        {"time": None},
        {"band": None},
        {"band": ""},
        {"upperlimit": True, "fluxdensity": "?", "e_fluxdensity": "1"},
    ):
        event["photometry"].append({**point, **odd})
    event["photometry"].append({key: point[key] for key in point if key != "time"})
    write_osc(tmp_path, SN1=event)
    curve = OscSupernovae(str(tmp_path), ["Ia"])[0]["photometry"]
    assert curve.shape == (good[1], len(good[0]))
    assert curve[:, 0].max() < 50100


def test_osc_odd_points_and_units_of_spectra(tmp_path: Path) -> None:
    data = [[str(w / 10), f"{w % 7 + 1}e-15", "1e-16"] for w in range(3500, 9500, 10)]
    odd = [["650", "nan"], ["650", "--"], ["", "1e-15"], ["0", "1e-15"], ["650"], []]
    zeros = [[str(w), "0.0"] for w in range(2000, 10000, 10)]
    spectra = [
        {"u_wavelengths": "nm", "u_fluxes": "erg/s/cm^2/Angstrom", "data": data[::-1] + odd},
        {"u_wavelengths": "Angstrom", "data": zeros},
        {"u_wavelengths": "Angstrom", "filename": "of a spectrum that is kept elsewhere"},
        {"u_wavelengths": "keV", "data": [["1", "2"]]},
        {"data": [["4000", "1"], ["9000", "2"]]},
    ]
    write_osc(tmp_path, SN1=osc_event(spectra=spectra))
    found = OscSupernovae(str(tmp_path), ["Ia"])[0]["spectra"]
    np.testing.assert_allclose(found[:, 0], np.arange(3500, 9500, 10))
    np.testing.assert_allclose(found[0, 1], 1e-15)


def test_osc_first_value_that_can_be_read(tmp_path: Path) -> None:
    def several(*values: Any) -> list[dict[str, Any]]:
        return [{"value": value} for value in values]

    event = osc_event(
        ra=several("25:00:00", "01:30:60.0"), ebv=several("<0.3", 0.1), redshift=several(), dec=None
    )
    write_osc(tmp_path, SN1=event)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = OscSupernovae(str(tmp_path), ["Ia"])[0]["metadata"]
    np.testing.assert_allclose(row, [np.nan, 22.75, np.nan, 0.1, np.nan])


def test_osc_skips_only_what_cannot_be_used(tmp_path: Path) -> None:
    broken = osc_event(redshift=[{"value": "high"}])
    broken["spectra"] = [{"u_wavelengths": "Angstrom", "data": [5, 6]}]
    write_osc(tmp_path, SN1=broken, SN2=osc_event())
    dataset = AdaptedDataset(
        OscSupernovae(str(tmp_path), ["Ia"]), {"photometry": AB_MAGNITUDE_TO_FLUX}
    )
    skipping = SkippingDataset(dataset)
    assert set(skipping[0]) == {"photometry"}
    assert {(entry.id, entry.modality) for entry in skipping.skipped} == {
        ("SN1", "spectra"),
        ("SN1", "metadata"),
    }


def test_osc_events_without_a_type_are_left_out(tmp_path: Path) -> None:
    untyped = osc_event()
    del untyped["claimedtype"]
    write_osc(tmp_path, SN1=untyped, SN2=osc_event(), SN3=osc_event(claimedtype=[]))
    dataset = OscSupernovae(str(tmp_path), ["Ia"])
    assert dataset.ids.tolist() == ["SN2"]
    assert dataset.dropped == {"no claimed type": 2}


def test_osc_light_curves_too_poor_are_absent(tmp_path: Path) -> None:
    few, flat = osc_event(), osc_event()
    few["photometry"] = few["photometry"][:4]
    for row in flat["photometry"]:
        row["magnitude"] = "15"
    write_osc(tmp_path, SN1=few, SN2=flat, SN3=osc_event(photometry=[]))
    dataset = OscSupernovae(str(tmp_path), ["Ia"])
    assert ["photometry" in dataset[i] for i in range(3)] == [False, False, False]


def test_osc_best_covering_spectrum(tmp_path: Path) -> None:
    def spectrum(low: int, high: int, unit: str = "Angstrom") -> dict[str, Any]:
        data = [[str(w), str(w % 7)] for w in range(high, low, -10)]
        return {"u_wavelengths": unit, "data": data}

    spectra = [spectrum(3000, 5000), spectrum(4000, 8000), spectrum(3900, 9000, "nm")]
    write_osc(tmp_path, SN1=osc_event(spectra=spectra), SN2=osc_event(spectra=spectra[:1]))
    dataset = OscSupernovae(str(tmp_path), ["Ia"])
    found = dataset[0]["spectra"]
    assert (found[0, 0], found[-1, 0]) == (4010, 8000)
    assert (np.diff(found[:, 0]) > 0).all()
    assert "spectra" not in dataset[1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a JSON"),
        (b'{"SN1": {"claimedtype": [', "not a JSON"),
        (b'{"SN1": {}, "SN2": {}}', "one event"),
        (b'{"SN1": []}', "not an object"),
        (b'{"SN1": {"claimedtype": ["Ia"]}}', "claimedtype"),
        (b'{"SN1": {"claimedtype": [{"value": "Ia"}], "photometry": 3}}', "not an entry"),
        (
            b'{"SN1": {"claimedtype": [{"value": "Ia"}], "spectra": '
            b'[{"u_wavelengths": "Angstrom", "data": [["x", "y"], ["4000"]]}]}}',
            "spectrum of 2 rows without numbers",
        ),
        (
            b'{"SN1": {"claimedtype": [{"value": "Ia"}], "photometry": '
            b'[{"time": "x", "band": "B", "magnitude": "1", "e_magnitude": "1"}]}}',
            "no row of photometry holds numbers",
        ),
        (
            b'{"SN1": {"claimedtype": [{"value": "Ia"}], "ra": [{"value": "east"}]}}',
            "ra is 'east'",
        ),
    ],
)
def test_osc_broken_events(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "SN1.json").write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read_everything(OscSupernovae(str(tmp_path), ["Ia"]))
    assert "SN1.json" in str(caught.value)


def test_osc_a_type_without_events_is_named(tmp_path: Path) -> None:
    write_osc(tmp_path, SN1=osc_event("Ia"), SN2=osc_event("II P"))
    assert OscSupernovae(str(tmp_path), ["Ia", "II P"]).labels.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"types names 'IIP'.*mean 'II P'\? Known: II P, Ia"):
        _ = OscSupernovae(str(tmp_path), ["Ia", "IIP"]).labels


# ---------------------------------------------------------------- both

BOTH = pytest.mark.parametrize(
    ("reader", "folder"), [(SdssS82RRLyrae, "light-curves"), (OscSupernovae, "events")]
)


@BOTH
def test_missing_root_and_empty_root(tmp_path: Path, reader: Reader, folder: str) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        reader(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=f"neither {folder}.zip nor"):
        reader(str(tmp_path))
    (tmp_path / folder).mkdir()
    with pytest.raises(DataError, match=f"{folder}: holds no file"):
        reader(str(tmp_path))


@BOTH
def test_not_an_archive(tmp_path: Path, reader: Reader, folder: str) -> None:
    (tmp_path / f"{folder}.zip").write_text("this is no archive")
    with pytest.raises(DataError, match=f"{folder}.zip: not a readable zip"):
        reader(str(tmp_path))


@pytest.mark.parametrize("cut", ["end", "middle"])
def test_damaged_archive(tmp_path: Path, cut: str) -> None:
    write_sdss(tmp_path)
    pack(tmp_path, "light-curves")
    path = tmp_path / "light-curves.zip"
    content = path.read_bytes()
    if cut == "end":
        path.write_bytes(content[: len(content) // 2])
    else:  # the list of files is whole, the first file is not
        path.write_bytes(content[:60] + bytes(40) + content[100:])
    with pytest.raises(DataError, match=r"light-curves\.zip.*Get (it|the file) anew"):
        SdssS82RRLyrae(str(tmp_path))[0]
