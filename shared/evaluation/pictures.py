"""Pictures of an evaluation: confusion, map of the embeddings, recall against rank, galleries."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared.evaluation import galleries
from shared.evaluation.embedding_set import SPLIT, EmbeddingSet
from shared.evaluation.figures import COLOURS, make_figure, make_panels, plain, scatter_classes
from shared.evaluation.projection import project
from shared.evaluation.retrieval import NAME as RETRIEVAL
from shared.evaluation.run import Evaluation, Run
from shared.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_K = 100
DPI = 120


def save_pictures(folder: str | Path, evaluation: Evaluation) -> list[Path]:
    """Write PNGs of whatever the evaluation holds.

    `confusion_<protocol>.png` on all modalities together or, where that could not run, on the best
    one; `embedding_map.png`; `recall.png`. Where `evaluation.drawing` brings samples and how to
    draw them: `thumbnails_map.png`, and for each modality `similarity_<modality>.png` and
    `outliers_<modality>.png`.

    Args:
        folder: Made if it is not there.
        evaluation: Of `evaluate_arrays`.

    Returns:
        The files written.
    """
    figures: dict[str, Figure] = {}
    embeddings, drawing = evaluation.embeddings, evaluation.drawing
    ran = [run for run in evaluation.runs if run.output.missing is None]
    for protocol in dict.fromkeys(run.task.protocol for run in ran if run.output.truth is not None):
        run = _widest([run for run in ran if run.task.protocol == protocol])
        figures[f"confusion_{protocol}"] = _confusion(run, embeddings)
    if any(embeddings.rows(SPLIT, m).size for m in embeddings.modalities):
        figures["embedding_map"] = _map(embeddings, drawing.projection)
    if retrievals := [run for run in ran if run.task.protocol == RETRIEVAL]:
        figures["recall"] = _recall(retrievals, embeddings)
    figures |= galleries.draw_all(embeddings, drawing, evaluation.outliers)
    paths = []
    for name, figure in figures.items():
        path = Path(folder) / f"{name}.png"
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=DPI)
        paths.append(path)
    return paths


def _widest(runs: Sequence[Run]) -> Run:
    """The run on most modalities; among equals, that of the best balanced accuracy."""

    def rank(run: Run) -> tuple[int, float]:
        values = {score.metric: score.value or 0.0 for score in run.output.scores}
        return len(run.task.modalities), values["balanced_accuracy"]

    return max(runs, key=rank)


def _confusion(run: Run, embeddings: EmbeddingSet) -> "Figure":
    truth, predicted = run.output.truth, run.output.predicted
    if truth is None or predicted is None:
        raise TypeError(f"{run.task.protocol} predicts no classes")
    shown = np.union1d(truth, predicted)
    counts = np.zeros((len(embeddings.classes),) * 2, dtype=np.int64)
    np.add.at(counts, (truth, predicted), 1)
    counts = counts[np.ix_(shown, shown)]
    rows = counts.sum(axis=1, keepdims=True)
    percent = 100 * np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)

    size = len(shown)
    title = f"{_words(run.task.protocol)}, {run.task.inputs}: % of each true class (count)"
    title += f", n = {run.output.n} test rows"
    width, height = max(5.5, 2.0 + 0.62 * size), max(4.2, 1.8 + 0.52 * size)
    figure = make_figure(width, height, title, embeddings)
    axes = figure.subplots()
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    names = [plain(embeddings.classes[i]) for i in shown]
    axes.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.spines[:].set_visible(False)
    for i, j in np.argwhere(counts > 0):
        colour = "white" if percent[i, j] > 55 else "black"
        for text, y, va, points in (
            (f"{percent[i, j]:.0f}", i, "bottom", 9.0),
            (f"({counts[i, j]})", i + 0.08, "top", 6.5),
        ):
            axes.text(j, y, text, ha="center", va=va, fontsize=points, color=colour)
    return figure


def _map(embeddings: EmbeddingSet, method: str) -> "Figure":
    modalities = [m for m in embeddings.modalities if embeddings.rows(SPLIT, m).size]
    title = "Test embeddings in two dimensions; colour and marker: class"
    figure, panels = make_panels(len(modalities), 3.6, 4.3, title, embeddings)
    in_legend: set[int] = set()
    for axes, modality in zip(panels, modalities, strict=True):
        rows, train = (embeddings.rows(split, modality) for split in (SPLIT, "train"))
        vectors = embeddings.vectors[modality]
        points, words = project(vectors[rows], vectors[train], method)
        scatter_classes(axes, points, embeddings.labels[rows], embeddings, in_legend)
        axes.set_title(plain(f"{modality} (n = {len(rows)})\n{words}"), fontsize=9)
    columns = 5 if len(panels) == 1 else 10
    figure.legend(loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    return figure


def _recall(runs: Sequence[Run], embeddings: EmbeddingSet) -> "Figure":
    """One panel a pair of modalities, both directions and chance in it."""
    pairs = list(dict.fromkeys(frozenset(run.task.modalities) for run in runs))
    title = "Retrieval across modalities: share of queries whose match is among the first k"
    figure, panels = make_panels(len(pairs), 3.4, 3.6, title, embeddings)
    for axes, pair in zip(panels, pairs, strict=True):
        both = [run for run in runs if frozenset(run.task.modalities) == pair]
        for run, colour, style in zip(both, COLOURS, ("-", "-."), strict=False):
            ranks, chance = run.output.ranks, run.output.chance_recall
            if ranks is None or chance is None:
                raise TypeError(f"{run.task.protocol} has no ranks")
            k = np.arange(1, min(MAX_K, run.output.n) + 1)
            curve = np.searchsorted(np.sort(ranks), k, side="right") / len(ranks)
            label = f"{run.task.modalities[0]} → {run.task.modalities[1]}"
            axes.plot(k, curve, color=colour, linestyle=style, label=plain(label))
            if run is both[-1]:
                axes.plot(k, chance[: len(k)], color="#666666", linestyle=":", label="chance")
        axes.set_title(f"n = {run.output.n} test rows with both", fontsize=9)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("k")
        axes.set_ylabel("recall@k")
        axes.grid(alpha=0.3, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8, frameon=False)
    return figure


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()
