"""Several inputs on a stream, live changes, and what they amount to."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from support import HEIGHT, WIDTH, frames, opened, picture, run, shown

from vace_adapt import Reference
from vace_adapt.annotators.find import make_annotator
from vace_adapt.contract import Canvas
from vace_adapt.errors import CheckpointError, InputError, SettingsError
from vace_adapt.streaming.loop import Loop

MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[8:24, 16:40] = 255


# --- annotators on a stream -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gray", "canny", "softedge", "scribble", "flow"])
def test_streaming_equals_batch(pipe, name):
    """Annotated chunk by chunk as annotated whole."""
    fed = frames(33)
    whole = make_annotator(name, {}, Canvas(HEIGHT, WIDTH))(fed, 0)
    assert np.array_equal(shown(run(opened(pipe, controls={"structure": name}), fed)), whole)


def test_rows_have_their_own_annotators(pipe):
    a, b = frames(21, 1), frames(21, 2)
    together = run(opened(pipe, seed=[0, 0], controls={"structure": "flow"}), np.stack([a, b]))
    alone = [run(opened(pipe, controls={"structure": "flow"}), fed) for fed in (a, b)]
    for row, chunks in enumerate(alone):
        assert np.array_equal(np.concatenate([c.control[row].numpy() for c in together]), shown(chunks))


def test_after_a_gap_flow_starts_anew(pipe):
    fed = frames(21)
    with opened(pipe, controls={"structure": "flow"}) as session:
        session.feed(fed[:9])
        next(session)
        assert next(session).control is None
        session.feed(fed[9:])
        after = next(session).control[0].numpy()
    assert np.array_equal(after, make_annotator("flow", {}, Canvas(HEIGHT, WIDTH))(fed[9:], 0))


def test_a_control_from_its_options_alone_needs_no_frames(pipe):
    objects = [
        {"label": "cat", "path": [{"frame": 0, "box": (0, 0, 0.5, 0.5)}, {"frame": 20, "box": (0.5, 0.5, 1, 1)}]}
    ]
    controls = {"structure": ["layout"], "annotators": {"layout": {"objects": objects}}}
    with opened(pipe, num_frames=21, controls=controls) as session:
        chunks = list(session)
    assert all(chunk.report.controlled for chunk in chunks)
    whole = make_annotator("layout", controls["annotators"]["layout"], Canvas(HEIGHT, WIDTH))(frames(21), 0)
    assert np.array_equal(shown(chunks), whole)


def test_missing_weights_are_one_line(pipe):
    with pytest.raises(
        CheckpointError,
        match="annotator 'depth': weights 'depth-anything/Depth-Anything-V2-Small-hf' is neither a folder nor",
    ):
        opened(pipe, controls={"structure": "depth"})


# --- live changes -----------------------------------------------------------------------------------------------------


def test_what_steers_changes_at_the_next_chunk(pipe):
    fed = frames(33)
    with opened(pipe) as session:
        session.feed(fed[:20])
        first = next(session)
        session.update(controls={"structure": ["gray"]})
        session.feed(fed[20:])
        second = next(session)
    assert np.array_equal(shown([first]), fed[:9])
    assert np.array_equal(shown([second]), make_annotator("gray", {}, Canvas(HEIGHT, WIDTH))(fed[9:21], 9))


def test_annotators_that_stay_keep_what_they_have_seen(pipe):
    fed = frames(21)
    whole = make_annotator("flow", {}, Canvas(HEIGHT, WIDTH))(fed, 0)
    with opened(pipe, controls={"structure": "flow"}) as session:
        session.feed(fed)
        next(session)
        session.update(controls={"structure": [{"annotator": "flow", "scale": 0.5}], "seam": 2})
        assert np.array_equal(shown([next(session)]), whole[9:])


def test_annotators_that_come_back_before_a_chunk_have_lost_nothing(pipe):
    fed = frames(21)
    whole = make_annotator("flow", {}, Canvas(HEIGHT, WIDTH))(fed, 0)
    with opened(pipe, controls={"structure": "flow"}) as session:
        session.feed(fed)
        next(session)
        session.update(controls={"structure": ["gray"]})
        session.update(controls={"structure": ["flow"]})
        assert np.array_equal(shown([next(session)]), whole[9:])


def test_changes_while_a_chunk_is_made_hold_from_the_next_one(pipe, monkeypatch):
    """All of them, each over the others; and nothing waits for the chunk."""
    fed, target = frames(33), picture(3, HEIGHT, WIDTH)
    session = opened(pipe, num_frames=33, controls={"structure": "canny"})
    real, done = Loop.finish, []

    def make(self, chunk):
        if not done:
            giver = threading.Thread(
                target=lambda: (
                    session.update(controls={"structure": ["gray"]}),
                    session.update(controls={"preserve": "pixel", "seam": 0}),
                    session.keyframe(target, chunks=1),
                    done.append(session.describe()),
                )
            )
            giver.start()
            giver.join(timeout=30)
        return real(self, chunk)

    monkeypatch.setattr(Loop, "finish", make)
    with session:
        session.feed(fed)
        first, second = next(session), next(session)
    assert done[0].task == "gray + extension (key frame)"
    assert np.array_equal(shown([first]), make_annotator("canny", {}, Canvas(HEIGHT, WIDTH))(fed[:9], 0))
    assert np.array_equal(shown([second])[:8], make_annotator("gray", {}, Canvas(HEIGHT, WIDTH))(fed[9:17], 9))
    assert np.array_equal(second.frames[0, 11], target)


def test_a_refused_change_changes_nothing(pipe):
    with opened(pipe) as session:
        session.feed(frames(9))
        for given, error, text in (
            ({"structure": ["gary"]}, Exception, r"no annotator 'gary' .*did you mean 'gray'"),
            (
                {"reference_form": "joint"},
                SettingsError,
                r"controls\.reference_form cannot change inside a stream; what can is structure",
            ),
            (
                {"preserve": "all"},
                SettingsError,
                r"controls\.preserve: must be 'model', 'latent' or 'pixel', not 'all'",
            ),
            (
                {"preserve": "latent"},
                SettingsError,
                r"controls\.preserve=latent holds for a whole stream: open it with it",
            ),
            (["canny"], SettingsError, r"controls: must be options by name, not \['canny'\]"),
            ({"structur": []}, SettingsError, r"controls\.structur: unknown key; did you mean 'structure'\?"),
        ):
            with pytest.raises(error, match=text):
                session.update(controls=given)
        assert np.array_equal(shown([next(session)]), frames(9))


def test_of_the_mask_only_what_is_named_changes(pipe):
    box = {"mask_box": {"box": (0, 0, 0.5, 1)}}
    with opened(pipe, controls={"structure": [], "mask": {"annotator": "mask_box"}, "annotators": box}) as session:
        session.update(controls={"mask": {"invert": True}})
        session.feed(frames(9))
        mask = next(session).mask[0].numpy()
    assert not mask[..., :24].any()
    assert mask[..., 24:].all()


def test_of_annotators_only_what_is_named_changes(pipe):
    fed = frames(9)
    with opened(pipe, controls={"structure": ["gray"], "annotators": {"gray": {"order": "bgr"}}}) as session:
        session.update(controls={"annotators": {"canny": {"low": 5}}})
        session.feed(fed)
        made = shown([next(session)])
    assert np.array_equal(made, make_annotator("gray", {"order": "bgr"}, Canvas(HEIGHT, WIDTH))(fed, 0))


def test_waiting_frames_that_a_change_leaves_unused(pipe):
    with opened(pipe) as session:
        session.feed(frames(9))
        session.update(controls={"structure": []})
        with pytest.raises(InputError, match="the frames would not be used"):
            next(session)
        session.update(controls={"structure": ["plain"]})
        assert next(session).report.controlled


def test_several_videos(pipe):
    controls = {
        "structure": [
            {"annotator": "plain", "video": "depth", "region": (0, 0, 0.5, 1)},
            {"annotator": "gray", "region": (0.5, 0, 1, 1)},
        ]
    }
    fed, depth = frames(9, 1), frames(9, 2)
    made = shown(run(opened(pipe, controls=controls), fed, videos={"depth": depth}))
    half = WIDTH // 2
    assert np.array_equal(made[:, :, :half], depth[:, :, :half])
    assert np.array_equal(made[:, :, half:], make_annotator("gray", {}, Canvas(HEIGHT, WIDTH))(fed, 0)[:, :, half:])
    with (
        opened(pipe, controls=controls) as session,
        pytest.raises(InputError, match="video 'depth' has 8 frames, control 9"),
    ):
        session.feed(fed, videos={"depth": depth[:8]})
    with opened(pipe) as session, pytest.raises(InputError, match="nothing is fed: give frames, or videos by name"):
        session.feed(None)


# --- in words ---------------------------------------------------------------------------------------------------------


def test_describe_follows_the_stream(pipe):
    with opened(pipe, num_frames=33, references=[Reference(picture(), role="face")]) as session:
        assert session.describe().task == "reference (face)"
        session.feed(frames(9), MASK)
        session.keyframe(picture(1, HEIGHT, WIDTH), end=-1)
        description = session.describe()
        assert description.task == "reference (face) + control video + inpainting (mask fed) + extension (last frame)"
        assert str(description).splitlines()[1:] == [
            "input                    feeds                      chunks",
            "reference 0 (face)       its own context rows       0-2",
            "input, where it is kept  inactive 0-15              0",
            "control video            reactive 16-31             0",
            "mask (mask fed)          mask 32-95                 0",
            "keyframe at frame 32     inactive 0-15, mask 32-95  2 (filling frames 29-32)",
        ]
        next(session)
        session.update(references=[], controls={"structure": ["gray"]})
        assert session.describe().task == "extension (last frame)"
