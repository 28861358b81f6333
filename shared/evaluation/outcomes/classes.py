"""One class a row: predictions and, where there are any, probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shared.errors import EvaluationError
from shared.evaluation.outcomes.base import Floats, Outcome, Rows
from shared.evaluation.outcomes.checks import (
    check_codes,
    check_length,
    check_probabilities,
    codes_of,
    names_of,
)
from shared.evaluation.outcomes.weighted import Ranked, indicator, mean, mean_of_defined, ratio

N_BINS = 15
"""Of the expected calibration error; Guo et al. 2017 (arXiv:1706.04599), Section 5."""
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)
"""What the log loss takes for a smaller one, as sklearn.metrics.log_loss does."""
_LABELS = ("accuracy", "balanced_accuracy", "macro_f1")
_CALIBRATION = ("log_loss", "brier", "ece")


@dataclass(frozen=True, eq=False)
class ClassOutcome(Outcome):
    """Predicted classes of n rows.

    Metrics, as in scikit-learn (https://scikit-learn.org/stable/modules/model_evaluation.html):
    accuracy; balanced accuracy, the mean recall of the classes that are there; macro F1, the mean
    over the classes that are there or predicted. With probabilities also the AUROC (two classes: of
    the second; more: mean over the classes, each against the rest, that have rows and are not all
    rows), log loss in nats, Brier score summed over the classes (Brier 1950; 0 to 2) and expected
    calibration error of the largest probability (Guo et al. 2017, Eq. 3).

    Attributes:
        truth: (n,) index into `classes`.
        predicted: (n,) index into `classes`.
        classes: C names.
        probabilities: (n, C) of the model as it is; None without.
        calibrated: (n, C) after temperature scaling on validation rows; None without.

    Raises:
        EvaluationError: Arrays that do not fit each other, or what is no probability.
    """

    kind: ClassVar[str] = "classes"
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    classes: tuple[str, ...]
    probabilities: Floats | None = None
    calibrated: Floats | None = None

    def __post_init__(self) -> None:
        n, n_classes = len(self.truth), len(self.classes)
        if len(set(self.classes)) < n_classes:
            raise EvaluationError(f"classes {list(self.classes)}: each name once.")
        check_length("predicted", self.predicted, n)
        check_codes("truth", self.truth, n_classes)
        check_codes("predicted", self.predicted, n_classes)
        for name in ("probabilities", "calibrated"):
            if getattr(self, name) is not None:
                check_probabilities(name, getattr(self, name), (n, n_classes))

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def metrics(self) -> tuple[str, ...]:
        of_probabilities = () if self.probabilities is None else ("auroc", *_CALIBRATION)
        of_calibrated = () if self.calibrated is None else (f"{m}_calibrated" for m in _CALIBRATION)
        return (*_LABELS, *of_probabilities, *of_calibrated)

    def statistic(self, weights: Floats) -> Floats:
        drawn = np.ascontiguousarray(weights.T)
        columns = [classification_metrics(*((table @ drawn).T for table in self._tables))]
        if self.probabilities is not None:
            columns.append(self._auroc(drawn)[:, None])
        for errors in self._calibration_errors:
            means = mean(errors, drawn)
            ece = np.abs(means[:, 2:]).sum(axis=1, keepdims=True)
            columns += [means[:, :2], ece]
        return np.concatenate(columns, axis=1)

    def reasons(self) -> Mapping[str, str]:
        if len(self) == 0:
            return dict.fromkeys(self.metrics, "no test rows")
        if self.probabilities is not None and len(np.unique(self.truth)) < 2:
            return {"auroc": "one class in the test rows"}
        return {}

    def take(self, rows: Rows) -> Self:
        return replace(
            self,
            truth=self.truth[rows],
            predicted=self.predicted[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            calibrated=None if self.calibrated is None else self.calibrated[rows],
        )

    def columns(self) -> dict[str, NDArray[Any]]:
        columns: dict[str, NDArray[Any]] = {
            "truth": names_of(self.truth, self.classes),
            "predicted": names_of(self.predicted, self.classes),
        }
        for prefix, table in (("probability", self.probabilities), ("calibrated", self.calibrated)):
            if table is not None:
                columns |= {f"{prefix}.{c}": table[:, i] for i, c in enumerate(self.classes)}
        return columns

    def meta(self) -> dict[str, Any]:
        return {"classes": list(self.classes)}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        classes = tuple(meta["classes"])

        def table(prefix: str) -> Floats | None:
            if not any(name.startswith(f"{prefix}.") for name in columns):
                return None
            return np.stack([columns[f"{prefix}.{c}"] for c in classes], axis=1)

        truth, predicted = (codes_of(columns[name], classes) for name in ("truth", "predicted"))
        return cls(truth, predicted, classes, table("probability"), table("calibrated"))

    @cached_property
    def _tables(self) -> list[Any]:
        """(C, n) rows of a class predicted as it, rows of it, rows predicted as it."""
        every = np.arange(len(self))
        parts = (
            (np.flatnonzero(self.truth == self.predicted), self.truth),
            (every, self.truth),
            (every, self.predicted),
        )
        return [indicator(rows, c[rows], len(self.classes), len(self)) for rows, c in parts]

    @cached_property
    def _ranked(self) -> list[Ranked]:
        """Of each class against the rest; of two classes only the second."""
        assert self.probabilities is not None
        known = np.ones(len(self), dtype=np.bool_)
        codes = [1] if len(self.classes) == 2 else range(len(self.classes))
        return [Ranked.of(self.probabilities[:, c], self.truth == c, known) for c in codes]

    def _auroc(self, drawn: Floats) -> Floats:
        of_class = [ranked.auroc(drawn) for ranked in self._ranked]
        return mean_of_defined(np.stack(of_class), axis=0)

    @cached_property
    def _calibration_errors(self) -> list[Floats]:
        """Of the raw and of the calibrated probabilities, (n, 2 + N_BINS): log loss, Brier score
        and, in the column of the row's bin, confidence minus hit."""
        both = (self.probabilities, self.calibrated)
        return [_calibration_errors(p, self.truth) for p in both if p is not None]


def classification_metrics(hits: Floats, true: Floats, predicted: Floats) -> Floats:
    """Accuracy, balanced accuracy and macro F1 from counts, weighted or expected.

    Args:
        hits: (…, C) rows of each class that are predicted as it.
        true: (…, C) rows of each class.
        predicted: (…, C) rows predicted as each class.

    Returns:
        (…, 3); NaN without rows.
    """
    accuracy = ratio(hits.sum(-1), true.sum(-1))
    balanced = mean_of_defined(ratio(hits, true), axis=-1)
    macro_f1 = mean_of_defined(ratio(2 * hits, true + predicted), axis=-1)
    return np.stack([accuracy, balanced, macro_f1], axis=-1)


def _calibration_errors(probabilities: Floats, truth: NDArray[np.int64]) -> Floats:
    n = len(truth)
    of_truth = probabilities[np.arange(n), truth]
    log_loss = -np.log(np.clip(of_truth, SMALLEST_PROBABILITY, 1.0))
    brier = (probabilities**2).sum(axis=1) - 2 * of_truth + 1
    confidence = probabilities.max(axis=1, initial=0.0)
    in_bin = np.zeros((n, N_BINS))
    error = confidence - (probabilities.argmax(axis=1) == truth)
    in_bin[np.arange(n), confidence_bin(confidence, N_BINS)] = error
    return np.column_stack([log_loss, brier, in_bin])


def confidence_bin(confidence: Floats, n_bins: int) -> NDArray[np.int64]:
    """(n,) which of equal bins (0, 1/M], …, ((M - 1)/M, 1] a confidence falls into (Guo et al.
    2017, Section 2)."""
    return np.clip(np.ceil(confidence * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
