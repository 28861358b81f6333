"""Zero-shot classification by prompts: the class whose texts lie nearest."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from shared.errors import ConfigError, suggest
from shared.evaluation.baselines import MAJORITY, classification_baseline
from shared.evaluation.calibration import fit_temperature
from shared.evaluation.embeddings.embedding_set import LABEL, SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats, normalise
from shared.evaluation.outcomes import ClassOutcome
from shared.evaluation.protocol import ALL, Output, Protocol, Rows, Settings, Task, missing, rows_of

METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
ORDERS = ("normalise_first", "average_first")
NO_PROMPTS = (
    "no prompts: give templates=[…] and a model with a text encoder, or a file with prompts"
)
LOGIT_SCALE = 100.0
"""That of CLIP's published models, at which their training clips it (Radford et al. 2021,
arXiv:2103.00020, §2.5)."""


def class_vectors(prompts: NDArray[np.float32] | Floats, order: str = "normalise_first") -> Floats:
    """(C, d) one unit vector a class from its (C, T, d) prompts.

    Args:
        prompts: Embeddings of T texts for each of C classes.
        order: `normalise_first`: mean of the unit vectors, normalised (Radford et al. 2021,
            arXiv:2103.00020, §3.1.4; so does open_clip's `build_zero_shot_classifier`);
            `average_first`: mean of the embeddings as they are, normalised, in which long vectors
            count more.
    """
    texts = prompts.astype(np.float64)
    if order == "normalise_first":
        texts = normalise(texts.reshape(-1, texts.shape[-1])).reshape(texts.shape)
    return normalise(texts.mean(axis=1))


def zero_shot(
    vectors: NDArray[np.float32] | Floats,
    prompts: NDArray[np.float32] | Floats,
    *,
    order: str = "normalise_first",
    logit_scale: float = LOGIT_SCALE,
) -> Floats:
    """(n, C) logits: scaled cosines of embeddings and class vectors.

    Args:
        vectors: (n, d) embeddings.
        prompts: (C, T, d) embeddings of texts in the same space.
        order: See `class_vectors`.
        logit_scale: Factor before the softmax; changes probabilities, never the class.
    """
    logits: Floats = logit_scale * (normalise(vectors) @ class_vectors(prompts, order).T)
    return logits


def check_order(settings: Settings, protocol: str) -> None:
    """Raises ConfigError for an unknown order."""
    order = settings["order"]
    if order not in ORDERS:
        raise ConfigError(f"settings.{protocol}.order={order!r}. {suggest(order, ORDERS)}")


def _tasks(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
    check_order(settings, PROTOCOL.name)
    if embeddings.prompts is None:
        whole = embeddings.modalities
        return [Task(whole, LABEL, inputs=ALL if len(whole) > 1 else whole[0])]
    width = embeddings.prompts.shape[2]
    fitting = [m for m, v in embeddings.vectors.items() if v.shape[1] == width]
    return [Task((m,), LABEL, inputs=m) for m in fitting or embeddings.modalities]


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    train, val, test = (
        rows_of(task, embeddings, split, concatenate=True) for split in ("train", "val", SPLIT)
    )
    prompts, order, scale = embeddings.prompts, settings["order"], float(settings["logit_scale"])
    if prompts is None:
        return missing(task, embeddings, METRICS, NO_PROMPTS)
    if reason := reason_not_to_compare(task, prompts, test):
        return missing(task, embeddings, METRICS, reason)
    of_val, logits = (
        zero_shot(rows.vectors, prompts, order=order, logit_scale=scale) for rows in (val, test)
    )
    temperature = fit_temperature(of_val, val.targets) if len(val) else None
    classes, trivial = embeddings.classes, None
    if len(train):
        trivial, _ = classification_baseline(train.targets, test.targets, classes)
    # a uniform guess is one among the classes that have prompts
    _, chance = classification_baseline(np.arange(len(prompts)), test.targets, classes)
    return Output(
        test.index,
        ClassOutcome(
            test.targets,
            logits.argmax(axis=1),
            classes,
            _probabilities(logits, len(classes)),
            None if temperature is None else _probabilities(logits / temperature, len(classes)),
        ),
        trivial=trivial,
        trivial_name=MAJORITY if len(train) else "",
        chance=chance,
        settings={
            "order": order,
            "logit_scale": scale,
            "temperature": temperature,
            "n_templates": prompts.shape[1],
            "accuracy_of_each_template": _of_each_template(test, prompts),
        },
    )


def _probabilities(logits: Floats, n_classes: int) -> Floats:
    """(n, n_classes); 0 for classes without prompts, which only the model's classifier knows."""
    return np.pad(softmax(logits, axis=1), ((0, 0), (0, n_classes - logits.shape[1])))


def _of_each_template(test: Rows, prompts: NDArray[np.float32]) -> list[float]:
    """Accuracy with one template alone: how much hangs on the words."""
    alone = np.split(prompts, prompts.shape[1], axis=1)
    hits = [zero_shot(test.vectors, one).argmax(axis=1) == test.targets for one in alone]
    return [round(float(hit.mean()), 4) for hit in hits]


def reason_not_to_compare(task: Task, prompts: NDArray[np.float32], test: Rows) -> str | None:
    """Why the prompts cannot classify the rows, or None."""
    (modality,) = task.modalities
    if test.vectors.shape[1] != prompts.shape[2]:
        return f"prompts are {prompts.shape[2]} wide, {modality} {test.vectors.shape[1]}"
    if len(prompts) < 2:
        return "prompts of fewer than 2 classes"
    return None if len(test) else "no labelled rows in the test split"


PROTOCOL = Protocol(
    name="zero_shot",
    version=2,
    title="class of the nearest prompt",
    tasks=_tasks,
    run=_run,
    settings={"order": ORDERS[0], "logit_scale": LOGIT_SCALE},
    baselines=False,
    applies=lambda embeddings: embeddings.prompts is not None,
)
