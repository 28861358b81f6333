"""Proteins: counts of residues and of short words of residues, and one-hot mutants."""

import csv
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.sets import make_set, train_and_val
from shared.evaluation.embeddings.embedding_set import EmbeddingSet

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
N_TERMINUS, C_TERMINUS = 30, 20
"""Residues where sorting signals sit (the README of the data)."""
N_HASHED = 512
GB1_SPLITS = ("sampled", "low_vs_high", "two_vs_rest", "three_vs_rest")


def deeploc(root: Path) -> EmbeddingSet:
    """Location of 3610 proteins; trained on the validation file, judged on the test file."""
    return _deeploc(root, "deeploc", membrane=False)


def deeploc_membrane(root: Path) -> EmbeddingSet:
    """Membrane or soluble; the proteins of which that is unknown are unlabelled."""
    return _deeploc(root, "deeploc_membrane", membrane=True)


def _deeploc(root: Path, name: str, *, membrane: bool) -> EmbeddingSet:
    folder = root / "protein/deeploc_localization"
    files = [folder / f"deeploc_{part}_set.fasta" for part in ("our_val", "test")]
    parts = [_read_fasta(path) for path in files]
    records = [record for part in parts for record in part]
    sequences = [sequence for _, sequence in records]
    # a location can hold a dash, the flag after the last one cannot
    places, flags = zip(*(head.split()[1].rsplit("-", 1) for head, _ in records), strict=True)
    kinds = {"M": "membrane", "S": "soluble", "U": ""}
    return make_set(
        name,
        files,
        [f"{head.split()[0]}" for head, _ in records],
        {
            "composition": np.stack([*map(_composition, sequences)]),
            "words": np.stack([*map(_hashed_words, sequences)]),
        },
        labels=[kinds[flag] for flag in flags] if membrane else places,
        standardised=("composition",),
        splits=np.concatenate(
            [train_and_val([head for head, _ in parts[0]]), np.full(len(parts[1]), "test")]
        ),
        subgroups={"membrane": [kinds[flag] for flag in flags]},
        content=sequences,
    )


def flip_gb1(root: Path, split: str) -> EmbeddingSet:
    """Fitness of mutants at four sites (Dallago et al. 2021; wild type = 1), one of the published
    splits: one-hot of the positions that vary."""
    path = root / "protein/flip_gb1/splits.zip"
    with zipfile.ZipFile(path) as archive:
        text = archive.read(f"splits/{split}.csv").decode()
    rows = [*csv.DictReader(io.StringIO(text))]
    letters = np.array([[*row["sequence"]] for row in rows])
    varying = letters[:, (letters != letters[0]).any(axis=0)]
    one_hot = (varying[:, :, None] == np.array([*RESIDUES])).reshape(len(rows), -1)
    return make_set(
        f"flip_gb1_{split}",
        [path],
        ["".join(row) for row in varying],
        {"one_hot": one_hot},
        splits=np.array(["val" if row["validation"] == "True" else row["set"] for row in rows]),
        targets={"fitness": np.array([float(row["target"]) for row in rows])},
    )


def _read_fasta(path: Path) -> list[tuple[str, str]]:
    """Header and sequence of every record."""
    records = path.read_text(encoding="utf-8").split(">")[1:]
    parts = (record.split("\n", 1) for record in records)
    return [(head.strip(), "".join(body.split())) for head, body in parts]


def _ends(sequence: str) -> tuple[str, str, str]:
    return sequence, sequence[:N_TERMINUS], sequence[-C_TERMINUS:]


def _composition(sequence: str) -> NDArray[np.float32]:
    """(61,) share of each residue in the whole, at the two ends; log length."""
    shares = [part.count(residue) / len(part) for part in _ends(sequence) for residue in RESIDUES]
    return np.array([*shares, np.log(len(sequence))], np.float32)


def _hashed_words(sequence: str) -> NDArray[np.float32]:
    """(3 x 512,) square root of the counts of words of two and three residues, hashed (Weinberger
    et al. 2009, arXiv:0902.2206, without signs), of unit norm in the whole and at the ends."""
    counts = np.zeros((3, N_HASHED), np.float32)
    for row, part in zip(counts, _ends(sequence), strict=True):
        for width in (2, 3):
            for start in range(len(part) - width + 1):
                row[zlib.crc32(part[start : start + width].encode()) % N_HASHED] += 1
    counts = np.sqrt(counts)
    norm = np.linalg.norm(counts, axis=1, keepdims=True)
    return np.asarray(counts / np.maximum(norm, 1)).ravel()
