"""The context path's modules: the released VACE weights, in diffusers' key layout.

`ContextPath` has exactly the ``vace_*`` keys of diffusers' `WanVACETransformer3DModel`. It lives outside the base
model, so the base's keys, LoRA targets and quantisation never see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from diffusers.models.transformers.transformer_wan_vace import WanVACETransformerBlock
from einops import rearrange
from torch import Tensor, nn

from vace_adapt.attention.plain import attend as plain_attention
from vace_adapt.attention.rope import Rotation, rotate
from vace_adapt.cache.text import TextLayer
from vace_adapt.contract import Attend, Backbone
from vace_adapt.errors import InputError
from vace_adapt.models.wan_block import run_block


class ReferenceLayer(NamedTuple):
    """Rotated key and value [B, R*T, H, d] of the reference rows in one context block."""

    key: Tensor
    value: Tensor


class ContextBlock(WanVACETransformerBlock):
    """One context block. It advances the context rows; `proj_out` of the result is the hint."""

    def forward(
        self,
        hidden_states: Tensor,
        modulation: Tensor,
        text: TextLayer,
        rotation: Rotation,
        attend: Attend,
        remembered: ReferenceLayer | None = None,
        store: ReferenceLayer | None = None,
    ) -> Tensor:
        """Advance context rows [B, N, D].

        Args:
            hidden_states: the rows; for block 0 the projected control tokens plus the base's tokens.
            modulation: [B, 6, D].
            text: the prompt as this block sees it.
            rotation: of the N rows.
            attend: plain attention, or what the plugin made of it.
            remembered: keys and values of reference rows that the rows attend to in front of their own.
            store: buffers that take this call's own keys and values.
        """

        def attend_rows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            query, key = rotate(query, rotation), rotate(key, rotation)
            if store is not None:
                store.key.copy_(key)
                store.value.copy_(value)
            if remembered is not None:
                key = torch.cat([remembered.key, key], dim=1)
                value = torch.cat([remembered.value, value], dim=1)
            return attend(query, key, value)

        return run_block(self, hidden_states, modulation, text, attend_rows)


class ContextPath(nn.Module):
    """Patch embedding and context blocks.

    Args:
        backbone: sizes of the base model; the context blocks share them.
        layers: base blocks that receive a hint, ascending, starting with 0; one context block for each.
    """

    def __init__(self, backbone: Backbone, layers: Sequence[int]) -> None:
        super().__init__()
        layers = tuple(layers)
        if not layers or layers[0] != 0 or list(layers) != sorted(set(layers)) or layers[-1] >= backbone.layers:
            raise InputError(f"context layers must ascend from 0 to at most {backbone.layers - 1}, not {list(layers)}")
        self.backbone = backbone
        self.layers = layers
        self.compiled = False
        self.attends: list[Attend] = [plain_attention] * len(layers)
        self.vace_patch_embedding = nn.Conv3d(
            backbone.control_channels, backbone.dim, kernel_size=backbone.patch, stride=backbone.patch
        )
        self.vace_blocks = nn.ModuleList(
            ContextBlock(
                backbone.dim,
                backbone.ffn_dim,
                backbone.heads,
                cross_attn_norm=backbone.cross_attn_norm,
                eps=backbone.eps,
                apply_input_projection=i == 0,
                apply_output_projection=True,
            )
            for i in range(len(layers))
        )

    @property
    def dtype(self) -> torch.dtype:
        return self.vace_patch_embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.vace_patch_embedding.weight.device

    def entry(self, control: Tensor) -> Tensor:
        """Control latents [B, 96, F, h, w] to the part of block 0's input that does not depend on the step [B, L,
        D].
        """
        tokens = rearrange(self.vace_patch_embedding(control), "b d f h w -> b (f h w) d")
        first: Any = self.vace_blocks[0]
        return first.proj_in(tokens)
