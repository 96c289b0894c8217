"""What is special to MemFlow: its configuration, its files, and its streams."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import oracles
import pytest
import slots as slot_oracles
import torch
import yaml
from checkpoints import base_names, original, save_text_encoder, vace_names
from safetensors.torch import save_file
from support import distance, frames, opened, picture, run, same, stream

from vace_adapt import load_pipeline
from vace_adapt.conditioning.vae import EncoderStream
from vace_adapt.contract import CacheOps
from vace_adapt.embedded.tiny import TINY, seeded, tiny_context_path, tiny_vae
from vace_adapt.errors import CheckpointError, SettingsError
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt_memflow.settings import MemFlowSettings

SETTINGS = MemFlowSettings(name="memflow")


def load(**settings):
    return load_pipeline("memflow", seed=0, settings=settings, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def pipe():
    """The tiny MemFlow pipeline. Shared: tests must not change it."""
    return load()


@pytest.fixture(scope="module")
def base():
    """The base model alone."""
    bare = load()
    bare.detach()
    return bare


@pytest.fixture(scope="module")
def longlive():
    return load_pipeline("longlive", seed=0, device="cpu", dtype="float32")


# --- configuration ------------------------------------------------------------------------------------------------


def test_yaml_says_what_the_settings_default_to():
    import vace_adapt_memflow

    file = Path(vace_adapt_memflow.__file__).parent / "conf" / "pipeline" / "memflow.yaml"
    assert MemFlowSettings.model_validate(yaml.safe_load(file.read_text())) == SETTINGS


def test_official_numbers():
    """KlingTeam/MemFlow configs/inference.yaml and configs/interactive_inference.yaml."""
    assert SETTINGS.denoising_steps == (1000, 750, 500, 250)
    assert (SETTINGS.window, SETTINGS.sink, SETTINGS.chunk_latents) == (12, 3, 3)
    assert (SETTINGS.bank, SETTINGS.record_interval, SETTINGS.sparse, SETTINGS.sparse_frames) == (3, 3, False, 3)
    assert (SETTINGS.timestep_shift, SETTINGS.context_noise, SETTINGS.global_sink) == (5.0, 0, True)
    assert (SETTINGS.lora.rank, SETTINGS.lora.alpha) == (256, 256)


def test_a_memory_without_a_sink_is_refused():
    with pytest.raises(SettingsError, match="pipeline.sink: must be greater than or equal to 1, not 0"):
        load(sink=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"chunk_latents": 1, "window": 6, "sink": 2, "bank": 2, "record_interval": 1},
        {"chunk_latents": 4, "window": 9, "sink": 1, "bank": 1, "memory": "single"},
        {"window": -1, "max_latents": 30, "record_interval": 2},
        {"window": 9, "bank": 5, "record_interval": 1, "sparse": True, "sparse_frames": 2},
        {"denoising_steps": [1000, 500], "global_sink": False, "official_quirks": False, "record_interval": 1},
    ],
)
def test_other_numbers_run_controlled_and_with_a_switch(settings):
    """Any chunk length, and a size that is no multiple of another."""
    pipe = load(**settings)
    with pipe.stream("a", height=48, width=80, references=[picture(0, 48, 80)]) as session:
        for index in range(7):
            session.feed(frames(session.shapes.time.pixels(index), height=48, width=80))
            if index == 5:
                session.update(prompt="b")
            assert torch.isfinite(next(session).latents).all()
        bank = session.cache.positions()[session.cache.layout.slots - pipe.parts.settings.bank :]
        assert len(bank) == pipe.parts.settings.bank
        assert all(frame % pipe.parts.settings.chunk_latents == 0 for frame in bank if frame >= 0)


# --- the memory ---------------------------------------------------------------------------------------------------


def test_it_is_longlive_until_something_is_remembered(pipe, longlive):
    """The bank is empty in chunk 0, and holds the first frame from chunk 1 on."""
    ours, theirs = stream(pipe, 2), stream(longlive, 2)
    assert same(ours[:1], theirs[:1])
    assert distance(ours[1:], theirs[1:]) > 1e-3


def banks(pipe, chunks, **options):
    """Frames in the first layer's bank while each chunk is made."""
    found = []
    size = pipe.parts.settings.bank
    with opened(pipe, **options) as session:
        for _ in range(chunks):
            next(session)
            found.append([frame for frame in session.cache.positions()[-size:] if frame >= 0])
    return found


def test_an_interactive_memory_takes_in_one_frame_an_interval():
    found = banks(load(official_quirks=False), 9)
    assert found == [[], [0], [0], [0], [0, 9], [0, 9], [0, 9], [0, 9, 18], [0, 9, 18]]


def test_a_single_memory_takes_in_the_newest_frame_of_the_interval():
    found = banks(load(memory="single"), 9)
    assert found == [[], [0], [3], [6], [6, 9], [6, 12], [6, 15], [6, 15, 18], [6, 15, 21]]


@pytest.mark.parametrize("memory", ["single", "interactive"])
def test_a_full_bank_keeps_two_and_takes_in_one(memory):
    found = banks(load(memory=memory, record_interval=1, official_quirks=False), 9)
    for before, after in pairwise(found[3:]):
        assert after[2] == before[2] + 3, "the frame that was on offer"
        assert len(set(before) & set(after[:2])) == 2
        assert len(set(after)) == 3


def test_quirks_take_a_frame_in_again():
    """Off: once. On: before every chunk, so that a full bank holds it more than once."""
    off, on = (banks(load(official_quirks=quirks), 13)[-1] for quirks in (False, True))
    assert len(set(off)) == 3
    assert off[2] == on[2] == 27
    assert on[1] == 27 or on[0] == 27


@pytest.mark.parametrize("quirks", [False, True])
def test_what_a_new_prompt_is_asked_with(quirks):
    """On: zeros, which keep the first two slots, whatever is in them."""
    pipe = load(official_quirks=quirks, record_interval=1)
    with opened(pipe) as session:
        for _ in range(7):
            next(session)
        before = session.cache.positions()[-3:]
        session.update(prompt="a blue cube at night")
        asked = []
        bank = session.cache.bank
        take = bank.take
        bank.take = lambda prompt: asked.append(prompt) or take(prompt)
        next(session)
        after = session.cache.positions()[-3:]
        next(session)
    assert [prompt is None for prompt in asked] == [quirks, quirks, False]
    if quirks:
        assert after[:2] == before[:2]


def test_layers_and_rows_choose_for_themselves():
    pipe = load(record_interval=1, official_quirks=False)
    with opened(pipe, prompt=["a red ball", "a dog on the lawn"], seed=[0, 1]) as session:
        for _ in range(12):
            next(session)
        frames_held = session.cache.bank.frames
        assert len({tuple(held) for held in frames_held[:, 0].tolist()}) > 1
        assert not torch.equal(frames_held[:, 0], frames_held[:, 1])
        assert session.cache.positions(1)[-3:] == tuple(frames_held[0, 1].tolist())


def test_sparse_attention_over_few_frames_sees_them_all():
    """Bit for bit until the memories are more than are chosen, up to the order in which they are added."""
    plain, sparse = load(window=9), load(window=9, sparse=True, sparse_frames=4)
    p, s = stream(plain, 6), stream(sparse, 6)
    assert distance(p[:4], s[:4]) < 1e-4
    assert distance(p[4:], s[4:]) > 1e-4


def test_positions_and_layout(pipe):
    with opened(pipe) as session:
        layout = session.cache.layout
        assert isinstance(session.cache, CacheOps)
        assert (layout.kind, layout.slots, layout.sink, layout.bank) == ("ring+bank", 15, 3, 3)
        assert session.cache.positions() == (-1,) * 15
        for _ in range(5):
            next(session)
        held = session.cache.positions()
        assert sorted(held[:12]) == [0, 1, 2, *range(6, 15)]
        assert held[12:] == (0, 9, -1)


def test_a_sink_that_is_not_kept_is_written_anew():
    pipe = load(global_sink=False)
    with opened(pipe) as session:
        for _ in range(5):
            next(session)
        session.update(prompt="b")
        next(session)
        assert sorted(session.cache.positions()[:12]) == [3, 4, 5, *range(9, 18)]
        assert session.cache.ring.keys[:, :, :6].abs().amax(dim=(1, 2, 3, 4)).all(), "no zeros are left in it"


# --- streams, as core promises them ---------------------------------------------------------------------------------


def test_without_control_it_is_the_base(pipe, base):
    oracles.no_hints_is_the_base(pipe, base)
    oracles.scale_zero_is_the_base(pipe, base)
    assert distance(stream(pipe, 3), stream(base, 3, control=False)) > 1e-3


def test_rows_of_a_batch_do_not_meet():
    """Over a full bank, which every row compresses by its own prompt."""
    pipe = load(record_interval=1, official_quirks=False)
    rows = {"seed": [4, 7], "prompt": ["a red ball", "a dog"], "references": [[picture(1)], [picture(2)]]}
    both = stream(pipe, 6, **rows)
    for row in range(2):
        alone = stream(pipe, 6, seed=rows["seed"][row], prompt=rows["prompt"][row], references=rows["references"][row])
        assert distance([chunk[row : row + 1] for chunk in both], alone) < 1e-4


def test_interleaved_streams_do_not_meet(pipe):
    oracles.interleaved_streams_do_not_meet(pipe)


def test_references_are_remembered_exactly(pipe):
    oracles.cached_references_equal_recomputed_ones(pipe)


def test_nothing_grows(pipe):
    oracles.nothing_grows(pipe, chunks=36, settled=14)


@pytest.mark.parametrize("taken_at", [0, 2, 11])
def test_the_memory_can_be_taken_at_any_chunk_and_put_back(pipe, taken_at):
    """What follows is the same, bit for bit: nothing of a stream is anywhere else."""
    options = {"references": [picture()], "controls": {"reference_slots": 1}}
    with opened(pipe, **options) as session:
        for _ in range(taken_at):
            next(session)
        kept, positions = session.cache.snapshot(), session.cache.positions()
        tensors = session.cache.tensors()
        held = {name: tensor.clone() for name, tensor in tensors.items()}
        for _ in range(4):
            next(session)
        assert not all(torch.equal(tensor, held[name]) for name, tensor in tensors.items())
        session.cache.restore(kept)
        assert all(session.cache.tensors()[name] is tensor for name, tensor in tensors.items())
        assert all(torch.equal(tensor, held[name]) for name, tensor in tensors.items())
        assert session.cache.positions() == positions
        session.cache.reset()
        left = {name: tensor for name, tensor in tensors.items() if name != "bank.frames"}
        assert not any(tensor.any() for tensor in left.values())
        assert set(session.cache.positions()) == {-1}


def loops_agree(pipe, chunks=12, back_to=7):
    """A stream whose memory is put back goes on as it did."""
    with opened(pipe) as session:
        made = []
        for index in range(chunks):
            if index == back_to:
                kept = session.cache.snapshot()
            made.append(next(session).latents.clone())
    with opened(pipe) as session:
        for _ in range(back_to):
            next(session)
        session.cache.reset()
        session.cache.restore(kept)
        again = [next(session).latents.clone() for _ in range(chunks - back_to)]
    return same(made[back_to:], again)


def test_a_snapshot_is_the_whole_memory():
    assert loops_agree(load(record_interval=1))


@pytest.mark.parametrize("forgotten", ["_rows", "frames", "keys"])
def test_a_snapshot_without_the_bank_is_noticed(forgotten, monkeypatch):
    from vace_adapt_memflow.bank import MemoryBank

    real = MemoryBank.restore

    def restore(self, snapshot):
        if forgotten == "_rows":
            rows = self._rows
            real(self, snapshot)
            self._rows = rows
        elif forgotten == "keys":
            real(self, snapshot)
            self.keys.zero_()
        else:
            real(self, snapshot)
            self.frames.fill_(-1)

    monkeypatch.setattr(MemoryBank, "restore", restore)
    pipe = load(record_interval=1)
    if forgotten == "frames":
        with opened(pipe) as session:
            for _ in range(5):
                next(session)
            positions, kept = session.cache.positions(), session.cache.snapshot()
            session.cache.restore(kept)
            assert session.cache.positions() != positions
    else:
        assert not loops_agree(pipe)


def test_references_in_reserved_slots(pipe):
    """One plain pass over reference rows and chunk rows gives the flow of chunk 0."""
    slot_oracles.flow_is_that_of_one_pass(pipe, chunks=1)


def test_reserved_slots_that_nobody_uses_change_nothing(pipe):
    assert same(stream(pipe, 6), stream(pipe, 6, controls={"reference_slots": 2}))
    used = stream(pipe, 6, references=[picture()], controls={"reference_slots": 2})
    assert distance(used, stream(pipe, 6, references=[picture()])) > 1e-3


def test_kept_latents_are_the_sources(pipe):
    fed = frames(21)
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, 16:40] = 255
    chunks = run(opened(pipe, controls={"structure": [], "preserve": "latent"}), fed, mask)
    pixels = torch.from_numpy(fed).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    encoded = pipe.codec.normalise(EncoderStream(pipe.codec, pipe.codec.zero_video((1, 32, 48))).encode(pixels))
    latents = torch.cat([chunk.latents for chunk in chunks], dim=2)
    kept = torch.from_numpy(mask.reshape(4, 8, 6, 8).max(axis=(1, 3)) == 0)
    assert distance([latents[..., kept]], [encoded[..., kept]]) < 1e-5
    assert (latents[..., ~kept] - encoded[..., ~kept]).abs().min() > 0


@pytest.mark.parametrize("sparse", [False, True])
def test_a_compiled_pipeline_does_the_same(sparse):
    """Whole blocks as graphs, while the bank fills and references are seen."""
    settings = {"record_interval": 1, "denoising_steps": [1000], "sparse": sparse}
    options = {"references": [picture()], "controls": {"reference_slots": 1}}
    compiled = load(**settings).compile(backend="eager")
    assert distance(stream(compiled, 5, **options), stream(load(**settings), 5, **options)) < 1e-5


# --- the official files ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Tiny weights in every official file layout: what a user of the real model points at."""
    folder = tmp_path_factory.mktemp("files")
    model, context = seeded(lambda: CausalWan.of(TINY), 0, "base"), tiny_context_path(0)
    state = {f"model.{name}": t for name, t in original(model.state_dict(), base_names(TINY.layers)).items()}
    averaged = {name.replace("model.", "model._fsdp_wrapped_module."): t + 0.01 for name, t in state.items()}
    torch.save({"generator": state, "generator_ema": averaged}, folder / "base.pt")
    save_text_encoder(folder / "text")
    tiny_vae(0).save_pretrained(folder / "vae")
    save_file(original(context.state_dict(), vace_names(2)), folder / "vace.safetensors")
    return {
        "base": str(folder / "base.pt"),
        "vae": str(folder / "vae"),
        "text_encoder": str(folder / "text"),
        "control": str(folder / "vace.safetensors"),
    }


def from_files(files, **settings):
    settings = {"backbone": TINY.model_dump(), **settings}
    return load_pipeline("memflow", weights=files, settings=settings, device="cpu")


def test_official_files_give_the_tiny_pipeline(files, pipe):
    assert same(stream(from_files(files), 4, references=[picture()]), stream(pipe, 4, references=[picture()]))
    assert distance(stream(from_files(files, use_ema=True), 1), stream(pipe, 1)) > 1e-3


def test_lora_file(files, tmp_path, pipe):
    lora = {}
    for name in base_names(TINY.layers):
        if name.startswith("blocks.") and name.endswith((".q.weight", ".ffn.0.weight")):
            wide = TINY.ffn_dim if ".ffn.0." in name else TINY.dim
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            lora[f"{stem}.lora_A.weight"] = torch.full((2, TINY.dim), 0.02)
            lora[f"{stem}.lora_B.weight"] = torch.full((wide, 2), 0.02)
    torch.save({"generator_lora": lora}, tmp_path / "lora.pt")
    weights = {**files, "lora": str(tmp_path / "lora.pt")}
    adapted = from_files(weights, lora={"rank": 2, "alpha": 2})
    assert distance(stream(adapted, 2), stream(pipe, 2)) > 1e-3
    with pytest.raises(CheckpointError, match="is a LoRA of rank 2, the settings say 256"):
        from_files(weights)


def test_missing_files_are_named(files):
    with pytest.raises(
        CheckpointError, match="weights.base is not given: pipeline 'memflow' needs base, vae and text_encoder"
    ):
        from_files({**files, "base": None})
