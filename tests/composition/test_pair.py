"""Two finished pairs made into one, against VACE's own composition."""

from __future__ import annotations

import numpy as np
import pytest
from golden_annotators import golden

from vace_adapt.composition.pair import Pair, combine
from vace_adapt.errors import InputError

KINDS = {
    "frameref": "extension",
    "clipref": "extension",
    "inpainting": "repaint",
    "outpainting": "repaint",
    "depth": "control",
    "gray": "control",
}
CASES = ["frameref_inpainting", "frameref_depth", "frameref_clipref", "inpainting_frameref", "gray_frameref",
         "inpainting_outpainting", "inpainting_depth", "depth_inpainting", "depth_gray"]  # fmt: skip
LOST = ("inpainting_frameref", "gray_frameref")
"""Where VACE loses the frames of an extension that is given second."""


def pairs():
    given = golden("composition")
    return [Pair(given[f"input.frames_{i}"], given[f"input.masks_{i}"][..., 0] * 255) for i in (1, 2)]


def expected(case):
    made = golden("composition")
    return made[f"output.{case}.frames"], made[f"output.{case}.masks"][..., 0]


def same(made, frames, mask):
    return np.array_equal(made.frames, frames) and np.array_equal(made.mask, mask)


@pytest.mark.parametrize("case", CASES)
def test_as_vace(case):
    kinds = tuple(KINDS[name] for name in case.split("_"))
    assert same(combine(*pairs(), kinds, as_vace=True), *expected(case))
    assert same(combine(*pairs(), kinds), *expected(case)) == (case not in LOST)


@pytest.mark.parametrize("kind", ["repaint", "control"])
def test_an_extension_lies_on_top_whichever_it_is(kind):
    first, second = pairs()
    assert same(combine(first, second, (kind, "extension")), *combine(second, first, ("extension", kind)))


def test_sizes_must_agree():
    first, second = pairs()
    with pytest.raises(
        InputError,
        match=r"frames \[3, 8, 24, 3\] and mask \[3, 8, 24\] do not go together with frames \[3, 16, 24, 3\]",
    ):
        combine(first, Pair(second.frames[:, :8], second.mask[:, :8]), ("repaint", "repaint"))
    with pytest.raises(InputError, match=r"frames \[3, 16, 24, 3\] and mask \[2, 16, 24\] do not go together"):
        combine(Pair(first.frames, first.mask[:2]), second, ("repaint", "repaint"))


def test_the_longer_one_is_cut():
    first, second = pairs()
    assert len(combine(first, Pair(second.frames[:2], second.mask[:2]), ("control", "control")).frames) == 2
