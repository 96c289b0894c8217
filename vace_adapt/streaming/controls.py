"""The options of a stream's control: which of them may change inside it, and what the inputs amount to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vace_adapt.controls import ControlSettings
from vace_adapt.errors import SettingsError
from vace_adapt.validation import validated

LIVE = ("structure", "annotators", "mask", "preserve", "seam", "blank", "hint_reuse")
"""Options that may change between chunks. The scale changes on its own; the others shape the stream's memory."""


def changed(now: ControlSettings, given: Mapping[str, Any]) -> ControlSettings:
    """Options with some of them replaced; of `mask` and of each annotator only what is named.

    Raises:
        SettingsError: not valid, or one that holds for a whole stream. So does ``preserve: latent``: what the source's
            latents are depends on the frames before.
    """
    if not isinstance(given, Mapping):
        raise SettingsError(f"controls: must be options by name, not {given!r}")
    fixed = [name for name in given if name in ControlSettings.model_fields and name not in LIVE]
    if fixed:
        raise SettingsError(f"controls.{fixed[0]} cannot change inside a stream; what can is {', '.join(LIVE)}")
    if given.get("preserve") == "latent" and now.preserve != "latent":
        raise SettingsError("controls.preserve=latent holds for a whole stream: open it with it")
    merged = dict(given)
    if isinstance(mask := given.get("mask"), Mapping):
        merged["mask"] = {**dict(now.mask), **mask}
    if isinstance(annotators := given.get("annotators"), Mapping):
        merged["annotators"] = {**now.annotators, **{n: _over(now.annotators.get(n), o) for n, o in annotators.items()}}
    return validated(ControlSettings, {**dict(now), **merged}, "controls")


def _over(options: Mapping[str, Any] | None, given: Any) -> Any:
    return {**(options or {}), **given} if isinstance(given, Mapping) else given
