"""AstroM3's published layout, as a small one written here with made-up values."""

import csv
import gzip
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from domains.astro.datasets.astrom3 import AstroM3
from domains.astro.preprocess.spectrum import Spectrum
from domains.astro.schemas import META_COLUMNS, PHOTO_COLUMNS
from shared.data.dataset import Dataset
from shared.errors import DataError

HEADER = "### Made-up light curve\n     HJD        MAG  MAG_ERR   FLUX  FLUX_ERR\n"
COLUMNS = (*META_COLUMNS, *PHOTO_COLUMNS, "name", "target", "spec_filename", "remark")
STARS = {  # name: class, split, file of the spectrum, its folder, layout
    "ASASSN-V J0001 A": ("SR", "train", "spec-1.fits", "SR", "image"),
    "ASASSN-V J0002 B": ("EW", "train", "v2/dr5/spec-2.fits.gz", "EW", "table"),
    "ASASSN-V J0003 C": ("EW", "val", "spec-3.fits", "EA", "table"),
    "ASASSN-V J0004 D": ("EA", "test", "spec-4.fits", "EA", "image"),
}


def flux_of(number: int) -> np.ndarray:
    return np.array([10.25, 11.5, 10.0625, 12.0]) + number


def pixels(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wavelength, flux and inverse variance."""
    wavelength = 10 ** (3.5682 + 0.001 * np.arange(400))
    flux = (np.sin(wavelength / 300) + 2 + number).astype(np.float32)
    return wavelength, flux, np.linspace(1, 2, 400).astype(np.float32)


def write_fits(path: Path, number: int, layout: str) -> None:
    wavelength, flux, inverse_variance = pixels(number)
    if layout == "image":
        unit = fits.PrimaryHDU(np.stack([flux, inverse_variance, 0 * flux]))
        unit.header["COEFF0"], unit.header["COEFF1"] = 3.5682, 0.001
        unit.writeto(path)
        return
    names = {"FLUX": flux, "IVAR": inverse_variance, "WAVELENGTH": wavelength, "ANDMASK": 0 * flux}
    table = fits.BinTableHDU.from_columns(
        [fits.Column(n, f"{len(v)}D", array=v[None]) for n, v in names.items()]
    )
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)


def catalogue(number: int) -> dict[str, float]:
    return {name: 0.5 + number + i / 64 for i, name in enumerate((*PHOTO_COLUMNS, *META_COLUMNS))}


def write_raw(root: Path, split: str = "splits/sub50/7") -> None:
    (root / split).mkdir(parents=True)
    (root / "photometry" / "vardb").mkdir(parents=True)
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    for number, (name, (kind, part, file, folder, layout)) in enumerate(STARS.items()):
        lines = [
            f"{2457000.123456 + i:.6f} 15.5 0.02 {flux:.4f} 0.125"
            for i, flux in enumerate(flux_of(number))
        ]
        stem = name.replace(" ", "")
        path = root / "photometry" / "vardb" / f"{stem}.dat"
        path.write_text(HEADER + "\n".join(lines) + "\n")
        (root / "spectra" / folder).mkdir(parents=True, exist_ok=True)
        plain = root / "spectra" / folder / file.split("/")[-1].removesuffix(".gz")
        write_fits(plain, number, layout)
        if file.endswith(".gz"):
            plain.with_suffix(".fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()
        rows[part].append(
            {"name": name, "target": kind, "spec_filename": file, "remark": "", **catalogue(number)}
        )
    for part, stars in rows.items():
        with (root / split / f"{part}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(stars)


def open_raw(root: Path) -> AstroM3:
    return AstroM3(str(root), sub="sub50", seed=7)


def read_everything(dataset: Dataset) -> None:
    for index in range(len(dataset)):
        assert dataset[index]


@pytest.mark.parametrize("zipped", [True, False])
def test_raw_values(tmp_path: Path, zipped: bool) -> None:
    write_raw(tmp_path)
    if zipped:
        shutil.make_archive(str(tmp_path / "photometry"), "zip", tmp_path / "photometry")
        shutil.rmtree(tmp_path / "photometry")
    dataset = pickle.loads(pickle.dumps(open_raw(tmp_path)))
    assert dataset.ids.tolist() == list(STARS)
    assert dataset.classes == ("EA", "EW", "SR")
    assert dataset.labels.tolist() == [2, 1, 1, 0]
    assert dataset.splits.tolist() == ["train", "train", "val", "test"]
    for number in range(len(STARS)):
        raw = dataset[number]
        curve, row = raw["photometry"], catalogue(number)
        assert curve.dtype == raw["spectra"].dtype == raw["metadata"].dtype == np.float64
        np.testing.assert_array_equal(
            curve[:, 0], [float(f"{2457000.123456 + i:.6f}") for i in range(4)]
        )
        np.testing.assert_array_equal(curve[:, 1], flux_of(number))
        np.testing.assert_array_equal(curve[:, 2], 0.125)
        np.testing.assert_array_equal(curve[:, 3:], [[row[c] for c in PHOTO_COLUMNS]] * 4)
        np.testing.assert_array_equal(raw["metadata"], [row[c] for c in META_COLUMNS])
        np.testing.assert_allclose(raw["spectra"], np.stack(pixels(number), axis=1), rtol=1e-12)
        assert np.isfinite(Spectrum(dataset.schemas["spectra"])(raw["spectra"])["values"]).all()


def test_statistics_path(tmp_path: Path) -> None:
    write_raw(tmp_path)
    assert open_raw(tmp_path).statistics_path is None
    path = tmp_path / "splits" / "sub50" / "7" / "info.json"
    path.write_text("{}")
    assert open_raw(tmp_path).statistics_path == path


def test_an_archive_is_opened_once_and_anew_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raw(tmp_path)
    folder = tmp_path / "photometry"
    shutil.make_archive(str(folder), "zip", folder)
    dat = next(folder.rglob("*0001A.dat"))
    dat.write_text(dat.read_text().replace("10.2500", "77.0000"))
    shutil.make_archive(str(tmp_path / "new"), "zip", folder)
    shutil.rmtree(folder)
    dataset = open_raw(tmp_path)
    opened = []
    original = zipfile.ZipFile.__init__
    monkeypatch.setattr(
        zipfile.ZipFile,
        "__init__",
        lambda self, *args, **more: (opened.append(args), original(self, *args, **more))[1],
    )
    read_everything(dataset)
    assert len(opened) == 1
    (tmp_path / "new.zip").rename(tmp_path / "photometry.zip")
    assert dataset[0]["photometry"][0, 1] == 77


def test_raw_fingerprint(tmp_path: Path) -> None:
    write_raw(tmp_path)
    before = open_raw(tmp_path).fingerprint
    assert open_raw(tmp_path).fingerprint == before
    path = tmp_path / "spectra" / "SR" / "spec-1.fits"
    path.write_bytes(path.read_bytes() + b" " * 2880)
    assert open_raw(tmp_path).fingerprint != before


CURVE = "photometry/vardb/ASASSN-VJ0001A.dat"
TRAIN = "splits/sub50/7/train.csv"
IMAGE, TABLE = "spectra/SR/spec-1.fits", "spectra/EW/spec-2.fits.gz"
SPLIT = "splits/sub50/7"


def _edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return damage


def _cut(name: str, share: float) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(len(content) * share)])

    return damage


def _put(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(content) and None


def _remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def _copy(name: str, other: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / other).parent.mkdir(exist_ok=True)
        shutil.copy(root / name, root / other)

    return damage


def _cell(row: int, column: str, value: str) -> Callable[[Path], None]:
    """Another text in a cell of train.csv."""

    def damage(root: Path) -> None:
        with (root / TRAIN).open(newline="") as file:
            rows = list(csv.DictReader(file))
        rows[row][column] = value
        with (root / TRAIN).open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    return damage


def _fits(*units: Any) -> Callable[[Path], None]:
    return lambda root: fits.HDUList(list(units)).writeto(root / IMAGE, overwrite=True)


def _truncated_archive(root: Path) -> None:
    shutil.make_archive(str(root / "photometry"), "zip", root / "photometry")
    shutil.rmtree(root / "photometry")
    _cut("photometry.zip", 0.7)(root)


def _damaged_archive(root: Path) -> None:
    shutil.make_archive(str(root / "photometry"), "zip", root / "photometry")
    shutil.rmtree(root / "photometry")
    content = bytearray((root / "photometry.zip").read_bytes())
    with zipfile.ZipFile(root / "photometry.zip") as archive:
        start = next(i for i in archive.infolist() if i.filename.endswith(".dat")).header_offset
    content[start + 80 : start + 100] = b"\xff" * 20
    (root / "photometry.zip").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "named", "says"),
    [
        (lambda root: shutil.rmtree(root / SPLIT), SPLIT, "no such folder"),
        (lambda root: shutil.rmtree(root / "spectra"), "spectra", r"no file \*\.fits"),
        (lambda root: shutil.rmtree(root / "photometry"), "photometry.zip", "neither"),
        (_truncated_archive, "photometry.zip", "truncated"),
        (_damaged_archive, "photometry.zip", "cannot be read"),
        (_remove(f"{SPLIT}/val.csv"), "val.csv", "no such file"),
        (_put(TRAIN, b""), "train.csv", "empty"),
        (_put(TRAIN, b"\xff\xfe"), "train.csv", "UTF-8"),
        (_cut(TRAIN, 0.97), "train.csv, line 3", "truncated"),
        (_edit(TRAIN, "spec_filename", "file"), "train.csv", "lacks column 'spec_filename'"),
        (_edit(TRAIN, "target", "label"), "train.csv", "lacks column 'target'"),
        (_edit(TRAIN, "lksl_statistic", "lksl"), "train.csv", "lacks column 'lksl_statistic'"),
        (_cell(1, "w3_w4", ""), "train.csv, row 2", "'w3_w4' is missing"),
        (_cell(1, "w3_w4", "nan"), "train.csv, row 2", "'w3_w4' is missing"),
        (_cell(0, "pm", "fast"), "train.csv, row 1", "'pm' holds 'fast'"),
        (_cell(0, "target", " "), "train.csv, row 1", "'target' is empty"),
        (_cell(1, "name", "ASASSN-V J0001 A"), "astrom3", "more than once"),
        (_cell(0, "period", "-1"), "ASASSN-V J0001 A", r"period \[d\].*has to be > 0"),
        (_cell(0, "name", "V1"), "photometry", "lacks V1.dat"),
        (_remove(CURVE), "photometry", "lacks ASASSN-VJ0001A.dat"),
        (_put(CURVE, b""), "ASASSN-VJ0001A.dat", "no observations"),
        (_put(CURVE, HEADER.encode()), "ASASSN-VJ0001A.dat", "no observations"),
        (_cut(CURVE, 0.93), "ASASSN-VJ0001A.dat, line 6", "may be truncated"),
        (_edit(CURVE, HEADER, ""), "ASASSN-VJ0001A.dat, line 1", "numbers where one of the 2"),
        (_edit(CURVE, "15.5 0.02 ", ""), "ASASSN-VJ0001A.dat, line 3", "3 columns, not 5"),
        (_edit(CURVE, "10.2500", "bright"), "ASASSN-VJ0001A.dat", "not a number"),
        (_edit(CURVE, "10.2500", "nan"), "ASASSN-VJ0001A.dat", "NaN"),
        (_edit(CURVE, "0.125", "0"), "ASASSN-V J0001 A", r"flux_error \[mJy\].*has to be > 0"),
        (_remove(IMAGE), "spec-1.fits", "nor is it elsewhere"),
        (_put(IMAGE, b""), "spec-1.fits", "cannot be read"),
        (_put(IMAGE, b"not FITS" * 400), "spec-1.fits", "cannot be read"),
        (_cut(IMAGE, 0.4), "spec-1.fits", "cannot be read"),
        (_cut(TABLE, 0.6), "spec-2.fits.gz", "not a whole gzip file"),
        (_fits(fits.PrimaryHDU(np.ones((2, 9)))), "spec-1.fits", "COEFF0"),
        (_fits(fits.PrimaryHDU()), "spec-1.fits", "cannot be read"),
        (
            _fits(fits.PrimaryHDU(), fits.ImageHDU(), fits.ImageHDU()),
            "spec-1.fits",
            "3 HDUs instead of 1 or 2",
        ),
        (_fits(fits.PrimaryHDU(), fits.ImageHDU(np.ones((2, 9)))), "spec-1.fits", "LAMOST"),
        (
            _fits(
                fits.PrimaryHDU(),
                fits.BinTableHDU.from_columns(
                    [fits.Column(n, "3D", array=[[3.0, 2.0, 1.0]]) for n in "abc"]
                ),
            ),
            "spec-1.fits",
            "should increase",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
def test_broken_raw_files(
    tmp_path: Path, damage: Callable[[Path], None], named: str, says: str
) -> None:
    write_raw(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=says) as caught:
        read_everything(open_raw(tmp_path))
    assert named in str(caught.value)


def test_a_spectrum_in_two_folders_of_other_classes(tmp_path: Path) -> None:
    write_raw(tmp_path)
    _copy("spectra/EA/spec-3.fits", "spectra/M/spec-3.fits")(tmp_path)
    with pytest.raises(DataError, match=r"is there as EA/spec-3.fits and M/spec-3.fits"):
        open_raw(tmp_path)[2]
    _copy("spectra/EA/spec-3.fits", "spectra/EW/spec-3.fits")(tmp_path)
    assert open_raw(tmp_path)[2]


def test_a_broken_modality_leaves_the_others_of_use(tmp_path: Path) -> None:
    write_raw(tmp_path)
    _remove(CURVE)(tmp_path)
    good, errors = open_raw(tmp_path).parts(0)
    assert set(good) == {"spectra", "metadata"}
    assert set(errors) == {"photometry"}


def test_an_empty_cell_leaves_the_spectrum_of_use(tmp_path: Path) -> None:
    write_raw(tmp_path)
    _cell(0, "parallax", "")(tmp_path)
    dataset = open_raw(tmp_path)
    good, errors = dataset.parts(0)
    assert set(good) == {"spectra"}
    assert set(errors) == {"photometry", "metadata"}
    assert "row 1: column 'parallax' is missing" in str(errors["metadata"])
    assert not dataset.parts(1)[1]
