"""The arithmetic of one Wan2.1 transformer block, shared by base blocks and context blocks.

Same operations in the same order as diffusers' `WanTransformerBlock` and `WanVACETransformerBlock` (0.42.1,
models/transformers/transformer_wan.py and transformer_wan_vace.py); the two attentions are arguments, so that a base
block can read a cache and a context block can read remembered references.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from vace_adapt.attention.plain import output, self_projections, text_attention
from vace_adapt.cache.text import TextLayer

SelfAttend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Query, key and value [B, L, H, d], not rotated, to [B, L, H, d]."""


def run_block(block: Any, x: Tensor, modulation: Tensor, text: TextLayer, attend: SelfAttend) -> Tensor:
    """Self-attention, text attention and feed-forward of one block.

    Args:
        block: a module with the children of `WanTransformerBlock`.
        x: [B, L, D] tokens.
        modulation: [B, 6, D] timestep projection.
        text: the prompt as this block sees it.
        attend: the self-attention.

    Returns:
        [B, L, D] in x's dtype.
    """
    shift, scale, gate, ff_shift, ff_scale, ff_gate = (block.scale_shift_table + modulation.float()).chunk(6, dim=1)

    y = _modulate(block.norm1, x, scale, shift)
    y = output(block.attn1, attend(*self_projections(block.attn1, y)))
    x = (x.float() + y * gate).type_as(x)

    y = block.norm2(x.float()).type_as(x)
    x = x + text_attention(block.attn2, y, text.key, text.value)

    y = block.ffn(_modulate(block.norm3, x, ff_scale, ff_shift))
    return (x.float() + y.float() * ff_gate).type_as(x)


def _modulate(norm: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    modulated: Tensor = norm(x.float()) * (1 + scale) + shift
    return modulated.type_as(x)
