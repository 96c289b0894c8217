"""The attention arithmetic that base blocks and context blocks share, on the projections of diffusers'
`WanAttention`.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
    """Plain scaled dot-product attention: query [B, L, H, d], key and value [B, K, H, d] to [B, L, H, d].

    `visible` says which keys take part, as bool that broadcasts to [B, H, L, K]; None for all.
    """
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=visible).transpose(1, 2)


def self_projections(attention: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key (normalised, not rotated) and value, each [B, L, H, d], of tokens x [B, L, D]."""
    query = attention.norm_q(attention.to_q(x))
    key = attention.norm_k(attention.to_k(x))
    value = attention.to_v(x)
    by_head = (attention.heads, -1)
    return query.unflatten(2, by_head), key.unflatten(2, by_head), value.unflatten(2, by_head)


def text_projections(attention: Any, text: Tensor) -> tuple[Tensor, Tensor]:
    """Key and value [B, T, H, d] of text tokens [B, T, D]; they depend on the prompt alone."""
    key = attention.norm_k(attention.to_k(text))
    value = attention.to_v(text)
    return key.unflatten(2, (attention.heads, -1)), value.unflatten(2, (attention.heads, -1))


def text_attention(attention: Any, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of tokens x [B, L, D] to a prompt's key and value [B, T, H, d]; all T rows take part, as upstream."""
    query = attention.norm_q(attention.to_q(x)).unflatten(2, (attention.heads, -1))
    return output(attention, attend(query, key, value))


def output(attention: Any, x: Tensor) -> Tensor:
    """Output projection: [B, L, H, d] to [B, L, D]."""
    return attention.to_out[1](attention.to_out[0](x.flatten(2)))
