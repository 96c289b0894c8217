"""What cannot work together, found from the options and the names of what is given, before any frame is seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from vace_adapt.annotators.find import annotator_settings, check_names, load_annotator
from vace_adapt.composing import MAIN, Structure
from vace_adapt.contract import AnnotatorInfo, AnnotatorSettings
from vace_adapt.controls import ControlSettings
from vace_adapt.errors import InputError
from vace_adapt.scale import HintScale


class Chosen(NamedTuple):
    """An annotator that the options of the control name, and its own options, as given and validated."""

    info: AnnotatorInfo
    options: dict[str, Any]
    settings: AnnotatorSettings


def check_options(settings: ControlSettings, steps: int) -> None:
    """Refuse annotators that are not there, are of the wrong kind or have wrong options, and schedules that do not fit.

    Args:
        settings: options of the control.
        steps: denoise steps of a chunk.

    Raises:
        AnnotatorNotFound, AnnotatorBroken, SettingsError, InputError: with the reason.
    """
    check_steps(settings.scale, steps)
    check_names(settings.annotators)
    for structure in settings.structure:
        info = load_annotator(structure.annotator)
        if info.makes != "control":
            raise InputError(f"annotator {info.name!r} makes a mask: name it in controls.mask.annotator")
        of_structure(settings, structure)
        last = structure.schedule.last_step
        if last >= steps:
            raise InputError(
                f"controls.structure: the schedule of {info.name} speaks of denoise step {last}, the last one is "
                f"{steps - 1}"
            )
    _check_windows(settings.structure, steps)
    name = settings.mask.annotator
    if name is not None and load_annotator(name).makes != "mask":
        raise InputError(f"annotator {name!r} makes no mask: name it in controls.structure")
    of_mask(settings)


def check_steps(scale: HintScale, steps: int) -> None:
    """Refuse schedules that speak of denoise steps past the last one.

    Raises:
        InputError: with the step.
    """
    for name, schedule in (("control", scale.control_schedule), ("references", scale.references_schedule)):
        if schedule.last_step >= steps:
            raise InputError(
                f"scale.{name}_schedule speaks of denoise step {schedule.last_step}, the last one is {steps - 1}"
            )


def check_given(
    settings: ControlSettings, reads: Collection[str], videos: Collection[str], *, mask: bool, starts: bool = False
) -> None:
    """Refuse videos that nothing would use, controls that would not be seen, and masks that contradict the options.

    Args:
        settings: options of the control.
        reads: the videos its controls read, from `videos_read`.
        videos: names of what is fed.
        mask: whether a mask is fed with it.
        starts: whether the base starts from the main video.

    Raises:
        InputError: with the reason.
    """
    if mask and settings.mask.annotator is not None:
        raise InputError(
            f"a mask is fed, and controls.mask.annotator={settings.mask.annotator} makes one: leave one out"
        )
    if mask and MAIN not in videos:
        raise InputError("a mask is fed without frames: there is nothing to keep")
    if unread := sorted({*videos} - {MAIN, *reads}):
        raise InputError(f"the video {unread[0]!r} is fed, and no control reads it (controls.structure)")
    masked = mask or settings.mask.annotator is not None
    hidden = [s.annotator for s in settings.structure if s != Structure(annotator="plain") and s.video in videos]
    if settings.outpaint is not None and MAIN in videos and not masked and hidden:
        raise InputError(
            f"{', '.join(hidden)} (controls.structure) would not be seen: outpainting keeps all of the source; "
            "give a mask"
        )
    if MAIN in videos and not masked and settings.outpaint is None and MAIN not in reads and not starts:
        steering = ", ".join(structure.annotator for structure in settings.structure) or "nothing"
        raise InputError(
            "the frames would not be used: no mask keeps any of them, and what steers is "
            f"{steering} (controls.structure)"
        )


def of_structure(settings: ControlSettings, structure: Structure) -> Chosen:
    """The annotator of a structural control, with its options."""
    return _chosen(settings, structure.annotator, structure.options)


def of_mask(settings: ControlSettings) -> Chosen | None:
    """The annotator that makes masks, with its options; None for none."""
    return None if settings.mask.annotator is None else _chosen(settings, settings.mask.annotator, {})


def ready_made(settings: ControlSettings) -> bool:
    """Whether the main video is a control as it is, and no picture of what is to be made."""
    return any(structure.annotator == "plain" and structure.video == MAIN for structure in settings.structure)


def videos_read(settings: ControlSettings) -> set[str]:
    """Names of the videos that the structural controls read."""
    return {s.video for s in settings.structure if load_annotator(s.annotator).reads == "frames"}


def _chosen(settings: ControlSettings, name: str, own: Mapping[str, Any]) -> Chosen:
    info = load_annotator(name)
    options = {**settings.annotators.get(name, {}), **own}
    return Chosen(info, options, annotator_settings(info, options))


def _check_windows(structures: Collection[Structure], steps: int) -> None:
    """Controls over each other are one picture, which cannot change from step to step."""
    rest = list(structures)
    while rest:
        one = rest.pop()
        for other in rest:
            silent = [{step for step in range(steps) if s.schedule.over_steps(step) == 0} for s in (one, other)]
            if silent[0] != silent[1] and _overlap(one, other):
                raise InputError(
                    f"{other.annotator} and {one.annotator} (controls.structure) overlap and act in different denoise "
                    "steps: give them regions side by side, or the same steps"
                )


def _overlap(one: Structure, other: Structure) -> bool:
    a, b = one.region or (0, 0, 1, 1), other.region or (0, 0, 1, 1)
    return max(a[0], b[0]) < min(a[2], b[2]) and max(a[1], b[1]) < min(a[3], b[3])
