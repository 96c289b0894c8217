"""Several inputs on a stream, live changes, keyframes, and what is kept."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from support import HEIGHT, WIDTH, distance, frames, opened, picture, same

from vace_adapt import Reference, load_pipeline
from vace_adapt.annotators.find import make_annotator
from vace_adapt.conditioning.vae import EncoderStream
from vace_adapt.contract import Canvas, Capability, Support
from vace_adapt.errors import CheckpointError, InputError, SettingsError, Unsupported
from vace_adapt.streaming.loop import Loop

MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[8:24, 16:40] = 255


def run(session, fed, mask=None, **options):
    """All chunks of a stream that is fed at once."""
    with session:
        session.feed(fed, mask, last=True, **options)
        return list(session)


def shown(chunks):
    """What VACE was shown: uint8 [T, H, W, 3]."""
    return np.concatenate([chunk.control[0].numpy() for chunk in chunks])


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


def test_changes_while_a_chunk_is_made_hold_from_the_next_one(pipe, monkeypatch):
    """All of them, each over the others; and nothing waits for the chunk."""
    fed, target = frames(33), picture(3, HEIGHT, WIDTH)
    session = opened(pipe, num_frames=33, controls={"structure": "canny"})
    real, done = Loop.make, []

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

    monkeypatch.setattr(Loop, "make", make)
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


# --- keyframes --------------------------------------------------------------------------------------------------------


def test_land_on_a_picture_in_some_chunks(pipe):
    target = picture(3, HEIGHT, WIDTH)
    with opened(pipe) as session:
        next(session)
        session.keyframe(target, chunks=2)
        assert next(session).control is None
        landing = next(session)
    mask = landing.mask[0].numpy()
    assert [t for t in range(12) if not mask[t].any()] == [8, 9, 10, 11]
    assert all(np.array_equal(landing.control[0, t], target) for t in range(8, 12))
    assert landing.report.controlled


def test_a_clip_over_two_chunks(pipe):
    clip = frames(8, 5)
    with opened(pipe, num_frames=21, controls={"anchor": "frame"}) as session:
        session.keyframe(clip, frame=5)
        chunks = list(session)
    made, mask = shown(chunks), np.concatenate([c.mask[0].numpy() for c in chunks])
    assert np.array_equal(made[5:13], clip)
    assert [t for t in range(21) if not mask[t].any()] == list(range(5, 13))


def test_a_keyframe_over_fed_frames(pipe):
    fed, target = frames(9), picture(3, HEIGHT, WIDTH)
    with opened(pipe, num_frames=9) as session:
        session.feed(fed)
        session.keyframe(target, frame=0)
        (chunk,) = session
    assert np.array_equal(chunk.control[0], np.concatenate([target[None], fed[1:]]))
    assert np.array_equal(chunk.mask[0, :, 0, 0], [0] + [255] * 8)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "a keyframe needs exactly one place: frame, end or chunks"),
        ({"frame": 1, "end": 2}, "a keyframe needs exactly one place: frame, end or chunks"),
        ({"frame": 5}, "a keyframe at frame 5 is too late: the next frame to be made is 9"),
        ({"frame": 1.5}, "frame must be a whole number, not 1.5"),
        ({"chunks": "a"}, "chunks must be a whole number, not 'a'"),
        ({"chunks": 0}, r"chunks must be at least 1 \(the next chunk\), not 0"),
        ({"end": -30}, "keyframes that end with frame -9 would begin with frame -9, before the stream"),
        ({"end": 21}, "a keyframe at frame 21 is past the end: 21 frames are made"),
        ({"frame": 25}, "a keyframe at frame 25 is past the end: 21 frames are made"),
    ],
)
def test_places_that_are_refused(pipe, place, text):
    with opened(pipe, num_frames=21) as session:
        next(session)
        with pytest.raises(InputError, match=text):
            session.keyframe(picture(0, HEIGHT, WIDTH), **place)
        assert not next(session).report.controlled


def test_a_keyframe_past_the_end_of_the_control(pipe):
    with opened(pipe, num_frames=33) as session:
        session.keyframe(picture(0, HEIGHT, WIDTH), end=-1)
        with pytest.raises(InputError, match="a keyframe at frame 32 is past the end: the control ends after 9 frames"):
            session.feed(frames(9), last=True)
        session.feed(frames(33), last=True)
    with opened(pipe) as session:
        session.feed(frames(9), last=True)
        with pytest.raises(InputError, match="a keyframe at frame 9 is past the end: the control ends after 9 frames"):
            session.keyframe(picture(0, HEIGHT, WIDTH), frame=9)
        assert next(session).report.controlled


def test_from_the_end_of_a_stream_without_end(pipe):
    with (
        opened(pipe) as session,
        pytest.raises(
            InputError, match="end=-1 counts from the end of a stream, and this one has none: give num_frames"
        ),
    ):
        session.keyframe(picture(0, HEIGHT, WIDTH), end=-1)


def test_pictures_of_another_size(pipe, tmp_path):
    from PIL import Image

    with opened(pipe, num_frames=9) as session:
        with pytest.raises(InputError, match=r"keyframe is 40x30 \(height x width\), the stream is 32x48"):
            session.keyframe(picture(), frame=0)
        session.keyframe(Image.fromarray(picture()), frame=0)
        assert next(session).report.controlled


# --- what is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seam", [0, 4])
def test_kept_pixels_come_out_bit_for_bit(pipe, seam):
    fed = frames(33)
    chunks = run(opened(pipe, controls={"structure": [], "preserve": "pixel", "seam": seam}), fed, MASK)
    made = np.concatenate([chunk.frames[0].numpy() for chunk in chunks])
    assert np.array_equal(made[:, MASK == 0], fed[:, MASK == 0])
    model = run(opened(pipe, controls={"structure": []}), fed, MASK)
    plain = np.concatenate([chunk.frames[0].numpy() for chunk in model])
    inside = MASK > 0
    inside[8 : 8 + seam] = inside[24 - seam : 24] = False
    inside[:, 16 : 16 + seam] = inside[:, 40 - seam : 40] = False
    assert np.array_equal(made[:, inside], plain[:, inside])
    assert not np.array_equal(plain[:, MASK == 0], fed[:, MASK == 0])


def test_kept_latents_are_the_sources(pipe):
    fed = frames(33)
    chunks = run(opened(pipe, controls={"structure": [], "preserve": "latent"}), fed, MASK)
    pixels = torch.from_numpy(fed).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    zeros = pipe.codec.zero_video((1, HEIGHT, WIDTH))
    encoded = pipe.codec.normalise(EncoderStream(pipe.codec, zeros).encode(pixels))
    latents = torch.cat([chunk.latents for chunk in chunks], dim=2)
    kept = torch.from_numpy(MASK.reshape(HEIGHT // 8, 8, WIDTH // 8, 8).max(axis=(1, 3)) == 0)
    assert distance([latents[..., kept]], [encoded[..., kept]]) < 1e-5
    assert (latents[..., ~kept] - encoded[..., ~kept]).abs().min() > 0
    assert 0 < kept.sum() < kept.numel()


def test_a_latent_of_which_any_pixel_is_generated_is_not_kept(pipe):
    mask = np.zeros((9, HEIGHT, WIDTH), np.uint8)
    mask[6, 9, 17] = 255
    keep = {"structure": [], "preserve": "latent"}
    with opened(pipe, num_frames=9, controls=keep) as session:
        session.feed(frames(9), mask)
        made = next(session).latents
    with opened(pipe, num_frames=9, controls=keep) as session:
        session.feed(frames(9), np.zeros((HEIGHT, WIDTH), np.uint8))
        whole = next(session).latents
    changed = (made != whole).any(dim=1)[0]
    assert changed.nonzero().tolist() == [[2, 1, 2]]


def test_nothing_kept_is_nothing_changed(pipe):
    fed = frames(9)
    for preserve in ("latent", "pixel"):
        kept = run(opened(pipe, controls={"preserve": preserve}), fed)
        assert same([c.latents for c in kept], [c.latents for c in run(opened(pipe), fed)])


def test_a_loop_that_does_not_keep():
    pipe = load_pipeline("longlive", device="cpu")
    declared = Capability(support=Support.NOT_IMPLEMENTED, reason="its loop is closed")
    capabilities = {**pipe.hooks.info.capabilities, "preserve_latents": declared}
    pipe.hooks.info = pipe.hooks.info.model_copy(update={"capabilities": capabilities})
    with pytest.raises(
        Unsupported, match="pipeline 'longlive': preserve_latents is not implemented: its loop is closed"
    ):
        opened(pipe, controls={"preserve": "latent"})


def test_a_keyframe_is_exact_and_its_group_does_not_stand_still(pipe):
    target = picture(3, HEIGHT, WIDTH)
    with opened(pipe, num_frames=9, controls={"preserve": "pixel"}) as session:
        session.keyframe(target, frame=6)
        made = next(session).frames[0].numpy()
    assert [t for t in range(9) if np.array_equal(made[t], target)] == [6]


def test_pixels_without_a_picture_cannot_be_kept(pipe):
    outpaint = {"left": 0.25, "inner": True, "vace_edge": True}
    with pytest.raises(
        SettingsError, match=r"outpaint\.vace_edge keeps pixels without a picture, so preserve=pixel cannot"
    ):
        opened(pipe, controls={"structure": [], "outpaint": outpaint, "preserve": "pixel"})


# --- room around the source -------------------------------------------------------------------------------------------


def test_the_source_is_placed_and_the_size_stays(pipe):
    controls = {"structure": [], "outpaint": {"left": 0.25, "right": 0.25}, "preserve": "pixel", "seam": 0}
    with opened(pipe, num_frames=9, controls=controls) as session:
        assert session.source_size == (HEIGHT, 32)
        fed = frames(9, width=32)
        session.feed(fed)
        (chunk,) = session
    assert chunk.frames.shape == (1, 9, HEIGHT, WIDTH, 3)
    assert np.array_equal(chunk.frames[0, :, :, 8:40].numpy(), fed)
    with (
        opened(pipe, controls=controls) as session,
        pytest.raises(
            InputError, match=r"control is 32x48 \(height x width\), its source \(controls\.outpaint\) is 32x32"
        ),
    ):
        session.feed(frames(9))


# --- references -------------------------------------------------------------------------------------------------------


def test_a_subject_is_cut_out_and_stands_on_white(pipe):
    image = np.full((40, 60, 3), 30, np.uint8)
    image[10:30, 20:40] = (250, 10, 10)
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 255
    cut = Reference(np.full((20, 20, 3), (250, 10, 10), np.uint8))
    letterboxed = {"controls": {"reference_fit": "letterbox"}}
    made = []
    for reference, options in (
        (cut, letterboxed),
        (Reference(image, mask=mask), {}),
        (Reference(image, box=(1 / 3, 0.25, 2 / 3, 0.75)), {}),
        (Reference(image, background="remove"), {}),
        (image, {"controls": {"reference_background": "remove"}}),
    ):
        with opened(pipe, num_frames=9, references=[reference], **options) as session:
            made.append(next(session).latents)
    assert all(torch.equal(made[0], other) for other in made[1:])


@pytest.mark.parametrize("box", ["abc", 5, (0, 0, 1), (0, 0, 1, "a")])
def test_boxes_that_are_none(box):
    with pytest.raises(InputError, match="box of a reference must be 4 numbers, left, top, right, bottom, not "):
        Reference(picture(), box=box)


def test_references_that_cannot_be_cut(pipe):
    with pytest.raises(InputError, match="background of a reference must be keep or remove, not 'remov'"):
        Reference(picture(), background="remov")
    with pytest.raises(InputError, match="a reference has a mask and a box: give one of them"):
        Reference(picture(), mask=MASK, box=(0, 0, 1, 1))
    with pytest.raises(InputError, match=r"reference 0: mask must be uint8 \[40, 30\], not uint8 \[32, 48\]"):
        opened(pipe, references=[Reference(picture(), mask=MASK)])


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
