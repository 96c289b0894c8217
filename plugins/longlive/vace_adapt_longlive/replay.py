"""Replay of golden files made by LongLive and by its ancestor Self-Forcing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.recent import RecentLatents
from vace_adapt.cache.ring import RingCache, RingSpec
from vace_adapt.cache.text import TextMemory
from vace_adapt.contract import Comparison
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.models.schedule import FewStepSchedule
from vace_adapt.parity.causal import GoldenChunk, model_of, ring_errors
from vace_adapt.parity.golden import Golden, comparison, max_error, read_golden
from vace_adapt_longlive.cache import LongLiveCache
from vace_adapt_longlive.loop import LongLiveLoop
from vace_adapt_longlive.native import NativeDenoiser

CPU = torch.device("cpu")


@torch.no_grad()
def replay(path: Path) -> Comparison:
    """Errors of every chunk's output and of every layer's cache."""
    golden = read_golden(path)
    schedule = FewStepSchedule(golden.value("steps_used"), shift=golden.value("timestep_shift"), warp=False, device=CPU)
    model = model_of(golden)
    cache = _cache(golden, model)
    loop = LongLiveLoop(NativeDenoiser(model, schedule, cache), schedule, golden.value("context_noise"))
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
    return comparison(rows + ring_errors(golden, cache.ring))


def _cache(golden: Golden, model: CausalWan) -> LongLiveCache:
    """The file's window and sink; LongLive protects and pads its sink, Self-Forcing does neither."""
    batch, _, channels, height, width = golden.tensor("noise.0").shape
    grid = (height // golden.value("patch_size")[1], width // golden.value("patch_size")[2])
    longlive = golden.pipeline == "longlive"
    window = golden.value("local_attn_size")
    spec = RingSpec(
        slots=_slots(golden, grid[0] * grid[1]),
        sink=golden.value("sink_size"),
        evicts=window != -1,
        relative=golden.config.get("infinity", False),
        protect_sink=longlive,
        pad_sink=longlive,
    )
    heads = golden.value("num_heads")
    ring = RingCache(
        spec,
        RotaryGrid(golden.value("dim") // heads, grid, CPU),
        layers=golden.value("num_layers"),
        batch=batch,
        heads=heads,
        head_dim=golden.value("dim") // heads,
        dtype=torch.float32,
        device=CPU,
    )
    recent = RecentLatents(spec.slots, (batch, channels, 0, height, width), torch.float32, CPU)
    return LongLiveCache(ring, recent, TextMemory(list(model.blocks)))


def _slots(golden: Golden, frame_tokens: int) -> int:
    if "cache.0.k" in golden.tensors:
        return golden.tensor("cache.0.k").shape[1] // frame_tokens
    if golden.value("local_attn_size") != -1:
        return int(golden.value("local_attn_size"))
    return sum(golden.tensor(f"noise.{i}").shape[1] for i in range(golden.value("chunks")))
