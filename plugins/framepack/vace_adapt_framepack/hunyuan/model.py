"""diffusers' `HunyuanVideoFramepackTransformer3DModel` and the official class: their blocks and their calls.

Both give the same bits for the same weights and have the same tensor names. Blocks are numbered through: the dual ones
(with a text stream of their own), then the single ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vace_adapt.contract import BlockMap, BlockSite, HintSource
from vace_adapt.errors import SessionError
from vace_adapt_framepack.history import Packed
from vace_adapt_framepack.hunyuan.parts import HunyuanInputs, HunyuanPrompt
from vace_adapt_framepack.plan import SectionLayout
from vace_adapt_framepack.wan.model import Injecting

OFFICIAL = "hunyuan_official"
"""Layout of lllyasviel/FramePack's `HunyuanVideoTransformer3DModelPacked`; the other one is ``hunyuan``."""

NAMES = {
    "hunyuan": {
        "noisy": "indices_latents",
        "clean": ("latents_clean", "indices_latents_clean"),
        "mid": ("latents_history_2x", "indices_latents_history_2x"),
        "far": ("latents_history_4x", "indices_latents_history_4x"),
        "image": "image_embeds",
    },
    OFFICIAL: {
        "noisy": "latent_indices",
        "clean": ("clean_latents", "clean_latent_indices"),
        "mid": ("clean_latents_2x", "clean_latent_2x_indices"),
        "far": ("clean_latents_4x", "clean_latent_4x_indices"),
        "image": "image_embeddings",
    },
}
"""Arguments of the two classes."""


def hunyuan_blocks(model: nn.Module) -> BlockMap:
    """The block sites of either class, bare or wrapped by peft."""
    sites = tuple(
        BlockSite(f"{stack}.{i}", _read, _hidden, _write)
        for stack in ("transformer_blocks", "single_transformer_blocks")
        for i in range(len(list(model.get_submodule(stack).children())))
    )
    return BlockMap(sites, patch_embedding="x_embedder.proj")


class HunyuanDenoiser:
    """The model in one stream.

    Args:
        model: the base.
        layout: ``hunyuan`` or `OFFICIAL`.
        injecting: lets hints into it (`vace_adapt.contract.Stream.injecting`).
        image: [B, n, image_dim] tokens of the start picture.
        guidance: the distilled guidance.
    """

    def __init__(self, model: Any, layout: str, injecting: Injecting, image: Tensor, guidance: float) -> None:
        self._model = model
        self._names: Any = NAMES[layout]
        self._per_row = layout == OFFICIAL
        self._injecting = injecting
        self._image = image
        self._guidance = guidance

    def __call__(
        self,
        noisy: Tensor,
        timestep: float,
        prompt: HunyuanPrompt,
        packed: Packed,
        layout: SectionLayout,
        hints: HintSource | None,
    ) -> Tensor:
        """The flow of a section [B, C, F, h, w], in the model's dtype."""
        batch, names = noisy.shape[0], self._names

        def indices(frames: tuple[int, ...]) -> Tensor:
            one = torch.tensor(frames, device=noisy.device)
            return one.expand(batch, -1) if self._per_row else one

        given = {names["noisy"]: indices(layout.noisy), names["image"]: self._image}
        for part in ("clean", "mid", "far"):
            latents, where = names[part]
            given[latents], given[where] = getattr(packed, part), indices(getattr(layout, part))
        level = torch.full((batch,), timestep, dtype=torch.float32, device=noisy.device)
        with self._injecting(hints):
            return self._model(
                hidden_states=noisy,
                timestep=level,
                encoder_hidden_states=prompt.tokens,
                encoder_attention_mask=prompt.mask.bool() if self._per_row else prompt.mask,
                pooled_projections=prompt.pooled,
                guidance=torch.full_like(level, 1000.0 * self._guidance).to(noisy.dtype),
                **given,
                return_dict=False,
            )[0]


def refuse_step_cache(model: Any, layout: str) -> None:
    """Refuse a model that skips blocks where its input has changed little: it would not hear the control, either.

    Raises:
        SessionError: naming how to switch it off.
    """
    if layout == OFFICIAL and model.enable_teacache:
        raise SessionError("TeaCache skips the blocks that hints are added behind: initialize_teacache(False)")
    if layout != OFFICIAL and model.is_cache_enabled:
        raise SessionError("a cache of diffusers skips the blocks that hints are added behind: disable_cache()")


def _read(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> HunyuanInputs:
    hidden, text, time, mask, rotation = args
    return HunyuanInputs(hidden, time[:, None], text, rotation, mask)


def _hidden(output: Any) -> Tensor:
    return output[0]


def _write(output: Any, hidden: Tensor) -> Any:
    return (hidden, *output[1:])
