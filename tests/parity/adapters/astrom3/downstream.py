"""AstroM3's protocols on frozen embeddings: centres, nearest neighbour, outliers, similarity."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.embeddings.vectors import unit_mean
from shared.evaluation.hygiene.outliers import find_outliers
from shared.evaluation.neighbours.similarity import similar
from shared.evaluation.protocol import ALL
from shared.evaluation.protocols import knn, nearest_centroid
from shared.evaluation.protocols.nearest_centroid import class_centres
from shared.evaluation.run import evaluate_arrays

PROTOCOLS = {"center": nearest_centroid.PROTOCOL, "nearest": knn.NEAREST_NEIGHBOUR}


def embedding_set(inputs: Mapping[str, Tensor]) -> EmbeddingSet:
    """Train rows, then test rows."""
    letters = [k.removeprefix("train_") for k in inputs if re.fullmatch("train_.", k)]
    sizes = [len(inputs[f"{split}_labels"]) for split in ("train", "test")]
    ids = np.arange(sum(sizes)).astype(str)
    labels = torch.cat([inputs["train_labels"], inputs["test_labels"]]).numpy()
    return EmbeddingSet(
        ids=ids,
        vectors={
            x: torch.cat([inputs[f"train_{x}"], inputs[f"test_{x}"]]).numpy() for x in letters
        },
        present={x: np.ones(len(ids), dtype=bool) for x in letters},
        labels=labels.astype(np.int64),
        classes=tuple(str(c) for c in range(int(labels.max()) + 1)),
        splits=np.repeat(["train", "test"], sizes),
        groups=ids,
        dataset="recorded",
        model="recorded",
        synthetic=True,
        fingerprint="",
    )


def downstream(case: Any) -> dict[str, Tensor]:
    embeddings = embedding_set(case.tensors("inputs"))
    found: dict[str, Any] = {}
    evaluation = evaluate_arrays(embeddings, protocols=[*PROTOCOLS.values()], n_resamples=0)
    names = {protocol.name: name for name, protocol in PROTOCOLS.items()}
    for run in evaluation.runs:
        key = f"{names[run.protocol.name]}.{run.task.inputs}"
        found[f"pred_{key}"] = run.output.outcome.predicted
        found[f"acc_{key}"] = np.float64(run.scores["accuracy"].value)

    train, test = embeddings.rows("train"), embeddings.rows("test")
    for name in (*embeddings.modalities, ALL):
        together = embeddings.modalities if name == ALL else (name,)
        vectors = unit_mean([embeddings.vectors[m][train] for m in together])
        found[f"centers.{name}"] = class_centres(vectors, embeddings.labels[train])[1]

    outliers = find_outliers(embeddings)
    assert outliers is not None
    place = outliers.rows - len(train)
    for name, distance in outliers.distance.items():
        found[f"outlier_distance.{name}"] = distance[np.argsort(place)]
    for key in case.tensors("outputs"):
        if match := re.fullmatch(r"outlier_top(\d+)(_pred)?\.(\w+)", key):
            chosen = outliers.farthest(match[3], int(match[1]))
            found[key] = outliers.predicted[match[3]][chosen] if match[2] else place[chosen]
        elif match := re.fullmatch(r"similar_(\w+)\.query(\d+)_top(\d+)", key):
            query = test[int(match[2])]
            # upstream's list begins with the query itself, ours leaves it out
            neighbours, _ = similar(embeddings, [query], match[1], int(match[3]) - 1)
            found[key] = np.concatenate([[query], neighbours[0]])
    return {key: torch.as_tensor(value) for key, value in found.items()}


ADAPTERS = {"downstream": downstream}
