"""diffusers' `HeliosTransformer3DModel` as a base: its sizes, its blocks, its call.

With no history it computes what Wan2.1 computes, and its tensors have Wan2.1's names, save the table of the output
norm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from diffusers import HeliosTransformer3DModel
from torch import Tensor, nn

from vace_adapt.contract import Backbone, BlockInputs, BlockMap, BlockSite, HintSource
from vace_adapt_framepack.history import Packed
from vace_adapt_framepack.plan import SectionLayout

Injecting = Callable[[HintSource | None], AbstractContextManager[None]]


def bare(hints: HintSource | None) -> AbstractContextManager[None]:
    """`Injecting` of a model that nothing is attached to."""
    assert hints is None
    return nullcontext()


def helios_of(backbone: Backbone) -> HeliosTransformer3DModel:
    """A model of these sizes, with fresh weights."""
    own = 2 * (backbone.head_dim // 6)
    return HeliosTransformer3DModel(
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
        rope_dim=(backbone.head_dim - 2 * own, own, own),
    )


def helios_blocks(model: nn.Module) -> BlockMap:
    """The block sites of a `HeliosTransformer3DModel`, bare or wrapped by peft."""
    count = len(list(model.get_submodule("blocks").children()))
    sites = tuple(BlockSite(f"blocks.{i}", _read, _hidden, _write) for i in range(count))
    return BlockMap(sites, patch_embedding="patch_embedding")


class HeliosDenoiser:
    """The model in one stream.

    Args:
        model: the base.
        injecting: lets hints into it (`vace_adapt.contract.Stream.injecting`).
        layout: frame indices of every section.
        device: it computes on.
    """

    def __init__(self, model: nn.Module, injecting: Injecting, layout: SectionLayout, device: torch.device) -> None:
        self._model = model
        self._injecting = injecting
        self._indices = {
            f"indices_{name}": torch.tensor([frames], device=device)
            for name, frames in (
                ("hidden_states", layout.noisy),
                ("latents_history_short", layout.clean),
                ("latents_history_mid", layout.mid),
                ("latents_history_long", layout.far),
            )
        }

    def __call__(
        self, noisy: Tensor, timestep: Tensor, text: Tensor, packed: Packed, hints: HintSource | None
    ) -> Tensor:
        """The flow of a section [B, C, F, h, w], in the model's dtype.

        Args:
            noisy: its latents, in the model's dtype.
            timestep: [B], one for each row.
            text: [B, T, text_dim].
            packed: what it sees of the past.
            hints: what is added behind the blocks.
        """
        with self._injecting(hints):
            flow: Tensor = self._model(
                hidden_states=noisy,
                timestep=timestep,
                encoder_hidden_states=text,
                **self._indices,
                latents_history_short=packed.clean,
                latents_history_mid=packed.mid,
                latents_history_long=packed.far,
                return_dict=False,
            )[0]
        return flow


def _read(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BlockInputs:
    """The section's tokens are the last ones; only they have the noisy timestep."""
    hidden, text, modulation, _, tokens = args
    return BlockInputs(hidden[:, -tokens:], modulation[:, -1], text)


def _hidden(output: Any) -> Tensor:
    return output


def _write(output: Any, hidden: Tensor) -> Tensor:
    return hidden
