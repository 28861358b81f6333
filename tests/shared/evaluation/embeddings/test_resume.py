"""An extraction that is killed goes on where it was, and gives the same arrays."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.evaluation.embeddings import extract as extraction
from shared.evaluation.embeddings.chunks import Chunk, ChunkFolder, gaps, join

sys.path.insert(0, str(Path(__file__).parent))
import slow_extraction as slow

SCRIPT = Path(__file__).parent / "slow_extraction.py"
ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def _chunk_seconds(monkeypatch):
    monkeypatch.setattr(extraction, "CHUNK_SECONDS", 0.0)


def same(a, b):
    assert a.modalities == b.modalities
    for m in a.modalities:
        assert np.array_equal(a.vectors[m], b.vectors[m], equal_nan=True)
        assert np.array_equal(a.present[m], b.present[m])
    for name in ("ids", "content", "labels", "splits"):
        assert np.array_equal(getattr(a, name), getattr(b, name))
    assert a.skipped == b.skipped
    return True


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "CHUNK_SECONDS", 0.0)
        return slow.run(folder / "cache", folder / "calls")


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of an extraction that SIGKILL ended after some 60 samples."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, str(SCRIPT), str(folder / "cache"), str(folder / "calls"), "75"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment)
    calls = folder / "calls"
    deadline = time.monotonic() + 60
    while not (calls.is_file() and len(calls.read_text().splitlines()) >= 75):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return folder


@pytest.fixture
def interrupted(killed, tmp_path):
    return Path(shutil.copytree(killed, tmp_path / "copy"))


def chunk_files(cache):
    return sorted(cache.glob("*/*.chunk"))


def test_nothing_finished_is_computed_twice(interrupted, whole):
    chunks = chunk_files(interrupted / "cache")
    assert len(chunks) >= 4
    finished = int(chunks[-1].stem.partition("-")[2])
    before = (interrupted / "calls").read_text().splitlines()
    (interrupted / "calls").unlink()
    seen = []

    def progress(rows, what):
        seen.append((len(rows), what))
        return rows

    assert same(slow.run(interrupted / "cache", interrupted / "calls", progress=progress), whole)
    after = Counter((interrupted / "calls").read_text().splitlines())
    done_before = Counter()
    for row in range(finished):
        if row not in slow.UNREADABLE:
            raw = slow.Waves().read(row)
            done_before.update(f"{m} {value.sum()}" for m, value in raw.items())
    assert not after & done_before
    assert sum(after.values()) + len(before) >= 150
    assert seen == [(slow.N - finished, f"embedding waves ({finished} of {slow.N} done before)")]
    # only the whole is left, and it is read
    assert [p.suffix for p in (interrupted / "cache").iterdir()] == [".npz"]
    (interrupted / "calls").unlink()
    assert same(slow.run(interrupted / "cache", interrupted / "calls"), whole)
    assert not (interrupted / "calls").exists()


def test_what_was_skipped_is_told_after_a_resume(interrupted, whole):
    left_out = slow.run(interrupted / "cache", interrupted / "calls").skipped
    assert [s.id for s in left_out] == ["w3", "w12", "w57", "w88", "w90"]
    assert left_out == whole.skipped


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_a_damaged_chunk_is_computed_again(interrupted, whole, damage, caplog):
    path = chunk_files(interrupted / "cache")[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    short = {"cut": content[:100], "empty": b"", "other": b"x" * 500}
    path.write_bytes(short.get(damage, content))
    with caplog.at_level(logging.WARNING):
        assert same(slow.run(interrupted / "cache", interrupted / "calls"), whole)
    (line,) = [r.getMessage() for r in caplog.records]
    assert path.name in line
    assert "computed again" in line


def test_a_chunk_of_another_extraction_is_not_taken(interrupted, whole, caplog):
    first = chunk_files(interrupted / "cache")[0]
    other = ChunkFolder(tmp := interrupted / "other")
    chunk = ChunkFolder(first.parent).read(slow.N)[0]
    wrong = {m: vectors + 1 for m, vectors in chunk.vectors.items()}
    other.write(replace(chunk, vectors=wrong))
    shutil.copy(next(tmp.iterdir()), first)
    with caplog.at_level(logging.WARNING):
        assert same(slow.run(interrupted / "cache", interrupted / "calls"), whole)
    assert "it is of something else" in caplog.text


def test_another_batch_size_uses_the_same_chunks(interrupted, whole):
    (interrupted / "calls").unlink()
    resumed = slow.run(interrupted / "cache", interrupted / "calls", batch_size=7)
    assert len((interrupted / "calls").read_text().splitlines()) < 120
    assert resumed.skipped == whole.skipped
    for m in whole.modalities:
        np.testing.assert_allclose(resumed.vectors[m], whole.vectors[m], rtol=1e-6)


def test_two_at_once(tmp_path, whole):
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(slow.run, tmp_path / "cache", tmp_path / f"calls{i}", batch_size=b)
            for i, b in enumerate((10, 10))
        ]
        assert all(same(job.result(), whole) for job in jobs)


def test_a_cache_that_cannot_be_written_is_said_once(tmp_path, whole, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert same(slow.run(tmp_path / "cache", tmp_path / "calls"), whole)
    assert [r.getMessage().partition(":")[0] for r in caplog.records] == [
        "if this is interrupted, it starts anew",
        "embeddings are not cached",
    ]


def test_a_short_extraction_writes_no_chunks(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(ChunkFolder, "write", lambda self, chunk: written.append(chunk))
    slow.run(tmp_path, tmp_path / "calls")
    assert len(written) == 10
    monkeypatch.setattr(extraction, "CHUNK_SECONDS", 30.0)
    data, embedder = slow.Waves(), slow.Recorder(tmp_path / "calls")
    embedder.revision = "2"
    monkeypatch.setattr(slow, "UNREADABLE", ())
    monkeypatch.setattr(slow, "NOT_EMBEDDABLE", ())
    extraction.extract(embedder, data, cache=tmp_path)
    assert len(written) == 10


def chunk(start, stop, width=2):
    n = stop - start
    there = np.arange(start, stop) % 2 == 0
    vectors = np.where(there[:, None], np.arange(start, stop)[:, None] * np.ones(width), np.nan)
    content = np.array([f"h{i}" for i in range(start, stop)], dtype=np.str_)
    return Chunk(start, {"x": there, "y": np.zeros(n, bool)}, {"x": vectors}, content, [])


def test_overlapping_chunks_are_taken_once(tmp_path):
    folder = ChunkFolder(tmp_path / "f")
    for start, stop in ((0, 4), (0, 6), (4, 8), (6, 9), (12, 14), (20, 30)):
        folder.write(chunk(start, stop))
    chosen = folder.read(15)
    assert [(c.start, c.stop) for c in chosen] == [(0, 6), (6, 9), (12, 14)]
    assert gaps(chosen, 15) == [(9, 12), (14, 15)]
    assert gaps([], 5) == [(0, 5)]
    joined = join(chosen[:2])
    assert np.array_equal(joined.vectors["x"], chunk(0, 9).vectors["x"], equal_nan=True)
    assert joined.content.tolist() == [f"h{i}" for i in range(9)]
    folder.remove()
    assert folder.read(15) == []


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=8), st.integers(1, 30))
def test_chunks_and_gaps_are_every_row_once(pieces, n):
    with TemporaryDirectory() as folder:
        chunks = ChunkFolder(Path(folder))
        for start, length in pieces:
            chunks.write(chunk(start, start + length))
        chosen = chunks.read(n)
    spans = [*((c.start, c.stop) for c in chosen), *gaps(chosen, n)]
    assert [row for start, stop in sorted(spans) for row in range(start, stop)] == [*range(n)]


def test_a_modality_that_comes_late_is_absent_before():
    late = Chunk(
        2,
        {"x": np.ones(1, bool), "y": np.ones(1, bool)},
        {"x": np.ones((1, 2), np.float32), "y": np.ones((1, 5), np.float32)},
        np.array(["h"]),
    )
    joined = join([chunk(0, 2), late])
    assert joined.vectors["y"].shape == (3, 5)
    assert np.isnan(joined.vectors["y"][:2]).all()
    assert joined.present["y"].tolist() == [False, False, True]
