"""Which slot of a full ring is given up for a chunk, layer by layer and row by row, decided on the device.

The slots behind the sink are given up in turn. A sink frame that no longer resembles what is made goes first. That
depends on the keys and values of the layer, so it is another slot in every layer and in every batch row; nothing is
read back.

With ``official`` the choice equals chenfengxu714/StreamDiffusionV2 models/wan/causal_model.py
(``CausalWanSelfAttention.forward``); what it is without is said in `vace_adapt_streamdiffusion.settings`. There, the
order is a list on the attention module, which the next stream finds again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import reduce
from torch import Tensor

PENDING = 64
"""Replacements of sink frames that can wait. Of more, the ones that have waited longest are forgotten: only without
stream batch can there be more, where the official list grows for as long as the stream runs.
"""


class Order(NamedTuple):
    """Which slots a layer gives up next, by row; each slot by the number of the one behind it.

    Attributes:
        pending: int64 [R, P]: sink slots that go first, the newest in front; 0 for none.
        turn: int64 [R]: how often a slot was given up in turn.
        chosen: int64 [R]: the one that the chunk at work was given.
    """

    pending: Tensor
    turn: Tensor
    chosen: Tensor

    @classmethod
    def fresh(cls, layers: int, rows: int, device: torch.device) -> Order:
        """That of all layers of a fresh stream, each tensor with the layers in front."""
        numbers: Any = {"dtype": torch.int64, "device": device}
        shapes = ((layers, rows, PENDING), (layers, rows), (layers, rows))
        return cls(*(torch.zeros(shape, **numbers) for shape in shapes))


class Asked(NamedTuple):
    """What a pass asks of the order.

    Attributes:
        room: int64 [R]: number of the slot behind those that are free for the chunk; 0 where none are.
        takes: bool [R]: whether the slot that is given is taken off the order.
        compares: whether sink frames are compared with the chunk.
    """

    room: Tensor
    takes: Tensor
    compares: bool


class Unlike(NamedTuple):
    """What a comparison with the sink has found, by row.

    Attributes:
        low: bool [R]: whether a sink frame is too little like the new one.
        end: int64 [R]: number of the slot behind the least like one.
    """

    low: Tensor
    end: Tensor


def compared(sinks: tuple[Tensor, Tensor], news: tuple[Tensor, Tensor], count: int, threshold: float) -> Unlike:
    """Compare keys and values [R, count * T, H, d] of sink frames with those of a new one, [R, T, H, d]."""
    likeness = torch.zeros((), device=news[0].device)
    for sink, new in zip(sinks, news, strict=True):
        held = reduce(sink.float(), "r (f t) h d -> r f (h d)", "mean", f=count)
        own = reduce(new.float(), "r t h d -> r 1 (h d)", "mean")
        likeness = likeness + torch.cosine_similarity(held, own, dim=-1) / 2
    least = likeness.min(dim=1)
    return Unlike(least.values < threshold, least.indices + 1)


def given_up(order: Order, asked: Asked, unlike: Unlike | None, ends: Tensor) -> Tensor:
    """Where a pass writes: int64 [R], the number of the slot behind. Each chunk is given one place, at its first pass.

    Args:
        order: is changed in place.
        asked: by the pass.
        unlike: None where nothing was compared.
        ends: int64 [E]: the slots that are given up in turn.
    """
    given, taken = _in_turn(order, ends), asked.takes & (asked.room == 0)
    in_turn = taken
    if unlike is not None:
        given = torch.where(unlike.low, unlike.end, given)
        in_turn = taken & ~unlike.low
    order.turn.add_(in_turn.long())
    order.chosen.copy_(torch.where(taken, given, order.chosen))
    return torch.where(asked.room > 0, asked.room, order.chosen)


def given_up_officially(order: Order, asked: Asked, unlike: Unlike | None, ends: Tensor) -> Tensor:
    """The same by the official list: replacements go in front of it whenever a pass finds one."""
    if unlike is not None:
        pushed = torch.cat([unlike.end[:, None], order.pending[:, :-1]], dim=1)
        order.pending.copy_(torch.where(unlike.low[:, None], pushed, order.pending))
    waits = order.pending[:, 0] > 0
    given = torch.where(waits, order.pending[:, 0], _in_turn(order, ends))
    taken = asked.takes & (asked.room == 0)
    popped = F.pad(order.pending[:, 1:], (0, 1))
    order.turn.add_((taken & ~waits).long())
    order.pending.copy_(torch.where((taken & waits)[:, None], popped, order.pending))
    return torch.where(asked.room > 0, asked.room, given)


def _in_turn(order: Order, ends: Tensor) -> Tensor:
    return ends[order.turn % len(ends)]
