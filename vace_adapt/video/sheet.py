"""The contact sheet of a run: control, mask and output in rows, moments in columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Array = np.ndarray[Any, Any]

COLUMNS = 8
MARGIN = 6
LABEL_WIDTH = 76
HEADER = 20
TALLEST = 192
"""Pixels of a picture's height on the sheet: larger ones are shrunk to it, smaller ones enlarged by a whole number."""


class ContactSheet:
    """Collects frames spread over a run of unknown length; keeps at most 16 of them.

    Args:
        rows: names of the rows, in order.
    """

    def __init__(self, rows: tuple[str, ...]) -> None:
        self._rows = rows
        self._kept: list[tuple[int, tuple[Array | None, ...]]] = []
        self._stride = 1

    def add(self, number: int, pictures: tuple[Array | None, ...]) -> None:
        """Offer one moment: frame number and a uint8 picture [H, W, 3] for each row, or None."""
        if number % self._stride:
            return
        self._kept.append((number, pictures))
        if len(self._kept) > 2 * COLUMNS:
            self._stride *= 2
            self._kept = [(n, p) for n, p in self._kept if n % self._stride == 0]

    def save(self, path: Path) -> None:
        """Write the sheet as PNG. Rows without any picture are left out."""
        moments = self._spread()
        shown = [i for i in range(len(self._rows)) if any(pictures[i] is not None for _, pictures in moments)]
        height, width = next(p.shape[:2] for _, pictures in moments for p in pictures if p is not None)
        zoom = TALLEST / height if height > TALLEST else TALLEST // height
        size = (round(width * zoom), round(height * zoom))
        sheet = Image.new(
            "RGB",
            (LABEL_WIDTH + len(moments) * (size[0] + MARGIN), HEADER + len(shown) * (size[1] + MARGIN)),
            "white",
        )
        draw = ImageDraw.Draw(sheet)
        font = ImageFont.load_default(size=13)
        for line, row in enumerate(shown):
            top = HEADER + line * (size[1] + MARGIN)
            draw.text((MARGIN, top + size[1] // 2 - 8), self._rows[row], fill="black", font=font)
            for column, (number, pictures) in enumerate(moments):
                left = LABEL_WIDTH + column * (size[0] + MARGIN)
                if line == 0:
                    draw.text((left, 2), f"frame {number}", fill="black", font=font)
                picture = pictures[row]
                if picture is not None:
                    sheet.paste(Image.fromarray(picture).resize(size, Image.Resampling.NEAREST), (left, top))
                    draw.rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline="lightgray")
        partial = path.with_name(path.name + ".partial")
        sheet.save(partial, format="PNG")
        partial.replace(path)

    def _spread(self) -> list[tuple[int, tuple[Array | None, ...]]]:
        """At most `COLUMNS` moments, first and last among them."""
        count = min(COLUMNS, len(self._kept))
        if count <= 1:
            return self._kept[:count]
        return [self._kept[round(i * (len(self._kept) - 1) / (count - 1))] for i in range(count)]
