import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.errors import EvaluationError, WriteError
from shared.evaluation.outcomes import ClassOutcome, RankOutcome, ScalarOutcome
from shared.evaluation.outcomes.files import load_outcome, save_outcome


def names(prefix, n):
    return np.array([f"{prefix}{i}" for i in range(n)], dtype=np.str_)


@pytest.fixture
def classes():
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.2, 0.5, 0.3]])
    return ClassOutcome(np.array([0, 1, 2, 2]), p.argmax(1), ("a.b", "č", "unseen"), p)


@pytest.mark.parametrize("n", [0, 1, 30])
def test_what_is_saved_is_loaded(make, tmp_path, n):
    outcome = make(np.random.default_rng(0), n)
    ids, groups = names("id", n), names("group", n)
    save_outcome(tmp_path / "deep" / "x.parquet", outcome, ids, groups, {"protocol": "p", "k": 3})
    same, same_ids, same_groups, meta = load_outcome(tmp_path / "deep" / "x.parquet")
    assert type(same) is type(outcome)
    assert same.metrics == outcome.metrics
    np.testing.assert_array_equal(same.values(), outcome.values())
    weights = np.random.default_rng(1).integers(0, 3, size=(3, n)).astype(float)
    np.testing.assert_array_equal(same.statistic(weights), outcome.statistic(weights))
    assert (same_ids.tolist(), same_groups.tolist()) == (ids.tolist(), groups.tolist())
    assert meta == {"protocol": "p", "k": 3}


def test_scalars_have_rows_of_ids_and_no_columns(tmp_path):
    outcome = ScalarOutcome({"uniformity": -2.5}, 4, {"alignment": "one modality"})
    save_outcome(tmp_path / "x.parquet", outcome, names("i", 4), names("g", 4))
    same, ids, _, meta = load_outcome(tmp_path / "x.parquet")
    assert len(same) == len(ids) == 4
    assert same.metrics == outcome.metrics
    assert same.reasons() == outcome.reasons()
    assert meta == {}


def test_columns_are_those_a_reader_expects(classes, tmp_path):
    save_outcome(tmp_path / "x.parquet", classes, names("i", 4), names("g", 4))
    table = pq.read_table(tmp_path / "x.parquet").to_pydict()
    assert list(table) == [
        *("id", "group", "truth", "predicted"),
        *("probability.a.b", "probability.č", "probability.unseen"),
    ]
    assert table["truth"] == ["a.b", "č", "unseen", "unseen"]
    assert table["probability.č"] == [0.3, 0.8, 0.3, 0.5]


def rewrite(path, change):
    table = pq.read_table(path)
    content = json.loads(table.schema.metadata[b"zoo"])
    table = change(table, content)
    pq.write_table(table.replace_schema_metadata({b"zoo": json.dumps(content).encode()}), path)


def test_damage_is_one_message(classes, tmp_path):
    path = tmp_path / "x.parquet"

    def damaged(change, message):
        save_outcome(path, classes, names("i", 4), names("g", 4))
        rewrite(path, change)
        with pytest.raises(EvaluationError, match=message) as error:
            load_outcome(path)
        assert str(path) in str(error.value)

    damaged(lambda table, _: table.drop_columns("predicted"), "'predicted' is missing")
    damaged(lambda table, _: table.drop_columns("group"), "'group' is missing")
    damaged(lambda table, _: table.drop_columns("probability.č"), "probability.č.* is missing")
    damaged(lambda table, content: content.update(schema_version=9) or table, "version 9")
    damaged(lambda table, content: content.update(kind="cards") or table, "'cards' is missing")
    damaged(lambda table, content: content.pop("outcome") and table, "'outcome' is missing")
    damaged(
        lambda table, _: table.set_column(3, "predicted", pa.array(["z"] * 4)), "'z' is not one of"
    )
    damaged(
        lambda table, _: table.set_column(4, "probability.a.b", pa.array([9.0] * 4)),
        "no probabilities",
    )


def test_files_that_are_no_outcomes(tmp_path):
    path = tmp_path / "x.parquet"
    with pytest.raises(EvaluationError, match="no such file"):
        load_outcome(path)
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(EvaluationError, match="not a readable Parquet"):
        load_outcome(path)
    pq.write_table(pa.table({"id": ["a"]}), path)
    with pytest.raises(EvaluationError, match="not a file of predictions"):
        load_outcome(path)


def test_a_damaged_value_is_told(classes, tmp_path):
    """`zoo compare` computes from these columns; nothing else shows what a disk has changed."""
    path, ids = tmp_path / "x.parquet", names("i", 4)
    save_outcome(path, classes, ids, names("g", 4))
    whole, expected = path.read_bytes(), classes.columns()
    told = 0
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 16
        path.write_bytes(damaged)
        try:
            found = load_outcome(path)[0].columns()
        except EvaluationError:
            told += 1
            continue
        for name, column in expected.items():
            np.testing.assert_array_equal(found[name], column)
    assert told > 50


def test_an_old_file_stays_when_the_new_one_cannot_be_written(tmp_path):
    path = tmp_path / "x.parquet"
    outcome = RankOutcome(np.array([1, 2]), 2)
    save_outcome(path, outcome, names("i", 2), names("g", 2))
    before = path.read_bytes()
    with pytest.raises(EvaluationError, match="JSON"):
        save_outcome(path, outcome, names("i", 2), names("g", 2), {"x": float("nan")})
    with pytest.raises(EvaluationError, match="3 ids and 2 groups of 2"):
        save_outcome(path, outcome, names("i", 3), names("g", 2))
    assert path.read_bytes() == before
    with pytest.raises(WriteError):
        save_outcome(path / "below.parquet", outcome, names("i", 2), names("g", 2))
