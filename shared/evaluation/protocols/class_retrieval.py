"""Retrieval between images (or what else there is) and the names of their classes."""

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.embedding_set import LABEL, EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats, normalise
from shared.evaluation.neighbours.chance import ranking_chance
from shared.evaluation.neighbours.ranking import average_precision
from shared.evaluation.outcomes import RankOutcome
from shared.evaluation.protocol import Output, Protocol, Settings, Task, missing, rows_of
from shared.evaluation.protocols import zero_shot
from shared.evaluation.protocols.retrieval import RANDOM

TO_CLASS, TO_ROWS = "to names", "from names"
METRICS = ("recall@1", "recall@5", "recall@10", "median_rank", "mrr", "map")
Codes = NDArray[np.int64]


def _tasks(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
    zero_shot.check_order(settings, PROTOCOL.name)
    return [
        Task(task.modalities, LABEL, variant, task.inputs)
        for task in zero_shot.PROTOCOL.tasks(embeddings, settings)
        for variant in (TO_CLASS, TO_ROWS)
    ]


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    """Each row ranks the classes by cosine with their vectors (see `zero_shot.class_vectors`), of
    which its own is right; or each class ranks the rows, of which its own are. A class that
    queries goes by the id and the group of its first test row, and classes are what is drawn."""
    prompts = embeddings.prompts
    if prompts is None:
        return missing(task, embeddings, METRICS, zero_shot.NO_PROMPTS)
    test = rows_of(task, embeddings, concatenate=True)
    if reason := zero_shot.reason_not_to_compare(task, prompts, test):
        return missing(task, embeddings, METRICS, reason)
    vectors, classes = normalise(test.vectors), np.arange(len(prompts))
    of_classes = zero_shot.class_vectors(prompts, settings["order"])
    if task.variant == TO_CLASS:
        rows, outcome = test.index, _ranked(vectors, of_classes, test.targets, classes)
    else:
        there, first = np.unique(test.targets, return_index=True)
        rows = test.index[first]
        outcome = _ranked(of_classes[there], vectors, there, test.targets)
    assert outcome.n_positives is not None
    return Output(
        rows,
        outcome,
        trivial_name=RANDOM,
        chance=ranking_chance(np.full(len(outcome), outcome.n_candidates), outcome.n_positives),
        settings={"n_candidates": outcome.n_candidates, "n_templates": prompts.shape[1]},
    )


def _ranked(queries: Floats, candidates: Floats, wanted: Codes, codes: Codes) -> RankOutcome:
    """Of queries and the (q,) and (n,) codes by which candidates match them."""
    precision, first, relevant = average_precision(queries, candidates, (wanted, codes))
    return RankOutcome(first, len(candidates), np.minimum(precision, 1.0), relevant)


PROTOCOL = Protocol(
    "class_retrieval",
    1,
    "rank of the right class name, and of the samples of a class for its name",
    _tasks,
    _run,
    {"order": zero_shot.ORDERS[0]},
    baselines=False,
    applies=lambda embeddings: embeddings.prompts is not None,
)
