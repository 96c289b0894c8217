"""Replay of one forward of batch VACE (diffusers' `WanVACETransformer3DModel`).

The whole clip is one chunk in an empty cache, which is bidirectional attention. First in batch VACE's own layout,
references in front of the latents, where everything must be equal; then with the references outside the latents (form
`joint`), where the hints of the video rows must be equal.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from vace_adapt.attention.rope import RotaryGrid
from vace_adapt.cache.ring import RingCache, RingSpec
from vace_adapt.cache.text import TextMemory
from vace_adapt.context.blocks import ContextPath
from vace_adapt.context.chunk import ChunkContext
from vace_adapt.context.references import References
from vace_adapt.context.stream import ContextStream
from vace_adapt.contract import Backbone, BlockInputs, Comparison, Hints
from vace_adapt.errors import GoldenError
from vace_adapt.models.causal_wan import CausalWan
from vace_adapt.parity.golden import Golden, comparison, max_error
from vace_adapt.scale import HintScale
from vace_adapt.weights.foreign import refusing


@torch.no_grad()
def replay(golden: Golden) -> Comparison:
    """Errors of the output and of every hint."""
    model, path = _models(golden)
    latents, control = golden.tensor("input.hidden_states"), golden.tensor("input.control")
    references = int(golden.config.get("refs", 0))
    output, hints = _forward(golden, model, path, latents, control, None)
    rows = [("chunk 0", max_error(output, golden.tensor("output.0")))]
    rows += _hint_errors(golden, hints, 0, "hint")
    if references:
        held = References(
            control=control[:, :, :references],
            latents=torch.zeros_like(latents[:, :, :references]),
            noise=latents[:, :, :references],  # at noise level 1 a reference row is its noise
        )
        video = slice(references, None)
        _, hints = _forward(golden, model, path, latents[:, :, video], control[:, :, video], held)
        tokens = math.prod(_grid(path.backbone, latents))
        rows += _hint_errors(golden, hints, references * tokens, "hint, references outside the latents,")
    return comparison(rows)


def _models(golden: Golden) -> tuple[CausalWan, ContextPath]:
    numbers = golden.value("model_kwargs")
    backbone = Backbone(
        dim=numbers["num_attention_heads"] * numbers["attention_head_dim"],
        ffn_dim=numbers["ffn_dim"],
        heads=numbers["num_attention_heads"],
        layers=numbers["num_layers"],
        text_dim=numbers["text_dim"],
        text_len=golden.tensor("prompt.a").shape[1],
        freq_dim=numbers["freq_dim"],
        latent_channels=numbers["in_channels"],
        patch=tuple(numbers["patch_size"]),
        cross_attn_norm=numbers["cross_attn_norm"],
        eps=numbers["eps"],
    )
    weights = golden.weights()
    model, path = CausalWan.of(backbone).eval(), ContextPath(backbone, numbers["vace_layers"]).eval()
    with refusing(GoldenError, f"{golden.path}: its weights do not fit its config"):
        model.load_state_dict({name: t for name, t in weights.items() if not name.startswith("vace_")})
        path.load_state_dict({name: t for name, t in weights.items() if name.startswith("vace_")})
    return model, path


def _forward(
    golden: Golden,
    model: CausalWan,
    path: ContextPath,
    latents: Tensor,
    control: Tensor,
    references: References | None,
) -> tuple[Tensor, Hints]:
    """One bidirectional pass; its output and the scaled hints."""
    batch, _, frames = latents.shape[:3]
    backbone = path.backbone
    rope = RotaryGrid(backbone.head_dim, _grid(backbone, latents), latents.device)
    ring = RingCache(
        RingSpec(frames, 0),
        rope,
        layers=backbone.layers,
        batch=batch,
        heads=backbone.heads,
        head_dim=backbone.head_dim,
        dtype=latents.dtype,
        device=latents.device,
    )
    scale = HintScale(layers=tuple(golden.tensor("input.scale").tolist()))
    context = ContextStream(path, model.patch_embedding, rope, "joint", scale)
    context.set_references(references)
    text = TextMemory(list(model.blocks))
    text.write(model.embed_text(golden.tensor("prompt.a")))
    source = ChunkContext(context, (batch, frames), control, lambda: control).source(0, 1.0)
    seen: dict[int, Tensor] = {}

    def recorded(inputs: BlockInputs) -> Hints:
        seen.update({} if source is None else source(inputs))
        return seen

    layers = partial(ring.layer, step=ring.chunk_pass(0, frames))
    return model(latents, golden.tensor("input.timestep"), text, layers, recorded), seen


def _grid(backbone: Backbone, latents: Tensor) -> tuple[int, int]:
    """Rows and columns of tokens in a latent frame."""
    return latents.shape[3] // backbone.patch[1], latents.shape[4] // backbone.patch[2]


def _hint_errors(golden: Golden, hints: Hints, skip: int, label: str) -> list[tuple[str, float]]:
    """Errors of scaled hints; the file's are unscaled, and have `skip` more rows in front."""
    scales = golden.tensor("input.scale").tolist()
    rows = []
    for layer, scale in zip(golden.value("model_kwargs")["vace_layers"], scales, strict=True):
        if scale:
            expected = golden.tensor(f"hint.0.0.{layer}")[:, skip:] * scale
            rows.append((f"{label} {layer}", max_error(hints[layer], expected)))
    return rows
