"""Streams that the suite itself drives.

What core's session gives to a plugin's loop is scripted here, and every pass of the model is written down by hooks of
`torch.nn`, which know nothing of the plugin but where its blocks are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from vace_adapt.contract import BlockInputs, Chunk, Hints, HintSource, Level, ReferenceRoom, SourceVideo
from vace_adapt.streaming.noise import draw
from vace_adapt.streaming.pipeline import Pipeline

CLEAN, RECACHE, REBUILD, NEGATIVE = -1, -2, -3, -4
"""Numbers of the passes that are no denoise steps."""

Source = Callable[[int, int], HintSource | None]
"""Chunk and number of the pass to its hints."""

Prompts = Mapping[int, str | Sequence[str]]
"""By the chunk from which they hold; one for all rows, or one for each."""

PROMPT = "a red ball"


@dataclass(frozen=True)
class Script:
    """What happens in a stream.

    Attributes:
        seeds: of the noise, one for each batch row.
        seeds_at: other ones, from a chunk on.
        prompts: of its chunks.
        source: hints of the passes.
        keep: what becomes of an estimate of a chunk's finished latents.
        reanchor: what the memory is rebuilt from, by chunk and row.
        room: reserved for references.
        video: what was fed for a chunk, for a base that starts from it.
        ahead: whether chunks begin before those in front of them are finished, as many as the loop works on at once.
    """

    seeds: Sequence[int] = (0,)
    seeds_at: Mapping[int, Sequence[int]] = field(default_factory=dict)
    prompts: Prompts = field(default_factory=lambda: {0: PROMPT})
    source: Source = lambda chunk, step: None
    keep: Callable[[int, Tensor], Tensor] = lambda chunk, latents: latents
    reanchor: Mapping[int, Mapping[int, Tensor]] = field(default_factory=dict)
    room: ReferenceRoom | None = None
    video: Callable[[int], SourceVideo | None] = lambda chunk: None
    ahead: bool = False


@dataclass
class Pass:
    """One run of the model.

    Attributes:
        asked: number of the pass, by chunk, as it was asked for before it; of several chunks in a stream batch.
        latents: [R, C, F, h, w] that entered the patch embedding.
        blocks: what entered each block that ran, and its index.
    """

    asked: Mapping[int, int]
    latents: Tensor
    blocks: list[tuple[int, BlockInputs]] = field(default_factory=list)

    def rows(self, rows: slice) -> Pass:
        """Some of its rows."""
        blocks = [
            (index, BlockInputs(inputs.hidden[rows], inputs.modulation[rows], inputs.text[rows]))
            for index, inputs in self.blocks
        ]
        return Pass(self.asked, self.latents[rows], blocks)

    def hidden(self, block: int) -> Tensor:
        """[B, L, D] that entered a block."""
        return next(inputs.hidden for index, inputs in self.blocks if index == block)


@dataclass
class Asked:
    """A loop's question for the hints of a pass."""

    chunk: int
    step: int
    sigma: float


class ScriptedChunk:
    """`vace_adapt.contract.Chunk`."""

    def __init__(self, run: Run, index: int, text: Tensor, prompt_changed: bool) -> None:
        self.index = index
        self.start = run.shapes.time.latent_start(index)
        self.frames = run.shapes.time.latents(index)
        self.text = text
        self.prompt_changed = prompt_changed
        self._run = run

    @property
    def video(self) -> SourceVideo | None:
        return self._run.script.video(self.index)

    @property
    def reanchor(self) -> Mapping[int, Tensor]:
        self._run.at(self.index, REBUILD)
        return self._run.script.reanchor.get(self.index, {})

    def noise(self, number: int) -> Tensor:
        return self._run.noise(self.index, number)

    def denoising(self, step: int, sigma: Level) -> HintSource | None:
        return self._run.ask(self.index, step, sigma)

    def unconditional(self, step: int, sigma: float) -> HintSource | None:
        return self._run.ask_negative(self.index)

    def keep(self, latents: Tensor) -> Tensor:
        self._run.estimates.append((self.index, latents.clone()))
        return self._run.script.keep(self.index, latents)

    def clean_pass(self, sigma: float) -> HintSource | None:
        return self._run.ask(self.index, CLEAN, sigma)

    def recaching(self) -> HintSource | None:
        return self._run.ask(self.index, RECACHE, 0.0)


class Run:
    """One stream of a plugin's loop; to the plugin, its `vace_adapt.contract.Stream`.

    Args:
        pipe: whose loop it is.
        size: height and width in pixels.
        script: what happens in it.
        watch: whether every pass is written down.

    Attributes:
        chunks_made: finished latents of each chunk.
        asked: every question for hints.
        draws: chunk and number of every noise that was asked for.
        estimates: chunk and latents of every estimate that was passed through ``keep``.
        passes: what was written down.
    """

    def __init__(self, pipe: Pipeline, size: tuple[int, int], script: Script | None = None, *, watch: bool = False):
        self.script = script or Script()
        self.pipe = pipe
        self.batch = len(self.script.seeds)
        self.shapes = pipe.hooks.chunk_shapes(pipe.parts, *size)
        self.cache = pipe.hooks.cache_ops(pipe.parts, self.shapes, self.batch, self.script.room)
        self.chunks_made: list[Tensor] = []
        self.asked: list[Asked] = []
        self.draws: list[tuple[int, int]] = []
        self.estimates: list[tuple[int, Tensor]] = []
        self.passes: list[Pass] = []
        self._watch = watch
        self._at_once = pipe.parts.chunks_at_once
        self._asked: dict[int, int] = {0: REBUILD}
        self._ran = False
        self._rows: dict[tuple[int, int], Tensor] = {}
        self._staged: deque[ScriptedChunk] = deque()
        self._begun = 0
        self._wanted = 0
        self._latents = pipe.hooks.stream(pipe.parts, self)

    # --- what the loop sees -------------------------------------------------------------------------------------------

    def chunks(self) -> Iterator[Chunk]:
        while self._staged:
            yield cast("Chunk", self._staged.popleft())

    @property
    def waiting(self) -> int:
        return len(self._staged)

    def injecting(self, hints: HintSource | None) -> AbstractContextManager[None]:
        attachment = self.pipe.attachment
        return nullcontext() if attachment is None else attachment.running(hints)

    def ask(self, chunk: int, step: int, sigma: Level) -> HintSource | None:
        self.at(chunk, step)
        self.asked.append(Asked(chunk, step, cast("float", sigma)))  # no row starts from a video of its own
        source = self.script.source(chunk, step)
        return self._noting(chunk, step, source) if self._watch and self._at_once > 1 else source

    def _noting(self, chunk: int, step: int, source: HintSource | None) -> HintSource:
        """The same hints, or none; what they are asked with tells which rows of the pass are the chunk's."""

        def hints(inputs: BlockInputs) -> Hints:
            self._rows[chunk, step] = inputs.hidden.clone()
            return {} if source is None else source(inputs)

        return HintSource(hints, None if source is None else source.references)

    def ask_negative(self, chunk: int) -> HintSource | None:
        """The pass under the negative prompt is not counted as a step."""
        self.at(chunk, NEGATIVE)
        return self.script.source(chunk, NEGATIVE)

    def noise(self, chunk: int, number: int) -> Tensor:
        parts = self.pipe.parts
        if not 0 <= number < parts.draws:
            raise AssertionError(f"chunk {chunk} asked for noise draw {number}, parts.draws is {parts.draws}")
        self.draws.append((chunk, number))
        seeds = _latest(self.script.seeds_at, chunk, self.script.seeds)
        made = draw(seeds, "chunk", chunk * parts.draws + number, self.shapes.latent_shape(self.batch, chunk)[1:])
        return made.to(parts.device, parts.dtype)

    def at(self, chunk: int, step: int) -> None:
        if self._ran:
            self._asked, self._ran = {}, False
        self._asked[chunk] = step

    # --- what a check asks --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def next(self) -> Tensor:
        """Make the next chunk: its latents [B, C, F, h, w]."""
        index = len(self.chunks_made)
        self._wanted = max(self._wanted, index + 1)
        ahead = self._at_once if self.script.ahead else 1
        while self._begun < min(self._wanted, index + ahead):
            self._staged.append(self._begin_chunk(self._begun))
            self._begun += 1
        with self._watching() if self._watch else nullcontext():
            latents = next(self._latents, None)
        if latents is None:
            raise AssertionError(f"the loop ended before chunk {index}")
        self.chunks_made.append(latents.clone())
        return self.chunks_made[-1]

    def make(self, chunks: int) -> list[Tensor]:
        """Make so many chunks: their latents."""
        self.wanted(chunks)
        return [self.next() for _ in range(chunks)]

    def wanted(self, chunks: int) -> None:
        """So many more chunks may begin, where chunks begin ahead."""
        self._wanted = len(self.chunks_made) + chunks

    def _begin_chunk(self, index: int) -> ScriptedChunk:
        """What a chunk is made from, by the script."""
        prompts = self.script.prompts
        prompt = _latest(prompts, index, PROMPT)
        words = [prompt] * self.batch if isinstance(prompt, str) else list(prompt)
        changed = index == 0 or (index in prompts and prompt != _latest(prompts, index - 1, PROMPT))
        return ScriptedChunk(self, index, self.pipe.parts.text_encoder(words), changed)

    @torch.no_grad()
    def finish(self) -> None:
        """Let the loop come to its end."""
        if next(self._latents, None) is not None:
            raise AssertionError("the loop made a chunk that nobody asked for")

    def close(self) -> None:
        """Stop the loop where it is."""
        self._latents.close()

    @property
    def filling(self) -> int:
        """Chunks after which the memory is full and something has left it, as far as a stream may go."""
        time, most = self.shapes.time, self.shapes.max_latents
        count = 1
        while time.latent_start(count) <= self.cache.layout.slots:
            if most is not None and time.latent_start(count + 1) > most:
                return count
            count += 1
        return count + 1

    def memory(self) -> dict[str, Tensor]:
        """A copy of every tensor of the memory."""
        return {name: tensor.clone() for name, tensor in self.cache.tensors().items()}

    def pass_of(self, chunk: int, step: int) -> Pass:
        """The last pass with this number in a chunk: the chunk's own rows of it."""
        found = [one for one in self.passes if one.asked.get(chunk) == step]
        if not found:
            raise AssertionError(f"chunk {chunk} has no pass after the loop asked for the hints of {_name(step)}")
        came = found[-1]
        if len(came.latents) == self.batch:
            return came
        for begin in range(0, len(came.latents), self.batch):
            own = came.rows(slice(begin, begin + self.batch))
            if (chunk, step) in self._rows and torch.equal(own.hidden(0), self._rows[chunk, step]):
                return own
        raise AssertionError(
            f"chunk {chunk}, {_name(step)}: a pass of {len(came.latents)} rows, of which the {self.batch} of the chunk "
            "were not given to its hints"
        )

    # --- hooks of the suite -------------------------------------------------------------------------------------------

    def _watching(self) -> ExitStack:
        model, stack = self.pipe.parts.model, ExitStack()
        blocks = self.pipe.hooks.locate_blocks(model, self.pipe.parts.layout)
        embedding = model.get_submodule(blocks.patch_embedding)
        handles = [embedding.register_forward_pre_hook(self._begin)]
        for index, site in enumerate(blocks.sites):
            handles.append(
                model.get_submodule(site.path).register_forward_pre_hook(
                    self._enter(index, site.read), with_kwargs=True
                )
            )
        for handle in handles:
            stack.callback(handle.remove)
        return stack

    def _begin(self, module: Any, args: tuple[Any, ...]) -> None:
        """A pass begins where latents are embedded; some models embed them row by row."""
        latents = args[0].clone()
        if self._ran and not self.passes[-1].blocks:
            latents = torch.cat([self.passes.pop().latents, latents])
        self.passes.append(Pass(self._asked, latents))
        self._ran = True

    def _enter(self, index: int, read: Any) -> Any:
        def enter(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            came = read(args, kwargs)
            kept = BlockInputs(*(tensor.clone() for tensor in (came.hidden, came.modulation, came.text)))
            self.passes[-1].blocks.append((index, kept))

        return enter


def _latest(changes: Mapping[int, Any], chunk: int, otherwise: Any) -> Any:
    """What holds at a chunk."""
    begun = [at for at in changes if at <= chunk]
    return changes[max(begun)] if begun else otherwise


def _name(step: int) -> str:
    names = {CLEAN: "the clean pass", RECACHE: "a recache", REBUILD: "re-anchoring", NEGATIVE: "the negative prompt"}
    return names.get(step, f"step {step}")
