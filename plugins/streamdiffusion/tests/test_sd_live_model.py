"""A live model of the official layout, attached through core's hooks: here one with the official calling convention
and native arithmetic; `test_sd_upstream` takes the real one."""

from __future__ import annotations

import copy

import pytest
import torch
from checkpoints import save_text_encoder
from sd_live import FED, controlled, live_pipeline, reanchored
from sd_official_shape import OfficialShaped
from support import distance, frames, picture, stream

from vace_adapt import load_pipeline
from vace_adapt.embedded.tiny import TINY, seeded, tiny_vae
from vace_adapt.errors import CheckpointError, InputError, SettingsError, Unsupported
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt_streamdiffusion import official, official_cache
from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings

OFFICIAL = {"official_quirks": True, "position_refresh": "official"}
STEPS = (700, 500, 400)


def settings(**changed):
    return StreamDiffusionSettings(name="streamdiffusion", **{**OFFICIAL, **changed})


def native():
    return seeded(lambda: CausalWan.of(TINY), 0, "base")


def both(run, numbers):
    """The same stream of a live and of a native model."""
    model = native()
    live = live_pipeline(OfficialShaped(model), "official", numbers)
    found = run(live)
    live.detach()
    return found, run(live_pipeline(copy.deepcopy(model), "native", numbers))


CASES = {
    "stream batch": {"denoising_steps": STEPS, "position_limit": 9},
    "one after another": {"stream_batch": False},
}


@pytest.mark.parametrize("case", CASES)
def test_live_model_equals_native_model(case):
    (made, held), (expected, there) = both(controlled, settings(**CASES[case]))
    assert distance(made, expected) < 1e-4
    assert held == there


def test_rows_of_a_stream_equal_native_ones():
    def two(pipe):
        with pipe.stream(["a red ball", "a dog"], height=32, width=48, seed=[0, 7], num_frames=40) as session:
            return [chunk.latents.clone() for chunk in session]

    assert distance(*both(two, settings())) < 1e-4


def test_both_are_reanchored_alike():
    (made, held), (expected, there) = both(lambda pipe: reanchored(pipe, "first"), settings(position_limit=9))
    assert distance(made, expected) < 1e-4
    assert held == there
    plain, _ = controlled(live_pipeline(native(), "native", settings(position_limit=9)))
    assert distance(made, plain) > 1e-3


@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        (official.OfficialDenoiser, "spread", lambda self: None),
        (official_cache.OfficialCache, "empty", lambda self, row, begin, frames: None),
        (official_cache.OfficialCache, "_kept", lambda self, ends, frames: list(ends)),
        (official_cache.OfficialCache, "set_prompt", lambda self, block, number, embeds: self.first(embeds)),
    ],
    ids=["rows begin without chunk 0", "rebuilt behind what is there", "by the order of before", "one prompt"],
)
def test_what_is_broken_is_noticed(monkeypatch, owner, name, broken):
    real = official_cache.OfficialCache.set_prompt

    def first(self, embeds):
        for block in range(len(self.prompts)):
            real(self, block, 1, embeds)

    monkeypatch.setattr(official_cache.OfficialCache, "first", first, raising=False)
    monkeypatch.setattr(owner, name, broken)
    run = controlled if name in ("spread", "set_prompt") else lambda pipe: reanchored(pipe, "first")
    try:
        (made, held), (expected, there) = both(run, settings(denoising_steps=STEPS, position_limit=9))
    except (IndexError, RuntimeError):
        return
    assert distance(made, expected) > 1e-4 or held != there


def test_a_live_model_comes_back_as_it_was():
    model = OfficialShaped(native())
    model.blocks[0].self_attn.evict_idx = [[1, 2]]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pipe = live_pipeline(model, "official", settings())
    made, _ = controlled(pipe)
    again, _ = controlled(pipe)
    assert distance(made, again) == 0, "no order of slots outlives its stream"
    pipe.detach()
    orders = [block.self_attn.evict_idx for block in model.blocks]
    assert orders == [[[1, 2]], *[None] * (TINY.layers - 1)]
    assert [(b.self_attn.sink_size, b.self_attn.adapt_sink_thr) for b in model.blocks] == [(3, -1)] * TINY.layers
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_memory_can_be_taken_and_put_back():
    pipe = live_pipeline(OfficialShaped(native()), "official", settings())
    with pipe.stream("a", height=32, width=48, num_frames=5 + 4 * 15) as session:
        for _ in range(7):
            next(session)
        tensors, positions = session.cache.tensors(), session.cache.positions()
        kept, held = session.cache.snapshot(), {name: tensor.clone() for name, tensor in tensors.items()}
        first = [next(session).latents for _ in range(3)]
        assert session.cache.positions() != positions
        session.cache.restore(kept)
        assert all(torch.equal(tensor, held[name]) for name, tensor in session.cache.tensors().items())
        assert session.cache.positions() == positions
        session.cache.reset()
        assert set(session.cache.positions()) == {-1}
        assert session.cache._evict == [[[], []]] * TINY.layers
        assert len(first) == 3
    pipe.detach()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Files of what a live model does not bring."""
    folder = tmp_path_factory.mktemp("parts")
    save_text_encoder(folder / "text")
    tiny_vae(0).save_pretrained(folder / "vae")
    return {"vae": str(folder / "vae"), "text_encoder": str(folder / "text")}


def loaded(model, parts, **numbers):
    numbers = {"backbone": TINY.model_dump(), **OFFICIAL, **numbers}
    return load_pipeline(
        "streamdiffusion", model=model, layout="official", weights=parts, settings=numbers, device="cpu"
    )


def test_a_live_model_is_loaded_by_its_layout(parts):
    pipe = loaded(OfficialShaped(native()), parts)
    expected = load_pipeline("streamdiffusion", seed=0, settings=OFFICIAL, device="cpu")
    assert distance(stream(pipe, 4, control=False), stream(expected, 4, control=False)) < 1e-4
    pipe.detach()


@pytest.mark.parametrize(
    ("numbers", "error", "refusal"),
    [
        ({"official_quirks": False}, SettingsError, "official_quirks: layout 'official' runs the official attention"),
        ({"position_refresh": "move"}, SettingsError, "position_refresh: layout 'official' does not move cached keys"),
        ({"backbone": {**TINY.model_dump(), "dim": 96}}, CheckpointError, "width is 48, the settings say 96"),
    ],
)
def test_settings_that_the_official_model_does_not_follow_are_refused(parts, numbers, error, refusal):
    with pytest.raises(error, match=refusal):
        loaded(OfficialShaped(native()), parts, **numbers)


def test_other_models_and_what_the_layout_cannot_do_are_refused(parts):
    with pytest.raises(CheckpointError, match="a CausalWan, does not have layout 'official': 'CausalBlock' object has"):
        loaded(native(), parts)
    pipe = live_pipeline(OfficialShaped(native()), "official", settings(stream_batch=False))
    with pytest.raises(InputError, match="a stream of 2 rows in layout 'official' needs pipeline.stream_batch=true"):
        pipe.stream(["a", "b"], height=32, width=48, seed=[0, 1])
    with pytest.raises(Unsupported, match="layout 'official': reference_slots is unsupported"):
        pipe.stream("a", height=32, width=48, references=[picture()], controls={"reference_slots": 1})
    pipe.detach()
    pipe = live_pipeline(OfficialShaped(native()), "official", settings(position_limit=None))
    with pytest.raises(InputError, match="1024"), pipe.stream("a", height=32, width=48, num_frames=4200) as session:
        session.feed(frames(5))
    assert len(FED) > 0
    pipe.detach()
