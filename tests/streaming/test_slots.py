"""References in reserved slots of the base's memory: what the base sees, what it remembers, what stays as it was."""

from __future__ import annotations

import pytest
import slots
import torch
from slots import ONE, TOKENS
from support import distance, frames, opened, picture, same, stream
from torch._dynamo.utils import counters

from vace_adapt import ControlSettings, Reference, load_pipeline
from vace_adapt.contract import Capability, HintSource, Support
from vace_adapt.errors import InputError, SettingsError, Unsupported
from vace_adapt.streaming.chunk import SessionChunk

# --- oracles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        {"chunks": 3},
        {"references": 3, "control": False},
        {"references": 2, "form": "joint"},
        {"scale": 0.5},
        {"references": 2, "slots": 4},
    ],
    ids=str,
)
def test_the_flow_is_that_of_one_pass_over_references_and_chunk(pipe, case):
    slots.flow_is_that_of_one_pass(pipe, **case)


def test_slots_equal_recomputed_ones_bit_for_bit(pipe):
    slots.slots_equal_recomputed_ones(pipe)


def test_the_base_runs_over_references_once(pipe):
    slots.base_runs_over_references_once(pipe)


def test_clean_passes_do_not_see_slots(pipe):
    slots.clean_passes_do_not_see_slots(pipe)


def test_recaches_do_not_see_slots(pipe):
    slots.recaches_do_not_see_slots(pipe)


def test_slots_without_a_reference_are_not_seen(pipe):
    slots.slots_without_a_reference_are_not_seen(pipe)


def test_a_batch_of_two_equals_two_streams(pipe):
    slots.a_batch_of_two_equals_two_streams(pipe)


def test_interleaved_streams_do_not_meet(pipe):
    slots.interleaved_streams_do_not_meet(pipe)


def test_nothing_grows(pipe):
    slots.nothing_grows(pipe, chunks=70, settled=60)


# --- what is felt ------------------------------------------------------------------------------------------------------


def test_slots_are_felt(pipe):
    references = [picture(0), picture(1)]
    plain = stream(pipe, 2, references=references)
    two = stream(pipe, 2, references=references, controls={"reference_slots": 2})
    assert distance(plain, two) > 0.01
    assert distance(two, stream(pipe, 2, references=references[::-1], controls={"reference_slots": 2})) > 0.01


def test_with_hints_the_clean_pass_sees_them_too(pipe, monkeypatch):
    """What was cached under `with_hints` differs if its clean pass sees no slots."""
    options = {"controls": {"reference_slots": 1, "kv_policy": "with_hints"}, "references": [picture()]}
    seen = stream(pipe, 2, **options)
    real = SessionChunk.clean_pass
    monkeypatch.setattr(SessionChunk, "clean_pass", lambda self, sigma: HintSource(real(self, sigma).hints))
    unseen = stream(pipe, 2, **options)
    assert torch.equal(seen[0], unseen[0])
    assert not torch.equal(seen[1], unseen[1])


def test_references_that_come_and_go_equal_streams_that_always_had_them(pipe):
    """The base's memory is the same for both, so only what is in force can differ."""
    with opened(pipe, references=[picture(1), picture(2)], controls={"reference_slots": 2}) as session:
        next(session)
        session.update(references=[])
        next(session)
        kept = session.cache.snapshot()
        session.update(references=[picture(3)])
        changed = next(session).latents
        assert not changed.isnan().any()
    with opened(pipe, references=[picture(3)], controls={"reference_slots": 2}) as session:
        for _ in range(2):
            next(session)
        session.cache.restore(kept)
        assert torch.equal(next(session).latents, changed)


def test_the_memory_can_be_put_back_and_reset(pipe):
    with opened(pipe, references=[picture()], controls=ONE) as session:
        assert session.cache.layout.references == 1
        next(session)
        kept = session.cache.snapshot()
        held = {name: tensor.clone() for name, tensor in session.cache.tensors().items()}
        session.update(references=[picture(1)])
        next(session)
        assert not torch.equal(session.cache.tensors()["slots.keys"], held["slots.keys"])
        session.cache.restore(kept)
        assert all(torch.equal(tensor, held[name]) for name, tensor in session.cache.tensors().items())
        session.cache.reset()
        assert not any(tensor.any() for tensor in session.cache.tensors().values())


@pytest.mark.parametrize(("kv_policy", "passes"), [("hint_free", 4), ("with_hints", 5)])
def test_what_is_reserved(pipe, kv_policy, passes):
    """One frame of keys and values for each pass that sees a slot, and one beside the frame slots."""
    bytes_of = {}
    for count in (0, 2):
        controls = {"reference_slots": count, "kv_policy": kv_policy}
        with opened(pipe, num_frames=9, controls=controls) as session:
            bytes_of[count] = next(session).report.cache_bytes
            ring = session.cache.ring
            frame = 2 * ring.keys[:, :, :TOKENS].numel() * 4
    assert bytes_of[2] - bytes_of[0] == 2 * (passes + 1) * frame


# --- positions relative to the window, compiled, in bfloat16 --------------------------------------------------------------


def test_relative_positions_agree_until_the_window_slides():
    absolute, relative = (
        stream(
            load_pipeline("longlive", seed=0, settings={"rope": rope}, device="cpu"),
            6,
            references=[picture()],
            controls={"reference_slots": 2},
        )
        for rope in ("absolute", "relative")
    )
    assert distance(absolute[:4], relative[:4]) < 1e-4
    assert distance(absolute[4:], relative[4:]) > 1e-3


@pytest.mark.parametrize("rope", ["absolute", "relative"])
def test_compiled_blocks_have_one_graph_of_a_kind(rope):
    plain, compiled = (load_pipeline("longlive", seed=0, settings={"rope": rope}, device="cpu") for _ in range(2))
    options = {"references": [picture(), picture(1)], "controls": {"reference_slots": 3}}
    torch._dynamo.reset()
    counters.clear()
    compiled.compile(backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        made = stream(compiled, 6, **options)
    assert distance(made, stream(plain, 6, **options)) < 1e-5
    assert counters["stats"]["unique_graphs"] == 2
    torch._dynamo.reset()


def test_bfloat16_follows_float32(pipe):
    half = load_pipeline("longlive", seed=0, device="cpu", dtype="bfloat16")
    options = {"references": [picture()], "controls": ONE}
    found, expected = stream(half, 3, **options), stream(pipe, 3, **options)
    assert distance([chunk.float() for chunk in found], expected) < 0.1 * max(float(c.abs().max()) for c in expected)


# --- mistakes ----------------------------------------------------------------------------------------------------------


def test_more_references_than_slots_are_refused_and_nothing_changes(pipe):
    text = r"2 references are given, the stream has slots for 1 \(controls\.reference_slots\)"
    two = [picture(), picture(1)]
    with pytest.raises(InputError, match=text):
        opened(pipe, references=two, controls=ONE)
    with opened(pipe, references=[picture()], controls=ONE, num_frames=21) as session:
        session.feed(frames(21), last=True)
        made = [next(session).latents.clone()]
        with pytest.raises(InputError, match=text):
            session.update(references=two, prompt="a dog")
        made.append(next(session).latents.clone())
    assert same(made, stream(pipe, 2, references=[picture()], controls=ONE))


def test_a_reference_of_scale_zero_takes_no_slot(pipe):
    silent = [Reference(picture(1), scale=0.0), picture()]
    alone = stream(pipe, 1, references=[picture()], controls=ONE)
    assert same(stream(pipe, 1, references=silent, controls=ONE), alone)


@pytest.mark.parametrize(
    ("controls", "text"),
    [
        (
            {"reference_slots": 1, "reference_form": "references_only"},
            r"controls: reference_form=references_only has no reference rows, so reference_slots must be 0",
        ),
        (
            {"reference_slots": 5},
            r"reference_slots 5 are more than the 4 references that are allowed \(max_references\)",
        ),
        ({"reference_slots": -1}, r"controls\.reference_slots: must be greater than or equal to 0, not -1"),
    ],
)
def test_options_that_cannot_be(pipe, controls, text):
    with pytest.raises(SettingsError, match=text):
        opened(pipe, controls=controls)


def test_slots_cannot_change_inside_a_stream(pipe):
    with (
        opened(pipe) as session,
        pytest.raises(SettingsError, match=r"controls\.reference_slots cannot change inside a stream; what can is"),
    ):
        session.update(controls={"reference_slots": 1})


def test_a_pipeline_that_does_not_offer_them():
    pipe = load_pipeline("longlive", seed=0, device="cpu")
    declared = Capability(support=Support.NOT_IMPLEMENTED, reason="its cache is closed")
    capabilities = {**pipe.hooks.info.capabilities, "reference_slots": declared}
    pipe.hooks.info = pipe.hooks.info.model_copy(update={"capabilities": capabilities})
    with pytest.raises(
        Unsupported, match="^pipeline 'longlive': reference_slots is not implemented: its cache is clos"
    ):
        opened(pipe, controls=ONE)


def test_without_control_weights_nothing_is_reserved(base):
    with opened(base, controls=ControlSettings(reference_slots=2)) as session:
        assert session.cache.slots is None
        assert session.cache.layout.references == 0


def test_describe_says_where_references_go(pipe):
    with opened(pipe, references=[picture()], controls=ONE) as session:
        assert session.describe().uses[0].feeds == "its own context rows and a cache slot"
