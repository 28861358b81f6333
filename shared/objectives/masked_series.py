"""Hidden spans of a series, predicted from the rest and weighted by the measurement errors."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from shared.data.batch import Batch, View, scatter_rows
from shared.encoders.base import Encoder
from shared.encoders.heads import build_head
from shared.errors import ConfigError
from shared.model import Model
from shared.objectives.base import (
    LossOutput,
    Objective,
    Request,
    Tensors,
    Term,
    one_modality,
)
from shared.preprocess import SeriesPreprocessor
from shared.random import uniform

VIEW = "masked"
TINY = torch.finfo(torch.float32).tiny


def hide_spans(keys: Tensor, present: Tensor, ratio: float) -> Tensor:
    """Spans in random order hide tokens until a share of those that are present is hidden.

    Spans of one length start anywhere and may overlap, as in wav2vec 2.0 (arXiv:2006.11477, §3.1);
    the last one is cut, so that the number of hidden tokens of a row is ratio · n of its n present
    ones, rounded, at least 1 and at most n - 1.

    Args:
        keys: (rows, length + span - 1) uniform in [0, 1), one for each start of a span: the lowest
            comes first. Spans may start before the first token.
        present: (rows, length) bool; other tokens are never hidden.
        ratio: Share that is hidden.

    Returns:
        (rows, length) bool.
    """
    span = keys.shape[1] - present.shape[1] + 1
    # the first span that covers a token
    first = keys.unfold(1, span, 1).amin(dim=2).masked_fill(~present, torch.inf)
    number = present.sum(dim=1, keepdim=True)
    hidden = (number * ratio).round().clamp(min=1).minimum(number - 1)
    order = first.argsort(dim=1, stable=True).argsort(dim=1)
    return order < hidden


class MaskedSeries(Objective):
    """Squared error of hidden measurements, each weighted by its precision: Σ w (ŷ - y)² / Σ w with
    w = 1 / (σ² + error_floor²).

    Spans of tokens are hidden (`hide_spans`), and a head on each token predicts the values at its
    positions. What was not measured does not count. Values and errors are on the scale on which
    the encoder sees them; what a preprocessor made of the whole series, such as its mean, was made
    before anything was hidden.

    Args:
        modalities: Modalities of the model.
        modality: The one that is trained; null where the model has only one. Its preprocessor is
            one of a series.
        mask_ratio: Share of the tokens that is hidden.
        span: Neighbouring tokens that are hidden together.
        error_floor: Smallest error that makes a difference; where errors are not known all weights
            are equal.
        decoder: From a token to the values at its positions: `name`, linear or mlp, and settings;
            null: linear.

    Raises:
        ConfigError: No such modality or one that is no series, an encoder without tokens, or a
            setting out of range.
    """

    preprocessor: SeriesPreprocessor

    def __init__(
        self,
        modalities: Sequence[str],
        modality: str | None = None,
        mask_ratio: float = 0.3,
        span: int = 5,
        error_floor: float = 0.1,
        decoder: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(modalities)
        if modality is not None and modality not in self.modalities:
            # several of a run have names of their own, so the key is not known here
            raise ConfigError(
                f"masked_series: modality={modality}, and the run trains "
                f"{', '.join(self.modalities)}. Leave this objective out, or change its modality."
            )
        self.modality = one_modality("masked_series", modality, self.modalities)
        for name, value, good, words in (
            ("mask_ratio", mask_ratio, 0 < mask_ratio < 1, "between 0 and 1"),
            ("span", span, span >= 1, "at least 1"),
            ("error_floor", error_floor, 0 < error_floor < math.inf, "above 0 and finite"),
        ):
            if not good:
                raise ConfigError(f"masked_series: {name}={value} has to be {words}.")
        self.mask_ratio, self.span, self.error_floor = mask_ratio, span, error_floor
        self._decoder = decoder or {"name": "linear"}
        self._tokens = Request(self.modality, "tokens", VIEW, gather="none")
        self.requests = (self._tokens,)

    def bind(self, model: Model) -> None:
        encoder = cast(Encoder, model.encoders[self.modality])
        preprocessor = model.preprocessors[self.modality]
        if not isinstance(preprocessor, SeriesPreprocessor):
            raise ConfigError(
                f"masked_series: {self.modality} is no series of measurements as "
                f"{type(preprocessor).__name__} prepares it. Choose another modality."
            )
        self.preprocessor = preprocessor
        self.leading, self.per_token = encoder.leading_tokens, encoder.positions_per_token
        self.decoder = build_head(
            self._decoder, encoder.token_dim, self.per_token, "objective.masked_series.decoder"
        )

    def make_views(self, batch: Batch) -> dict[str, View]:
        present = self.preprocessor.series(batch.inputs[self.modality]).present
        tokens = -(-present.shape[1] // self.per_token)
        keys = uniform(batch.seeds_of(self.modality), tokens + self.span - 1)
        return {VIEW: self.view(batch, keys)}

    def view(self, batch: Batch, keys: Tensor) -> View:
        """The batch with hidden spans.

        Args:
            batch: Samples.
            keys: Of `hide_spans`, with a row for each sample that has the modality.

        Returns:
            The inputs without the hidden measurements, and as targets `values` (batch, length),
            `weight` (batch, length), 0 where nothing is to be predicted, and `visible_mean`
            (batch, 1), the weighted mean of what is left.
        """
        inputs, there = batch.inputs[self.modality], batch.present[self.modality]
        series = self.preprocessor.series(inputs)
        length = series.present.shape[1]
        padded = pad(series.present, (0, -length % self.per_token))
        tokens = padded.unfold(1, self.per_token, self.per_token).any(dim=2)
        hidden = hide_spans(keys, tokens, self.mask_ratio)
        hidden = hidden.repeat_interleave(self.per_token, dim=1)[:, :length]
        values = torch.where(series.present, series.values.float(), 0.0)
        precision = series.present / (series.error.float().square() + self.error_floor**2)
        visible = precision * ~hidden
        mean = (visible * values).sum(1, keepdim=True) / visible.sum(1, keepdim=True).clamp(TINY)
        targets = {"values": values, "weight": precision * hidden, "visible_mean": mean}
        return View(
            {self.modality: self.preprocessor.hide(inputs, hidden)},
            targets={name: scatter_rows(rows, there) for name, rows in targets.items()},
        )

    def forward(self, tensors: Tensors) -> LossOutput:
        return LossOutput({"values": self._error(tensors, self.predict(tensors))})

    def metrics(self, tensors: Tensors) -> dict[str, Term]:
        """`explained_variance`: 1 - the loss over that of the mean of what is visible."""
        error = self._error(tensors, self.predict(tensors)).total
        trivial = self._error(tensors, tensors.views[VIEW].targets["visible_mean"]).total
        return {"explained_variance": Term(trivial - error, trivial)}

    def predict(self, tensors: Tensors) -> Tensor:
        """(batch, length) float32.

        Raises:
            ConfigError: The encoder gives fewer tokens than the series has.
        """
        length = tensors.views[VIEW].targets["values"].shape[1]
        number = -(-length // self.per_token)
        tokens = tensors.encoded[self._tokens].rows[:, self.leading : self.leading + number]
        if tokens.shape[1] < number:
            raise ConfigError(
                f"masked_series: the encoder of {self.modality} gives {tokens.shape[1]} tokens for "
                f"{length} positions and has {self.per_token} a token. Choose one with a token for "
                "each position or patch."
            )
        values: Tensor = self.decoder(tokens).flatten(1)[:, :length]
        return values.float()

    def _error(self, tensors: Tensors, prediction: Tensor) -> Term:
        targets = tensors.views[VIEW].targets
        weight = targets["weight"]
        return Term((weight * (prediction - targets["values"]).square()).sum(), weight.sum())
