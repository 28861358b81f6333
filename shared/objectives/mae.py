"""Masked autoencoder: an encoder of few visible patches, a small decoder that predicts the rest
(MAE, arXiv:2111.06377)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.data.batch import Batch, View, scatter_rows
from shared.encoders.transformer import NORM_EPS, Block, init_xavier, sincos_positions
from shared.encoders.vit import VisionTransformer
from shared.errors import ConfigError, DataError
from shared.model import Model
from shared.objectives.base import LossOutput, Objective, Request, Tensors, one_modality
from shared.objectives.masked_patches import (
    keep_lowest,
    masked_mean,
    patchify,
    restore_tokens,
    standardise_patches,
)
from shared.random import uniform


class PatchDecoder(nn.Module):
    """Class token and visible patches → the pixels of every patch (§3, "MAE decoder").

    Args:
        encoder_dim: Width of the encoder's tokens.
        dim: Width of its own.
        depth: Number of blocks.
        num_heads: Of the attention.
        grid: Patches along a side of the image.
        patch_values: Numbers that a patch consists of.
    """

    def __init__(
        self, encoder_dim: int, dim: int, depth: int, num_heads: int, grid: int, patch_values: int
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(encoder_dim, dim)
        self.blocks = nn.ModuleList([Block(dim, num_heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.pred = nn.Linear(dim, patch_values)
        self.apply(init_xavier)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.pos_embed: Tensor
        table = torch.cat([torch.zeros(1, dim), sincos_positions(dim, grid, grid)])
        self.register_buffer("pos_embed", table[None])

    def forward(self, cls: Tensor, visible: Tensor, ids_restore: Tensor) -> Tensor:
        """(batch, encoder_dim), (batch, kept, encoder_dim), (batch, patches) → (batch, patches,
        patch_values)."""
        tokens = self.embed(torch.cat([cls[:, None], visible], dim=1))
        patches = restore_tokens(tokens[:, 1:], self.mask_token, ids_restore)
        x = torch.cat([tokens[:, :1], patches], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        pixels: Tensor = self.pred(self.norm(x[:, 1:]))
        return pixels


class MAE(Objective):
    """Squared error of the patches that the encoder did not see, averaged over all of them.

    Args:
        modalities: Modalities of the model.
        modality: The one that is trained; null where the model has only one.
        mask_ratio: Share of the patches that are hidden; their number is rounded up.
        norm_pix_loss: Whether each target patch is standardised by its own mean and variance.
        decoder_dim: Width of the decoder.
        decoder_depth: Its number of blocks.
        decoder_num_heads: Of its attention.

    Raises:
        ConfigError: No such modality, a ratio outside (0, 1), or an encoder that is no vision
            transformer.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        modality: str | None = None,
        mask_ratio: float = 0.75,
        norm_pix_loss: bool = True,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
    ) -> None:
        super().__init__(modalities)
        modality = one_modality("mae", modality, self.modalities)
        if not 0 < mask_ratio < 1:
            raise ConfigError(f"mae: mask_ratio={mask_ratio} has to be between 0 and 1.")
        self.modality, self.mask_ratio, self.norm_pix_loss = modality, mask_ratio, norm_pix_loss
        self._decoder_sizes = (decoder_dim, decoder_depth, decoder_num_heads)
        self._cls = Request(modality, "pooled", "masked", gather="none")
        self._visible = Request(modality, "tokens", "masked", gather="none")
        self.requests = (self._cls, self._visible)

    def bind(self, model: Model) -> None:
        encoder = model.encoders[self.modality]
        if not isinstance(encoder, VisionTransformer):
            raise ConfigError(
                f"mae: the encoder of {self.modality} cannot leave out patches. Take vit, with "
                "positions=sincos and layer_scale=null as published."
            )
        self.patch_size, self.grid = encoder.patch_size, encoder.grid
        patch_values = encoder.patch_embed.proj.in_channels * self.patch_size**2
        self.decoder = PatchDecoder(encoder.dim, *self._decoder_sizes, self.grid, patch_values)

    def make_views(self, batch: Batch) -> dict[str, View]:
        values = batch.inputs[self.modality]["values"]
        noise = uniform(batch.seeds_of(self.modality), self.grid**2)
        return self.views(values, noise, batch.present[self.modality])

    def views(self, values: Tensor, noise: Tensor, present: Tensor) -> dict[str, View]:
        """The view in which the patches with the most noise are hidden.

        Args:
            values: (rows, C, H, W) of the samples that have the modality.
            noise: (rows, patches) uniform in [0, 1).
            present: (batch,) bool, which samples these are.

        Raises:
            DataError: The images have another size than the encoder's position table.
        """
        height, width = values.shape[2:]
        if (height, width) != (self.grid * self.patch_size,) * 2:
            side = self.grid * self.patch_size
            raise DataError(
                f"mae: images of {self.modality} are {height} × {width}, and the model is made "
                f"for {side} × {side}. Set its image_size, or that of the preprocessor."
            )
        ids_keep, ids_restore, mask = keep_lowest(
            noise, int(noise.shape[1] * (1 - self.mask_ratio))
        )
        patches = patchify(values.float(), self.patch_size)
        if self.norm_pix_loss:
            patches = standardise_patches(patches)
        targets = {"mask": mask, "ids_restore": ids_restore, "patches": patches}
        spread = {name: scatter_rows(rows, present) for name, rows in targets.items()}
        inputs = {"values": values, "ids_keep": ids_keep}
        return {"masked": View({self.modality: inputs}, targets=spread)}

    def forward(self, tensors: Tensors) -> LossOutput:
        targets = tensors.views["masked"].targets
        losses = (self.predict(tensors).float() - targets["patches"]).square().mean(dim=2)
        return LossOutput({"pixels": masked_mean(losses, targets["mask"])})

    def predict(self, tensors: Tensors) -> Tensor:
        """(batch, patches, values of a patch), as `patchify` orders them."""
        ids_restore = tensors.views["masked"].targets["ids_restore"]
        cls, visible = (tensors.encoded[request].rows for request in self.requests)
        pixels: Tensor = self.decoder(cls, visible, ids_restore)
        return pixels
