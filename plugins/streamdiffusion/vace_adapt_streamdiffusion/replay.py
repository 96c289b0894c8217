"""Replay of golden files made by StreamDiffusionV2."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.text import TextMemory
from vace_adapt.contract import Backbone, BlockInputs, Chunk, Comparison, Hints, HintSource, Level, SourceVideo
from vace_adapt.errors import GoldenError
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.models.schedule import FewStepSchedule
from vace_adapt.parity.golden import Golden, comparison, max_error, read_golden
from vace_adapt.weights.foreign import refusing
from vace_adapt.weights.wan_keys import to_diffusers
from vace_adapt_streamdiffusion.cache import StreamDiffusionCache, ring_spec
from vace_adapt_streamdiffusion.loop import StreamDiffusionLoop
from vace_adapt_streamdiffusion.native import NativeDenoiser
from vace_adapt_streamdiffusion.positions import Positions
from vace_adapt_streamdiffusion.ring import AdaptiveRing
from vace_adapt_streamdiffusion.settings import StreamDiffusionSettings
from vace_adapt_streamdiffusion.start import Start, mixed
from vace_adapt_streamdiffusion.warm_up import WarmUp

CPU = torch.device("cpu")


class GoldenChunk:
    """A chunk whose noise, video, prompt and hints come from the file (`contract.Chunk`)."""

    def __init__(self, golden: Golden, index: int, start: int) -> None:
        self.index = index
        self.start = start
        self.frames = golden.tensor(f"noise.{index}").shape[1]
        self.text = golden.tensor("prompt.a")
        self.prompt_changed = index == 0
        self.reanchor: Mapping[int, Tensor] = {}
        self.video: SourceVideo | None = SourceVideo(golden.tensor(f"video.{index}").transpose(1, 2), (0.0,))
        self._golden = golden

    def noise(self, draw: int) -> Tensor:
        """A stream batch draws for all rows of a call; a chunk is in row r of the call that is r behind its own."""
        call = self.index + (draw - 1 if draw and self.index and self._golden.value("mode") == "stream" else 0)
        name = f"noise.{self.index}" if draw == 0 else f"renoise.{call}.{draw - 1}"
        return self._golden.tensor(name).transpose(1, 2)

    def denoising(self, step: int, sigma: Level) -> HintSource | None:
        stem = f"hint.{self.index}.{step}."
        hints = {
            int(name.removeprefix(stem)): tensor
            for name, tensor in self._golden.tensors.items()
            if name.startswith(stem)
        }

        def given(inputs: BlockInputs) -> Hints:
            return hints

        return HintSource(given) if hints else None

    def unconditional(self, step: int, sigma: Level) -> HintSource | None:
        return None

    def keep(self, latents: Tensor) -> Tensor:
        return latents

    def clean_pass(self, sigma: float) -> HintSource | None:
        return None

    def recaching(self) -> HintSource | None:
        return None


class GoldenWarmUp(WarmUp):
    """Has the noise that the official calls drew for the rows that no chunk had reached."""

    def __init__(self, golden: Golden, chunk: Chunk, index: int) -> None:
        super().__init__(chunk, index)
        self._golden = golden

    def noise(self, draw: int) -> Tensor:
        return self._golden.tensor(f"renoise.{self.index + draw - 1}.{draw - 1}").transpose(1, 2)


@torch.no_grad()
def replay(path: Path) -> Comparison:
    """Errors of every output, of every layer's cache and of the order of its slots."""
    golden = read_golden(path)
    settings = _settings(golden)
    schedule = FewStepSchedule(golden.value("steps_used"), shift=golden.value("timestep_shift"), warp=False, device=CPU)
    model = _model(golden)
    cache = _cache(golden, settings, model)
    loop = StreamDiffusionLoop(
        NativeDenoiser(model, cache),
        schedule,
        _starts(golden, schedule),
        Positions.of(settings),
        warm_up=partial(GoldenWarmUp, golden),
    )
    made = _outputs(golden, loop)
    rows = []
    for number, index in enumerate(golden.value("output_chunk")):
        expected = golden.tensor(f"output.{number}")
        rows.append((f"chunk {index}", max_error(next(made).transpose(1, 2), expected)))
    next(made, None)
    return comparison(rows + _cache_errors(golden, cache.ring))


def _outputs(golden: Golden, loop: StreamDiffusionLoop) -> Iterator[Tensor]:
    """Finished chunks, in order; in a stream batch the last ones that have begun are not finished."""
    chunks, left = _chunks(golden), golden.value("chunks")
    if golden.value("mode") == "wo_batch":
        yield from (loop.run(chunk) for chunk in chunks)
        return
    if golden.value("mode") != "stream":
        raise GoldenError(f"{golden.path}: mode {golden.value('mode')!r} is neither stream nor wo_batch")
    yield loop.first(next(chunks))
    yield from loop.stream(chunks, lambda: left)


def _chunks(golden: Golden) -> Iterator[Chunk]:
    start = 0
    for index in range(golden.value("chunks")):
        chunk = GoldenChunk(golden, index, start)
        start += chunk.frames
        yield chunk


def _settings(golden: Golden) -> StreamDiffusionSettings:
    refresh = golden.config.get("refresh")
    with refusing(GoldenError, f"{golden.path}: its config cannot be run"):
        return StreamDiffusionSettings(
            name="streamdiffusion",
            denoising_steps=tuple(golden.value("steps_used")),
            timestep_shift=golden.value("timestep_shift"),
            chunk_latents=golden.value("num_frame_per_block"),
            slots=golden.value("num_kv_cache"),
            sink=golden.value("num_sink_tokens"),
            sink_threshold=golden.value("adapt_sink_threshold"),
            stream_batch=golden.value("mode") == "stream",
            official_quirks=True,
            position_limit=refresh,
            position_refresh="official",
            noise_scale=golden.value("noise_scale"),
        )


def _starts(golden: Golden, schedule: FewStepSchedule) -> Callable[[Chunk], Start]:
    def start(chunk: Chunk) -> Start:
        scale, step = golden.value("noise_schedule")[chunk.index]
        assert chunk.video is not None
        latents = mixed(chunk.noise(0), chunk.video.latents, [scale])
        return Start(latents, (schedule.timesteps[0] if step is None else float(step),))

    return start


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


def _cache(golden: Golden, settings: StreamDiffusionSettings, model: CausalWan) -> StreamDiffusionCache:
    batch, _, _, height, width = golden.tensor("noise.0").shape
    if batch != 1:
        raise GoldenError(f"{golden.path}: the official loop has a batch of 1, not of {batch}")
    _, rows, columns = golden.value("patch_size")
    heads = golden.value("num_heads")
    head_dim = golden.value("dim") // heads
    blocks = len(settings.denoising_steps) if settings.stream_batch else 1
    ring = AdaptiveRing(
        ring_spec(settings),
        RotaryGrid(head_dim, (height // rows, width // columns), CPU),
        layers=golden.value("num_layers"),
        batch=batch,
        blocks=blocks,
        heads=heads,
        head_dim=head_dim,
        dtype=torch.float32,
        device=CPU,
    )
    text = TextMemory(list(model.blocks))
    return StreamDiffusionCache(ring, text.reserve(blocks, golden.value("text_len"), torch.float32, CPU))


def _cache_errors(golden: Golden, ring: AdaptiveRing) -> list[tuple[str, float]]:
    """The caches, whose slots are the official ones, and the order in which the first layer gives them up."""
    rows = []
    if "evict_idx_layer0" in golden.config:
        found = [_order(ring, row) for row in range(ring.keys.shape[1])]
        rows.append(("cache order", 0.0 if found == golden.config["evict_idx_layer0"] else float("inf")))
    for layer in range(golden.value("num_layers")):
        for name, tensor in (("k", ring.keys[layer]), ("v", ring.values[layer])):
            if f"cache.{layer}.{name}" in golden.tensors:
                rows.append((f"cache {layer}.{name}", max_error(tensor, golden.tensor(f"cache.{layer}.{name}"))))
    return rows


def _order(ring: AdaptiveRing, row: int) -> list[int]:
    """The official list of a row in the first layer."""
    waiting = [end for end in ring.order.pending[0, row].tolist() if end]
    ends, turn = ring.spec.ends, int(ring.order.turn[0, row]) % len(ring.spec.ends)
    return [*waiting, *ends[turn:], *ends[:turn]]
