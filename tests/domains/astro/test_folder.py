"""One's own folder: written here in every format, with and without units, and broken."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.table import MaskedColumn, Table

from domains.astro.adapters import AB_MAGNITUDE_TO_FLUX
from domains.astro.datasets.folder import StarFolder
from domains.astro.datasets.simulated import SimulatedVariableStars
from domains.astro.preprocess.light_curve import LightCurve
from domains.astro.schemas import CATALOGUE_PHOTOMETRY, PHOTO_COLUMNS, PHOTOMETRY
from shared.errors import DataError, SchemaError
from zoo.cli.main import main

STARS = ("007", "b-2", "star.three")


def write_table(table: Table, path: Path) -> None:
    kind = "votable" if path.suffix in (".vot", ".votable") else None
    table.write(path, format=kind)


def write(root: Path, suffix: str = ".csv") -> None:
    """Three stars; the second has no spectrum, the third no temperature and no label."""
    table = Table()
    table["id"] = list(STARS)
    table["label"] = MaskedColumn(["b", "a", ""], mask=[False, False, True])
    table["teff"] = MaskedColumn([5000.0, 6000.0, 0.0], mask=[False, False, True])
    table["parallax"] = [1, 2, 3]
    if suffix != ".csv":
        table["teff"].unit, table["parallax"].unit = units.K, units.mas
    write_table(table, root / f"table{suffix}")
    rng = np.random.default_rng(0)
    for star in STARS:
        curve = Table({"time": np.arange(5.0), "flux": rng.random(5), "flux_error": np.ones(5)})
        if suffix != ".csv":
            curve["time"].unit = units.hour
            curve["flux"].unit = curve["flux_error"].unit = units.Jy
        (root / "photometry").mkdir(exist_ok=True)
        write_table(curve, root / "photometry" / f"{star}{suffix}")
    for star in (STARS[0], STARS[2]):
        spectrum = Table({"wavelength": np.arange(400.0, 405), "flux": rng.random(5)})
        if suffix != ".csv":
            spectrum["wavelength"].unit = units.nm
        (root / "spectra").mkdir(exist_ok=True)
        write_table(spectrum, root / "spectra" / f"{star}{suffix}")


def read_everything(root: Path) -> None:
    dataset = StarFolder(str(root))
    for index in range(len(dataset)):
        assert dataset[index]
        assert dataset.splits[index]


@pytest.mark.parametrize("suffix", [".csv", ".ecsv", ".fits", ".vot", ".votable"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, suffix)
    dataset = StarFolder(str(tmp_path), table=f"table{suffix}")
    assert dataset.ids.tolist() == list(STARS)
    assert dataset.classes == ("a", "b")
    assert dataset.labels.tolist() == [1, 0, -1]
    raws = [dataset[i] for i in range(3)]
    assert [sorted(raw) for raw in raws] == [
        ["metadata", "photometry", "spectra"],
        ["metadata", "photometry"],
        ["metadata", "photometry", "spectra"],
    ]
    np.testing.assert_array_equal(
        [r["metadata"] for r in raws], [[5000, 1], [6000, 2], [np.nan, 3]]
    )
    assert [c.allow_missing for c in dataset.schemas["metadata"].channels] == [True, False]
    rng, bare = np.random.default_rng(0), suffix == ".csv"
    flux = np.array([rng.random(5) for _ in STARS])
    for raw, expected in zip(raws, flux, strict=True):
        curve = raw["photometry"]
        np.testing.assert_allclose(curve[:, 0], np.arange(5) / (1 if bare else 24))
        np.testing.assert_allclose(curve[:, 1], expected * (1 if bare else 1000))  # Jy → mJy
        np.testing.assert_allclose(curve[:, 2], 1 if bare else 1000)
    wavelength = raws[0]["spectra"][:, 0]
    np.testing.assert_allclose(wavelength, np.arange(400, 405) * (1 if bare else 10))
    assert [c.unit for c in dataset.schemas["photometry"].channels] == ["d", "mJy", "mJy"]
    assert [c.unit for c in dataset.schemas["metadata"].channels] == (
        ["", ""] if bare else ["K", "mas"]
    )


def test_photometry_of_a_folder_fits_what_the_simulator_trains(tmp_path: Path) -> None:
    star = SimulatedVariableStars(1).read(0)["photometry"]
    (tmp_path / "photometry").mkdir()
    Table(star, names=PHOTOMETRY.names).write(tmp_path / "photometry" / "x.csv")
    Table({"id": ["x"]}).write(tmp_path / "table.csv")
    dataset = StarFolder(str(tmp_path))
    assert set(dataset.schemas) == {"photometry"}
    assert dataset.schemas["photometry"] == PHOTOMETRY
    np.testing.assert_array_equal(dataset[0]["photometry"], star)
    assert LightCurve(dataset.schemas["photometry"]).takes == PHOTOMETRY


def test_magnitudes_need_the_adapter(tmp_path: Path) -> None:
    (tmp_path / "photometry").mkdir()
    curve = Table({"time": [1.0, 2], "magnitude": [15.0, 16], "magnitude_error": [0.1, 0.1]})
    curve.write(tmp_path / "photometry" / "x.csv")
    Table({"id": ["x"]}).write(tmp_path / "table.csv")
    schema = StarFolder(str(tmp_path)).schemas["photometry"]
    with pytest.raises(SchemaError, match="adapter"):
        LightCurve(schema)
    assert AB_MAGNITUDE_TO_FLUX.convert_schema(schema) == PHOTOMETRY


def test_units_of_the_settings_go_before_those_of_the_file(tmp_path: Path) -> None:
    write(tmp_path)
    plain = StarFolder(str(tmp_path))
    both = {"photometry.flux": "uJy", "photometry.flux_error": "uJy"}
    told = StarFolder(str(tmp_path), units={**both, "metadata.teff": "K"})
    np.testing.assert_allclose(
        told[0]["photometry"][:, 1:], plain[0]["photometry"][:, 1:] / 1000, rtol=1e-12
    )
    assert told.schemas["metadata"].channel("teff").unit == "K"
    assert told.fingerprint != plain.fingerprint
    with pytest.raises(DataError, match=r"'photometry.flx'.*Did you mean 'photometry.flux'"):
        StarFolder(str(tmp_path), units={"photometry.flx": "uJy"})
    with pytest.raises(DataError, match="one alone would leave the other"):
        StarFolder(str(tmp_path), units={"photometry.flux": "uJy"})


def test_splits_and_groups(tmp_path: Path) -> None:
    Table(
        {"id": ["a", "b"], "split": ["test", "train"], "group": ["g", "g"], "x": [1.0, 2.0]}
    ).write(tmp_path / "table.csv")
    dataset = StarFolder(str(tmp_path))
    assert dataset.splits.tolist() == ["test", "train"]
    assert dataset.groups.tolist() == ["g", "g"]
    assert dataset.labels.tolist() == [-1, -1]


def test_text_column_can_be_ignored(tmp_path: Path) -> None:
    Table({"id": ["a", "b"], "name": ["Mira", "Algol"], "x": [1.0, 2.0]}).write(
        tmp_path / "table.csv"
    )
    with pytest.raises(DataError, match=r"table.csv: column 'name' holds the text 'Mira'.*ignore"):
        StarFolder(str(tmp_path))
    assert StarFolder(str(tmp_path), ignore=["name"]).schemas["metadata"].names == ("x",)


def test_fingerprint_sees_a_changed_byte(tmp_path: Path) -> None:
    write(tmp_path)
    before = StarFolder(str(tmp_path)).fingerprint
    path = tmp_path / "spectra" / "007.csv"
    path.write_text(path.read_text().replace("400.0", "400.5"))
    assert StarFolder(str(tmp_path)).fingerprint != before


def _edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return damage


def _put(name: str, content: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text(content) and None


def _unlink(*names: str) -> Callable[[Path], None]:
    return lambda root: [(root / name).unlink() for name in names] and None


CURVE, SECOND = "photometry/007.csv", "photometry/b-2.csv"


@pytest.mark.parametrize(
    ("damage", "named", "says"),
    [
        (_unlink("table.csv"), "table.csv", "no such file"),
        (_put("table.csv", ""), "table.csv", "is empty"),
        (_put("table.csv", "id,teff\n"), "table.csv", "no rows"),
        (_edit("table.csv", "id,", "name,"), "table.csv", "lacks the column 'id'"),
        (_edit("table.csv", "b-2", "../b"), "table.csv", "cannot be part of a file name"),
        (_edit("table.csv", "b-2", "007"), "star_folder", "more than once"),
        (_edit("table.csv", "6000.0", "hot"), "table.csv", "'hot'"),
        (_edit("table.csv", "label", "split"), "table.csv", "none of train, val, test"),
        (_put(CURVE, ""), "007.csv", "is empty"),
        (_put(CURVE, "time,flux,flux_error\n"), "007.csv", "no rows"),
        (_put(CURVE, "time,flux\n1,2\n"), "007.csv", "lacks the column 'flux_error'"),
        (_put(SECOND, "time,flux\n1,2\n"), "b-2.csv", "lacks the column 'flux_error'"),
        (
            _put(SECOND, "time,flux,flux_error\n1,2,3\n1,2\n"),
            "b-2.csv",
            "row 1 has 2 cells",
        ),
        (_put(SECOND, "time,flux,flux_error\n1,two,3\n"), "b-2.csv", "'two'"),
        (
            _put(SECOND, "time,flux,flux_error\n1,2,3\n4,,6\n"),
            "b-2.csv",
            "nan in row 1",
        ),
        (_put(SECOND, "time,flux,flux_error\n1,nan,3\n"), "b-2.csv", "nan in row 0"),
        (_put(SECOND, "time,flux,flux_error\n1,2,-3\n"), "b-2.csv", "has to be > 0"),
        (_put("spectra/007.csv", "wavelength,flux\n-1,2\n"), "007.csv", "has to be >= 1"),
        (_put("spectra/007.ecsv", ""), "spectra", "several files: 007.csv and 007.ecsv"),
        (
            _unlink("spectra/007.csv", "spectra/star.three.csv"),
            "spectra",
            "asks for 007.csv",
        ),
    ],
)
def test_broken_folders(
    tmp_path: Path, damage: Callable[[Path], None], named: str, says: str
) -> None:
    write(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=says) as caught:
        read_everything(tmp_path)
    assert named in str(caught.value)


@pytest.mark.parametrize("unit", ["km", "mag"])
def test_units_that_cannot_be_converted_are_refused_by_name(tmp_path: Path, unit: str) -> None:
    write(tmp_path, ".ecsv")
    path = tmp_path / "photometry" / "007.ecsv"
    path.write_text(path.read_text().replace("unit: Jy", f"unit: {unit}"))
    with pytest.raises(DataError, match=rf"007.ecsv: column 'flux' is in '{unit}'.*flux \[mJy\]"):
        StarFolder(str(tmp_path), table="table.ecsv")[0]


def test_flux_of_a_spectrum_with_a_unit_can_be_called_relative(tmp_path: Path) -> None:
    (tmp_path / "spectra").mkdir()
    spectrum = Table({"wavelength": [4000.0, 4001], "flux": [1.0, 2]})
    spectrum["flux"].unit = units.erg / units.s / units.cm**2 / units.AA
    spectrum.write(tmp_path / "spectra" / "x.fits")
    Table({"id": ["x"]}).write(tmp_path / "table.csv")
    with pytest.raises(DataError, match=r"x.fits: column 'flux'.*units in the settings"):
        StarFolder(str(tmp_path))[0]
    told = StarFolder(str(tmp_path), units={"spectra.flux": ""})
    assert told[0]["spectra"][:, 1].tolist() == [1, 2]


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
def test_truncated_fits(tmp_path: Path) -> None:
    write(tmp_path, ".fits")
    path = tmp_path / "photometry" / "b-2.fits"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"b-2.fits"):
        StarFolder(str(tmp_path), table="table.fits")[1]


def write_periodic(root: Path, period: float = 0.57) -> None:
    """Two stars with light curves; the second has no period in the table, the third no curve."""
    table = Table({"id": ["a", "b", "c"], "rfr_score": [0.5, 0.6, 0.7]})
    table["amplitude"] = [300.0, 400, 500]
    table["period"] = MaskedColumn([24.0, 0, 0], mask=[False, True, True])
    table["amplitude"].unit, table["period"].unit = "mmag", "h"
    table["lksl_statistic"] = [0.1, 0.2, 0.3]
    table.write(root / "table.ecsv")
    (root / "photometry").mkdir()
    rng = np.random.default_rng(1)
    for star in "ab":
        time = 2450000 + rng.uniform(0, 400, 120)
        flux = 5 + np.sin(2 * np.pi * time / period) + rng.normal(0, 0.1, 120)
        curve = Table({"time": time, "flux": flux, "flux_error": np.full(120, 0.1)})
        curve.write(root / "photometry" / f"{star}.csv")


def test_periods_are_filled_only_where_asked_and_missing(tmp_path: Path) -> None:
    write_periodic(tmp_path)
    plain = StarFolder(str(tmp_path), table="table.ecsv")
    assert np.isnan(plain[1]["metadata"][2])
    filled = StarFolder(str(tmp_path), table="table.ecsv", period="lomb_scargle")
    channel = filled.schemas["metadata"].channel("period")
    assert (channel.unit, channel.allow_missing) == ("d", True)
    periods = [filled[i]["metadata"][2] for i in range(3)]
    np.testing.assert_allclose(periods, [1.0, 0.57, np.nan], rtol=0.01)
    assert filled.fingerprint != plain.fingerprint
    (tmp_path / "photometry" / "b.csv").write_text("time,flux,flux_error\n1,2,3\n2,3,4\n")
    few = StarFolder(str(tmp_path), table="table.ecsv", period="lomb_scargle")
    with pytest.raises(DataError, match=r"b\.csv: a period needs 5 observations, there are 2"):
        few[1]


def test_a_table_without_periods_gets_the_column(tmp_path: Path) -> None:
    write_periodic(tmp_path)
    Table({"id": ["a", "b"]}).write(tmp_path / "table.csv")
    dataset = StarFolder(str(tmp_path), period="lomb_scargle")
    assert dataset.schemas["metadata"].names == ("period",)
    assert not dataset.schemas["metadata"].channels[0].allow_missing
    np.testing.assert_allclose([dataset[i]["metadata"][0] for i in (0, 1)], 0.57, rtol=0.01)


def test_columns_of_the_table_beside_the_light_curve(tmp_path: Path) -> None:
    write_periodic(tmp_path)
    options = {"table": "table.ecsv", "photometry_columns": list(PHOTO_COLUMNS)}
    dataset = StarFolder(str(tmp_path), period="lomb_scargle", **options)
    assert dataset.schemas["photometry"] == CATALOGUE_PHOTOMETRY
    assert set(dataset.schemas) == {"photometry"}
    curve = dataset[1]["photometry"]
    assert curve.shape == (120, 7)
    assert (curve[:, 3:] == curve[0, 3:]).all()
    np.testing.assert_allclose(curve[0, 3:], [0.4, 0.57, 0.2, 0.6], rtol=0.01)
    np.testing.assert_array_equal(
        curve[:, :3], StarFolder(str(tmp_path), table="table.ecsv")[1]["photometry"]
    )
    with pytest.raises(DataError, match=r"column 'period' is empty for star 'b'"):
        StarFolder(str(tmp_path), **options)[1]
    with pytest.raises(DataError, match=r"lacks the column 'amplitud'.*mean 'amplitude'"):
        StarFolder(str(tmp_path), table="table.ecsv", photometry_columns=["amplitud"])


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        StarFolder(str(tmp_path / "nowhere"))
    Table({"id": ["a"]}).write(tmp_path / "table.csv")
    with pytest.raises(DataError, match="neither a folder photometry nor spectra"):
        StarFolder(str(tmp_path))
    with pytest.raises(DataError, match="format is none of"):
        StarFolder(str(tmp_path), table="table.xlsx")


@pytest.mark.slow
def test_a_run_over_broken_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stars = SimulatedVariableStars(40)
    root = tmp_path / "stars"
    (root / "photometry").mkdir(parents=True)
    for index, star in enumerate(stars.ids):
        curve = Table(stars[index]["photometry"], names=PHOTOMETRY.names)
        curve.write(root / "photometry" / f"{star}.csv")
    Table({"id": stars.ids, "label": stars.labels % 2, "x": np.arange(40.0)}).write(
        root / "table.csv"
    )
    broken = root / "photometry" / f"{stars.ids[3]}.csv"
    broken.write_text("")
    run = tmp_path / "run"
    options = ["domain=astro", "data=star_folder", f"data.root={root}", "trainer.max_epochs=1"]
    options += ["loader.batch_size=8", "trainer.device=cpu", "evaluator=null", f"run_folder={run}"]
    assert main(["train", *options]) == 2
    assert f"{broken}: is empty. To leave out" in capsys.readouterr().err
    assert not run.exists()
    assert main(["train", *options, "data.on_error=skip"]) == 0
    assert "left out" in capsys.readouterr().out
    (entry,) = json.loads((run / "skipped.json").read_text())
    assert (entry["id"], entry["modality"]) == (stars.ids[3], "photometry")
    out = tmp_path / "stars.npz"
    assert main(["embed", f"model={run}", f"out={out}", "device=cpu", "cache=false"]) == 0
    assert json.loads(out.with_suffix(".skipped.json").read_text()) == [entry]
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("on_error: skip", "on_error: raise"))
    broken.write_bytes((root / "photometry" / f"{stars.ids[4]}.csv").read_bytes())
    capsys.readouterr()
    assert main(["train", f"resume={run}"]) == 2
    assert "data fingerprint" in capsys.readouterr().err


def test_a_unit_on_one_scale_only(tmp_path: Path) -> None:
    """The error would be left a thousand times too small."""
    write(tmp_path, ".ecsv")
    path = tmp_path / "photometry" / f"{STARS[1]}.ecsv"
    curve = Table({"time": [1.0, 2], "flux": [1.0, 2] * units.Jy, "flux_error": [0.1, 0.1]})
    path.unlink()
    write_table(curve, path)
    dataset = StarFolder(str(tmp_path), table="table.ecsv")
    assert dataset[0]
    with pytest.raises(DataError, match=rf"{STARS[1]}.ecsv: of flux and flux_error one has a unit"):
        dataset[1]


def test_row_numbers_that_pandas_writes_are_no_metadata(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "table.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f",{header}", *(f"{i},{row}" for i, row in enumerate(rows))]))
    with pytest.raises(DataError, match=r"a column without a name.*index=False"):
        StarFolder(str(tmp_path))
