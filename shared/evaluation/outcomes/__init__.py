"""What a protocol says of every test row, and its metrics under weights of the rows."""

from collections.abc import Mapping

from shared.evaluation.outcomes.base import Outcome
from shared.evaluation.outcomes.classes import ClassOutcome
from shared.evaluation.outcomes.clusters import ClusterOutcome
from shared.evaluation.outcomes.mean_recall import MeanRecallOutcome
from shared.evaluation.outcomes.means import MeanOutcome
from shared.evaluation.outcomes.ranks import RankOutcome
from shared.evaluation.outcomes.scalars import ScalarOutcome
from shared.evaluation.outcomes.seeded import SeededOutcome
from shared.evaluation.outcomes.tags import TagOutcome
from shared.evaluation.outcomes.values import ValueOutcome

KINDS: Mapping[str, type[Outcome]] = {
    outcome.kind: outcome
    for outcome in (
        ClassOutcome,
        TagOutcome,
        ValueOutcome,
        RankOutcome,
        MeanRecallOutcome,
        ClusterOutcome,
        ScalarOutcome,
        MeanOutcome,
        SeededOutcome,
    )
}

__all__ = [
    "KINDS",
    "ClassOutcome",
    "ClusterOutcome",
    "MeanOutcome",
    "MeanRecallOutcome",
    "Outcome",
    "RankOutcome",
    "ScalarOutcome",
    "SeededOutcome",
    "TagOutcome",
    "ValueOutcome",
]
