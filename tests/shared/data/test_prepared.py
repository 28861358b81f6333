"""What becomes of samples that cannot be used: raised, or skipped and listed."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.data.adapted import AdaptedDataset
from shared.data.dataset import Dataset, SampleTable
from shared.data.prepared import PreparedDataset
from shared.data.skipping import (
    Skipped,
    SkippingDataset,
    describe_skipped,
    save_skipped,
    skipped_of,
)
from shared.errors import DataError
from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.embeddings.extract import extract
from shared.preprocess import Prepared, Preprocessor
from shared.schema import Adapter, Channel, Schema
from shared.training.loader import CountedLoader

A = Schema("a", ("channel",), (Channel("x", valid_range=(0, 100)),))
B = Schema("b", ("channel",), (Channel("x"),))


class Numbers(Dataset):
    """Twelve samples of two modalities; some broken in each of the ways there are."""

    name = "numbers"
    schemas = {"a": A, "b": B}  # noqa: RUF012

    def __init__(self, broken: Mapping[int, str]) -> None:
        self.broken = broken

    def make_table(self) -> SampleTable:
        return SampleTable([f"n{i}" for i in range(12)], [i % 2 for i in range(12)], ("u", "v"))

    def read(self, index: int) -> dict[str, Any]:
        how = self.broken.get(index)
        if how == "gone":
            raise DataError(f"file{index}: no such file.")
        a: Any = np.array([float(index)])
        if how == "unreadable":
            a = DataError(f"file{index}: is empty.")
        elif how == "range":
            a = np.array([-1.0])
        elif how == "prepare":
            a = np.array([50.0])
        return {"a": a, "b": np.array([float(index)])}

    def content_fingerprint(self) -> str:
        return "numbers"


class Below50(Preprocessor):
    def __init__(self, schema: Schema) -> None:
        super().__init__(schema, schema.channels, {})

    @property
    def sizes(self) -> Mapping[str, int]:
        return {}

    def __call__(self, raw: Any) -> Prepared:
        if raw[0] == 50:
            raise DataError("a: 50 cannot be scaled.")
        return {"x": np.float32(raw)}


class Windowed(Below50):
    """Prepares more than it gives."""

    def __call__(self, raw: Any) -> Prepared:
        return {"whole": np.zeros((5, 2))}

    def crop(self, prepared: Prepared, rng: np.random.Generator | None) -> Prepared:
        return {"window": prepared["whole"][:3, 0]}


class Centred(Below50):
    """Learns a mean, of numbers other than 50."""

    mean = np.nan

    def fit(self, raws: Iterable[Any]) -> None:
        self.mean = float(np.mean([self(raw)["x"] for raw in raws]))


class Doubling:
    """An embedder: twice the number; 50 cannot be embedded."""

    name, revision = "doubling", "1"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def modalities(self, schemas: Mapping[str, Schema]) -> tuple[str, ...]:
        return ("a", "b")

    def embed(self, modality: str, raws: list[Any], schema: Schema) -> np.ndarray:
        if any(raw[0] == 50 for raw in raws):
            raise DataError("50 cannot be embedded.")
        self.sizes.append(len(raws))
        return np.array([[2 * raw[0], 1.0] for raw in raws])


BROKEN = {1: "gone", 4: "unreadable", 6: "range", 9: "prepare"}


def prepared(dataset: Dataset, **options: Any) -> PreparedDataset:
    return PreparedDataset(dataset, {"a": Below50(A), "b": Below50(B)}, **options)


@pytest.mark.parametrize(("row", "how"), BROKEN.items())
def test_errors_are_raised_with_the_remedy(row: int, how: str) -> None:
    data = prepared(Numbers({row: how}))
    for use in (lambda: data.load(range(12)), lambda: extract(Doubling(), data.dataset)):
        with pytest.raises(
            DataError, match=rf"(file{row}|'n{row}').*data\.on_error=skip"
        ) as caught:
            use()
        assert str(caught.value).count("on_error") == 1


@pytest.mark.parametrize("adapted", [False, True])
def test_what_cannot_be_used_is_absent_and_listed(adapted: bool, tmp_path: Path) -> None:
    dataset: Dataset = Numbers(BROKEN)
    if adapted:
        same = Adapter("same", lambda schema: schema, lambda schema, value: value)
        dataset = AdaptedDataset(dataset, {"a": same})
    dataset = SkippingDataset(dataset)
    data = prepared(dataset)
    data.load(range(12))
    batch = data.collate([data[None, row] for row in range(12)])
    assert np.flatnonzero(~batch.present["a"].numpy()).tolist() == [1, 4, 6, 9]
    assert np.flatnonzero(~batch.present["b"].numpy()).tolist() == [1]
    skipped = skipped_of(dataset)
    assert [(s.id, s.modality) for s in skipped] == [
        ("n1", None),
        ("n4", "a"),
        ("n6", "a"),
        ("n9", "a"),
    ]
    for entry, says in zip(
        skipped, ("no such file", "is empty", "has to be", "be scaled"), strict=True
    ):
        assert says in entry.reason
    assert describe_skipped(skipped)[0].endswith("a 3, whole samples 1")
    save_skipped(tmp_path / "skipped.json", skipped)
    assert json.loads((tmp_path / "skipped.json").read_text())[0] == {
        "id": "n1",
        "modality": None,
        "reason": "file1: no such file.",
        "file": None,
    }


def test_statistics_are_learned_from_what_can_be_used() -> None:
    dataset = SkippingDataset(Numbers(BROKEN))
    PreparedDataset(dataset, {"a": (centred := Centred(A))}).fit_preprocessors(range(12))
    assert centred.mean == np.mean([0, 2, 3, 5, 7, 8, 10, 11])
    assert [(s.id, s.modality) for s in dataset.skipped][-1] == ("n9", "a")
    with pytest.raises(DataError, match=r"'n9': a: 50 cannot be scaled.*on_error=skip"):
        PreparedDataset(Numbers({9: "prepare"}), {"a": Centred(A)}).fit_preprocessors(range(12))


def test_nothing_left_out_is_nothing_said(tmp_path: Path) -> None:
    dataset = SkippingDataset(Numbers({}))
    prepared(dataset).load(range(12))
    assert describe_skipped(skipped_of(dataset)) == []
    save_skipped(tmp_path / "skipped.json", ())
    assert not (tmp_path / "skipped.json").exists()


def test_the_list_for_people_is_short() -> None:
    dataset = SkippingDataset(Numbers(dict.fromkeys(range(6), "range")))
    prepared(dataset).load(range(12))
    alike = describe_skipped(skipped_of(dataset))
    assert len(alike) == 2
    assert alike[1].startswith("  6 × n0, a: ")
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    different = describe_skipped([Skipped(f"n{i}", "a", f"{w}.") for i, w in enumerate(words)])
    assert len(different) == 7
    assert different[-1].endswith("2 more, for 2 other reasons")


@pytest.mark.parametrize("how", ["gone", "range"])
def test_more_than_half_is_an_error(how: str) -> None:
    dataset = SkippingDataset(Numbers(dict.fromkeys(range(7), how)))
    for use in (lambda: prepared(dataset).load(range(12)), lambda: extract(Doubling(), dataset)):
        with pytest.raises(DataError, match=r"7 of 12 samples have .*too many to skip.*(0|n0)"):
            use()


def test_the_policy_is_part_of_the_fingerprint() -> None:
    assert SkippingDataset(Numbers({})).fingerprint != Numbers({}).fingerprint


@pytest.mark.parametrize(("workers", "in_memory"), [(0, True), (0, False), (2, False)])
def test_the_same_batches_wherever_a_run_starts(workers: int, in_memory: bool) -> None:
    def batches(start: int) -> list[tuple[list[int], list[bool], list[float]]]:
        data = prepared(SkippingDataset(Numbers(BROKEN)), in_memory=in_memory)
        data.load(range(12))
        loader = CountedLoader(
            data, np.arange(12), 4, position=lambda: (3, start), num_workers=workers
        )
        return [
            (b.rows.tolist(), b.present["a"].tolist(), b.inputs["a"]["x"].flatten().tolist())
            for b in loader
        ]

    whole = batches(0)
    assert len(whole) == 3
    assert batches(1) == whole[1:]
    assert sum(sum(present) for _, present, _ in whole) == 8


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_embeddings_keep_what_was_skipped(tmp_path: Path, suffix: str) -> None:
    embedder = Doubling()
    dataset = SkippingDataset(Numbers(BROKEN))
    embeddings = extract(embedder, dataset, batch_size=5, cache=tmp_path)
    assert np.flatnonzero(~embeddings.present["a"]).tolist() == [1, 4, 6, 9]
    assert np.flatnonzero(~embeddings.present["b"]).tolist() == [1]
    np.testing.assert_array_equal(embeddings.vectors["b"][2:, 0], 2 * np.arange(2.0, 12))
    assert embeddings.skipped == dataset.skipped
    assert "50 cannot be embedded" in embeddings.skipped[-1].reason
    embeddings.save(tmp_path / f"e{suffix}")
    assert EmbeddingSet.load(tmp_path / f"e{suffix}").skipped == embeddings.skipped
    calls = len(embedder.sizes)
    again = extract(embedder, SkippingDataset(Numbers(BROKEN)), batch_size=5, cache=tmp_path)
    assert len(embedder.sizes) == calls
    assert again.skipped == embeddings.skipped


def test_a_batch_without_a_modality_is_empty_in_the_form_of_the_others() -> None:
    data = PreparedDataset(Numbers({}), {"a": Windowed(A), "b": Below50(B)})
    data.load(range(2))
    full, empty = data.collate([data[0, 0]]).inputs["a"], data.collate([]).inputs["a"]
    assert full["window"].shape == (1, 3)
    assert {name: tensor.shape for name, tensor in empty.items()} == {"window": (0, 3)}
