"""A tiny CLIP in the place of the laptop's variant, and open_clip's own model of its sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.config import load_group

TINY_CLIP: dict[str, Any] = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 64,
        "patch_size": 16,
        "width": 32,
        "layers": 2,
        "head_width": 8,
    },
    "text_cfg": {
        "context_length": 20,
        "vocab_size": 49408,
        "width": 16,
        "layers": 3,
        "heads": 2,
    },
}
"""As open_clip describes it. The vocabulary is whole, since the tokenizer's is."""


@pytest.fixture
def tiny_rs_clip(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """open_clip's config of the model that `rs-clip:small` is meanwhile."""
    vision, text = TINY_CLIP["vision_cfg"], TINY_CLIP["text_cfg"]
    quick, head = TINY_CLIP["quick_gelu"], {"name": "linear", "bias": False}
    node = {
        "name": "rs-clip:small",
        "embed_dim": TINY_CLIP["embed_dim"],
        "modalities": {
            "image": {
                "preprocess": {"name": "clip_image", "image_size": vision["image_size"]},
                "encoder": {
                    "name": "clip_vision",
                    "patch_size": vision["patch_size"],
                    "dim": vision["width"],
                    "depth": vision["layers"],
                    "num_heads": vision["width"] // vision["head_width"],
                    "quick_gelu": quick,
                },
                "head": head,
            },
            "text": {
                "preprocess": {"name": "clip_tokens", "context_length": text["context_length"]},
                "encoder": {
                    "name": "clip_text",
                    "dim": text["width"],
                    "depth": text["layers"],
                    "num_heads": text["heads"],
                    "quick_gelu": quick,
                },
                "head": head,
            },
        },
    }

    def load(group: str, name: str) -> dict[str, Any]:
        return node if name == "rs-clip/small" else load_group(group, name)

    for module in ("importing", "loading"):
        monkeypatch.setattr(f"zoo.{module}.load_group", load)
    return TINY_CLIP


@pytest.fixture(scope="session")
def open_clip_tiny() -> Any:
    """open_clip's own module, with random weights."""
    model = pytest.importorskip("open_clip.model")
    torch.manual_seed(0)
    return model.CLIP(**TINY_CLIP).eval()


@pytest.fixture
def clip_state(open_clip_tiny: Any) -> dict[str, Tensor]:
    return dict(open_clip_tiny.state_dict())


@pytest.fixture
def offline_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no network, and the working folder beside it."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"
