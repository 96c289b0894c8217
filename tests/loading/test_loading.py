"""Finding and loading plugins: one error of its own for everything that can be wrong, with its text."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from types import MethodType

import pytest
import torch

from vace_adapt.errors import (
    HookApiMismatch,
    HookMissing,
    HookReturnType,
    HookSignature,
    PipelineBroken,
    PipelineConflict,
    PipelineNotFound,
    PluginError,
    SettingsError,
)
from vace_adapt.hookspecs import HOOK_API, REQUIRED_HOOKS, hookimpl
from vace_adapt.loading import describe_all, discover, load_plugin, register_plugin


class Good:
    """A plugin that forwards every required hook to LongLive's."""

    def __init__(self):
        import vace_adapt_longlive.plugin as longlive

        for name in REQUIRED_HOOKS:
            setattr(self, name, getattr(longlive, name))


def good_plugin(**replaced):
    plugin = Good()
    for name, hook in replaced.items():
        delattr(plugin, name) if hook is None else setattr(plugin, name, hook)
    return plugin


def test_the_plugin_that_is_there():
    hooks = load_plugin("longlive")
    assert hooks.info.name == hooks.name == "longlive"
    assert hooks.distribution.startswith("vace-adapt-longlive ")


def test_unknown_name_lists_names_and_closest():
    with pytest.raises(
        PipelineNotFound, match=r"^no pipeline 'longlve' \(installed: .*longlive.*\); did you mean 'longlive'\?$"
    ):
        load_plugin("longlve")


def test_nothing_close_makes_no_guess():
    with pytest.raises(PipelineNotFound, match=r"\(installed: [a-z, ]*longlive[a-z, ]*\)$"):
        load_plugin("xyz")


def test_plugin_that_fails_to_import(install):
    install("shaky", "import a_module_that_is_not_there")
    with pytest.raises(PipelineBroken) as caught:
        load_plugin("shaky")
    assert str(caught.value) == (
        "pipeline 'shaky' (vace-adapt-shaky 1.2, under vace-adapt 0.1.0) cannot be imported: "
        "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_two_distributions_with_one_name(install):
    install("twin", "", "vace-adapt-twin-a")
    install("twin", "", "vace-adapt-twin-b")
    text = r"pipeline 'twin' is offered by vace-adapt-twin-\w 1.2 and vace-adapt-twin-\w 1.2: uninstall all but one"
    with pytest.raises(PipelineConflict, match=text):
        load_plugin("twin")


@pytest.mark.parametrize("hook", REQUIRED_HOOKS)
def test_missing_required_hook(hook):
    with pytest.raises(HookMissing, match=f"pipeline 'longlive': required hook {hook} is missing"):
        register_plugin("longlive", good_plugin(**{hook: None}), "x 1")


def test_undecorated_required_hook():
    def vace_settings():
        return None

    with pytest.raises(HookMissing, match="vace_settings is a plain function: decorate it with @hookimpl"):
        register_plugin("longlive", good_plugin(vace_settings=vace_settings), "x 1")


def test_unknown_argument():
    @hookimpl
    def vace_locate_blocks(model, layuot):
        return None

    with pytest.raises(HookSignature, match=r"pipeline 'longlive': .*vace_locate_blocks\(model, layuot\).*'layuot'"):
        register_plugin("longlive", good_plugin(vace_locate_blocks=vace_locate_blocks), "x 1")


def test_default_value_is_refused():
    @hookimpl
    def vace_locate_blocks(model, layout="native"):
        return None

    with pytest.raises(HookSignature, match="vace_locate_blocks: layout must not have a default value"):
        register_plugin("longlive", good_plugin(vace_locate_blocks=vace_locate_blocks), "x 1")


def test_variable_arguments_are_refused():
    @hookimpl
    def vace_locate_blocks(*args):
        return None

    with pytest.raises(HookSignature, match="vace_locate_blocks must take plain arguments"):
        register_plugin("longlive", good_plugin(vace_locate_blocks=vace_locate_blocks), "x 1")


def test_misspelt_hook():
    @hookimpl
    def vace_lokate_blocks(model):
        return None

    plugin = good_plugin()
    plugin.vace_lokate_blocks = vace_lokate_blocks
    with pytest.raises(HookSignature, match="vace_lokate_blocks is not a hook; did you mean 'vace_locate_blocks'"):
        register_plugin("longlive", plugin, "x 1")


@pytest.mark.parametrize(("came", "older"), [(HOOK_API - 1, "the plugin"), (HOOK_API + 1, "vace-adapt")])
def test_other_hook_api(came, older):
    info = load_plugin("longlive").info.model_copy(update={"hook_api": came})

    @hookimpl
    def vace_describe():
        return info

    with pytest.raises(
        HookApiMismatch, match=f"implements HOOK_API {came}, this is HOOK_API {HOOK_API}: upgrade {older}"
    ):
        register_plugin("longlive", good_plugin(vace_describe=vace_describe), "x 1")


def test_another_name_than_the_entry_point():
    with pytest.raises(HookReturnType, match="expected a PipelineInfo named 'short', not 'longlive'"):
        register_plugin("short", good_plugin(), "x 1")


@pytest.mark.parametrize(
    ("hook", "call", "expected"),
    [
        ("vace_describe", None, "PipelineInfo"),
        ("vace_settings", lambda hooks: hooks.settings_type(), "a subclass of PipelineSettings"),
        ("vace_load_pipeline", lambda hooks: hooks.load_pipeline(*[None] * 6), "PipelineParts"),
        ("vace_tiny_pipeline", lambda hooks: hooks.tiny_pipeline(None, 0), "PipelineParts"),
        ("vace_locate_blocks", lambda hooks: hooks.locate_blocks(None, "native"), "BlockMap"),
        ("vace_wrap_attention", lambda hooks: hooks.wrap_attention(None, 0, None), "a callable"),
        ("vace_chunk_shapes", lambda hooks: hooks.chunk_shapes(None, 16, 16), "ChunkShapes"),
        ("vace_cache_ops", lambda hooks: hooks.cache_ops(None, None, 1), "an object with the methods of CacheOps"),
        ("vace_stream", lambda hooks: hooks.stream(None, None), "a generator of latents"),
        ("vace_decode", lambda hooks: hooks.decode(None, None, True, []), "float [B, 3, T, H, W] or None"),
        ("vace_replay", lambda hooks: hooks.replay(Path("g")), "Comparison"),
    ],
)
def test_wrong_return_type(hook, call, expected):
    namespace: dict = {}
    exec(f"def {hook}():\n    return 3\n", namespace)
    plugin = good_plugin(**{hook: hookimpl(namespace[hook])})
    with pytest.raises(
        HookReturnType, match=re.escape(f"pipeline 'longlive': {hook} returned int, expected {expected}")
    ):
        call(register_plugin("longlive", plugin, "x 1"))


@pytest.mark.parametrize("shape", [(), (1, 3, 4, 4)])
def test_decoded_frames_of_other_dimensions(shape):
    @hookimpl
    def vace_decode(parts, latents, first, state):
        return torch.ones(shape)

    hooks = register_plugin("longlive", good_plugin(vace_decode=vace_decode), "x 1")
    with pytest.raises(HookReturnType, match=re.escape("vace_decode returned Tensor, expected float [B, 3, T, H, W]")):
        hooks.decode(None, None, True, [])


@pytest.mark.parametrize("cause", [ValueError("two\nlines"), KeyError("dim"), SettingsError("of its own")])
@pytest.mark.parametrize("hook", ["vace_describe", "vace_settings"])
def test_a_hook_that_raises_is_the_plugins_error(hook, cause):
    def fail():
        raise cause

    fail.__name__ = hook
    plugin = good_plugin(**{hook: hookimpl(fail)})
    text = f"pipeline 'longlive': {hook} raised {type(cause).__name__}: {str(cause).replace(chr(10), ' ')}"
    with pytest.raises(PluginError, match=f"^{re.escape(text)}$") as caught:
        register_plugin("longlive", plugin, "x 1").settings_type()
    assert caught.value.__cause__ is cause


def test_a_hook_that_is_no_function():
    @hookimpl
    @functools.cache
    def vace_settings():
        return None

    text = "pipeline 'longlive': vace_settings must be a function or a method, not _lru_cache_wrapper"
    for found in (vace_settings, MethodType(vace_settings, object())):
        with pytest.raises(HookSignature, match=text):
            register_plugin("longlive", good_plugin(vace_settings=found), "x 1")


def test_only_the_chosen_plugin_is_imported(install):
    install("shaky", "raise RuntimeError('must not be imported')")
    assert "shaky" in discover()
    assert load_plugin("longlive").name == "longlive"


def test_observers_are_told_and_plugins_stay_apart():
    class Observer:
        seen = 0

        @hookimpl
        def vace_chunk_done(self, report):
            self.seen += report

    first, second = Observer(), Observer()
    one, two = load_plugin("longlive", [first]), load_plugin("longlive", [second])
    one.chunk_done(3)
    assert (first.seen, second.seen) == (3, 0)
    two.chunk_done(4)
    assert (first.seen, second.seen) == (3, 4)


def test_describe_all_keeps_the_error_of_a_broken_one(install):
    install("shaky", "1 / 0")
    found = dict(describe_all())
    assert isinstance(found["shaky"], PipelineBroken)
    assert found["longlive"].name == "longlive"
