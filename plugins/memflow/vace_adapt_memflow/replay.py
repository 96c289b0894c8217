"""Replay of golden files made by MemFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.recent import RecentLatents
from vace_adapt.cache.ring import RingCache
from vace_adapt.cache.text import TextMemory
from vace_adapt.contract import Comparison
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.models.schedule import FewStepSchedule
from vace_adapt.parity.causal import GoldenChunk, model_of, ring_errors
from vace_adapt.parity.golden import Golden, comparison, max_error, read_golden
from vace_adapt_memflow.bank import MemoryBank
from vace_adapt_memflow.cache import MemFlowCache, bank_of, ring_spec
from vace_adapt_memflow.loop import MemFlowLoop
from vace_adapt_memflow.native import NativeDenoiser
from vace_adapt_memflow.settings import MemFlowSettings

CPU = torch.device("cpu")


@torch.no_grad()
def replay(path: Path) -> Comparison:
    """Errors of every chunk's output, of every layer's cache, and of its bank."""
    golden = read_golden(path)
    schedule = FewStepSchedule(golden.value("steps_used"), shift=golden.value("timestep_shift"), warp=False, device=CPU)
    model = model_of(golden)
    cache = _cache(golden, model)
    loop = MemFlowLoop(NativeDenoiser(model, schedule, cache, quirks=True), schedule, golden.value("context_noise"))
    events = {event["chunk"]: event for event in golden.events}
    rows = []
    start, prompt = 0, "a"
    for index in range(golden.value("chunks")):
        event: Mapping[str, Any] = events.get(index, {})
        prompt = event.get("prompt", prompt)
        chunk = GoldenChunk(golden, index, start, prompt, index == 0 or bool(event), len(schedule))
        if chunk.prompt_changed:
            loop.switch_prompt(chunk, keep_sink=event.get("global_sink", True))
        latents = loop.run(chunk)
        rows.append((f"chunk {index}", max_error(latents.transpose(1, 2), golden.tensor(f"output.{index}"))))
        start += chunk.frames
    return comparison(rows + ring_errors(golden, cache.ring) + _bank_errors(golden, cache.bank))


def _cache(golden: Golden, model: CausalWan) -> MemFlowCache:
    batch, frames, channels, height, width = golden.tensor("noise.0").shape
    _, rows, columns = golden.value("patch_size")
    settings = MemFlowSettings(
        name="memflow",
        chunk_latents=frames,
        window=golden.value("local_attn_size"),
        sink=golden.value("sink_size"),
        max_latents=frames * golden.value("chunks"),
        bank=golden.value("bank_size"),
        record_interval=golden.value("record_interval"),
        memory=golden.value("mode"),
        official_quirks=True,
    )
    heads = golden.value("num_heads")
    head_dim = golden.value("dim") // heads
    ring = RingCache(
        ring_spec(settings),
        RotaryGrid(head_dim, (height // rows, width // columns), CPU),
        layers=golden.value("num_layers"),
        batch=batch,
        heads=heads,
        head_dim=head_dim,
        dtype=torch.float32,
        device=CPU,
        bank=settings.bank,
    )
    recent = RecentLatents(settings.slots, (batch, channels, 0, height, width), torch.float32, CPU)
    sparse = settings.sparse_frames if golden.value("SMA") else None
    return MemFlowCache(ring, bank_of(ring, settings), recent, TextMemory(list(model.blocks)), sparse=sparse)


def _bank_errors(golden: Golden, bank: MemoryBank) -> list[tuple[str, float]]:
    """The bank in upstream's order of slots, and the frame on offer."""
    rows = []
    if "bank_positions" in golden.config:
        held = bank.frames[:, 0].tolist()
        rows.append(("bank positions", 0.0 if held == golden.config["bank_positions"] else float("inf")))
    for layer in range(golden.value("num_layers")):
        keys, values = bank.in_slot_order(layer)
        tensors = {"k": keys, "v": values, "k_new": bank.keys[layer], "v_new": bank.values[layer]}
        for name, tensor in tensors.items():
            if f"bank.{layer}.{name}" in golden.tensors:
                rows.append((f"bank {layer}.{name}", max_error(tensor, golden.tensor(f"bank.{layer}.{name}"))))
    return rows
