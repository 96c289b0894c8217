"""A scene as pictures and as exact truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vace_adapt.embedded.world import puppet
from vace_adapt.embedded.world.scene import COLOURS, GROUNDS, PUPPET, SIZE, Scene, Thing
from vace_adapt.embedded.world.shapes import SHAPES, TEXTURES, coverage

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Clip:
    """A drawn scene of T frames.

    Attributes:
        scene: what it shows.
        frames: uint8 [T, 64, 64, 3] RGB.
        depth: float32 [T, 64, 64], 0 far .. 1 near.
        flow: float32 [T, 64, 64, 2], pixels to the right and down since the frame before; picture 0 is as picture 1.
        masks: float32 [N, T, 64, 64], 0..1: what is seen of each thing.
    """

    scene: Scene
    frames: Array
    depth: Array
    flow: Array
    masks: Array

    def cut(self, start: int, stop: int) -> Clip:
        """Frames ``start .. stop-1``; the scene stays that of the whole clip."""
        of_part = slice(start, stop)
        own = (self.frames[of_part], self.depth[of_part], self.flow[of_part], self.masks[:, of_part])
        return Clip(self.scene, *own)


def render(scene: Scene) -> Clip:
    """Draw a scene."""
    colour, depth, flow = _background(scene)
    masks: list[Array] = []
    for thing in scene.things:
        inside, paint, motion = _layer(thing, scene.frames)
        masks = [mask * (1 - inside) for mask in masks] + [inside]
        colour = colour + inside[..., None] * (paint - colour)
        depth = depth + inside * (thing.nearness - depth)
        flow = np.where(inside[..., None] > 0.5, motion, flow)
    flow[0] = flow[min(1, scene.frames - 1)]
    return Clip(scene, to_bytes(colour), depth, flow, np.stack(masks))


def reference(thing: Thing, size: int = SIZE) -> Array:
    """A thing alone, upright and larger, in the middle of white: uint8 [size, size, 3]."""
    x, y = (axis[None] - size / 2 for axis in grid(size))
    radius = 0.4 * size * (0.85 if thing.kind == PUPPET else 1)
    if thing.kind == PUPPET:
        distance, _ = puppet.distance(x, y, puppet.joints(thing.gait, 1), radius)
    else:
        distance = SHAPES[thing.kind](x, y, radius)
    inside = coverage(distance)[..., None]
    return to_bytes(1 + inside * (_paint(thing, x, y, radius) - 1))[0]


def keypoints(thing: Thing, frames: int) -> Array:
    """Joints of a puppet: float64 [T, 18, 3], x and y as fractions of the frame, score 1 (a `Person`'s body)."""
    at = thing.track[:, None] + thing.radius * puppet.joints(thing.gait, frames)
    return np.concatenate([at / SIZE, np.ones((frames, 18, 1))], axis=-1)


def boxes(masks: Array) -> Array:
    """Boxes around what is seen: float32 [..., 4], left, top, right, bottom in pixels; zeros where nothing is."""
    columns, rows = np.any(masks > 0.5, axis=-2), np.any(masks > 0.5, axis=-1)
    size = masks.shape[-1]
    edges = [
        columns.argmax(-1),
        rows.argmax(-1),
        size - columns[..., ::-1].argmax(-1),
        size - rows[..., ::-1].argmax(-1),
    ]
    return (np.stack(edges, axis=-1) * np.any(columns, axis=-1)[..., None]).astype(np.float32)


def grid(size: int = SIZE) -> tuple[Array, Array]:
    """Pixel centres, x and y, each float32 [size, size]."""
    centres = np.arange(size, dtype=np.float32) + 0.5
    x, y = np.meshgrid(centres, centres)
    return x, y


def to_bytes(picture: Array) -> Array:
    """0..1 to uint8."""
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def _layer(thing: Thing, frames: int) -> tuple[Array, Array, Array]:
    """Coverage [T, H, W], colours [T, H, W, 3] and motion [T, H, W, 2] of one thing."""
    x, y = grid()
    across, down = (axis[None] - thing.track[:, i, None, None] for i, axis in enumerate((x, y)))
    moved = np.diff(thing.track, axis=0, prepend=thing.track[:1])[:, None, None]
    if thing.kind == PUPPET:
        distance, motion = puppet.distance(across, down, puppet.joints(thing.gait, frames), thing.radius)
        return coverage(distance), _paint(thing, across, down, thing.radius), motion + moved
    cos, sin = np.cos(thing.turn)[:, None, None], np.sin(thing.turn)[:, None, None]
    own_x, own_y = across * cos + down * sin, down * cos - across * sin
    spin = np.diff(thing.turn, prepend=thing.turn[:1])[:, None, None]
    motion = np.stack([-spin * down, spin * across], axis=-1) + moved
    inside = coverage(SHAPES[thing.kind](own_x, own_y, thing.radius))
    return inside, _paint(thing, own_x, own_y, thing.radius), motion


def _paint(thing: Thing, x: Array, y: Array, radius: float) -> Array:
    share = TEXTURES[thing.texture](x, y, radius)[..., None]
    first, second = np.array(COLOURS[thing.colour], np.float32), np.array(COLOURS[thing.second], np.float32)
    return first + share * (second - first)


def _background(scene: Scene) -> tuple[Array, Array, Array]:
    """Colours [T, H, W, 3], nearness [T, H, W] and motion [T, H, W, 2] of what lies behind."""
    x, y = grid()
    right, down = scene.camera[:, 0, None, None] + x, scene.camera[:, 1, None, None] + y
    gradient = (x / SIZE - 0.5) * np.cos(scene.light) + (y / SIZE - 0.5) * np.sin(scene.light)
    if scene.pattern == "tiles":
        shade = np.tanh(3 * np.sin(right * 2 * np.pi / 24) * np.sin(down * 2 * np.pi / 24))
    elif scene.pattern == "waves":
        shade = np.sin((right * np.cos(scene.light) + down * np.sin(scene.light)) * 2 * np.pi / 16)
    else:
        shade = np.zeros_like(right)
    brightness = (0.8 + 0.3 * gradient + 0.22 * shade)[..., None]
    nearness = np.broadcast_to(0.05 + 0.3 * y / SIZE, right.shape)
    moved = np.diff(-scene.camera, axis=0, prepend=-scene.camera[:1])[:, None, None]
    return (
        brightness * np.array(GROUNDS[scene.ground], np.float32),
        nearness,
        np.broadcast_to(moved, (*right.shape, 2)).copy(),
    )
