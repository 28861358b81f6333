"""A model: encoders, heads and preprocessors by modality, saved and loaded as one object."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared import inference, weights
from shared.devices import Precision
from shared.encoders.base import Embedding, Encoder, Fusion
from shared.encoders.heads import Classifier, build_head
from shared.errors import ConfigError, UnknownNameError, WeightsError, suggest
from shared.files import atomic_path, write_json
from shared.model_config import SETTINGS, ModelConfig, read_model_json, settings_hash, weights_path
from shared.preprocess import Preprocessor
from shared.registry import Registries
from shared.schema import Schema

FORMAT = 1
Output = Literal["projected", "pooled"]
OUTPUTS = ("projected", "pooled")
# RuntimeError: torch refuses a size
_DAMAGE = (ConfigError, LookupError, TypeError, ValueError, AttributeError, RuntimeError)
WHOLE = ("fusion", "classifier")
"""Parts of a model that belong to no modality."""


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
            modality: _build_part(registries.preprocessors, parts.preprocess, schemas[modality])
            for modality, parts in config.modalities.items()
        }
        encoders = {
            modality: _build_encoder(registries, parts.encoder, preprocessors[modality].sizes)
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
            fusion = _build_part(registries.encoders, config.fusion, widths)
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
        projected = self.heads[modality](pooled) if modality in self.heads else pooled
        return nn.functional.normalize(projected.float(), dim=-1)

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
    def classifier_features(self) -> Output:
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
            output: `projected` (unit norm, comparable between modalities) or `pooled` (what the
                encoder gives, often better under a linear probe).
            batch_size: Inputs a forward pass.
            device: `auto`, `cpu`, `cuda`, `mps`, …
            precision: `float32`, or `bfloat16` under autocast.
            **raw: By modality, one raw input or a list of them: an array whose last axis holds the
                channels of `model.schemas[modality]` in that order, or a mapping (table) from
                channel names to columns.

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
        with inference.ready(self, device, batch_size):
            embedded = {
                m: inference.embed(self, m, inference.as_list(value), output, batch_size, precision)
                for m, value in raw.items()
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
        with inference.ready(self, device, batch_size):
            lists = {m: inference.as_list(value) for m, value in raw.items()}
            return inference.predict(self, lists, batch_size, precision)

    def save(self, folder: Path, card: str) -> None:
        """Write `model.safetensors`, `config.json`, `schema.json` and the card `README.md`.

        `config.json` is written last: a folder that has it is whole.
        """
        modalities = {
            modality: {
                **asdict(parts),
                "preprocess": {**parts.preprocess, "state": self.preprocessors[modality].state()},
            }
            for modality, parts in self.config.modalities.items()
        }
        architecture = {**self.config.to_dict(), "modalities": modalities}
        config = {"format": FORMAT, **architecture, "scalars": sorted(self.scalars)}
        schemas = {m: s.to_dict() for m, s in self.schemas.items()}
        facts = {SETTINGS: settings_hash(config, schemas)}
        weights.write_tensors(folder / "model.safetensors", self.state_dict(), facts)
        write_json(folder / "schema.json", schemas)
        with atomic_path(folder / "README.md") as temporary:
            temporary.write_text(card, encoding="utf-8")
        write_json(folder / "config.json", config)

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
        if encoders is not None and not encoders:
            raise ConfigError("encoders is empty: name at least one modality, or leave it out.")
        try:
            model, chosen = cls._from_json(folder, registries, encoders)
        except _DAMAGE as error:
            raise WeightsError(
                f"{folder}: config.json and schema.json are damaged or do not belong together "
                f"({type(error).__name__}: {error})."
            ) from error
        prefixes = None
        if encoders is not None:
            parts = ("encoders", "heads", "token_heads")
            towers = [f"{part}.{m}." for m in chosen for part in parts]
            whole = [part for part in WHOLE if getattr(model, part) is not None]
            prefixes = [*towers, "scalars.", *(f"{part}." for part in whole)]
        path = weights_path(folder, accept_edits)
        weights.load_strictly(model, weights.read_tensors(path, prefixes), str(path))
        return model.eval()

    @classmethod
    def _from_json(
        cls, folder: Path, registries: Registries, encoders: Sequence[str] | None
    ) -> tuple["Model", tuple[str, ...]]:
        """The model with fresh weights and fitted preprocessing, and its modalities."""
        config = read_model_json(folder, "config.json")
        schemas = {
            m: Schema.from_dict(s) for m, s in read_model_json(folder, "schema.json").items()
        }
        if config.pop("format", None) != FORMAT:
            raise WeightsError(
                f"{folder / 'config.json'} has another format; this version of zoo reads {FORMAT}."
            )
        chosen = tuple(config["modalities"]) if encoders is None else tuple(dict.fromkeys(encoders))
        for modality in chosen:
            if modality not in config["modalities"]:
                raise UnknownNameError(
                    f"{folder} has no modality {modality!r}. "
                    f"{suggest(modality, config['modalities'])}"
                )
        states = {m: config["modalities"][m]["preprocess"].pop("state") for m in chosen}
        if encoders is not None:
            # what needs every modality goes when some are left out
            if (config.get("classifier") or {}).get("fusion") == "concat":
                config["classifier"] = None
            fusion = config.get("fusion")
            if fusion and not registries.encoders.get(fusion["name"]).encodes_alone:
                config["fusion"] = None
        config["modalities"] = {m: config["modalities"][m] for m in chosen}
        scalars = dict.fromkeys(config.pop("scalars"), 0.0)
        with weights.memory_for(folder / "model.safetensors"):
            model = cls.build(ModelConfig.from_dict(config), schemas, registries, scalars)
        for modality, state in states.items():
            model.preprocessors[modality].load_state(state)
        return model, chosen


def _build_part(registry: Any, part: Mapping[str, Any], *args: object) -> Any:
    settings = {key: value for key, value in part.items() if key != "name"}
    if "name" not in part:
        raise ConfigError(f"A {registry.kind} of the model has no 'name'.")
    return registry.build(part["name"], "model", *args, **settings)


def _build_encoder(
    registries: Registries, part: Mapping[str, Any], sizes: Mapping[str, int]
) -> Encoder:
    """The encoder, told the sizes of its inputs that its constructor names."""
    import inspect

    target = registries.encoders.get(part["name"])
    known = inspect.signature(target).parameters
    derived = {name: size for name, size in sizes.items() if name in known}
    clash = sorted(set(derived) & set(part))
    if clash:
        raise ConfigError(
            f"model: encoder {part['name']!r}: {', '.join(clash)} follows from the data "
            "and cannot be set."
        )
    encoder: Encoder = _build_part(registries.encoders, {**part, **derived})
    return encoder
