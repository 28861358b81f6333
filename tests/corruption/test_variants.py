"""What a reader could take for something else: refused by name, or read as it was meant."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from formats import CURVE, ERROR, FLUX, STARS, TIME, Format
from formats import make_formats as make_all
from PIL import Image

from domains.astro.datasets.folder import StarFolder
from shared.data.dataset import Dataset
from shared.data.generic import TextTable
from shared.data.image_files import read_image
from shared.errors import DataError, EvaluationError
from shared.evaluation.embeddings.embedding_files import load_embeddings


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Format]:
    return make_all(tmp_path_factory.mktemp("formats"))


def stars(root: Path, name: str, content: bytes, table: bytes = STARS) -> Dataset:
    """A folder of stars in which the file of the first is of these bytes."""
    (root / "photometry").mkdir(parents=True)
    for star in ("s1.csv", "s2.csv", "s3.csv"):
        (root / "photometry" / star).write_bytes(CURVE)
    (root / "photometry" / "s1.csv").unlink()
    (root / "photometry" / name).write_bytes(content)
    (root / "table.csv").write_bytes(table)
    return StarFolder(str(root))


def fits_table(change: Callable[[Any], None]) -> bytes:
    columns = {"time": TIME, "flux": FLUX, "flux_error": ERROR}
    unit = fits.BinTableHDU.from_columns(
        [fits.Column(name, "D", array=a) for name, a in columns.items()]
    )
    change(unit)
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(file)
    return file.getvalue()


def test_cards_of_fits_in_comments(tmp_path: Path) -> None:
    def comment(unit: Any) -> None:
        unit.header.add_history("NAXIS = 5000 was too many, NAXIS1 = -5 too few")

    raw = stars(tmp_path / "root", "s1.fits", fits_table(comment))[0]
    np.testing.assert_array_equal(raw["photometry"][:, 1], FLUX)


@pytest.mark.parametrize("name", ["id", "label"])
def test_texts_of_several_values_a_row(tmp_path: Path, name: str) -> None:
    columns = {"id": ["s1", "s2", "s3"], "label": ["a", "b", "a"], "teff": [1.0, 2.0, 3.0]}
    table = Table(columns | {name: np.array([["s1", "x"], ["s2", "y"], ["s3", "z"]])})
    stars(tmp_path / "root", "s1.csv", CURVE)
    table.write(tmp_path / "root" / "table.fits")
    with pytest.raises(DataError, match=f"{name!r} has several values a row"):
        assert StarFolder(str(tmp_path / "root"), table="table.fits").labels


def test_byte_order_marks(tmp_path: Path, formats: dict[str, Format]) -> None:
    format = formats["CSV of SDSS"]
    format.write(tmp_path)
    expected = format.read(tmp_path)
    (tmp_path / format.path).write_bytes(b"\xef\xbb\xbf" + format.content)
    found = format.read(tmp_path)
    for key, values in expected.items():
        np.testing.assert_array_equal(found[key], values)


def test_signed_tiff() -> None:
    file = io.BytesIO()
    Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6)).save(
        file, "TIFF", tiffinfo={339: 1}
    )
    content = file.getvalue()
    entry = struct.pack("<HHIH", 339, 3, 1, 1)
    assert entry in content
    path = Path("x.tif")
    path.write_bytes(content)
    assert read_image(path)[0, 1, 0] == 1
    path.write_bytes(content.replace(entry, struct.pack("<HHIH", 339, 3, 1, 2)))
    with pytest.raises(DataError, match="signed numbers"):
        read_image(path)


def test_spaces_around_the_cells_of_texts() -> None:
    path = Path("t.csv")
    path.write_text("text,label,id\n a ,x,1\nb, x,2\nc,x ,3\n")
    table = TextTable(str(path), id="id")
    assert (table.classes, table[0]["text"]) == (("x",), " a ")
    path.write_text("text,label,id\na,x,1\nb,x, 1\n")
    with pytest.raises(DataError, match="'1' stands more than once"):
        assert TextTable(str(path), id="id").ids


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


VECTORS, LABELS = np.ones((4, 3)), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"embedding": VECTORS + 1}, "two columns 'embedding'"),
        ({"label": 1 - LABELS}, "two columns 'label'"),
        ({"id": np.array([["a", "b"]] * 4)}, "'id' has shape"),
        ({"split": np.array([["val"]] * 4)}, "'split' has shape"),
        ({"present.embedding": np.array(["False", "True", "True", "True"])}, "true and false"),
        ({"present.embedding": np.array([0, 1, np.nan, 1])}, "true and false"),
        ({"present.x": np.ones(4, bool)}, "'present.x' is of a modality without"),
        ({"class": np.array(["a", "a"])}, "class 'a' stands more than once"),
    ],
)
def test_columns_of_embeddings(columns: dict[str, Any], words: str) -> None:
    np.savez("e.npz", embeddings=VECTORS, labels=LABELS, **columns)
    with pytest.raises(EvaluationError, match=words):
        load_embeddings(Path("e.npz"))


def test_labels_of_unsigned_integers() -> None:
    for values in ([0, 1, 0, 1], [0, None, 0, 1]):
        table = pa.table({"embedding": VECTORS.tolist(), "label": pa.array(values, pa.uint8())})
        pq.write_table(table, "e.parquet")
        wanted = [-1 if value is None else value for value in values]
        assert load_embeddings(Path("e.parquet")).labels.tolist() == wanted
    table = pa.table(
        {"embedding": VECTORS.tolist(), "label": pa.array([2**64 - 1] * 4, pa.uint64())}
    )
    pq.write_table(table, "e.parquet")
    with pytest.raises(EvaluationError, match=r"e\.parquet: damaged"):
        load_embeddings(Path("e.parquet"))


def test_labels_that_are_lists(tmp_path: Path, formats: dict[str, Format]) -> None:
    format = formats["Parquet"]
    format.write(tmp_path)
    table = pq.read_table(tmp_path / format.path)
    lists = pa.array([[value] for value in table["label"].to_pylist()])
    at = table.schema.get_field_index("label")
    pq.write_table(table.set_column(at, "label", lists), tmp_path / format.path)
    with pytest.raises(DataError, match="'label' holds list"):
        format.read(tmp_path)
