import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.errors import DataError, EvaluationError
from shared.evaluation.embeddings.embedding_set import EmbeddingSet

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
def test_round_trip_of_all_else(make_set, tmp_path, suffix):
    nan = np.nan
    given = make_set(
        n=12,
        tags={"a b": np.array([1.0, 0, nan] * 4), "c.d": np.zeros(12)},
        targets={"mass": np.array([1.5, nan, -2e-9] * 4)},
        subgroups={"site": np.array(["x", "", "ü"] * 4)},
        content=np.array([f"h{i // 2}" for i in range(12)]),
        prompts=np.random.default_rng(0).normal(size=(4, 3, 8)).astype(np.float32),
        revision="abc",
    )
    given.save(path := tmp_path / f"e{suffix}")
    loaded = EmbeddingSet.load(path)
    for name in ("tags", "targets", "subgroups"):
        columns, expected = getattr(loaded, name), getattr(given, name)
        assert list(columns) == list(expected)
        for key, values in expected.items():
            np.testing.assert_array_equal(columns[key], values)
    assert loaded.content.tolist() == given.content.tolist()
    assert np.array_equal(loaded.prompts, given.prompts)
    assert loaded.revision == "abc"
    assert loaded.split_fingerprint == given.split_fingerprint


def test_prompts_that_parquet_cannot_hold(make_set, tmp_path):
    many = make_set(n=12, prompts=np.ones((4, 100, 12_000), np.float32))
    with pytest.raises(EvaluationError, match=r"4 × 100 prompts.*Save as \.npz"):
        many.save(tmp_path / "e.parquet")
    assert not (tmp_path / "e.parquet").exists()


def test_prompts_as_large_as_parquet_holds_are_read(make_set, tmp_path):
    large = make_set(n=12, prompts=np.ones((4, 128, 8192), np.float32))
    large.save(tmp_path / "e.parquet")
    assert np.array_equal(EmbeddingSet.load(tmp_path / "e.parquet").prompts, large.prompts)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize(
    ("columns", "tags", "targets"),
    [
        ({"tags.bright": [True, False] * 6}, {"bright": [1, 0] * 6}, {}),
        ({"tag.bright": [1, 0] * 6}, {"bright": [1, 0] * 6}, {}),
        ({"target.mass": [3, 4] * 6}, {}, {"mass": [3, 4] * 6}),
    ],
)
def test_own_tags_or_targets_need_no_labels(tmp_path, suffix, columns, tags, targets):
    loaded = EmbeddingSet.load(write(tmp_path / f"e{suffix}", embedding=X, **columns))
    assert {k: v.tolist() for k, v in loaded.tags.items()} == tags
    assert {k: v.tolist() for k, v in loaded.targets.items()} == targets
    assert loaded.labels.tolist() == [-1] * 12
    assert loaded.classes == ()
    assert loaded.content is None


def test_nulls_of_parquet_are_unknown(tmp_path):
    columns = {
        "tag.t": [None, True, False] * 4,
        "target.y": [None, 1, 2] * 4,
        "subgroup.s": [None, "a", "b"] * 4,
        "annotation.outline": [None, "[1,2]", ""] * 4,
        "label": [None, 1.0, 2.0] * 4,
    }
    loaded = EmbeddingSet.load(write(tmp_path / "e.parquet", embedding=X, **columns))
    np.testing.assert_array_equal(loaded.tags["t"], [np.nan, 1, 0] * 4)
    np.testing.assert_array_equal(loaded.targets["y"], [np.nan, 1, 2] * 4)
    assert loaded.subgroups["s"].tolist() == ["", "a", "b"] * 4
    assert loaded.annotations["outline"].tolist() == ["", "[1,2]", ""] * 4
    assert loaded.labels.tolist() == [-1, 0, 1] * 4


def test_one_prompt_a_class(tmp_path):
    prompts = np.random.default_rng(0).normal(size=(2, 3))
    path = write(tmp_path / "e.npz", embedding=X, label=LABELS, prompts=prompts, classes=["a", "b"])
    assert EmbeddingSet.load(path).prompts.shape == (2, 1, 3)


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
    "infinite_label": ({"embedding": X, "label": [0.0, np.inf] * 6}, "label inf of row 1"),
    "negative_label": ({"embedding": X, "label": [0, -2] * 6}, "label -2 of row 1"),
    "large_label": ({"embedding": X, "label": np.array([0, 2**64 - 1] * 6, np.uint64)}, "of row 1"),
    "empty_class": ({"embedding": X, "label": [0] * 12, "class": ["", "b"]}, "none empty"),
    "group": ({"embedding": X, "label": LABELS, "group": ["g", ""] * 6}, "'group' is empty at row"),
    "nan_group": ({"embedding": X, "label": LABELS, "group": [1, np.nan] * 6}, "empty at row 1"),
    "surrogate": ({"embedding": X, "label": LABELS, "group": ["\ud800"] * 12}, "valid Unicode"),
    "tag": ({"embedding": X, "tag.t": [2] * 12}, "tag 't' of '0' is 2.0; it takes 0, 1 or NaN"),
    "tag_text": ({"embedding": X, "tag.t": LABELS}, "'tag.t' holds <U1, not numbers"),
    "tag_unnamed": ({"embedding": X, "tag": [1] * 12}, "no name: write tag.<name>"),
    "tag_wide": ({"embedding": X, "label": LABELS, "tag.t": X}, "takes one value each"),
    "target": ({"embedding": X, "target.y": [np.inf] * 12}, "target 'y' of '0' is inf"),
    "target_name": ({"embedding": X, "target.tags": [1] * 12}, "cannot be named 'tags'"),
    "target_twice": ({"embedding": X, "target.y": [1] * 12, "targets.y": [1] * 12}, "two columns"),
    "prompt": ({"embedding": X, "label": LABELS, "prompt": X[:2]}, "needs a column 'class'"),
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
    "nan_group": ({"embedding": X, "label": LABELS, "group": [1, np.nan] * 6}, "empty at row 1"),
    "negative_label": ({"embedding": X, "label": [0, -2] * 6}, "label -2 of row 1"),
    "no_label": ({"embedding": X}, "no column 'label'"),
    "no_embedding": ({"label": LABELS}, "no column 'embedding'"),
    "nan": ({"embedding": NAN, "label": LABELS}, r"'4' \(row 4\) holds NaN"),
    "ragged": ({"embedding": [*X[:11], X[0, :2]], "label": LABELS}, "row 11: 2 values"),
    "not_a_list": ({"embeddings": None, "label": LABELS}, "expected a list of numbers"),
    "text": ({"embedding": X.astype(str), "label": LABELS}, "not numbers"),
    "null_id": ({"embedding": X, "label": LABELS, "id": [None, *LABELS[1:]]}, "empty at row 0"),
    "all_null": ({"embedding": [None] * 12, "label": LABELS}, "expected a list|no row"),
}


def test_a_column_that_nobody_reads_is_told(tmp_path, caplog):
    path = write(tmp_path / "e.npz", embedding=X, label=LABELS, gruop=LABELS)
    EmbeddingSet.load(path)
    (line,) = [r.getMessage() for r in caplog.records]
    assert line.endswith("no column goes by such a name: gruop")


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
