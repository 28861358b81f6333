"""Where what was downloaded or computed once is kept on this machine."""

import os
from pathlib import Path


def zoo_home() -> Path:
    """Cache of weights, embeddings and indices: `ZOO_HOME`, or the user's cache folder."""
    if chosen := os.environ.get("ZOO_HOME"):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("zoo")
