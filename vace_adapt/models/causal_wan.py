"""Wan2.1 as a causal, chunk-by-chunk model, on diffusers' classes and weights layout.

`CausalWan` has the parameters and the state-dict keys of diffusers' `WanTransformer3DModel`. What differs is `forward`:
cache, text keys and hints are explicit arguments, so a block is one graph under `torch.compile` and nothing has to be
detached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from diffusers import WanTransformer3DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from einops import rearrange
from torch import Tensor, nn

from vace_adapt.cache.text import TextLayer, TextMemory
from vace_adapt.contract import Backbone, BlockInputs, BlockMap, BlockSite, ComputesHints
from vace_adapt.models.wan_block import run_block


class SelfMemory(Protocol):
    """What a block's self-attention remembers, during one pass."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Take the pass's key and value, and attend to all that is remembered: each [B, L, H, d], not rotated, to
        [B, L, H, d].
        """
        ...


class CausalBlock(WanTransformerBlock):
    """A Wan block whose self-attention reads and writes a layer's cache and whose text keys are given."""

    def forward(self, hidden_states: Tensor, modulation: Tensor, text: TextLayer, cache: SelfMemory) -> Tensor:
        """[B, L, D] to [B, L, D]; see `run_block` and `SelfMemory.attend`."""
        return run_block(self, hidden_states, modulation, text, cache.attend)


class CausalWan(WanTransformer3DModel):
    """The native causal base model of LongLive and its relatives."""

    _no_split_modules: ClassVar = ["CausalBlock"]
    _repeated_blocks: ClassVar = ["CausalBlock"]

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, ...] = (1, 2, 2),
        num_attention_heads: int = 12,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 8960,
        num_layers: int = 30,
        cross_attn_norm: bool = True,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=num_layers,
            cross_attn_norm=cross_attn_norm,
            eps=eps,
        )
        dim = num_attention_heads * attention_head_dim
        self.blocks = nn.ModuleList(
            CausalBlock(dim, ffn_dim, num_attention_heads, cross_attn_norm=cross_attn_norm, eps=eps)
            for _ in range(num_layers)
        )
        del self.rope  # its tables start at frame 0 and end at 1024; a stream's rotations come with its cache

    @classmethod
    def of(cls, backbone: Backbone) -> CausalWan:
        """A model of these sizes, with fresh weights."""
        return cls(
            patch_size=backbone.patch,
            num_attention_heads=backbone.heads,
            attention_head_dim=backbone.head_dim,
            in_channels=backbone.latent_channels,
            out_channels=backbone.latent_channels,
            text_dim=backbone.text_dim,
            freq_dim=backbone.freq_dim,
            ffn_dim=backbone.ffn_dim,
            num_layers=backbone.layers,
            cross_attn_norm=backbone.cross_attn_norm,
            eps=backbone.eps,
        )

    def embed_text(self, prompt_embeds: Tensor) -> Tensor:
        """Prompt embeddings [B, T, text_dim] to text tokens [B, T, D]."""
        embedder = self.condition_embedder.text_embedder
        return embedder(prompt_embeds)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: TextMemory | Sequence[TextLayer],
        layer_cache: Callable[[int], SelfMemory],
        hints: ComputesHints | None = None,
    ) -> Tensor:
        """One pass over a chunk.

        Args:
            latents: [B, C, F, h, w] noisy (or clean) latents.
            timestep: float32 [B] in [0, 1000], one for each row.
            text: the prompt in force, by block.
            layer_cache: layer index to that layer's memory for this pass.
            hints: computes the hints to add; None runs the bare base model.

        Returns:
            The predicted flow [B, C, F, h, w], noise minus clean.
        """
        embedded, modulation = self._embed_time(timestep, text[0].tokens.dtype)
        hidden = rearrange(self.patch_embedding(latents), "b d f h w -> b (f h w) d").contiguous()
        found = {} if hints is None else hints(BlockInputs(hidden, modulation, text[0].tokens))
        for i, block in enumerate(self.blocks):
            hidden = block(hidden, modulation, text[i], layer_cache(i))
            if i in found:
                hidden = hidden + found[i]
        return self._unpatch(hidden, embedded, latents)

    def _embed_time(self, timestep: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Timestep [B] to its embedding [B, D] and its projection [B, 6, D]."""
        embedder = self.condition_embedder
        wave = embedder.timesteps_proj(timestep)
        embedded = embedder.time_embedder(wave.to(embedder.time_embedder.linear_1.weight.dtype)).to(dtype)
        return embedded, embedder.time_proj(embedder.act_fn(embedded)).unflatten(1, (6, -1))

    def _unpatch(self, hidden: Tensor, embedded: Tensor, like: Tensor) -> Tensor:
        """Tokens [B, L, D] to latents shaped as `like`."""
        shift, scale = (self.scale_shift_table + embedded.unsqueeze(1)).chunk(2, dim=1)
        tokens = self.proj_out((self.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden))
        t, p, q = self.config.patch_size
        _, _, frames, height, width = like.shape
        return rearrange(
            tokens,
            "b (f h w) (t p q c) -> b c (f t) (h p) (w q)",
            f=frames // t, h=height // p, w=width // q, t=t, p=p, q=q,
        )  # fmt: skip


def causal_wan_blocks(model: nn.Module) -> BlockMap:
    """The block sites of a `CausalWan`, bare or wrapped by peft."""
    count = len(list(model.get_submodule("blocks").children()))
    sites = tuple(BlockSite(f"blocks.{i}", _read, _hidden, _write) for i in range(count))
    return BlockMap(sites, patch_embedding="patch_embedding")


def _read(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BlockInputs:
    hidden, modulation, text, _ = args
    return BlockInputs(hidden, modulation, text.tokens)


def _hidden(output: Any) -> Tensor:
    return output


def _write(output: Any, hidden: Tensor) -> Tensor:
    return hidden
