"""Base model and context blocks over whole clips, for training: noise levels by frame, any attention mask.

The modules and their arithmetic are the product's (`CausalWan`, `ContextPath`); this forward knows no cache and no
chunks. The test beside it holds it to both diffusers' WanVACE transformer and the streaming models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from vace_adapt.attention.plain import output, self_projections, text_projections
from vace_adapt.attention.rope import RotaryGrid, Rotation, rotate
from vace_adapt.context.blocks import ContextPath
from vace_adapt.models.causal_wan import CausalWan


class Rows(NamedTuple):
    """Tokens of some latent frames as the blocks see them; T tokens a frame.

    Attributes:
        hidden: [B, F*T, D].
        modulation: [B, F, 6, D].
        embedded: [B, F, D] noise level.
        text: [B, N, D].
        rotation: of the tokens.
        mask: bool [F*T, F*T], True where a row may look; None for everywhere.
    """

    hidden: Tensor
    modulation: Tensor
    embedded: Tensor
    text: Tensor
    rotation: Rotation
    mask: Tensor | None


def flow(
    base: CausalWan,
    latents: Tensor,
    sigma: Tensor,
    text: Tensor,
    positions: Sequence[int],
    *,
    mask: Tensor | None = None,
    path: ContextPath | None = None,
    control: Tensor | None = None,
) -> Tensor:
    """The predicted flow, noise minus clean, shaped as `latents`.

    Args:
        base: the transformer.
        latents: [B, C, F, h, w].
        sigma: noise level of each frame in [0, 1], [B, F].
        text: prompt embeddings [B, N, text_dim].
        positions: temporal position of each frame.
        mask: bool [F, F], True where frame i may look at frame j; None for everywhere.
        path: context blocks; None runs the base alone.
        control: control latents [B, 96, F, h, w], references in front as in batch VACE.
    """
    rows = _rows(base, latents, sigma, text, positions, mask)
    found = {} if path is None or control is None else hints(path, rows, control)
    hidden = rows.hidden
    for i, block in enumerate(base.blocks):
        hidden = _run(block, hidden, rows)
        if i in found:
            hidden = hidden + found[i]
    return _unpatched(base, hidden, rows, latents)


def hints(path: ContextPath, rows: Rows, control: Tensor) -> dict[int, Tensor]:
    """Hints [B, F*T, D] by base block."""
    context = path.entry(control) + rows.hidden
    found = {}
    for layer, block in zip(path.layers, path.vace_blocks, strict=True):
        context = _run(block, context, rows)
        found[layer] = block.proj_out(context)
    return found


_compiled: list[Callable[..., Tensor]] = []


def compile_blocks() -> None:
    """From now on run blocks as compiled graphs: twice as fast on a CPU, after a minute for each new shape."""
    torch._dynamo.config.cache_size_limit = 64
    _compiled[:] = [torch.compile(_block, dynamic=False)]


def _run(block: Any, x: Tensor, rows: Rows) -> Tensor:
    return (_compiled or [_block])[0](block, x, rows)


def _rows(
    base: CausalWan, latents: Tensor, sigma: Tensor, text: Tensor, positions: Sequence[int], mask: Tensor | None
) -> Rows:
    embedder = base.condition_embedder
    wave = embedder.timesteps_proj(1000 * sigma.flatten())
    embedded = embedder.time_embedder(wave)
    modulation = embedder.time_proj(embedder.act_fn(embedded))
    patches = base.patch_embedding(latents)
    grid = patches.shape[3:]
    tokens = grid[0] * grid[1]
    rotary = RotaryGrid(base.config.attention_head_dim, (grid[0], grid[1]), latents.device)
    return Rows(
        hidden=rearrange(patches, "b d f h w -> b (f h w) d").float(),
        modulation=rearrange(modulation, "(b f) (n d) -> b f n d", b=len(latents), n=6).float(),
        embedded=rearrange(embedded, "(b f) d -> b f d", b=len(latents)),
        text=embedder.text_embedder(text),
        rotation=rotary.at(positions),
        mask=None if mask is None else mask.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1),
    )


def _block(block: Any, x: Tensor, rows: Rows) -> Tensor:
    """One transformer block: [B, F*T, D] to the same."""
    shift, scale, gate, ff_shift, ff_scale, ff_gate = (block.scale_shift_table + rows.modulation).unbind(2)
    y = _framewise(_normal(x), 1 + scale) + _by_token(shift, x)
    query, key, value = self_projections(block.attn1, y)
    y = _attend(rotate(query, rows.rotation), rotate(key, rows.rotation), value, rows.mask)
    x = x + _framewise(output(block.attn1, y), gate)
    query = block.attn2.norm_q(block.attn2.to_q(block.norm2(x))).unflatten(2, (block.attn2.heads, -1))
    x = x + output(block.attn2, _attend(query, *text_projections(block.attn2, rows.text), None))
    y = _framewise(_normal(x), 1 + ff_scale) + _by_token(ff_shift, x)
    return x + _framewise(block.ffn(y), ff_gate)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """[B, L, H, d]. Plain products: the backward pass of torch's fused attention is slow on a CPU in bfloat16."""
    if query.device.type == "cuda":
        query, key, value = (x.to(value.dtype).transpose(1, 2) for x in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2)
    scores = torch.einsum("b l h d, b m h d -> b h l m", query * query.shape[-1] ** -0.5, key)
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e4)
    return torch.einsum("b h l m, b m h d -> b l h d", scores.softmax(-1).to(value.dtype), value)


def _normal(x: Tensor) -> Tensor:
    return F.layer_norm(x.float(), (x.shape[-1],), eps=1e-6)


def _framewise(x: Tensor, factor: Tensor) -> Tensor:
    """Tokens [B, F*T, D] times a factor for each frame [B, F, D]."""
    return (x.unflatten(1, (factor.shape[1], -1)) * factor.unsqueeze(2)).flatten(1, 2)


def _by_token(shift: Tensor, like: Tensor) -> Tensor:
    """[B, F, D] as [B, F*T, D]."""
    return shift.repeat_interleave(like.shape[1] // shift.shape[1], dim=1)


def _unpatched(base: CausalWan, hidden: Tensor, rows: Rows, latents: Tensor) -> Tensor:
    shift, scale = (base.scale_shift_table[:, None] + rows.embedded.unsqueeze(2).float()).unbind(2)
    tokens = base.proj_out(_framewise(_normal(hidden), 1 + scale) + _by_token(shift, hidden)).float()
    _, p, q = base.config.patch_size
    return rearrange(
        tokens,
        "b (f h w) (p q c) -> b c f (h p) (w q)",
        f=latents.shape[2], h=latents.shape[3] // p, w=latents.shape[4] // q, p=p, q=q,
    )  # fmt: skip
