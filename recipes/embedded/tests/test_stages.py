"""Every stage at a size that takes no time: it trains what it should, and goes on to the bit when it was killed."""

from __future__ import annotations

from dataclasses import replace

import base
import batches
import causal
import distil
import draws
import packed
import pixels
import pytest
import text
import torch
import training
import vae
from base import new_base, new_context, train_base, train_context
from causal import Window, train_causal
from distil import train_student
from draws import in_turn, mixed, portrayed
from latents import CONDITIONS, REFERENCES, Latents
from network import flow
from packed import train_packed
from pixels import Pool
from portraits import Portraits
from sections import COUNT, Sections
from text import Prompts
from vae import train_vae

from vace_adapt.embedded.tiny import TINY, TINY_CONTROL_LAYERS, seeded, tiny_context_path
from vace_adapt.embedded.world.render import render
from vace_adapt.embedded.world.scene import draw_scene
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt_framepack.settings import FramePackSettings

pytestmark = pytest.mark.usefixtures("gradients", "tiny")

CLIPS, FRAMES, SIDE = 3, 6, 2
WINDOWS = {"clean": Window(3, 3, 9), "noisy": Window(1, 2, 4, more=1, clean=False)}
PACKED = FramePackSettings(name="framepack", chunk_latents=2, history=(4, 2, 1))
LENGTHS = ((2, 3), (1, 6))
LEVELS = (1.0, 0.8, 0.6)


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half()


LATENTS = Latents(
    video=randn(CLIPS, 16, FRAMES, SIDE, SIDE, seed=0),
    inactive=randn(CLIPS, CONDITIONS, 16, FRAMES, SIDE, SIDE, seed=1),
    reactive=randn(CLIPS, CONDITIONS, 16, FRAMES, SIDE, SIDE, seed=2),
    mask=randn(CLIPS, CONDITIONS, 64, FRAMES, SIDE, SIDE, seed=3) > 0,
    minor=randn(CLIPS, CONDITIONS, FRAMES, SIDE, SIDE, seed=7) > 0.5,
    references=randn(CLIPS, REFERENCES, 16, 1, SIDE, SIDE, seed=4),
    nothing=randn(16, FRAMES, SIDE, SIDE, seed=5),
    captions=[("a red ball on navy waves", "a ball on navy waves")] * CLIPS,
    names=[["", "", "", ""]] * CLIPS,
    things=[1] * CLIPS,
)
SECTIONS = Sections(randn(CLIPS, 16, 2 * COUNT, SIDE, SIDE, seed=6), LATENTS.captions)
PORTRAITS = Portraits(
    video=LATENTS.video,
    control=LATENTS.reactive[:, 0],
    references=LATENTS.references[:, 0],
    area=LATENTS.mask[:, 0, 0],
    captions=LATENTS.captions,
)


def _mixed(encoder, mix=batches.LOOKS):
    return mixed(LATENTS, replace(mix, lengths=LENGTHS), encoder)


DRAWS = {
    "context": _mixed,
    "portraits": lambda encoder: in_turn(portrayed(PORTRAITS, LATENTS, encoder), _mixed(encoder)),
    "kept": lambda encoder: _mixed(encoder, batches.KEPT),
}


@pytest.fixture
def tiny(monkeypatch):
    """Tiny sizes, short batches, and a state after every step."""
    for module in (base, causal, packed, text):
        monkeypatch.setattr(module, "FAMILY", TINY)
    monkeypatch.setattr(base, "FAMILY_CONTROL_LAYERS", TINY_CONTROL_LAYERS)
    monkeypatch.setattr(base, "LENGTHS", LENGTHS)
    monkeypatch.setattr(draws, "PORTRAIT_LENGTHS", LENGTHS)
    monkeypatch.setattr(causal, "CLIPS", 2)
    monkeypatch.setattr(distil, "CLIPS", 2)
    monkeypatch.setattr(packed, "CLIPS", 1)
    monkeypatch.setattr(distil, "FRAMES", FRAMES)
    monkeypatch.setattr(distil, "WARM", 1)
    monkeypatch.setattr(causal, "FRAMES", FRAMES)
    monkeypatch.setattr(vae, "CONFIG", {"base_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1})
    monkeypatch.setattr(vae, "POOL", 2)
    monkeypatch.setattr(vae, "PHASES", ((0.5, ((2, 1, 16),)), (1.0, ((1, 5, 16),))))
    monkeypatch.setattr(pixels, "draw_scene", lambda seed: draw_scene(seed, 9))
    monkeypatch.setattr(training, "SAVE_SECONDS", -1)


def frozen_base():
    model = seeded(lambda: CausalWan.of(TINY), 3, "base")
    encoder = seeded(lambda: text.new_text_encoder(Prompts(LATENTS.captions).words), 3, "text")
    return model, encoder


def stage(name, folder, steps=3):
    """What a stage trains, and what it must leave alone."""
    if name == "vae":
        return [train_vae(folder, steps, first_seed=1)], []
    if name == "base":
        return list(train_base(folder, steps, LATENTS)), []
    model, encoder = frozen_base()
    given = [model, encoder]
    if name in DRAWS:
        return [train_context(folder, steps, 3, DRAWS[name](encoder), model, new_context(model))], given
    if name == "causal_framepack":
        return [train_packed(folder, steps, SECTIONS, model, encoder, PACKED)], given
    kind, _, memory = name.partition("_")
    window = WINDOWS[memory]
    if kind == "causal":
        return [train_causal(folder, steps, LATENTS, model, encoder, window)], given
    return [train_student(folder, steps, LATENTS, model, model, encoder, window, LEVELS)], given


STAGES = ("vae", "base", *DRAWS, "causal_clean", "causal_noisy", "causal_framepack", "distil_clean", "distil_noisy")


def equal(modules, others):
    return all(
        torch.equal(a, b)
        for module, other in zip(modules, others, strict=True)
        for a, b in zip(module.state_dict().values(), other.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", STAGES)
def test_a_killed_stage_goes_on(name, tmp_path, monkeypatch):
    trained, _ = stage(name, tmp_path / "whole")
    step, count = training.Training.note, iter(range(10))

    def dying(self, **losses):
        step(self, **losses)
        if next(count) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training.Training, "note", dying)
        with pytest.raises(KeyboardInterrupt):
            stage(name, tmp_path / "parts")
    assert torch.load(tmp_path / "parts" / "state.pt", weights_only=True)["record"]["step"] == 1
    resumed, _ = stage(name, tmp_path / "parts")
    assert equal(trained, resumed)
    assert all(tensor.isfinite().all() for module in trained for tensor in module.state_dict().values())


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_trains_what_it_should(name, tmp_path):
    """Every parameter of its own, and nothing of what it was given."""
    (tmp_path / "none").mkdir()
    before, _ = stage(name, tmp_path / "none", steps=0)
    after, given = stage(name, tmp_path / "some", steps=3)
    assert equal(given, frozen_base() if given else [])
    for module, fresh in zip(after, before, strict=True):
        assert not module.training
        untouched = fresh.state_dict()
        still = [key for key, tensor in module.named_parameters() if torch.equal(tensor, untouched[key])]
        assert not still


def test_fresh_models_begin_with_nothing():
    """The base predicts no flow, and fresh context blocks make no hint on any base."""
    model, _ = new_base(20)
    latents, sigma = randn(1, 16, 3, 4, 4, seed=1).float(), torch.full((1, 3), 0.5)
    words, control = randn(1, 8, TINY.text_dim, seed=2).float(), randn(1, 96, 3, 4, 4, seed=3).float()
    assert not flow(model, latents, sigma, words, range(3)).any()
    other, _ = frozen_base()
    path = new_context(other)
    bare = flow(other, latents, sigma, words, range(3))
    assert bare.abs().max() > 0.1
    assert torch.equal(flow(other, latents, sigma, words, range(3), path=path, control=control), bare)
    trained = tiny_context_path(0)
    assert not torch.equal(flow(other, latents, sigma, words, range(3), path=trained, control=control), bare)
    for layer, block in zip(TINY_CONTROL_LAYERS, path.vace_blocks, strict=True):
        copied = block.state_dict()
        assert all(torch.equal(tensor, copied[key]) for key, tensor in other.blocks[layer].state_dict().items())


def test_crops_are_pieces_of_the_videos():
    pool = Pool(2, first=5)
    assert len(pool.videos) == 4
    assert pool.videos[0].shape == pool.videos[1].shape == (9, 64, 64, 3)
    assert all(video.dtype == "uint8" for video in pool.videos)
    assert (pool.videos[0] == render(draw_scene(5, 9)).frames).all()
    crops = pool.crops(3, 5, 32, torch.Generator().manual_seed(0))
    assert (crops.shape, crops.dtype) == ((3, 3, 5, 32, 32), torch.float32)
    for crop in crops:
        levels = (crop.permute(1, 2, 3, 0) * 127.5 + 127.5).round()
        assert 0 <= levels.min() <= levels.max() <= 255
        assert any(holds(torch.from_numpy(video).float(), levels) for video in pool.videos)


def holds(video, crop):
    """Whether a crop [T, H, W, 3] is somewhere in a video."""
    windows = video.unfold(0, len(crop), 1).unfold(1, crop.shape[1], 1).unfold(2, crop.shape[2], 1)
    wanted = crop.permute(3, 0, 1, 2)
    candidates = (windows[..., 0, 0, 0] == wanted[:, 0, 0, 0]).all(dim=-1).nonzero().tolist()
    return any(torch.equal(windows[t, y, x], wanted) for t, y, x in candidates)
