"""Replay of golden files ``framepack_hunyuan``: single passes and whole videos of lllyasviel/FramePack."""

from __future__ import annotations

from typing import cast

import torch
from diffusers import HunyuanVideoFramepackTransformer3DModel
from torch import Tensor

from vace_adapt.context.injection import Attachment
from vace_adapt.contract import BlockInputs, Chunk, Comparison, Hints, HintSource, Level, SourceVideo
from vace_adapt.errors import GoldenError
from vace_adapt.parity.golden import Golden, comparison, max_error
from vace_adapt.weights.foreign import refusing
from vace_adapt_framepack.history import Packed, PackedHistory
from vace_adapt_framepack.hunyuan.loop import FramePackLoop
from vace_adapt_framepack.hunyuan.model import HunyuanDenoiser, hunyuan_blocks
from vace_adapt_framepack.hunyuan.parts import HunyuanPrompt
from vace_adapt_framepack.plan import SectionLayout, forward_layout, inverted_layout, paddings
from vace_adapt_framepack.solver import framepack_solver
from vace_adapt_framepack.wan.model import Injecting, bare

CPU = torch.device("cpu")
Rows = list[tuple[str, float]]


@torch.no_grad()
def replay_hunyuan(golden: Golden) -> Comparison:
    """Errors of every output."""
    model, layers = _model(golden), _layers(golden)
    attachment = Attachment(model, hunyuan_blocks(model), layers) if layers else None
    run = _forward if "input.hidden_states" in golden.tensors else _sections
    try:
        return comparison(run(golden, model, bare if attachment is None else attachment.running))
    finally:
        if attachment is not None:
            attachment.detach()


class FileChunk:
    """A section of a file (`vace_adapt.contract.Chunk`, as far as the loop asks)."""

    def __init__(self, golden: Golden, index: int) -> None:
        self.index = index
        self.text = _prompt(golden, "a")
        self.video: SourceVideo | None = None
        self._golden = golden

    def noise(self, draw: int) -> Tensor:
        return self._golden.tensor(f"noise.{self.index}")

    def denoising(self, step: int, sigma: Level) -> HintSource | None:
        return _hints(self._golden, self.index, step)


def _forward(golden: Golden, model: HunyuanVideoFramepackTransformer3DModel, injecting: Injecting) -> Rows:
    """One pass."""

    def given(name: str) -> Tensor:
        return golden.tensor(f"input.{name}")

    def indices(name: str) -> tuple[int, ...]:
        return tuple(given(f"{name}_indices")[0].tolist())

    layout = SectionLayout(
        noisy=indices("latent"),
        clean=indices("clean_latent"),
        mid=indices("clean_latent_2x"),
        far=indices("clean_latent_4x"),
    )
    frames, history = golden.value("window"), (len(layout.far), len(layout.mid), len(layout.clean) - 1)
    if golden.value("mode") == "f1":
        planned = forward_layout(frames, history)
    else:
        planned = inverted_layout(frames, golden.value("padding_sections"), history)
    prompt = HunyuanPrompt(given("encoder_hidden_states"), given("encoder_attention_mask"), given("pooled_projections"))
    packed = Packed(given("clean_latents"), given("clean_latents_2x"), given("clean_latents_4x"))
    guidance = float(given("guidance")) / 1000
    denoiser = HunyuanDenoiser(model, "hunyuan", injecting, given("image_embeddings"), guidance)
    hints = _hints(golden, 0, 0)
    flow = denoiser(given("hidden_states"), float(given("timestep")), prompt, packed, layout, hints)
    return [
        ("frame indices", 0.0 if layout == planned else float("inf")),
        ("output", max_error(flow, golden.tensor("output.0"))),
    ]


def _sections(golden: Golden, model: HunyuanVideoFramepackTransformer3DModel, injecting: Injecting) -> Rows:
    """A video, section by section in the order of making."""
    inverted = golden.value("mode") == "inverted"
    count, steps, frames = golden.value("sections"), golden.value("steps"), golden.value("window")
    start = golden.tensor("start_latent")
    solver = framepack_solver(steps, golden.value("seq_length"))
    sigmas = torch.tensor([level.sigma for level in solver.levels])
    rows: Rows = [("schedule", max_error(sigmas, torch.tensor(golden.value("sigmas")[:steps])))]
    batch, channels, _, height, width = start.shape
    shape = (batch, channels, frames, height, width)
    history = PackedHistory(shape, inverted=inverted, dtype=torch.float32, device=CPU)
    history.begin(start)
    if not inverted:
        history.push(start)
    guidance = golden.value("real_guidance_scale")
    negative = _prompt(golden, "negative") if guidance != 1 else None
    image = golden.tensor("image_embeddings")
    denoiser = HunyuanDenoiser(model, "hunyuan", injecting, image, golden.value("guidance_scale"))
    loop = FramePackLoop(denoiser, solver, history, guidance=guidance, negative=negative)
    made = []
    for index in range(count):
        layout = inverted_layout(frames, paddings(count)[index]) if inverted else forward_layout(frames)
        if index == count - 1:
            names = ("clean_latents", "clean_latents_2x", "clean_latents_4x")
            for name, latents in zip(names, history.pack(), strict=True):
                rows.append((f"last {name}", max_error(latents, golden.tensor(f"last_section.{name}"))))
        made.append(loop.run(cast("Chunk", FileChunk(golden, index)), layout))
        rows.append((f"section {index}", max_error(made[-1], golden.tensor(f"output.{index}"))))
    in_time = reversed(made) if inverted else made
    whole = torch.cat([start, *in_time], dim=2)
    return [*rows, ("video", max_error(whole, golden.tensor("output.history")))]


def _model(golden: Golden) -> HunyuanVideoFramepackTransformer3DModel:
    with refusing(GoldenError, f"{golden.path}: its weights do not fit its config"):
        model = HunyuanVideoFramepackTransformer3DModel(**golden.value("model_kwargs")).eval()
        model.load_state_dict(golden.weights())
    return model


def _layers(golden: Golden) -> list[int]:
    """Blocks that hints are for; single ones are numbered behind the dual ones."""
    dual = golden.value("num_layers")
    return [*golden.value("hint_dual"), *(dual + layer for layer in golden.value("hint_single"))]


def _hints(golden: Golden, section: int, step: int) -> HintSource | None:
    dual, stem = golden.value("num_layers"), f"hint.{section}.{step}."
    found = {}
    for name, tensor in golden.tensors.items():
        if name.startswith(stem):
            block = name.removeprefix(stem)
            number = int(block.removeprefix("dual").removeprefix("single"))
            found[number if block.startswith("dual") else dual + number] = tensor

    def hints(inputs: BlockInputs) -> Hints:
        return found

    return HintSource(hints) if found else None


def _prompt(golden: Golden, tag: str) -> HunyuanPrompt:
    tokens = golden.tensor(f"prompt.{tag}")
    mask = torch.ones(tokens.shape[:2], dtype=torch.int64)
    return HunyuanPrompt(tokens, mask, golden.tensor(f"pooled.{tag}"))
