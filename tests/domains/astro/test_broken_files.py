"""Ways to break the structure of a file: each is an error that names it, or the right result."""

import gzip
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time

from domains.astro.datasets.folder import StarFolder
from domains.astro.datasets.osc_supernovae import OscSupernovae
from domains.astro.datasets.sdss_s82_rrlyrae import SdssS82RRLyrae
from domains.astro.preprocess.light_curve import LightCurve
from domains.astro.preprocess.spectrum import Spectrum
from shared.data.dataset import Dataset
from shared.data.prepared import PreparedDataset
from shared.errors import DataError, ZooError

TIME = np.arange(8.0)
FLUX = np.array([3.0, 1.0, 4.0, 1.5, 5.0, 9.0, 2.0, 6.0])
ERROR = np.full(8, 0.5)
WAVELENGTH = np.linspace(3800, 9100, 60)
SPECTRUM = 2 + np.sin(WAVELENGTH / 300)

Damage = Callable[[Path], object]


def curve(**columns: Any) -> Table:
    return Table({"time": TIME, "flux": FLUX, "flux_error": ERROR} | columns)


def spectrum(**columns: Any) -> Table:
    return Table({"wavelength": WAVELENGTH, "flux": SPECTRUM} | columns)


def save(table: Table, path: Path, **options: Any) -> None:
    kinds = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits"}
    table.write(path, format=kinds.get(path.suffix, "votable"), **options)


def csv_text(table: Table) -> str:
    return "\n".join(",".join(map(str, row)) for row in [table.colnames, *table]) + "\n"


CURVE, STARS = csv_text(curve()), "id,label,split,teff\ns1,a,train,5000\ns2,b,test,6000\n"


def write_folder(root: Path) -> None:
    """Two whole stars; the damage is done to the first."""
    for folder in ("photometry", "spectra"):
        (root / folder).mkdir()
    (root / "table.csv").write_text(STARS)
    for star in ("s1", "s2"):
        (root / "photometry" / f"{star}.csv").write_text(CURVE)
        (root / "spectra" / f"{star}.csv").write_text(csv_text(spectrum()))


def use_everything(dataset: Dataset) -> list[dict[str, Any]]:
    """Read, fingerprint and prepare all that a dataset has."""
    assert dataset.fingerprint
    assert dataset.splits.tolist()
    assert len(dataset.labels) == len(dataset)
    raws = [dict(dataset[i]) for i in range(len(dataset))]
    if isinstance(dataset, StarFolder):
        kinds = {"photometry": LightCurve, "spectra": Spectrum}
        prepared = PreparedDataset(dataset, {m: k(dataset.schemas[m]) for m, k in kinds.items()})
        prepared.load(range(len(dataset)))
        for row in range(len(dataset)):
            for arrays in prepared[None, row].inputs.values():
                assert all(np.isfinite(values).all() for values in arrays.values())
    return raws


def photometry(content: str | bytes | Table, name: str = "s1.csv", **options: Any) -> Damage:
    """Put this in place of the light curve of the first star."""

    def damage(root: Path) -> None:
        (root / "photometry" / "s1.csv").unlink()
        put(root / "photometry" / name, content, **options)

    return damage


def spectra(content: str | bytes | Table, name: str = "s1.csv") -> Damage:
    def damage(root: Path) -> None:
        (root / "spectra" / "s1.csv").unlink()
        put(root / "spectra" / name, content)

    return damage


def put(path: Path, content: str | bytes | Table, **options: Any) -> None:
    if isinstance(content, Table):
        save(content, path, **options)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def table(content: str | bytes) -> Damage:
    return lambda root: put(root / "table.csv", content)


def cut(path: str, content: Table, keep: float) -> Damage:
    """The first part of a file in place of the light curve of the first star."""

    def damage(root: Path) -> None:
        photometry(content, path)(root)
        target = root / "photometry" / path
        target.write_bytes(target.read_bytes()[: int(keep * target.stat().st_size)])

    return damage


def with_unit(column: str, unit: str, content: Table | None = None) -> Table:
    content = curve() if content is None else content
    content[column].unit = unit
    return content


def edited(path: str, content: Table, old: str, new: str) -> Damage:
    def damage(root: Path) -> None:
        photometry(content, path)(root)
        target = root / "photometry" / path
        text = target.read_text()
        assert old in text
        target.write_text(text.replace(old, new, 1))

    return damage


def no_permission(root: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads every file")
    (root / "photometry" / "s1.csv").chmod(0)


def instead(path: str, make: Callable[[Path], object]) -> Damage:
    def damage(root: Path) -> None:
        (root / path).unlink()
        make(root / path)

    return damage


def image_only(root: Path) -> None:
    (root / "photometry" / "s1.csv").unlink()
    fits.PrimaryHDU(np.ones((3, 3))).writeto(root / "photometry" / "s1.fits")


def line(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


NOISE = np.random.default_rng(0).bytes(3000)
TWO_D = Table({"time": TIME, "flux": np.ones((8, 2)), "flux_error": ERROR})
VOT_ELSEWHERE = """<?xml version="1.0"?><VOTABLE version="1.3"><RESOURCE><TABLE>
<FIELD name="time" datatype="double"/><DATA><BINARY><STREAM href="file:///etc/hostname"/>
</BINARY></DATA></TABLE></RESOURCE></VOTABLE>"""

ERRORS: dict[str, tuple[Damage, str]] = {
    # light curve, CSV
    "empty": (photometry(""), r"s1\.csv: is empty"),
    "blank": (photometry("\n\n"), r"s1\.csv: cannot be read as csv"),
    "header only": (photometry("time,flux,flux_error\n"), r"s1\.csv: has no rows"),
    "no header": (photometry("1,2,3\n2,3,4\n"), r"s1\.csv: lacks the column 'time'"),
    "binary": (photometry(NOISE), r"s1\.csv: cannot be read as csv"),
    "utf-16": (photometry(CURVE.encode("utf-16")), r"s1\.csv: cannot be read as csv"),
    "semicolons": (photometry(CURVE.replace(",", ";")), r"s1\.csv: lacks the column 'time'"),
    "tabs": (photometry(CURVE.replace(",", "\t")), r"s1\.csv: lacks the column 'time'"),
    "decimal commas": (photometry(CURVE.replace(".", ",")), r"s1\.csv: row 0 has 6 cells under 3"),
    "open quote": (photometry(CURVE + '8,"1,2\n9,1,2\n'), r"s1\.csv: a quote is not closed"),
    "cut row": (photometry(CURVE + "8,1\n"), r"s1\.csv: row 8 has 2 cells under 3 columns"),
    "long row": (photometry(CURVE + "8,1,2,3\n"), r"s1\.csv: row 8 has 4 cells under 3"),
    "empty cell": (photometry(CURVE + "8,,2\n"), r"s1\.csv.*'flux' is nan in row 8"),
    "nan": (photometry(CURVE + "8,nan,2\n"), r"s1\.csv.*'flux' is nan in row 8"),
    "inf": (photometry(CURVE + "8,inf,2\n"), r"s1\.csv.*'flux' is inf in row 8"),
    "overflow": (photometry(CURVE + "8,1e400,2\n"), r"s1\.csv.*'flux' is inf in row 8"),
    "text": (photometry(CURVE + "8,bright,2\n"), r"s1\.csv: column 'flux'.*'bright' in row 8"),
    "NUL": (photometry(CURVE + "8,\0,2\n"), r"s1\.csv: column 'flux'.*in row 8"),
    "negative error": (photometry(CURVE + "8,1,-2\n"), r"s1\.csv.*flux_error \[mJy\] is -2 in row"),
    "zero error": (photometry(CURVE + "8,1,0\n"), r"s1\.csv.*flux_error \[mJy\] is 0 in row 8"),
    "two columns": (
        photometry(CURVE.replace("flux_error", "flux")),
        r"s1\.csv: has several columns 'flux'",
    ),
    "no error": (photometry("time,flux\n1,2\n"), r"s1\.csv: lacks the column 'flux_error'"),
    "one row": (photometry("time,flux,flux_error\n1,2,3\n"), r"'s1'.*it has one observation"),
    "constant": (photometry(curve(flux=np.ones(8))), r"'s1'.*fluxes are equal"),
    "one time": (photometry(curve(time=np.ones(8))), r"'s1'.*all times are equal"),
    "MAD 0": (
        photometry(curve(flux=[1.0, 1, 1, 1, 1, 1, 2, 3])),
        r"'s1'.*more than half of the fluxes are equal",
    ),
    # light curve, other formats
    "ecsv header": (cut("s1.ecsv", curve(), 0.2), r"s1\.ecsv: cannot be read as ecsv"),
    "ecsv empty": (photometry("", "s1.ecsv"), r"s1\.ecsv: is empty"),
    "ecsv of csv": (photometry(CURVE, "s1.ecsv"), r"s1\.ecsv: cannot be read as ecsv"),
    "ecsv yaml": (
        edited("s1.ecsv", curve(), "name: flux,", "name: [flux,"),
        r"s1\.ecsv: cannot be read as ecsv",
    ),
    "ecsv code": (
        edited("s1.ecsv", curve(), "name: flux,", "name: !!python/object/apply:os.getcwd [],"),
        r"s1\.ecsv: cannot be read as ecsv",
    ),
    "ecsv complex": (
        photometry(curve(flux=FLUX + 0j), "s1.ecsv"),
        r"s1\.ecsv: column 'flux' holds complex",
    ),
    "ecsv Time": (
        photometry(curve(time=Time(TIME + 58000, format="mjd")), "s1.ecsv"),
        r"s1\.ecsv: column 'time' is an astropy Time",
    ),
    "fits empty": (photometry(b"", "s1.fits"), r"s1\.fits: is empty"),
    "fits noise": (photometry(NOISE, "s1.fits"), r"s1\.fits: cannot be read as fits"),
    "fits header cut": (cut("s1.fits", curve(), 0.3), r"s1\.fits: cannot be read as fits"),
    "fits rows cut": (cut("s1.fits", curve(), 0.67), r"s1\.fits: cannot be read as fits"),
    "fits image": (image_only, r"s1\.fits: cannot be read as fits"),
    "fits 2-D": (photometry(TWO_D, "s1.fits"), r"s1\.fits: column 'flux' has several values"),
    "fits complex": (
        photometry(curve(flux=FLUX + 0j), "s1.fits"),
        r"s1\.fits: column 'flux' holds complex",
    ),
    "fits masked": (
        photometry(curve(flux=MaskedColumn(FLUX, mask=TIME == 2)), "s1.fits"),
        r"s1\.fits.*'flux' is nan in row 2",
    ),
    "fits no rows": (photometry(curve()[:0], "s1.fits"), r"s1\.fits: has no rows"),
    "vot empty": (photometry(b"", "s1.vot"), r"s1\.vot: is empty"),
    "vot cut": (cut("s1.vot", curve(), 0.6), r"s1\.vot: cannot be read as vot"),
    "vot noise": (photometry(NOISE, "s1.vot"), r"s1\.vot: cannot be read as vot"),
    "vot text": (
        edited("s1.vot", curve(), "<TD>9</TD>", "<TD>nine</TD>"),
        r"s1\.vot: cannot be read as vot",
    ),
    "vot elsewhere": (photometry(VOT_ELSEWHERE, "s1.vot"), r"s1\.vot.*another file"),
    "unit of length": (photometry(with_unit("flux", "km"), "s1.ecsv"), r"column 'flux' is in 'km'"),
    "unit unknown": (
        edited("s1.ecsv", with_unit("flux", "Jy"), "unit: Jy", "unit: counts_of_mine"),
        r"s1\.ecsv: column 'flux' is in 'counts_of_mine'",
    ),
    "magnitude as flux": (
        photometry(with_unit("flux", "mag"), "s1.fits"),
        r"s1\.fits: column 'flux' is in 'mag'",
    ),
    # the file itself
    "gz": (photometry(gzip.compress(CURVE.encode()), "s1.csv.gz"), r"s1\.csv\.gz.*unpack"),
    "suffix": (photometry(CURVE, "s1.txt"), r"s1\.txt: the format is none of"),
    "folder": (instead("photometry/s1.csv", Path.mkdir), r"s1\.csv: cannot be read"),
    "loop": (
        instead("photometry/s1.csv", lambda p: p.symlink_to(p)),
        r"s1\.csv: (no such|cannot be read)",
    ),
    "dangling": (instead("photometry/s1.csv", lambda p: p.symlink_to("x")), r"s1\.csv: no such"),
    "no permission": (no_permission, r"s1\.csv: cannot be read"),
    # spectrum
    "spectrum short": (
        spectra(spectrum()[:9]),
        r"'s1'.*cover \d+% of the grid",
    ),
    "spectrum in nm": (
        spectra(spectrum(wavelength=WAVELENGTH / 10)),
        r"'s1'.*380 to 910 Angstrom",
    ),
    "wavelength 0": (spectra(spectrum(wavelength=WAVELENGTH - 3800)), r"s1\.csv.*wavelength"),
    "wavelength < 0": (spectra(spectrum(wavelength=-WAVELENGTH)), r"s1\.csv.*wavelength"),
    "wavelength in s": (
        spectra(with_unit("wavelength", "s", spectrum()), "s1.ecsv"),
        r"s1\.ecsv: column 'wavelength' is in 's'",
    ),
    "spectrum flat": (spectra(spectrum(flux=np.ones(60))), r"'s1'.*flux is the same"),
    "spectrum inf": (spectra(spectrum(flux=SPECTRUM * np.inf)), r"s1\.csv.*'flux' is inf in row 0"),
    # table
    "no table": (lambda root: (root / "table.csv").unlink(), r"table\.csv: no such file"),
    "table empty": (table(""), r"table\.csv: is empty"),
    "table header": (table("id,label\n"), r"table\.csv: has no rows"),
    "table binary": (table(NOISE), r"table\.csv: cannot be read"),
    "no id": (table(STARS.replace("id", "star")), r"table\.csv: lacks the column 'id'"),
    "id empty": (table(STARS + ",a,train,1\n"), r"table\.csv: the id '' in row 2"),
    "id slash": (table(STARS.replace("s1", "../s1")), r"table\.csv: the id '\.\./s1' in row 0"),
    "id twice": (table(STARS.replace("s2", "s1")), r"'s1' stands more than once"),
    "ids of others": (table(STARS.replace("s", "t")), r"photometry: no file is named"),
    "split typo": (table(STARS.replace("test", "tset")), r"table\.csv: split of star 's2'.*tset"),
    "text column": (table(STARS.replace("6000", "hot")), r"table\.csv: column 'teff'.*'hot' in"),
    "column inf": (table(STARS.replace("6000", "inf")), r"s2.*channel 'teff' is inf"),
    "column twice": (table(STARS.replace("split", "label")), r"table\.csv: has several.*'label'"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_broken(tmp_path: Path, case: str) -> None:
    write_folder(tmp_path)
    damage, says = ERRORS[case]
    damage(tmp_path)
    with pytest.raises(DataError, match=says):
        use_everything(StarFolder(str(tmp_path)))


SHUFFLED = np.random.default_rng(1).permutation(8)
UNITS = curve()
UNITS["time"] = UNITS["time"] * 24
UNITS["flux"], UNITS["flux_error"] = UNITS["flux"] * 1000, UNITS["flux_error"] * 1000
for _column, _unit in (("time", "h"), ("flux", "uJy"), ("flux_error", "uJy")):
    UNITS[_column].unit = _unit
BIG_ENDIAN = Table({name: curve()[name].astype(">f4") for name in curve().colnames})
QUANTITIES = QTable({name: column.quantity for name, column in UNITS.items()})

SAME_CURVE: dict[str, Damage] = {
    "BOM": photometry(b"\xef\xbb\xbf" + CURVE.encode()),
    "CRLF": photometry(CURVE.replace("\n", "\r\n")),
    "old Mac": photometry(CURVE.replace("\n", "\r")),
    "no last newline": photometry(CURVE.rstrip()),
    "spaces": photometry(CURVE.replace(",", " , ")),
    "quoted": photometry('"' + CURVE.rstrip().replace(",", '","').replace("\n", '"\n"') + '"\n'),
    "blank lines": photometry(CURVE.replace("\n", "\n\n")),
    "order of columns": photometry(curve()["flux_error", "time", "flux"]),
    "further columns": photometry(curve(airmass=ERROR, note=["x"] * 8)),
    "unsorted": photometry(curve()[SHUFFLED]),
    "duplicate rows": photometry(CURVE + CURVE.split("\n")[3] + "\n"),
    "suffix in capitals": photometry(CURVE, "s1.CSV"),
    "symbolic link": instead("photometry/s1.csv", lambda p: p.symlink_to(p.with_stem("s2"))),
    "big-endian": photometry(BIG_ENDIAN, "s1.fits"),
    "VOTable": photometry(UNITS, "s1.vot"),
    "binary VOTable": photometry(UNITS, "s1.votable", tabledata_format="binary2"),
    "ECSV units": photometry(UNITS, "s1.ecsv"),
    "FITS units": photometry(UNITS, "s1.fits"),
    "quantities": photometry(QUANTITIES, "s1.ecsv"),
}


@pytest.mark.parametrize("case", SAME_CURVE)
def test_another_form_of_the_same_light_curve(tmp_path: Path, case: str) -> None:
    write_folder(tmp_path)
    dataset = StarFolder(str(tmp_path))
    prepare = LightCurve(dataset.schemas["photometry"])
    expected = prepare(dataset[0]["photometry"])
    SAME_CURVE[case](tmp_path)
    (raw, _) = use_everything(StarFolder(str(tmp_path)))
    for name, values in prepare(raw["photometry"]).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-6)


def test_two_measurements_at_one_time_both_count(tmp_path: Path) -> None:
    write_folder(tmp_path)
    photometry(CURVE + "3.0,7.0,0.5\n")(tmp_path)
    dataset = StarFolder(str(tmp_path))
    prepared = LightCurve(dataset.schemas["photometry"])(dataset[0]["photometry"])
    assert prepared["time"].tolist() == [0, 1, 2, 3, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (spectrum()[::-1], "s1.csv"),
        (with_unit("wavelength", "nm", spectrum(wavelength=WAVELENGTH / 10)), "s1.ecsv"),
        (with_unit("wavelength", "um", spectrum(wavelength=WAVELENGTH / 1e4)), "s1.fits"),
    ],
    ids=["descending", "nm", "um"],
)
def test_another_form_of_the_same_spectrum(tmp_path: Path, content: Table, name: str) -> None:
    write_folder(tmp_path)
    spectra(content, name)(tmp_path)
    first, second = use_everything(StarFolder(str(tmp_path)))
    order = np.argsort(first["spectra"][:, 0])
    np.testing.assert_allclose(first["spectra"][order], second["spectra"], rtol=1e-12)


def test_tables_that_are_right(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for folder, suffix in (("photometry", "é"), ("spectra", "é")):
        (tmp_path / folder / "s1.csv").rename(tmp_path / folder / f"{suffix}.csv")
    # an accent, a byte order mark, a cell without a label, one without a number
    text = STARS.replace("s1,a", "é,").replace("6000", "")
    (tmp_path / "table.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    dataset = StarFolder(str(tmp_path))
    raws = use_everything(dataset)
    assert dataset.ids.tolist() == ["é", "s2"]
    assert dataset.labels.tolist() == [-1, 0]
    assert all(set(raw) == {"photometry", "spectra", "metadata"} for raw in raws)
    assert np.isnan(raws[1]["metadata"][0])


# ---------------------------------------------------------------- the published sets


SDSS_CURVE = "time,mag,magerr,band\n" + "".join(f"{i},{15 + i / 9},0.1,g\n" for i in range(9))


def write_sdss(root: Path, content: bytes) -> Path:
    (root / "periods.csv").write_text("Num,Type,Per\n11,ab,0.3\n")
    names = ["Num", "Type", "Per", *[f"A{b}" for b in "ugriz"], *[f"{b}mag" for b in "ugriz"]]
    head = "Byte-by-byte Description of file: x.txt\n" + "-" * 60 + "\n"
    head += "   Bytes Format Units Label Explanations\n" + "-" * 60 + "\n"
    for i, name in enumerate(names):
        kind = {"Num": "I8", "Type": "A8"}.get(name, "F8.3")
        head += f"{1 + 9 * i:4d}-{8 + 9 * i:4d} {kind:>6s} --- {name} x\n"
    cells = ["11", "ab", *["0.300"] * 11]
    row = " ".join(f"{cell:>8s}" for cell in cells)
    (root / "apj326724t2.txt").write_text(head + "-" * 60 + "\n" + row + "\n")
    (root / "light-curves").mkdir()
    (root / "light-curves" / "11.csv").write_bytes(content)
    return root / "apj326724t2.txt"


def write_osc(root: Path, content: bytes) -> None:
    (root / "events").mkdir()
    (root / "events" / "SN1.json").write_bytes(content)


def event(**more: Any) -> bytes:
    rows = [
        {"time": str(i), "band": "B", "magnitude": str(15 + i / 9), "e_magnitude": "0.1"}
        for i in range(9)
    ]
    return json.dumps(
        {"SN1": {"claimedtype": [{"value": "Ia"}], "photometry": rows} | more}
    ).encode()


def points(**row: Any) -> list[dict[str, Any]]:
    given = {"band": "B", "e_magnitude": "1"}
    return [{"time": str(i), "magnitude": str(15 + i / 9)} | given | row for i in range(9)]


def test_the_published_sets_written_here_are_whole(tmp_path: Path) -> None:
    write_sdss(tmp_path, SDSS_CURVE.encode())
    assert len(use_everything(SdssS82RRLyrae(str(tmp_path)))[0]["photometry"]) == 9
    write_osc(tmp_path, event())
    assert len(use_everything(OscSupernovae(str(tmp_path), ["Ia"]))[0]["photometry"]) == 9


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        NOISE,
        b"time,mag\n1,2\n",
        SDSS_CURVE.replace(",", ";").encode(),
        (SDSS_CURVE + '3,"15.0,0.1,g\n').encode(),
        (SDSS_CURVE + "3,15.0\n").encode(),
        (SDSS_CURVE + "3,1e400,0.1,g\n").encode(),
        (SDSS_CURVE + "3,15,-0.1,g\n").encode(),
        (SDSS_CURVE + "3,bright,0.1,g\n").encode(),
        (SDSS_CURVE + "3," + "9" * 200_000 + ",0.1,g\n").encode(),
        (SDSS_CURVE + "3,\0,0.1,g\n").encode(),
    ],
    ids=lambda content: repr(content[-14:]),
)
def test_broken_light_curves_of_sdss(tmp_path: Path, content: bytes) -> None:
    write_sdss(tmp_path, content)
    with pytest.raises(DataError, match=r"11\.csv|sample '11'"):
        use_everything(SdssS82RRLyrae(str(tmp_path)))


@pytest.mark.parametrize("share", np.linspace(0.02, 0.98, 13).round(2))
def test_a_table_of_sdss_cut_anywhere(tmp_path: Path, share: float) -> None:
    path = write_sdss(tmp_path, SDSS_CURVE.encode())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"apj326724t2\.txt"):
        use_everything(SdssS82RRLyrae(str(tmp_path)))


@pytest.mark.parametrize(
    "content",
    [
        NOISE,
        b"[" * 200_000,
        b"[]",
        b"null",
        event()[:-20],
        event(claimedtype=[1]),
        event(claimedtype="Ia")[:-1] + b',"SN2":{}}',
        event(photometry={"time": 1}),
        event(photometry=[[1, 2]]),
        event(photometry=points(time=None)),
        event(photometry=points(time=[])),
        event(photometry=points(magnitude="nan")),
        event(photometry=points(magnitude=10**400)),
        event(photometry=points(e_magnitude="small")),
        event(photometry=points(band=["B"])),
        event(spectra=[{"u_wavelengths": "Angstrom", "data": 5}]),
        event(spectra=[{"u_wavelengths": "Angstrom", "data": [["4000"], ["5000"]]}]),
        event(spectra=[{"u_wavelengths": "Angstrom", "data": [["y", "1"], ["x", "1"]]}]),
        event(spectra=[{"u_wavelengths": "Angstrom", "data": "4000 1"}]),
        event(redshift=[{"value": "1e400"}]),
        event(redshift=[{}]),
        event(ra=[{"value": "25:99:99"}]),
        event(dec=[{"value": "+95:00:00"}]),
    ],
    ids=lambda content: repr(content[-24:]),
)
@pytest.mark.filterwarnings("ignore")
def test_broken_events(tmp_path: Path, content: bytes) -> None:
    write_osc(tmp_path, content)
    with pytest.raises(ZooError, match=r"SN1"):
        use_everything(OscSupernovae(str(tmp_path), ["Ia"]))


def rezip(root: Path, **options: Any) -> Path:
    path = root / "events.zip"
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("events/SN1.json", event())
    return path


def test_an_archive_cut_anywhere(tmp_path: Path) -> None:
    path = rezip(tmp_path, compression=zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"events\.zip"):
            use_everything(OscSupernovae(str(tmp_path), ["Ia"]))


def test_an_archive_with_any_byte_changed(tmp_path: Path) -> None:
    """The check sums find it, or what was changed is not what is read."""
    path = rezip(tmp_path, compression=zipfile.ZIP_DEFLATED)
    expected = use_everything(OscSupernovae(str(tmp_path), ["Ia"]))[0]["photometry"]
    content = bytearray(path.read_bytes())
    for position in range(0, len(content), 3):
        damaged = content.copy()
        damaged[position] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            (raw,) = use_everything(OscSupernovae(str(tmp_path), ["Ia"]))
        except DataError as error:
            named = "events.zip" in str(error)
        else:
            named = np.array_equal(raw["photometry"], expected)
        assert named, position
