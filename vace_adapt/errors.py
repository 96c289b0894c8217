"""Every error the framework raises on purpose.

One line each: who is wrong, what came, what was expected, what to do. The command line prints the text after ``error:``
and exits with status 2. Anything that is not a `VaceAdaptError` is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VaceAdaptError(Exception):
    """Base class; catch it to handle every mistake a caller can make."""


class InputError(VaceAdaptError):
    """A frame, mask, reference, prompt or number given by the caller cannot be used."""


class SettingsError(VaceAdaptError):
    """The composed configuration is wrong; all mistakes are listed in one message."""


class CheckpointError(VaceAdaptError):
    """A weight file is missing, damaged, unsafe, or belongs to another model."""


class GoldenError(VaceAdaptError):
    """A file is not in the format `vace-adapt-golden/1`, or describes a model that cannot be rebuilt."""


class VideoError(VaceAdaptError):
    """A video file cannot be read or written."""


class SessionError(VaceAdaptError):
    """A stream was used in a way its state does not allow."""


class Unsupported(VaceAdaptError):
    """The pipeline declares that it cannot do this, or not yet; the text carries its reason."""


class AttachError(VaceAdaptError):
    """Hooks cannot be put on this model, or a hint does not fit the block it is meant for."""


class PluginError(VaceAdaptError):
    """Base class of what can be wrong with a pipeline plugin."""


class PipelineNotFound(PluginError):
    """No installed distribution offers a pipeline of this name."""

    def __init__(self, name: str, installed: Iterable[str]) -> None:
        names = sorted(installed)
        listed = ", ".join(names) if names else "none"
        super().__init__(f"no pipeline {name!r} (installed: {listed}){closest(name, names)}")


class PipelineConflict(PluginError):
    """Several installed distributions offer a pipeline of this name."""

    def __init__(self, name: str, distributions: Iterable[str]) -> None:
        super().__init__(f"pipeline {name!r} is offered by {' and '.join(distributions)}: uninstall all but one")


class PipelineBroken(PluginError):
    """The plugin exists but its module cannot be imported."""

    def __init__(self, name: str, distribution: str, host: str, cause: BaseException) -> None:
        super().__init__(
            f"pipeline {name!r} ({distribution}, under {host}) cannot be imported: {type(cause).__name__}: {cause}"
        )


class HookMissing(PluginError):
    """A required hook is not implemented, or its ``@hookimpl`` was forgotten."""

    def __init__(self, plugin: str, hook: str, *, undecorated: bool) -> None:
        reason = "is a plain function: decorate it with @hookimpl" if undecorated else "is missing"
        super().__init__(f"pipeline {plugin!r}: required hook {hook} {reason}")


class HookSignature(PluginError):
    """A hook implementation has a name or arguments the contract does not have."""

    def __init__(self, plugin: str, problem: str) -> None:
        super().__init__(f"pipeline {plugin!r}: {problem}")


class HookApiMismatch(PluginError):
    """The plugin was written for another version of the contract."""

    def __init__(self, plugin: str, came: int, expected: int) -> None:
        older = "the plugin" if came < expected else "vace-adapt"
        super().__init__(
            f"pipeline {plugin!r} implements HOOK_API {came}, this is HOOK_API {expected}: upgrade {older}"
        )


class HookReturnType(PluginError):
    """A hook returned something the contract does not allow."""

    def __init__(self, plugin: str, hook: str, came: object, expected: str) -> None:
        super().__init__(f"pipeline {plugin!r}: {hook} returned {type(came).__name__}, expected {expected}")


class AnnotatorNotFound(PluginError):
    """No installed distribution offers an annotator of this name."""

    def __init__(self, name: str, installed: Iterable[str]) -> None:
        names = sorted(installed)
        super().__init__(f"no annotator {name!r} (installed: {', '.join(names)}){closest(name, names)}")


class AnnotatorBroken(PluginError):
    """An annotator is offered but cannot be used."""

    def __init__(self, name: str, distribution: str, problem: str) -> None:
        super().__init__(f"annotator {name!r} ({distribution}): {problem}")


def closest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the most similar known word, else an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
