"""Sequences of letters with a motif in them, and captions that tell of it."""

import numpy as np

from zoo import Dataset, SampleTable, Schema

VERSION = 1
MOTIFS = {"red": "aabb", "green": "abca", "blue": "ccdd", "white": "dbdb"}
PLACES = ("start", "middle", "end")
FILLERS = ("there is a", "one sees a", "here a", "look for a")


class PhrasesDataset(Dataset):
    """Synthetic pairs of a sequence and a caption; the label is the motif, known by a colour.

    - `letters`: random letters of abcd, with a motif of four at one of three places.
    - `caption`: words that name the motif and the place; some pairs lack it.

    Pair i depends on (`VERSION`, seed, i) alone.

    Args:
        n_pairs: Number of pairs.
        seed: Of the whole set.
        shortest: Letters of the shortest sequence, 12 or more; the longest has twice as many.
        caption_fraction: Share of the pairs that have a caption, 0 to 1.
    """

    name = "phrases"
    synthetic = True

    def __init__(
        self,
        n_pairs: int = 300,
        seed: int = 0,
        shortest: int = 12,
        caption_fraction: float = 1.0,
    ) -> None:
        self.n_pairs, self.seed, self.shortest = n_pairs, seed, shortest
        self.caption_fraction = caption_fraction
        self.schemas = {m: Schema(m, (), (), "str") for m in ("letters", "caption")}

    def make_table(self) -> SampleTable:
        labels = [self._motif(i)[0] for i in range(self.n_pairs)]
        return SampleTable([f"pair{i:05d}" for i in range(self.n_pairs)], labels, tuple(MOTIFS))

    def read(self, index: int) -> dict[str, str]:
        label, rng = self._motif(index)
        colour, motif = list(MOTIFS.items())[label]
        length = int(rng.integers(self.shortest, 2 * self.shortest + 1))
        place = int(rng.integers(len(PLACES)))
        letters = "".join(rng.choice(list("abcd"), size=length))
        before = place * (length - len(motif)) // (len(PLACES) - 1)
        letters = letters[:before] + motif + letters[before + len(motif) :]
        caption = f"{rng.choice(FILLERS)} {colour} motif at the {PLACES[place]}"
        raw = {"letters": letters}
        if rng.random() < self.caption_fraction:
            raw["caption"] = caption
        return raw

    def content_fingerprint(self) -> str:
        settings = (self.n_pairs, self.seed, self.shortest, self.caption_fraction)
        return f"{self.name} version {VERSION}, {settings}"

    def _motif(self, index: int) -> tuple[int, np.random.Generator]:
        """Which motif a pair has, and what draws the rest of it."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, index]))
        return int(rng.integers(len(MOTIFS))), rng
