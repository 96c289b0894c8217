"""One mutant of the reference pipeline for each check: a function of the check's name that breaks one thing.

Within its group no other check may notice; `test_mutants` runs the whole group on each.
"""

from __future__ import annotations

import dataclasses
import shutil
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vace_adapt.cache.recent import RecentLatents
from vace_adapt.cache.ring import RingCache
from vace_adapt.cache.slots import ReferenceSlots
from vace_adapt.contract import BlockInputs, BlockMap, HintSource, PipelineInfo
from vace_adapt.hookspecs import REQUIRED_HOOKS, hookimpl
from vace_adapt_conformance.reference import loop as loop_module
from vace_adapt_conformance.reference import memory as memory_module
from vace_adapt_conformance.reference import plugin as reference
from vace_adapt_conformance.reference.bank import Bank
from vace_adapt_conformance.reference.loop import Loop
from vace_adapt_conformance.reference.memory import Memory
from vace_adapt_conformance.reference.settings import ReferenceSettings
from vace_adapt_conformance.subject import Subject

REFERENCE = "vace_adapt_conformance.reference.plugin"


class Bench:
    """Where the reference pipeline is broken."""

    def __init__(self, monkeypatch: Any, folder: Path) -> None:
        self.monkeypatch = monkeypatch
        self.folder = folder
        self.module = REFERENCE
        self.hooks = {hook: getattr(reference, hook) for hook in REQUIRED_HOOKS}

    def patch(self, owner: Any, name: str, change: Callable[[Any], Any]) -> None:
        """Replace an attribute by what `change` makes of it."""
        self.monkeypatch.setattr(owner, name, change(getattr(owner, name)))

    def hook(self, function: Any) -> Any:
        """Answer a hook with this function."""
        self.hooks[function.__name__] = hookimpl(function)
        return function

    def chunks(self, **changes: Callable[..., Any]) -> None:
        """What the loop gets for a chunk: methods replaced by functions of the chunk and the method's arguments."""

        def make(real: Any) -> Any:
            return lambda loop, chunk: real(loop, Proxy(chunk, changes))

        self.patch(Loop, "make", make)

    def sites(self, change: Callable[[Any], Any]) -> None:
        """Located blocks, each changed."""

        def vace_locate_blocks(model: Any) -> BlockMap:
            blocks = reference.vace_locate_blocks(model)
            return BlockMap(tuple(change(site) for site in blocks.sites), blocks.patch_embedding)

        self.hook(vace_locate_blocks)

    def subject(self) -> Subject:
        return Subject("reference", types.SimpleNamespace(**self.hooks), "a mutant", module=self.module)


class Proxy:
    """A chunk with some methods replaced."""

    def __init__(self, chunk: Any, changes: dict[str, Callable[..., Any]]) -> None:
        self.__dict__.update(_chunk=chunk, _changes=changes)

    def __getattr__(self, name: str) -> Any:
        change = self._changes.get(name)
        if change is None:
            return getattr(self._chunk, name)
        return lambda *given: change(self._chunk, *given)


def mapped(source: HintSource | None, change: Callable[[Any, Any], Any]) -> HintSource | None:
    """Hints changed: `change` gets the function that computes them and the pass's inputs."""
    return source and HintSource(lambda inputs: change(source.hints, inputs), source.references)


def hints_changed(bench: Bench, change: Callable[[Any, Any], Any]) -> None:
    """At denoise steps."""
    bench.chunks(denoising=lambda chunk, step, sigma: mapped(chunk.denoising(step, sigma), change))


# --- contract ----------------------------------------------------------------------------------------------------------


def plugin_loads(bench):
    @bench.hook
    def vace_wrap_attention(attend=None):
        return attend


def imports_no_torch(bench):
    shutil.copytree(Path(reference.__file__).parent, bench.folder / "torchy")
    with (bench.folder / "torchy" / "plugin.py").open("a") as file:
        file.write("\nimport torch\n")
    bench.monkeypatch.syspath_prepend(str(bench.folder))
    bench.module = "torchy.plugin"


def info_is_plain(bench):
    class Longer(PipelineInfo):
        note: str = "more than the contract has"

    @bench.hook
    def vace_describe():
        return Longer(**dict(reference.INFO))


def settings_are_the_yaml(bench):
    class Other(ReferenceSettings):
        window: int = 8

    @bench.hook
    def vace_settings():
        return Other


def settings_refuse_unknown_keys(bench):
    class Loose(ReferenceSettings):
        model_config = {"extra": "ignore"}

    @bench.hook
    def vace_settings():
        return Loose


def tiny_depends_on_its_seed(bench):
    @bench.hook
    def vace_tiny_pipeline(settings, seed):
        return reference.vace_tiny_pipeline(settings, 0)


def tiny_leaves_the_generator(bench):
    @bench.hook
    def vace_tiny_pipeline(settings, seed):
        torch.manual_seed(seed + 12345)
        return reference.vace_tiny_pipeline(settings, seed)


def parts_are_ready(bench):
    @bench.hook
    def vace_tiny_pipeline(settings, seed):
        parts = reference.vace_tiny_pipeline(settings, seed)
        parts.model.train()
        return parts


# --- blocks ------------------------------------------------------------------------------------------------------------


def every_block_is_located(bench):
    @bench.hook
    def vace_locate_blocks(model):
        blocks = reference.vace_locate_blocks(model)
        return BlockMap(blocks.sites[:-1], blocks.patch_embedding)


def blocks_run_in_order(bench):
    @bench.hook
    def vace_locate_blocks(model):
        first, second, third, *others = (blocks := reference.vace_locate_blocks(model)).sites
        return BlockMap((first, third, second, *others), blocks.patch_embedding)


def locating_changes_nothing(bench):
    @bench.hook
    def vace_locate_blocks(model):
        model.proj_out.bias.add_(1e-3)
        return reference.vace_locate_blocks(model)


def writing_back_is_the_identity(bench):
    def rounded(output, hidden):
        return hidden.to(torch.bfloat16).to(hidden.dtype)

    bench.sites(lambda site: dataclasses.replace(site, write=rounded))


def what_is_written_is_read(bench):
    bench.sites(lambda site: dataclasses.replace(site, write=lambda output, hidden: output))


def inputs_have_their_shapes(bench):
    def read(site):
        def changed(args, kwargs):
            came = site.read(args, kwargs)
            return BlockInputs(came.hidden, came.modulation[:, None], came.text)

        return dataclasses.replace(site, read=changed)

    bench.sites(read)


def tokens_are_embedded_patches(bench):
    def read(site):
        def changed(args, kwargs):
            came = site.read(args, kwargs)
            return BlockInputs(came.hidden.flip(1), came.modulation, came.text)

        return dataclasses.replace(site, read=changed)

    bench.sites(read)


# --- hints -------------------------------------------------------------------------------------------------------------


def silent_control_is_the_base(bench):
    """Where there is a context path, the model is another one."""

    @bench.hook
    def vace_wrap_attention(attend, model):
        model.proj_out.bias.add_(1e-3)
        return attend


def zero_hints_change_nothing(bench):
    def flow(real):
        def changed(self, latents, timestep, start, hints):
            return real(self, latents, timestep, start, hints) * (1 if hints is None else 1.00001)

        return changed

    bench.patch(Loop, "flow", flow)


def a_hint_lands_behind_its_block(bench):
    hints_changed(bench, lambda hints, inputs: {layer + 1: hint for layer, hint in hints(inputs).items()})


def a_hint_keeps_to_its_rows(bench):
    hints_changed(bench, lambda hints, inputs: {layer: hint.roll(1, 1) for layer, hint in hints(inputs).items()})


def hints_are_computed_once(bench):
    hints_changed(bench, lambda hints, inputs: (hints(inputs), hints(inputs))[1])


def a_hint_of_another_length_is_refused(bench):
    def cut(hints, inputs):
        return {layer: hint[:, : inputs.hidden.shape[1]] for layer, hint in hints(inputs).items()}

    hints_changed(bench, cut)


def sigma_is_the_noise_level(bench):
    bench.chunks(denoising=lambda chunk, step, sigma: chunk.denoising(step, 0.9 * sigma))


def clean_pass_takes_its_hints(bench):
    bench.chunks(clean_pass=lambda chunk, sigma: chunk.clean_pass(sigma) and None)


# --- attention ---------------------------------------------------------------------------------------------------------


def wrapped_attention_is_attention(bench):
    @bench.hook
    def vace_wrap_attention(attend):
        return lambda query, key, value: attend(2 * query, key, value)


def wrapped_attention_remembers_nothing(bench):
    @bench.hook
    def vace_wrap_attention(attend):
        calls = []

        def remembering(query, key, value):
            calls.append(1)
            return attend(query, key, value) + 1e-6 * (len(calls) - 1)

        return remembering


def the_past_is_seen(bench):
    def make(real):
        def forgetful(self, chunk):
            self.memory.ring.keys.zero_()
            self.memory.ring.values.zero_()
            return real(self, chunk)

        return forgetful

    bench.patch(Loop, "make", make)


def the_prompt_is_seen(bench):
    def switch(real):
        return lambda self, chunk: real(self, _with_text(chunk, chunk.text * 0))

    bench.patch(Loop, "switch", switch)


def unused_memory_is_not_seen(bench):
    def pass_of(real):
        def everything(self, *given):
            return real(self, *given)._replace(visible=self.spec.slots * self.frame_tokens)

        return everything

    bench.patch(RingCache, "_pass_of", pass_of)


# --- chunks ------------------------------------------------------------------------------------------------------------


def chunks_have_their_shapes(bench):
    """The third chunk is short."""

    @bench.hook
    def vace_stream(parts, stream):
        for index, latents in enumerate(reference.vace_stream(parts, stream)):
            yield latents[:, :, :1] if index == 2 else latents


def shapes_follow_the_backbone(bench):
    @bench.hook
    def vace_chunk_shapes(parts, height, width):
        return dataclasses.replace(reference.vace_chunk_shapes(parts, height, width), stride=(8, 8, 8))


def sizes_that_do_not_fit_are_refused(bench):
    @bench.hook
    def vace_chunk_shapes(parts, height, width):
        return reference.vace_chunk_shapes(parts, height // 16 * 16, width // 16 * 16)


def frames_are_those_of_the_vae(bench):
    @bench.hook
    def vace_decode(latents, first):
        return torch.zeros(len(latents), 3, 4 * latents.shape[2], 8 * latents.shape[3], 8 * latents.shape[4])


def noise_is_the_chunks_own(bench):
    bench.chunks(noise=lambda chunk, number: chunk.noise(number) + 0 * torch.rand(1))


def every_draw_is_used(bench):
    @bench.hook
    def vace_tiny_pipeline(settings, seed):
        return dataclasses.replace(reference.vace_tiny_pipeline(settings, seed), draws=3)


def rows_are_independent(bench):
    def flow(real):
        def mixed(self, *given):
            flow = real(self, *given)
            return flow + 1e-6 * flow.sum(dim=0, keepdim=True)

        return mixed

    bench.patch(Loop, "flow", flow)


def a_row_is_a_stream(bench):
    def switch(real):
        return lambda self, chunk: real(self, _with_text(chunk, chunk.text[:1].expand_as(chunk.text)))

    bench.patch(Loop, "switch", switch)


def estimates_are_kept(bench):
    """All but the last."""
    bench.patch(
        Loop,
        "make",
        lambda real: lambda self, chunk: real(self, Proxy(chunk, {"keep": _not_the_last(len(self.schedule))})),
    )


def _not_the_last(steps):
    estimates = []

    def keep(chunk, latents):
        estimates.append(1)
        return latents if len(estimates) == steps else chunk.keep(latents)

    return keep


# --- cache -------------------------------------------------------------------------------------------------------------


def memory_is_fixed(bench):
    def push(real):
        def moved(self, latents):
            self.latents = self.latents.clone()
            real(self, latents)

        return moved

    bench.patch(RecentLatents, "push", push)


def positions_are_the_frames_held(bench):
    """An empty slot says that it holds frame 0, too."""

    def positions(real):
        def changed(self, row=0):
            held = list(real(self, row))
            if -1 in held and 0 in held:
                held[held.index(-1)] = 0
            return held

        return changed

    bench.patch(Memory, "positions", positions)


def the_sink_stays(bench):
    real = memory_module.RingSpec

    def init(made):
        def changed(self, *given):
            made(self, *given)
            self.layout = dataclasses.replace(self.layout, sink=2)

        return changed

    bench.monkeypatch.setattr(memory_module, "RingSpec", lambda slots, sink: real(slots, 0))
    bench.patch(Memory, "__init__", init)


def the_oldest_leaves_first(bench):
    """The window says that it holds frames two older than it should."""

    def positions(real):
        def changed(self, row=0):
            held = real(self, row)
            end = max(held) + 1
            return [frame - 2 if end >= 8 and 2 <= frame < end - 2 else frame for frame in held]

        return changed

    bench.patch(Memory, "positions", positions)


def clean_pass_is_hint_free(bench):
    """It has the last step's hints."""
    last: list[HintSource | None] = [None]

    def denoising(chunk, step, sigma):
        last[0] = chunk.denoising(step, sigma)
        return last[0]

    def clean_pass(chunk, sigma):
        return chunk.clean_pass(sigma) or (last[0] and HintSource(last[0].hints))

    bench.chunks(denoising=denoising, clean_pass=clean_pass)


def recache_is_hint_free(bench):
    """It has the hints of the last controlled pass."""

    def flow(real):
        def kept(self, latents, timestep, start, hints):
            self.last = hints or getattr(self, "last", None)
            return real(self, latents, timestep, start, hints)

        return kept

    def recache(real):
        return lambda self, hints: real(self, self.last and HintSource(_for_any_length(self.last.hints)))

    bench.patch(Loop, "flow", flow)
    bench.patch(Loop, "recache", recache)


def _for_any_length(hints):
    """Hints of a recache's rows: those of the chunk, again and again."""

    def repeated(inputs):
        count = inputs.hidden.shape[1] // 12
        short = BlockInputs(inputs.hidden[:, :12], inputs.modulation, inputs.text)
        return {layer: hint.repeat(1, count, 1) for layer, hint in hints(short).items()}

    return repeated


def clean_pass_sees_what_is_finished(bench):
    def finish(real):
        def changed(self, clean, chunk):
            real(self, clean * 1.001, chunk)

        return changed

    bench.patch(Loop, "finish", finish)


def snapshots_hold_everything(bench):
    """All but the newest latents."""

    def restore(real):
        def changed(self, snapshot):
            kept = self.recent.latents.clone()
            real(self, snapshot)
            self.recent.latents.copy_(kept)

        return changed

    bench.patch(Memory, "restore", restore)


def the_memory_is_all_there_is(bench):
    """The loop remembers the last chunk by itself; re-anchoring a row forgets it."""

    def make(real):
        def leaking(self, chunk):
            last = getattr(self, "last", None)
            change = {} if last is None else {"noise": lambda chunk, number: chunk.noise(number) + 1e-3 * last}
            self.last = real(self, Proxy(chunk, change)).clone()
            return self.last.clone()

        return leaking

    def rebuild(real):
        def forgetting(self, row, latents):
            self.last[row] = 0
            real(self, row, latents)

        return forgetting

    bench.patch(Loop, "make", make)
    bench.patch(Loop, "rebuild", rebuild)


def reset_is_a_fresh_memory(bench):
    """The prompt stays."""

    def reset(real):
        def changed(self):
            kept = self.text.snapshot()
            real(self)
            self.text.restore(kept)

        return changed

    bench.patch(Memory, "reset", reset)


def reanchoring_forgets_the_past(bench):
    """The sink stays."""

    def recache_pass(real):
        def changed(self, start, frames, *, keep_sink, **which):
            return real(self, start, frames, keep_sink=True, **which)

        return changed

    bench.patch(RingCache, "recache_pass", recache_pass)


def reanchoring_is_felt(bench):
    bench.patch(Loop, "rebuild", lambda real: lambda self, row, latents: real(self, row, latents * 0))


def reanchoring_leaves_other_rows(bench):
    def rebuild(real):
        def all_rows(self, row, latents):
            for every in range(len(self.memory.recent.latents)):
                real(self, every, latents)

        return all_rows

    bench.patch(Loop, "rebuild", rebuild)


def empty_slots_are_not_seen(bench):
    """A denoise step without references sees every slot."""

    def flow(real):
        def marked(self, latents, timestep, start, hints):
            self.memory.ring.denoises = timestep > 0
            return real(self, latents, timestep, start, hints)

        return marked

    def layer(real):
        def changed(self, index, step, references=None, batch_row=None):
            found = real(self, index, step, references, batch_row)
            if references is not None or not self._reserved or not getattr(self, "denoises", False):
                return found
            keys, values = (each[index, :, : self._front + step.visible] for each in (self._keys, self._values))
            return found._replace(keys=keys, values=values, slots=step.slots + self._front - step.bank)

        return changed

    bench.patch(Loop, "flow", flow)
    bench.patch(RingCache, "layer", layer)


def references_in_slots_are_seen(bench):
    def denoising(chunk, step, sigma):
        source = chunk.denoising(step, sigma)
        return source and HintSource(source.hints)

    bench.chunks(denoising=denoising)


def slots_are_reused_exactly(bench):
    """Whatever the prompt."""

    def take(real):
        return lambda self, references, prompt, run: real(self, references, 0, run)

    bench.patch(ReferenceSlots, "take", take)


def clean_pass_sees_no_slots(bench):
    last: list[Any] = [None]

    def denoising(chunk, step, sigma):
        source = chunk.denoising(step, sigma)
        last[0] = source and source.references
        return source

    bench.chunks(
        denoising=denoising,
        clean_pass=lambda chunk, sigma: chunk.clean_pass(sigma) or HintSource(lambda inputs: {}, last[0]),
    )


# --- bank --------------------------------------------------------------------------------------------------------------


def the_bank_fills_and_stays_full(bench):
    """A full bank begins anew."""

    def take(real):
        def emptying(self, frame):
            for row, held in enumerate(self._held):
                if -1 not in held:
                    self.empty(row)
            real(self, frame)

        return emptying

    bench.patch(Bank, "take", take)


def the_bank_is_seen(bench):
    def visible(real):
        def none(self, before, behind):
            rows = self.filled * self.ring.frame_tokens
            return torch.arange(before + rows + behind).sub(before).div(max(rows, 1)).floor().ne(0)[None, None, None]

        return none

    bench.patch(Bank, "visible", visible)


def denoising_commits_nothing_to_the_bank(bench):
    """One denoise step changes the bank, the other changes it back."""

    def flow(real):
        def turning(self, latents, timestep, start, hints):
            made = real(self, latents, timestep, start, hints)
            if timestep > 0:
                self.memory.ring.bank_values.neg_()
            return made

        return turning

    bench.patch(Loop, "flow", flow)


def controls_stay_out_of_the_bank(bench):
    def flow(real):
        def marked(self, latents, timestep, start, hints):
            self.controlled = hints is not None or getattr(self, "controlled", False)
            return real(self, latents, timestep, start, hints)

        return marked

    def finish(real):
        def changed(self, clean, chunk):
            real(self, clean, chunk)
            if self.controlled:
                self.memory.ring.bank_values.mul_(1.001)

        return changed

    bench.patch(Loop, "flow", flow)
    bench.patch(Loop, "finish", finish)


def a_prompt_switch_rewrites_nothing_in_the_bank(bench):
    def recache(real):
        def emptying(self, hints):
            real(self, hints)
            self.memory.bank.empty(0)

        return emptying

    bench.patch(Loop, "recache", recache)


def banks_of_two_streams_do_not_meet(bench):
    """The newest slot is written once more from the place where all streams leave what they took last."""
    last: list[Any] = [None]

    def take(real):
        def leaking(self, frame):
            first = (self.size - 1 - (self._next[0] - 1) % self.size) * self.ring.frame_tokens
            if max(self._held[0]) >= 0:
                self.ring.bank_values[:, :, first : first + self.ring.frame_tokens] = last[0]
            last[0] = self.ring.frame(frame)[1].clone()
            real(self, frame)

        return leaking

    bench.patch(Bank, "take", take)


def rows_have_banks_of_their_own(bench):
    def take(real):
        def mixed(self, frame):
            real(self, frame)
            if len(self._held) > 1:
                self.ring.bank_values[:, 0] += 1e-3 * self.ring.bank_values[:, 1]

        return mixed

    bench.patch(Bank, "take", take)


# --- lifecycle ---------------------------------------------------------------------------------------------------------


def interleaved_streams_do_not_meet(bench):
    """All streams remember their last chunk in one place."""
    last: list[Any] = [None]

    def make(real):
        def leaking(self, chunk):
            before = last[0] if chunk.index else None
            change = {} if before is None else {"noise": lambda chunk, number: chunk.noise(number) + 1e-3 * before}
            made = real(self, Proxy(chunk, change))
            last[0] = made.clone()
            return made

        return leaking

    bench.patch(Loop, "make", make)


def a_stopped_stream_leaves_nothing(bench):
    @bench.hook
    def vace_stream(parts, stream):
        left = parts.model.__dict__.pop("left", 0.0)
        try:
            for latents in loop_module.run_stream(parts, stream):
                yield latents + left
        except GeneratorExit:
            parts.model.__dict__["left"] = 1e-3
            raise


def an_error_comes_through(bench):
    def flow(real):
        def swallowing(self, latents, timestep, start, hints):
            try:
                return real(self, latents, timestep, start, hints)
            except ZeroDivisionError:
                return real(self, latents, timestep, start, None)

        return swallowing

    bench.patch(Loop, "flow", flow)


def the_model_is_left_as_it_was(bench):
    @bench.hook
    def vace_stream(parts, stream):
        parts.model.train()
        return loop_module.run_stream(parts, stream)


def hooks_come_off(bench):
    bench.sites(lambda site: dataclasses.replace(site, write=lambda output, hidden: output))


def a_prompt_holds_from_its_chunk_on(bench):
    def switch(real):
        return lambda self, chunk: real(self, chunk) if chunk.index == 0 else None

    bench.patch(Loop, "switch", switch)


def being_told_changes_nothing(bench):
    made: list[Any] = []

    @bench.hook
    def vace_cache_ops(parts, shapes, batch, references):
        made[:] = [reference.vace_cache_ops(parts, shapes, batch, references)]
        return made[0]

    @bench.hook
    def vace_chunk_done(report):
        made[0].ring.values.add_(1e-3)


def references_change_no_sizes(bench):
    def flow(real):
        def marked(self, latents, timestep, start, hints):
            self.memory.controlled = hints is not None or getattr(self.memory, "controlled", False)
            return real(self, latents, timestep, start, hints)

        return marked

    def tensors(real):
        def more(self):
            extra = {"extra": torch.zeros(1)} if getattr(self, "controlled", False) else {}
            return {**real(self), **extra}

        return more

    bench.patch(Loop, "flow", flow)
    bench.patch(Memory, "tensors", tensors)


def nothing_grows(bench):
    def finish(real):
        def keeping(self, clean, chunk):
            self.__dict__.setdefault("all", []).append(clean.clone())
            real(self, clean, chunk)

        return keeping

    bench.patch(Loop, "finish", finish)


def _with_text(chunk, text):
    changed = Proxy(chunk, {})
    changed.__dict__["text"] = text
    return changed
