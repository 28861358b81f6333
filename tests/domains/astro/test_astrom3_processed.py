"""AstroM3's processed layout, as small Parquet files written here with made-up values."""

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domains.astro.datasets.astrom3_processed import AstroM3Processed
from domains.astro.evaluators import VARIABLE_STARS
from shared.data.dataset import Dataset
from shared.errors import DataError

NESTED = pa.list_(pa.list_(pa.float32()))
NAMES = ["EW", "SR", "DSCT"]
COUNTS = {"train": 5, "validation": 2, "test": 2}
LABELS = {"train": [0, 1, 2, 1, 0], "validation": [2, -1], "test": [1, 0]}
POINTS = 2575


def star(split: str, row: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([len(split), row])
    photometry = rng.normal(size=(4 + row, 9)).astype(np.float32)
    spectra = rng.normal(size=(3, POINTS)).astype(np.float32)
    photometry[:, 2], spectra[1] = np.abs(photometry[:, 2]), np.abs(spectra[1])
    return {
        "photometry": photometry,
        "spectra": spectra,
        "metadata": rng.normal(size=34).astype(np.float32),
    }


def write_processed(
    folder: Path,
    types: Mapping[str, pa.DataType] | None = None,
    labels: Mapping[str, list[Any]] = LABELS,
    names: list[str] | None = NAMES,
    shards: int = 1,
    more: Callable[[str, int], dict[str, Any]] = lambda split, row: {},
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {"photometry": NESTED, "spectra": NESTED, "metadata": pa.list_(pa.float32())}
    kinds |= types or {}
    for split, count in COUNTS.items():
        for shard, rows in enumerate(np.array_split(np.arange(count), shards)):
            stars = [star(split, row) for row in rows]
            columns = {
                name: pa.array([s[name].tolist() for s in stars], kind)
                for name, kind in kinds.items()
            }
            columns["label"] = pa.array([labels[split][row] for row in rows])
            for row in rows:
                for name, value in more(split, int(row)).items():
                    columns.setdefault(name, []).append(value)  # type: ignore[union-attr]
            table = pa.table(columns)
            if names is not None:
                features = {"features": {"label": {"names": names, "_type": "ClassLabel"}}}
                text = json.dumps({"info": features}).encode()
                table = table.replace_schema_metadata({b"huggingface": text})
            path = folder / f"{split}-{shard:05d}-of-{shards:05d}.parquet"
            pq.write_table(table, path, row_group_size=2)


def check_values(dataset: AstroM3Processed) -> None:
    index = 0
    for split, count in COUNTS.items():
        for row in range(count):
            raw, written = dataset[index], star(split, row)
            np.testing.assert_array_equal(raw["photometry"], written["photometry"])
            np.testing.assert_array_equal(raw["spectra"], written["spectra"].T)
            np.testing.assert_array_equal(raw["metadata"], written["metadata"])
            index += 1
    assert index == len(dataset)


@pytest.mark.parametrize("folder", ["", "data", "sub50_7"])
def test_processed_values(tmp_path: Path, folder: str) -> None:
    write_processed(tmp_path / folder, shards=2)
    dataset = AstroM3Processed(str(tmp_path), config="sub50_7")
    check_values(dataset)
    check_values(pickle.loads(pickle.dumps(dataset)))
    assert dataset.ids[[0, 4, 5, 8]].tolist() == ["train-0", "train-4", "val-0", "test-1"]
    assert dataset.splits.tolist() == ["train"] * 5 + ["val"] * 2 + ["test"] * 2
    assert dataset.classes == tuple(NAMES)
    assert dataset.labels.tolist() == [label for part in LABELS.values() for label in part]
    simple = VARIABLE_STARS.simple_features["spectra"]
    assert np.isfinite(simple(dataset.schemas["spectra"], dataset[0]["spectra"])).all()


@pytest.mark.parametrize(
    "types",
    [
        {"photometry": pa.large_list(pa.list_(pa.float32(), 9))},
        {"spectra": pa.list_(pa.list_(pa.float32(), POINTS), 3)},
        {"metadata": pa.list_(pa.float64(), 34)},
        {"metadata": pa.large_list(pa.float32())},
    ],
)
def test_processed_lists_of_any_kind(tmp_path: Path, types: dict[str, pa.DataType]) -> None:
    write_processed(tmp_path, types)
    check_values(AstroM3Processed(str(tmp_path)))


def test_processed_reads_a_row_group_once_when_read_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_processed(tmp_path)
    dataset = AstroM3Processed(str(tmp_path))
    length, groups = len(dataset), []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, group, *args: (groups.append(group), original(self, group, *args))[1],
    )
    for index in range(length):
        dataset[index]
    assert groups == [0, 1, 2, 0, 0]


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        ([7, 3, 10, 3, None], ("3", "7", "10"), [1, 0, 2, 0, -1]),
        (["SR", "EW", "EW", "SR", None], ("EW", "SR"), [1, 0, 0, 1, -1]),
    ],
)
def test_processed_labels_without_names(
    tmp_path: Path, labels: list[Any], classes: tuple[str, ...], expected: list[int]
) -> None:
    rest = {"validation": labels[:2], "test": labels[1:3]}
    write_processed(tmp_path, labels={"train": labels, **rest}, names=None)
    dataset = AstroM3Processed(str(tmp_path))
    assert dataset.classes == classes
    assert dataset.labels[:5].tolist() == expected


def test_processed_ids_of_the_file(tmp_path: Path) -> None:
    write_processed(tmp_path, more=lambda split, row: {"name": f"V{row} {split}"})
    assert AstroM3Processed(str(tmp_path)).ids[[1, 8]].tolist() == ["V1 train", "V1 test"]


def test_processed_fingerprint(tmp_path: Path) -> None:
    write_processed(tmp_path)
    before = AstroM3Processed(str(tmp_path)).fingerprint
    write_processed(tmp_path, names=NAMES[::-1])
    assert AstroM3Processed(str(tmp_path)).fingerprint != before


def read_everything(dataset: Dataset) -> None:
    for index in range(len(dataset)):
        assert dataset[index]


def _cut(name: str, share: float) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(len(content) * share)])

    return damage


def _put(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(content) and None


def _rewrite(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / "train-00000-of-00001.parquet"
        pq.write_table(change(pq.read_table(path)), path)

    return damage


def _column(name: str, values: list[Any]) -> Callable[[Path], None]:
    return _rewrite(
        lambda table: table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    )


def _middle(root: Path) -> None:
    path = root / "train-00000-of-00001.parquet"
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(content)


PARQUET = "train-00000-of-00001.parquet"


@pytest.mark.parametrize(
    ("damage", "named", "says"),
    [
        (lambda root: [p.unlink() for p in root.iterdir()] and None, "full_42", "holds no train-"),
        (_put(PARQUET, b""), PARQUET, "not a whole Parquet file"),
        (_cut(PARQUET, 0.9), PARQUET, "not a whole Parquet file"),
        (_middle, PARQUET, "damaged inside"),
        (_rewrite(lambda t: t.drop_columns(["spectra"])), PARQUET, "lacks the column spectra"),
        (_rewrite(lambda t: t.drop_columns(["label"])), PARQUET, "lacks the column label"),
        (_rewrite(lambda t: t.replace_schema_metadata(None)), "validation-", "other classes"),
        (
            _rewrite(lambda t: t.replace_schema_metadata({b"huggingface": b"{"})),
            PARQUET,
            "description of the columns is damaged",
        ),
        (_column("label", [0, 1, 3, 1, 0]), f"{PARQUET}, row 2", "label 3"),
        (_column("metadata", [{"l": 1.0}] * 5), PARQUET, "not a table of numbers"),
        (_column("metadata", [[1.0, 2.0]] * 5), "train-0", r"shape \(2,\)|2 channels, not 34"),
        (_column("metadata", [None] * 5), "train-0", "shape"),
        (_column("metadata", [[None] * 34] * 5), "train-0", "is nan"),
        (_column("photometry", [[[1.0] * 9, [1.0]]] * 5), PARQUET, "not a table of numbers"),
        (_column("photometry", [[]] * 5), "train-0", "shape"),
        (_column("photometry", [[[-1.0] * 9]] * 5), "train-0", "flux_error.*has to be >= 0"),
        (_column("photometry", [[[1.0] * 3]] * 5), "train-0", "3 channels, not 9"),
        (_column("spectra", [[[1.0] * 3] * 50] * 5), PARQUET, r"data=astrom3"),
        (
            lambda root: (root / PARQUET).rename(root / "train-00000-of-00002.parquet") and None,
            "train-*",
            "1 of the 2 files",
        ),
    ],
)
def test_broken_processed_files(
    tmp_path: Path, damage: Callable[[Path], None], named: str, says: str
) -> None:
    write_processed(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=says) as caught:
        read_everything(AstroM3Processed(str(tmp_path)))
    assert named in str(caught.value)
