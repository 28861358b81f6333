"""Damaged files of every format, as hypothesis finds them: a named error or the right result.

`benchmarks/reliability/corruption.py` tries thousands of each.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import Damage, damages, try_damage
from formats import make_formats
from hypothesis import HealthCheck, Phase, given, settings
from PIL import ImageFile

NAMES = [
    "CSV, a star",
    "ECSV",
    "FITS table",
    "FITS table with CHECKSUM",
    "VOTable",
    "VOTable, BINARY2",
    "CSV, the table of stars",
    "FITS image (LAMOST)",
    "FITS image, gzip",
    "CSV of AstroM3",
    "ASAS-SN .dat",
    "zip",
    "Parquet",
    "Parquet with page checksums",
    "JSON (Open Supernova Catalog)",
    "CSV of SDSS",
    "CSV of SDSS, types",
    "machine-readable table (MRT)",
    "SNID .lnw",
    "PNG",
    "JPEG",
    "TIFF",
    "WebP",
    "BMP",
    "GeoTIFF",
    "GeoTIFF, tiled and deflated",
    "CSV of texts",
    "JSON (Karpathy's captions)",
    "CSV of captions",
    "tar (webdataset)",
    "embeddings .npz",
    "embeddings .parquet",
]


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return make_formats(tmp_path_factory.mktemp("formats"))


def test_every_format_is_tried(formats: dict) -> None:
    assert list(formats) == NAMES
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_damage_is_told_or_does_no_harm(tmp_path: Path, formats: dict, name: str) -> None:
    format = formats[name]
    foreign = tuple(f.content for n, f in formats.items() if n != name)
    format.write(tmp_path)
    expected = format.read(tmp_path)
    tried = []

    @settings(
        max_examples=50,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(damages(format, foreign))
    def run(damage: Damage) -> None:
        outcome, why = try_damage(format, damage, tmp_path, expected)
        tried.append(outcome)
        assert outcome != "wrong", f"{damage.kind}: {why}"

    run()
    assert tried.count("named error") >= len(tried) // 4


Change = Callable[[bytes], bytes]


def swapped(old: bytes, new: bytes) -> Change:
    def change(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new, 1)

    return change


def flipped(aim: bytes, after: int = 0) -> Change:
    """A bit of the byte so far behind the end of a text."""

    def change(content: bytes) -> bytes:
        place = content.index(aim) + len(aim) + after
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    return change


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        # check sums that the libraries compare only when asked
        (
            "FITS table with CHECKSUM",
            flipped(b"END" + b" " * 77, 2880),
            "sum verification",
        ),
        ("FITS table with CHECKSUM", swapped(b"'Jy", b"'mJ"), "Checksum verification"),
        ("FITS image, gzip", lambda c: c[:-8] + bytes(4) + c[-4:], "not a whole gzip.*CRC"),
        ("PNG", flipped(b"IHDR", 16), "PNG"),
        ("PNG", lambda c: c[:-13] + b"\1" + c[-12:], "PNG"),
        ("zip", lambda c: c[:60] + bytes([c[60] ^ 1]) + c[61:], "cannot be read"),
        ("embeddings .npz", swapped(b"(20, 6)", b"(10, 6)"), "check sum"),
        # what stands twice in a file, and has to agree
        (
            "FITS table",
            swapped(b"NAXIS2  =                   12", b"NAXIS2  =                   11"),
            "less data",
        ),
        (
            "FITS table",
            swapped(b"TFORM2  = 'D", b"TFORM2  = 'E"),
            "columns of 20 bytes in rows of 24",
        ),
        ("FITS table", lambda c: c + c[:500], "cannot be read as fits"),
        ("VOTable", swapped(b"<TABLE", b'<TABLE nrows="13"'), "W18"),
        (
            "VOTable, BINARY2",
            lambda c: c.replace(b'"base64">\n', b'"base64">\nAAAA'),
            "bytes for 12",
        ),
        ("VOTable, BINARY2", lambda c: c.replace(b'"base64">\n', b'"base64">\n-'), "base64"),
        ("SNID .lnw", lambda c: c + b"9999.0 1 2 3\n", "more lines than 40"),
        ("CSV, the table of stars", swapped(b",7000.75", b""), "row 2 has 3 cells under 4 columns"),
        ("CSV of SDSS", lambda c: c + c, "band 'band'"),
        ("TIFF", swapped(b"\1\1\4\0\1\0\0\0\x18", b"\1\1\4\0\1\0\0\0\x20"), "header states 32"),
        ("CSV of SDSS", lambda c: c[:20], "no rows"),
        (
            "BMP",
            swapped(b"\x18\0\0\0\1\0", b"\x10\0\0\0\1\0"),
            "holds 24 rows",
        ),
    ],
)
def test_what_a_format_can_tell_is_told(
    tmp_path: Path, formats: dict, name: str, change: Change, says: str
) -> None:
    format = formats[name]
    format.write(tmp_path)
    expected = format.read(tmp_path)
    damage = Damage("by hand", change(format.content))
    outcome, why = try_damage(format, damage, tmp_path, expected)
    assert outcome == "named error", (outcome, why)
    assert re.search(says, why), why


def test_page_checksums_of_parquet_are_compared(tmp_path: Path, formats: dict) -> None:
    """Where a file has none, the same damage is not seen."""
    outcomes = []
    for name in ("Parquet", "Parquet with page checksums"):
        format = formats[name]
        root = tmp_path / name
        format.write(root)
        expected = format.read(root)
        value = expected["photometry"][0, 0].astype("<f4").tobytes()
        damage = Damage("by hand", format.content.replace(value, bytes([value[0] ^ 1]) + value[1:]))
        assert damage.content != format.content
        outcomes.append(try_damage(format, damage, root, expected)[0])
    assert outcomes == ["undetectable", "named error"]
