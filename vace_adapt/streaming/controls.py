"""The options of a stream's control: which of them may change inside it, and what the inputs amount to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vace_adapt.controls import ControlSettings
from vace_adapt.errors import SettingsError
from vace_adapt.validation import validated

LIVE = ("structure", "annotators", "mask", "preserve", "seam", "blank")
"""Options that may change between chunks. The scale changes on its own; the others shape the stream's memory."""


def changed(now: ControlSettings, given: Mapping[str, Any]) -> ControlSettings:
    """Options with some of them replaced.

    Raises:
        SettingsError: not valid, or one that holds for a whole stream.
    """
    fixed = [name for name in given if name in ControlSettings.model_fields and name not in LIVE]
    if fixed:
        raise SettingsError(f"controls.{fixed[0]} cannot change inside a stream; what can is {', '.join(LIVE)}")
    return validated(ControlSettings, {**dict(now), **given}, "controls")
