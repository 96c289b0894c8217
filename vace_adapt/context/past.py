"""The latent frames in front of a chunk, as rows of its context sequence (``controls.context_frames``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vace_adapt.cache.recent import RecentLatents
from vace_adapt.context.references import noised_tokens
from vace_adapt.contract import Level


@dataclass(frozen=True)
class Past:
    """The k latent frames in front of a chunk; k is 0 for the first one.

    Attributes:
        control: [B, 96, k, h, w]: what was given for each of them, or what "nothing given" encodes to there.
        nothing: makes [B, 96, k, h, w]: what "nothing given" encodes to for all of them.
        latents: [B, C, k, h, w] finished, as the base makes them.
        noise: [B, C, k, h, w]: standard normal, of each frame the same for the whole stream.
        gap: latent frames between them and the chunk, which are at work at the same time as it.
    """

    control: Tensor
    nothing: Callable[[], Tensor]
    latents: Tensor
    noise: Tensor
    gap: int = 0

    @property
    def count(self) -> int:
        return self.latents.shape[2]

    def tokens(self, patch_embedding: Callable[[Tensor], Tensor], sigma: Level) -> Tensor:
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
        gap: latent frames between those shown to a chunk and the chunk, at most.
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
        gap: int = 0,
    ) -> None:
        self._frames = frames
        self._latents, self._noise = (RecentLatents(frames + gap, shape, dtype, device) for _ in range(2))
        control_shape = shape[0], control_channels, *shape[2:]
        self._control = RecentLatents(frames + gap, control_shape, control_dtype, device)

    def push(self, control: Tensor, latents: Tensor, noise: Tensor) -> None:
        """Add a finished chunk: its control latents [B, 96, F, h, w], its latents and the noise of its frames
        [B, C, F, h, w].
        """
        for buffer, came in ((self._control, control), (self._latents, latents), (self._noise, noise)):
            buffer.push(came.to(buffer.latents.device, buffer.latents.dtype))

    def before(self, start: int, gap: int, nothing: Callable[[int, int], Tensor]) -> Past:
        """The last frames in front of a chunk, and of the gap: K or as many as there are.

        Args:
            start: its first latent frame.
            gap: latent frames right in front of it that are not shown to it, whether they are finished or not.
            nothing: makes what "nothing given" encodes to, from an absolute latent frame on and for how many.
        """
        oldest = self._latents.newest()[0]
        stop = start - gap
        first = max(oldest, stop - self._frames)
        shown = slice(first - oldest, stop - oldest)
        control, latents, noise = (b.newest()[1][:, :, shown] for b in (self._control, self._latents, self._noise))
        return Past(control, lambda: nothing(first, stop - first), latents, noise, gap)

    def tensors(self) -> dict[str, Tensor]:
        """The buffers by name."""
        buffers = {"control": self._control, "latents": self._latents, "noise": self._noise}
        return {f"past.{name}": buffer.latents for name, buffer in buffers.items()}
