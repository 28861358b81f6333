"""Captions of synthetic scenes by a small grammar: they say what was drawn and noted, so that they
are true, and never left or above, so that they stay true when the picture is turned."""

import numpy as np

from domains.remote_sensing.simulator import CLASSES, Note, Scene

MOST = 5
_TEMPLATES = (
    "{view} of {name} with {things}",
    "{placed} {when}",
    "{name} {when} with {first}",
    "{placed}, in {view} of {name}",
    "{name} seen {when}, and {placed}",
)
_VIEWS = ("an aerial image", "a satellite image", "a view from above")
_SEASONS = {"summer": "in summer", "dry": "in the dry season", "winter": "in winter with snow"}
_NUMBERS = ("no", "a", "two", "three", "four", "five", "six", "seven", "eight", "nine", "many")


def describe(scene: Scene, number: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Captions of a scene, all different; only the second does not name its class.

    Args:
        scene: What was drawn.
        number: From 1 to `MOST`.
        rng: Chooses the words, and what is told.
    """
    name = list(CLASSES)[scene.label]
    words = {
        "name": name if name == "farmland" else _with_article(name),
        "view": str(rng.choice(_VIEWS)),
        "when": _SEASONS[scene.season] + (" under haze" if scene.hazy else ""),
    }
    notes = scene.notes or (Note("building", 0),)
    captions = []
    for template in _TEMPLATES[:number]:
        chosen = [notes[i] for i in rng.permutation(len(notes))[:2]]
        words["first"] = _told(chosen[0])
        words["things"] = " and ".join(_told(note) for note in chosen)
        words["placed"] = " and ".join(f"{_told(note)} {note.place}".strip() for note in chosen)
        captions.append(template.format(**words))
    return tuple(captions)


def _told(note: Note) -> str:
    """How many of what colour: counts of 10 and above are many."""
    noun = f"{note.colour} {note.noun}".strip()
    return _with_article(noun) if note.number == 1 else f"{_NUMBERS[min(note.number, 10)]} {noun}s"


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
