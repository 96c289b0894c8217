"""How annotator plugins are found, checked and made."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vace_adapt.annotators import find
from vace_adapt.annotators.find import annotator_names, load_annotator, make_annotator, register_annotator
from vace_adapt.annotators.plain import Plain
from vace_adapt.cli.main import main
from vace_adapt.contract import AnnotatorInfo, AnnotatorSettings, Canvas
from vace_adapt.errors import AnnotatorBroken, AnnotatorNotFound, InputError
from vace_adapt.hookspecs import ANNOTATORS, HOOK_API, hookimpl
from vace_adapt.loading import Installed


def info(**changes) -> AnnotatorInfo:
    given = {
        "name": "mine",
        "hook_api": HOOK_API,
        "summary": "s",
        "makes": "control",
        "settings": AnnotatorSettings,
        "make": lambda *_: Plain(),
    }
    return AnnotatorInfo(**{**given, **changes})


def plugin(answer) -> SimpleNamespace:
    @hookimpl
    def vace_annotator():
        return answer() if callable(answer) else answer

    return SimpleNamespace(vace_annotator=vace_annotator)


def test_every_shipped_one_loads_and_says_what_it_is():
    names = annotator_names()
    assert {"canny", "depth", "flow", "gray", "layout", "mask_sam2", "plain", "pose", "scribble"} <= set(names)
    for name in names:
        found = load_annotator(name)
        assert found.name == name
        assert found.summary
        assert found.makes == ("mask" if name.startswith("mask_") else "control")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (None, "has no vace_annotator, expected an AnnotatorInfo"),
        ("canny", "vace_annotator returned str, expected an AnnotatorInfo"),
        (lambda: 1 / 0, "vace_annotator: ZeroDivisionError: division by zero"),
        (info(hook_api=HOOK_API + 1), f"implements HOOK_API {HOOK_API + 1}, this is HOOK_API {HOOK_API}"),
        (info(name="other"), "calls itself 'other'"),
    ],
)
def test_a_plugin_that_is_not_right(answer, text):
    with pytest.raises(AnnotatorBroken, match=rf"annotator 'mine' \(x 1\): {text}"):
        register_annotator("mine", plugin(answer), "x 1")


def test_a_plugin_that_is_right():
    right = info()
    assert register_annotator("mine", plugin(right), "x 1") is right


def offered(monkeypatch, *plugins):
    """As if each of these were installed under the name mine."""

    def entry(answer):
        def load():
            if isinstance(answer, Exception):
                raise answer
            return answer

        return SimpleNamespace(load=load)

    found = {"mine": [Installed("mine", entry(one), f"x {i}") for i, one in enumerate(plugins)]}
    monkeypatch.setattr(find, "discover", lambda group: found if group == ANNOTATORS else {})


def test_names_that_are_not_there(monkeypatch):
    with pytest.raises(
        AnnotatorNotFound, match=r"no annotator 'cany' \(installed: canny, .*\); did you mean 'canny'\?"
    ):
        load_annotator("cany")
    offered(monkeypatch, ImportError("no such thing"))
    with pytest.raises(
        AnnotatorBroken, match=r"annotator 'mine' \(x 0\): cannot be imported: ImportError: no such thing"
    ):
        load_annotator("mine")
    offered(monkeypatch, plugin(info()), plugin(info()))
    with pytest.raises(AnnotatorBroken, match=r"annotator 'mine' \(x 0\): x 1 offers it too: uninstall one"):
        load_annotator("mine")


def test_a_missing_extra(monkeypatch):
    def make(settings, canvas):
        raise ImportError("No module named 'mediapipe'")

    offered(monkeypatch, plugin(info(make=make, extra="mediapipe")))
    with pytest.raises(
        InputError,
        match=r"annotator 'mine' needs pip install 'vace-adapt\[mediapipe\]' \(No module named 'mediapipe'\)",
    ):
        make_annotator("mine", {}, Canvas(8, 8))
    offered(monkeypatch, plugin(info(make=make)))
    with pytest.raises(ImportError):
        make_annotator("mine", {}, Canvas(8, 8))


def test_the_list(monkeypatch, capsys):
    assert main(["annotators"]) == 0
    out = capsys.readouterr().out
    assert "plain           control: the frames as they are: a ready-made control video\n" in out
    assert "flow            control: optical flow in colours; carries the last frame" in out
    assert "needs weights depth-anything/Depth-Anything-V2-Small-hf" in out
    offered(monkeypatch, ImportError("upstream is gone"))
    assert main(["annotators"]) == 0
    assert (
        capsys.readouterr().out
        == "mine  broken: annotator 'mine' (x 0): cannot be imported: ImportError: upstream is gone\n"
    )
