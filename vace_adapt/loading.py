"""Find pipeline plugins without importing them, and load exactly one.

Every pipeline has its own `pluggy.PluginManager` with one plugin in it, chosen by entry-point name. A broken neighbour
is never imported, two pipelines in one process are two managers, and a hook has one answer.
"""

from __future__ import annotations

import importlib.metadata
import inspect
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import pluggy

from vace_adapt import hookspecs
from vace_adapt.errors import (
    HookApiMismatch,
    HookMissing,
    HookReturnType,
    HookSignature,
    PipelineBroken,
    PipelineConflict,
    PipelineNotFound,
    PluginError,
    closest,
)
from vace_adapt.facade import PipelineHooks
from vace_adapt.hookspecs import HOOK_API, OPTIONAL_HOOKS, PROJECT, REQUIRED_HOOKS


@dataclass(frozen=True)
class Installed:
    """An installed plugin, known from its distribution's metadata alone."""

    name: str
    entry_point: importlib.metadata.EntryPoint
    distribution: str
    """Name and version, e.g. ``vace-adapt-longlive 0.1.0``."""


def discover(group: str = PROJECT) -> dict[str, list[Installed]]:
    """Every offered plugin of an entry-point group by name, without importing any. A name with two entries is a
    conflict.
    """
    found: dict[str, list[Installed]] = defaultdict(list)
    seen: set[tuple[str, str]] = set()
    for dist in importlib.metadata.distributions():
        offered = dist.entry_points.select(group=group)
        label = f"{dist.metadata['Name']} {dist.version}" if offered else ""  # reading it takes time
        for entry_point in offered:
            if (label, entry_point.name) not in seen:
                seen.add((label, entry_point.name))
                found[entry_point.name].append(Installed(entry_point.name, entry_point, label))
    return dict(found)


def load_plugin(name: str, observers: Iterable[object] = ()) -> PipelineHooks:
    """Load one plugin by entry-point name.

    Args:
        name: the word in ``pipeline=NAME``.
        observers: objects implementing `vace_chunk_done`.

    Raises:
        PipelineNotFound, PipelineConflict, PipelineBroken, HookMissing, HookSignature, HookApiMismatch, HookReturnType.
        PluginError: ``vace_describe`` raised.
    """
    plugins = discover()
    if name not in plugins:
        raise PipelineNotFound(name, plugins)
    if len(plugins[name]) > 1:
        raise PipelineConflict(name, [found.distribution for found in plugins[name]])
    (chosen,) = plugins[name]
    try:
        plugin = chosen.entry_point.load()
    except Exception as cause:  # a plugin's import may fail in any way; the cause is chained and shown
        raise PipelineBroken(name, chosen.distribution, _host(), cause) from cause
    return register_plugin(name, plugin, chosen.distribution, observers)


def register_plugin(name: str, plugin: object, distribution: str, observers: Iterable[object] = ()) -> PipelineHooks:
    """Put a plugin object into a manager of its own and check it against the contract."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, name=name)
    except pluggy.PluginValidationError as error:
        raise HookSignature(name, " ".join(str(error).split("\n")[1:])) from error
    _check_signatures(manager, name)
    _check_required(manager, name, plugin)
    for observer in observers:
        _register_observer(manager, name, observer)
    hooks = PipelineHooks(name, distribution, manager)
    if hooks.info.hook_api != HOOK_API:
        raise HookApiMismatch(name, hooks.info.hook_api, HOOK_API)
    if hooks.info.name != name:
        raise HookReturnType(
            name, "vace_describe", hooks.info, f"a PipelineInfo named {name!r}, not {hooks.info.name!r}"
        )
    return hooks


def _register_observer(manager: pluggy.PluginManager, name: str, observer: object) -> None:
    """Observers are told about chunks; they must not answer for the plugin."""
    try:
        observed = manager.register(observer)
    except pluggy.PluginValidationError as error:
        raise HookSignature(name, "observer: " + " ".join(str(error).split("\n")[1:])) from error
    hooks = [caller.name for caller in manager.get_hookcallers(manager.get_plugin(observed or "")) or []]
    if hooks != ["vace_chunk_done"]:
        raise HookSignature(name, f"an observer implements vace_chunk_done and nothing else, not {hooks}")


def _check_signatures(manager: pluggy.PluginManager, name: str) -> None:
    """Refuse what pluggy lets pass: unknown ``vace_`` names, default values, ``*args``, keyword-only arguments."""
    known = (*REQUIRED_HOOKS, *OPTIONAL_HOOKS)
    for caller in manager.get_hookcallers(manager.get_plugin(name)) or []:
        if caller.name not in known:
            raise HookSignature(name, f"{caller.name} is not a hook{closest(caller.name, known)}")
        for impl in caller.get_hookimpls():
            code = getattr(impl.function, "__code__", None)
            if code is None:
                raise _no_function(name, caller.name, impl.function)
            if impl.kwargnames:
                raise HookSignature(name, f"{caller.name}: {', '.join(impl.kwargnames)} must not have a default value")
            if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS) or code.co_kwonlyargcount:
                raise HookSignature(
                    name, f"{caller.name} must take plain arguments: no *args, **kwargs or keyword-only"
                )


def _check_required(manager: pluggy.PluginManager, name: str, plugin: object) -> None:
    for hook in REQUIRED_HOOKS:
        if not getattr(manager.hook, hook).get_hookimpls():
            found = getattr(plugin, hook, None)
            if hasattr(found, f"{PROJECT}_impl"):
                raise _no_function(name, hook, found)
            raise HookMissing(name, hook, undecorated=callable(found))


def _no_function(name: str, hook: str, found: object) -> HookSignature:
    kind = type(getattr(found, "__func__", found)).__name__
    return HookSignature(name, f"{hook} must be a function or a method, not {kind}")


def _host() -> str:
    return f"vace-adapt {importlib.metadata.version('vace-adapt')}"


def describe_all() -> list[tuple[str, PipelineHooks | PluginError]]:
    """Every installed name with its loaded hooks, or with the error that keeps it from loading."""
    result: list[tuple[str, PipelineHooks | PluginError]] = []
    for name in sorted(discover()):
        try:
            result.append((name, load_plugin(name)))
        except PluginError as error:
            result.append((name, error))
    return result
