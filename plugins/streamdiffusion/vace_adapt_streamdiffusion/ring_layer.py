"""One layer's keys and values during one forward pass: where the pass writes them, and what it sees."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vace_adapt.attention.plain import attend
from vace_adapt.attention.rope import Rotation, rotate
from vace_adapt_streamdiffusion.order import Asked, Order, Unlike, compared, given_up, given_up_officially


class RingSpec(NamedTuple):
    """How a ring behaves.

    Attributes:
        slots, sink: latent frames it holds; of these, how many are compared with new ones.
        threshold: cosine similarity below which a sink frame is replaced; -1 never replaces any.
        ends: the slots that are given up in turn, each by the number of the slot behind it.
        official: see `vace_adapt_streamdiffusion.settings.StreamDiffusionSettings.official_quirks`.
        steps: passes over a chunk in one block of rows; 1 in a stream batch.
    """

    slots: int
    sink: int
    threshold: float
    ends: tuple[int, ...]
    official: bool
    steps: int


class RingPass(NamedTuple):
    """What one forward pass writes and reads, the same for every layer.

    Attributes:
        rows: of the batch.
        rotation: of the pass's tokens, [L, 1, d/2] or [R, L, 1, d/2].
        asked: of the order.
        slots: frame slots that are seen or compared, counted from the first.
        mask: bool [R, 1, 1, K]: which of the tokens a row sees; None for all.
        frames, places: int64 [R, F]: absolute latent frames and temporal positions.
        front: tokens of references that any row sees, directly in front of the frame slots.
        references: by the chunks of the pass, where theirs are: tokens, and rotation of their keys; None for none.
    """

    rows: slice
    rotation: Rotation
    asked: Asked
    slots: int
    mask: Tensor | None
    frames: Tensor
    places: Tensor
    front: int = 0
    references: tuple[tuple[int, Rotation] | None, ...] = ()


class LayerRing(NamedTuple):
    """One layer's buffers during a pass; plain tensors, so that a block can be compiled around it.

    Attributes:
        keys, values: [R, K, H, d]: of the references, then of the slots that are seen or compared.
        held, places: int64 [R, slots]: latent frame and temporal position of each slot; -1 for none.
        order: see `Order`.
        ends: int64 [E], of `RingSpec`.
        step: the pass.
        spec: of the ring.
    """

    keys: Tensor
    values: Tensor
    held: Tensor
    places: Tensor
    order: Order
    ends: Tensor
    step: RingPass
    spec: RingSpec

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Write the pass's key and value [R, L, H, d] in place, then attend to everything visible."""
        step = self.step
        query, key = rotate(query, step.rotation), rotate(key, step.rotation)
        choose = given_up_officially if self.spec.official else given_up
        self._write(choose(self.order, step.asked, self._unlike(key, value), self.ends), key, value)
        if step.mask is None:
            return attend(query, self.keys, self.values)
        query, keys, values = query.transpose(1, 2), self.keys.transpose(1, 2), self.values.transpose(1, 2)
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=step.mask).transpose(1, 2)

    def _unlike(self, key: Tensor, value: Tensor) -> Unlike | None:
        spec, step = self.spec, self.step
        if not step.asked.compares:
            return None
        sink = slice(step.front, step.front + spec.sink * key.shape[1])
        return compared((self.keys[:, sink], self.values[:, sink]), (key, value), spec.sink, spec.threshold)

    def _write(self, end: Tensor, key: Tensor, value: Tensor) -> None:
        """Put them in front of slot number `end` of each row."""
        (batch, tokens), count = key.shape[:2], self.step.frames.shape[1]
        rows = torch.arange(batch, device=end.device)[:, None]
        first = self.step.front - tokens
        at = end[:, None] * (tokens // count) + first + torch.arange(tokens, device=end.device)
        self.keys.index_put_((rows, at), key)
        self.values.index_put_((rows, at), value)
        slots = end[:, None] - count + torch.arange(count, device=end.device)
        self.held.scatter_(1, slots, self.step.frames)
        self.places.scatter_(1, slots, self.step.places)
