"""A model: encoders, heads and preprocessors by modality, saved and loaded as one object."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared import inference, model_files, weights
from shared.devices import Precision
from shared.encoders.base import Embedding, Encoder, Fusion
from shared.encoders.heads import Classifier, build_head
from shared.errors import ConfigError, suggest
from shared.model_config import ModelConfig
from shared.model_parts import build_encoder, build_part
from shared.preprocess import Preprocessor
from shared.raw_inputs import as_list
from shared.registry import Registries
from shared.schema import Schema

if TYPE_CHECKING:
    from shared.matching import Ranking

Output = Literal["projected", "unnormalized", "pooled"]
OUTPUTS = ("projected", "unnormalized", "pooled")


class Model(nn.Module):
    """Encoders that share one embedding space.

    Attributes:
        config: Its architecture.
        preprocessors: By modality; raw inputs in the units of `schemas` → tensors.
        encoders: By modality.
        heads: By modality, (batch, dim) → (batch, embed_dim); where the config has one.
        token_heads: The same for tokens.
        fusion: Encoder of all modalities' tokens at once, or None.
        classifier: Features of all modalities → logits, or None.
        scalars: Learned scalars such as `logit_scale` (stored as a logarithm).
    """

    def __init__(
        self,
        config: ModelConfig,
        preprocessors: Mapping[str, Preprocessor],
        encoders: Mapping[str, Encoder],
        fusion: Fusion | None,
        scalars: Mapping[str, float],
    ) -> None:
        super().__init__()
        self.config = config
        self.preprocessors = dict(preprocessors)
        self.encoders = nn.ModuleDict(encoders)
        self.heads, self.token_heads = nn.ModuleDict(), nn.ModuleDict()
        for modality, parts in config.modalities.items():
            encoder, where = encoders[modality], f"model.modalities.{modality}"
            if parts.head is not None:
                self.heads[modality] = build_head(
                    parts.head, encoder.dim, config.embed_dim, f"{where}.head"
                )
            elif encoder.dim != config.embed_dim:
                raise ConfigError(
                    f"{where}: without a head the embedding is {encoder.dim} wide, and embed_dim "
                    f"is {config.embed_dim}. Set embed_dim={encoder.dim}, or give it a head."
                )
            if parts.token_head is not None:
                self.token_heads[modality] = build_head(
                    parts.token_head, encoder.token_dim, config.embed_dim, f"{where}.token_head"
                )
        self.fusion = fusion
        self.classifier = self._build_classifier() if config.classifier else None
        self.scalars = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(value)) for name, value in scalars.items()}
        )

    @classmethod
    def build(
        cls,
        config: ModelConfig,
        schemas: Mapping[str, Schema],
        registries: Registries,
        scalars: Mapping[str, float] | None = None,
    ) -> "Model":
        """A model with fresh weights for inputs of these schemas.

        Raises:
            ConfigError, UnknownNameError: In the settings of a part.
            SchemaError: A preprocessor takes a channel that a schema lacks.
        """
        preprocessors = {
            modality: build_part(registries.preprocessors, parts.preprocess, schemas[modality])
            for modality, parts in config.modalities.items()
        }
        encoders = {
            modality: build_encoder(registries, parts.encoder, preprocessors[modality].sizes)
            for modality, parts in config.modalities.items()
        }
        fusion = None
        if config.fusion is not None:
            widths = {
                m: encoders[m].token_dim if parts.token_head is None else config.embed_dim
                for m, parts in config.modalities.items()
            }
            kind = registries.encoders.get(config.fusion["name"])
            if not (isinstance(kind, type) and issubclass(kind, Fusion)):
                name = config.fusion["name"]
                raise ConfigError(
                    f"model.fusion: {name} encodes one modality; choose what joins several, such "
                    "as joint_masked."
                )
            fusion = build_part(registries.encoders, config.fusion, widths)
        return cls(config, preprocessors, encoders, fusion, scalars or {})

    def _build_classifier(self) -> Classifier:
        config = self.config.classifier
        assert config is not None
        if config.num_classes is None:
            raise ConfigError("model.classifier.num_classes is not set.")
        return Classifier(self.classifier_widths(), config.num_classes, config.fusion)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.encoders)

    @property
    def schemas(self) -> dict[str, Schema]:
        """What it takes, by modality: channels, units and shape of the raw inputs."""
        return {name: p.takes for name, p in self.preprocessors.items()}

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def encode(self, modality: str, inputs: dict[str, Tensor]) -> Embedding:
        """Run the encoder of one modality on prepared inputs."""
        output: Embedding = self.encoders[modality](inputs)
        return output

    def project(self, modality: str, pooled: Tensor) -> Tensor:
        """(batch, dim) → (batch, embed_dim) of unit norm, float32."""
        return nn.functional.normalize(self.apply_head(modality, pooled).float(), dim=-1)

    def apply_head(self, modality: str, pooled: Tensor) -> Tensor:
        """(batch, dim) → (batch, embed_dim) of any norm; as they are without a head."""
        if modality not in self.heads:
            return pooled
        projected: Tensor = self.heads[modality](pooled)
        return projected

    def project_tokens(self, modality: str, tokens: Tensor) -> Tensor:
        """(batch, length, token_dim) → (batch, length, embed_dim); as they are without a head."""
        if modality not in self.token_heads:
            return tokens
        projected: Tensor = self.token_heads[modality](tokens)
        return projected

    def fuse(self, tokens: Mapping[str, Embedding], inputs: Mapping[str, Tensor]) -> Embedding:
        """Run the fusion on projected tokens of every modality; see `Fusion.forward`.

        Raises:
            ConfigError: The model has no fusion.
        """
        if self.fusion is None:
            raise ConfigError("An objective reads tokens of several modalities; set model.fusion.")
        joint: Embedding = self.fusion(tokens, inputs)
        return joint

    @property
    def classifier_features(self) -> Literal["projected", "pooled"]:
        """What the classifier reads of each modality."""
        return self.config.classifier.features if self.config.classifier else "projected"

    def classifier_widths(self) -> dict[str, int]:
        """By modality, the width of what the classifier reads."""
        projected = self.classifier_features == "projected"
        dims = {m: encoder.dim for m, encoder in self.encoders.items()}
        return dict.fromkeys(dims, self.config.embed_dim) if projected else dims  # type: ignore[return-value]

    def classify(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Features of every modality, (batch, dim) → logits (batch, num_classes).

        Args:
            features: What `config.classifier.features` says, zero where absent.
            present: By modality, (batch,) bool.

        Raises:
            ConfigError: The model has no classifier.
        """
        if self.classifier is None:
            raise ConfigError("An objective reads logits; set model.classifier.")
        logits: Tensor = self.classifier(self.classifier.join(features, present))
        return logits

    def fingerprint(self) -> str:
        """Revision of these very weights, architecture and preprocessing, 16 hex digits."""
        settings = {
            "config": self.config.to_dict(),
            "schemas": {m: s.to_dict() for m, s in self.schemas.items()},
            "states": {m: p.state() for m, p in self.preprocessors.items()},
        }
        text = json.dumps(settings, sort_keys=True).encode()
        tensors = {**self.state_dict(), "": torch.frombuffer(bytearray(text), dtype=torch.uint8)}
        return weights.tensors_fingerprint(tensors)

    def embed(
        self,
        *,
        output: Output = "projected",
        batch_size: int = 64,
        device: str = "auto",
        precision: Precision = "float32",
        **raw: Any,
    ) -> Any:
        """Raw inputs → embeddings: `model.embed(photometry=[curve, …])`.

        Args:
            output: `projected` (unit norm, comparable between modalities), `unnormalized` (the same
                before its norm is made 1) or `pooled` (what the encoder gives, often better under
                a linear probe).
            batch_size: Inputs read and embedded at a time.
            device: `auto`, `cpu`, `cuda`, `mps`, …
            precision: `float32`, or `bfloat16` under autocast.
            **raw: By modality, one raw input or a list of them: an array whose last axis holds the
                channels of `model.schemas[modality]` in that order, or a mapping (table) from
                channel names to columns. An image of 8-bit colours may be a file or an image of
                Pillow's too, and a folder stands for the images right in it, by name; they are
                converted to RGB as `image_folder` does.

        Returns:
            (n, dim) float32 array; a dict of them where several modalities are given. A single raw
            input gives n = 1.

        Raises:
            UnknownNameError: The model has no such modality.
            DataError: An input does not hold what the schema says; the channel is named.
        """
        if not raw:
            raise ConfigError(f"embed: give at least one of {', '.join(self.modalities)}.")
        if output not in OUTPUTS:
            raise ConfigError(f"output={output!r}. {suggest(output, OUTPUTS)}")
        lists = self._lists(raw)
        with inference.ready(self, device, batch_size):
            embedded = {
                m: inference.embed(self, m, raws, output, batch_size, precision)
                for m, raws in lists.items()
            }
        return embedded if len(raw) > 1 else next(iter(embedded.values()))

    def predict(
        self,
        *,
        batch_size: int = 64,
        device: str = "auto",
        precision: Precision = "float32",
        **raw: Any,
    ) -> NDArray[np.float32]:
        """Raw inputs → class probabilities: `model.predict(photometry=[curve, …], spectra=[…])`.

        Args:
            batch_size: Samples a forward pass.
            device: `auto`, `cpu`, `cuda`, `mps`, …
            precision: Of the encoders: `float32`, or `bfloat16` under autocast.
            **raw: By modality, as in `embed`; one entry a sample, None where it lacks the modality.
                A modality that is not given is lacking in all. The classifier takes the mean of
                those that are there, or zeros for those that are not (`config.classifier.fusion`).

        Returns:
            (n, num_classes) float32, rows sum to 1, columns as in `config.classifier.classes`.

        Raises:
            ConfigError: The model has no classifier, or nothing is given.
            UnknownNameError: The model has no such modality.
            DataError: Lists of different lengths, a sample without any modality, or a wrong input.
        """
        inference.require_classifier(self, self.config.name)
        if not raw:
            raise ConfigError(f"predict: give at least one of {', '.join(self.modalities)}.")
        lists = self._lists(raw)
        with inference.ready(self, device, batch_size):
            return inference.predict(self, lists, batch_size, precision)

    def _lists(self, raw: Mapping[str, Any]) -> dict[str, list[Any]]:
        """By modality, one raw input or several → several."""
        return {m: as_list(value, self.schemas.get(m)) for m, value in raw.items()}

    def zero_shot(
        self,
        inputs: Any,
        classes: Sequence[str],
        templates: Sequence[str] = ("a photo of a {}.",),
        *,
        modality: str | None = None,
        order: str = "normalise_first",
        logit_scale: float | None = None,
        batch_size: int = 64,
        device: str = "auto",
        precision: Precision = "float32",
    ) -> NDArray[np.float32]:
        """Class probabilities by texts alone: `model.zero_shot("photos/", ["forest", "river"])`.

        Args:
            inputs: One or several, as in `embed`.
            classes: Their names, as a text says them.
            templates: Texts in which `{}` stands for the name.
            modality: Of the inputs; None: the only one beside `text`.
            order: How the texts of a class become one vector: `normalise_first`, the mean of unit
                vectors (CLIP's way), or `average_first`, the mean before their norm is made 1, as
                some published evaluations have it.
            logit_scale: Factor of the cosines before the softmax; None: what the model learned, 100
                where it has none.
            batch_size: Inputs read and embedded at a time.
            device: `auto`, `cpu`, `cuda`, `mps`, …
            precision: `float32`, or `bfloat16` under autocast.

        Returns:
            (n, len(classes)) float32, rows sum to 1.

        Raises:
            ConfigError: No `text` in the model, or classes, templates or an order that cannot be.
            UnknownNameError, DataError: As `embed`.
        """
        from shared import matching

        options = {"batch_size": batch_size, "device": device, "precision": precision}
        return matching.zero_shot(
            self, inputs, classes, templates, modality, order, logit_scale, options
        )

    def retrieve(
        self,
        *,
        among: Any,
        k: int = 10,
        batch_size: int = 64,
        device: str = "auto",
        precision: Precision = "float32",
        **query: Any,
    ) -> "Ranking":
        """The nearest of many: `model.retrieve(text="a river", among={"image": "photos/"}, k=5)`.

        Args:
            among: `{modality: inputs}`, as in `embed`, or the (n, embed_dim) array that `embed`
                made of them, which spares their next search.
            k: Candidates of each query; more than n counts as n.
            batch_size: Inputs read and embedded at a time.
            device: `auto`, `cpu`, `cuda`, `mps`, …
            precision: `float32`, or `bfloat16` under autocast.
            **query: The queries of one modality, as in `embed`.

        Returns:
            `indices` (q, k) int64 among the candidates, the nearest first and the smaller index
            first where two tie, and `scores` (q, k) float32, their cosines.

        Raises:
            ConfigError: Several modalities, or k below 1.
            UnknownNameError, DataError: As `embed`; an array that is no embeddings of this model.
        """
        from shared import matching

        options = {"batch_size": batch_size, "device": device, "precision": precision}
        return matching.retrieve(self, query, among, k, options)

    def save(self, folder: Path, card: str) -> None:
        """Write `model.safetensors`, `config.json`, `schema.json` and the card `README.md`.

        `config.json` is written last: a folder that has it is whole.
        """
        model_files.write_model(self, folder, card)

    @classmethod
    def load(
        cls,
        folder: Path,
        registries: Registries,
        encoders: Sequence[str] | None = None,
        accept_edits: bool = False,
    ) -> "Model":
        """Read a model folder, strictly.

        Args:
            folder: What `save` wrote.
            registries: Where the names of the parts are found.
            encoders: Modalities to load; the tensors of the others are not read. None: all.
            accept_edits: Whether its JSON files may be others than those that were saved.

        Raises:
            WeightsError: The folder is not a whole model folder, its settings were edited, or the
                tensors do not fit.
            UnknownNameError: A modality or a part that does not exist here.
        """
        return model_files.read_model(cls, folder, registries, encoders, accept_edits)
