"""Finding and loading plugins: one error of its own for everything that can be wrong, with its text."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest

from vace_adapt.errors import (
    HookApiMismatch,
    HookMissing,
    HookReturnType,
    HookSignature,
    PipelineBroken,
    PipelineConflict,
    PipelineNotFound,
)
from vace_adapt.hookspecs import REQUIRED_HOOKS, hookimpl
from vace_adapt.loading import describe_all, discover, load_plugin, register_plugin


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution with one entry point, as pip would leave it."""

    def make(name: str, source: str, distribution: str | None = None) -> None:
        distribution = distribution or f"vace-adapt-{name}"
        module = distribution.replace("-", "_")
        folder = tmp_path / distribution
        info = folder / f"{module}-1.2.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(textwrap.dedent(source))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[vace_adapt]\n{name} = {module}\n")
        monkeypatch.syspath_prepend(str(folder))

    return make


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
    with pytest.raises(PipelineNotFound, match=r"\(installed: longlive\)$"):
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


@pytest.mark.parametrize(("came", "older"), [(0, "the plugin"), (2, "vace-adapt")])
def test_other_hook_api(came, older):
    info = load_plugin("longlive").info.model_copy(update={"hook_api": came})

    @hookimpl
    def vace_describe():
        return info

    with pytest.raises(HookApiMismatch, match=f"implements HOOK_API {came}, this is HOOK_API 1: upgrade {older}"):
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


def run_cli(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    code = f"""
import sys
sys.path.insert(0, {path!r})
from vace_adapt.cli.main import main
status = main({list(arguments)!r})
print("torch" in sys.modules)
sys.exit(status)
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_list_and_show_work_beside_a_broken_plugin_and_without_torch(install, tmp_path):
    install("shaky", "raise ImportError('upstream is gone')")
    folder = str(tmp_path / "vace-adapt-shaky")
    listed = run_cli("list", path=folder)
    assert listed.returncode == 0, listed.stderr
    assert "longlive  LongLive 1.0" in listed.stdout
    assert "shaky     broken: pipeline 'shaky' (vace-adapt-shaky 1.2" in listed.stdout
    shown = run_cli("show", "longlive", path=folder)
    assert shown.returncode == 0
    assert "width 1536, 30 blocks, 12 heads" in shown.stdout
    assert listed.stdout.endswith("False\n")
    assert shown.stdout.endswith("False\n")
    broken = run_cli("show", "shaky", path=folder)
    assert broken.returncode == 2
    assert broken.stderr.startswith("error: pipeline 'shaky'")
