"""A Hugging Face transformers model as an embedder."""

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import hash_files
from shared.errors import ConfigError, DependencyError, SchemaError, WeightsError
from shared.evaluation.foreign.checks import (
    checked_vectors,
    fitting_modalities,
    make_revision,
    one_line,
    rgb_arrays,
)
from shared.optional import import_optional
from shared.schema import Schema

if TYPE_CHECKING:
    from torch import Tensor

    from shared.devices import Precision

_log = logging.getLogger(__name__)


class TransformersEmbedder:
    """The features of a model that `AutoModel` loads, with the tokenizer or the image processor
    that lies beside it.

    - Texts: mean of the last hidden state over the tokens that are not padding; of an
      encoder–decoder, the encoder's. Texts longer than the model takes are cut; the log says so.
    - Images: `pooler_output` where there is one with weights, else the mean of all tokens
      (positions) of the last hidden state.
    - Models of both with a common space (CLIP, SigLIP): their projected text and image features.

    Weights are read as safetensors, in float32, and every one that is used must be in the file.
    Code that comes with a model is never run.

    Args:
        source: A name on the hub, or a folder.
        weights: None: those of the source; `random`: fresh ones, of a fixed seed.
        device: `auto`, `cpu`, `cuda`, …
        precision: `float32`, or `bfloat16` under autocast.
        modality: The modality to embed; None: all that the model takes.
        offline: Whether the network is forbidden.

    Raises:
        DependencyError: transformers is not installed, or what it needs for this model.
        WeightsError: The source cannot be had, or is not whole.
        SchemaError: The model takes neither text nor images.
    """

    def __init__(
        self,
        source: str,
        *,
        weights: str | None,
        device: str,
        precision: str,
        modality: str | None,
        offline: bool,
    ) -> None:
        transformers = import_optional("transformers", "text", f"transformers:{source}")
        from shared.devices import autocast, resolve_device
        from shared.weights import tensors_fingerprint

        self.name = f"transformers:{source}" + (f" ({weights} weights)" if weights else "")
        self._modality, self._precision = modality, cast("Precision", precision)
        self._device = resolve_device(device)
        autocast(self._device, self._precision)  # an unknown precision is told before the loading
        with _quiet():
            model, self._has_pooler = _load(source, weights, offline)
            self._is_dual = _is_dual(model)
            self._processors = _processors(source, model, offline)
        self.revision = make_revision(
            transformers.__version__,
            model.config.to_json_string(),
            tensors_fingerprint(model.state_dict()),
            str(self._has_pooler),
            *(f"{kind}={_hash(p)}" for kind, p in self._processors.items()),
            precision,
        )
        if "text" in self._processors:
            self._max_tokens = _max_tokens(model, self._processors["text"])
            self._told_cut = False
        self._model = model.to(self._device).eval()

    def modalities(self, schemas: Mapping[str, Schema]) -> tuple[str, ...]:
        """The texts and RGB images of a dataset that it has a tokenizer or processor for."""
        return fitting_modalities(self.name, tuple(self._processors), schemas, self._modality)

    def embed(self, modality: str, raws: Sequence[Any], schema: Schema) -> NDArray[np.float32]:
        """(n,) texts or uint8 (height, width, channel) images → (n, dim)."""
        import torch

        from shared.devices import autocast

        with torch.inference_mode(), autocast(self._device, self._precision):
            if schema.dtype == "str":
                output = self._embed_texts(list(raws))
            else:
                output = self._embed_images(rgb_arrays(self.name, raws, schema))
        return checked_vectors(self.name, output, len(raws))

    def _embed_texts(self, texts: list[str]) -> "Tensor":
        inputs = self._processors["text"](
            texts,
            # towers such as SigLIP's were trained on full length and know no mask
            padding="max_length" if self._is_dual else True,
            truncation=self._max_tokens is not None,
            max_length=self._max_tokens,
            return_tensors="pt",
        )
        self._tell_cut(inputs)
        inputs = inputs.to(self._device)
        if self._is_dual:
            return _pooled(self._model.get_text_features(**inputs))
        hidden: Tensor = self._model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"].unsqueeze(-1)
        mean: Tensor = (hidden * mask).sum(1) / mask.sum(1)
        return mean

    def _embed_images(self, images: list[NDArray[np.uint8]]) -> "Tensor":
        inputs = self._processors["image"](
            images=images, return_tensors="pt", input_data_format="channels_last"
        ).to(self._device)
        if self._is_dual:
            return _pooled(self._model.get_image_features(**inputs))
        output = self._model(**inputs)
        if self._has_pooler and getattr(output, "pooler_output", None) is not None:
            return _pooled(output)
        hidden: Tensor = output.last_hidden_state.float()
        return hidden.mean(1) if hidden.ndim == 3 else hidden.flatten(2).mean(2)

    def _tell_cut(self, inputs: Any) -> None:
        cut = sum(bool(encoding.overflowing) for encoding in inputs.encodings or ())
        if cut and not self._told_cut:
            self._told_cut = True
            _log.warning(
                "%s: texts are cut to %d tokens (%d in this batch; not told again)",
                self.name,
                self._max_tokens,
                cut,
            )


def _pooled(output: Any) -> "Tensor":
    """(n, dim) from what a model gives: a tensor, or an output with (n, dim[, 1, 1])."""
    pooled: Tensor = getattr(output, "pooler_output", output)
    return pooled.flatten(1)


def _load(source: str, weights: str | None, offline: bool) -> tuple[Any, bool]:
    """The model in float32, and whether its pooler, if any, has weights.

    Raises:
        WeightsError, ConfigError: See `TransformersEmbedder`.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    if weights not in (None, "random"):
        raise ConfigError(
            f"transformers:{source}: weights={weights}: a folder of weights is given as the name, "
            "transformers:FOLDER; otherwise weights=random."
        )
    options = {"local_files_only": offline, "trust_remote_code": False}
    missing: set[str] = set()
    with _told(source, offline):
        if weights == "random":
            config = AutoConfig.from_pretrained(_path(source), **options)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = AutoModel.from_config(config, trust_remote_code=False)
        else:
            model, report = AutoModel.from_pretrained(
                _path(source), use_safetensors=True, output_loading_info=True, **options
            )
            missing = set(report["missing_keys"])
    children = {name for name, _ in model.named_children()}
    # not config.is_encoder_decoder, which is False for published encoders of such models
    if {"encoder", "decoder"} <= children and model.main_input_name == "input_ids":
        model = model.get_encoder()
        missing = {key for key in missing if not key.startswith("decoder.")}
    without_pooler = {key for key in missing if "pooler" not in key.split(".")}
    if without_pooler or (missing and _is_dual(model)):
        some = ", ".join(sorted(missing)[:3])
        raise WeightsError(
            f"transformers:{source}: its file lacks {len(missing)} tensors of the model ({some}, "
            "…), which would be random. It belongs to another architecture than its config.json."
        )
    if hasattr(model.config, "mask_ratio"):
        model.config.mask_ratio = 0.0  # a masked autoencoder hides patches in eval mode, too
    return model.float(), not missing


def _is_dual(model: Any) -> bool:
    return hasattr(model, "get_text_features") and hasattr(model, "get_image_features")


def _processors(source: str, model: Any, offline: bool) -> dict[str, Any]:
    """Tokenizer and image processor, as far as the model takes such input and they are there."""
    from transformers import AutoImageProcessor

    takes = {"input_ids": ("text",), "pixel_values": ("image",)}.get(model.main_input_name, ())
    kinds = ("text", "image") if _is_dual(model) else takes
    if not kinds:
        raise SchemaError(
            f"transformers:{source} takes {model.main_input_name}, neither text nor images. Wrap "
            "it in a function: model=python:module:function."
        )
    options = {"local_files_only": offline, "trust_remote_code": False}
    loaders: dict[str, Callable[[], Any]] = {
        "text": lambda: _tokenizer(source, model, options),
        "image": lambda: AutoImageProcessor.from_pretrained(_path(source), **options),
    }
    found, problems = {}, []
    for kind in kinds:
        try:
            found[kind] = loaders[kind]()
        except ImportError as error:
            raise DependencyError(
                f"transformers:{source}: its {kind} processor lacks a package: "
                f"pip install 'domain-zoo[vision,text]' ({one_line(error)})"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(f"{kind}: {one_line(error)}")
    if not found:
        raise WeightsError(
            f"transformers:{source} lacks its tokenizer or image processor: {'; '.join(problems)}."
            " Copy tokenizer.json and its like, or preprocessor_config.json, beside config.json."
        )
    return found


def _tokenizer(source: str, model: Any, options: Mapping[str, bool]) -> Any:
    """The tokenizer, padding on the right.

    Raises:
        ValueError: It has no vocabulary, cannot pad, or is not of this model.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(_path(source), padding_side="right", **options)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # masked, so that any token does
    if tokenizer.pad_token is None:
        raise ValueError("the tokenizer has neither a padding nor an end token")
    embeddings = (model.text_model if _is_dual(model) else model).get_input_embeddings()
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ValueError("there is no vocabulary")  # transformers makes an empty one silently
    largest = max(tokenizer.get_vocab().values())
    if largest >= embeddings.num_embeddings:
        raise ValueError(
            f"the tokenizer has token {largest}, the model only {embeddings.num_embeddings}"
        )
    return tokenizer


def _max_tokens(model: Any, tokenizer: Any) -> int | None:
    """The longest input of a text model in tokens; None where it has no limit."""
    from torch import nn

    limits = [tokenizer.model_max_length]
    config = model.config.get_text_config()
    if (positions := getattr(config, "max_position_embeddings", None)) and positions > 0:
        for name, module in model.named_modules():
            # RoBERTa and its kin count positions from the padding token's on
            if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
                positions -= 0 if module.padding_idx is None else module.padding_idx + 1
                break
        limits.append(positions)
    shortest = min(limits)
    return shortest if shortest < 10**9 else None  # transformers' "unknown" is 10³⁰


def _path(source: str) -> str:
    folder = Path(source).expanduser()
    return str(folder) if folder.is_dir() else source


def _hash(processor: Any) -> str:
    """Hash of all that a tokenizer or processor writes: vocabulary, rules, sizes, statistics."""
    with tempfile.TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        return hash_files([path for path in Path(folder).rglob("*") if path.is_file()])


@contextmanager
def _told(source: str, offline: bool) -> Iterator[None]:
    """What transformers raises while loading, as a WeightsError."""
    from safetensors import SafetensorError

    is_path = source.startswith(("/", ".", "~"))
    if is_path and not Path(source).expanduser().is_dir():
        raise WeightsError(f"transformers:{source}: there is no such folder.")
    try:
        yield
    except ImportError as error:
        raise DependencyError(f"transformers:{source}: {one_line(error)}") from error
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        remedy = "Give a folder that save_pretrained wrote: transformers:FOLDER."
        if offline and not Path(source).expanduser().is_dir():
            remedy = f"The network is forbidden (offline). {remedy}"
        raise WeightsError(
            f"transformers:{source} cannot be loaded: {one_line(error).rstrip('.')}. {remedy}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own reports on what it loaded: what matters of them is an error."""
    from transformers.utils import logging as messages

    verbosity = messages.get_verbosity()
    messages.set_verbosity_error()
    try:
        yield
    finally:
        messages.set_verbosity(verbosity)
