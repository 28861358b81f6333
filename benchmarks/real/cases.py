"""Which sets there are, and the figures that their READMEs state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.real import astronomy, graphs, images, meshes, molecules, proteins, texts
from shared.evaluation.embeddings.embedding_set import LABEL, TAGS, EmbeddingSet

FIVE, ONE_TO_ALL, AS_PUBLISHED = "5 folds", "each against all others", "published split"
PROBE, RIDGE, RETRIEVAL = "linear_probe", "ridge_probe", "retrieval"
SEARCH = "similarity_search"
"""Its recall@1 is the accuracy of one nearest neighbour, leave-one-out."""


@dataclass(frozen=True)
class Figure:
    """What a README states.

    Attributes:
        protocol: Ours that is nearest to what was done.
        inputs: Modality; for retrieval, query then candidate.
        values: Metric → value.
        target: As in `shared.evaluation.protocol.Task`.
        scheme: Which rows are judged.
        tag: Of several, the one the values are of.
        grouped: Whether the README kept groups together.
    """

    protocol: str
    inputs: tuple[str, ...]
    values: Mapping[str, float]
    target: str = LABEL
    scheme: str = FIVE
    tag: str = ""
    grouped: bool = True


@dataclass(frozen=True)
class Case:
    """One set: how it is read, what is known of it, and what is fitted to each training split."""

    load: Callable[[Path], EmbeddingSet]
    figures: tuple[Figure, ...]
    prepare: Callable[[EmbeddingSet], EmbeddingSet] | None = None


def _classified(inputs: str, accuracy: float, balanced: float, macro_f1: float) -> Figure:
    values = {"accuracy": accuracy, "balanced_accuracy": balanced, "macro_f1": macro_f1}
    return Figure(PROBE, (inputs,), values)


def _regressed(inputs: str, target: str, scheme: str = FIVE, **values: float) -> Figure:
    return Figure(RIDGE, (inputs,), values, target, scheme)


def _tag(name: str, auroc: float) -> Figure:
    return Figure(PROBE, ("morgan",), {"auroc": auroc}, TAGS, tag=name)


_GB1 = {"sampled": 0.788, "low_vs_high": 0.343, "two_vs_rest": 0.594, "three_vs_rest": 0.755}

CASES: Mapping[str, Case] = {
    "osc_supernovae": Case(
        astronomy.osc_supernovae, (_classified("summary", 0.692, 0.678, 0.678),)
    ),
    "sdss_s82_rrlyrae": Case(
        astronomy.sdss_s82_rrlyrae,
        (
            _classified("photometry", 0.907, 0.915, 0.872),
            _regressed("photometry", "period", r2=0.384),
        ),
    ),
    "snid_supernova_spectra": Case(
        astronomy.snid_supernova_spectra, (_classified("spectra", 0.928, 0.671, 0.654),)
    ),
    "rsscn7": Case(images.rsscn7, (Figure(PROBE, ("image",), {"accuracy": 0.546}),)),
    "rsicd_captions": Case(texts.rsicd_captions, (_classified("text", 0.975, 0.971, 0.973),)),
    "rsvqa_presence": Case(
        texts.rsvqa_presence, (Figure(PROBE, ("question",), {"accuracy": 0.823}),)
    ),
    "covid_chestxray": Case(images.covid_chestxray, (_classified("image", 0.618, 0.546, 0.546),)),
    "deeploc": Case(proteins.deeploc, (_classified("composition", 0.415, 0.388, 0.335),)),
    "deeploc_membrane": Case(
        proteins.deeploc_membrane, (_classified("composition", 0.732, 0.732, 0.728),)
    ),
    **{
        f"flip_gb1_{split}": Case(
            partial(proteins.flip_gb1, split=split),
            (_regressed("one_hot", "fitness", AS_PUBLISHED, spearman=spearman),),
        )
        for split, spearman in _GB1.items()
    },
    "esol": Case(
        molecules.esol, (_regressed("descriptors", "log_solubility", rmse=1.002, mae=0.773),)
    ),
    "bbbp": Case(molecules.bbbp, (Figure(PROBE, ("morgan",), {"auroc": 0.903}),)),
    "tox21": Case(
        molecules.tox21,
        (_tag("NR-AR", 0.779), _tag("NR-AhR", 0.849), _tag("SR-ARE", 0.751), _tag("SR-MMP", 0.854)),
    ),
    "gdb1k_3d": Case(
        molecules.gdb1k, (_regressed("elements", "atomization_energy", mae=17.126, rmse=22.392),)
    ),
    "chebi20": Case(
        molecules.chebi20,
        (
            Figure(
                RETRIEVAL,
                (molecules.TEXT, molecules.MOLECULE),
                {"recall@1": 0.416, "recall@10": 0.765, "mrr": 0.536},
                target="",
            ),
        ),
        prepare=molecules.text_to_molecule,
    ),
    "kaykit_meshes": Case(
        meshes.kaykit_meshes,
        tuple(
            Figure(SEARCH, ("points",), {"recall@1": 0.770}, scheme=ONE_TO_ALL, grouped=grouped)
            for grouped in (False, True)
        ),
    ),
    "object_sim": Case(
        meshes.object_sim,
        (Figure(SEARCH, ("points",), {"recall@1": 1.0}, scheme=ONE_TO_ALL),),
    ),
    "cane_cora": Case(
        graphs.cane_cora,
        (_classified("text", 0.811, 0.750, 0.787), _classified("two_hops", 0.880, 0.853, 0.869)),
    ),
}
