"""Which pictures an evaluation has, and of which of its runs."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from shared.evaluation.embeddings.embedding_set import LABEL, SPLIT, TAGS, EmbeddingSet
from shared.evaluation.metrics import METRICS
from shared.evaluation.outcomes import ClassOutcome, Outcome, RankOutcome, TagOutcome, ValueOutcome
from shared.evaluation.pictures.confusion import draw_confusion
from shared.evaluation.pictures.curves import Direction, draw_recall, draw_shots, shot_curve
from shared.evaluation.pictures.figures import arrow, words
from shared.evaluation.pictures.galleries import draw_outliers, draw_retrieval, draw_similarity
from shared.evaluation.pictures.intervals import draw_subgroups, draw_tags
from shared.evaluation.pictures.maps import draw_map, draw_thumbnails_map
from shared.evaluation.pictures.reliability import draw_reliability
from shared.evaluation.pictures.scatter import draw_values
from shared.evaluation.pictures.thumbnails import make_artist
from shared.evaluation.results.table import BY_SUBGROUP, headlines, number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from shared.evaluation.run import Evaluation, Run

    Named = Iterator[tuple[str, Figure]]

_O = TypeVar("_O", bound=Outcome)
RETRIEVAL = "retrieval"
FEW_SHOT = "few_shot"


def draw_pictures(evaluation: "Evaluation") -> "Named":
    """Names and figures, one at a time, so that no more than one is held."""
    embeddings = evaluation.embeddings
    ran = [run for run in evaluation.runs if run.output.outcome is not None]
    yield from _of_classes(ran, embeddings)
    yield from _of_shots(ran, embeddings)
    yield from _of_values(ran, embeddings)
    yield from _of_tags(ran, embeddings)
    yield from _of_ranks(ran, embeddings)
    yield from _of_subgroups(ran, embeddings)
    yield from _of_samples(evaluation, ran)
    for run in ran:
        if run.protocol.pictures and evaluation.drawing.dataset:
            yield from run.protocol.pictures.draw(run, embeddings, evaluation.drawing.dataset)


def _widest(runs: "Sequence[Run]") -> "list[Run]":
    """Of each protocol and target the run on most modalities; among equals, the best."""

    def rank(run: "Run") -> tuple[int, float]:
        value = run.scores[headlines(run.output.outcome.metrics)[0]].value  # type: ignore[union-attr]
        return len(run.task.modalities), -float("inf") if value is None else value

    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.protocol.name, run.task.target), []).append(run)
    return [max(group, key=rank) for group in groups.values()]


def _with(runs: "Sequence[Run]", kind: type[_O]) -> "Iterator[tuple[Run, _O]]":
    """Of the runs with such an outcome, the widest, and that outcome."""
    for run in _widest([run for run in runs if isinstance(run.output.outcome, kind)]):
        assert isinstance(run.output.outcome, kind)
        yield run, run.output.outcome


def _title(run: "Run") -> str:
    target = "" if run.task.target in ("", LABEL, TAGS) else f" of {run.task.target}"
    return f"{words(run.protocol.name)}{target}, {arrow(run.task.inputs)}"


def _score_text(run: "Run", metric: str) -> str:
    score = run.scores[metric]
    text = f"{METRICS[metric].title} {number_text(score.value, metric)}"
    if score.low is not None:
        text += f" [{number_text(score.low, metric)}, {number_text(score.high, metric)}]"
    return text


def _of_classes(runs: "Sequence[Run]", embeddings: EmbeddingSet) -> "Named":
    for run, outcome in _with(runs, ClassOutcome):
        if len(outcome) == 0:
            continue
        name = run.protocol.name
        yield f"confusion_{name}", draw_confusion(outcome, _title(run), embeddings)
        if outcome.probabilities is not None:
            yield f"reliability_{name}", draw_reliability(outcome, _title(run), embeddings)


def _of_values(runs: "Sequence[Run]", embeddings: EmbeddingSet) -> "Named":
    for run, outcome in _with(runs, ValueOutcome):
        if len(outcome) == 0:
            continue
        note = "\n".join(_score_text(run, m) for m in ("r2", "mae", "spearman"))
        figure = draw_values(outcome, run.task.target, _title(run), note, embeddings)
        yield f"values_{run.protocol.name}_{run.task.target}", figure


def _of_tags(runs: "Sequence[Run]", embeddings: EmbeddingSet) -> "Named":
    for run, outcome in _with(runs, TagOutcome):
        groups = embeddings.groups[run.output.rows]
        if figure := draw_tags(outcome, groups, _title(run), embeddings):
            yield f"tags_{run.protocol.name}", figure


def _of_shots(runs: "Sequence[Run]", embeddings: EmbeddingSet) -> "Named":
    of_target: dict[str, list[Run]] = {}
    for run in runs:
        if run.protocol.name == FEW_SHOT:
            of_target.setdefault(run.task.target, []).append(run)
    for target, group in of_target.items():
        metric = headlines(group[0].output.outcome.metrics)[0]  # type: ignore[union-attr]
        parts = {r.task.inputs: [o for o in group if o.task.inputs == r.task.inputs] for r in group}
        curves = [shot_curve(inputs, part, metric) for inputs, part in parts.items()]
        about = f"{len(group[0].output.seeds)} draws"
        figure = draw_shots(curves, METRICS[metric].title, about, embeddings)
        yield FEW_SHOT if target == LABEL else f"{FEW_SHOT}_{target}", figure


def _of_ranks(runs: "Sequence[Run]", embeddings: EmbeddingSet) -> "Named":
    directions = []
    for run in runs:
        if run.protocol.name == RETRIEVAL and isinstance(run.output.outcome, RankOutcome):
            query, candidate = run.task.modalities
            directions.append(Direction(query, candidate, run.output.outcome))
    if directions:
        yield "recall", draw_recall(directions, embeddings)


def _of_subgroups(runs: "Sequence[Run]", embeddings: EmbeddingSet) -> "Named":
    # a number of the whole set has none of its parts
    of_rows = [r for r in runs if r.output.outcome is not None and r.output.outcome.resampled]
    divided = [run for run in of_rows if run.subgroups and not run.task.variant]
    for run in _widest([r for r in divided if r.protocol.name in BY_SUBGROUP] or divided):
        metric = headlines(run.output.outcome.metrics)[0]  # type: ignore[union-attr]
        figure = draw_subgroups(run.scores, run.subgroups, metric, _title(run), embeddings)
        target = "" if run.task.target in ("", LABEL) else f"_{run.task.target}"
        yield f"subgroups_{run.protocol.name}{target}", figure


def _of_samples(evaluation: "Evaluation", runs: "Sequence[Run]") -> "Named":
    embeddings, drawing = evaluation.embeddings, evaluation.drawing
    if any(embeddings.rows(SPLIT, m).size for m in embeddings.modalities):
        yield "embedding_map", draw_map(embeddings, drawing.projection)
    artist = make_artist(drawing)
    if artist is None:
        return
    if figure := draw_thumbnails_map(embeddings, artist, drawing.projection):
        yield "thumbnails_map", figure
    for run in runs:
        outcome = run.output.outcome
        if run.protocol.name == RETRIEVAL and isinstance(outcome, RankOutcome):
            positives = run.settings.get("positives", "row")
            found = (run.output.rows, outcome.ranks, positives)
            if figure := draw_retrieval(embeddings, artist, run.task, *found):
                yield f"retrieval_{'_'.join(run.task.modalities)}", figure
    for modality in embeddings.modalities:
        if figure := draw_similarity(embeddings, artist, modality):
            yield f"similarity_{modality}", figure
        outliers = evaluation.outliers
        if outliers is None or modality not in outliers.distance:
            continue
        if figure := draw_outliers(embeddings, artist, modality, outliers):
            yield f"outliers_{modality}", figure
