"""What a stream costs: time per chunk by part, growth, options, caches, and on a GPU the real shapes with their memory.

    python benchmarks/speed.py                                    # a mid-size random model on the CPU, every table
    python benchmarks/speed.py --size tiny --tables split cache   # some of them, in seconds
    python benchmarks/speed.py --size 1.3b 14b --device cuda      # the real shapes in bfloat16, within ten minutes

Weights are random, since time does not depend on their values. All streams of a table are open at once and take turns
chunk by chunk (`timing.turns`); every claim is a ratio of two chunks of one round. A table that has no time left says
so; what has begun when the time ends may end one step late. Results go to ``benchmarks/results`` as JSON, from which
``benchmarks/tables.py`` writes the tables of README.md and docs/speed.md. The GPU part has not been tried on one.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tables import markdown
from timing.latency import latency
from timing.questions import TABLES
from timing.sizes import SIZES, Models
from timing.turns import Budget

RESULTS = Path(__file__).parent / "results"
EVERY = (*TABLES, "latency")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the results."""
    chosen = read(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["python", "benchmarks/speed.py", *given])
    device = torch.device(chosen.device)
    budget = Budget(60 * chosen.minutes)
    for number, name in enumerate(chosen.size):
        own = budget.share(len(chosen.size) - number)
        file = chosen.output / f"speed-{name}-{device.type}{'-compiled' if chosen.compile else ''}.json"
        result = json.loads(file.read_text()) if file.exists() else {}
        result = {**about(name), "tables": result.get("tables", {})}
        for table, groups in measured(chosen, name, device, own):
            result["tables"][table] = {"setting": setting(chosen, device, command), "groups": groups}
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(result, indent=2) + "\n")
            print(f"\n{table}: {markdown(result, table)}", flush=True)
        print(f"\n{file}", flush=True)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def measured(chosen: Any, name: str, device: torch.device, budget: Budget) -> Any:
    """Each table that was asked for, and its groups; what there is no memory for says so."""
    dtype, size = getattr(torch, chosen.dtype), SIZES[name]
    tables = [table for table in EVERY if table in chosen.tables]
    if "latency" in tables:  # it builds its own models
        tables.remove("latency")
        own = budget.share(1 + len(tables))
        yield "latency", latency(size, device, dtype, chosen.chunks, own, compiled=chosen.compile)
    if not tables:
        return
    models = Models(size, device, dtype, compiled=chosen.compile)
    for number, table in enumerate(tables):
        yield table, TABLES[table](models, chosen.chunks, budget.share(len(tables) - number))


def about(name: str) -> dict[str, Any]:
    """What a size is."""
    size = SIZES[name]
    return {"size": name, "backbone": size.backbone.model_dump(), "control_layers": len(size.layers)}


def setting(chosen: Any, device: torch.device, command: str) -> dict[str, Any]:
    """On what, when and how a table was measured."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"CPU, {torch.get_num_threads()} threads",
        "dtype": chosen.dtype,
        "compiled": chosen.compile,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "command": command,
        "cores": os.cpu_count(),
        "load": None if sys.platform == "win32" else round(os.getloadavg()[0], 1),
    }


def read(arguments: Sequence[str] | None) -> Any:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["mid"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: float32 on a CPU, else bfloat16")
    parser.add_argument("--tables", nargs="+", choices=EVERY, help="default: latency on a GPU, else all but latency")
    parser.add_argument("--chunks", type=int, default=16, help="rounds that are counted, at most")
    parser.add_argument("--minutes", type=float, help="for everything; default: 9 on a GPU, else 60")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    cpu = torch.device(chosen.device).type == "cpu"
    chosen.dtype = chosen.dtype or ("float32" if cpu else "bfloat16")
    chosen.minutes = chosen.minutes or (60 if cpu else 9)
    chosen.tables = chosen.tables or (list(TABLES) if cpu else ["latency"])
    return chosen


if __name__ == "__main__":
    main()
