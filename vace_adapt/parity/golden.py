"""Golden files: tensors made by official code, with everything needed to make them again.

Format ``vace-adapt-golden/1``: one safetensors file for each case. Metadata: ``pipeline``, ``case``, ``upstream``
(``owner/name@commit``), ``config`` and ``events`` as JSON. Tensors: ``weight.<official key>``, ``prompt.<tag>``,
``noise.<chunk>``, ``renoise.<chunk>.<step>``, ``hint.<chunk>.<step>.<block>``, ``input.<name>``; and what must come
out: ``output.<chunk>``, ``cache.<layer>.<k|v>``. A replay draws nothing at random.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from vace_adapt.contract import Comparison
from vace_adapt.errors import GoldenError
from vace_adapt.weights.foreign import refusing

FORMAT = "vace-adapt-golden/1"


@dataclass(frozen=True)
class Golden:
    """A golden file.

    Attributes:
        path: the file.
        pipeline: which replay reads it.
        config: every number needed to rebuild model and loop.
        events: what happens before which chunk.
        tensors: by name.
    """

    path: Path
    pipeline: str
    config: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]
    tensors: Mapping[str, Tensor]

    def value(self, key: str) -> Any:
        """A value of the config.

        Raises:
            GoldenError: the file does not say.
        """
        if key not in self.config:
            raise GoldenError(f"{self.path}: config has no {key!r}")
        return self.config[key]

    def tensor(self, name: str) -> Tensor:
        """A tensor.

        Raises:
            GoldenError: the file does not have it.
        """
        if name not in self.tensors:
            raise GoldenError(f"{self.path}: no tensor {name!r}")
        return self.tensors[name]

    def weights(self) -> dict[str, Tensor]:
        """The model's weights by official name."""
        return {name.removeprefix("weight."): t for name, t in self.tensors.items() if name.startswith("weight.")}


def pipeline_of(path: Path) -> str:
    """Which replay reads a file, from its metadata alone.

    Raises:
        GoldenError: not a golden file.
    """
    return _metadata(path)["pipeline"]


def read_golden(path: Path) -> Golden:
    """Read a file.

    Raises:
        GoldenError: not a golden file, or with config or events of another form.
    """
    metadata = _metadata(path)
    with refusing(GoldenError, f"{path}: its config or events are not JSON"):
        config, events = json.loads(metadata["config"]), json.loads(metadata.get("events", "[]"))
    if not isinstance(config, dict):
        raise GoldenError(f"{path}: config must be a JSON object, not {config!r}")
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise GoldenError(f"{path}: events must be a list of JSON objects, not {events!r}")
    return Golden(path, metadata["pipeline"], config, events, load_file(path))


def max_error(came: Tensor, expected: Tensor) -> float:
    """Max abs difference; infinite for another shape or for values that are not numbers."""
    if came.shape != expected.shape:
        return float("inf")
    error = float((came.double() - expected.double()).abs().max())
    return error if error == error else float("inf")


def comparison(rows: Sequence[tuple[str, float]]) -> Comparison:
    """The result of a replay.

    Raises:
        GoldenError: nothing was compared.
    """
    if not rows:
        raise GoldenError("the file has no outputs to compare with")
    return Comparison(tuple(rows))


def _metadata(path: Path) -> dict[str, str]:
    if not path.exists():
        raise GoldenError(f"no file {str(path)!r}")
    with refusing(GoldenError, f"{path} is not a safetensors file"), safe_open(path, framework="pt") as handle:
        metadata: dict[str, str] = handle.metadata() or {}
    if metadata.get("format") != FORMAT or "pipeline" not in metadata:
        raise GoldenError(f"{path} is not a golden file: format is {metadata.get('format')!r}, expected {FORMAT!r}")
    return metadata
