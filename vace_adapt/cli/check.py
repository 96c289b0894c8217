"""``vace-adapt check``: the conformance suite on one pipeline, if the suite is installed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vace_adapt.batch.declaration import BATCH_VACE
from vace_adapt.cli.status import COMPARISON_FAILED, DONE
from vace_adapt.errors import InputError


def check_command(
    name: str,
    overrides: Sequence[str],
    *,
    json_file: str | None,
    html_file: str | None,
    layout: str | None,
    live: str | None,
) -> int:
    """Print the table of a pipeline, with some of its settings changed; 1 if a check failed or a hook is missing."""
    if name == BATCH_VACE:
        raise InputError("batch_vace makes whole clips, it is no stream: there is no contract to check it on")
    if find_spec("vace_adapt_conformance") is None:
        raise InputError("vace-adapt check needs the conformance suite: pip install vace-adapt-conformance")
    for file in (json_file, html_file):
        if file is not None and not Path(file).absolute().parent.is_dir():
            raise InputError(f"{file} cannot be written: there is no folder {Path(file).absolute().parent}")
    if (layout is None) != (live is None):
        raise InputError(
            "--layout and --live belong together: the layout of a live model, and MODULE:FUNCTION to make it"
        )
    import torch

    from vace_adapt_conformance.runner import run
    from vace_adapt_conformance.subject import open_subject

    torch.set_num_threads(1)  # in models this small, threads only wait for each other
    report = run(open_subject(name, overrides=overrides, layout=layout, live=None if live is None else _function(live)))
    print(report.text())
    if json_file is not None:
        Path(json_file).write_text(json.dumps(report.plain(), indent=2) + "\n", encoding="utf-8")
    if html_file is not None:
        Path(html_file).write_text(report.html(), encoding="utf-8")
    return DONE if report.passed else COMPARISON_FAILED


def _function(name: str) -> Any:
    """A function by ``module:name``."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"--live must be MODULE:FUNCTION, {name!r} is not: {error}") from error
