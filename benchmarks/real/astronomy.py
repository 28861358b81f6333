"""Light curves and spectra, by the readers and simple features of the domain itself."""

import json
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import zoo
from benchmarks.real.sets import make_set
from domains.astro.evaluators import VARIABLE_STARS
from shared.data.dataset import Dataset
from shared.evaluation.embeddings.embedding_set import EmbeddingSet

Floats = NDArray[np.float64]
BANDS = "ugriz"
ASSUMED_ERROR = 0.15
"""[mag] of photographic magnitudes, published without one."""


def osc_supernovae(root: Path) -> EmbeddingSet:
    """Type Ia or II of 308 supernovae: `photometry`, `spectra` and `metadata` as the reader gives
    them, where it does, and `summary`, ten numbers of all that was published."""
    folder = root / "astronomy/osc_supernovae"
    data = zoo.dataset("osc_supernovae", root=str(folder), assumed_error=ASSUMED_ERROR)
    with zipfile.ZipFile(folder / "events.zip") as archive:
        summary = [_summary(archive.read(f"events/{name}.json")) for name in data.ids]
    found = {m: _features(data, m) for m in ("photometry", "spectra", "metadata")}
    return _labelled(data, {"summary": np.stack(summary), **found}, [folder / "events.zip"], {})


def sdss_s82_rrlyrae(root: Path) -> EmbeddingSet:
    """Sub-type (ab, c) and period [d] of 335 stars, from the light curves in five bands. The
    catalogue's columns are left out: the period is one of them."""
    folder = root / "astronomy/sdss_s82_rrlyrae"
    bands = [zoo.dataset("sdss_s82_rrlyrae", root=str(folder), band=band) for band in BANDS]
    curves = np.concatenate([_features(band, "photometry") for band in bands], axis=1)
    data = bands[0]
    column = data.schemas["metadata"].names.index("period")
    periods = np.array([data[row]["metadata"][column] for row in range(len(data))])
    files = [folder / name for name in ("light-curves.zip", "periods.csv")]
    return _labelled(data, {"photometry": curves}, files, {"period": periods})


def snid_supernova_spectra(root: Path) -> EmbeddingSet:
    """Ia, Ib, Ic or II of the spectra nearest maximum light; a group is a supernova."""
    folder = root / "astronomy/snid_supernova_spectra"
    data = zoo.dataset("snid_supernova_spectra", root=str(folder), min_coverage=0.0)
    files = [folder / "templates.zip"]
    return _labelled(data, {"spectra": _features(data, "spectra")}, files, {})


def _features(data: Dataset, modality: str) -> Floats:
    """(n, d) simple features of the domain; NaN in rows without the modality."""
    compute, schema = VARIABLE_STARS.simple_features[modality], data.schemas[modality]
    parts = [data.parts(row)[0].get(modality) for row in range(len(data))]
    rows = [None if part is None else compute(schema, part) for part in parts]
    width = len(next(row for row in rows if row is not None))
    return np.stack([np.full(width, np.nan) if row is None else row for row in rows])


def _labelled(
    data: Dataset, vectors: dict[str, Floats], files: list[Path], targets: dict[str, Floats]
) -> EmbeddingSet:
    return make_set(
        data.name,
        files,
        data.ids.tolist(),
        vectors,
        labels=[data.classes[label] for label in data.labels],
        groups=data.groups.tolist(),
        splits=data.splits,
        present={m: np.asarray(np.isfinite(v).all(axis=1)) for m, v in vectors.items()},
        targets=targets,
        standardised=[*vectors],
    )


def _summary(content: bytes) -> Floats:
    """(10,) of all rows with a magnitude, bands and limits mixed: log count, bands, log span [d],
    mean, deviation, range and skewness [mag], share of the span before the brightest; redshift (0
    where unknown) and whether it is known. Numbers are strings, a time can be a list."""
    (event,) = json.loads(content).values()
    rows = [row for row in event.get("photometry", []) if "magnitude" in row and "time" in row]
    magnitude = np.array([float(row["magnitude"]) for row in rows])
    time = np.array([np.mean(np.asarray(row["time"], float)) for row in rows])
    redshift = float(event["redshift"][0]["value"]) if event.get("redshift") else np.nan
    known = [np.nan_to_num(redshift), float(np.isfinite(redshift))]
    if len(rows) == 0:
        return np.array([0.0] * 8 + known)
    span, deviation = np.ptp(time), magnitude.std()
    skewness = ((magnitude - magnitude.mean()) ** 3).mean() / deviation**3 if deviation else 0.0
    rise = (time[magnitude.argmin()] - time.min()) / span if span else 0.0
    n_bands = len({row.get("band") for row in rows})
    moments = [magnitude.mean(), deviation, np.ptp(magnitude), skewness]
    return np.array([np.log(len(rows)), n_bands, np.log1p(span), *moments, rise, *known])
