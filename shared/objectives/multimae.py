"""Masked autoencoder of several images of one scene: colours, depth, classes
(MultiMAE, arXiv:2204.01678)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.data.batch import Batch, View, scatter_rows
from shared.encoders.patch_tokens import LabelPatchTokens, PatchTokenizer
from shared.errors import ConfigError
from shared.model import Model
from shared.objectives.base import LossOutput, Objective, Request, Tensors
from shared.objectives.masked_patches import (
    Masking,
    PatchLoss,
    allocate_visible,
    draw_subsets,
    mean_of_masked_means,
    patch_losses,
    share_present,
    visible_numbers,
)
from shared.objectives.multimae_decoder import TaskDecoder, split_tokens, token_numbers
from shared.random import dirichlet, fold_in, uniform
from shared.settings import check_fields


@dataclass(frozen=True)
class Task:
    """One thing that is predicted.

    Attributes:
        modality: Whose hidden patches.
        loss: `mse`, `norm_mse` (against standardised patches) or `l1` of values, `cross_entropy` of
            classes.
    """

    modality: str
    loss: PatchLoss


class MultiMAE(Objective):
    """Few patches of all modalities are encoded together, and of each task's modality the hidden
    ones are predicted from them.

    The loss of a task is each sample's mean over hidden patches, averaged over the samples that
    have any; the tasks are added up. A modality that a sample lacks has no visible patch, as long
    as the others have enough, and no loss.

    Args:
        modalities: Modalities of the model; their encoders cut patches, its fusion joins them.
        num_encoded_tokens: Visible patches of all modalities.
        alpha: Concentration of the Dirichlet distribution that shares them out: one for all, or by
            modality.
        sample_tasks_uniformly: Whether a subset of the modalities is drawn first, and most of the
            visible patches are of those.
        tasks: By name, `{modality: …, loss: mse | norm_mse | l1 | cross_entropy}`; null: one for
            each modality, cross_entropy where it consists of classes, else mse.
        decoder_dim: Width of the decoders.
        decoder_depth: Their number of blocks.
        decoder_num_heads: Of their attention.

    Raises:
        ConfigError: A setting that cannot be.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        num_encoded_tokens: int = 98,
        alpha: float | Mapping[str, float] = 1.0,
        sample_tasks_uniformly: bool = False,
        tasks: Mapping[str, Mapping[str, str]] | None = None,
        decoder_dim: int = 256,
        decoder_depth: int = 2,
        decoder_num_heads: int = 8,
    ) -> None:
        super().__init__(modalities)
        if isinstance(alpha, Mapping) and set(alpha) != set(self.modalities):
            raise ConfigError(
                f"multimae: alpha={dict(alpha)} needs a number for each of "
                f"{', '.join(self.modalities)}."
            )
        by_modality = alpha if isinstance(alpha, Mapping) else dict.fromkeys(modalities, alpha)
        self._alpha = [float(by_modality[m]) for m in self.modalities]
        if min(self._alpha) <= 0:
            raise ConfigError(f"multimae: alpha={alpha} has to be above 0.")
        self.num_encoded_tokens = num_encoded_tokens
        self.sample_tasks_uniformly = sample_tasks_uniformly
        self._task_settings = tasks
        self._decoder_sizes = (decoder_dim, decoder_depth, decoder_num_heads)
        self._global = Request(self.modalities, "pooled", "masked", gather="none")
        self._visible = Request(self.modalities, "tokens", "masked", gather="none")
        self.requests = (self._global, self._visible)

    def bind(self, model: Model) -> None:
        if model.fusion is None:
            raise ConfigError("multimae: set model.fusion, such as joint_masked.")
        self._tokenizers = {m: _tokenizer(model, m) for m in self.modalities}
        self.tasks = self._parse_tasks()
        available = sum(tokenizer.grid**2 for tokenizer in self._tokenizers.values())
        if not 0 < self.num_encoded_tokens < available:
            raise ConfigError(
                f"multimae: num_encoded_tokens={self.num_encoded_tokens} has to be at least 1 and "
                f"below the {available} patches that a sample has."
            )
        self.decoders = nn.ModuleDict(
            {
                name: TaskDecoder(
                    model.fusion.dim,
                    *self._decoder_sizes,
                    self.modalities,
                    self._tokenizers[task.modality],
                )
                for name, task in self.tasks.items()
            }
        )

    def make_views(self, batch: Batch) -> dict[str, View]:
        present = torch.stack([batch.present[m] for m in self.modalities], dim=1)
        shares = self._draw_shares(present, fold_in(batch.seeds, "shares"))
        numbers = visible_numbers(shares, self.num_encoded_tokens)
        sizes = token_numbers(self._grids({m: batch.inputs[m]["values"] for m in self.modalities}))
        noise, repair = uniform(batch.seeds, 2, sum(sizes)).unbind(1)
        noises = torch.split(noise, sizes, dim=1)
        budget = self.num_encoded_tokens
        return self.views(batch, allocate_visible(numbers, noises, repair, budget, present))

    def views(self, batch: Batch, masking: Masking) -> dict[str, View]:
        """The view of a batch in which some tokens are hidden.

        Args:
            batch: Of the modalities' `values`.
            masking: Of (batch, tokens of all modalities in order).
        """
        values = {m: batch.inputs[m]["values"] for m in self.modalities}
        hidden = split_tokens(masking.mask, self._grids(values))
        counted = [mask & batch.present[m][:, None] for m, mask in hidden.items()]
        targets = {"ids_restore": masking.ids_restore, "mask": torch.cat(counted, dim=1)}
        for m, value in values.items():
            target = self._tokenizers[m].target(value)
            targets[f"values.{m}"] = scatter_rows(target, batch.present[m])
        return {"masked": View(joint={"ids_keep": masking.ids_keep}, targets=targets)}

    def forward(self, tensors: Tensors) -> LossOutput:
        targets = tensors.views["masked"].targets
        values = {m: targets[f"values.{m}"] for m in self.modalities}
        masks = split_tokens(targets["mask"], self._grids(values))
        terms = {}
        for name, prediction in self.predict(tensors).items():
            task = self.tasks[name]
            patch_size = self._tokenizers[task.modality].patch_size
            losses = patch_losses(task.loss, prediction, values[task.modality], patch_size)
            terms[name] = mean_of_masked_means(losses, masks[task.modality])
        return LossOutput(terms)

    def predict(self, tensors: Tensors) -> dict[str, Tensor]:
        """By task, (batch, channels, H, W) values or logits."""
        view = tensors.views["masked"]
        grids = self._grids({m: view.targets[f"values.{m}"] for m in self.modalities})
        masking = Masking(view.joint["ids_keep"], view.targets["ids_restore"], view.targets["mask"])
        pooled, visible = (tensors.encoded[request] for request in self.requests)
        return {
            name: self.decoders[name](pooled.rows, visible, masking, grids, task.modality)
            for name, task in self.tasks.items()
        }

    def _draw_shares(self, present: Tensor, seeds: Tensor) -> Tensor:
        """Each modality's share of the visible tokens, (batch, modalities)."""
        alpha = torch.tensor(self._alpha, device=present.device).expand(present.shape)
        if self.sample_tasks_uniformly:
            draws = uniform(fold_in(seeds, "subset"))
            # the released code's constant, since a Dirichlet distribution takes no zeros
            alpha = alpha * draw_subsets(present, draws) + 1e-5
        return share_present(dirichlet(seeds, alpha), present)

    def _grids(self, values: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
        """Rows and columns of patches, by modality."""
        sides = {m: self._tokenizers[m].patch_size for m in values}
        return {
            m: (value.shape[-2] // sides[m], value.shape[-1] // sides[m])
            for m, value in values.items()
        }

    def _parse_tasks(self) -> dict[str, Task]:
        if self._task_settings is None:
            return {m: Task(m, _losses(t)[0]) for m, t in self._tokenizers.items()}
        tasks = {}
        for name, settings in self._task_settings.items():
            where = f"multimae: tasks.{name}"
            check_fields(Task, settings, where)
            task = Task(**settings)  # type: ignore[arg-type]
            if task.modality not in self.modalities:
                known = ", ".join(self.modalities)
                raise ConfigError(f"{where}: modality has to be one of {known}.")
            fitting = _losses(self._tokenizers[task.modality])
            if task.loss not in fitting:
                raise ConfigError(f"{where}: {task.modality} takes loss {' or '.join(fitting)}.")
            tasks[name] = task
        if not tasks:
            raise ConfigError("multimae: tasks is empty; leave it out for one of each modality.")
        return tasks


def _tokenizer(model: Model, modality: str) -> PatchTokenizer:
    encoder = model.encoders[modality]
    if not isinstance(encoder, PatchTokenizer):
        raise ConfigError(
            f"multimae: the encoder of {modality} has to be patch_tokens or label_patch_tokens."
        )
    return encoder


def _losses(tokenizer: PatchTokenizer) -> tuple[PatchLoss, ...]:
    """Those that fit what a modality consists of."""
    if isinstance(tokenizer, LabelPatchTokens):
        return ("cross_entropy",)
    return ("mse", "norm_mse", "l1")
