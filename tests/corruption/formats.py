"""A small whole file of every format that is read, with made-up values, and how it is read."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import Table
from PIL import Image
from rasterio import Affine
from rasterio.io import MemoryFile

from domains.astro.datasets.astrom3 import AstroM3
from domains.astro.datasets.astrom3_processed import AstroM3Processed
from domains.astro.datasets.folder import StarFolder
from domains.astro.datasets.osc_supernovae import OscSupernovae
from domains.astro.datasets.sdss_s82_rrlyrae import SdssS82RRLyrae
from domains.astro.datasets.snid import SnidSupernovaSpectra
from domains.astro.schemas import META_COLUMNS, PHOTO_COLUMNS
from domains.remote_sensing.datasets.geotiff_folder import GeotiffFolder
from shared.data.dataset import Dataset
from shared.data.generic import ImageFolder, TextTable
from shared.evaluation.embeddings.embedding_files import load_embeddings, save_embeddings
from shared.evaluation.embeddings.embedding_set import EmbeddingSet

Content = dict[str, np.ndarray]
"""All that was read, by modality or column."""

RNG = np.random.default_rng(0)
TIME = np.arange(12.0) + 0.25
FLUX = np.round(5 + RNG.normal(size=12), 4)
ERROR = np.round(RNG.uniform(0.1, 0.2, 12), 4)
WAVELENGTH = 3700.0 + 2 * np.arange(2700)
SPLIT = "splits/full/42"
FITS_VALUES = (-2880, 12 * 3 * 8 - 2880)
"""The last block of a table of twelve rows of three numbers; zeros fill it up."""


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: As it stands in the table.
        path: Of the file that is damaged, below the root.
        content: The whole file.
        read: Root → all that is read of the damaged file.
        others: Whole files beside it.
        text: Whether it is made of lines.
        summed: Whether check sums cover all of it that is read.
        counted: Whether it states how many rows it has.
        filled: Whether it ends in zeros that can be taken for rows, if it states more.
        rows_a_line: Rows of the result that a line of text can hold.
        optional: Whether a part may be absent in a whole file.
        aims: Texts of its structure, at which damage is aimed.
        values: Where numbers stand, if they are a small part of the file; aimed at, too.
    """

    name: str
    path: str
    content: bytes
    read: Callable[[Path], Content]
    others: Mapping[str, bytes] = field(default_factory=dict)
    text: bool = False
    summed: bool = False
    counted: bool = False
    filled: bool = False
    rows_a_line: int = 1
    optional: bool = False
    aims: tuple[bytes, ...] = ()
    values: tuple[int, int] = (0, 0)

    def write(self, root: Path) -> None:
        for name, content in {**self.others, self.path: self.content}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)


def _sample(dataset: Dataset, index: int = 0) -> Content:
    """One sample, with what the table says of it."""
    assert dataset.fingerprint
    raw = {m: np.asarray(value) for m, value in dataset[index].items()}
    label = dataset.labels[index]
    about = [str(dataset.ids[index]), dataset.classes[label] if label >= 0 else ""]
    if dataset.table.splits is not None:
        about.append(str(dataset.splits[index]))
    return {**raw, "about": np.array(about)}


def _all(dataset: Dataset) -> Content:
    """Every sample of a dataset that is one file."""
    samples = [_sample(dataset, index) for index in range(len(dataset))]
    return {key: np.array([sample[key] for sample in samples]) for key in samples[0]}


def _stars(root: Path) -> Content:
    return _sample(StarFolder(str(root)))


def _star_table(root: Path) -> Content:
    dataset = StarFolder(str(root))
    rows = [dataset[index] for index in range(len(dataset))]
    about = [_sample(dataset, index)["about"] for index in range(len(dataset))]
    return {"metadata": np.array([row["metadata"] for row in rows]), "about": np.array(about)}


def _csv(columns: Mapping[str, Any]) -> bytes:
    rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values()))]  # noqa: B905
    return ("\n".join(rows) + "\n").encode()


def _table(format: str, **options: Any) -> bytes:
    table = Table({"time": TIME, "flux": FLUX, "flux_error": ERROR})
    table["flux"].unit = table["flux_error"].unit = "Jy"
    file = io.BytesIO()
    if format == "ascii.ecsv":
        text = io.StringIO()
        table.write(text, format=format)
        return text.getvalue().encode()
    if format == "fits":
        unit = fits.BinTableHDU(table)
        fits.HDUList([fits.PrimaryHDU(), unit]).writeto(file, **options)
        return file.getvalue()
    table.write(file, format=format, **options)
    return file.getvalue()


CURVE = _csv({"time": TIME, "flux": FLUX, "flux_error": ERROR})
STARS = b"id,label,split,teff\ns1,a,train,5000.5\ns2,b,val,6000.25\ns3,a,test,7000.75\n"


def _star_files(suffix: str, content: bytes, **options: Any) -> Format:
    beside = {"table.csv": STARS} | {f"photometry/s{i}.csv": CURVE for i in (2, 3)}
    name = options.pop("name")
    return Format(name, f"photometry/s1{suffix}", content, _stars, beside, **options)


def _lamost(**options: Any) -> bytes:
    flux = RNG.normal(5, 1, 400).astype(np.float32)
    unit = fits.PrimaryHDU(np.stack([flux, np.ones(400, np.float32), np.zeros(400, np.float32)]))
    unit.header["COEFF0"], unit.header["COEFF1"] = 3.5682, 0.001
    file = io.BytesIO()
    unit.writeto(file, **options)
    return file.getvalue()


def _astrom3(damaged: str, name: str, content: bytes, key: str, **options: Any) -> Format:
    numbers = {n: [0.5 + i / 64] for i, n in enumerate((*PHOTO_COLUMNS, *META_COLUMNS))}
    rows = [f"{2457000.123456 + i:.6f} 15.5 0.02 {f:.4f} 0.125" for i, f in enumerate(FLUX)]
    dat = "### made up\n     HJD        MAG  MAG_ERR   FLUX  FLUX_ERR\n" + "\n".join(rows) + "\n"
    files = {"photometry/A1.dat": dat.encode(), "spectra/EW/spec-1.fits": _lamost()}
    for split in ("train", "val", "test"):
        columns = {"name": [f"A 1{split}"], "spec_filename": ["spec-1.fits"], "target": ["EW"]}
        if split == "train":
            columns["name"] = ["A 1"]
        files[f"{SPLIT}/{split}.csv"] = _csv(columns | numbers)
    if damaged.endswith(".gz"):
        del files["spectra/EW/spec-1.fits"]
    if damaged == "photometry.zip":
        content = _zip({"photometry/A1.dat": files.pop("photometry/A1.dat")})
    content = content or files[damaged]
    files.pop(damaged, None)

    def read(root: Path) -> Content:
        sample = _sample(AstroM3(str(root)))
        return {key: sample[key], "about": sample["about"]} if key else sample

    return Format(name, damaged, content, read, files, **options)


def _zip(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _supernova() -> bytes:
    rows = [
        {"time": str(50000 + i), "band": "B", "magnitude": str(15 + i / 9), "e_magnitude": "0.1"}
        for i in range(9)
    ]
    data = [[str(w), str(round(1 + np.sin(w / 300), 4))] for w in range(3850, 9100, 150)]
    values = {"redshift": [{"value": "0.01"}], "ra": [{"value": "01:02:03"}]}
    event = {"claimedtype": [{"value": "Ia"}], "photometry": rows, **values}
    spectra = {"spectra": [{"u_wavelengths": "Angstrom", "data": data}]}
    return json.dumps({"SN1": event | spectra}, indent=1).encode()


def _osc(root: Path) -> Content:
    return _sample(OscSupernovae(str(root), ["Ia"]))


def _sdss(damaged: str, name: str) -> Format:
    names = ["Num", "Type", "Per", *[f"A{b}" for b in "ugriz"], *[f"{b}mag" for b in "ugriz"]]
    head = "Byte-by-byte Description of file: x.txt\n" + "-" * 60 + "\n"
    head += "   Bytes Format Units Label Explanations\n" + "-" * 60 + "\n"
    for i, column in enumerate(names):
        kind = {"Num": "I8", "Type": "A8"}.get(column, "F8.3")
        head += f"{1 + 9 * i:4d}-{8 + 9 * i:4d} {kind:>6s} --- {column} x\n"
    stars = [" ".join(f"{c:>8s}" for c in (n, "ab", *["0.300"] * 11)) for n in ("11", "12")]
    curve = {"time": TIME, "mag": FLUX + 10, "magerr": ERROR, "band": ["g"] * 12}
    files = {
        "periods.csv": b"Num,Type,Per\n11,ab,0.3\n12,c,0.3\n",
        "apj326724t2.txt": (head + "-" * 60 + "\n" + "\n".join(stars) + "\n").encode(),
        "light-curves/11.csv": _csv(curve),
        "light-curves/12.csv": _csv(curve),
    }
    content = files.pop(damaged)
    read = lambda root: _sample(SdssS82RRLyrae(str(root)))  # noqa: E731
    return Format(name, damaged, content, read, files, text=True, aims=(b"Bytes", b"-", b"Num"))


def _snid() -> bytes:
    bins, ages = 40, (-2.5, 0.0, 7.5)
    flux = RNG.normal(size=(bins, len(ages))).round(3)
    lines = [f"    3   {bins}   2500.00  10000.00      7  sn1999aa    0.87  Ia-norm   1  1"]
    lines += ["  2  " + " 5  1.0" * 3, " 1 2.0 3.0 2.0 3.0 2.0 3.0", " 2 4.0 5.0 4.0 5.0 4.0 5.0"]
    lines.append("  0   " + "  ".join(f"{age:.3f}" for age in ages))
    for wavelength, row in zip(np.linspace(3500, 9500, bins), flux, strict=True):
        lines.append(f"{wavelength:9.2f}  " + "  ".join(f"{v:.3f}" for v in row))
    return ("\n".join(lines) + "\n").encode()


def _image(format: str, **options: Any) -> bytes:
    grid = np.add.outer(np.arange(24), np.arange(32))
    pixels = np.stack([grid * 4, 255 - grid * 4, grid * 2], -1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def _image_file(name: str, content: bytes, suffix: str, **options: Any) -> Format:
    others = {f"b/{i}.png": _image("PNG") for i in range(2)}
    read = lambda root: {"image": ImageFolder(str(root))[0]["image"]}  # noqa: E731
    return Format(name, f"a/1{suffix}", content, read, others, **{"counted": True, **options})


def _geotiff(**options: Any) -> bytes:
    stored = (np.arange(3 * 24 * 32).reshape(3, 24, 32) * 4).astype(np.int16)
    size = {"width": 32, "height": 24, "count": 3, "dtype": "int16", "nodata": 4}
    place = {"crs": "EPSG:32631", "transform": Affine(10, 0, 5e5, 0, -10, 5e6)}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", **size, **place, **options) as file:
            file.write(stored)
            for number, name in enumerate(("green", "red", "nir"), start=1):
                file.set_band_description(number, name)
        return bytes(memory.read())


def _geotiff_file(name: str, **options: Any) -> Format:
    others = {f"b/{i}.tif": _geotiff() for i in range(2)}
    read = lambda root: {"image": GeotiffFolder(str(root), unit="")[0]["image"]}  # noqa: E731
    aims = (b"II*\0", b"\x00\x01", b"\x01\x01", b"\x11\x01", b"\x17\x01", b"<GDALMetadata>")
    return Format(name, "a/1.tif", _geotiff(**options), read, others, aims=aims)


def _processed(**options: Any) -> bytes:
    nested = pa.list_(pa.list_(pa.float32()))
    rows = range(3)
    columns = {
        "photometry": pa.array([np.abs(RNG.normal(size=(4, 9))).tolist() for _ in rows], nested),
        "spectra": pa.array([np.abs(RNG.normal(size=(3, 40))).tolist() for _ in rows], nested),
        "metadata": pa.array([RNG.normal(size=34).tolist() for _ in rows], pa.list_(pa.float32())),
        "label": pa.array([0, 1, 0]),
    }
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def _embeddings(root: Path, suffix: str) -> Content:
    got = load_embeddings(root / f"e{suffix}")
    names = np.array([*got.classes, ""])[got.labels]
    vectors = {f"vectors.{m}": v for m, v in got.vectors.items()}
    about = {"ids": got.ids, "names": names, "splits": got.splits, "groups": got.groups}
    return {**vectors, **about, **{f"present.{m}": p for m, p in got.present.items()}}


def _embedding_file(suffix: str, folder: Path, **options: Any) -> Format:
    n = 20
    ids = np.array([f"star{i}" for i in range(n)])
    embeddings = EmbeddingSet(
        ids=ids,
        vectors={"a": RNG.normal(size=(n, 6)).astype(np.float32)},
        present={"a": np.ones(n, bool)},
        labels=np.arange(n) % 3,
        classes=("x", "y", "z"),
        splits=np.array(["train", "val", "test", "train"] * 5),
        groups=ids,
        dataset="d",
        model="m",
        synthetic=True,
        fingerprint="f" * 16,
    )
    path = folder / f"e{suffix}"
    save_embeddings(embeddings, path)
    read = lambda root: _embeddings(root, suffix)  # noqa: E731
    return Format(f"embeddings {suffix}", path.name, path.read_bytes(), read, **options)


DATA = tuple(v.astype(">f8").tobytes() for v in FLUX)
CARDS = (
    *DATA,
    b"NAXIS",
    b"BITPIX",
    b"TFORM",
    b"TTYPE",
    b"TUNIT",
    b"PCOUNT",
    b"XTENSION",
    b"COEFF",
    b"END",
)
DIRECTORY = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06")


def make_formats(folder: Path) -> dict[str, Format]:
    """Every format by name.

    Args:
        folder: An empty one, to write in.
    """
    from caption_formats import caption_formats  # built on this module

    text: dict[str, Any] = {"text": True}
    table = {**text, "aims": (b"time", b"flux", b",", b"\n")}
    vot = {**text, "aims": (b"<FIELD", b"datatype", b"<TR", b"</TD", b"unit", b"STREAM", b"BINARY")}
    binary = _table("votable", tabledata_format="binary2")
    processed = {f"{s}.parquet": _processed() for s in ("validation", "test")}
    parquet = {"counted": True, "aims": (b"PAR1", b"schema", b"photometry", b"label", b"list")}
    read_processed = lambda root: _sample(AstroM3Processed(str(root)))  # noqa: E731
    supernova, others = _supernova(), {"events/SN2.json": _supernova().replace(b"SN1", b"SN2")}
    templates = {f"templates/sn1999b{c}.lnw": _snid() for c in "abc"}
    read_snid = lambda root: _sample(SnidSupernovaSpectra(str(root)))  # noqa: E731
    read_texts = lambda root: _all(TextTable(str(root / "t.csv"), id="id"))  # noqa: E731
    texts = b"id,text,label\n" + b"".join(
        b'%d,"text, %d",%c\n' % (i, i, 97 + i % 2) for i in range(9)
    )
    fits_table: dict[str, Any] = {"counted": True, "filled": True, "aims": CARDS}
    formats = [
        _star_files(".csv", CURVE, name="CSV, a star", **table),
        _star_files(".ecsv", _table("ascii.ecsv"), name="ECSV", **table),
        _star_files(".fits", _table("fits"), name="FITS table", values=FITS_VALUES, **fits_table),
        _star_files(
            ".fits",
            _table("fits", checksum=True),
            name="FITS table with CHECKSUM",
            values=FITS_VALUES,
            summed=True,
            counted=True,
            aims=(*CARDS, b"CHECKSUM", b"DATASUM"),
        ),
        _star_files(".vot", _table("votable"), name="VOTable", **vot),
        _star_files(".vot", binary, name="VOTable, BINARY2", rows_a_line=3, **vot),
        Format(
            "CSV, the table of stars",
            "table.csv",
            STARS,
            _star_table,
            {f"photometry/s{i}.csv": CURVE for i in (1, 2, 3)},
            text=True,
            optional=True,
            aims=(b"id", b"label", b",", b"\n"),
        ),
        _astrom3("spectra/EW/spec-1.fits", "FITS image (LAMOST)", b"", "spectra", **fits_table),
        _astrom3(
            "spectra/EW/spec-1.fits.gz",
            "FITS image, gzip",
            gzip.compress(_lamost(), mtime=0),
            "spectra",
            summed=True,
            counted=True,
            aims=(b"\x1f\x8b",),
        ),
        _astrom3(f"{SPLIT}/train.csv", "CSV of AstroM3", b"", "", **table),
        _astrom3("photometry/A1.dat", "ASAS-SN .dat", b"", "photometry", **table),
        _astrom3("photometry.zip", "zip", b"", "photometry", summed=True, aims=DIRECTORY),
        Format(
            "Parquet",
            "train.parquet",
            _processed(),
            read_processed,
            processed,
            **parquet,
        ),
        Format(
            "Parquet with page checksums",
            "train.parquet",
            _processed(write_page_checksum=True),
            read_processed,
            processed,
            **parquet,
        ),
        Format(
            "JSON (Open Supernova Catalog)",
            "events/SN1.json",
            supernova,
            _osc,
            others,
            text=True,
            optional=True,
            aims=(b"photometry", b'"data"', b"band", b"{", b"["),
        ),
        _sdss("light-curves/11.csv", "CSV of SDSS"),
        _sdss("periods.csv", "CSV of SDSS, types"),
        _sdss("apj326724t2.txt", "machine-readable table (MRT)"),
        Format(
            "SNID .lnw",
            "templates/sn1999aa.lnw",
            _snid(),
            read_snid,
            templates,
            text=True,
            counted=True,
            aims=(b"    3 ", b"\n  2 ", b"\n  0 ", b"\n"),
        ),
        _image_file("PNG", _image("PNG"), ".png", summed=True, aims=(b"IHDR", b"IDAT", b"IEND")),
        _image_file(
            "JPEG",
            _image("JPEG"),
            ".jpg",
            counted=False,
            aims=(b"\xff\xc0", b"\xff\xc4", b"\xff\xda"),
        ),
        _image_file("TIFF", _image("TIFF"), ".tif", aims=(b"II*\0", b"\x00\x01", b"\x01\x01")),
        _image_file(
            "WebP", _image("WEBP", lossless=True), ".webp", counted=False, aims=(b"RIFF", b"VP8")
        ),
        _image_file("BMP", _image("BMP"), ".bmp", aims=(b"BM", b"\x28\0\0\0")),
        _geotiff_file("GeoTIFF"),
        _geotiff_file(
            "GeoTIFF, tiled and deflated",
            compress="deflate",
            tiled=True,
            blockysize=16,
            blockxsize=16,
        ),
        Format("CSV of texts", "t.csv", texts, read_texts, **{**text, "aims": (b"id", b'"', b",")}),
        *caption_formats(),
        _embedding_file(
            ".npz", folder, summed=True, aims=(*DIRECTORY, b"NUMPY", b"shape", b"descr")
        ),
        _embedding_file(".parquet", folder, counted=True, aims=(b"PAR1", b"schema", b"embedding")),
    ]
    return {format.name: format for format in formats}
