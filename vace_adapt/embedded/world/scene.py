"""What is in a clip and how it moves, drawn from one integer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vace_adapt.embedded.world.puppet import Gait
from vace_adapt.embedded.world.shapes import SHAPES, TEXTURES

Array = np.ndarray[Any, Any]
Colour = tuple[float, float, float]

SIZE = 64
"""Height and width of a clip in pixels."""

FRAMES = 81
"""Wan's own length: 21 latent frames, 7 chunks of 3."""

RATE = 16

COLOURS: dict[str, Colour] = {
    "red": (1.0, 0.12, 0.12), "green": (0.15, 0.90, 0.20), "blue": (0.20, 0.35, 1.0), "yellow": (1.0, 0.90, 0.15),
    "magenta": (1.0, 0.20, 0.90), "cyan": (0.15, 0.95, 0.95), "orange": (1.0, 0.55, 0.10), "pink": (1.0, 0.65, 0.75),
}  # fmt: skip
"""Of things: each has a channel of at least 0.9, and stands out on white."""

GROUNDS: dict[str, Colour] = {
    "black": (0.06, 0.06, 0.06), "navy": (0.08, 0.10, 0.40), "maroon": (0.42, 0.08, 0.12), "forest": (0.08, 0.36, 0.14),
    "gray": (0.33, 0.33, 0.33), "brown": (0.40, 0.26, 0.12),
}  # fmt: skip
"""Of backgrounds: no channel above 0.45, so that things stand out."""

PATTERNS = ("floor", "tiles", "waves")
PUPPET = "puppet"


@dataclass(frozen=True)
class Thing:
    """One moving thing.

    Attributes:
        kind: a key of `SHAPES`, or `PUPPET`.
        colour, second: keys of `COLOURS`; the second is that of the texture.
        texture: a key of `TEXTURES`.
        radius: in pixels.
        nearness: 0..1, as the depth picture shows it.
        track: float32 [T, 2], x and y of its centre in pixels.
        turn: float32 [T], radians; a puppet stays upright.
        gait: of a puppet.
    """

    kind: str
    colour: str
    second: str
    texture: str
    radius: float
    nearness: float
    track: Array
    turn: Array
    gait: Gait

    @property
    def words(self) -> tuple[str, ...]:
        """Texture and kind, as captions say them."""
        return (self.kind,) if self.texture == "solid" else (self.texture, self.kind)


@dataclass(frozen=True)
class Scene:
    """A clip before it is drawn.

    Attributes:
        things: from back to front.
        ground: a key of `GROUNDS`.
        pattern: one of `PATTERNS`.
        light: direction of the background's gradient, radians.
        camera: float32 [T, 2], where the camera is in pixels; it moves the background.
    """

    things: tuple[Thing, ...]
    ground: str
    pattern: str
    light: float
    camera: Array

    @property
    def frames(self) -> int:
        return len(self.camera)


def draw_scene(seed: int, frames: int = FRAMES, *, things: int | None = None, puppet: bool | None = None) -> Scene:
    """The scene of a seed.

    Args:
        seed: 0 or more. What a longer clip of the same seed shows begins like a shorter one.
        frames: how many.
        things: 1 to 3; None draws it.
        puppet: whether the first thing is a puppet; None draws it.
    """
    random = np.random.default_rng(seed)
    drawn = int(random.choice((1, 2, 3), p=(0.4, 0.4, 0.2)))
    count = drawn if things is None else things
    walks = bool(random.random() < 0.35) if puppet is None else puppet
    colours = random.permutation(list(COLOURS))
    kinds = random.permutation(list(SHAPES))
    order = random.permutation(count)
    made = [
        _thing(
            random.spawn(1)[0],
            kind=PUPPET if walks and i == 0 else str(kinds[i]),
            colour=str(colours[i]),
            nearness=0.5 + 0.22 * float(order[i]),
            crowd=count,
            frames=frames,
        )
        for i in range(count)
    ]
    drift = random.normal(0, 0.25, 2) * (random.random() < 0.6)
    time = np.arange(frames, dtype=np.float32)[:, None]
    return Scene(
        things=tuple(sorted(made, key=lambda thing: thing.nearness)),
        ground=str(random.choice(list(GROUNDS))),
        pattern=str(random.choice(PATTERNS)),
        light=float(random.uniform(0, 2 * np.pi)),
        camera=(random.uniform(0, 32, 2) + drift * time).astype(np.float32),
    )


def _thing(random: Any, *, kind: str, colour: str, nearness: float, crowd: int, frames: int) -> Thing:
    radius = float(random.uniform(13, 17) if kind == PUPPET else random.uniform(8, 14)) * (1, 1, 0.95, 0.85)[crowd]
    second = str(random.choice([name for name in COLOURS if name != colour]))
    texture = str(random.choice(list(TEXTURES)))
    return Thing(
        kind=kind,
        colour=colour,
        second=second,
        texture="solid" if (kind, texture) == ("ring", "spotted") else texture,  # the spot would lie in the hole
        radius=radius,
        nearness=nearness,
        track=_bouncing(random, radius, frames),
        turn=(random.uniform(0, 2 * np.pi) + random.uniform(-0.06, 0.06) * np.arange(frames)).astype(np.float32),
        gait=Gait(random.uniform(0.1, 0.25), random.uniform(0, 6), random.uniform(0, 6)),
    )


def _bouncing(random: Any, radius: float, frames: int) -> Array:
    """A straight path at even speed that turns back at the borders: float32 [T, 2]."""
    room = SIZE - 1.4 * radius
    speed = random.uniform(0.15, 1.0) * (random.random() > 0.08)
    angle = random.uniform(0, 2 * np.pi)
    straight = random.uniform(0, room, 2) + speed * np.outer(np.arange(frames), (np.cos(angle), np.sin(angle)))
    folded = room - abs(straight % (2 * room) - room)
    return (0.7 * radius + folded).astype(np.float32)
