"""Files of images with captions, small and made up, and how they are read."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from formats import Content, Format
from PIL import Image

from domains.remote_sensing.datasets.caption_csv import CaptionCsv
from domains.remote_sensing.datasets.caption_json import Rsicd
from domains.remote_sensing.datasets.rs5m import RS5M
from shared.data.dataset import Dataset

_SPLITS = ("train", "train", "val", "val", "test")


def caption_formats() -> list[Format]:
    """JSON of Karpathy's splits, a CSV file of captions, a shard of a webdataset."""
    names = [f"field_{number}.png" for number in range(len(_SPLITS))]
    images = {f"images/{name}": _png(number) for number, name in enumerate(names)}
    records = [
        {"filename": name, "split": split, "sentences": [{"raw": f"{name} {k}"} for k in "ab"]}
        for name, split in zip(names, _SPLITS, strict=True)
    ]
    table = "".join(f'{name},"caption, {k}"\n' for name in names for k in "ab")
    aims: tuple[bytes, ...] = (b"filename", b"split", b"raw", b"sentences", b"{", b"[")
    return [
        Format(
            "JSON (Karpathy's captions)",
            "dataset_rsicd.json",
            json.dumps({"images": records}, indent=1).encode(),
            lambda root: _captions(Rsicd(str(root))),
            images,
            text=True,
            rows_a_line=2,
            aims=aims,
        ),
        Format(
            "CSV of captions",
            "t.csv",
            f"filename,title\n{table}".encode(),
            lambda root: _captions(CaptionCsv(str(root / "t.csv"), str(root / "images"))),
            images,
            text=True,
            aims=(b"filename", b'"', b",", b"\n"),
        ),
        Format(
            "tar (webdataset)",
            "rs3-train-0000.tar",
            _shard(),
            _pairs,
            aims=(b"ustar", b".caption", b".img_content", b"IHDR"),
        ),
    ]


def _png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def _shard() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number in range(3):
            members = {"img_content": _png(number), "caption": f"caption {number}".encode()}
            for ending, content in members.items():
                about = tarfile.TarInfo(f"00{number}.{ending}")
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))
    return file.getvalue()


def _captions(dataset: Dataset) -> Content:
    """A row a caption; all images are read, but not compared."""
    assert dataset.fingerprint
    rows = dataset.evaluated()
    images = [dataset[index] for index in range(len(dataset))]
    about = [rows.groups, np.array([*dataset.classes, ""])[rows.labels]]
    if dataset.table.splits is not None:
        about.append(rows.splits)
    return {
        "text": np.array([text for image in images for text in image["text"]]),
        "about": np.stack(about, axis=1),
    }


def _pairs(root: Path) -> Content:
    dataset = RS5M(str(root))
    samples = [dataset[index] for index in range(len(dataset))]
    return {
        "image": np.stack([sample["image"] for sample in samples]),
        "text": np.array([sample["text"] for sample in samples]),
        "ids": dataset.ids,
    }
