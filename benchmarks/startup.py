"""Start-up times of the command line and of `import zoo`, each in a fresh process.

python benchmarks/startup.py [--runs 7]
"""

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "zoo --help": ["-m", "zoo.cli.main", "--help"],
    "zoo list": ["-m", "zoo.cli.main", "list"],
    "zoo train --help": ["-m", "zoo.cli.main", "train", "--help"],
    "zoo train --dry-run": ["-m", "zoo.cli.main", "train", "domain=astro", "--dry-run"],
    "zoo info star-clip": ["-m", "zoo.cli.main", "info", "star-clip"],
    "import zoo": ["-c", "import zoo"],
    "import torch (for comparison)": ["-c", "import torch"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    for name, arguments in COMMANDS.items():
        times = []
        for _ in range(runs + 1):
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
        counted = times[1:]  # the first run warms the file cache
        print(f"{name:32} median {statistics.median(counted):.2f} s  max {max(counted):.2f} s")


if __name__ == "__main__":
    main()
