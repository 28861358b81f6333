"""Where real data lie, and the toy domain installed."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from zoo.plugins import plugins

if TYPE_CHECKING:
    from shared.model import Model

# the first example pays for imports: no timing is asserted anywhere
settings.register_profile("zoo", deadline=None, derandomize=True)
settings.load_profile("zoo")

ROOT = Path(__file__).resolve().parent.parent


def folder_from(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable, ROOT / default))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real datasets; the test is skipped where it is absent."""
    folder = folder_from("ZOO_DATA", "../shared/data")
    if not folder.is_dir():
        pytest.skip(f"no real data: ZOO_DATA or {folder} is needed")
    return folder


@pytest.fixture
def tiny_clip() -> "Model":
    """A CLIP of images of 16 × 16 and texts of 12 ids in a space of 8 dimensions, at random, but
    the same at every call."""
    import torch

    from shared.data.generic import TEXT
    from shared.data.image_files import IMAGE
    from shared.model import Model
    from shared.model_config import ModelConfig

    encoder = {"dim": 16, "depth": 1, "num_heads": 2}
    head = {"name": "linear", "bias": False}
    parts = {
        "image": {
            "preprocess": {"name": "clip_image", "image_size": 16},
            "encoder": {"name": "clip_vision", "patch_size": 8, **encoder},
            "head": head,
        },
        "text": {
            "preprocess": {"name": "clip_tokens", "context_length": 12},
            "encoder": {"name": "clip_text", **encoder},
            "head": head,
        },
    }
    config = ModelConfig.from_dict({"name": "tiny-clip", "embed_dim": 8, "modalities": parts})
    schemas = {"image": IMAGE, "text": TEXT}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Model.build(config, schemas, plugins().registries, {"logit_scale": 2.0})
    return model.eval()


@pytest.fixture(scope="session")
def toy_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the toy domain, for the path of a process."""
    site = tmp_path_factory.mktemp("toy") / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    place = ["--no-build-isolation", "--disable-pip-version-check", "--target", str(site)]
    toy = Path(__file__).with_name("toy_domain")
    subprocess.run([*pip, *place, str(toy)], check=True, timeout=120)
    return site


@pytest.fixture(scope="module")
def toy(toy_site: Path) -> Iterator[Path]:
    """The toy domain in this process and in those it starts, for the tests of one file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(toy_site))
        patch.setenv("PYTHONPATH", str(toy_site))
        importlib.invalidate_caches()
        plugins.cache_clear()
        yield toy_site
    plugins.cache_clear()
