"""Which shards a user means, and which split each is of."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from shared.data.splits import SPLITS
from shared.errors import ConfigError, DataError
from shared.files import inside
from shared.untrusted import check_regular

_REMOTE = re.compile(r"(^|/)(pipe:|\w+:/)")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")
_MOST = 100_000
"""Shards that a pattern may name."""
_WORDS = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}


def find_shards(root: str) -> tuple[Path, list[Path]]:
    """The shards of a set: a folder of tars, or a pattern such as `data/train-{0000..0127}.tar` or
    `data/*.tar`.

    Returns:
        The folder that holds them all, and their paths, sorted.

    Raises:
        DataError: There is none, one is missing, is no file, or is a link that leads elsewhere.
        ConfigError: An address on the network, or a pattern of too many names.
    """
    if found := _REMOTE.search(root):
        # a setting that is a path comes absolute, and with one of two slashes
        address = root[found.start(2) :].replace("://", ":/").replace(":/", "://")
        raise ConfigError(
            f"data.root={address}: shards are read from files. Copy them to a disk of this "
            "machine, or mount what holds them, and give the folder."
        )
    path = Path(root).expanduser()
    folder, paths = path, sorted(path.rglob("*.tar"))
    if path.suffix == ".tar" and not path.is_dir():
        patterns = list(islice(_expand(str(path)), _MOST + 1))
        if len(patterns) > _MOST:
            raise ConfigError(f"data.root={root} names more than {_MOST:,} shards.")
        paths = sorted({Path(name) for pattern in patterns for name in _match(pattern)})
        folder = Path(os.path.commonpath([p.parent for p in paths])) if paths else path
    if not paths:
        what = "holds no tar" if path.is_dir() else "there is no such folder, and no such tar"
        raise DataError(
            f"{root}: {what}. Give the folder of the shards, or a pattern that ends in .tar. The "
            "files are read in place: unpack those in .tar.gz."
        )
    for path in paths:
        check_regular(inside(folder, path))
    return folder, paths


def split_of_name(name: str) -> str:
    """The split that a shard's name says, as a word in it; empty where it says none or several."""
    words = re.split("[^a-z]+", name.lower())
    found = {word for word in (_WORDS.get(w, w) for w in words) if word in SPLITS}
    return found.pop() if len(found) == 1 else ""


def assign_shards(names: list[str], val: str | None, test: str | None) -> list[str]:
    """Split of every shard by patterns of names (`*` stands for any text), or by the names alone.

    Returns:
        `train`, `val` or `test` of each; none of all where not every name says one.

    Raises:
        ConfigError: A pattern that fits no shard.
    """
    if val is None and test is None:
        splits = [split_of_name(name) for name in names]
        return splits if all(splits) else []
    splits = ["train"] * len(names)
    for split, pattern in (("test", test), ("val", val)):
        fitting = [i for i, name in enumerate(names) if pattern and fnmatch(name, pattern)]
        if pattern and not fitting:
            raise ConfigError(f"data.{split}={pattern} fits no shard; the first is {names[0]}.")
        for i in fitting:
            splits[i] = split
    return splits


def _expand(pattern: str) -> Iterator[str]:
    """Braces as shells expand them: `{a,b}`, and `{00..11}` with leading zeros; one name after
    another, since a few braces can stand for more names than fit into memory."""
    inner: Iterable[str]
    if found := _RANGE.search(pattern):
        first, last = found.groups()
        inner = (str(n).zfill(len(first)) for n in range(int(first), int(last) + 1))
    elif found := _CHOICE.search(pattern):
        inner = found[1].split(",")
    else:
        yield pattern
        return
    before, after = pattern[: found.start()], pattern[found.end() :]
    for text in inner:
        yield from _expand(f"{before}{text}{after}")


def _match(pattern: str) -> list[str]:
    # a shard that is named and missing is an error, which opening it raises
    return glob.glob(pattern) if glob.has_magic(pattern) else [pattern]
