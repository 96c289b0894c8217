"""Pictures of some runs on one sheet: enlarged, labelled, runs from top to bottom, moments from left to right."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Array = np.ndarray[Any, Any]

TILE = 192
"""Longer side of a picture on the sheet; those of 64 pixels are enlarged three times."""

GAP, MARGIN, LABEL = 6, 12, 84
TITLE, CAPTION, MOMENT = 52, 30, 26
CHARACTER = 9.5
"""Mean width of a character of a caption."""


@dataclass(frozen=True)
class Row:
    """Moments of one video.

    Attributes:
        label: what it is.
        frames: uint8 [T, H, W, 3].
        beside: a picture uint8 [H, W, 3] under the label: the reference.
    """

    label: str
    frames: Array
    beside: Array | None = None


@dataclass(frozen=True)
class Section:
    """One run.

    Attributes:
        caption: how it is made.
        prompt: of it.
        rows: from top to bottom, all of the same length.
        switches: further prompts, and the frame each begins with.
    """

    caption: str
    prompt: str
    rows: tuple[Row, ...]
    switches: tuple[tuple[int, str], ...] = ()


def sheet(title: str, sections: Sequence[Section], columns: int) -> Image.Image:
    """Draw a sheet.

    Args:
        title: above everything.
        sections: the runs.
        columns: moments of each, first and last among them.
    """
    widest = max(_width(row) for section in sections for row in section.rows)
    left = MARGIN + (TILE + GAP if any(row.beside is not None for s in sections for row in s.rows) else LABEL)
    size = left + columns * (widest + GAP) + MARGIN, TITLE + sum(_height(section) for section in sections) + MARGIN
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, 10), title, fill="black", font=ImageFont.load_default(28))
    top = TITLE
    for section in sections:
        _section(image, section, top, left, columns)
        top += _height(section)
    return image


def moments(frames: int, columns: int) -> list[int]:
    """Frames spread evenly, first and last among them; fewer where there are no more."""
    return sorted({round(i * (frames - 1) / max(1, columns - 1)) for i in range(columns)})


def _section(image: Image.Image, section: Section, top: int, left: int, columns: int) -> None:
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(20)
    caption = section.caption if section.switches or not section.prompt else f"{section.caption}    “{section.prompt}”"
    lines = textwrap.wrap(caption, int((image.width - 2 * MARGIN) / CHARACTER)) or [""]
    draw.text((MARGIN, top + 3), lines[0] + (" ..." if len(lines) > 1 else ""), fill="#0550ae", font=font)
    top += CAPTION
    shown = moments(len(section.rows[0].frames), columns)
    step = _width(section.rows[0]) + GAP
    for column, frame in enumerate(shown):
        x = left + column * step
        draw.text((x, top + 3), f"frame {frame}", fill="#59636e", font=ImageFont.load_default(17))
        prompt = next((words for start, words in reversed(section.switches) if frame >= start), "")
        draw.text((x, top + MOMENT + 1), prompt, fill="#59636e", font=ImageFont.load_default(13))
    top += MOMENT * (2 if section.switches else 1)
    for row in section.rows:
        draw.text((MARGIN, top + 4), row.label, fill="black", font=ImageFont.load_default(21))
        if row.beside is not None:
            image.paste(_enlarged(row.beside, TILE - 32), (MARGIN, top + 28))
            draw.rectangle((MARGIN - 1, top + 27, MARGIN + TILE - 32, top + TILE - 4), outline="#818b98")
        for column, frame in enumerate(shown):
            picture, x = _enlarged(row.frames[frame], TILE), left + column * step
            image.paste(picture, (x, top))
            draw.rectangle((x - 1, top - 1, x + picture.width, top + picture.height), outline="#d1d9e0")
        top += TILE + GAP


def _enlarged(picture: Array, side: int) -> Image.Image:
    """A picture with a longer side of so many pixels."""
    found = Image.fromarray(picture)
    zoom = side / max(found.size)
    return found.resize((round(found.width * zoom), round(found.height * zoom)), Image.Resampling.NEAREST)


def _width(row: Row) -> int:
    height, width = row.frames.shape[1:3]
    return round(width * TILE / max(height, width))


def _height(section: Section) -> int:
    return CAPTION + MOMENT * (2 if section.switches else 1) + len(section.rows) * (TILE + GAP) + GAP
