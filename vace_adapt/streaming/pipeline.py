"""A loaded pipeline: base model, VAE, text encoder, context path. It holds no state of any stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from vace_adapt.conditioning.vae import VaeCodec
from vace_adapt.config.mistakes import validated
from vace_adapt.context.blocks import ContextPath
from vace_adapt.context.injection import Attachment
from vace_adapt.contract import Injection, PipelineParts
from vace_adapt.controls import ControlSettings, HintScale
from vace_adapt.errors import InputError
from vace_adapt.facade import PipelineHooks
from vace_adapt.streaming.session import References, Session, rows_of, scale_of


class Pipeline:
    """What `load_pipeline` returns.

    Attributes:
        hooks: the plugin.
        parts: what it loaded.
        context: the VACE weights, or None without control.
        codec: the VAE.
        device, dtype: of the base model.
        attachment: the hooks on a live model; None where the model takes hints as an argument.
    """

    def __init__(self, hooks: PipelineHooks, parts: PipelineParts, context: ContextPath | None) -> None:
        self.hooks = hooks
        self.parts = parts
        self.context = context
        self.codec = VaeCodec(parts.vae)
        blocks = hooks.locate_blocks(parts.model, parts.layout)
        self.patch_embedding: Callable[[Tensor], Tensor] = parts.model.get_submodule(blocks.patch_embedding)
        self.device = parts.device
        self.dtype = parts.dtype
        self.attachment: Attachment | None = None
        if context is not None:
            context.attends = [
                hooks.wrap_attention(attend, layer, parts.model) for layer, attend in enumerate(context.attends)
            ]
            if hooks.info.layouts[parts.layout] is Injection.HOOKS:
                self.attachment = Attachment(parts.model, blocks, context.layers)

    def stream(
        self,
        prompt: str | Sequence[str] = "",
        *,
        height: int,
        width: int,
        seed: int | Sequence[int] = 0,
        references: References = (),
        scale: float | HintScale | None = None,
        num_frames: int | None = None,
        controls: ControlSettings | dict[str, Any] | None = None,
    ) -> Session:
        """Open a stream.

        Args:
            prompt: one, or one for each batch row.
            height, width: pixels; multiples of 16 for Wan2.1.
            seed: one, or one for each row; a list of seeds makes a batch. Rows never influence each other.
            references: images that guide the whole stream; see `conditioning.references`.
            scale: a number for control and references alike, or a `HintScale`; overrides ``controls.scale``.
            num_frames: pixel frames to make; None goes on until the control ends or the stream is closed.
            controls: further options.

        Returns:
            The session: feed it, iterate it, close it (or use ``with``).

        Raises:
            InputError: a size, seed, reference or scale that cannot be used. Nothing was allocated.
        """
        settings = validated(ControlSettings, controls or {}, "controls")
        if scale is not None:
            settings = settings.model_copy(update={"scale": scale_of(scale)})
        seeds = [seed] if isinstance(seed, int) else list(seed)
        if not seeds:
            raise InputError("seed is an empty list: give one seed for each batch row")
        prompts = rows_of(prompt, len(seeds))
        return Session(self, prompts, seeds, height, width, references, num_frames, settings)

    def compile(self, **options: Any) -> Pipeline:
        """`torch.compile` every base block and every context block (options as torch takes them); returns itself.

        One graph serves all blocks of a kind over the whole stream. A live model is left as its owner compiled it.
        """
        chosen = {"fullgraph": True, **options}
        if self.attachment is None:
            for site in self.hooks.locate_blocks(self.parts.model, self.parts.layout).sites:
                self.parts.model.get_submodule(site.path).compile(**chosen)
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
