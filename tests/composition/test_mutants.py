"""Every check of what VACE is fed can fail: a composition broken in one place is caught by the check beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from composition import test_composer as composing
from streaming import test_controls as streams
from streaming import test_preserving as preserving
from support import patch

from vace_adapt.composition import composer as composer_module
from vace_adapt.composition import steering
from vace_adapt.composition.anchors import Anchors
from vace_adapt.composition.composer import Composer
from vace_adapt.composition.pool import AnnotatorPool
from vace_adapt.streaming import making
from vace_adapt.streaming.preserving import Kept, SourceLatents


def nothing_filled(real):
    return lambda self, placed, chunk: placed


def first_of_the_group(real):
    def filled(self, placed, chunk):
        made = real(self, placed, chunk)
        return {frame: made[min(other for other in made if (other - 1) // 4 == (frame - 1) // 4)] for frame in made}

    return filled


def never_dropped_early(real):
    return lambda self, pictures, mask, frame, next_chunk: real(self, pictures, mask, frame, 0)


def anchors_below(real):
    return lambda anchored, kept, mask: (kept, mask)


def mask_of_anchors_ignored(real):
    def over(anchored, kept, mask):
        whole = replace(anchored, mask=torch.zeros_like(anchored.mask))
        return real(whole, kept, mask)

    return over


def kept_under_the_mask(real):
    return lambda self, chunk, kept, mask, steering: real(
        self, chunk, kept, None if mask is None else 1 - mask, steering
    )


def scales_in_the_kept_region(real):
    return lambda steering, mask: real(steering, None)


def weights_ignored(real):
    def call(self, *given):
        self._structures = tuple(s.model_copy(update={"weight": 1.0}) for s in self._structures)
        return real(self, *given)

    return call


def regions_ignored(real):
    return lambda self, structure: torch.ones_like(real(self, structure))


def never_paused(real):
    def rows(self, *given):
        made = real(self, *given)
        for annotator in made:
            annotator.pause = lambda: None
        return made

    return rows


def shared_by_rows(real):
    def rows(self, *given):
        made = real(self, *given)
        return made[:1] * len(made)

    return rows


def never_taken_over(real):
    return lambda self, canvas, batch, before=(): real(self, canvas, batch)


def kept_if_any_pixel_is(real):
    def where(self, chunk, mask):
        return real(
            self,
            chunk,
            torch.nn.functional.avg_pool3d(mask, (1, 8, 8)).repeat_interleave(8, 3).repeat_interleave(8, 4).floor(),
        )

    return where


def kept_everywhere(real):
    return lambda self, latents: self.latents.to(latents.dtype)


def seam_inside(real):
    return lambda frames, composed, seam: real(frames, composed, seam + 1)


def no_pixels_kept(real):
    return lambda frames, composed, seam: frames


MUTANTS = [
    (patch(Anchors, "_filled", nothing_filled), composing.test_an_anchor_fills_the_group_it_is_encoded_with, (7,)),
    (patch(Anchors, "_filled", first_of_the_group), composing.test_two_pictures_in_a_group_share_it, ()),
    (patch(Anchors, "add", never_dropped_early), composing.test_too_late, ()),
    (
        patch(composer_module, "_over", anchors_below),
        composing.test_an_extension_over_anything_as_vace_composes_it,
        ("depth",),
    ),
    (
        patch(composer_module, "_over", mask_of_anchors_ignored),
        composing.test_an_extension_over_anything_as_vace_composes_it,
        ("depth",),
    ),
    (patch(Composer, "_finished", kept_under_the_mask), composing.test_inpainting_as_vace_has_it, ()),
    (
        patch(composer_module, "_where_generated", scales_in_the_kept_region),
        composing.test_scales_by_token_and_step,
        (),
    ),
    (
        patch(steering.Steered, "__call__", weights_ignored),
        composing.test_controls_over_each_other_are_averaged_by_weight_and_scale,
        (),
    ),
    (patch(steering.Steered, "_region", regions_ignored), composing.test_controls_side_by_side, ()),
    (patch(AnnotatorPool, "rows", never_paused), streams.test_after_a_gap_flow_starts_anew, ("pipe",)),
    (patch(AnnotatorPool, "rows", shared_by_rows), streams.test_rows_have_their_own_annotators, ("pipe",)),
    (
        patch(AnnotatorPool, "__init__", never_taken_over),
        streams.test_annotators_that_stay_keep_what_they_have_seen,
        ("pipe",),
    ),
    (
        patch(SourceLatents, "_kept_latents", kept_if_any_pixel_is),
        preserving.test_a_latent_of_which_any_pixel_is_generated_is_not_kept,
        ("pipe",),
    ),
    (patch(Kept, "into", kept_everywhere), preserving.test_kept_latents_are_the_sources, ("pipe",)),
    (patch(making, "keep_pixels", seam_inside), preserving.test_kept_pixels_come_out_bit_for_bit, ("pipe", 4)),
    (patch(making, "keep_pixels", no_pixels_kept), preserving.test_kept_pixels_come_out_bit_for_bit, ("pipe", 0)),
]


@pytest.mark.parametrize(("mutant", "check", "given"), MUTANTS, ids=lambda part: getattr(part, "__name__", ""))
def test_a_mutant_is_caught(mutant, check, given, pipe, monkeypatch):
    mutant(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(*(pipe if one == "pipe" else one for one in given))
