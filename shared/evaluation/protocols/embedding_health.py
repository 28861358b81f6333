"""What can be said of embeddings without labels: spread, rank, and how far modalities lie apart."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError
from shared.evaluation.embeddings.embedding_set import SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats, normalise
from shared.evaluation.outcomes import ScalarOutcome
from shared.evaluation.protocol import Output, Protocol, Settings, Task, missing, widths_differ

ONE = ("uniformity", "mean_cosine", "effective_rank", "effective_rank_share", "dead_dimensions")
TWO = ("alignment", "modality_gap")
TEMPERATURE = 2.0
"""t of the uniformity: the default of Wang & Isola's code (arXiv:2005.10242)."""
_BLOCK_ELEMENTS = 8_000_000
"""Products held at a time; bounds memory at 64 MB."""


def uniformity(unit: Floats, t: float = TEMPERATURE) -> float:
    """log of the mean of exp(-t ‖x - y‖²) over all pairs of different rows.

    0 where all rows are equal, smaller the more evenly they lie on the sphere. Source: Wang &
    Isola 2020, arXiv:2005.10242, L_uniform with t = 2.

    Args:
        unit: (n, d) rows of unit norm, n >= 2.
        t: Inverse width of the kernel.
    """
    n, total = len(unit), 0.0
    size = max(1, _BLOCK_ELEMENTS // n)
    for start in range(0, n, size):
        cosine = unit[start : start + size] @ unit.T
        kernel = np.exp(2 * t * (np.minimum(cosine, 1.0) - 1))
        total += kernel.sum() - np.trace(kernel, offset=start)
    return float(np.log(total / (n * (n - 1))))


def mean_cosine(unit: Floats) -> float:
    """Mean cosine over all pairs of different rows; near 1 in a narrow cone (anisotropy, Ethayarajh
    2019, arXiv:1909.00512).

    Args:
        unit: (n, d) rows of unit norm, n >= 2.
    """
    n, total = len(unit), unit.sum(axis=0)
    return float((total @ total - (unit * unit).sum()) / (n * (n - 1)))


def effective_rank(vectors: NDArray[np.float32] | Floats) -> float:
    """exp of the entropy of the singular values as shares of their sum, 1 … min(n, d).

    Source: Roy & Vetterli 2007 (EUSIPCO); of embeddings, not centred, as RankMe (Garrido et
    al. 2023, arXiv:2210.02885, §3): rows that are all equal have rank 1.

    Args:
        vectors: (n, d), not all zero.
    """
    rows = vectors.astype(np.float64)
    rows /= np.abs(rows).max()
    small = rows.T @ rows if len(rows) >= rows.shape[1] else rows @ rows.T
    squares = np.linalg.eigvalsh(small)
    # what rounding makes of zeros: the products are exact to this share of the largest
    squares = squares[squares > squares.max() * max(rows.shape) * np.finfo(np.float64).eps]
    shares = np.sqrt(squares) / np.sqrt(squares).sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def dead_dimensions(vectors: NDArray[np.float32] | Floats) -> float:
    """Share of the columns that are constant.

    Args:
        vectors: (n, d), n >= 2.
    """
    return float((vectors.max(axis=0) == vectors.min(axis=0)).mean())


def alignment(unit_a: Floats, unit_b: Floats) -> float:
    """Mean of ‖x - y‖² over pairs that belong together; 0 is the best, 2 that of random directions.

    Source: Wang & Isola 2020, arXiv:2005.10242, L_align with α = 2. A pair is one sample in two
    modalities, so that of one modality there is none.

    Args:
        unit_a: (n, d) rows of unit norm of one modality.
        unit_b: (n, d) of the same samples in another.
    """
    return float(((unit_a - unit_b) ** 2).sum(axis=1).mean())


def modality_gap(unit_a: Floats, unit_b: Floats) -> float:
    """Distance between the means of two modalities, 0 … 2.

    Source: Liang et al. 2022, arXiv:2203.02053 (Δ_gap).

    Args:
        unit_a: (n, d) rows of unit norm of one modality.
        unit_b: (m, d) of another.
    """
    return float(np.linalg.norm(unit_a.mean(axis=0) - unit_b.mean(axis=0)))


def _tasks(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
    return [
        *(Task((modality,), inputs=modality) for modality in embeddings.modalities),
        *(Task(pair, inputs="+".join(pair)) for pair in combinations(embeddings.modalities, 2)),
    ]


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    names = ONE if len(task.modalities) == 1 else TWO
    rows = embeddings.rows(SPLIT, *task.modalities)
    if len(task.modalities) == 2 and (reason := widths_differ(task, embeddings)):
        return missing(task, embeddings, names, reason)
    if len(rows) < 2:
        having = " and ".join(task.modalities)
        return missing(task, embeddings, names, f"{len(rows)} test rows with {having}")
    largest = int(settings["max_rows"])
    if largest < 2:
        raise ConfigError(f"settings.embedding_health.max_rows={largest} has to be at least 2.")
    drawn = rows
    if len(rows) > largest:
        drawn = np.sort(np.random.default_rng(0).choice(rows, largest, replace=False))
    parts = [embeddings.vectors[modality][drawn] for modality in task.modalities]
    if not all(part.any(axis=1).all() for part in parts):
        return missing(task, embeddings, names, "embeddings that are zero have no direction")
    values = _of_two(parts) if len(parts) == 2 else _of_one(parts[0])
    used: dict[str, str | int | float] = {"rows_used": len(drawn)}
    if len(parts) == 1:
        used["width"] = parts[0].shape[1]
        used["uniformity_t"] = TEMPERATURE
    return Output(rows, ScalarOutcome(values, len(rows), {}), settings=used)


def _of_one(vectors: NDArray[np.float32]) -> dict[str, float]:
    unit, rank = normalise(vectors), effective_rank(vectors)
    return dict(
        zip(
            ONE,
            (
                uniformity(unit),
                mean_cosine(unit),
                rank,
                rank / min(vectors.shape),
                dead_dimensions(vectors),
            ),
            strict=True,
        )
    )


def _of_two(parts: Sequence[NDArray[np.float32]]) -> dict[str, float]:
    unit_a, unit_b = map(normalise, parts)
    return dict(zip(TWO, (alignment(unit_a, unit_b), modality_gap(unit_a, unit_b)), strict=True))


PROTOCOL = Protocol(
    name="embedding_health",
    version=1,
    title="spread, rank and modality gap of the embeddings, without labels",
    tasks=_tasks,
    run=_run,
    settings={"max_rows": 20_000},
    baselines=False,
)
