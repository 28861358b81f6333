"""A folder of many pictures of noise, of which some files are broken, in turn in every way."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64
Break = Callable[[Path, "Image.Image"], None]


def _content(image: "Image.Image", format: str) -> bytes:
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


def _deep(path: Path, image: "Image.Image") -> None:
    grey = np.asarray(image.convert("L"), np.uint16) * 257
    Image.fromarray(grey).save(path, "PNG")


BROKEN: dict[str, tuple[Break, str]] = {
    "truncated": (
        lambda path, image: path.write_bytes((whole := _content(image, "JPEG"))[: len(whole) // 2]),
        "is not a whole .* image .*[Tt]runcated",
    ),
    "zero bytes": (lambda path, image: path.write_bytes(b""), r"is not a whole .*\(it is empty"),
    "16 bits": (_deep, "more than 8 bits a channel"),
    "text": (lambda path, image: path.write_text("no picture"), "its content is of another kind"),
    "link to itself": (lambda path, image: path.symlink_to(path.name), "cannot be read"),
    "link to a parent": (lambda path, image: path.symlink_to("../.."), "leads out of|is a folder"),
    "link to its class": (lambda path, image: path.symlink_to("."), "it is a folder"),
    "link out": (lambda path, image: path.symlink_to("/dev/zero"), "leads out of"),
    "link to nothing": (lambda path, image: path.symlink_to("nothing.jpg"), "no such file"),
    "pipe": (lambda path, image: os.mkfifo(path), "a pipe, socket or device"),
}
"""How a file is broken, and what is said of it."""

UNUSUAL: dict[str, Break] = {
    "CMYK": lambda path, image: path.write_bytes(_content(image.convert("CMYK"), "JPEG")),
    "PNG called .jpg": lambda path, image: path.write_bytes(_content(image, "PNG")),
    "grey": lambda path, image: path.write_bytes(_content(image.convert("L"), "JPEG")),
}
"""What is odd about a file that can be read."""


def write_images(root: Path, files: int, every: int = 0) -> dict[Path, str]:
    """Write folders of two classes with JPEG files of noise.

    Args:
        root: A folder that is not there yet.
        files: Number of pictures.
        every: One file in so many is broken, another one unusual; 0: none. With any, a link in the
            root leads to the root, too.

    Returns:
        The broken files, and what is to be said of each.
    """
    bad = {}
    rng = np.random.default_rng(0)
    for number in range(files):
        path = root / "ab"[number % 2] / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        image, turn = Image.fromarray(pixels), number // every if every else 0
        if every and number % every == every // 2:
            break_it, bad[path] = list(BROKEN.values())[turn % len(BROKEN)]
            break_it(path, image)
        elif every and number % every == every // 2 + 1:
            list(UNUSUAL.values())[turn % len(UNUSUAL)](path, image)
        else:
            path.write_bytes(_content(image, "JPEG"))
    if every:
        (root / "loop").symlink_to(".")
        bad[root / "loop"] = "it is a folder"
    return bad
