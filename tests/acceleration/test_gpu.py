"""What can only be seen on a GPU. Not run where there is none."""

from __future__ import annotations

import pytest
import torch
from support import distance, frames, picture, same, stream
from test_precision import relative

from vace_adapt import Reference, load_pipeline
from vace_adapt.context import references as references_module

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module")
def gpu():
    return load_pipeline("longlive", seed=0, device="cuda", dtype="float32")


def test_auto_is_the_gpu_in_bfloat16():
    auto = load_pipeline("longlive", seed=0)
    assert (auto.device.type, auto.dtype) == ("cuda", torch.bfloat16)
    assert all(torch.isfinite(chunk).all() for chunk in stream(auto, 3, references=[picture()]))


def test_gpu_follows_cpu(gpu, pipe):
    found = [chunk.cpu() for chunk in stream(gpu, 5, references=[picture()])]
    assert relative(found, stream(pipe, 5, references=[picture()])) < 1e-2


def test_same_seed_same_bits_and_scale_zero_is_the_base(gpu):
    assert same(stream(gpu, 3, references=[picture()]), stream(gpu, 3, references=[picture()]))
    bare = load_pipeline("longlive", seed=0, device="cuda", dtype="float32")
    bare.detach()
    assert same(stream(gpu, 3, scale=0.0), stream(bare, 3, control=False))


def test_cached_references_equal_recomputed_ones(gpu, monkeypatch):
    kept = stream(gpu, 3, references=[picture(), picture(1)])
    real = references_module.ReferenceRows.remembered

    def forgetful(self, *args, **rest):
        self._made_for.clear()
        return real(self, *args, **rest)

    monkeypatch.setattr(references_module.ReferenceRows, "remembered", forgetful)
    assert same(kept, stream(gpu, 3, references=[picture(), picture(1)]))


@pytest.mark.parametrize(
    "options",
    [
        {"references": [picture()]},
        {"references": [picture(), Reference(picture(1), scale=0.5)]},
        {"references": [picture(), Reference(picture(1), scale=0.5)], "controls": {"reference_slots": 3}},
        {"controls": {"structure": [{"annotator": "plain", "region": (0, 0, 0.5, 1), "scale": 0.5}]}},
    ],
)
def test_nothing_waits_for_the_device_inside_the_step_loop(gpu, monkeypatch, options):
    """From the second denoise step on, any synchronisation is an error; the chunk's own start may copy to the
    device."""
    from vace_adapt.streaming.chunk import SessionChunk

    real = SessionChunk.denoising

    def strict(self, step, sigma):
        torch.cuda.set_sync_debug_mode("error" if step > 0 else "default")
        return real(self, step, sigma)

    def relaxed(self, sigma):
        torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(SessionChunk, "denoising", strict)
    monkeypatch.setattr(SessionChunk, "clean_pass", relaxed)
    try:
        assert len(stream(gpu, 6, **options)) == 6
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_device_memory_is_constant_over_a_stream(gpu):
    held = []
    with gpu.stream("a", height=32, width=48, references=[picture()]) as session:
        for index in range(60):
            session.feed(frames(session.shapes.time.pixels(index)))
            next(session)
            held.append(torch.cuda.memory_allocated())
    assert held[59] <= held[20]


def test_compiled_blocks_follow_eager_ones(gpu):
    compiled = load_pipeline("longlive", seed=0, device="cuda", dtype="float32").compile()
    assert distance(stream(compiled, 6), stream(gpu, 6)) < 1e-2


@pytest.mark.parametrize("config", ["Float8WeightOnlyConfig", "Float8DynamicActivationFloat8WeightConfig"])
def test_fp8_weights_follow_bfloat16(config):
    torchao = pytest.importorskip("torchao.quantization")
    plain = load_pipeline("longlive", seed=0, device="cuda", dtype="bfloat16")
    quantised = load_pipeline("longlive", seed=0, device="cuda", dtype="bfloat16")
    for module in (quantised.parts.model, quantised.context):
        torchao.quantize_(module, getattr(torchao, config)())
    found, expected = (stream(p, 3, references=[picture()]) for p in (quantised, plain))
    assert distance(found, expected) > 1e-3, "weights were really quantised"
    assert relative(found, expected) < 0.25
