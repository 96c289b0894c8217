"""A live model of the official layout, attached through core's hooks: here one with the official calling convention
and native arithmetic; `test_memflow_upstream` takes the real one."""

from __future__ import annotations

import copy

import pytest
from checkpoints import save_text_encoder
from memflow_live import live_pipeline, switched
from memflow_shape import MemFlowShaped
from official_shape import count_hooks, equal_states, state_of
from support import distance, patch, picture, same, stream

from vace_adapt import load_pipeline
from vace_adapt.embedded.tiny import TINY, seeded, tiny_vae
from vace_adapt.errors import CheckpointError, InputError, Unsupported
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt_memflow import official_cache
from vace_adapt_memflow.official import OfficialDenoiser
from vace_adapt_memflow.official_cache import OfficialCache
from vace_adapt_memflow.settings import MemFlowSettings

STEPS = (1000, 500)
SETTINGS = MemFlowSettings(name="memflow", denoising_steps=STEPS)


@pytest.fixture(autouse=True)
def _small_frames(monkeypatch):
    """The official number is a literal of the official attention; the stand-in takes any."""
    monkeypatch.setattr(official_cache, "FRAME_TOKENS", 6)


def native():
    return seeded(lambda: CausalWan.of(TINY), 0, "base")


def live_equals_native(**changed):
    settings = SETTINGS.model_copy(update=changed)
    model = native()
    shaped = MemFlowShaped(model, settings.sink, settings.window, settings.bank, settings.record_interval)
    pipe = live_pipeline(shaped, "official", settings)
    made, held = switched(pipe)
    pipe.detach()
    expected, positions = switched(live_pipeline(copy.deepcopy(model), "native", settings))
    assert distance(made, expected) < 1e-4
    bank = settings.bank
    assert [rows[0][-bank:] for rows in held] == [rows[0][-bank:] for rows in positions]
    assert [sorted(rows[0][:-bank]) for rows in held] == [sorted(rows[0][:-bank]) for rows in positions]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"official_quirks": False},
        {"memory": "single", "record_interval": 2},
        {"memory": "single", "official_quirks": False},
        {"record_interval": 1, "window": 9, "bank": 2, "global_sink": False},
    ],
)
def test_live_model_equals_native_model(changed):
    live_equals_native(**changed)


def test_rows_of_a_batch():
    settings = SETTINGS.model_copy(update={"record_interval": 1, "official_quirks": False})
    model = native()
    pipe = live_pipeline(MemFlowShaped(model, interval=1), "official", settings)
    made, held = switched(pipe, 8, (6,), batch=2)
    pipe.detach()
    expected, positions = switched(live_pipeline(copy.deepcopy(model), "native", settings), 8, (6,), batch=2)
    assert distance(made, expected) < 1e-4
    assert [[row[-3:] for row in rows] for rows in held] == [[row[-3:] for row in rows] for rows in positions]


def called_with(**changed):
    def change(real):
        return lambda self, *args, **options: real(self, *args, **{**options, **changed})

    return patch(OfficialDenoiser, "_call", change)


def never(real):
    return lambda self, *args, **options: None


def not_a_recache(real):
    return lambda self, *args, is_recache=False, **options: real(self, *args, **options)


def all_commit(real):
    def call(self, *args, update_cache=False, **options):
        return real(self, *args, update_cache=True, **({} if update_cache else {"update_bank": True}), **options)

    return call


MUTANTS = {
    "denoise passes commit": (patch(OfficialDenoiser, "_call", all_commit), {}),
    "every pass takes in": (called_with(q_bank=True), {"official_quirks": False}),
    "no pass takes in": (called_with(q_bank=False), {}),
    "every commit is offered": (called_with(update_bank=True), {}),
    "a recache is not said to be one": (patch(OfficialDenoiser, "_call", not_a_recache), {}),
    "the old prompt is asked": (patch(OfficialCache, "forget_prompt", never), {}),
    "zeros are asked": (patch(OfficialDenoiser, "_read_prompt", never), {"official_quirks": False}),
    "the sink is kept": (patch(OfficialCache, "restart", never), {"global_sink": False}),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_caught(mutant, monkeypatch):
    breaks, changed = MUTANTS[mutant]
    breaks(monkeypatch)
    with pytest.raises(AssertionError):
        live_equals_native(**changed)


def test_a_live_model_comes_back_as_it_was():
    model = MemFlowShaped(native())
    before, sizes = state_of(model), [block.self_attn.max_attention_size for block in model.blocks]
    pipe = live_pipeline(model, "official", SETTINGS)
    controlled, _ = switched(pipe, 2)
    pipe.detach()
    assert count_hooks(model) == 0
    assert equal_states(state_of(model), before)
    assert [block.self_attn.max_attention_size for block in model.blocks] == sizes
    bare = stream(pipe, 2, control=False)
    assert distance(bare, controlled) > 1e-3
    assert same(bare, stream(live_pipeline(model, "official", SETTINGS), 2, control=False))


@pytest.mark.parametrize("taken_at", [0, 6])
def test_the_memory_can_be_taken_and_put_back(taken_at):
    pipe = live_pipeline(
        MemFlowShaped(native(), interval=1), "official", SETTINGS.model_copy(update={"record_interval": 1})
    )
    with pipe.stream("a", height=32, width=48) as session:
        for _ in range(taken_at):
            next(session)
        tensors, positions = session.cache.tensors(), session.cache.positions()
        kept = session.cache.snapshot()
        held = {name: tensor.clone() for name, tensor in tensors.items()}
        for _ in range(2):
            next(session)
        assert not equal_states(tensors, held)
        session.cache.restore(kept)
        now = session.cache.tensors()
        assert all(now[name] is tensor for name, tensor in tensors.items()), "the same objects for the whole stream"
        assert equal_states(now, held)
        assert session.cache.positions() == positions
        session.cache.reset()
        assert not any(tensor.any() for name, tensor in tensors.items() if name != "bank.frames")
        assert set(session.cache.positions()) == {-1}
    pipe.detach()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Files of what a live model does not bring."""
    folder = tmp_path_factory.mktemp("parts")
    save_text_encoder(folder / "text")
    tiny_vae(0).save_pretrained(folder / "vae")
    return {"vae": str(folder / "vae"), "text_encoder": str(folder / "text")}


def loaded(model, layout, parts, **settings):
    settings = {"backbone": TINY.model_dump(), **settings}
    return load_pipeline("memflow", model=model, layout=layout, weights=parts, settings=settings, device="cpu")


@pytest.mark.parametrize("layout", ["native", "official"])
def test_a_live_model_is_loaded_by_its_layout(parts, layout):
    model = native() if layout == "native" else MemFlowShaped(native())
    pipe = loaded(model, layout, parts)
    assert pipe.parts.model is model
    bare = load_pipeline("memflow", seed=0, device="cpu")
    assert distance(stream(pipe, 3, control=False), stream(bare, 3, control=False)) < 1e-4


@pytest.mark.parametrize(
    ("make", "settings", "refusal"),
    [
        (lambda: MemFlowShaped(native(), bank=2), {}, r"bank \(bank_size\) is 2, the settings say 3"),
        (lambda: MemFlowShaped(native(), interval=2), {}, "record_interval is 2, the settings say 3"),
        (lambda: MemFlowShaped(native(), window=9), {}, r"window \(local_attn_size\) is 9, the settings say 12"),
        (lambda: MemFlowShaped(native()), {"chunk_latents": 4}, "chunk length is 3, the settings say 4"),
        (
            lambda: MemFlowShaped(native()),
            {"sparse": True},
            r"sparse activation \(SMA\) is False, the settings say True",
        ),
    ],
)
def test_a_live_model_that_is_not_what_the_settings_say_is_refused(parts, make, settings, refusal):
    with pytest.raises(CheckpointError, match=f"the live model's {refusal}"):
        loaded(make(), "official", parts, **settings)


def test_a_live_model_of_another_layout_is_refused(parts):
    with pytest.raises(CheckpointError, match="a CausalWan, does not have layout 'official': 'CausalBlock' object has"):
        loaded(native(), "official", parts)
    with pytest.raises(CheckpointError, match="a MemFlowShaped, does not have layout 'native': it is no CausalWan"):
        loaded(MemFlowShaped(native()), "native", parts)


def test_a_size_the_official_attention_is_not_written_for(monkeypatch):
    monkeypatch.setattr(official_cache, "FRAME_TOKENS", 1560)
    pipe = live_pipeline(MemFlowShaped(native()), "official", SETTINGS)
    text = (
        "a stream of 32 x 48 pixels has 6 tokens a latent frame, layout 'official' takes 1560 .480 x 832.: the official"
    )
    with pytest.raises(InputError, match=text):
        stream(pipe, 1)
    pipe.detach()


@pytest.mark.parametrize(
    ("controls", "text"),
    [
        (
            {"reference_slots": 1},
            "reference_slots is unsupported: the official attention reads its own memory and nothing",
        ),
        (
            {"reanchor": {"every": 2, "source": "sink"}},
            "reanchor is unsupported: the official attention reads as many memories in every row",
        ),
    ],
)
def test_what_the_official_attention_cannot_do(controls, text):
    pipe = live_pipeline(MemFlowShaped(native()), "official", SETTINGS)
    with pytest.raises(Unsupported, match=f"pipeline 'memflow', layout 'official': {text}"):
        stream(pipe, 1, references=[picture()], controls=controls)
    pipe.detach()


def test_compiling_leaves_a_live_model_as_it_was():
    model = MemFlowShaped(native())
    pipe = live_pipeline(model, "official", SETTINGS).compile(backend="eager")
    pipe.detach()
    assert not any(module._compiled_call_impl for module in model.modules())
