"""Low-rank adaptation (LoRA, arXiv:2106.09685) of encoders through peft.

Every linear map W of an adapted encoder becomes W + (alpha / rank) · B A, of which only A and B are
trained (§4.1); what is saved as the model is the sum.
"""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from shared.errors import ConfigError, suggest
from shared.files import write_json
from shared.model import Model
from shared.optional import import_optional
from shared.training.config import LoraConfig
from shared.weights import write_tensors

ADAPTER = "default"
"""What peft calls the only one."""


class OpenAttention(nn.Module):
    """`nn.MultiheadAttention` of a sequence with itself, whose two projections are modules.

    peft adapts the original by adding to the frozen weights in each forward pass and subtracting
    afterwards, which leaves them a little different every time; and peft 0.21 adds what belongs to
    the output projection twice (its pull request 3774).
    """

    # what `nn.TransformerEncoderLayer` asks for before it leaves its modules out in evaluation
    batch_first, in_proj_bias = True, None

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.dropout = attention.num_heads, attention.dropout
        self.in_proj = _as_linear(attention.in_proj_weight, attention.in_proj_bias)
        self.out_proj = _as_linear(attention.out_proj.weight, attention.out_proj.bias)
        self.train(attention.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """(batch, length, dim) → the same; masks as those of `nn.MultiheadAttention`."""
        if key is not query or value is not query or need_weights:
            raise ConfigError("lora: this attention is not of a sequence with itself alone.")
        q, k, v = self.in_proj(query).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if attn_mask is None else _additive(attn_mask, q.dtype)
        if key_padding_mask is not None:
            hidden = _additive(key_padding_mask, q.dtype)[:, None, None, :]
            mask = hidden if mask is None else mask + hidden
        dropout = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(q, k, v, mask, dropout)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None

    def closed(self) -> nn.MultiheadAttention:
        """The original with the weights of now."""
        dim, bias = self.out_proj.in_features, self.in_proj.bias is not None
        attention: Any = nn.MultiheadAttention(
            dim, self.num_heads, self.dropout, bias, batch_first=True, device="meta"
        )
        attention.in_proj_weight = self.in_proj.weight
        attention.in_proj_bias = self.in_proj.bias
        out = attention.out_proj
        out.weight, out.bias = self.out_proj.weight, self.out_proj.bias
        closed: nn.MultiheadAttention = attention.train(self.training)
        return closed


def _as_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    linear.weight, linear.bias = cast(Any, weight), cast(Any, bias)
    return linear


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask that hides where it is True, as what is added to logits."""
    if mask.dtype is not torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -torch.inf)


def add_lora(model: Model, config: LoraConfig) -> None:
    """Adapt all linear maps of encoders in place; nothing else of these encoders is trained, and
    what is outside of them as before.

    Raises:
        ConfigError: A modality that the model does not have, or an encoder without linear maps.
        DependencyError: peft is not installed.
    """
    peft = _peft()
    modalities = model.modalities if config.modalities is None else tuple(config.modalities)
    targets = []
    for modality in modalities:
        if modality not in model.modalities:
            hint = suggest(modality, model.modalities)
            raise ConfigError(f"lora.modalities: the model has no {modality!r}. {hint}")
        encoder, prefix = model.encoders[modality], f"encoders.{modality}"
        open_attention(encoder)
        linears = [name for name, m in encoder.named_modules() if isinstance(m, nn.Linear)]
        if not linears:
            raise ConfigError(
                f"lora: the encoder of {modality} has no linear maps to adapt. Name the others by "
                "lora.modalities."
            )
        targets += [f"{prefix}.{name}" if name else prefix for name in linears]
    trained = {
        name
        for name, p in model.named_parameters()
        if p.requires_grad and not name.startswith(tuple(f"encoders.{m}." for m in modalities))
    }
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
    )
    peft.inject_adapter_in_model(settings, model, ADAPTER)
    for name, parameter in model.named_parameters():
        if name in trained:
            parameter.requires_grad_(True)


def check_not_frozen(model: Model, config: LoraConfig) -> None:
    """Raise a ConfigError where all that was added to an encoder is frozen."""
    for modality in config.modalities or model.modalities:
        if not any(p.requires_grad for p in model.encoders[modality].parameters()):
            raise ConfigError(
                f"lora adapts the encoder of {modality}, and optimizer.frozen freezes it with what "
                "lora adds. Name the others by lora.modalities, or drop the pattern: the weights "
                "that it started from stand still anyway."
            )


def merge_lora(model: Model) -> None:
    """Add what was learned to the weights, in place: the model has the modules and the names of one
    that was never adapted."""
    from peft.tuners.lora import LoraLayer

    _replace(model, LoraLayer, _merged)
    _replace(model, OpenAttention, OpenAttention.closed)
    del model.peft_config


def save_adapter(model: Model, folder: Path) -> None:
    """Write what was learned alone, in peft's format. On a model with the weights that the run
    started from, `open_attention(model)` and `PeftModel.from_pretrained(model, folder)` add it.

    Args:
        model: Adapted and not merged.
        folder: For `adapter_config.json` and `adapter_model.safetensors`.
    """
    learned = {
        f"base_model.model.{name.replace(f'.{ADAPTER}.', '.')}": tensor
        for name, tensor in model.state_dict().items()
        if ".lora_" in name
    }
    config = cast(Any, model.peft_config)[ADAPTER].to_dict()
    config |= {"target_modules": sorted(config["target_modules"]), "inference_mode": True}
    write_tensors(folder / "adapter_model.safetensors", learned)
    write_json(folder / "adapter_config.json", config)


def open_attention(module: nn.Module) -> None:
    """Make the projections of every `nn.MultiheadAttention` inside modules, in place.

    Raises:
        ConfigError: One whose keys have another width or a bias, or whose first axis is time.
    """
    _replace(module, nn.MultiheadAttention, _open)


def _open(attention: nn.MultiheadAttention) -> nn.Module:
    if (
        not attention.batch_first
        or attention.in_proj_weight is None
        or attention.bias_k is not None
    ):
        raise ConfigError(
            "lora: an attention with batch_first=False, other widths of keys, or a bias of keys "
            "cannot be adapted. Leave its modality out of lora.modalities."
        )
    return OpenAttention(attention)


def _merged(layer: Any) -> nn.Module:
    layer.merge(safe_merge=True)
    base: nn.Module = layer.get_base_layer()
    return base


def _replace(root: nn.Module, kind: type[Any], make: Any) -> None:
    """Put what is made of them in the place of all modules of a kind."""
    found = [name for name, module in root.named_modules() if isinstance(module, kind)]
    for name in found:
        parent, _, own = name.rpartition(".")
        setattr(root.get_submodule(parent), own, make(root.get_submodule(name)))


def _peft() -> Any:
    return import_optional("peft", "lora", "lora")
