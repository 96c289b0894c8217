"""Replay of golden files ``helios_wan``: single passes, and sections of diffusers' HeliosPipeline."""

from __future__ import annotations

import torch
from diffusers import HeliosTransformer3DModel
from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.context.blocks import ContextPath
from vace_adapt.context.chunk import ChunkContext
from vace_adapt.context.injection import Attachment
from vace_adapt.context.stream import ContextStream
from vace_adapt.contract import Backbone, BlockInputs, Comparison, Hints, HintSource, Level
from vace_adapt.errors import GoldenError
from vace_adapt.parity.causal import GoldenChunk
from vace_adapt.parity.golden import Golden, comparison, max_error
from vace_adapt.scale import HintScale
from vace_adapt.weights.foreign import refusing
from vace_adapt_framepack.history import Packed, PackedHistory
from vace_adapt_framepack.plan import SectionLayout, forward_layout
from vace_adapt_framepack.solver import helios_solver
from vace_adapt_framepack.wan.loop import HeliosLoop
from vace_adapt_framepack.wan.model import HeliosDenoiser, Injecting, bare, helios_blocks

CPU = torch.device("cpu")
Rows = list[tuple[str, float]]


@torch.no_grad()
def replay_helios(golden: Golden) -> Comparison:
    """Errors of every output, and of hints that are made anew from ``context_weight.*``."""
    model = _model(golden)
    layers = golden.value("vace_layers")
    attachment = Attachment(model, helios_blocks(model), layers) if golden.value("hints") else None
    try:
        run = _forward if "input.hidden_states" in golden.tensors else _sections
        return comparison(run(golden, model, attachment))
    finally:
        if attachment is not None:
            attachment.detach()


class HeliosChunk(GoldenChunk):
    """A section of a file, whose noise is [B, C, F, h, w] and whose hints are not scaled yet."""

    def noise(self, draw: int) -> Tensor:
        return self._golden.tensor(f"noise.{self.index}")

    def denoising(self, step: int, sigma: Level) -> HintSource | None:
        found = super().denoising(step, sigma)
        return None if found is None else HintSource(lambda inputs: _scaled(found(inputs), self._golden.value("scale")))


def _forward(golden: Golden, model: HeliosTransformer3DModel, attachment: Attachment | None) -> Rows:
    """One pass; without references its hints are those that core's context path makes."""
    indices = {name: tuple(frames) for name, (frames,) in golden.value("indices").items()}
    layout = SectionLayout(
        noisy=indices["indices_hidden_states"],
        clean=indices["indices_latents_history_short"],
        mid=indices["indices_latents_history_mid"],
        far=indices["indices_latents_history_long"],
    )
    rows: Rows = [("frame indices", _equal(layout, forward_layout(golden.value("chunk"), _history(golden))))]
    hints: HintSource | None = None
    injecting: Injecting = bare
    if attachment is not None:
        source = _made_anew(golden, model)
        made: dict[int, Tensor] = {}

        def hints_of(inputs: BlockInputs) -> Hints:
            made.update(source(inputs))
            return _scaled(made, golden.value("scale"))

        hints, injecting = HintSource(hints_of), attachment.running
    packed = Packed(*(golden.tensor(f"input.history_{name}") for name in ("short", "mid", "long")))
    denoiser = HeliosDenoiser(model, injecting, layout, CPU)
    noisy, timestep = golden.tensor("input.hidden_states"), golden.tensor("input.timestep")
    flow = denoiser(noisy, timestep, golden.tensor("prompt.a"), packed, hints)
    if hints is not None:
        rows += [(f"hint {i}", max_error(hint, golden.tensor(f"hint.0.0.{i}"))) for i, hint in sorted(made.items())]
    return [*rows, ("output", max_error(flow, golden.tensor("output.0")))]


def _sections(golden: Golden, model: HeliosTransformer3DModel, attachment: Attachment | None) -> Rows:
    """The sections of a pipeline, one behind the other."""
    first = golden.tensor("noise.0")
    batch, channels, frames, height, width = first.shape
    layout = forward_layout(frames, _history(golden))
    steps, scheduler = golden.value("steps"), golden.value("scheduler")
    patch = golden.value("model_kwargs")["patch_size"]
    solver = helios_solver(
        steps,
        frames * (height // patch[1]) * (width // patch[2]),
        kind=scheduler["scheduler_type"],
        dynamic_shift=scheduler["use_dynamic_shifting"],
        time_shift=scheduler["time_shift_type"],
    )
    levels = torch.tensor(solver.levels, dtype=torch.float64)
    expected = torch.tensor([golden.value("timesteps"), golden.value("sigmas")[:steps]], dtype=torch.float64).T
    rows: Rows = [("schedule", max_error(levels, expected))]
    history = PackedHistory((batch, channels, frames, height, width), _history(golden), dtype=torch.float32, device=CPU)
    injecting = bare if attachment is None else attachment.running
    loop = HeliosLoop(HeliosDenoiser(model, injecting, layout, CPU), solver, history, 1.0, lambda: first)
    for index in range(golden.value("sections")):
        chunk = HeliosChunk(golden, index, index * frames, "a", index == 0, steps)
        rows.append((f"chunk {index}", max_error(loop.run(chunk), golden.tensor(f"output.{index}"))))
    return rows


def _model(golden: Golden) -> HeliosTransformer3DModel:
    with refusing(GoldenError, f"{golden.path}: its weights do not fit its config"):
        model = HeliosTransformer3DModel(**golden.value("model_kwargs")).eval()
        model.load_state_dict(golden.weights())
    return model


def _made_anew(golden: Golden, model: HeliosTransformer3DModel) -> HintSource:
    """Core's context path over the file's control, at scale 1."""
    if golden.value("refs"):
        raise GoldenError(f"{golden.path}: references are replayed in sections only")
    sizes = golden.value("model_kwargs")
    backbone = Backbone(
        dim=sizes["num_attention_heads"] * sizes["attention_head_dim"],
        ffn_dim=sizes["ffn_dim"],
        heads=sizes["num_attention_heads"],
        layers=sizes["num_layers"],
        text_dim=sizes["text_dim"],
        freq_dim=sizes["freq_dim"],
        patch=tuple(sizes["patch_size"]),
    )
    path = ContextPath(backbone, golden.value("vace_layers")).eval()
    stem = "context_weight."
    weights = {name.removeprefix(stem): t for name, t in golden.tensors.items() if name.startswith(stem)}
    with refusing(GoldenError, f"{golden.path}: its context weights do not fit its config"):
        path.load_state_dict(weights)
    control = golden.tensor("control.0")
    batch, _, frames, height, width = control.shape
    rope = RotaryGrid(backbone.head_dim, (height // backbone.patch[1], width // backbone.patch[2]), CPU)
    stream = ContextStream(path, model.patch_embedding, rope, "cached", HintScale())
    found = ChunkContext(stream, (batch, frames), control, lambda: torch.zeros_like(control)).source(0, 0.0)
    assert found is not None
    return found


def _history(golden: Golden) -> tuple[int, int, int]:
    far, mid, near = golden.value("history_sizes")
    return far, mid, near


def _scaled(hints: Hints, scale: float) -> Hints:
    return {layer: hint * scale for layer, hint in hints.items()}


def _equal(came: SectionLayout, expected: SectionLayout) -> float:
    return 0.0 if came == expected else float("inf")
