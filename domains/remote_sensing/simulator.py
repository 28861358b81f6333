"""Synthetic aerial scenes of ten classes, drawn by geometry and texture.

A scene is a ground and the things on it, laid over one another as reflectance in four bands; what
was drawn is noted, so that captions can be made of it that are true. Scenes are schematic: no
figure obtained on them is a statement about real imagery. Reflectances are round values chosen
here, in the order of real materials: vegetation is bright in the near infrared, water dark.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from shared.schema import Array

VERSION = "1"
"""The same version, seed and number are the same scene for ever."""
BANDS = ("red", "green", "blue", "nir")
Distance = Callable[[Any, Any], Any]
"""x, y → distance to an outline, negative inside; half the side of an image is about 1."""


class Thing(NamedTuple):
    """Something that may be in a scene: its noun and place as captions tell them, how it is drawn.

    Of several materials one is drawn and told as the colour, and none twice. There are from the
    first to the second `number` of it, fewer where there is no room, and it is told where these
    differ. `size` holds half sides or a radius. It stands at one of the places `at` (none:
    anywhere), `inside` of what has this noun; what is `high` throws a shadow.
    """

    noun: str
    form: str
    materials: tuple[str, ...]
    number: tuple[int, int]
    size: tuple[float, ...]
    place: str = ""
    at: tuple[tuple[float, float], ...] = ()
    inside: str = ""
    high: bool = False


class Note(NamedTuple):
    """What was drawn, and how many."""

    noun: str
    number: int
    colour: str = ""
    place: str = ""


@dataclass(frozen=True)
class Scene:
    """(size, size, 4) float32 reflectance in the order of `BANDS`, and what it shows."""

    label: int
    season: str
    hazy: bool
    notes: tuple[Note, ...]
    reflectance: Array


# fmt: off
_MATERIALS = {
    "grass": (.10, .17, .06, .45), "dry grass": (.24, .21, .11, .34),
    "winter grass": (.60, .60, .60, .50), "leaf": (.03, .09, .03, .40),
    "dry leaf": (.15, .12, .04, .33), "winter leaf": (.20, .20, .20, .36),
    "water": (.04, .08, .12, .02), "soil": (.24, .18, .12, .28),
    "concrete": (.27, .27, .26, .30), "asphalt": (.10, .10, .11, .13),
    "green": (.08, .20, .05, .48), "yellow": (.38, .33, .07, .42), "brown": (.17, .10, .06, .26),
    "red": (.38, .09, .06, .40), "white": (.55, .55, .54, .55), "grey": (.18, .18, .19, .22),
    "blue": (.07, .16, .38, .20), "black": (.04, .04, .04, .05),
}
_ROOFS, _CARS = ("red", "brown", "grey", "white", "blue"), ("white", "black", "red", "blue")

_ROAD = Thing("road", "band", ("asphalt",), (0, 1), (.06,), "", ((0, -.4), (0, .4)))
_POND = Thing("pond", "blob", ("water",), (0, 2), (.16,))
_TREE = Thing("tree", "disc", ("leaf",), (0, 6), (.07,), high=True)
_BUILDING = Thing("building", "box", _ROOFS, (0, 3), (.14, .1), high=True)
_FIELD = Thing("field", "field", ("green", "yellow", "brown"), (0, 4), (.31, .31), "",
               tuple(product((-.65, 0, .65), (-.65, 0, .65))))
_HOUSE = Thing("house", "box", _ROOFS, (1, 9), (.1, .075), "along the streets",
               tuple(product((-.75, -.45, -.15, .15, .45, .75), (-.6, -.2, .2, .6))), "", True)
_CAR = Thing("car", "box", _CARS, (4, 16), (.035, .06), "in rows", tuple(product(
    (-.72, -.6, -.48, -.36, -.24, -.12, 0, .12, .24, .36, .48, .6, .72),
    (-.7, -.5, -.1, .1, .5, .7))), "", True)

CLASSES: dict[str, tuple[str, tuple[Thing, ...]]] = {
    "airport": ("grass", (
        Thing("apron", "box", ("concrete",), (1, 1), (.8, .3), "beside the runway", ((0, -.5),)),
        Thing("runway", "band", ("asphalt",), (1, 2), (.11,), "", ((0, .12), (0, .6))),
        Thing("airplane", "plane", ("white", "blue"), (0, 6), (.12,), "on the apron",
              tuple((x, -.36) for x in (-.65, -.39, -.13, .13, .39, .65)), "apron", True),
        _BUILDING._replace(noun="hangar", place="on the apron", inside="apron",
                           at=((-.45, -.68), (0, -.68), (.45, -.68))))),
    "farmland": ("soil", (_FIELD._replace(number=(2, 5)), _FIELD, _FIELD,
        _BUILDING._replace(noun="barn", size=(.1, .06), place="beside the fields"))),
    "forest": ("leaf", (
        _ROAD._replace(place="through the trees"), _POND._replace(place="among the trees"),
        Thing("clearing", "blob", ("grass",), (0, 3), (.2,), "among the trees"))),
    "harbour": ("concrete", (
        Thing("basin", "band", ("water",), (1, 1), (.85,), "beside the quay", ((0, .7),)),
        Thing("pier", "box", ("grey",), (1, 4), (.05, .28), "in the water",
              ((-.75, .14), (-.25, .14), (.25, .14), (.75, .14)), "basin"),
        Thing("boat", "boat", ("white", "red"), (1, 9), (.1,), "in the water",
              tuple(product((-.61, -.39, -.11, .11, .39, .61), (0, .25, .5, .75))), "basin"),
        _BUILDING._replace(noun="warehouse", place="on the quay"))),
    "industrial area": ("concrete", (
        _ROAD._replace(place="between the buildings", at=((0, 0),)),
        Thing("warehouse", "box", _ROOFS, (1, 4), (.23, .15), "beside the yard",
              tuple(product((-.55, 0, .55), (-.62, -.27, .27, .62))), "", True),
        Thing("storage tank", "disc", ("white", "grey"), (0, 6), (.09,), "", (), "", True))),
    "lake": ("grass", (
        Thing("lake", "blob", ("water",), (1, 1), (.65,), "", ((0, 0),)),
        Thing("island", "blob", ("grass",), (0, 2), (.13,), "in the lake", (), "lake"),
        Thing("boat", "boat", ("white", "red"), (0, 4), (.09,), "on the lake", (), "lake"),
        _BUILDING._replace(noun="house", size=(.09, .07), place="by the lake"),
        _TREE._replace(number=(0, 14), place="around the lake"))),
    "meadow": ("grass", (
        Thing("path", "band", ("soil",), (0, 1), (.04,), "across the grass", ((0, -.3), (0, .3))),
        _POND._replace(number=(0, 1), place="in the grass"),
        _TREE._replace(number=(0, 12), place="in the grass"))),
    "parking lot": ("asphalt", (_BUILDING._replace(place="beside the cars"), _CAR, _CAR, _CAR)),
    "residential area": ("grass", (
        _ROAD._replace(noun="street", number=(1, 3), at=((0, -.4), (0, 0), (0, .4))),
        _HOUSE, _HOUSE,
        Thing("pool", "box", ("blue",), (0, 4), (.05, .035), "beside the houses"),
        _TREE._replace(place="between the houses"))),
    "river": ("grass", (
        Thing("river", "wave", ("water",), (1, 1), (.24,), "", ((0, 0),)),
        Thing("bridge", "cross", ("asphalt",), (0, 2), (.06,), "across the river",
              ((-.4, 0), (.4, 0)), "river", True),
        Thing("boat", "boat", ("white", "red"), (0, 3), (.09,), "on the river",
              tuple((x, 0) for x in (-.7, -.2, 0, .2, .7)), "river"),
        _BUILDING._replace(noun="house", place="by the river"),
        _TREE._replace(place="by the river"))),
}

# x and y from its place, its size, a random angle → distance to the outline
_FORMS: dict[str, Callable[[Any, Any, tuple[float, ...], float], Any]] = {
    "box": lambda x, y, s, a: np.maximum(abs(x) - s[0], abs(y) - s[1]),
    "field": lambda x, y, s, a: np.maximum(abs(x) - s[0], abs(y) - s[1]),
    "disc": lambda x, y, s, a: np.hypot(x, y) - s[0],
    "blob": lambda x, y, s, a: np.hypot(x, y) - s[0] * (.9 - .1 * np.sin(a + 2 * np.arctan2(y, x))),
    "boat": lambda x, y, s, a: np.maximum(abs(x) - .4 * s[0], abs(y) - s[0]) + .3 * abs(y),
    "plane": lambda x, y, s, a: np.minimum(np.maximum(abs(x) - .2 * s[0], abs(y) - s[0]),
                                           np.maximum(abs(x) - s[0], abs(y) - .22 * s[0])),
    "band": lambda x, y, s, a: abs(y) - s[0],
    "cross": lambda x, y, s, a: abs(x) - s[0],
    "wave": lambda x, y, s, a: abs(y - .14 * np.sin(4 * x + a)) - s[0],
}
# fmt: on


class _Painter:
    """Draws in coordinates that a random rotation and zoom lay over the pixels. What it takes from
    `rng` does not depend on their number, so that a scene has any resolution."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.rng, self.size = rng, size
        self.season = str(rng.choice(("summer", "dry", "winter"), p=[0.5, 0.3, 0.2]))
        turn, sun, self.zoom = rng.uniform((0, 0, 0.85), (2 * np.pi, 2 * np.pi, 1.15)).tolist()
        self.sun = (0.05 * np.cos(sun), 0.05 * np.sin(sun))
        self.turn = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        axis = np.linspace(-self.zoom, self.zoom, 2 * size + 1)[1::2]
        self.x, self.y = np.einsum("kd,dij->kij", self.turn, np.meshgrid(axis, axis))
        self.rough, self.crowns = 1 + 0.08 * self.bumps(20), 1 + 0.6 * self.bumps(25)
        self.image = np.zeros((size, size, len(BANDS)))
        self.shapes: list[tuple[str, Distance]] = []
        self.notes: list[Note] = []

    def bumps(self, grain: int) -> Array:
        """(size, size) random values within ±1, `grain` of them a unit of length."""
        i, j = (((axis + 1.7) * grain).astype(int) for axis in (self.x, self.y))
        return np.asarray(self.rng.uniform(-1, 1, (4 * grain, 4 * grain))[i, j])

    def lay(self, material: str, cover: Any = 1.0, where: Any = (), pattern: Any = 1.0) -> None:
        """Cover shares of the pixels of a window with a material in its look of the season."""
        colour = np.array(_MATERIALS.get(f"{self.season} {material}", _MATERIALS[material]))
        texture = (self.crowns if material == "leaf" else self.rough)[where] * pattern
        target = texture[..., None] * self.rng.uniform(0.85, 1.15) * colour
        self.image[where] += np.asarray(cover)[..., None] * (target - self.image[where])

    def cover(self, shape: Distance, where: Any, shift: tuple[float, float] = (0, 0)) -> Array:
        """Share of each pixel of a window that is inside a shape."""
        distance = shape(self.x[where] - shift[0], self.y[where] - shift[1])
        return np.asarray(np.clip(0.5 - distance * self.size / (2 * self.zoom), 0, 1))

    def add(self, thing: Thing) -> None:
        """Draw as many of a thing as there is room for, and note them."""
        told = {(note.noun, note.colour) for note in self.notes}
        material = self.rng.choice([m for m in thing.materials if (thing.noun, m) not in told])
        places = self.rng.permutation(thing.at) if thing.at else self.rng.uniform(-1, 1, (60, 2))
        count, most = 0, self.rng.integers(*thing.number, endpoint=True)
        for place in places:
            if count < most and self.has_room(thing, place):
                self.put(thing, str(material), place)
                count += 1
        if count and thing.number[0] < thing.number[1]:
            colour = str(material) if len(thing.materials) > 1 else ""
            self.notes.append(Note(thing.noun, count, colour, thing.place))

    def has_room(self, thing: Thing, place: Array) -> bool:
        """Whether it would be in the picture, apart from others, where it belongs."""
        others = [shape(*place) for noun, shape in self.shapes if noun != thing.inside]
        around = [shape(*place) for noun, shape in self.shapes if noun == thing.inside]
        visible = (abs(place @ self.turn) < self.zoom - 0.06).all()
        clear = min(others, default=np.inf) > max(thing.size) + 0.015
        return bool(visible and clear and (not thing.inside or min(around) < -min(thing.size)))

    def put(self, thing: Thing, material: str, place: Array) -> None:
        """Draw one, with the shadow of what is high and the line of roads."""
        outline, angle, (u, v) = _FORMS[thing.form], self.rng.uniform(0, 2 * np.pi), place
        shape: Distance = lambda x, y: outline(x - u, y - v, thing.size, angle)  # noqa: E731
        self.shapes.append((thing.noun, shape))
        # only the pixels near it
        reach = 9 if thing.form in ("band", "cross", "wave") else 1.5 * max(thing.size) + 0.1
        ends = (place @ self.turn + np.array([[-reach], [reach]])) / self.zoom
        ends = ((ends + 1) * self.size / 2).clip(0, self.size).astype(int)
        where = (slice(*ends[:, 1]), slice(*ends[:, 0]))
        if thing.high:
            self.image[where] *= 1 - 0.6 * self.cover(shape, where, self.sun)[..., None]
        furrows = 0.85 + 0.15 * np.sin(40 * (self.x if angle < np.pi else self.y)[where])
        pattern = furrows if thing.form == "field" else 1.0
        self.lay(material, self.cover(shape, where), where, pattern)
        if thing.form == "band" and material == "asphalt":
            dashes = self.cover(lambda x, y: abs(y - v) - 0.015, ()) * (np.sin(25 * self.x) > 0)
            self.lay("white", dashes)


def draw_scene(size: int, rng: np.random.Generator) -> Scene:
    """A scene of a random class, `size` pixels wide and high."""
    label = int(rng.integers(len(CLASSES)))
    ground, things = list(CLASSES.values())[label]
    painter = _Painter(size, rng)
    painter.lay(ground)
    for thing in things:
        painter.add(thing)
    haze, light = max(0, rng.uniform(-1.2, 0.4)), rng.uniform(0.8, 1.2)
    image = light * (1 - haze) * painter.image + haze * np.array((0.25, 0.27, 0.3, 0.2))
    image += rng.normal(0, 0.005, image.shape)  # last: these depend on the number of pixels
    reflectance = image.clip(0, 1).astype(np.float32)
    return Scene(label, painter.season, haze > 0.1, tuple(painter.notes), reflectance)
