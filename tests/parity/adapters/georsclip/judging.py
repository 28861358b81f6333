"""Zero-shot classification and retrieval of captions, through the protocols of `zoo eval`."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.evaluation.embeddings.copies import with_copies
from shared.evaluation.embeddings.embedding_set import UNKNOWN, EmbeddingSet
from shared.evaluation.embeddings.prompts import build_prompts
from shared.evaluation.embeddings.vectors import normalise
from shared.evaluation.protocol import Output
from shared.evaluation.protocols.zero_shot import class_vectors, zero_shot
from zoo.plugins import plugins

ROUNDED = 0.006
"""Percentages are recorded with two decimals."""
TIE = 1e-6
"""Of upstream's float32 scores."""


def embedding_set(vectors: dict[str, NDArray[np.float32]], **changes: Any) -> EmbeddingSet:
    n = len(next(iter(vectors.values())))
    ids = np.array([f"row {row}" for row in range(n)])
    columns: dict[str, Any] = {
        "ids": ids,
        "vectors": vectors,
        "present": {modality: np.ones(n, dtype=np.bool_) for modality in vectors},
        "labels": np.full(n, UNKNOWN),
        "classes": (),
        "splits": np.full(n, "test"),
        "groups": ids,
        "dataset": "recorded",
        "model": "recorded",
        "synthetic": True,
        "fingerprint": "",
    }
    return with_copies(EmbeddingSet(**{**columns, **changes}))


def outputs_of(name: str, embeddings: EmbeddingSet, **settings: Any) -> list[Output]:
    """Of all tasks of the registered protocol."""
    protocol = plugins().registries.protocols.get(name)
    chosen = {**protocol.settings, **settings}
    return [protocol.run(task, embeddings, chosen) for task in protocol.tasks(embeddings, chosen)]


def values_of(output: Output) -> dict[str, float]:
    assert output.outcome is not None, output.missing
    return dict(zip(output.outcome.metrics, output.outcome.values().tolist(), strict=True))


def zeroshot(case: Any) -> dict[str, Tensor]:
    given = {name: tensor.numpy() for name, tensor in case.tensors("inputs").items()}
    spec, prompts = case.spec, given["prompt_embeddings"]
    images, names = given["image_embeddings"], spec["class_names"]
    assert build_prompts(names, spec["templates"])[0] == spec["prompts_first_class"]
    embeddings = embedding_set(
        {"image": images}, labels=given["labels"], classes=tuple(names), prompts=prompts
    )
    for order, suffix in (("average_first", ""), ("normalise_first", "_clip_flavour")):
        (output,) = outputs_of("zero_shot", embeddings, order=order)
        accuracy = 100 * values_of(output)["accuracy"]
        assert abs(accuracy - spec[f"accuracy_percent{suffix}"]) < ROUNDED
    found = {
        "classifier": class_vectors(prompts, "average_first").T,
        "classifier_clip_flavour": class_vectors(prompts, "normalise_first").T,
        "logits": zero_shot(images, prompts, order="average_first"),
    }
    return {name: torch.from_numpy(array) for name, array in found.items()}


def retrieval(case: Any) -> dict[str, Tensor]:
    tensors = {name: tensor.numpy() for name, tensor in case.tensors("inputs").items()}
    image_of_text, found = tensors["text_to_image_index"], {}
    for group, recorded in case.spec["metrics"].items():
        images, texts = tensors[f"{group}.images"], tensors[f"{group}.texts"]
        embeddings = embedding_set(
            {"image": images[image_of_text], "text": texts},
            groups=np.array([f"image {i}" for i in image_of_text]),
        )
        to_text, to_image = map(values_of, outputs_of("retrieval", embeddings, positives="group"))
        (both,) = map(values_of, outputs_of("mean_recall", embeddings, positives="group"))
        ours = {f"image2text-R@{k}": to_text[f"recall@{k}"] for k in (1, 5, 10)}
        ours |= {f"text2image-R@{k}": to_image[f"recall@{k}"] for k in (1, 5, 10)}
        # we leave out what any ranking reaches, upstream counts it as 100 %
        ours = {name: 1.0 if np.isnan(value) else value for name, value in ours.items()}
        mean = both["mean_recall"]
        ours["mean-recall"] = float(np.mean([*ours.values()])) if np.isnan(mean) else mean
        scores = normalise(texts) @ normalise(images).T
        low, high = recalls_under_ties(scores, image_of_text)
        for name, percent in recorded.items():
            exact = high[name] - low[name] < TIE
            assert low[name] - TIE <= ours[name] <= high[name] + TIE, f"{group}: {name}"
            # where ties straddle the k-th place upstream takes whichever torch.topk returns
            assert not exact or abs(100 * ours[name] - percent) < ROUNDED, f"{group}: {name}"
        found[f"{group}.scores"] = torch.from_numpy(scores)
    return found


def recalls_under_ties(
    scores: NDArray[np.float64], image_of_text: NDArray[np.int64]
) -> tuple[dict[str, float], dict[str, float]]:
    """The least and the most that any order of tied candidates gives."""
    own = image_of_text[:, None] == np.arange(scores.shape[1])
    ends: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for name, table, positive in (
        ("image2text", scores.T, own.T),
        ("text2image", scores, own),
    ):
        best = np.where(positive, table, -np.inf).max(axis=1, keepdims=True)
        last = ((table > best - TIE) & ~positive).sum(axis=1)
        first = (table > best + TIE).sum(axis=1)
        for end, before in zip(ends, (last, first), strict=True):
            end |= {f"{name}-R@{k}": float((before < k).mean()) for k in (1, 5, 10)}
    for end in ends:
        end["mean-recall"] = sum(end.values()) / len(end)
    return ends


ADAPTERS = {"zeroshot": zeroshot, "retrieval": retrieval}
