"""Cross-validation: every sample is judged once, by what was learned without its fold.

For data of a few hundred samples, whose test split of 15 % would decide nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shared.data.splits import assign_folds
from shared.errors import EvaluationError
from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.outcomes import ClusterOutcome, Outcome, SeededOutcome
from shared.evaluation.protocol import Output, Protocol, Setting, Settings, Task, missing

INNER_FOLDS = 5
"""Of the rows that are not judged one in so many is for validation."""


def fold_sets(embeddings: EmbeddingSet, folds: int, seed: int = 0) -> Iterator[EmbeddingSet]:
    """The set once a fold, with that fold as its `test` split, a fifth of the other rows as `val`
    and the rest as `train`. No group is divided, classes are spread evenly, and which fold a
    group is in depends on groups, labels and seed only.

    Raises:
        EvaluationError: Fewer than two folds, or more folds than groups.
    """
    n_groups = len(np.unique(embeddings.groups))
    if not 2 <= folds <= n_groups:
        raise EvaluationError(
            f"{embeddings.dataset}: folds={folds}, but there are {n_groups} groups; give 2 or "
            "more, and at most one a group."
        )
    fold = assign_folds(embeddings.groups, embeddings.labels, folds, seed)
    for judged in range(folds):
        splits = np.where(fold == judged, "test", "train")
        rest = np.flatnonzero(fold != judged)
        inner = assign_folds(embeddings.groups[rest], embeddings.labels[rest], INNER_FOLDS, seed)
        # with fewer groups than inner folds the last is empty: rows to train on come first
        splits[rest[inner == INNER_FOLDS - 1]] = "val"
        yield replace(embeddings, splits=splits)


def cross_validated(
    protocol: Protocol,
    folds: int = 5,
    *,
    seed: int = 0,
    prepare: Callable[[EmbeddingSet], EmbeddingSet] | None = None,
) -> Protocol:
    """The protocol with another `run`: once a fold, and the predictions of all folds pooled. Its
    settings hold the folds, so that no result is taken for one of the test split.

    The metrics are those of the pooled predictions, so that AUROC compares scores of different
    folds (Forman and Scholz 2010, SIGKDD Explorations 12:49) and ranks are among the candidates of
    a fold. Intervals are over rows or groups, given what was learned; that training sets overlap
    they do not know (Bengio and Grandvalet 2004, JMLR 5:1089).

    Args:
        protocol: Any whose outcome is one of rows; the others are missing with that reason.
        folds: How many.
        seed: Of the folds.
        prepare: Makes the set of a fold from the one with its splits: features that are fitted to
            the training rows.
    """

    def run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
        outputs: list[Output] = []
        for fold in fold_sets(embeddings, settings["folds"], settings["fold_seed"]):
            output = protocol.run(task, fold if prepare is None else prepare(fold), settings)
            if output.outcome is None:
                reason = f"fold {len(outputs) + 1} of {settings['folds']}: {output.missing}"
                return missing(task, embeddings, output.metrics, reason)
            if (unfit := _reason_not_to_pool(output.outcome)) is not None:
                return missing(task, embeddings, output.outcome.metrics, unfit)
            outputs.append(output)
        return replace(_pooled(outputs), settings=_settings(outputs))

    chosen: dict[str, Setting] = {"folds": folds, "fold_seed": seed}
    if prepare is not None:
        chosen["prepare"] = prepare.__name__
    return replace(protocol, run=run, settings={**protocol.settings, **chosen})


def pool(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome of the rows of several of a kind, one after the other; a column that some lack
    (calibrated probabilities) is left out."""
    first = outcomes[0]
    if isinstance(first, SeededOutcome):
        of_seeds = zip(*(o.outcomes for o in outcomes if isinstance(o, SeededOutcome)), strict=True)
        return SeededOutcome(tuple(map(pool, of_seeds)), first.seeds)
    columns = [outcome.columns() for outcome in outcomes]
    shared = [name for name in columns[0] if all(name in part for part in columns)]
    joined = {name: np.concatenate([part[name] for part in columns]) for name in shared}
    # folds differ in their candidates by a few; the most count, as in `RankOutcome`
    meta = max((outcome.meta() for outcome in outcomes), key=_candidates)
    return type(first).from_columns(joined, meta)


def _candidates(meta: Mapping[str, Any]) -> int:
    return int(meta.get("n_candidates", 0))


def _pool_trivial(outcomes: Sequence[Outcome]) -> Outcome:
    """As `pool`, with the mean in place of numbers that are constant within a fold: the mean of the
    training rows is low where that of the fold is high, so their order is worse than none."""
    pooled = pool(outcomes)
    columns = {
        name: np.full(len(column), column.mean())
        if name.partition(".")[0] in ("predicted", "probability") and column.dtype.kind == "f"
        else column
        for name, column in pooled.columns().items()
    }
    return type(pooled).from_columns(columns, pooled.meta())


def _reason_not_to_pool(outcome: Outcome) -> str | None:
    inner = outcome.outcomes[0] if isinstance(outcome, SeededOutcome) else outcome
    if isinstance(inner, ClusterOutcome):
        return "clusters of one fold are not those of another"
    return None if inner.resampled else "a number of the whole set, not of its rows"


def _pooled(outputs: Sequence[Output]) -> Output:
    trivial = [o.trivial for o in outputs if o.trivial is not None]
    share = np.array([len(o.rows) for o in outputs]) / sum(len(o.rows) for o in outputs)
    names = set.intersection(*(set(o.chance) for o in outputs))
    return replace(
        outputs[0],
        rows=np.concatenate([o.rows for o in outputs]),
        outcome=pool([o.outcome for o in outputs if o.outcome is not None]),
        trivial=_pool_trivial(trivial) if len(trivial) == len(outputs) else None,
        chance={m: float(share @ [o.chance[m] for o in outputs]) for m in sorted(names)},
    )


def _settings(outputs: Sequence[Output]) -> dict[str, Setting]:
    """What all folds chose, or what each did where they differ: a list of numbers or texts, and
    where these are lists themselves, one a fold."""
    found: dict[str, Setting] = {}
    for name in outputs[0].settings:
        values: list[Any] = [output.settings.get(name) for output in outputs]
        if all(value == values[0] for value in values):
            found[name] = values[0]
        elif any(isinstance(value, list) for value in values):
            found |= {f"{name}.fold_{i}": value for i, value in enumerate(values, start=1)}
        else:
            found[name] = values
    return found
