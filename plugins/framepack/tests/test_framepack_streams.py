"""Control in a stream: where hints go, what they leave alone, and what a stream holds."""

from __future__ import annotations

import pytest
import torch
from support import distance, frames, picture, same

from vace_adapt import load_pipeline

SIZE = {"height": 32, "width": 48}


def opened(seed=0, **settings):
    return load_pipeline("framepack", seed=seed, device="cpu", dtype="float32", settings=settings)


@pytest.fixture(scope="module")
def pipe():
    return opened(guidance=1.0)


def run(pipe, sections=2, *, control=True, mask=None, **options):
    with pipe.stream(**{"prompt": "a red ball", "seed": 0, "num_frames": 33 * sections, **SIZE, **options}) as session:
        if control:
            session.feed(frames(33 * sections), mask, last=True)
        return list(session)


def latents(chunks):
    return [chunk.latents for chunk in chunks]


class Watch:
    """What enters and leaves every block of a model, pass by pass."""

    def __init__(self, model):
        self.entered, self.left, self.tokens = [], [], 0
        self.handles = []
        for index, block in enumerate(model.blocks):
            self.handles += [
                block.register_forward_pre_hook(lambda _, args, i=index: self._enter(i, args)),
                block.register_forward_hook(lambda _, args, out: self.left.append(out.clone())),
            ]

    def _enter(self, index, args):
        self.tokens = args[4]
        self.entered.append((index, args[0].clone(), args[1].clone()))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for handle in self.handles:
            handle.remove()


def watched(pipe, **options):
    with Watch(pipe.parts.model) as watch:
        made = run(pipe, **options)
    return watch, made


def test_hints_touch_only_the_rows_of_the_section(pipe):
    """Up to the first injected block all is bit-equal; behind it exactly the last rows differ, before attention mixes."""
    bare, _ = watched(pipe, sections=1, control=False)
    steered, _ = watched(pipe, sections=1)
    first, second = (watch.entered for watch in (bare, steered))
    assert torch.equal(first[0][1], second[0][1])
    assert pipe.context.layers[0] == 0
    own = bare.tokens
    assert 0 < own < first[1][1].shape[1]
    changed = (first[1][1] != second[1][1]).any(dim=2)[0]
    assert not changed[:-own].any()
    assert changed[-own:].all()
    assert torch.equal(first[1][2], second[1][2])
    later = (first[2][1] != second[2][1]).any(dim=2)[0]
    assert later[:-own].any(), "history rows feel the control through attention"


def test_history_tokens_are_those_of_the_bare_base(pipe):
    """Whatever steers a section, the history that enters block 0 is embedded from the latents alone."""
    _, made = watched(pipe, sections=2)
    held = made[0].latents
    with pipe.stream("a red ball", seed=0, num_frames=66, **SIZE) as session:
        session.feed(frames(66), last=True)
        next(session)
        assert torch.equal(session.cache.tensors()["history"][:, :, -9:], held)
        assert torch.equal(session.cache.tensors()["start"], held[:, :, :1])


def test_references_and_controls_change_no_size(pipe):
    sizes = set()
    for options in (
        {"control": False},
        {},
        {"references": [picture()]},
        {"references": [picture(i) for i in range(3)]},
    ):
        watch, made = watched(pipe, sections=2, **options)
        sizes.add((tuple(entry[1].shape for entry in watch.entered), tuple(tuple(c.latents.shape) for c in made)))
    assert len(sizes) == 1


def test_history_bytes_are_constant_over_fifty_sections():
    pipe, sizes = opened(steps=1, guidance=1.0), set()
    with pipe.stream("a red ball", height=16, width=16) as session:
        for index in range(50):
            if index == 20:
                session.update(references=[picture()])
            if index % 7 == 0:
                session.feed(frames(33, height=16, width=16))
            next(session)
            sizes.add(tuple((name, t.data_ptr(), t.nbytes) for name, t in session.cache.tensors().items()))
    (one,) = sizes
    assert sum(size for _, _, size in one) == 20 * 16 * 2 * 2 * 4


def test_silent_control_is_the_base(pipe):
    bare = latents(run(pipe, control=False))
    assert same(latents(run(pipe, scale=0.0, references=[picture()])), bare)
    assert distance(latents(run(pipe)), bare) > 1e-3


def test_the_control_of_a_section_is_a_video_of_its_own(pipe):
    """Section 1 is steered alike whatever was fed for section 0; and its frames are in its own 33 places."""
    fed = frames(66)
    other = fed.copy()
    other[:33] = 255 - other[:33]
    controls = []
    for given in (fed, other):
        with pipe.stream("a red ball", seed=0, num_frames=66, **SIZE) as session:
            session.feed(given, last=True)
            next(session)
            next(session)
            controls.append(session._maker.path._encoder)
    encoder = controls[0]
    assert encoder._time.restarts
    pixels = [torch.from_numpy(given).float().permute(3, 0, 1, 2)[None] / 127.5 - 1 for given in (fed, other)]
    one, two = (encoder.control(1, video[:, :, 33:], None) for video in pixels)
    assert torch.equal(one, two)
    assert torch.equal(encoder.control(0, pixels[0][:, :, 33:], None), one)


def test_frames_of_a_section_are_decoded_alone(pipe):
    made = run(pipe, sections=2)
    again = pipe.codec.denormalise(made[1].latents)
    alone = pipe.parts.vae.decode(again).sample.clamp(-1, 1)
    shown = ((alone + 1) * 127.5).round().permute(0, 2, 3, 4, 1).to(torch.uint8)
    assert (shown.int() - made[1].frames.int()).abs().max() <= 1


def test_guidance_steers_both_passes():
    """Where the negative prompt is the prompt, guidance cancels out, if both passes are steered alike."""
    pipe = opened(guidance=5.0, negative_prompt="a red ball")
    expected = latents(run(opened(guidance=1.0), references=[picture()]))
    assert distance(latents(run(pipe, references=[picture()])), expected) < 1e-5


def test_guidance_with_an_unsteered_pass_is_seen(monkeypatch):
    from vace_adapt.streaming.chunk import SessionChunk

    monkeypatch.setattr(SessionChunk, "unconditional", lambda self, step, sigma: None)
    pipe = opened(guidance=5.0, negative_prompt="a red ball")
    assert distance(latents(run(pipe)), latents(run(opened(guidance=1.0)))) > 1e-3


@pytest.mark.parametrize("form", ["cached", "joint"])
def test_the_negative_prompt_is_its_own(form):
    """The context path runs under the negative prompt there: reused references and hints are never the prompt's."""
    pipe = opened(guidance=3.0, negative_prompt="two dogs")
    kept = latents(run(pipe, references=[picture()], controls={"reference_form": form}))
    from vace_adapt.context.references import ReferenceRows

    def anew(self, step, sigma, inputs, text, rotation, *, negative=False):
        self._compute(step, sigma, inputs, text, rotation)
        return self._memory[step]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReferenceRows, "remembered", anew)
        assert same(latents(run(pipe, references=[picture()], controls={"reference_form": form})), kept)


def test_kept_latents_stay(pipe):
    mask = torch.ones(66, 32, 48)
    mask[:, :, :24] = 0
    chunks = run(pipe, mask=mask.numpy(), controls={"preserve": "latent"})
    fed = torch.from_numpy(frames(66)).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
    for index, chunk in enumerate(chunks):
        own = pipe.parts.vae.encode(fed[:, :, 33 * index : 33 * (index + 1)]).latent_dist.mean
        expected = pipe.codec.normalise(own)[..., :3]
        assert torch.allclose(chunk.latents[..., :3], expected, atol=1e-5)


def test_a_prompt_changes_at_a_section(pipe):
    with pipe.stream("a red ball", seed=0, num_frames=66, **SIZE) as session:
        one = next(session).latents
        session.update(prompt="two dogs run")
        two = next(session).latents
    plain = latents(run(pipe, control=False))
    assert torch.equal(one, plain[0])
    assert not torch.equal(two, plain[1])
