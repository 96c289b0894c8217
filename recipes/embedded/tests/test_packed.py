"""What FramePack's student is trained for is what its pipeline shows it: sections of their own beside packed history."""

from __future__ import annotations

from functools import partial

import causal
import shards
import torch
from export import export_student
from network import flow
from packed import draw_packed, history_of, packing
from sections import COUNT, encode_sections, load_sections
from shards import write_shard

from vace_adapt.contract import Chunk
from vace_adapt.embedded.tiny import TINY, seeded
from vace_adapt.embedded.world.captions import caption
from vace_adapt.embedded.world.render import render
from vace_adapt.embedded.world.scene import draw_scene
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt_framepack.history import Packed
from vace_adapt_framepack.plan import forward_layout
from vace_adapt_framepack.settings import FramePackSettings
from vace_adapt_framepack.solver import Level
from vace_adapt_framepack.wan.loading import load_helios
from vace_adapt_framepack.wan.loop import HeliosLoop
from vace_adapt_framepack.wan.model import HeliosDenoiser, bare

SETTINGS = FramePackSettings(name="framepack")
F = SETTINGS.chunk_latents


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CLIPS = randn(COUNT, 16, COUNT * F, 4, 4)


class Given:
    """A chunk of a stream, as `HeliosLoop` asks for it."""

    text = None

    def noise(self, draw):
        return torch.zeros(1, 16, F, 4, 4)

    def keep(self, latents):
        return latents

    def denoising(self, step, sigma):
        return None


class Told:
    """A solver of one step whose sections are those of a clip."""

    levels = (Level(1000.0, 1.0),)

    def __init__(self, clip):
        self._sections = iter(clip.split(F, dim=2))

    def begin(self):
        pass

    def step(self, step, flow, noisy):
        return next(self._sections)


def shown(clip):
    """What the pipeline's own loop shows its model, section by section."""
    seen = []

    def denoiser(noisy, timestep, text, packed, hints):
        seen.append(Packed(*(each.clone() for each in packed)))
        return noisy

    loop = HeliosLoop(denoiser, Told(clip), history_of((), clip, SETTINGS), 1.0, lambda: None)
    chunk: Chunk = Given()
    for _ in range(COUNT):
        loop.run(chunk)
    return seen


def test_training_is_streaming(monkeypatch):
    """Row i is denoised after i sections."""
    monkeypatch.setattr(causal, "HISTORY_NOISE", 0.0)
    clean, packed = draw_packed(CLIPS, SETTINGS, torch.Generator())
    for row in range(COUNT):
        assert torch.equal(clean[row], CLIPS[row, :, row * F : (row + 1) * F])
        seen = shown(CLIPS[row : row + 1])
        mine = [each[row : row + 1] for each in packed]
        assert all(torch.equal(a, b) for a, b in zip(mine, seen[row], strict=True))
        for other in {*range(COUNT)} - {row}:
            assert not all(torch.equal(a, b) for a, b in zip(mine, seen[other], strict=True))


def test_the_history_alone_is_hardly_noisy_and_nothing_is_nothing():
    clean, packed = draw_packed(CLIPS, SETTINGS, torch.Generator().manual_seed(1))
    _, before = draw_packed(CLIPS, SETTINGS, torch.Generator().manual_seed(2))
    for row in range(COUNT):
        assert torch.equal(clean[row], CLIPS[row, :, row * F : (row + 1) * F])
    assert not any(each[0].any() for each in packed)  # the first section comes after nothing
    assert not packed.mid[1].eq(0).any()
    assert not packed.far[1, :, : 16 + 3 - F].any()  # frames that were never made
    last = CLIPS[-1, :, : 3 * F][:, -1]
    assert 0 < float((packed.clean[-1, :, 1] - last).std()) < 1.2 * causal.HISTORY_NOISE
    assert not torch.equal(packed.clean[-1], before.clean[-1])


def test_the_base_beside_nothing_is_the_base():
    base = seeded(lambda: CausalWan.of(TINY), 3, "base")
    model, latents, text = packing(base, TINY), randn(2, 16, 3, 4, 6, seed=1), randn(2, 8, TINY.text_dim, seed=2)
    sigma = torch.tensor([0.3, 0.8])
    alone = model(latents, 1000 * sigma, text, return_dict=False)[0]
    expected = flow(base, latents, sigma[:, None].expand(-1, 3), text, range(3))
    assert float((alone - expected).abs().max()) < 1e-4
    assert expected.std() > 0.1


def test_packing_averages_what_it_packs():
    base = seeded(lambda: CausalWan.of(TINY), 3, "base")
    model, latents = packing(base, TINY), randn(1, 16, 4, 8, 8)
    assert torch.equal(model.patch_short(latents), base.patch_embedding(latents))
    for part, times in (("patch_mid", 2), ("patch_long", 4)):
        pooled = base.patch_embedding(torch.nn.functional.avg_pool3d(latents, times))
        assert torch.allclose(model.get_submodule(part)(latents), pooled, atol=1e-5)


def test_what_is_remembered_is_seen():
    model = packing(seeded(lambda: CausalWan.of(TINY), 3, "base"), TINY)
    denoiser = HeliosDenoiser(model, bare, forward_layout(F, SETTINGS.history), torch.device("cpu"))
    _, packed = draw_packed(CLIPS, SETTINGS, torch.Generator().manual_seed(1))
    text, noisy = randn(COUNT, 8, TINY.text_dim), randn(COUNT, 16, F, 4, 4, seed=5)
    made = denoiser(noisy, torch.full((COUNT,), 500.0), text, packed, None)
    for name in Packed._fields:
        other = denoiser(
            noisy, torch.full((COUNT,), 500.0), text, packed._replace(**{name: -packed._asdict()[name]}), None
        )
        assert torch.equal(other[0], made[0])
        assert not torch.equal(other[-1], made[-1])


def test_the_plugin_reads_what_is_exported(tmp_path):
    model = packing(seeded(lambda: CausalWan.of(TINY), 3, "base"), TINY)
    export_student(model, model, 1.0, tmp_path / "student.safetensors")
    settings = FramePackSettings(name="framepack", backbone=TINY)
    loaded = load_helios(str(tmp_path / "student.safetensors"), settings, torch.device("cpu"), torch.float32)
    expected = model.state_dict()
    assert list(loaded.state_dict()) == list(expected)
    assert all(torch.equal(tensor, expected[name].half().float()) for name, tensor in loaded.state_dict().items())


# --- what it learns from ------------------------------------------------------------------------------------------


def means(frames):
    """Latents that are the mean of each group of frames."""
    assert frames.shape == (9, 64, 64, 3)
    groups = torch.from_numpy(frames).flatten(1).mean(1).split([1, 4, 4])
    return torch.stack([group.mean() for group in groups]).half().view(1, 3, 1, 1)


def test_sections_are_videos_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 2)
    for number in range(2):
        write_shard(tmp_path, number, partial(encode_sections, means, latents=3), first_seed=50)
    loaded = load_sections(tmp_path)
    assert (len(loaded), loaded.video.shape) == (4, (4, 1, 3 * COUNT, 1, 1))
    for i in range(4):
        clip = render(draw_scene(50 + i, 9 * COUNT))
        assert loaded.captions[i] == (caption(clip.scene), caption(clip.scene, appearance=False))
        alone = torch.from_numpy(clip.frames).float().flatten(1).mean(1).half()
        assert torch.equal(loaded.video[i].flatten()[::3], alone[::9])
