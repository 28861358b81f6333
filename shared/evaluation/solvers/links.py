"""Losses of logistic models over blocks of rows: softmax over classes, sigmoid of tags."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.solvers.quasi_newton import Array


class Link(Protocol):
    """What turns logits into losses.

    Attributes:
        n_problems: Independent problems of one strength, L: one, or the number of tags.
        n_outputs: Logits of each, q: the number of classes, or one.
    """

    n_problems: int
    n_outputs: int

    def intercepts(self) -> NDArray[np.float64]:
        """(L, q) of the model that knows only how frequent each class is."""
        ...

    def entropies(self) -> NDArray[np.float64]:
        """(L,) loss of that model."""
        ...

    def residual(self, logits: Array, rows: slice, problems: NDArray[np.int64]) -> Array:
        """Losses of a block of b rows, and in place of the logits their gradient.

        Args:
            logits: (a, q, b), overwritten.
            rows: Which ones.
            problems: (a,) which of the L problems each is.

        Returns:
            (a,) sums of the losses, each row times its share.
        """
        ...

    def curvature(self, logits: Array, rows: slice, problems: NDArray[np.int64]) -> Array:
        """(a, q, q) sum over a block of the second derivatives by the logits; arguments as of
        `residual`."""
        ...


class Softmax:
    """Cross-entropy of classes; of all strengths the same rows count.

    Args:
        y: (n,) classes.
        share: (n,) of each row in the loss; their sum is one.
        n_classes: C.
    """

    n_problems = 1

    def __init__(self, y: NDArray[np.int64], share: Array, n_classes: int) -> None:
        self.y, self.share, self.n_outputs = y, share, n_classes

    def intercepts(self) -> NDArray[np.float64]:
        frequency = np.bincount(self.y, weights=self.share, minlength=self.n_outputs)
        logs: NDArray[np.float64] = np.log(frequency)[None, :]
        return logs

    def entropies(self) -> NDArray[np.float64]:
        logs = self.intercepts()
        entropy: NDArray[np.float64] = -(np.exp(logs) * logs).sum(axis=1)
        return entropy

    def residual(self, logits: Array, rows: slice, problems: NDArray[np.int64]) -> Array:
        y, share = self.y[rows], self.share[rows]
        each = np.arange(len(y))
        logits -= logits.max(axis=1, keepdims=True)
        at_truth = logits[:, y, each]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        logits *= share / total
        logits[:, y, each] -= share
        losses: Array = (np.log(total[:, 0]) - at_truth).astype(np.float64)
        return losses @ share.astype(np.float64)

    def curvature(self, logits: Array, rows: slice, problems: NDArray[np.int64]) -> Array:
        chance = np.exp(logits - logits.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        shared = chance * self.share[rows]
        bend: Array = -np.matmul(shared, np.swapaxes(chance, 1, 2))
        classes = np.arange(self.n_outputs)
        bend[:, classes, classes] += shared.sum(axis=2)
        return bend


class Sigmoid:
    """Log-loss of L tags, each with rows of its own.

    Args:
        tags: (L, n) whether a row has the tag.
        share: (L, n) of each row in the loss of a tag; zero where it is not known.
    """

    n_outputs = 1

    def __init__(self, tags: NDArray[np.bool_], share: Array) -> None:
        self.tags, self.share, self.n_problems = tags, share, len(tags)

    def intercepts(self) -> NDArray[np.float64]:
        positive = (self.share * self.tags).sum(axis=1, dtype=np.float64)
        negative = (self.share * ~self.tags).sum(axis=1, dtype=np.float64)
        odds: NDArray[np.float64] = np.log(positive / negative)[:, None]
        return odds

    def entropies(self) -> NDArray[np.float64]:
        odds = self.intercepts()[:, 0]
        entropy: NDArray[np.float64] = np.logaddexp(0, odds) - odds / (1 + np.exp(-odds))
        return entropy

    def residual(self, logits: Array, rows: slice, problems: NDArray[np.int64]) -> Array:
        truth, share = self.tags[problems, rows], self.share[problems, rows]
        z = logits[:, 0]
        # log(1 + e^z) - z t, from e^-|z|, which cannot overflow.
        small = np.exp(-np.abs(z))
        loss = np.log1p(small) + np.where(truth, np.maximum(-z, 0), np.maximum(z, 0))
        chance = np.where(z >= 0, 1, small) / (1 + small)
        logits[:, 0] = (chance - truth) * share
        total: Array = np.einsum("an,an->a", loss, share, dtype=np.float64)
        return total

    def curvature(self, logits: Array, rows: slice, problems: NDArray[np.int64]) -> Array:
        small = np.exp(-np.abs(logits[:, 0]))
        bend: Array = small / (1 + small) ** 2 * self.share[problems, rows]
        total: Array = bend.sum(axis=1)
        return total[:, None, None]
