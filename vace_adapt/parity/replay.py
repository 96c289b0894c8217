"""Which replay reads a golden file: core's own, or a plugin's."""

from __future__ import annotations

from pathlib import Path

from vace_adapt.contract import Comparison
from vace_adapt.errors import CheckpointError, GoldenError, InputError, PluginError
from vace_adapt.loading import describe_all
from vace_adapt.parity import vace_batch, vace_encode
from vace_adapt.parity.golden import pipeline_of, read_golden
from vace_adapt.weights.foreign import refusing

CORE = {"vace_batch": vace_batch.replay, "vace_encode": vace_encode.replay}


def replay(path: Path) -> Comparison:
    """Rebuild the model a file describes, feed its inputs, and compare.

    Raises:
        GoldenError: not a golden file, one whose numbers do not fit together, or nobody installed reads its kind.
    """
    pipeline = pipeline_of(path)
    try:
        with refusing(GoldenError, f"{path} cannot be replayed"):
            return CORE[pipeline](read_golden(path)) if pipeline in CORE else _by_plugin(pipeline, path)
    except (InputError, CheckpointError) as error:
        raise GoldenError(f"{path} cannot be replayed: {error}") from error


def _by_plugin(pipeline: str, path: Path) -> Comparison:
    readers, broken = [], ""
    for name, hooks in describe_all():
        if isinstance(hooks, PluginError):
            broken += f"; {hooks}"
            continue
        if pipeline in hooks.info.golden_formats:
            found = hooks.replay(path)
            if found is not None:
                return found
        readers += [f"{golden} ({name})" for golden in hooks.info.golden_formats]
    known = ", ".join([*CORE, *readers])
    raise GoldenError(f"{path}: no installed pipeline reads golden files of {pipeline!r} (known: {known}){broken}")
