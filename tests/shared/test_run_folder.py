"""Who may train in a run folder, and what is said when its surroundings have changed."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.checkpoint_file import write_checkpoint
from shared.errors import ConfigError, WeightsError, WriteError
from shared.files import write_json
from shared.run_folder import ENVIRONMENT, LOCK, FolderLock, is_training, read_state
from shared.training.record import changed_environment


def held_by_a_child(folder: Path) -> tuple[int, int]:
    """Numbers of a process that has the lock, and of one that it has started since, as loaders do;
    both wait."""
    reader, writer = os.pipe()
    holder = os.fork()
    if holder == 0:
        lock = FolderLock(folder)
        lock.take()
        worker = os.fork()
        if worker:
            os.write(writer, worker.to_bytes(8, "little"))
        signal.pause()
    return holder, int.from_bytes(os.read(reader, 8), "little")


def test_one_process_trains_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    lock = FolderLock(folder)
    assert not is_training(folder)
    holder, worker = held_by_a_child(folder)
    try:
        assert is_training(folder)
        with pytest.raises(ConfigError, match="Another process is training in"):
            lock.take()
        assert not lock.taken
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        lock.take()
        lock.take()
        assert lock.taken
        lock.release()
        assert not lock.taken
    finally:
        for process in (holder, worker):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def test_a_lock_that_cannot_be_taken(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(WriteError, match=r"\.lock cannot be written"):
        FolderLock(tmp_path).take()


def test_changed_surroundings_are_told(tmp_path: Path) -> None:
    assert changed_environment(tmp_path) == ""
    threads = torch.get_num_threads()
    content = {"threads": threads, "versions": {"torch": torch.__version__.split("+")[0]}}
    write_json(tmp_path / ENVIRONMENT, content)
    assert changed_environment(tmp_path) == ""
    write_json(tmp_path / ENVIRONMENT, {"threads": threads + 1, "versions": {"torch": "1.0"}})
    told = changed_environment(tmp_path)
    assert f"threads of torch {threads + 1}, now {threads}" in told
    assert "torch 1.0, now" in told


@pytest.mark.parametrize(
    "changed",
    [
        {"epoch": "one"},
        {"epoch": float("inf")},
        {"global_step": torch.ones(3)},
        {"guard": [1]},
        {"callbacks": {"selection": {"best_epoch": "one"}}},
        {"callbacks": {"selection": {"best_epoch": {}}}},
    ],
)
def test_a_whole_file_that_is_no_checkpoint_of_a_run(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    state = {"epoch": 1, "global_step": 3, "guard": {"total_steps": 9}}
    state["callbacks"] = {"selection": {"best_epoch": 0}}
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, state, tmp_path / "previous.ckpt")
    assert read_state(path).best_epoch == 0
    write_checkpoint(path, state | changed, tmp_path / "previous.ckpt")
    with pytest.raises(WeightsError, match=r"last.ckpt is no checkpoint of `zoo train`"):
        read_state(path)
