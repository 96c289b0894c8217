"""Render the clip that ships with the package: ``python recipes/embedded/clip.py``.

A ball rolls over a textured floor and passes behind a post. Three files go to ``vace_adapt/embedded/clip``:
``control.mp4`` is the video as VACE composes inpainting with depth (the ball's surroundings kept, its region replaced
by depth), ``mask.mp4`` is that region, ``reference.png`` is the ball on white. Everything is drawn here; nothing is
random.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from vace_adapt.video.write import VideoWriter

HEIGHT, WIDTH, FRAMES, RATE = 96, 160, 45, Fraction(16)
SUPERSAMPLING = 4
RADIUS = 17.0
FOLDER = Path(__file__).parents[2] / "vace_adapt" / "embedded" / "clip"

Picture = np.ndarray


def grid(height: int, width: int) -> tuple[Picture, Picture]:
    """Pixel centres, y and x, supersampled."""
    y = (np.arange(height * SUPERSAMPLING) + 0.5) / SUPERSAMPLING
    x = (np.arange(width * SUPERSAMPLING) + 0.5) / SUPERSAMPLING
    return np.meshgrid(y, x, indexing="ij")


def shrink(picture: Picture) -> Picture:
    """Average the supersamples; values stay 0..1."""
    height, width = picture.shape[0] // SUPERSAMPLING, picture.shape[1] // SUPERSAMPLING
    return picture.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING, -1).mean(axis=(1, 3))


def ball(y: Picture, x: Picture, cy: float, cx: float, turn: float) -> tuple[Picture, Picture]:
    """Coverage [H, W] and colour [H, W, 3] of a striped, shaded ball."""
    dy, dx = (y - cy) / RADIUS, (x - cx) / RADIUS
    inside = dy**2 + dx**2 <= 1
    dz = np.sqrt(np.clip(1 - dy**2 - dx**2, 0, 1))
    across = dx * np.cos(turn) + dy * np.sin(turn)
    stripe = (np.abs(across) < 0.28)[..., None]
    colour = np.where(stripe, (0.98, 0.93, 0.80), (0.85, 0.16, 0.12))
    light = np.clip(0.35 + 0.65 * (0.6 * dz - 0.5 * dy - 0.4 * dx), 0, 1)[..., None]
    return inside, colour * light


def scene(frame: int) -> tuple[Picture, Picture, Picture]:
    """Colour, depth (1 = near) and ball region of one moment, each 0..1."""
    y, x = grid(HEIGHT, WIDTH)
    horizon = 34.0
    floor = y > horizon
    near = np.clip((y - horizon) / (HEIGHT - horizon), 0, 1)
    drift = 0.4 * frame
    tiles = (np.floor((x - 80 + drift) / (10 + 26 * near)) + np.floor(9 * near**0.6)) % 2
    ground = np.where(tiles[..., None] == 0, (0.40, 0.47, 0.40), (0.55, 0.60, 0.50))
    sky = np.stack([0.52 + 0.2 * y / horizon, 0.66 + 0.15 * y / horizon, 0.82 + 0.05 * y / horizon], axis=-1)
    colour = np.where(floor[..., None], ground, sky)
    depth = np.where(floor, 0.15 + 0.6 * near, 0.05)

    travel = frame / (FRAMES - 1)
    cx, cy = 14 + 132 * travel, 62 - 10 * abs(np.sin(3 * np.pi * travel))
    region, paint = ball(y, x, cy, cx, turn=7 * travel)
    colour = np.where(region[..., None], paint, colour)
    depth = np.where(region, 0.85, depth)

    post = (np.abs(x - (112 - drift)) < 5) & (y > 16)
    colour = np.where(post[..., None], (0.30, 0.24, 0.20), colour)
    depth = np.where(post, 1.0, depth)
    around = (y - cy) ** 2 + (x - cx) ** 2 <= (RADIUS + 5) ** 2
    return shrink(colour), shrink(depth[..., None])[..., 0], shrink(around.astype(float)[..., None])[..., 0]


def to_bytes(picture: Picture) -> Picture:
    return (picture * 255).round().astype(np.uint8)


def main() -> None:
    """Write the three files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    writers = {name: VideoWriter(FOLDER / f"{name}.mp4", HEIGHT, WIDTH, RATE, 16) for name in ("control", "mask")}
    for frame in range(FRAMES):
        colour, depth, region = scene(frame)
        mask = region[..., None] > 0.5
        writers["control"].write(to_bytes(np.where(mask, depth[..., None], colour))[None])
        writers["mask"].write(to_bytes(np.repeat(mask, 3, axis=-1).astype(float))[None])
    for writer in writers.values():
        writer.close()
    y, x = grid(64, 64)
    inside, paint = ball((y - 32) * RADIUS / 26, (x - 32) * RADIUS / 26, 0, 0, turn=0.6)
    Image.fromarray(to_bytes(shrink(np.where(inside[..., None], paint, 1.0)))).save(FOLDER / "reference.png")


if __name__ == "__main__":
    main()
