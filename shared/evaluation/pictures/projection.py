"""Embeddings in two dimensions, for maps."""

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from shared.errors import DependencyError, UnknownNameError, suggest
from shared.evaluation.embeddings.vectors import Floats, normalise

PROJECTIONS = ("tsne", "umap")
TSNE_ROWS = (50, 3000)
"""t-SNE between these numbers of rows, else PCA: fewer have no neighbourhoods, more take long."""
PERPLEXITY = 30
TSNE_STEPS = 500
"""250 with early exaggeration, 250 without: with so few rows the map is settled by then."""
UMAP_NEIGHBOURS = 22
UMAP_SEED = 42


def check_projection(name: str) -> None:
    """Hold a name against what there is and what is installed.

    Raises:
        UnknownNameError: No such method.
        DependencyError: umap-learn is not installed.
    """
    if name not in PROJECTIONS:
        raise UnknownNameError(f"There is no map {name!r}. {suggest(name, PROJECTIONS)}")
    if name == "umap" and find_spec("umap") is None:
        raise DependencyError(
            "map=umap needs umap-learn: pip install 'domain-zoo[umap]'. Or use map=tsne."
        )


def project(
    vectors: NDArray[np.floating],
    train: NDArray[np.floating] | None = None,
    method: str = "tsne",
) -> tuple[Floats, str]:
    """(n, d) vectors, L2-normalised → (n, 2) points, and the method in words.

    - `tsne`: van der Maaten & Hinton 2008, from a PCA start with a fixed seed, of `vectors` alone.
    - `umap`: McInnes et al. 2018, fitted on `train`, with the settings of AstroM3
      (arXiv:2411.08842): 22 neighbours, cosine, seed 42.

    PCA where there are too few or too many rows for it, or where all are the same.
    """
    unit = normalise(vectors)
    if method == "umap" and train is not None and len(train) > UMAP_NEIGHBOURS:
        fitted = normalise(train)
        if np.ptp(fitted, axis=0).max() > 1e-6:
            return _umap(fitted, unit), f"UMAP of {len(fitted)} train rows, seed {UMAP_SEED}"
    unit -= unit.mean(axis=0)
    varied = unit.shape[1] > 1 and np.ptp(unit, axis=0).max() > 1e-6
    if method == "tsne" and varied and TSNE_ROWS[0] <= len(unit) <= TSNE_ROWS[1]:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits

        tsne = TSNE(perplexity=PERPLEXITY, max_iter=TSNE_STEPS, init="pca", random_state=0)
        # so few rows gain nothing from threads, and on a busy machine these wait for each other
        with threadpool_limits(1):
            points = tsne.fit_transform(unit)
        return points.astype(np.float64), f"t-SNE, perplexity {PERPLEXITY}, seed 0"
    left, scale, _ = np.linalg.svd(unit, full_matrices=False)
    points = np.zeros((len(unit), 2))
    k = min(2, len(scale))
    points[:, :k] = left[:, :k] * scale[:k]
    share = (scale[:k] ** 2).sum() / max((scale**2).sum(), np.finfo(np.float64).tiny)
    return points, f"PCA, {100 * share:.0f} % of variance"


def _umap(train: Floats, unit: Floats) -> Floats:
    import umap

    # one job: with a seed umap-learn falls back to it anyhow, and warns
    mapper = umap.UMAP(
        n_neighbors=UMAP_NEIGHBOURS,
        n_components=2,
        metric="cosine",
        random_state=UMAP_SEED,
        n_jobs=1,
    ).fit(train)
    points: Floats = mapper.transform(unit).astype(np.float64)
    return points
