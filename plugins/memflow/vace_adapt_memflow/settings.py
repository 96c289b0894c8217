"""Every number of MemFlow's official configurations (KlingTeam/MemFlow configs/inference.yaml and
configs/interactive_inference.yaml, which agree on them).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vace_adapt.contract import CausalSettings


class MemFlowSettings(CausalSettings):
    """The ``pipeline:`` section: `CausalSettings`, whose defaults are MemFlow's too, and the memory bank.

    Attributes:
        sink: as in `CausalSettings`; at least 1, since the official attention reads its bank only beside a sink.
        bank: latent frames that the memory bank keeps in each layer (``bank_size``).
        record_interval: chunks that share one slot while the bank fills.
        memory: when the first frame of a finished chunk is offered to the bank: after every chunk (``single``, the
            official pipeline for one prompt), or after the first of every `record_interval` chunks (``interactive``,
            the official pipeline whose prompt changes). The same video, two different memories.
        sparse: sparse memory activation (``SMA``): each head attends only to those frames of sink and bank that are
            nearest to its query.
        sparse_frames: how many.
        official_quirks: do as the official code does where it looks unintended. On: the first retrievals after a prompt
            switch ask with a prompt of zeros, so that the bank keeps its first frames; and a full bank takes in the
            frame waiting for it again before every chunk, so that it comes to hold it twice and more. Off: retrieval
            asks with the prompt in force, and a frame is taken in once. A sink that `global_sink` does not keep is
            written anew in both cases; the official code leaves zeros in it.
    """

    sink: Annotated[int, Field(ge=1)] = 3
    bank: Annotated[int, Field(ge=1)] = 3
    record_interval: Annotated[int, Field(ge=1)] = 3
    memory: Literal["single", "interactive"] = "interactive"
    sparse: bool = False
    sparse_frames: Annotated[int, Field(ge=1)] = 3
    official_quirks: bool = True
