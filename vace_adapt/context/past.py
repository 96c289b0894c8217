"""The latent frames in front of a chunk, as rows of its context sequence (``controls.context_frames``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vace_adapt.cache.recent import RecentLatents
from vace_adapt.context.references import noised_tokens


@dataclass(frozen=True)
class Past:
    """The k latent frames right in front of a chunk; k is 0 for the first one.

    Attributes:
        control: [B, 96, k, h, w]: what was given for each of them, or what "nothing given" encodes to there.
        nothing: makes [B, 96, k, h, w]: what "nothing given" encodes to for all of them.
        latents: [B, C, k, h, w] finished, as the base makes them.
        noise: [B, C, k, h, w]: standard normal, of each frame the same for the whole stream.
    """

    control: Tensor
    nothing: Callable[[], Tensor]
    latents: Tensor
    noise: Tensor

    @property
    def count(self) -> int:
        return self.latents.shape[2]

    def tokens(self, patch_embedding: Callable[[Tensor], Tensor], sigma: float) -> Tensor:
        """The base's tokens of the finished latents at noise level `sigma`: [B, k*T, D]."""
        return noised_tokens(patch_embedding, self.latents, self.noise, sigma)


class PastFrames:
    """What a stream keeps of its last latent frames, in fixed buffers.

    Args:
        frames: K, at least 1.
        shape: [B, C, F, h, w] of a chunk; F does not matter.
        control_channels: of the control latents.
        dtype: of the base's latents.
        control_dtype: of the context path.
        device: of both.
    """

    def __init__(
        self,
        frames: int,
        shape: tuple[int, int, int, int, int],
        control_channels: int,
        *,
        dtype: torch.dtype,
        control_dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._latents, self._noise = (RecentLatents(frames, shape, dtype, device) for _ in range(2))
        control_shape = shape[0], control_channels, *shape[2:]
        self._control = RecentLatents(frames, control_shape, control_dtype, device)

    def push(self, control: Tensor, latents: Tensor, noise: Tensor) -> None:
        """Add a finished chunk: its control latents [B, 96, F, h, w], its latents and the noise of its frames
        [B, C, F, h, w].
        """
        for buffer, came in ((self._control, control), (self._latents, latents), (self._noise, noise)):
            buffer.push(came.to(buffer.latents.device, buffer.latents.dtype))

    def newest(self, nothing: Callable[[int, int], Tensor]) -> Past:
        """The last frames, K or as many as there are.

        Args:
            nothing: makes what "nothing given" encodes to, from an absolute latent frame on and for how many.
        """
        start, control = self._control.newest()
        latents, noise = (buffer.newest()[1] for buffer in (self._latents, self._noise))
        return Past(control, lambda: nothing(start, latents.shape[2]), latents, noise)

    def tensors(self) -> dict[str, Tensor]:
        """The buffers by name."""
        buffers = {"control": self._control, "latents": self._latents, "noise": self._noise}
        return {f"past.{name}": buffer.latents for name, buffer in buffers.items()}
