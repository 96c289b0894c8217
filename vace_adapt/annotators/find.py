"""Find annotator plugins by entry-point name, load one, make it for a stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pluggy

from vace_adapt import hookspecs
from vace_adapt.contract import Annotator, AnnotatorInfo, AnnotatorSettings, Canvas
from vace_adapt.errors import AnnotatorBroken, AnnotatorNotFound, InputError
from vace_adapt.hookspecs import ANNOTATORS, HOOK_API, PROJECT
from vace_adapt.loading import discover
from vace_adapt.validation import validated


def annotator_names() -> list[str]:
    """The name of every installed annotator; none is imported."""
    return sorted(discover(ANNOTATORS))


def load_annotator(name: str) -> AnnotatorInfo:
    """Load one annotator plugin into a manager of its own.

    Raises:
        AnnotatorNotFound, AnnotatorBroken: with the name and the distribution.
    """
    installed = discover(ANNOTATORS)
    if name not in installed:
        raise AnnotatorNotFound(name, installed)
    chosen, *others = installed[name]
    if others:
        raise AnnotatorBroken(name, chosen.distribution, f"{others[0].distribution} offers it too: uninstall one")
    try:
        plugin = chosen.entry_point.load()
    except Exception as cause:  # a plugin's import may fail in any way; the cause is chained and shown
        raise AnnotatorBroken(
            name, chosen.distribution, f"cannot be imported: {type(cause).__name__}: {cause}"
        ) from cause
    return register_annotator(name, plugin, chosen.distribution)


def register_annotator(name: str, plugin: object, distribution: str) -> AnnotatorInfo:
    """Check a plugin object against the contract and ask it who it is.

    Raises:
        AnnotatorBroken: it does not implement `vace_annotator`, or answers with something else.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, name=name)
        info = manager.hook.vace_annotator()
    except Exception as cause:  # a plugin may fail in any way; the cause is chained and shown
        text = " ".join(f"{type(cause).__name__}: {cause}".split())
        raise AnnotatorBroken(name, distribution, f"vace_annotator: {text}") from cause
    if not isinstance(info, AnnotatorInfo):
        problem = "has no vace_annotator" if info is None else f"vace_annotator returned {type(info).__name__}"
        raise AnnotatorBroken(name, distribution, f"{problem}, expected an AnnotatorInfo")
    if info.hook_api != HOOK_API:
        raise AnnotatorBroken(name, distribution, f"implements HOOK_API {info.hook_api}, this is HOOK_API {HOOK_API}")
    if info.name != name:
        raise AnnotatorBroken(name, distribution, f"calls itself {info.name!r}")
    return info


def annotator_settings(info: AnnotatorInfo, options: Mapping[str, Any]) -> AnnotatorSettings:
    """Options of an annotator, as plain values, validated.

    Raises:
        SettingsError: with every mistake in it.
    """
    return validated(info.settings, dict(options), f"controls.annotators.{info.name}")


def check_names(names: Iterable[str]) -> None:
    """Refuse names that no installed annotator has; none is imported.

    Raises:
        AnnotatorNotFound: with the closest name.
    """
    installed = discover(ANNOTATORS)
    for name in names:
        if name not in installed:
            raise AnnotatorNotFound(name, installed)


def make_annotator(name: str, options: Mapping[str, Any], canvas: Canvas) -> Annotator:
    """An annotator for one stream.

    Args:
        name: entry-point name.
        options: its settings, as plain values.
        canvas: where it works.

    Raises:
        AnnotatorNotFound, AnnotatorBroken, SettingsError: as `load_annotator` and `annotator_settings`.
        InputError: an extra is not installed.
        CheckpointError: weights are missing or of another model.
    """
    info = load_annotator(name)
    settings = annotator_settings(info, options)
    try:
        return info.make(settings, canvas)
    except ImportError as error:
        if info.extra is None:
            raise
        raise InputError(f"annotator {name!r} needs pip install 'vace-adapt[{info.extra}]' ({error})") from error
