"""Headers of tars, beside Python's own reader of them."""

import io
import tarfile
from pathlib import Path

import pytest

from shared.data.tar_scan import DamagedTarError, Member, scan

LONG = "a/" * 60 + "name that is longer than a header's hundred bytes" * 3 + ".jpg"
NAMES = ["1.jpg", "folder/ü.txt", LONG, "p" * 90 + "/" + "n" * 90 + ".jpg", "2.jpg"]


def write(path: Path, names: list[str], form: int, *, mtime: float = 0) -> None:
    with tarfile.open(path, "w", format=form) as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for number, name in enumerate(names):
            about = tarfile.TarInfo(name)
            about.size, about.mtime = 300 * number, mtime  # type: ignore[assignment]
            tar.addfile(about, io.BytesIO(bytes([65 + number]) * about.size))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("mtime", [0, 1.5])
def test_members_are_those_of_tarfile(tmp_path: Path, form: int, mtime: float) -> None:
    """With a pax header for every member, too, as webdataset's writer makes by fractional times."""
    path = tmp_path / "1.tar"
    names = [n for n in NAMES if form != tarfile.USTAR_FORMAT or n != LONG]
    write(path, names, form, mtime=mtime)
    with tarfile.open(path) as tar:
        expected = [Member(m.name, m.offset_data, m.size) for m in tar if m.isreg()]
    assert list(scan(path)) == expected
    assert [m.name for m in expected] == names


def test_every_cut_is_seen_and_what_was_given_before_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "1.tar"
    write(path, NAMES, tarfile.PAX_FORMAT)
    content, whole = path.read_bytes(), list(scan(path))
    end = whole[-1].offset + -(-whole[-1].size // 512) * 512
    for size in range(0, end + 1024, 256):
        path.write_bytes(content[:size])
        members: list[Member] = []
        with pytest.raises(DamagedTarError, match=r"cut short|no whole tar"):
            members.extend(scan(path))
        assert members == whole[: len(members)]
        assert all(m.offset + m.size <= size for m in members)


def test_every_changed_bit_of_a_header_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "1.tar"
    write(path, ["1.jpg", "2.jpg"], tarfile.USTAR_FORMAT)
    content = path.read_bytes()
    second = content.index(b"2.jpg")
    for place in (0, 5, 124, 150, 156, 257, 345, 511):
        damaged = bytearray(content)
        damaged[second + place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(DamagedTarError, match=f"damaged header at byte {second:,}"):
            list(scan(path))


@pytest.mark.parametrize("size", ["-1", "9" * 5000, "x", "99999999999999999999"])
def test_sizes_in_pax_headers_that_cannot_be(tmp_path: Path, size: str) -> None:
    path = tmp_path / "1.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        about = tarfile.TarInfo("1.jpg")
        about.pax_headers = {"size": size}
        tar.addfile(about)
    with pytest.raises(DamagedTarError, match=r"no whole tar|damaged header"):
        list(scan(path))
