import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.errors import DataError, EvaluationError
from shared.evaluation.embedding_set import EmbeddingSet

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
LABELS = ["a", "b"] * 6


def write(path, **columns):
    if path.suffix == ".npz":
        np.savez(path, **columns)
    else:
        lists = {
            k: [None if r is None else list(r) for r in v] if k.startswith("emb") else v
            for k, v in columns.items()
        }
        pq.write_table(pa.table(lists), path)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_round_trip(made_up, tmp_path, suffix):
    path = tmp_path / f"e{suffix}"
    made_up.save(path)
    loaded = EmbeddingSet.load(path)
    for name in ("ids", "labels", "splits", "groups"):
        assert np.array_equal(getattr(loaded, name), getattr(made_up, name))
    for name in ("classes", "dataset", "model", "synthetic", "fingerprint", "modalities"):
        assert getattr(loaded, name) == getattr(made_up, name)
    for modality in made_up.modalities:
        assert np.array_equal(loaded.present[modality], made_up.present[modality])
        assert np.array_equal(loaded.vectors[modality], made_up.vectors[modality], equal_nan=True)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_unknown_labels_and_unused_classes_survive(make_set, tmp_path, suffix):
    embeddings = make_set(n=8, labels=np.array([-1, 2] * 4), classes=("x", "y", "z"))
    embeddings.save(tmp_path / f"e{suffix}")
    loaded = EmbeddingSet.load(tmp_path / f"e{suffix}")
    assert loaded.labels.tolist() == [-1, 2] * 4
    assert loaded.classes == ("x", "y", "z")


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("plural", ["", "s"])
def test_a_file_of_ones_own(tmp_path, suffix, plural):
    path = write(tmp_path / f"mine{suffix}", **{f"embedding{plural}": X, f"label{plural}": LABELS})
    loaded = EmbeddingSet.load(path)
    assert loaded.modalities == ("embedding",)
    assert np.array_equal(loaded.vectors["embedding"], X)
    assert loaded.classes == ("a", "b")
    assert loaded.labels.tolist() == [0, 1] * 6
    assert loaded.ids.tolist() == [str(i) for i in range(12)]
    assert set(loaded.splits) == {"train", "val", "test"}
    assert loaded.dataset == "mine"
    assert not loaded.synthetic
    assert len(loaded.fingerprint) == 16


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_own_modalities_integer_labels_splits_and_groups(tmp_path, suffix):
    columns = {
        "embedding.image": X,
        "embedding.text": X[:, :2],
        "label": [7, 3, -1] * 4,
        "id": [f"i{i}" for i in range(12)],
        "split": ["train", "val", "test"] * 4,
        "group": [f"g{i // 2}" for i in range(12)],
    }
    loaded = EmbeddingSet.load(write(tmp_path / f"e{suffix}", **columns))
    assert loaded.modalities == ("image", "text")
    assert loaded.classes == ("3", "7")
    assert loaded.labels.tolist() == [1, 0, -1] * 4
    assert loaded.splits.tolist() == columns["split"]
    assert loaded.groups.tolist() == columns["group"]
    assert loaded.ids.tolist() == columns["id"]


def test_a_null_list_is_an_absent_modality(tmp_path):
    rows = [None, *X[1:]]
    path = write(
        tmp_path / "e.parquet", **{"embedding.image": rows, "embedding.text": X}, label=LABELS
    )
    loaded = EmbeddingSet.load(path)
    assert loaded.present["image"].tolist() == [False] + [True] * 11
    assert np.array_equal(loaded.vectors["image"][1:], X[1:])


def test_a_fixed_size_list_is_read(tmp_path):
    column = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 3)
    pq.write_table(pa.table({"embedding": column, "label": LABELS}), tmp_path / "e.parquet")
    assert np.array_equal(EmbeddingSet.load(tmp_path / "e.parquet").vectors["embedding"], X)


NAN = X.copy()
NAN[4, 1] = np.nan
BROKEN = {
    "no_label": ({"embedding": X}, "no column 'label'"),
    "no_embedding": ({"label": LABELS}, "no column 'embedding'"),
    "nan": ({"embedding": NAN, "label": LABELS}, r"'4' \(row 4\) holds NaN"),
    "lengths": ({"embedding": X[:5], "label": LABELS}, r"shape \(5, 3\).*12 labels"),
    "flat": ({"embedding": X[:, 0], "label": LABELS}, r"shape \(12,\)"),
    "text": ({"embedding": X.astype(str), "label": LABELS}, "not numbers"),
    "split": ({"embedding": X, "label": LABELS, "split": ["trian"] * 12}, "'trian' of '0'"),
    "twice": ({"embedding": X, "label": LABELS, "id": ["i"] * 12}, "'i' stands more than once"),
    "real_labels": ({"embedding": X, "label": X[:, 0]}, "name or integer"),
    "no_rows": ({"embedding": X[:0], "label": np.array([], dtype=int)}, "empty"),
    "index": ({"embedding": X, "label": [5] * 12, "class": ["a", "b"]}, "label 5 of '0'"),
    "strange": ({"embedding": X, "label": LABELS, "class": ["a"]}, "'b' is not among"),
    "meta": ({"embedding": X, "label": LABELS, "zoo": "{"}, "not JSON"),
    "objects": ({"embedding": X, "label": np.array(LABELS, dtype=object)}, "Python objects"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_wrong_npz_is_one_clear_error(tmp_path, case):
    columns, message = BROKEN[case]
    path = write(tmp_path / "e.npz", **columns)
    with pytest.raises(EvaluationError, match=message):
        EmbeddingSet.load(path)


BROKEN_PARQUET = {
    "no_label": ({"embedding": X}, "no column 'label'"),
    "no_embedding": ({"label": LABELS}, "no column 'embedding'"),
    "nan": ({"embedding": NAN, "label": LABELS}, r"'4' \(row 4\) holds NaN"),
    "ragged": ({"embedding": [*X[:11], X[0, :2]], "label": LABELS}, "row 11: 2 values"),
    "not_a_list": ({"embeddings": None, "label": LABELS}, "expected a list of numbers"),
    "text": ({"embedding": X.astype(str), "label": LABELS}, "not numbers"),
    "null_id": ({"embedding": X, "label": LABELS, "id": [None, *LABELS[1:]]}, "empty at row 0"),
    "all_null": ({"embedding": [None] * 12, "label": LABELS}, "expected a list|no row"),
}


@pytest.mark.parametrize("case", BROKEN_PARQUET)
def test_a_wrong_parquet_is_one_clear_error(tmp_path, case):
    columns, message = BROKEN_PARQUET[case]
    path = tmp_path / "e.parquet"
    if case == "not_a_list":
        pq.write_table(pa.table({"embedding": X[:, 0], "label": LABELS}), path)
    else:
        write(path, **columns)
    with pytest.raises(EvaluationError, match=message):
        EmbeddingSet.load(path)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_a_truncated_file(made_up, tmp_path, suffix, keep):
    path = tmp_path / f"e{suffix}"
    made_up.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if keep > 1 else int(keep * len(content))])
    with pytest.raises(EvaluationError, match=path.name):
        EmbeddingSet.load(path)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_damaged_bytes_are_an_error_or_harmless(make_set, tmp_path, suffix):
    path = tmp_path / f"e{suffix}"
    embeddings = make_set(n=12)
    embeddings.save(path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    errors = 0
    for _ in range(100):
        damaged = bytearray(content)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            loaded = EmbeddingSet.load(path)
        except EvaluationError:
            errors += 1
        else:
            for modality, vectors in loaded.vectors.items():
                assert np.array_equal(vectors, embeddings.vectors[modality], equal_nan=True)
    assert errors > 50


def test_wrong_suffix_missing_file_and_bare_array(made_up, tmp_path):
    with pytest.raises(EvaluationError, match=r"\.npz or \.parquet, not '\.csv'"):
        EmbeddingSet.load(tmp_path / "e.csv")
    with pytest.raises(EvaluationError, match=r"not '\.pkl'"):
        made_up.save(tmp_path / "e.pkl")
    with pytest.raises(EvaluationError, match="no such file"):
        EmbeddingSet.load(tmp_path / "e.npz")
    with (tmp_path / "bare.npz").open("wb") as file:
        np.save(file, X)
    with pytest.raises(EvaluationError, match="one bare array"):
        EmbeddingSet.load(tmp_path / "bare.npz")


def test_a_pickle_is_never_run(tmp_path):
    import pickle

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    (tmp_path / "e.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(EvaluationError, match="never unpickled"):
        EmbeddingSet.load(tmp_path / "e.npz")
    assert not (tmp_path / "sprung").exists()


def test_a_failed_save_leaves_the_old_file(made_up, make_set, tmp_path, monkeypatch):
    path = tmp_path / "e.npz"
    made_up.save(path)
    before = path.read_bytes()

    def fail(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(DataError, match="disk full"):
        make_set(n=9).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_presence_masks_are_of_the_same_modalities(make_set):
    with pytest.raises(EvaluationError, match="same modalities"):
        make_set(n=8, present={"m0": np.ones(8, bool)})
