"""What a check receives: one plugin, its tiny pipeline, and sizes to run it at."""

from __future__ import annotations

import dataclasses
import importlib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vace_adapt import hookspecs
from vace_adapt.contract import Capability, Injection, PipelineParts, Support
from vace_adapt.errors import PipelineConflict, PipelineNotFound, PluginError
from vace_adapt.facade import PipelineHooks
from vace_adapt.hookspecs import PROJECT, REQUIRED_HOOKS, hookimpl
from vace_adapt.loading import discover, register_plugin
from vace_adapt.streaming.load import tiny_pipeline
from vace_adapt.streaming.pipeline import Pipeline
from vace_adapt.validation import validated
from vace_adapt_conformance.overrides import settings_of
from vace_adapt_conformance.pytest_plugin import REFERENCES

MakesLive = Callable[[PipelineParts], nn.Module]
"""The parts of a tiny pipeline to a model object of the official repository with the same weights."""


class Subject:
    """A plugin under test.

    Args:
        name: of the pipeline.
        plugin: the module or object with its hooks.
        distribution: name and version, for the report.
        module: dotted name under which it is imported; None if it cannot be imported by name.
        layout: the layout to run; None for the first declared one.
        live: makes the model of another layout than the first.
        settings: of the pipeline, where they are not the defaults.

    Attributes:
        missing: required hooks that are not written yet, by name, with the reason.
    """

    def __init__(
        self,
        name: str,
        plugin: object,
        distribution: str = "an object",
        *,
        module: str | None = None,
        layout: str | None = None,
        live: MakesLive | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.given = {"name": name, **(settings or {})}
        self.plugin = plugin
        self.distribution = distribution
        self.module = module
        self.missing = {hook: reason for hook in REQUIRED_HOOKS if (reason := _why_missing(plugin, hook))}
        self._layout = layout
        self._live = live

    # --- the plugin ---------------------------------------------------------------------------------------------------

    @cached_property
    def hooks(self) -> PipelineHooks:
        """The loaded plugin.

        Raises:
            PluginError: it is not what the contract says.
        """
        return self.watched()

    def watched(self, observers: Iterable[object] = ()) -> PipelineHooks:
        """The same plugin in another manager, with observers."""
        plugin = self.plugin if not self.missing else _with_stubs(self.plugin, self.missing)
        return register_plugin(self.name, plugin, self.distribution, observers)

    @property
    def title(self) -> str:
        """Its name, and what is not the default of its settings."""
        return " ".join(str(value) if key == "name" else f"{key}={value}" for key, value in self.given.items())

    @property
    def layout(self) -> str:
        return self._layout or next(iter(self.hooks.info.layouts))

    @property
    def injection(self) -> Injection:
        return self.hooks.info.layouts[self.layout]

    def declared(self, capability: str) -> Capability:
        """What the plugin says of a capability in this layout, and with these settings."""
        info = self.hooks.info
        found = info.exceptions.get(self.layout, {}).get(capability) or info.capabilities[capability]
        batches = capability == "stream_batch" and found.support is Support.FULL
        if batches and self.pipe.parts.chunks_at_once == 1:
            reason = "with these settings it makes one chunk at a time"
            return Capability(support=Support.UNSUPPORTED, reason=reason)
        return found

    def has(self, capability: str) -> bool:
        return self.declared(capability).support is Support.FULL

    @property
    def configuration(self) -> Path | None:
        """The plugin's ``conf/pipeline/NAME.yaml``; None if it cannot be imported by name."""
        if self.module is None:
            return None
        for package in _packages(self.module):
            folder = importlib.import_module(package).__file__
            file = Path(folder or "").parent / "conf" / "pipeline" / f"{self.name}.yaml"
            if file.is_file():
                return file
        return None

    # --- its tiny pipeline --------------------------------------------------------------------------------------------

    @cached_property
    def pipe(self) -> Pipeline:
        """The tiny pipeline of seed 0 with control. Shared: a check must leave it as it was."""
        return self.fresh()

    def fresh(self, seed: int = 0, *, hooks: PipelineHooks | None = None) -> Pipeline:
        """A tiny pipeline of its own."""
        hooks = hooks or self.hooks
        settings = validated(hooks.settings_type(), self.given, "pipeline")
        pipe = tiny_pipeline(hooks, settings, torch.device("cpu"), torch.float32, seed)
        if self.layout == pipe.parts.layout:
            return pipe
        if self._live is None:
            raise AssertionError(f"layout {self.layout!r} needs a live model: give one")
        parts = dataclasses.replace(pipe.parts, model=self._live(pipe.parts), layout=self.layout)
        return Pipeline(hooks, parts, pipe.context, live=True)

    def bare(self) -> Pipeline:
        """The same weights without any context path."""
        settings = validated(self.hooks.settings_type(), self.given, "pipeline")
        parts = dataclasses.replace(self.hooks.tiny_pipeline(settings, 0), control_layers=None)
        if self.layout != parts.layout:
            assert self._live is not None
            parts = dataclasses.replace(parts, model=self._live(parts), layout=self.layout)
        return Pipeline(self.hooks, parts, None, live=self._live is not None)

    @property
    def height(self) -> int:
        """Pixels: two tokens, so that the grid is small and not square."""
        return 2 * self.pipe.parts.backbone.unit[0]

    @property
    def width(self) -> int:
        """Pixels: three tokens."""
        return 3 * self.pipe.parts.backbone.unit[1]


def open_subject(
    name: str, *, overrides: Sequence[str] = (), layout: str | None = None, live: MakesLive | None = None
) -> Subject:
    """An installed plugin by its entry-point name, or ``reference``. A plugin that lacks hooks is opened, too.

    Args:
        name: of the pipeline.
        overrides: settings of it, ``key=value``, in place of the defaults.
        layout, live: see `Subject`.

    Raises:
        PipelineNotFound, PipelineConflict, PluginError: there is none, there are several, it cannot be imported.
        SettingsError: an override that is not one, or does not fit the plugin's settings.
    """
    subject = _opened(name, settings_of(overrides), layout, live)
    if overrides and "vace_settings" not in subject.missing:
        validated(subject.hooks.settings_type(), subject.given, "pipeline")
    return subject


def _opened(name: str, settings: Mapping[str, Any], layout: str | None, live: MakesLive | None) -> Subject:
    plugins = discover()
    if name in REFERENCES and name not in plugins:
        module = REFERENCES[name]
        return Subject(
            name, importlib.import_module(module), "vace-adapt-conformance", module=module, settings=settings
        )
    if name not in plugins:
        raise PipelineNotFound(name, [*plugins, *REFERENCES])
    if len(plugins[name]) > 1:
        raise PipelineConflict(name, [found.distribution for found in plugins[name]])
    (chosen,) = plugins[name]
    try:
        plugin = chosen.entry_point.load()
    except Exception as cause:  # a plugin's import may fail in any way; the cause is chained and shown
        raise PluginError(f"pipeline {name!r} cannot be imported: {type(cause).__name__}: {cause}") from cause
    module = chosen.entry_point.module
    return Subject(name, plugin, chosen.distribution, module=module, layout=layout, live=live, settings=settings)


def _why_missing(plugin: object, hook: str) -> str | None:
    found = getattr(plugin, hook, None)
    if found is None:
        return "is not written yet"
    return None if hasattr(found, f"{PROJECT}_impl") else "has no @hookimpl yet"


def _with_stubs(plugin: object, missing: Iterable[str]) -> object:
    """The plugin with a stub for each missing hook, so that the others can be checked."""
    hooks: dict[str, Any] = {}
    for name in dir(plugin):
        if name.startswith("vace_") and hasattr(getattr(plugin, name), f"{PROJECT}_impl"):
            hooks[name] = getattr(plugin, name)
    hooks.update({name: _stub(name) for name in missing})
    return types.SimpleNamespace(**hooks)


def _stub(name: str) -> Any:
    @hookimpl(specname=name)
    def stub() -> None:
        raise NotImplementedError(name)

    stub.__name__ = name
    return stub


def purpose(hook: str) -> str:
    """The first line of a hook's specification."""
    return (getattr(hookspecs, hook).__doc__ or "").split("\n")[0]


def _packages(module: str) -> list[str]:
    """Every package above a module, innermost first."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
