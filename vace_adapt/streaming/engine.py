"""What runs streams: base model, VAE, text encoder and context path, loaded once. It holds no state of any stream."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from vace_adapt.attention.plain import attend
from vace_adapt.conditioning.vae import VaeCodec
from vace_adapt.context.blocks import ContextPath
from vace_adapt.context.injection import Attachment
from vace_adapt.contract import Injection, PipelineParts
from vace_adapt.facade import PipelineHooks


class Engine:
    """The loaded parts of a pipeline.

    Attributes:
        hooks: the plugin.
        parts: what it loaded.
        context: the VACE weights, or None without control.
        codec: the VAE.
        patch_embedding: the base's own, latents [B, C, F, h, w] to [B, D, F, rows, columns].
        device, dtype: of the base model.
        live: whether the base model is an object of the user's, which is left as it is.
        download: whether annotators may fetch weights.
        attachment: the hooks on a live model; None where the model takes hints as an argument.
    """

    def __init__(
        self,
        hooks: PipelineHooks,
        parts: PipelineParts,
        context: ContextPath | None,
        *,
        live: bool = False,
        download: bool = False,
    ) -> None:
        self.hooks = hooks
        self.parts = parts
        self.context = context
        self.live = live
        self.download = download
        self.codec: Any = (parts.codec or VaeCodec)(parts.vae)
        self.device = parts.device
        self.dtype = parts.dtype
        self.attachment: Attachment | None = None
        blocks = hooks.locate_blocks(parts.model, parts.layout)
        self.patch_embedding: Callable[[Tensor], Tensor] = parts.model.get_submodule(blocks.patch_embedding)
        hinted = parts.hinted_blocks
        if context is not None:
            hinted = context.layers
            context.attends = [hooks.wrap_attention(attend, layer, parts.model) for layer in range(len(hinted))]
        if not hinted:
            return
        if hooks.info.layouts[parts.layout] is Injection.HOOKS:
            self.attachment = Attachment(parts.model, blocks, hinted)
            weakref.finalize(self, self.attachment.detach)

    def compile(self, **options: Any) -> Self:
        """`torch.compile` every base block and every context block (options as torch takes them); returns itself.

        One graph serves all blocks of a kind over the whole stream, a second one where references come and go, or
        where a sink is no whole number of chunks. A live model is left as its owner compiled it. Hooks stay outside of
        the graphs: of a block that has any, its forward alone is compiled.
        """
        chosen = {"fullgraph": True, **options}
        if not self.live:
            hooked = self.hooks.info.layouts[self.parts.layout] is Injection.HOOKS
            for site in self.hooks.locate_blocks(self.parts.model, self.parts.layout).sites:
                block: Any = self.parts.model.get_submodule(site.path)
                if hooked:
                    block.forward = torch.compile(block.forward, **chosen)
                else:
                    block.compile(**chosen)
            self.parts = dataclasses.replace(self.parts, compiled=True)
        if self.context is not None:
            for block in self.context.vace_blocks:
                block.compile(**chosen)
            self.context.compiled = True
        return self

    def detach(self) -> None:
        """Take the hooks off a live model. Without control from here on; doing it twice does no harm."""
        if self.attachment is not None:
            self.attachment.detach()
            self.attachment = None
        self.context = None
