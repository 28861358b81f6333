"""A folder of many stars, of which some files are broken, in turn in ten ways."""

from pathlib import Path

import numpy as np

_BROKEN = (
    b"",
    b"time,flux,flux_error\n",
    b"time,flux,flux_error\n1,2\n",
    b"time,flux,flux_error\n1,2,3\n2,nan,3\n",
    b"time,flux,flux_error\n1,2,3\n2,3,-1\n",
    b"time,flux,flux_error\n1,two,3\n",
    b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    b'time,flux,flux_error\n1,"2,3\n',
    b"time,flux\n1,2\n",
    b"time,flux,flux_error\n1,2,3\n",
)


def write_stars(root: Path, files: int, every: int = 0) -> list[Path]:
    """Write `table.csv` and one light curve of 50 points a star.

    Args:
        root: A folder that is not there yet.
        files: Number of stars.
        every: One file in so many is broken; 0: none.

    Returns:
        The broken files.
    """
    (root / "photometry").mkdir(parents=True)
    phase = np.arange(50) / 7
    bad = []
    rows = ["id,label,teff"]
    for star in range(files):
        rows.append(f"s{star:05d},{'ab'[star % 2]},{5000 + star}")
        path = root / "photometry" / f"s{star:05d}.csv"
        if every and star % every == every // 2:
            path.write_bytes(_BROKEN[star // every % len(_BROKEN)])
            bad.append(path)
            continue
        flux = 10 + np.sin(phase * (1 + star % 9)) + star / files
        lines = (f"{t:.3f},{f:.4f},0.1" for t, f in zip(phase, flux, strict=True))
        path.write_text("time,flux,flux_error\n" + "\n".join(lines) + "\n")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    return bad
