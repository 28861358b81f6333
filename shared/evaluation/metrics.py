"""The metrics by name: which way is better, and where they are defined."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

Better = Literal["higher", "lower", ""]
Scale = Literal["share", "logit", "fisher", "log", "log_rest", "percentile", "identity"]


@dataclass(frozen=True)
class Metric:
    """A metric of `shared.evaluation.outcomes`.

    Attributes:
        name: In results and configs.
        better: Which way is better; empty where neither is.
        title: For tables and axes.
        source: Where it is defined.
        scale: On what intervals are symmetric: `logit` of what lies between 0 and 1, `fisher` z of
            a correlation, `log` of a positive number, `log_rest`, the logarithm of 1 - x, or
            `identity`. With `share`, of the rows for which something holds, the interval is
            Wilson's; with `percentile` the draws themselves are it.
        decimals: Digits after the point in tables.
        limits: Smallest and largest value there can be, at which intervals end; None: those of the
            scale.
    """

    name: str
    better: Better
    title: str
    source: str
    scale: Scale = "identity"
    decimals: int = 3
    limits: tuple[float, float] | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """Smallest and largest value there can be."""
        return self.limits or _ENDS.get(self.scale, (-inf, inf))


_ENDS: Mapping[Scale, tuple[float, float]] = {
    "share": (0.0, 1.0),
    "logit": (0.0, 1.0),
    "fisher": (-1.0, 1.0),
    "log": (0.0, inf),
    "log_rest": (-inf, 1.0),
}
_SKLEARN = "scikit-learn user guide 3.4, Metrics and scoring"
_GUO = "Guo et al. 2017, arXiv:1706.04599, Eq. 3 (15 bins)"
_BRIER = "Brier 1950, Mon. Weather Rev. 78:1"
_RECALL = "share of queries with a positive among the first k"
_MAP = "mean over queries of the average precision, as in scikit-learn"
_NMI = "Strehl & Ghosh 2002, JMLR 3:583, with the arithmetic mean"
_ARI = "Hubert & Arabie 1985, J. Classification 2:193, Eq. 5"
_WANG = "Wang & Isola 2020, arXiv:2005.10242"
_YUAN = "Yuan et al. 2022, arXiv:2209.06515"
_METRICS = (
    Metric("accuracy", "higher", "accuracy", _SKLEARN, "share"),
    Metric("balanced_accuracy", "higher", "balanced accuracy", _SKLEARN, "logit"),
    Metric("macro_f1", "higher", "macro F1", _SKLEARN, "logit"),
    Metric("auroc", "higher", "AUROC", "Hanley & McNeil 1982, Radiology 143:29", "logit"),
    Metric("mean_average_precision", "higher", "mAP over tags", _SKLEARN, "logit"),
    Metric("log_loss", "lower", "log loss (nats)", _SKLEARN, "log"),
    Metric("brier", "lower", "Brier score", _BRIER, "log", limits=(0.0, 2.0)),
    Metric("ece", "lower", "calibration error", _GUO, limits=(0.0, 1.0)),
    Metric("log_loss_calibrated", "lower", "log loss (nats), calibrated", _SKLEARN, "log"),
    Metric(
        "brier_calibrated", "lower", "Brier score, calibrated", _BRIER, "log", limits=(0.0, 2.0)
    ),
    Metric("ece_calibrated", "lower", "calibration error, calibrated", _GUO, limits=(0.0, 1.0)),
    Metric("r2", "higher", "R²", _SKLEARN, "log_rest"),
    Metric("rmse", "lower", "root mean squared error", _SKLEARN, "log"),
    Metric("mae", "lower", "mean absolute error", _SKLEARN, "log"),
    Metric("spearman", "higher", "Spearman correlation", "scipy.stats.spearmanr", "fisher"),
    Metric("pearson", "higher", "Pearson correlation", "scipy.stats.pearsonr", "fisher"),
    Metric("recall@1", "higher", "recall@1", _RECALL, "share"),
    Metric("recall@5", "higher", "recall@5", _RECALL, "share"),
    Metric("recall@10", "higher", "recall@10", _RECALL, "share"),
    Metric("median_rank", "lower", "median rank", "of the best positive", "percentile", 1),
    Metric("mrr", "higher", "mean reciprocal rank", "Voorhees 1999", "logit"),
    Metric("map", "higher", "mAP", _MAP, "logit"),
    Metric("mean_recall", "higher", "mean recall", "Yuan et al. 2022, arXiv:2204.09868", "logit"),
    Metric("nmi", "higher", "normalised mutual information", _NMI, limits=(0.0, 1.0)),
    Metric("ari", "higher", "adjusted Rand index", _ARI, "fisher"),
    Metric("uniformity", "lower", "uniformity", f"{_WANG}, Eq. 2"),
    Metric("mean_cosine", "lower", "mean cosine", "Ethayarajh 2019, arXiv:1909.00512"),
    Metric("effective_rank", "", "effective rank", "Roy & Vetterli 2007, EUSIPCO", decimals=1),
    Metric("effective_rank_share", "higher", "effective rank, share", "of the largest possible"),
    Metric("dead_dimensions", "lower", "dead dimensions", "share of constant columns"),
    Metric("alignment", "lower", "alignment", f"{_WANG}, Eq. 1"),
    Metric("modality_gap", "", "modality gap", "Liang et al. 2022, arXiv:2203.02053"),
    Metric("rmi", "higher", "Rmi, mean indicator", _YUAN, limits=(0.0, 1.0)),
    Metric("rsu", "higher", "Rsu, salient area", _YUAN, limits=(0.0, 1.0)),
    Metric("ras", "lower", "Ras, attention shift", _YUAN, limits=(0.0, 1.0)),
    Metric("rda", "higher", "Rda, discrete attention", _YUAN, limits=(0.0, 1.0)),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _METRICS}
