"""Embeddings of frozen encoders: read instead of the inputs, they change nothing but time."""

import io
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from shared.data import stored as stored_files
from shared.data.captions import CAPTIONS
from shared.data.dataset import Dataset, Raw, SampleTable, or_error
from shared.data.image_files import IMAGE
from shared.data.prepared import PreparedDataset, silent
from shared.data.skipping import SkippingDataset, skipped_of
from shared.data.stored import ABOUT, StoredEmbeddings
from shared.errors import ConfigError, DataError
from shared.model import Model
from shared.objectives.contrastive import Contrastive
from shared.preprocess import Prepared
from shared.preprocessors.clip_image import CLIPImage
from shared.preprocessors.clip_tokens import CLIPTokens
from shared.training.config import TrainConfig, TrainerConfig
from shared.training.frozen import store_frozen
from shared.training.optimization import freeze
from shared.training.runner import Runner

pytest.importorskip("open_clip")
pytest.importorskip("torchvision")

NUMBER = 20


class Pairs(Dataset):
    """Noise with one to three captions; some lack their image, some their captions."""

    name = "pairs"
    schemas: Mapping[str, Any] = {"image": IMAGE, "text": CAPTIONS}

    def __init__(self, version: str = "1") -> None:
        self.version, self.reads, self.broken = version, [], -1

    def make_table(self) -> SampleTable:
        return SampleTable([f"pair {i}" for i in range(NUMBER)])

    def read(self, index: int) -> Raw:
        return self.read_only(index, self.schemas)

    def read_only(self, index: int, modalities: Collection[str]) -> Raw:
        self.reads += [(index, modality) for modality in modalities]
        rng = np.random.default_rng(index)
        raw: dict[str, Any] = {}
        if index % 7 != 5:
            raw["image"] = rng.integers(0, 256, (18, 20, 3), dtype=np.uint8)
        if index % 7 != 3:
            raw["text"] = tuple(f"{index} {word}" for word in "abc"[: 1 + index % 3])
        if index == self.broken:
            raw["text"] = or_error(self._refuse)
        return {m: value for m, value in raw.items() if m in modalities}

    def _refuse(self) -> None:
        raise DataError("half a caption")

    def content_fingerprint(self) -> str:
        return self.version


class Training:
    """A model with frozen encoders on pairs, up to where its trainer would start."""

    def __init__(self, model: Model, cache: Path, frozen: str = "text", **parts: Any) -> None:
        self.dataset: Dataset = parts.pop("dataset", None) or Pairs()
        self.config = TrainConfig(
            "x", {}, {}, {}, trainer=TrainerConfig(device="cpu", devices=parts.pop("devices", 1))
        )
        model.preprocessors |= parts
        self.runner = Runner(model, {"clip": Contrastive(("image", "text"))}, {"clip": 1.0})
        freeze(self.runner.train(), [f"model.encoders.{frozen}.*"])
        self.data = PreparedDataset(self.dataset, model.preprocessors, seed=1, in_memory=False)
        self.cache, self.said = cache, io.StringIO()

    def store(self, progress: Any = silent) -> dict[str, StoredEmbeddings]:
        console = Console(file=self.said, width=500)
        found = store_frozen(
            self.config, self.runner, self.data, range(NUMBER), self.cache, progress, console
        )
        self.data.use_stored(found)
        self.data.load(range(NUMBER))
        return found

    def step(self, epoch: int | None, rows: Sequence[int]) -> tuple[torch.Tensor, Any]:
        """Loss and gradients of a batch."""
        batch = self.data.collate([self.data[epoch, row] for row in rows])
        self.runner.zero_grad()
        loss = self.runner(self.runner.make_views(batch)).loss
        loss.backward()
        named = self.runner.named_parameters()
        return loss.detach(), {n: p.grad.clone() for n, p in named if p.grad is not None}


@pytest.fixture
def tiny(tiny_clip: Model) -> Model:
    tiny_clip.preprocessors["text"] = CLIPTokens(CAPTIONS, context_length=12)
    return tiny_clip


@pytest.mark.parametrize("frozen", ["text", "*"])
def test_losses_and_gradients_are_those_of_reading(
    tiny: Model, tmp_path: Path, frozen: str
) -> None:
    plain, cached = (Training(tiny, tmp_path, frozen) for _ in range(2))
    plain.data.load(range(NUMBER))
    cached.store()
    for epoch, rows in ((0, range(2, 12)), (1, range(2, 12)), (None, range(12, NUMBER))):
        (loss, gradients), (ours, found) = (t.step(epoch, rows) for t in (plain, cached))
        torch.testing.assert_close(ours, loss, rtol=1e-6, atol=1e-6)
        assert found.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)
    # a batch of which no sample has the modality
    inputs = cached.data.collate([cached.data[0, 3]]).inputs["text"]
    assert all(len(tensor) == 0 for tensor in inputs.values())


def test_what_else_is_drawn_for_a_sample_stays_the_same(tiny: Model, tmp_path: Path) -> None:
    """Images are cropped by the generator that picks the caption."""
    turned = CLIPImage(IMAGE, image_size=16, augment="crop_flip_rotate")
    tiny.preprocessors = {"text": tiny.preprocessors["text"], "image": turned}
    plain, cached = (Training(tiny, tmp_path) for _ in range(2))
    plain.data.load(range(NUMBER))
    cached.store()
    for row in (0, 1, 2):
        one, other = (t.data[4, row].inputs["image"]["values"] for t in (plain, cached))
        np.testing.assert_array_equal(one, other)


def test_what_is_stored_is_not_read(tiny: Model, tmp_path: Path) -> None:
    first = Training(tiny, tmp_path, "image")
    first.store()
    assert (2, "image") in first.dataset.reads
    again = Training(tiny, tmp_path, "image")
    [embeddings] = again.store().values()
    again.step(0, range(8))
    read = [key for key in again.dataset.reads if key[1] == "image"]
    assert read == [(0, "image")]  # one, to see what its preprocessing does
    assert "image are read instead of its inputs" in again.said.getvalue()
    assert str(embeddings.folder) in again.said.getvalue()
    whole = Training(tiny, tmp_path, "*")
    whole.store()
    whole.dataset.reads.clear()
    whole.step(0, range(8))
    assert whole.dataset.reads == []


def test_what_changes_them_makes_them_anew(tiny: Model, tmp_path: Path) -> None:
    def folder(training: Training) -> Path:
        return training.store()["text"].folder

    first = folder(Training(tiny, tmp_path))
    assert folder(Training(tiny, tmp_path)) == first
    assert '"data_fingerprint"' in (first / ABOUT).read_text()
    other = {
        folder(Training(tiny, tmp_path, dataset=Pairs("2"))),
        folder(Training(tiny, tmp_path, text=CLIPTokens(CAPTIONS, context_length=11))),
    }
    tiny.preprocessors["text"] = CLIPTokens(CAPTIONS, context_length=12)
    half = Training(tiny, tmp_path)
    half.config.trainer.precision = "bfloat16"
    other.add(folder(half))
    # its head is no part of it
    torch.nn.init.ones_(tiny.heads["text"].weight)
    assert folder(Training(tiny, tmp_path)) == first
    with torch.no_grad():
        next(tiny.encoders["text"].parameters()).add_(1)
    other.add(folder(Training(tiny, tmp_path)))
    assert len(other | {first}) == 5


def test_a_random_view_is_not_stored(tiny: Model, tmp_path: Path) -> None:
    cropped = CLIPImage(IMAGE, image_size=16, augment="crop")
    with pytest.raises(ConfigError, match=r"image: its preprocessing \(CLIPImage\) draws another"):
        Training(tiny, tmp_path, "image", image=cropped).store()
    both = Training(tiny, tmp_path, "*", image=cropped)
    assert list(both.store()) == ["text"]
    assert "encoded in every step all the same: image: its prep" in both.said.getvalue()


def test_what_cannot_be(tiny: Model, tmp_path: Path) -> None:
    training = Training(tiny, tmp_path)
    training.config.passes = {"name": "perturbed", "modality": "text", "input": "input_ids"}
    with pytest.raises(ConfigError, match="text: passes=perturbed moves its inputs"):
        training.store()
    objective = training.runner.objectives["clip"]
    for change, reason in (
        ({"output": "projected_tokens"}, "objective.clip reads its tokens"),
        ({"view": "crops"}, "objective.clip makes views of it"),
        ({"tower": "teacher"}, "the teacher of objective.clip reads its inputs"),
    ):
        requests = objective.requests
        objective.requests = tuple(replace(r, **change) for r in requests)
        with pytest.raises(ConfigError, match=reason):
            training.store()
        objective.requests = requests
    training.runner.requires_grad_(True)
    with pytest.raises(ConfigError, match="no encoder is frozen as a whole"):
        training.store()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_files, "PART_ROWS", 4)


def contents(embeddings: StoredEmbeddings) -> list[bytes]:
    return [path.read_bytes() for path in sorted(embeddings.folder.glob("*.safetensors"))]


@pytest.mark.usefixtures("small_parts")
def test_a_killed_one_goes_on(tiny: Model, tmp_path: Path) -> None:
    whole = Training(tiny, tmp_path / "whole").store()["text"]

    def killed(rows: Sequence[int], what: str) -> Iterator[int]:
        yield from rows[:10]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Training(tiny, tmp_path / "killed").store(killed)
    seen: list[int] = []

    def watched(rows: Sequence[int], what: str) -> Iterable[int]:
        seen.extend(rows if what.startswith("embedding") else [])
        return rows

    found = Training(tiny, tmp_path / "killed").store(watched)["text"]
    assert seen == list(range(8, NUMBER))
    assert contents(found) == contents(whole)
    assert found.whole


@pytest.mark.usefixtures("small_parts")
def test_processes_begin_elsewhere_and_write_the_same(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Training(tiny, tmp_path / "alone").store()["text"]
    monkeypatch.setenv("RANK", "1")
    second = Training(tiny, tmp_path / "second", devices=2)
    order: list[int] = []
    monkeypatch.setattr(
        StoredEmbeddings, "write", _noting(order, StoredEmbeddings.write), raising=True
    )
    found = second.store()["text"]
    assert order == [2, 3, 4, 0, 1]
    assert contents(found) == contents(alone)


def _noting(order: list[int], write: Any) -> Any:
    def noted(self: StoredEmbeddings, number: int, part: Any) -> None:
        order.append(number)
        write(self, number, part)

    return noted


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("damage", ["flipped", "cut", "of others"])
def test_a_damaged_file_is_made_anew(
    tiny: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    whole = Training(tiny, tmp_path).store()["text"]
    before = contents(whole)
    path = sorted(whole.folder.glob("*.safetensors"))[2]
    content = bytearray(path.read_bytes())
    content[-3] ^= 64
    damaged = {
        "flipped": bytes(content),
        "cut": bytes(content[:-20]),
        "of others": before[1].replace(whole.folder.name.encode(), b"0" * 24),
    }[damage]
    path.unlink()
    path.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        again = Training(tiny, tmp_path).store()["text"]
    assert contents(again) == before
    assert str(path) in caplog.text
    assert "computed again" in caplog.text


def test_what_was_left_out_is_told_again(tiny: Model, tmp_path: Path) -> None:
    reasons = []
    for _ in range(2):
        pairs = Pairs()
        pairs.broken = 8
        training = Training(tiny, tmp_path, dataset=SkippingDataset(pairs))
        training.store()
        reasons.append(skipped_of(training.dataset))
        assert "text" not in training.data[0, 8].inputs
    assert reasons[0] == reasons[1]
    assert [(entry.id, entry.modality) for entry in reasons[0]] == [("pair 8", "text")]


def test_views_of_captions_are_the_captions() -> None:
    tokens = CLIPTokens(CAPTIONS, context_length=6)
    prepared: Prepared = tokens(("a", "b", "c"))
    drawn = {
        int(tokens.crop(prepared, np.random.default_rng(s))["input_ids"][1]) for s in range(30)
    }
    assert drawn == {int(view["input_ids"][1]) for view in tokens.views(prepared)}
