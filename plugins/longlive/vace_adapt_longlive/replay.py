"""Replay of golden files made by LongLive and by its ancestor Self-Forcing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.recent import RecentLatents
from vace_adapt.cache.ring import RingCache, RingSpec
from vace_adapt.cache.text import TextMemory
from vace_adapt.contract import Backbone, BlockInputs, Comparison, Hints, HintSource, Level, SourceVideo
from vace_adapt.errors import GoldenError
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.models.schedule import FewStepSchedule
from vace_adapt.parity.golden import Golden, comparison, max_error, read_golden
from vace_adapt.weights.foreign import refusing
from vace_adapt.weights.wan_keys import to_diffusers
from vace_adapt_longlive.cache import LongLiveCache
from vace_adapt_longlive.loop import LongLiveLoop
from vace_adapt_longlive.native import NativeDenoiser

CPU = torch.device("cpu")


class GoldenChunk:
    """A chunk whose noise, prompt and hints come from the file (`contract.Chunk`)."""

    def __init__(self, golden: Golden, index: int, start: int, prompt: str, prompt_changed: bool, steps: int) -> None:
        self.index = index
        self.start = start
        self.text = golden.tensor(f"prompt.{prompt}")
        self.prompt_changed = prompt_changed
        self.frames = golden.tensor(f"noise.{index}").shape[1]
        self.reanchor: Mapping[int, Tensor] = {}
        self.video: SourceVideo | None = None
        self._golden = golden
        self._steps = steps

    def noise(self, draw: int) -> Tensor:
        name = f"noise.{self.index}" if draw == 0 else f"renoise.{self.index}.{draw - 1}"
        return self._golden.tensor(name).transpose(1, 2)

    def denoising(self, step: int, sigma: Level) -> HintSource | None:
        return self._hints(str(step))

    def keep(self, latents: Tensor) -> Tensor:
        return latents

    def clean_pass(self, sigma: float) -> HintSource | None:
        return self._hints(str(self._steps))

    def recaching(self) -> HintSource | None:
        return self._hints("recache")

    def _hints(self, step: str) -> HintSource | None:
        stem = f"hint.{self.index}.{step}."
        hints = {int(name.removeprefix(stem)): t for name, t in self._golden.tensors.items() if name.startswith(stem)}

        def given(inputs: BlockInputs) -> Hints:
            return hints

        return HintSource(given) if hints else None


@torch.no_grad()
def replay(path: Path) -> Comparison:
    """Errors of every chunk's output and of every layer's cache."""
    golden = read_golden(path)
    schedule = FewStepSchedule(golden.value("steps_used"), shift=golden.value("timestep_shift"), warp=False, device=CPU)
    model = _model(golden)
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
    return comparison(rows + _cache_errors(golden, cache.ring))


def _model(golden: Golden) -> CausalWan:
    if not golden.config.get("qk_norm", True):
        raise GoldenError(f"{golden.path}: a model without qk_norm is not a Wan2.1 model")
    backbone = Backbone(
        dim=golden.value("dim"),
        ffn_dim=golden.value("ffn_dim"),
        heads=golden.value("num_heads"),
        layers=golden.value("num_layers"),
        text_dim=golden.value("text_dim"),
        text_len=golden.value("text_len"),
        freq_dim=golden.value("freq_dim"),
        latent_channels=golden.value("in_dim"),
        patch=tuple(golden.value("patch_size")),
        cross_attn_norm=golden.value("cross_attn_norm"),
        eps=golden.value("eps"),
    )
    model = CausalWan.of(backbone).eval()
    with refusing(GoldenError, f"{golden.path}: its weights do not fit its config"):
        model.load_state_dict({to_diffusers(name): tensor for name, tensor in golden.weights().items()})
    return model


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


def _cache_errors(golden: Golden, ring: RingCache) -> list[tuple[str, float]]:
    """The caches, slots put in upstream's order: by time, unused ones last."""
    positions = ring.positions()
    order = sorted(range(len(positions)), key=lambda slot: (positions[slot] < 0, positions[slot]))
    rows = []
    if "cache_positions" in golden.config:
        held = [positions[slot] for slot in order if positions[slot] >= 0]
        rows.append(("cache positions", 0.0 if held == golden.config["cache_positions"] else float("inf")))
    for layer in range(golden.value("num_layers")):
        for name, tensor in (("k", ring.keys[layer]), ("v", ring.values[layer])):
            if f"cache.{layer}.{name}" in golden.tensors:
                by_time = tensor.unflatten(1, (len(order), -1))[:, order].flatten(1, 2)
                rows.append((f"cache {layer}.{name}", max_error(by_time, golden.tensor(f"cache.{layer}.{name}"))))
    return rows
