"""One process at a time in a run folder."""

import errno
from pathlib import Path
from typing import BinaryIO

from shared.errors import ConfigError, WriteError
from shared.files import make_folder

LOCK = ".lock"


class FolderLock:
    """Keeps a second process from writing to a run folder; a process that is killed lets go.

    A record lock, since loader workers would inherit one of `flock` and outlive a killed run.

    Attributes:
        taken: Whether this process has it.

    Args:
        folder: To be kept.
        doing: What is done there, for the message to the second one.
    """

    def __init__(self, folder: Path, doing: str = "training") -> None:
        self._folder, self._doing = folder, doing
        self._file: BinaryIO | None = None

    @property
    def taken(self) -> bool:
        return self._file is not None

    def take(self) -> None:
        """Make the folder if need be; does nothing where the lock is held already.

        Raises:
            ConfigError: Another process works in the folder.
            WriteError: The folder cannot be written to.
        """
        if self._file is None:
            make_folder(self._folder)
            path = self._folder / LOCK
            try:
                self._file = path.open("ab")
            except OSError as error:  # somebody else's, in a folder that is shared
                raise WriteError(f"{path} cannot be written: {error.strerror}.") from error
            if not _lock(self._file):
                self.release()
                raise ConfigError(
                    f"Another process is {self._doing} in {self._folder} now: wait for it, or end "
                    "it."
                )

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def is_training(folder: Path) -> bool:
    """Whether a process on this machine (elsewhere where the file system tells) trains in it."""
    try:
        with (folder / LOCK).open("r+b") as file:
            return not _lock(file)
    except OSError:
        return False


def _lock(file: BinaryIO) -> bool:
    """Whether the lock is ours now; also where there are no locks."""
    try:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def leftovers(folder: Path) -> list[Path]:
    """What a run that was killed was writing at that moment; also what one that runs is writing."""
    patterns = (".*.tmp*", ".zoo-*")
    return sorted(p for pattern in patterns for p in folder.rglob(pattern) if p.is_file())
