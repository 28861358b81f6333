"""Files that unpack to gigabytes, never end, or lead elsewhere: refused by name, and soon."""

import gzip
import io
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import time_limit
from formats import CURVE, STARS, Format, make_formats
from PIL import Image

from domains.astro.datasets.folder import StarFolder
from shared.data.generic import ImageFolder
from shared.errors import ZooError
from shared.untrusted import LARGEST

MOST = 400 * 2**20
"""Bytes that Python may hold at once while a trap is read: `ALWAYS_FINE`, and some."""
ZEROS = 2**24

Trap = Callable[[Path, bytes], object]


def put(content: bytes) -> Trap:
    return lambda path, whole: path.write_bytes(content)


def pipe(path: Path, whole: bytes) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path, whole: bytes) -> None:
    path.unlink()
    path.mkdir()


def endless(path: Path, whole: bytes) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def link_out(path: Path, whole: bytes) -> None:
    """To a whole file outside of the root."""
    root = next(parent for parent in path.parents if parent.name == "root")
    outside = root.parent / f"outside{path.suffix}"
    outside.write_bytes(whole)
    path.unlink()
    path.symlink_to(outside)


def packed(path: Path, whole: bytes) -> None:
    """40 members of zeros, which are one file of 640 MiB in 640 kB."""
    path.write_bytes(gzip.compress(bytes(ZEROS)) * 40)


def zip_of_zeros(name: str) -> Trap:
    """One member of 272 MiB in 272 kB."""

    def make(path: Path, whole: bytes) -> None:
        member = zipfile.ZipInfo(name)
        member.compress_type = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w") as archive, archive.open(member, "w") as file:
            for _ in range(17):
                file.write(bytes(ZEROS))

    return make


def cards(**changes: int) -> Trap:
    """Another number in a card of a FITS header."""

    def make(path: Path, whole: bytes) -> None:
        for name, number in changes.items():
            place = whole.rindex(f"{name:<8}= ".encode())
            whole = whole[: place + 10] + f"{number:>20}".encode() + whole[place + 30 :]
        path.write_bytes(whole)

    return make


def tag(name: bytes, attribute: bytes) -> Trap:
    return lambda path, whole: path.write_bytes(whole.replace(name, name + b" " + attribute, 1))


def bomb_of_pixels(path: Path, whole: bytes) -> None:
    file = io.BytesIO()
    Image.new("1", (14_000, 14_000)).save(file, "PNG")
    path.write_bytes(file.getvalue())


def long_parquet(path: Path, whole: bytes) -> None:
    zeros = pa.array(np.zeros(2**22))
    names = ["photometry", "spectra", "metadata", "label", *"abcde"]
    kinds = {"use_dictionary": False, "compression": "zstd"}
    pq.write_table(pa.table(dict.fromkeys(names, zeros)), path, **kinds)


LAUGHS = """<?xml version="1.0"?><!DOCTYPE V [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><VOTABLE version="1.3"><RESOURCE><TABLE>
<FIELD name="&b;" datatype="double"/><DATA><TABLEDATA/></DATA></TABLE></RESOURCE></VOTABLE>"""

TRAPS: dict[str, tuple[str, Trap, str]] = {
    "pipe for CSV": ("CSV, a star", pipe, "a pipe, socket or device"),
    "pipe for FITS": ("FITS image (LAMOST)", pipe, "a pipe, socket or device"),
    "pipe for Parquet": ("Parquet", pipe, "a pipe, socket or device"),
    "pipe for PNG": ("PNG", pipe, "a pipe, socket or device"),
    "pipe for GeoTIFF": ("GeoTIFF", pipe, "a pipe, socket or device"),
    "pipe for texts": ("CSV of texts", pipe, "a pipe, socket or device"),
    "pipe for text": ("machine-readable table (MRT)", pipe, "a pipe, socket or device"),
    "pipe for embeddings": ("embeddings .npz", pipe, "no such file"),
    "folder for CSV": ("CSV, a star", folder, "it is a folder"),
    "folder for PNG": ("PNG", folder, "holds the folder"),
    "folder for Parquet": ("Parquet", folder, "it is a folder"),
    "endless CSV": ("CSV, a star", endless, "leads out of|a pipe, socket or device"),
    **{
        f"link for {name}": (name, link_out, "leads out of")
        for name in (
            *("CSV, a star", "CSV, the table of stars", "FITS image (LAMOST)", "CSV of AstroM3"),
            *("ASAS-SN .dat", "zip", "Parquet", "JSON (Open Supernova Catalog)", "CSV of SDSS"),
            *("CSV of SDSS, types", "machine-readable table (MRT)", "SNID .lnw", "PNG", "GeoTIFF"),
        )
    },
    "one line": ("CSV, a star", put(b"1," * 2**23), "16,777,216 characters"),
    "many cells": (
        "CSV, a star",
        put(b"time,flux,flux_error\n" + b"1," * 2**22),
        "under 3 columns",
    ),
    "deep JSON": ("JSON (Open Supernova Catalog)", put(b'{"SN1":' * 200_000), "SN1"),
    "deep brackets": ("JSON (Open Supernova Catalog)", put(b"[" * 10**6), "not a JSON file"),
    "gzip": ("FITS image, gzip", packed, "decompression bomb"),
    "zip": ("zip", zip_of_zeros("photometry/A1.dat"), "decompression bomb"),
    "npz": ("embeddings .npz", zip_of_zeros("embeddings.npy"), "decompression bomb"),
    "PNG": ("PNG", bomb_of_pixels, "decompression bomb"),
    "Parquet": ("Parquet", long_parquet, "decompression bomb"),
    "entities": ("VOTable", put(LAUGHS.encode()), "defines entities"),
    "rows of a VOTable": ("VOTable", tag(b"<TABLE", b'nrows="99999999999"'), "99,999,999,999"),
    "cells of a VOTable": ("VOTable", tag(b"<FIELD", b'arraysize="9999999999"'), "9,999,999,999"),
    "FITS table": ("FITS table", cards(NAXIS1=10**9, NAXIS2=10**9), "cannot be read as fits"),
    "FITS axes": ("FITS image (LAMOST)", cards(NAXIS=10**9), "NAXIS is 1,000,000,000"),
    "FITS columns": ("FITS table", cards(TFIELDS=10**9), "TFIELDS is 1,000,000,000"),
    "FITS axis": ("FITS image (LAMOST)", cards(NAXIS1=-400), "NAXIS1 is negative"),
    "FITS rows": ("FITS table", cards(NAXIS2=10**12), "cannot be read as fits"),
    "FITS image": ("FITS image (LAMOST)", cards(NAXIS1=10**9, NAXIS2=10**9), "LAMOST"),
}


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Format]:
    return make_formats(tmp_path_factory.mktemp("formats"))


@pytest.mark.parametrize("trap", TRAPS)
def test_traps_are_refused(tmp_path: Path, formats: dict[str, Format], trap: str) -> None:
    name, make, says = TRAPS[trap]
    format, root = formats[name], tmp_path / "root"
    format.write(root)
    format.read(root)
    make(root / format.path, format.content)
    tracemalloc.start()
    try:
        with time_limit(60), pytest.raises(ZooError, match=says) as caught:
            format.read(root)
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
    assert str(root) in str(caught.value)


def test_a_file_larger_than_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photometry").mkdir()
    (tmp_path / "table.csv").write_bytes(STARS)
    for star in ("s1", "s2", "s3"):
        (tmp_path / "photometry" / f"{star}.csv").write_bytes(CURVE)
    dataset = StarFolder(str(tmp_path))
    with (tmp_path / "photometry" / "s2.csv").open("ab") as file:
        file.truncate(LARGEST + 1)  # a hole: it takes no room
    assert set(dataset[0]) == {"photometry", "metadata"}
    with pytest.raises(ZooError, match=r"s2\.csv: has 2,147,483,649 bytes"):
        dataset[1]


def test_links_inside_the_root_are_followed(tmp_path: Path) -> None:
    """The root may be a link itself."""
    for name in ("a", "b"):
        (tmp_path / "root" / name).mkdir(parents=True)
        Image.new("RGB", (4, 3)).save(tmp_path / "root" / name / "1.png")
    (tmp_path / "root" / "a" / "2.png").symlink_to("../b/1.png")
    (tmp_path / "link").symlink_to("root")
    images = ImageFolder(str(tmp_path / "link"))
    assert images[1]["image"].shape == (3, 4, 3)


def test_a_folder_that_leads_out(tmp_path: Path, formats: dict[str, Format]) -> None:
    format = formats["SNID .lnw"]
    format.write(tmp_path / "root")
    (tmp_path / "root" / "templates").rename(tmp_path / "elsewhere")
    (tmp_path / "root" / "templates").symlink_to("../elsewhere")
    with pytest.raises(ZooError, match="templates leads out of"):
        format.read(tmp_path / "root")


def test_links_in_the_cache_of_the_hub_are_followed(
    tmp_path: Path, formats: dict[str, Format]
) -> None:
    format, root = formats["Parquet"], tmp_path / "snapshots" / "0123abc"
    format.write(root)
    (tmp_path / "blobs").mkdir()
    path = root / format.path
    path.rename(tmp_path / "blobs" / "4567")
    path.symlink_to("../../blobs/4567")
    assert format.read(root)


def test_nested_json_of_embeddings(tmp_path: Path, formats: dict[str, Format]) -> None:
    format = formats["embeddings .npz"]
    format.write(tmp_path)
    path = tmp_path / format.path
    with np.load(path) as archive:
        columns = dict(archive)
    columns["zoo"] = np.asarray('{"a":' * 100_000)
    np.savez(path, **columns)
    with pytest.raises(ZooError, match="is not JSON"):
        format.read(tmp_path)
    columns["zoo"] = np.asarray(json.dumps({"dataset": "d"}))
    np.savez(path, **columns)
    assert format.read(tmp_path)["ids"].size == 20
