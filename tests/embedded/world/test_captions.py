"""Captions say all that is shown, in words that are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from embedded.world.staged import scene, thing

from vace_adapt.embedded.world.captions import WORDS, caption
from vace_adapt.embedded.world.scene import COLOURS, draw_scene
from vace_adapt.embedded.world.shapes import TEXTURES


def says_everything(text, shown):
    """Every thing with its looks, the nearest first, then what lies behind."""
    words = text.split()
    assert set(words) <= set(WORDS)
    *named, last = text.replace(" on ", " and ").split(" and ")
    assert last == f"{shown.ground} {shown.pattern}"
    for phrase, one in zip(named, sorted(shown.things, key=lambda one: -one.nearness), strict=True):
        texture = [] if one.texture == "solid" else [one.texture]
        assert phrase.split()[1:] == [one.colour, *texture, one.kind]


@pytest.mark.parametrize("seed", range(40))
def test_captions(seed):
    shown = draw_scene(seed, 1)
    says_everything(caption(shown), shown)
    plain = caption(shown, appearance=False).split()
    assert set(plain) <= set(WORDS) - set(COLOURS) - set(TEXTURES)
    assert [word for word in plain if word in {one.kind for one in shown.things}] == [
        one.kind for one in reversed(shown.things)
    ]


def test_what_is_left_out_is_noticed():
    shown = draw_scene(4, 1, things=3)
    fewer = replace(shown, things=shown.things[1:])
    for text in (caption(fewer), caption(shown, appearance=False), caption(shown).replace("on", "under")):
        with pytest.raises((AssertionError, ValueError)):
            says_everything(text, shown)


def test_a_caption_reads_well():
    shown = scene(thing("ring", colour="orange", nearness=0.5), thing("ball", texture="striped", nearness=0.7))
    assert caption(shown) == "a red striped ball and an orange ring on navy waves"
    assert caption(shown, appearance=False) == "a ball and a ring on navy waves"


def test_words_are_listed_once():
    assert len(set(WORDS)) == len(WORDS)
    assert all(word == word.lower() and word.isalpha() for word in WORDS)
