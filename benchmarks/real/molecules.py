"""Molecules: Morgan bits (Rogers and Hahn 2010, doi:10.1021/ci100050t) and a few descriptors."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.sets import make_set, train_and_val
from shared.errors import DependencyError
from shared.evaluation.embeddings.embedding_set import EmbeddingSet

try:
    from rdkit import Chem, RDLogger
    from rdkit.Chem import Descriptors, rdFingerprintGenerator
except ImportError as error:
    raise DependencyError("The molecules need RDKit: pip install rdkit") from error

RDLogger.DisableLog("rdApp.*")

N_BITS, RADIUS = 1024, 2
MOLECULE, TEXT = "molecule", "text"
N_WORDS = 2000
RIDGE = 1.0
TOX21 = tuple(
    [
        "NR-AR",
        "NR-AR-LBD",
        "NR-AhR",
        "NR-Aromatase",
        "NR-ER",
        "NR-ER-LBD",
        "NR-PPAR-gamma",
        "SR-ARE",
        "SR-ATAD5",
        "SR-HSE",
        "SR-MMP",
        "SR-p53",
    ]
)
ELEMENTS = ("C", "H", "N", "O", "S")
_NUCLEAR_CHARGE = {"H": 1, "C": 6, "N": 7, "O": 8, "S": 16}
_DESCRIPTORS: tuple[Callable[["Chem.Mol"], float], ...] = (
    Descriptors.MolLogP,
    Descriptors.MolWt,
    Descriptors.NumRotatableBonds,
    Descriptors.TPSA,
    Descriptors.NumHDonors,
    Descriptors.NumHAcceptors,
    Descriptors.RingCount,
    Descriptors.NumAromaticRings,
    Descriptors.FractionCSP3,
)


def esol(root: Path) -> EmbeddingSet:
    """Solubility [log mol/L] of 767 compounds (Delaney 2004); a group is a canonical SMILES."""
    path = root / "molecules/esol/ESOL_delaney-processed.csv"
    rows, molecules = _read(path, "smiles")
    return make_set(
        "esol",
        [path],
        [f"{number}" for number in range(len(rows))],
        {
            "morgan": _morgan(molecules),
            "descriptors": np.array([[f(m) for f in _DESCRIPTORS] for m in molecules]),
        },
        groups=[*map(Chem.MolToSmiles, molecules)],
        content=[*map(Chem.MolToSmiles, molecules)],
        standardised=("descriptors",),
        targets={"log_solubility": _column(rows, "measured log solubility in mols per litre")},
    )


def bbbp(root: Path) -> EmbeddingSet:
    """Whether a compound passes the blood-brain barrier (Martins et al. 2012); the 8 SMILES that
    RDKit does not parse are left out."""
    path = root / "molecules/bbbp/BBBP.csv"
    rows, molecules = _read(path, "smiles")
    return make_set(
        "bbbp",
        [path],
        [row["num"] for row in rows],
        {"morgan": _morgan(molecules)},
        labels=["passes" if row["p_np"] == "1" else "does not pass" for row in rows],
        groups=[*map(Chem.MolToSmiles, molecules)],
        content=[*map(Chem.MolToSmiles, molecules)],
    )


def tox21(root: Path) -> EmbeddingSet:
    """Twelve assays; an empty cell is a compound that was not measured there."""
    path = root / "molecules/tox21/tox21.csv"
    rows, molecules = _read(path, "smiles")
    return make_set(
        "tox21",
        [path],
        [row["mol_id"] for row in rows],
        {"morgan": _morgan(molecules)},
        groups=[*map(Chem.MolToSmiles, molecules)],
        content=[*map(Chem.MolToSmiles, molecules)],
        tags={assay: _column(rows, assay) for assay in TOX21},
    )


def gdb1k(root: Path) -> EmbeddingSet:
    """Atomisation energy [kcal/mol] of 695 molecules with coordinates: row i of the table is
    record i of the SDF. Features: counts of elements; eigenvalues of the Coulomb matrix, largest
    first (Rupp et al. 2012, arXiv:1109.2618, eq. 1)."""
    sdf, table = (root / f"molecules/gdb1k_3d/gdb1k.sdf{end}" for end in ("", ".csv"))
    molecules = [*Chem.SDMolSupplier(str(sdf), removeHs=False, sanitize=False)]
    energies = np.loadtxt(table, skiprows=1)
    symbols = [[atom.GetSymbol() for atom in molecule.GetAtoms()] for molecule in molecules]
    eigenvalues = np.zeros((len(molecules), max(map(len, symbols))))
    for row, (molecule, names) in enumerate(zip(molecules, symbols, strict=True)):
        eigenvalues[row, : len(names)] = _coulomb_eigenvalues(
            np.array([_NUCLEAR_CHARGE[name] for name in names], float),
            molecule.GetConformer().GetPositions(),
        )
    return make_set(
        "gdb1k_3d",
        [sdf, table],
        [f"{number}" for number in range(len(molecules))],
        {
            "elements": np.array([[names.count(e) for e in ELEMENTS] for names in symbols]),
            "coulomb": eigenvalues,
        },
        standardised=("elements", "coulomb"),
        targets={"atomization_energy": energies},
    )


def chebi20(root: Path) -> EmbeddingSet:
    """Molecules and their descriptions (Edwards et al. 2021): Morgan bits, and the TF-IDF of the
    words, to be mapped by `text_to_molecule`. Train on `validation.txt`, test on `test.txt`."""
    folder = root / "molecules/chebi20"
    files = [folder / "validation.txt", folder / "test.txt"]
    parts = [_read(path, "SMILES", delimiter="\t") for path in files]
    rows = [row for part, _ in parts for row in part]
    molecules = [molecule for _, part in parts for molecule in part]
    train = train_and_val([row["CID"] for row in parts[0][0]])
    return make_set(
        "chebi20",
        files,
        [row["CID"] for row in rows],
        {TEXT: _words([row["description"] for row in rows]), MOLECULE: _morgan(molecules)},
        splits=np.concatenate([train, np.full(len(parts[1][0]), "test")]),
    )


def text_to_molecule(embeddings: EmbeddingSet) -> EmbeddingSet:
    """Words replaced by the Morgan bits that a ridge regression on the rows of `train` and `val`
    expects; both modalities centred by these rows, so that what all molecules share is no
    likeness."""
    from sklearn.linear_model import Ridge

    text, bits = embeddings.vectors[TEXT], embeddings.vectors[MOLECULE]
    train = embeddings.splits != "test"
    mapped = Ridge(alpha=RIDGE).fit(text[train], bits[train]).predict(text)
    centre = bits[train].mean(axis=0)
    vectors = {TEXT: mapped - centre, MOLECULE: bits - centre}
    return replace(embeddings, vectors={m: v.astype(np.float32) for m, v in vectors.items()})


def _read(
    path: Path, column: str, delimiter: str = ","
) -> tuple[list[dict[str, str]], list["Chem.Mol"]]:
    """Rows with a structure that RDKit parses; quotes mean nothing in tab-separated text."""
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    with path.open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file, delimiter=delimiter, quoting=quoting)]
    parsed = [(row, Chem.MolFromSmiles(row[column])) for row in rows]
    kept = [(row, molecule) for row, molecule in parsed if molecule is not None]
    return [row for row, _ in kept], [molecule for _, molecule in kept]


def _column(rows: list[dict[str, str]], name: str) -> NDArray[np.float64]:
    """(n,) numbers, NaN where the cell is empty."""
    return np.array([float(row[name]) if row[name] else np.nan for row in rows])


def _morgan(molecules: list["Chem.Mol"]) -> NDArray[np.float32]:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=N_BITS)
    return np.stack([generator.GetFingerprintAsNumPy(m) for m in molecules]).astype(np.float32)


def _words(texts: list[str]) -> NDArray[np.float32]:
    from benchmarks.real.texts import tf_idf

    return tf_idf(texts, N_WORDS)


def _coulomb_eigenvalues(
    charge: NDArray[np.float64], positions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n,) of the matrix 0.5 Z^2.4 on the diagonal and Z_i Z_j / |R_i - R_j| off it."""
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(distance, 1.0)
    matrix = np.outer(charge, charge) / distance
    np.fill_diagonal(matrix, 0.5 * charge**2.4)
    return np.asarray(np.linalg.eigvalsh(matrix)[::-1])
