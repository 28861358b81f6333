"""Protocols on published data with simple features, beside what the READMEs of the data state.

`python -m benchmarks.real.run` does the same for every set.
"""

import importlib
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from shared.evaluation.cross_validation import cross_validated, fold_sets
from shared.evaluation.embeddings.embedding_set import LABEL, SPLIT, TAGS
from shared.evaluation.protocol import Task
from shared.evaluation.run import evaluate_arrays
from zoo.plugins import plugins

sys.path.append(str(Path(__file__).resolve().parents[1]))

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="session")
def read(data_root):
    """A reader of `benchmarks.real` on the real data: `read("molecules", "esol")`."""

    @cache
    def load(module, function, **settings):
        if module == "molecules":
            pytest.importorskip("rdkit", reason="pip install rdkit")
        reader = getattr(importlib.import_module(f"benchmarks.real.{module}"), function)
        return reader(data_root, **settings)

    return load


def judge(name, embeddings, task, folds=None):
    """Output and metric → value, on the test split or over folds."""
    protocol = plugins().registries.protocols.get(name)
    if folds:
        protocol = cross_validated(protocol, folds)
    output = protocol.run(task, embeddings, protocol.settings)
    assert output.outcome is not None, output.missing
    return output, dict(zip(output.outcome.metrics, output.outcome.values().tolist(), strict=True))


def in_several_splits(embeddings):
    """Groups that straddle splits."""
    pairs = set(zip(embeddings.groups.tolist(), embeddings.splits.tolist(), strict=True))
    groups = [group for group, _ in pairs]
    return {group for group in groups if groups.count(group) > 1}


def test_solubility_from_descriptors(read):
    """README: ridge on 9 descriptors, 5-fold, RMSE 1.002, MAE 0.773; standard error about 0.03."""
    embeddings = read("molecules", "esol")
    task = Task(("descriptors",), "log_solubility", inputs="descriptors")
    _, found = judge("ridge_probe", embeddings, task, folds=5)
    assert found["rmse"] == pytest.approx(1.002, abs=0.06)
    assert found["r2"] > 0.7


def test_permeability_from_morgan_bits(read):
    """README: logistic regression, 5-fold, AUROC 0.903; standard error about 0.01."""
    embeddings = read("molecules", "bbbp")
    assert len(embeddings) == 1419
    assert not in_several_splits(embeddings)
    _, found = judge("linear_probe", embeddings, Task(("morgan",), LABEL, inputs="morgan"))
    assert 0.8 < found["auroc"] < 0.97


def test_assays_that_were_not_made_do_not_count(read):
    embeddings = read("molecules", "tox21")
    assert embeddings.truth(TAGS).shape == (5525, 12)
    output, found = judge("knn", embeddings, Task(("morgan",), TAGS, inputs="morgan"))
    assert np.isnan(output.outcome.truth).mean() > 0.1
    assert np.isfinite(output.outcome.scores).all()
    assert 0.7 < found["auroc"] < 0.9


def test_patients_stay_together(read):
    embeddings = read("images", "covid_chestxray")
    assert len(np.unique(embeddings.groups)) == 75 < len(embeddings) == 136
    assert not in_several_splits(embeddings)
    for fold in fold_sets(embeddings, 5):
        assert not in_several_splits(fold)


def test_scores_of_each_view_stand_beside_the_whole(read):
    embeddings = read("images", "covid_chestxray")
    protocol = plugins().registries.protocols.get("nearest_centroid")
    evaluation = evaluate_arrays(embeddings, [protocol], n_resamples=100)
    by_view = {r.subgroup: r.n for r in evaluation.results if r.metric == "accuracy"}
    assert by_view.pop("") == sum(by_view.values()) == (embeddings.splits == SPLIT).sum()
    assert set(by_view) <= {"view=PA", "view=AP", "view=AP Supine", "view=L"}


def test_fitness_by_the_published_split(read):
    """README: ridge on one-hot, Spearman 0.594; of 8309 rows, standard error about 0.01."""
    embeddings = read("proteins", "flip_gb1", split="two_vs_rest")
    assert [int((embeddings.splits == s).sum()) for s in SPLITS] == [381, 43, 8309]
    _, found = judge("ridge_probe", embeddings, Task(("one_hot",), "fitness", inputs="one_hot"))
    assert found["spearman"] == pytest.approx(0.594, abs=0.05)


def test_text_finds_its_molecule(read):
    """README: 5-fold, recall@1 0.416 among about 916 candidates; here half the training rows and
    2290 candidates."""
    embeddings = read("molecules", "chebi20")
    molecules = importlib.import_module("benchmarks.real.molecules")
    task = Task((molecules.TEXT, molecules.MOLECULE), inputs="text->molecule")
    output, found = judge("retrieval", molecules.text_to_molecule(embeddings), task)
    assert output.outcome.n_candidates == 2290
    assert 0.1 < found["recall@1"] < 0.416
    assert found["recall@1"] < found["recall@10"] < 0.765


def test_nodes_without_a_topic_are_not_judged(read):
    embeddings = read("graphs", "cane_cora")
    assert (embeddings.labels == -1).sum() == 36
    results = {}
    for modality in embeddings.modalities:
        task = Task((modality,), LABEL, inputs=modality)
        output, results[modality] = judge("nearest_centroid", embeddings, task)
        assert (embeddings.labels[output.rows] >= 0).all()
    assert results["two_hops"]["accuracy"] > results["text"]["accuracy"] - 0.02


def test_one_object_a_name_is_no_classification(read):
    embeddings = read("meshes", "object_sim")
    registry = plugins().registries.protocols
    names = ("linear_probe", "nearest_centroid", "knn", "few_shot")
    evaluation = evaluate_arrays(embeddings, [registry.get(name) for name in names], n_resamples=50)
    assert {run.protocol.name for run in evaluation.runs} == set(names)
    # one test row: whatever is said of it has no interval
    assert all(r.missing or (r.n == 1 and r.ci_low is None) for r in evaluation.results)
    assert all(r.ci_missing for r in evaluation.results if r.value is not None)
