"""Re-anchoring, and references in reserved slots. Part of the group ``cache``."""

from __future__ import annotations

from collections.abc import Hashable

from torch import Tensor

from vace_adapt.contract import HintSource, ReferenceRoom, SlotReferences
from vace_adapt.streaming.noise import draw
from vace_adapt_conformance.check import check, expect, expect_bits, expect_other, expect_same
from vace_adapt_conformance.scripted import Run, Script, Source
from vace_adapt_conformance.subject import Subject


@check("cache", "reanchor")
def reanchoring_forgets_the_past(subject: Subject) -> None:
    """A rebuilt memory is made of the given latents alone: behind another past, the next chunk has the same bits."""
    latents = _newest(subject)
    past = [_rebuilt(subject, latents, seed) for seed in (0, 1)]
    one, other = (run.make(_at(run) + 1)[-1] for run in past)
    expect_bits(other, one, "the chunk after re-anchoring, behind another past")
    expect(
        list(past[0].cache.positions()) == list(past[1].cache.positions()),
        "positions depend on the past before re-anchoring",
    )


@check("cache", "reanchor")
def reanchoring_is_felt(subject: Subject) -> None:
    """The rebuilt memory depends on the latents it is rebuilt from."""
    one, other = (_rebuilt(subject, _newest(subject, seed), 0) for seed in (0, 1))
    made = [run.make(_at(run) + 1)[-1] for run in (one, other)]
    expect_other(made[0], made[1], "the chunk after re-anchoring on other latents")


@check("cache", "reanchor")
def reanchoring_leaves_other_rows(subject: Subject) -> None:
    """Rows that are not named keep every bit."""
    latents, size = _newest(subject), (subject.height, subject.width)
    at = _at(Run(subject.pipe, size))
    plain = Run(subject.pipe, size, Script(seeds=(0, 1))).make(at + 1)
    rebuilt = Run(subject.pipe, size, Script(seeds=(0, 1), reanchor={at: {1: latents}})).make(at + 1)
    expect_bits(rebuilt[at][:1], plain[at][:1], "row 0, where row 1 was re-anchored")
    expect_other(rebuilt[at][1:], plain[at][1:], "row 1, re-anchored")


@check("cache", "reference_slots", telling=False)
def empty_slots_are_not_seen(subject: Subject) -> None:
    """Reserved slots without a reference change no bit; nor do more slots than references."""
    expect_same(_slotted(subject, 2, None), _slotted(subject, 0, None), "a stream with slots and no reference")
    expect_same(_slotted(subject, 3, "a"), _slotted(subject, 1, "a"), "one reference in three slots")


@check("cache", "reference_slots")
def references_in_slots_are_seen(subject: Subject) -> None:
    """A pass that gets references in its slots depends on them."""
    one, other, none = (_slotted(subject, 1, made_of) for made_of in ("a", "b", None))
    expect_other(one[0], none[0], "chunk 0 with a reference in a slot")
    expect_other(one[0], other[0], "chunk 0 with another reference in a slot")


@check("cache", "reference_slots", telling=False)
def slots_are_reused_exactly(subject: Subject) -> None:
    """What is kept of the references is what would be made anew, under whatever prompt."""
    prompts = {0: "a red ball", 1: "two dogs run"} if subject.has("prompt_switch") else {0: "a red ball"}
    for what, changes in (("the same references", {}), ("other references from chunk 2 on", {2: "b"})):
        kept, anew = (_slotted(subject, 1, "a", changes, prompts, anew=anew) for anew in (False, True))
        expect_same(kept, anew, f"{what}: reused, beside made anew at every pass")


@check("cache", "reference_slots", "clean_pass", "preserve_latents", telling=False)
def clean_pass_sees_no_slots(subject: Subject) -> None:
    """With references in slots the memory of the video is still what the bare base writes for the same latents."""
    size = (subject.height, subject.width)
    room = ReferenceRoom(1, subject.pipe.parts.draws)
    run = Run(subject.pipe, size, Script(room=room, source=_references(subject, room, "a", {}, anew=False)))
    made, memory = run.make(3), run.memory()
    bare = Run(subject.pipe, size, Script(keep=lambda chunk, latents: made[chunk].clone()))
    bare.make(3)
    for name, tensor in bare.cache.tensors().items():
        if tensor.is_floating_point() and not name.startswith("bank"):  # its unused slots may hold anything
            expect_bits(memory[name], tensor, f"{name} after chunks with references in slots, beside the bare base's")


def _at(run: Run) -> int:
    """The chunk before which the memory is rebuilt: it is full, and something has left it."""
    return run.filling - 1


def _newest(subject: Subject, seed: int = 0) -> Tensor:
    """Latents [1, C, n, h, w] for the memory to be rebuilt from."""
    run = Run(subject.pipe, (subject.height, subject.width))
    layout, start = run.cache.layout, run.shapes.time.latent_start(_at(run))
    shapes = run.shapes
    frames = min(start, layout.slots - layout.bank)
    return draw([seed], "anchor", 0, (shapes.channels, frames, shapes.height, shapes.width))


def _rebuilt(subject: Subject, latents: Tensor, seed: int) -> Run:
    """A stream of that past, from whose rebuilding on its noise is always the same."""
    size = (subject.height, subject.width)
    at = _at(Run(subject.pipe, size))
    return Run(subject.pipe, size, Script(seeds=(seed,), seeds_at={at: (9,)}, reanchor={at: {0: latents}}))


def _slotted(
    subject: Subject,
    slots: int,
    made_of: str | None,
    changes: dict[int, str] | None = None,
    prompts: dict[int, str] | None = None,
    *,
    anew: bool = False,
) -> list[Tensor]:
    """Three chunks with one reference in so many slots."""
    room = ReferenceRoom(slots, subject.pipe.parts.draws) if slots else None
    source = (
        Script().source
        if room is None or made_of is None
        else _references(subject, room, made_of, changes or {}, anew=anew)
    )
    script = Script(room=room, source=source, prompts=prompts or Script().prompts)
    return Run(subject.pipe, (subject.height, subject.width), script).make(3)


def _references(subject: Subject, room: ReferenceRoom, first: str, changes: dict[int, str], *, anew: bool) -> Source:
    """One reference at each denoise step; `anew` says that it never is what it was."""
    run = Run(subject.pipe, (subject.height, subject.width))
    shape = (run.shapes.channels, 1, run.shapes.height, run.shapes.width)

    def source(chunk: int, step: int) -> HintSource | None:
        if step < 0:
            return None
        name = next((changes[at] for at in sorted(changes, reverse=True) if at <= chunk), first)
        made_of: Hashable = (name, step, chunk) if anew else (name, step)
        references = SlotReferences(step, 1, made_of, lambda: draw([step], name, 0, shape), lambda inputs: {})
        return HintSource(lambda inputs: {}, references)

    return source
