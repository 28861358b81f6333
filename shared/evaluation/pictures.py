"""Pictures of an evaluation: confusion, map of the embeddings, recall against rank."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embedding_set import EmbeddingSet
from shared.evaluation.nearest_centroid import normalise
from shared.evaluation.retrieval import NAME as RETRIEVAL
from shared.evaluation.run import SPLIT, Evaluation, Run
from shared.evaluation.statistics import Floats
from shared.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008, Color Universal Design; black and yellow left out (too dark, too pale on white).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
MARKERS = ("o", "^", "s", "D", "v", "P")
UNKNOWN_COLOUR = "#BBBBBB"
TSNE_ROWS = (50, 3000)
"""t-SNE between these numbers of rows, else PCA: fewer have no neighbourhoods, more take long."""
PERPLEXITY = 30
MAX_K = 100
MAX_COLUMNS = 3


def save_pictures(
    folder: str | Path, evaluation: Evaluation, embeddings: EmbeddingSet
) -> list[Path]:
    """Write PNGs of whatever the evaluation holds.

    `confusion_<protocol>.png` on all modalities together or, where that could not run, on the best
    one; `embedding_map.png`; `recall.png`.

    Args:
        folder: Made if it is not there.
        evaluation: Of `evaluate_arrays`.
        embeddings: What was evaluated.

    Returns:
        The files written.
    """
    figures: dict[str, Figure] = {}
    ran = [run for run in evaluation.runs if run.output.missing is None]
    for protocol in dict.fromkeys(run.task.protocol for run in ran if run.output.truth is not None):
        run = _widest([run for run in ran if run.task.protocol == protocol])
        figures[f"confusion_{protocol}"] = _confusion(run, embeddings)
    if any(embeddings.rows(SPLIT, m).size for m in embeddings.modalities):
        figures["embedding_map"] = _map(embeddings)
    if retrievals := [run for run in ran if run.task.protocol == RETRIEVAL]:
        figures["recall"] = _recall(retrievals, embeddings)
    paths = []
    for name, figure in figures.items():
        path = Path(folder) / f"{name}.png"
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=150)
        paths.append(path)
    return paths


def _widest(runs: Sequence[Run]) -> Run:
    """The run on most modalities; among equals, that of the best balanced accuracy."""

    def rank(run: Run) -> tuple[int, float]:
        values = {score.metric: score.value or 0.0 for score in run.output.scores}
        return len(run.task.modalities), values["balanced_accuracy"]

    return max(runs, key=rank)


def _figure(width: float, height: float, title: str, embeddings: EmbeddingSet) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    mark = ", synthetic data" if embeddings.synthetic else ""
    text = f"{title}\n{embeddings.model} on {embeddings.dataset}{mark}"
    figure.suptitle(_plain(text), fontsize=10)
    return figure


def _panels(
    count: int, width: float, height: float, title: str, embeddings: EmbeddingSet
) -> tuple["Figure", list["Axes"]]:
    """A figure with so many panels of a size in inches, up to three in a row."""
    columns = min(count, MAX_COLUMNS)
    n_rows = -(-count // columns)
    figure = _figure(max(6.0, width * columns), 0.6 + height * n_rows, title, embeddings)
    panels = figure.subplots(n_rows, columns, squeeze=False).ravel().tolist()
    for unused in panels[count:]:
        unused.remove()
    return figure, panels[:count]


def _plain(text: str) -> str:
    """Names as they are: matplotlib typesets what stands between dollar signs, and leaves what
    starts with an underscore out of legends."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


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
    figure = _figure(max(5.5, 2.0 + 0.62 * size), max(4.2, 1.8 + 0.52 * size), title, embeddings)
    axes = figure.subplots()
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    names = [_plain(embeddings.classes[i]) for i in shown]
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


def _map(embeddings: EmbeddingSet) -> "Figure":
    modalities = [m for m in embeddings.modalities if embeddings.rows(SPLIT, m).size]
    title = "Test embeddings in two dimensions; colour and marker: class"
    figure, panels = _panels(len(modalities), 3.6, 4.3, title, embeddings)
    seen: set[int] = set()
    for axes, modality in zip(panels, modalities, strict=True):
        rows = embeddings.rows(SPLIT, modality)
        points, method = project(embeddings.vectors[modality][rows])
        labels = embeddings.labels[rows]
        for label in np.unique(labels).tolist():
            _scatter(axes, points[labels == label], label, embeddings, legend=label not in seen)
            seen.add(label)
        axes.set_title(_plain(f"{modality} (n = {len(rows)})\n{method}"), fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    columns = 5 if len(panels) == 1 else 10
    figure.legend(loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    return figure


def _scatter(
    axes: "Axes", points: Floats, label: int, embeddings: EmbeddingSet, *, legend: bool
) -> None:
    known = label >= 0
    name = embeddings.classes[label] if known else "unknown"
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=14,
        linewidths=0,
        alpha=0.8,
        color=COLOURS[label % len(COLOURS)] if known else UNKNOWN_COLOUR,
        marker=MARKERS[label // len(COLOURS) % len(MARKERS)] if known else ".",
        label=_plain(name) if legend else None,
        zorder=2 if known else 1,
    )


def project(vectors: NDArray[np.float32]) -> tuple[Floats, str]:
    """(n, d) vectors, L2-normalised → (n, 2) points, and the method in words.

    t-SNE (van der Maaten & Hinton 2008) from a PCA start with a fixed seed; PCA where there are too
    few or too many rows for it, or where all are the same.
    """
    unit = normalise(vectors)
    unit -= unit.mean(axis=0)
    varied = unit.shape[1] > 1 and np.ptp(unit, axis=0).max() > 1e-6
    if varied and TSNE_ROWS[0] <= len(unit) <= TSNE_ROWS[1]:
        from sklearn.manifold import TSNE

        points = TSNE(perplexity=PERPLEXITY, init="pca", random_state=0).fit_transform(unit)
        return points.astype(np.float64), f"t-SNE, perplexity {PERPLEXITY}, seed 0"
    left, scale, _ = np.linalg.svd(unit, full_matrices=False)
    points = np.zeros((len(unit), 2))
    k = min(2, len(scale))
    points[:, :k] = left[:, :k] * scale[:k]
    share = (scale[:k] ** 2).sum() / max((scale**2).sum(), np.finfo(np.float64).tiny)
    return points, f"PCA, {100 * share:.0f} % of variance"


def _recall(runs: Sequence[Run], embeddings: EmbeddingSet) -> "Figure":
    """One panel a pair of modalities, both directions and chance in it."""
    pairs = list(dict.fromkeys(frozenset(run.task.modalities) for run in runs))
    title = "Retrieval across modalities: share of queries whose match is among the first k"
    figure, panels = _panels(len(pairs), 3.4, 3.6, title, embeddings)
    for axes, pair in zip(panels, pairs, strict=True):
        both = [run for run in runs if frozenset(run.task.modalities) == pair]
        for run, colour, style in zip(both, COLOURS, ("-", "-."), strict=False):
            ranks, chance = run.output.ranks, run.output.chance_recall
            if ranks is None or chance is None:
                raise TypeError(f"{run.task.protocol} has no ranks")
            k = np.arange(1, min(MAX_K, run.output.n) + 1)
            curve = np.searchsorted(np.sort(ranks), k, side="right") / len(ranks)
            label = f"{run.task.modalities[0]} → {run.task.modalities[1]}"
            axes.plot(k, curve, color=colour, linestyle=style, label=_plain(label))
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
