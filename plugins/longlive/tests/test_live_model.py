"""A live model of the official layout, attached through core's hooks: here one with the official calling convention
and native arithmetic; `test_upstream` takes the real one."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from checkpoints import save_text_encoder
from live import live_pipeline, switched
from official_shape import OfficialShaped, count_hooks, equal_states, state_of
from support import distance, frames, picture, same, stream

from vace_adapt import load_pipeline
from vace_adapt.embedded.tiny import TINY, seeded, tiny_vae
from vace_adapt.errors import CheckpointError, InputError, SessionError, Unsupported
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt_longlive.settings import LongLiveSettings

SETTINGS = LongLiveSettings(name="longlive")


def native(layers=TINY.layers):
    return seeded(lambda: CausalWan.of(TINY.model_copy(update={"layers": layers})), 0, "base")


@pytest.mark.parametrize("global_sink", [True, False])
def test_live_model_equals_native_model(global_sink):
    settings = LongLiveSettings(name="longlive", window=9, global_sink=global_sink)
    model = native()
    official = live_pipeline(OfficialShaped(model, settings.sink), "official", settings)
    expected = switched(live_pipeline(copy.deepcopy(model), "native", settings))
    assert distance(switched(official), expected) < 1e-4
    official.detach()


@pytest.mark.parametrize("controls", [{"hint_reuse": 2}, {"context_frames": 4}, {"hint_reuse": 3, "context_frames": 1}])
def test_options_of_the_context_path_hold_for_a_live_model(controls):
    model = native()
    official = live_pipeline(OfficialShaped(model, SETTINGS.sink), "official", SETTINGS)
    expected = switched(live_pipeline(copy.deepcopy(model), "native", SETTINGS), 3, **controls)
    assert distance(switched(official, 3, **controls), expected) < 1e-4
    assert distance(switched(official, 3), expected) > 1e-3
    official.detach()


def test_a_live_model_comes_back_as_it_was():
    model = OfficialShaped(native(), 3)
    before, sizes = state_of(model), [block.self_attn.max_attention_size for block in model.blocks]
    pipe = live_pipeline(model, "official", SETTINGS)
    controlled = switched(pipe, 2)
    pipe.detach()
    pipe.detach()
    assert count_hooks(model) == 0
    assert equal_states(state_of(model), before)
    assert [block.self_attn.max_attention_size for block in model.blocks] == sizes
    bare = stream(pipe, 2, control=False)
    assert distance(bare, controlled) > 1e-3
    assert same(bare, stream(live_pipeline(model, "official", SETTINGS), 2, control=False))


@pytest.mark.parametrize("layout", ["native", "official"])
@pytest.mark.parametrize("taken_at", [0, 2, 5])
def test_the_memory_can_be_taken_at_any_chunk_and_put_back(layout, taken_at):
    pipe = live_pipeline(native() if layout == "native" else OfficialShaped(native(), 3), layout, SETTINGS)
    with pipe.stream("a", height=32, width=48, num_frames=9 + 12 * 9) as session:
        for _ in range(taken_at):
            next(session)
        tensors, positions = session.cache.tensors(), session.cache.positions()
        kept = session.cache.snapshot()
        held = {name: tensor.clone() for name, tensor in tensors.items()}
        for _ in range(3):
            next(session)
        assert not equal_states(tensors, held)
        assert session.cache.positions() != positions
        session.cache.restore(kept)
        now = session.cache.tensors()
        assert all(now[name] is tensor for name, tensor in tensors.items()), "the same objects for the whole stream"
        assert equal_states(now, held)
        assert session.cache.positions() == positions
        session.cache.reset()
        assert not any(tensor.any() for tensor in tensors.values())
        assert set(session.cache.positions()) == {-1}
    pipe.detach()


@pytest.mark.parametrize("layout", ["native", "official"])
def test_compiling_leaves_a_live_model_as_it_was(layout):
    model = native() if layout == "native" else OfficialShaped(native(), 3)
    pipe = live_pipeline(model, layout, SETTINGS).compile(backend="eager")
    pipe.detach()
    pipe.compile(backend="eager")
    assert not any(module._compiled_call_impl for module in model.modules())


def test_a_live_model_detached_inside_a_controlled_stream_is_an_error():
    pipe = live_pipeline(OfficialShaped(native(), 3), "official", SETTINGS)
    with pipe.stream("a", height=32, width=48) as session:
        session.feed(frames(21))
        next(session)
        pipe.detach()
        with pytest.raises(SessionError, match="the pipeline was detached from the model while this stream was contr"):
            next(session)


def test_a_pipeline_that_is_dropped_takes_its_hooks_off():
    model = OfficialShaped(native(), 3)
    pipe = live_pipeline(model, "official", SETTINGS)
    assert count_hooks(model) > 0
    del pipe
    gc.collect()
    assert count_hooks(model) == 0
    live_pipeline(model, "official", SETTINGS).detach()


def test_positions_after_a_switch_that_moves_the_sink():
    settings = SETTINGS.model_copy(update={"global_sink": False})
    found = {}
    for layout, model in (("native", native()), ("official", OfficialShaped(native(), 3))):
        pipe = live_pipeline(model, layout, settings)
        with pipe.stream("a", height=32, width=48) as session:
            for index in range(6):
                if index == 5:
                    session.update(prompt="b")
                next(session)
            found[layout] = sorted(session.cache.positions())
        pipe.detach()
    assert found["official"] == found["native"] == [3, 4, 5, *range(9, 18)]


def test_positions_of_a_live_models_memory():
    pipe = live_pipeline(OfficialShaped(native(), 3), "official", SETTINGS)
    with pipe.stream("a", height=32, width=48, num_frames=9 + 12 * 6) as session:
        assert session.cache.positions() == (-1,) * 12
        for _ in range(5):
            next(session)
        assert session.cache.positions() == (0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 14)
    pipe.detach()


def test_a_live_model_with_lora_on_it(tmp_path):
    """peft first, then attach: hints are those of the adapted model, and the LoRA stays on the base."""
    import peft

    model = native()
    plain = live_pipeline(OfficialShaped(model, 3), "official", SETTINGS)
    expected = switched(plain, 2)
    plain.detach()
    config = peft.LoraConfig(r=2, target_modules=r"native\.blocks\.\d+\.attn1\.to_q", init_lora_weights=False)
    torch.manual_seed(0)
    wrapped = peft.get_peft_model(OfficialShaped(model, 3), config)
    pipe = live_pipeline(wrapped, "official", SETTINGS)
    assert distance(switched(pipe, 2), expected) > 1e-3
    pipe.detach()
    assert count_hooks(wrapped) == 0


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Files of what a live model does not bring."""
    folder = tmp_path_factory.mktemp("parts")
    save_text_encoder(folder / "text")
    tiny_vae(0).save_pretrained(folder / "vae")
    return {"vae": str(folder / "vae"), "text_encoder": str(folder / "text")}


def loaded(model, layout, parts, **settings):
    settings = {"backbone": TINY.model_dump(), **settings}
    return load_pipeline("longlive", model=model, layout=layout, weights=parts, settings=settings, device="cpu")


@pytest.mark.parametrize("layout", ["native", "official"])
def test_a_live_model_is_loaded_by_its_layout(parts, base, layout):
    model = native() if layout == "native" else OfficialShaped(native(), sink=3)
    pipe = loaded(model, layout, parts)
    assert pipe.parts.model is model
    assert distance(stream(pipe, 5, control=False), stream(base, 5, control=False)) < 1e-4


@pytest.mark.parametrize(
    ("make", "settings", "refusal"),
    [
        (lambda: OfficialShaped(native(), 3), {"backbone": {"dim": 96}}, "width is 48, the settings say 96"),
        (lambda: OfficialShaped(native(3), 3), {}, "number of blocks is 3, the settings say 4"),
        (lambda: OfficialShaped(native(), 3, window=9), {}, r"window \(local_attn_size\) is 9, the settings say 12"),
        (lambda: OfficialShaped(native(), 0), {}, r"sink \(sink_size\) is 0, the settings say 3"),
    ],
)
def test_a_live_model_that_is_not_what_the_settings_say_is_refused(parts, make, settings, refusal):
    backbone = {**TINY.model_dump(), **settings.get("backbone", {})}
    with pytest.raises(CheckpointError, match=f"the live model's {refusal}"):
        loaded(make(), "official", parts, backbone=backbone)


@pytest.mark.parametrize(
    ("layout", "make", "refusal"),
    [
        ("native", lambda: OfficialShaped(native(), 3), "a OfficialShaped, does not have layout 'native': it is no"),
        ("native", lambda: native(3), "number of blocks is 3, the settings say 4"),
        ("official", native, "a CausalWan, does not have layout 'official': 'CausalBlock' object has no attribute"),
        ("official", lambda: torch.nn.Linear(1, 1), "a Linear, does not have layout 'official'"),
    ],
)
def test_a_live_model_of_another_layout_is_refused(parts, layout, make, refusal):
    with pytest.raises(CheckpointError, match=refusal):
        loaded(make(), layout, parts)


def test_a_live_model_brings_its_own_weights(parts):
    model = OfficialShaped(native(), 3)
    for given in ({"base": "x"}, {"lora": "x"}):
        with pytest.raises(CheckpointError, match="a live model brings its own weights: give neither weights.base nor"):
            loaded(model, "official", {**parts, **given})


def test_reference_slots_are_the_native_models_alone():
    controls = {"reference_slots": 1}
    pipe = live_pipeline(native(), "native", SETTINGS)
    expected = stream(load_pipeline("longlive", seed=0, device="cpu"), 2, references=[picture()], controls=controls)
    assert same(stream(pipe, 2, references=[picture()], controls=controls), expected)
    pipe = live_pipeline(OfficialShaped(native(), 3), "official", SETTINGS)
    text = (
        "^pipeline 'longlive', layout 'official': reference_slots is unsupported: "
        "the official attention reads its own cache and nothing beside it$"
    )
    with pytest.raises(Unsupported, match=text):
        stream(pipe, 2, references=[picture()], controls=controls)
    pipe.detach()


def test_a_layout_and_a_live_model_come_together():
    with pytest.raises(InputError, match="pipeline 'longlive' has no layout 'other' .known: native, official"):
        load_pipeline("longlive", model=torch.nn.Linear(1, 1), layout="other")
    with pytest.raises(InputError, match="say which layout the live model has: one of native, official"):
        load_pipeline("longlive", model=torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match="layout 'official' is that of a live model: give model=..."):
        load_pipeline("longlive", seed=0, layout="official")
