"""References of different scales, given to a stream."""

from __future__ import annotations

import levels
import pytest
import torch
from levels import SHAPE, equal, hints, images
from support import distance, frames, opened, picture, same, stream
from torch._dynamo.utils import counters

from vace_adapt import HintScale, load_pipeline
from vace_adapt.conditioning.encoder import ControlEncoder
from vace_adapt.conditioning.references import Reference
from vace_adapt.errors import InputError


def test_hints_are_the_integral_over_levels(pipe):
    levels.hints_are_the_integral_over_levels(pipe)


def test_a_map_is_a_scale_for_every_token(pipe):
    levels.a_map_is_a_scale_for_every_token(pipe)


def test_a_map_of_zeros_is_no_control_and_is_not_encoded(pipe, monkeypatch):
    expected = hints(pipe, fed=False, images=images(1))
    monkeypatch.setattr(ControlEncoder, "control", None)
    zeros = torch.zeros(1, *SHAPE)
    assert equal(hints(pipe, images=images(1), factors=zeros), expected)
    assert hints(pipe, factors=zeros) == {}


@pytest.mark.parametrize("form", ["joint", "cached", "references_only"])
def test_a_reference_of_scale_zero_is_not_there_bit_for_bit(pipe, form):
    options = {"control": form != "references_only", "controls": {"reference_form": form}}
    silent, heard = Reference(picture(0), 0.0), picture(1)
    alone = stream(pipe, 1, references=[heard], **options)
    assert same(stream(pipe, 1, references=[silent, heard], **options), alone)
    assert not same(stream(pipe, 1, references=[Reference(picture(0), 0.1), heard], **options), alone)
    assert same(stream(pipe, 1, references=[silent], **options), stream(pipe, 1, **options))


def test_scales_of_references_are_on_top_of_the_streams(pipe):
    given = [Reference(picture(0), 0.25), Reference(picture(1), 0.5)]
    found = stream(pipe, 1, references=given, scale=HintScale(control=0.5, references=2.0))
    doubled = [Reference(picture(0), 0.5), Reference(picture(1), 1.0)]
    assert same(found, stream(pipe, 1, references=doubled, scale=HintScale(control=0.5)))
    equal_scales = [Reference(picture(i), 0.5) for i in range(2)]
    plain = [picture(i) for i in range(2)]
    assert same(
        stream(pipe, 1, references=equal_scales, scale=HintScale(control=0.5)),
        stream(pipe, 1, references=plain, scale=0.5),
    )


def test_references_are_counted_and_remembered_as_heard(pipe):
    with opened(pipe, references=[Reference(picture(0), 0.0), picture(1), Reference(picture(2), 0.5)]) as session:
        session.feed(frames(45), last=True)
        first, second = next(session).report, next(session).report
        assert first.references == 2
        assert first.cache_bytes == second.cache_bytes
        session.update(references=[picture(1), picture(2)])
        even = next(session).report
        assert even.cache_bytes < first.cache_bytes, "no memory for the stronger one alone"
        session.update(references=[Reference(picture(0), 0.0)])
        none = next(session).report
        assert none.references == 0
        assert even.cache_bytes - none.cache_bytes == 2 * (first.cache_bytes - even.cache_bytes)


def test_references_of_scale_zero_leave_room_for_a_control(pipe):
    """In the form that has no place for both."""
    options = {"controls": {"reference_form": "references_only"}}
    fed = stream(pipe, 1, **options)
    assert same(stream(pipe, 1, references=[Reference(picture(), 0.0)], **options), fed)
    assert same(stream(pipe, 1, references=[picture()], scale=HintScale(references=0.0), **options), fed)


@pytest.mark.parametrize("scale", [-0.1, 101, float("nan"), "strong", None])
def test_scales_of_references_that_make_no_sense(scale):
    with pytest.raises(InputError) as caught:
        Reference(picture(), scale)
    assert str(caught.value) == f"scale of a reference must be within 0..100, not {scale!r}"


def test_rows_must_agree_on_the_scales(pipe):
    rows = [[Reference(picture(0), 0.5), picture(1)], [picture(2), picture(3)]]
    with pytest.raises(InputError) as caught:
        opened(pipe, seed=[1, 2], references=rows)
    assert str(caught.value) == "rows have references of different scales, (0.5, 1.0) and (1.0, 1.0)"
    opened(pipe, seed=[1, 2], references=[[Reference(picture(0), 0.5)], [Reference(picture(1), 0.5)]])


def test_one_reference_is_no_list(pipe):
    with pytest.raises(InputError, match="references must be a list of images, not one image"):
        opened(pipe, references=Reference(picture()))


def test_compiled_blocks_serve_every_set_of_references_with_one_graph(pipe):
    given = [Reference(picture(0), 0.5), picture(1)]
    compiled = load_pipeline("longlive", seed=0, device="cpu", dtype="float32").compile(backend="aot_eager")
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = stream(compiled, 3, references=given)
    assert distance(found, stream(pipe, 3, references=given)) < 1e-5
    assert counters["stats"]["unique_graphs"] == 2, "the base's block and the context block"
    torch._dynamo.reset()
