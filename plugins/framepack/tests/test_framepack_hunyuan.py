"""FramePack on HunyuanVideo: streams, its own context blocks, pictures, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support import distance, frames, same
from torch import nn

from vace_adapt import load_pipeline
from vace_adapt.embedded.tiny import tiny_context_path
from vace_adapt.errors import CheckpointError, SessionError
from vace_adapt.streaming.pipeline import Pipeline
from vace_adapt_framepack.hunyuan.context import HunyuanContext, context_layers, without_rows
from vace_adapt_framepack.hunyuan.loading import load_context, open_control
from vace_adapt_framepack.hunyuan.model import NAMES, OFFICIAL
from vace_adapt_framepack.settings import DUAL_BLOCKS

SIZE = {"height": 32, "width": 48}


def opened(**settings):
    return load_pipeline(
        "framepack", seed=0, device="cpu", dtype="float32", settings={"backend": "hunyuan", "steps": 2, **settings}
    )


@pytest.fixture(scope="module")
def pipe():
    return opened()


def stream(pipe, sections=2, *, control=True, mask=None, **options):
    count = 36 * sections + 1
    with pipe.stream("a red ball", seed=0, num_frames=count, **SIZE, **options) as session:
        if control:
            session.feed(frames(count), mask, last=True)
        return list(session)


def latents(chunks):
    return [chunk.latents for chunk in chunks]


def with_context(pipe, scale=0.3, **changed):
    """The same pipeline with context blocks that do say something."""
    context = HunyuanContext.beside(pipe.parts.model, pipe.parts.context.layers)
    torch.manual_seed(0)
    for name, parameter in context.named_parameters():
        if "_proj" in name and "blocks" not in name:
            parameter.copy_(torch.randn_like(parameter) * scale)
    pipe.detach()
    return Pipeline(pipe.hooks, dataclasses.replace(pipe.parts, context=context, **changed), None)


def test_a_stream_has_the_start_frame_and_sections_of_36(pipe):
    made = stream(pipe)
    assert [chunk.frames.shape[1] for chunk in made] == [37, 36]
    assert [chunk.latents.shape[2] for chunk in made] == [10, 9]
    assert not torch.equal(made[0].latents[:, :, 1:], made[1].latents)


def test_fresh_context_blocks_change_no_bit(pipe):
    assert same(latents(stream(pipe)), latents(stream(pipe, control=False)))
    for projection in (pipe.parts.context.before_proj, *pipe.parts.context.after_proj.values()):
        assert not projection.weight.any()


def test_trained_context_blocks_touch_only_the_section():
    pipe = opened()
    bare = latents(stream(pipe, 1))
    pipe = with_context(pipe)
    left, layer = [], pipe.parts.context.layers[1]
    block = pipe.parts.model.single_transformer_blocks[layer - 2]
    before = block.register_forward_pre_hook(lambda _, args: left.append((args[0].clone(), args[1].clone())))
    steered = latents(stream(pipe, 1))
    given = left[0]
    left.clear()
    silent = latents(stream(pipe, 1, control=False))
    before.remove()
    assert distance(steered, bare) > 1e-3
    assert same(silent, bare)
    assert given[0].shape == left[0][0].shape


def test_hints_are_added_to_the_last_rows_and_not_to_the_text():
    pipe = with_context(opened())
    outputs = []
    block = pipe.parts.model.transformer_blocks[0]
    enter = pipe.parts.model.transformer_blocks[1].register_forward_pre_hook(lambda _, args: outputs.append(args[:2]))
    try:
        stream(pipe, 1)
        steered = outputs[0]
        outputs.clear()
        stream(pipe, 1, control=False)
    finally:
        enter.remove()
    assert isinstance(block, nn.Module)
    own = 9 * 2 * 3
    changed = (steered[0] != outputs[0][0]).any(dim=2)[0]
    assert not changed[:-own].any()
    assert changed[-own:].all()
    assert torch.equal(steered[1], outputs[0][1])


def test_context_blocks_have_the_sections_own_positions(monkeypatch):
    """Unlike Wan, HunyuanVideo is not indifferent to the origin."""
    from vace_adapt_framepack.hunyuan import context

    pipe = with_context(opened())
    made = latents(stream(pipe, 1))
    monkeypatch.setattr(context, "_last", lambda rotation, rows: tuple(part[:rows] for part in rotation))
    assert distance(latents(stream(pipe, 1)), made) > 1e-4


def test_masks_lose_the_rows_of_the_history():
    """Of the official class, too: spans of two rows, 10 video tokens and 2 and 3 of 4 text tokens; 6 video tokens go."""
    mask = torch.arange(28).view(2, 1, 1, 14) % 3 > 0
    assert torch.equal(without_rows(mask, 6), mask[..., 6:])
    assert without_rows(None, 6) is None
    assert without_rows((None,) * 4, 6) == (None,) * 4
    ends = torch.tensor([0, 12, 14, 27, 28], dtype=torch.int32)
    shorter, same_ends, longest, most = without_rows((ends, ends, 14, 14), 6)
    assert shorter.tolist() == [0, 6, 8, 15, 16]
    assert shorter.dtype == torch.int32
    assert same_ends is shorter
    assert (longest, most) == (8, 8)


def test_history_bytes_are_constant_over_fifty_sections():
    pipe, sizes = opened(steps=1), set()
    with pipe.stream("a red ball", height=16, width=16) as session:
        for _ in range(50):
            next(session)
            sizes.add(tuple((name, t.data_ptr(), t.nbytes) for name, t in session.cache.tensors().items()))
    (one,) = sizes
    assert sum(size for _, _, size in one) == 20 * 16 * 2 * 2 * 4


def test_context_files(tmp_path, pipe):
    context = with_context(opened()).parts.context
    save_file(context.state_dict(), tmp_path / "context.safetensors")
    settings, weights = pipe.parts.settings, type("W", (), {"download": False})()
    came = load_context(open_control(str(tmp_path / "context.safetensors"), settings, weights), pipe.parts.model)
    assert came.layers == context.layers
    assert all(torch.equal(t, context.state_dict()[name]) for name, t in came.state_dict().items())


def test_wan_vace_weights_are_refused(tmp_path):
    save_file(tiny_context_path(0).state_dict(), tmp_path / "vace.safetensors")
    with pytest.raises(
        CheckpointError, match=r"VACE weights of Wan2.1, width 48: .* has width 3072.*pipeline.backend=wan can"
    ):
        load_pipeline(
            "framepack", settings={"backend": "hunyuan"}, weights={"control": str(tmp_path / "vace.safetensors")}
        )


def test_sites_of_the_vace_patterns():
    assert context_layers(60) == (0, 7, 15, 22, 30, 37, 45, 52)
    assert context_layers(60, 15) == tuple(range(0, 60, 4))
    assert DUAL_BLOCKS == 20


def test_references_and_keyframes_are_refused(pipe):
    with pytest.raises(SessionError, match="no control weights, so it takes no references"):
        stream(pipe, references=[Image.new("RGB", (8, 8))])


@pytest.fixture
def pictures(tmp_path):
    found = {}
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        found[name] = str(tmp_path / f"{name}.png")
        Image.new("RGB", (48, 32), colour).save(found[name])
    return found


def test_the_start_image_is_the_first_frame(pictures, pipe):
    made = latents(stream(opened(start_image=pictures["red"]), 1, control=False))
    expected = pipe.codec.normalise(
        pipe.codec.encode(torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1, 1).expand(1, 3, 1, 32, 48))
    )
    assert torch.allclose(made[0][:, :, :1], expected, atol=1e-5)
    assert distance([made[0][:, :, 1:]], [stream(pipe, 1, control=False)[0].latents[:, :, 1:]]) > 1e-4


def inverted(**settings):
    return latents(stream(opened(sampling="inverted", sections=2, **settings)))


def test_pictures_behind_sections(pictures):
    plain, end = inverted(), inverted(end_image=pictures["red"])
    middle = inverted(keyframes={0: pictures["red"]})
    assert [tuple(chunk.shape[2:]) for chunk in plain] == [(10, 4, 6), (9, 4, 6)]
    assert not torch.equal(end[1], plain[1])
    assert torch.equal(middle[1], plain[1]), "the last section is made first and knows nothing of a picture before it"
    assert not torch.equal(middle[0], plain[0])


def test_inverted_needs_the_whole_video():
    pipe = opened(sampling="inverted", sections=2)
    with pytest.raises(SessionError, match="makes all 2 sections of a video from its end, and 1 of them can begin"):
        stream(pipe, control=False)


def test_kept_latents_stay(pipe):
    mask = torch.ones(37, 32, 48)
    mask[:, :, :24] = 0
    (chunk,) = stream(pipe, 1, mask=mask.numpy(), controls={"preserve": "latent"})
    fed = torch.from_numpy(frames(37)).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
    expected = pipe.codec.normalise(pipe.codec.encode(fed))
    assert torch.allclose(chunk.latents[:, :, 1:, :, :3], expected[:, :, 1:, :, :3], atol=1e-5)


def test_a_section_may_start_from_the_video():
    weak, strong = (latents(stream(opened(strength=strength), 1)) for strength in (0.05, 1.0))
    codec = opened().codec
    fed = torch.from_numpy(frames(37)).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
    expected = codec.normalise(codec.encode(fed))[:, :, 1:]
    assert distance([weak[0][:, :, 1:]], [expected]) < 0.5 * distance([strong[0][:, :, 1:]], [expected])
    with pytest.raises(SessionError, match="strength 0.5 starts from a video, and none was fed for chunk 0"):
        stream(opened(strength=0.5), control=False)


def test_step_caches_are_refused(pipe, monkeypatch):
    monkeypatch.setattr(pipe.parts.model, "_cache_config", object())
    with pytest.raises(SessionError, match="a cache of diffusers skips the blocks"):
        stream(pipe)


class Official(nn.Module):
    """The official calling convention around the same modules."""

    def __init__(self, model):
        super().__init__()
        self.x_embedder, self.transformer_blocks = model.x_embedder, model.transformer_blocks
        self.single_transformer_blocks, self.enable_teacache = model.single_transformer_blocks, False
        self.model = [model]

    def forward(self, hidden_states, timestep, encoder_hidden_states, encoder_attention_mask, pooled_projections, guidance, latent_indices=None, clean_latents=None, clean_latent_indices=None, clean_latents_2x=None, clean_latent_2x_indices=None, clean_latents_4x=None, clean_latent_4x_indices=None, image_embeddings=None, attention_kwargs=None, return_dict=True):  # fmt: skip
        assert encoder_attention_mask.dtype == torch.bool
        return self.model[0](
            hidden_states=hidden_states, timestep=timestep, encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask.long(), pooled_projections=pooled_projections, guidance=guidance,
            indices_latents=latent_indices[0], latents_clean=clean_latents, indices_latents_clean=clean_latent_indices[0],
            latents_history_2x=clean_latents_2x, indices_latents_history_2x=clean_latent_2x_indices[0],
            latents_history_4x=clean_latents_4x, indices_latents_history_4x=clean_latent_4x_indices[0],
            image_embeds=image_embeddings, return_dict=return_dict,
        )  # fmt: skip


def test_the_official_layout():
    pipe = with_context(opened())
    expected = latents(stream(pipe))
    pipe.detach()
    live = Official(pipe.parts.model).eval()
    official = Pipeline(pipe.hooks, dataclasses.replace(pipe.parts, model=live, layout=OFFICIAL), None, live=True)
    assert same(latents(stream(official)), expected)
    live.enable_teacache = True
    with pytest.raises(SessionError, match=r"TeaCache skips the blocks .* initialize_teacache\(False\)"):
        stream(official)
    official.detach()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in live.modules())


def test_both_classes_have_the_same_arguments_by_role():
    assert NAMES["hunyuan"].keys() == NAMES[OFFICIAL].keys()
