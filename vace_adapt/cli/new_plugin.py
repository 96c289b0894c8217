"""``vace-adapt new-plugin``: the skeleton of a pipeline plugin. No torch here."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from vace_adapt import __version__, hookspecs
from vace_adapt.cli.status import DONE
from vace_adapt.contract import CAPABILITIES
from vace_adapt.errors import InputError
from vace_adapt.hookspecs import HOOK_API, REQUIRED_HOOKS

TEMPLATES = Path(__file__).parent / "skeleton"

FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "vace_adapt_@NAME@/__init__.py": "init.py",
    "vace_adapt_@NAME@/plugin.py": "plugin.py",
    "vace_adapt_@NAME@/settings.py": "settings.py",
    "vace_adapt_@NAME@/conf/pipeline/@NAME@.yaml": "config.yaml",
    "tests/test_@NAME@.py": "test.py",
}
"""What is written, and its template."""

WRITTEN = ("vace_describe", "vace_settings", "vace_wrap_attention")
"""Hooks that the skeleton has already."""


def new_plugin(name: str, folder: str) -> int:
    """Write the skeleton to ``FOLDER/vace-adapt-NAME``, and say what to do next.

    Raises:
        InputError: the name cannot be a package's, or the folder is there already. Nothing was written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise InputError(f"a pipeline's name has small letters, digits and _ and begins with a letter, not {name!r}")
    target = Path(folder) / f"vace-adapt-{name}"
    if target.exists():
        raise InputError(f"{target} is there already")
    values = {
        "@NAME@": name,
        "@VERSION@": __version__,
        "@HOOK_API@": str(HOOK_API),
        "@CAPABILITIES@": "\n".join(f'        "{key}": not_yet(),  # {said}' for key, said in CAPABILITIES.items()),
        "@STUBS@": "\n\n\n".join(_stub(hook) for hook in REQUIRED_HOOKS if hook not in WRITTEN),
    }
    for file, template in FILES.items():
        path = target / _filled(file, values)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
        path.write_text(_filled(text, values), encoding="utf-8")
        print(path)
    print(f"next: pip install -e {target}, then vace-adapt check {name}")
    return DONE


def _filled(text: str, values: dict[str, str]) -> str:
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text


def _stub(hook: str) -> str:
    """A hook without a body, as the contract has it."""
    specification = getattr(hookspecs, hook)
    arguments = ", ".join(inspect.signature(specification).parameters)
    purpose = (specification.__doc__ or "").split("\n")[0]
    return f'def {hook}({arguments}):\n    """{purpose}"""\n    raise NotImplementedError("{hook}")'
