"""A linear probe that watches a run: how well labels can be read off the embeddings."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from shared.data.batch import Batch
from shared.distributed import sum_over_ranks
from shared.objectives.base import Encoded


class OnlineProbe(pl.Callback):
    """Ridge regression to one-hot labels on the epoch's training embeddings, judged on validation.

    Only sums of products are kept ((dim+1)² and (dim+1)·classes numbers a modality), so it costs no
    forward pass, and it never touches the model's gradients or random state. The training
    embeddings are those the steps of the epoch made, so the figure lags by half an epoch. All
    ranks have the sums over all of their rows.

    Logs `probe/<modality>`: balanced accuracy (mean recall over the classes met), which is
    1 / classes by chance.
    """

    RIDGE = 1e-2  # relative to the mean diagonal of the Gram matrix

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._products: dict[str, Tensor] = {}
        self._hits: dict[str, Tensor] = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # not called when a run resumes inside an epoch, which keeps the sums of its first part
        self._products = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        for modality, encoded in pl_module.last_output.embedded.items():
            x, y = self._rows(encoded, batch.labels)
            targets = torch.nn.functional.one_hot(y, self.num_classes).to(x.dtype)
            # in every step, so that the one checkpoint of all ranks has them
            products = sum_over_ranks(x.T @ torch.cat([x, targets], dim=1))
            if modality in self._products:
                # those of a resumed run come from the CPU
                products += self._products[modality].to(x.device)
            self._products[modality] = products

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        empty = torch.zeros(2, self.num_classes, device=pl_module.device)
        self._hits = {m: empty.clone() for m in self._products}
        self._solutions = {}
        for modality, products in self._products.items():
            gram, cross = products.tensor_split([len(products)], dim=1)
            if not gram.any():  # no labelled sample of the epoch had the modality
                continue
            ridge = self.RIDGE * gram.diagonal().mean() * torch.eye(len(gram), device=gram.device)
            self._solutions[modality] = torch.linalg.solve(gram + ridge, cross)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        for modality, encoded in pl_module.last_output.embedded.items():
            if modality in self._solutions:
                x, y = self._rows(encoded, batch.labels)
                right = (x @ self._solutions[modality]).argmax(dim=1) == y
                for row, chosen in enumerate((y[right], y)):
                    self._hits[modality][row] += torch.bincount(chosen, minlength=self.num_classes)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = {}
        for modality, hits in self._hits.items():
            right, seen = sum_over_ranks(hits)
            if (seen > 0).any():
                values[f"probe/{modality}"] = float((right / seen)[seen > 0].mean())
        for name, value in values.items():
            pl_module.log(name, value, logger=False)
        for logger in pl_module.loggers:
            logger.log_metrics(values, pl_module.global_step)

    def state_dict(self) -> dict[str, Any]:
        return {"products": self._products}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._products = state["products"]

    @staticmethod
    def _rows(encoded: Encoded, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (with a constant column) and labels of the rows that have both."""
        chosen = encoded.present & (labels >= 0)
        x = encoded.rows[chosen].float()
        return torch.cat([x, x.new_ones(len(x), 1)], dim=1), labels[chosen]
