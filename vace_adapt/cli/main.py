"""``vace-adapt``: one function for each command. list, show, annotators and new-plugin import no torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vace_adapt import __version__
from vace_adapt.cli.status import INTERRUPTED, WRONG_INPUT
from vace_adapt.errors import VaceAdaptError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is one of `vace_adapt.cli.status`."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.command(chosen))
    except VaceAdaptError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED


def _list(chosen: argparse.Namespace) -> int:
    from vace_adapt.cli.plugins import list_pipelines

    return list_pipelines()


def _show(chosen: argparse.Namespace) -> int:
    from vace_adapt.cli.plugins import show_pipeline

    return show_pipeline(chosen.name)


def _annotators(chosen: argparse.Namespace) -> int:
    from vace_adapt.cli.plugins import list_annotators

    return list_annotators()


def _run(chosen: argparse.Namespace) -> int:
    from vace_adapt.quiet import quiet_imports

    quiet_imports()
    from vace_adapt.cli.run import run_command, sweep_command

    if chosen.multirun:
        return sweep_command(chosen.overrides)
    return run_command(chosen.overrides, show_config=chosen.cfg)


def _rerun(chosen: argparse.Namespace) -> int:
    from vace_adapt.quiet import quiet_imports

    quiet_imports()
    from vace_adapt.cli.rerun import rerun_command

    return rerun_command(chosen.run, chosen.folder)


def _compare(chosen: argparse.Namespace) -> int:
    from vace_adapt.quiet import quiet_imports

    quiet_imports()
    from vace_adapt.cli.compare import compare_command

    return compare_command(
        chosen.folders, chosen.out, title=chosen.title, conformance=chosen.conformance, features=chosen.features
    )


def _explain(chosen: argparse.Namespace) -> int:
    from vace_adapt.quiet import quiet_imports

    quiet_imports()
    from vace_adapt.cli.explain import explain_command

    return explain_command(chosen.overrides, as_json=chosen.json)


def _parity(chosen: argparse.Namespace) -> int:
    from vace_adapt.quiet import quiet_imports

    quiet_imports()
    from vace_adapt.cli.parity import parity_command

    return parity_command(chosen.files, chosen.tolerance)


def _check(chosen: argparse.Namespace) -> int:
    from vace_adapt.quiet import quiet_imports

    quiet_imports()
    from vace_adapt.cli.check import check_command

    return check_command(
        chosen.name,
        chosen.overrides,
        json_file=chosen.json,
        html_file=chosen.html,
        layout=chosen.layout,
        live=chosen.live,
    )


def _new_plugin(chosen: argparse.Namespace) -> int:
    from vace_adapt.cli.new_plugin import new_plugin

    return new_plugin(chosen.name, chosen.folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vace-adapt", description="The controls of VACE for streaming video models.")
    parser.add_argument("--version", action="version", version=f"vace-adapt {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="list the installed pipelines")
    command.set_defaults(command=_list)

    command = commands.add_parser("show", help="show what one pipeline is and can do")
    command.add_argument("name")
    command.set_defaults(command=_show)

    command = commands.add_parser("annotators", help="list the installed annotators and what they need")
    command.set_defaults(command=_annotators)

    command = commands.add_parser(
        "run",
        help="stream a video through a pipeline",
        description="Stream a video through a pipeline. Overrides are Hydra's: key=value, section.key=value.",
        epilog="example: vace-adapt run -m pipeline=longlive,memflow task=control input=depth.mp4 controls.scale=0.5,1",
    )
    command.add_argument("overrides", nargs="*", metavar="key=value")
    how = command.add_mutually_exclusive_group()
    how.add_argument("--cfg", action="store_true", help="print the composed configuration and stop")
    how.add_argument("-m", "--multirun", action="store_true", help="run every combination of a,b,c; finished ones stay")
    command.set_defaults(command=_run)

    command = commands.add_parser(
        "rerun",
        help="repeat a run and compare the bits",
        description="Run what a run folder holds once more, with the same inputs, weights and seed, and compare.",
        epilog="exit status: 0 the same bits, 1 others, 2 it cannot be repeated",
    )
    command.add_argument("run", metavar="FOLDER", help="of a finished run")
    command.add_argument("--folder", help="of the repetition (default: outputs/NAME-rerun)")
    command.set_defaults(command=_rerun)

    command = commands.add_parser(
        "compare",
        help="put runs side by side on one page",
        description="Write one self-contained HTML page: videos in step, metrics, plots, differences of the settings.",
        epilog="example: vace-adapt compare outputs/sweep-1f2e3d4c --out comparison.html",
    )
    command.add_argument("folders", nargs="+", metavar="FOLDER", help="of a finished run, or of a sweep")
    command.add_argument("--out", default="comparison.html", help="the page (default: %(default)s)")
    command.add_argument("--title", help="its title (default: what the runs have in common)")
    command.add_argument("--conformance", nargs="*", default=[], metavar="FILE", help="of vace-adapt check --json")
    command.add_argument("--features", metavar="FOLDER", help="of DINOv2 or CLIP, to measure references with")
    command.set_defaults(command=_compare)

    command = commands.add_parser(
        "explain",
        help="say what the inputs of a run amount to",
        description="Say which task the inputs of a run make, what each of them feeds, and what is not used.",
        epilog="example: vace-adapt explain task=outpaint input=video.mp4 references=[a.png]",
    )
    command.add_argument("overrides", nargs="*", metavar="key=value")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.set_defaults(command=_explain)

    command = commands.add_parser(
        "parity",
        help="replay golden files of official code and compare",
        description="Rebuild the model each file describes, feed its inputs, print the max abs error of each chunk.",
    )
    command.add_argument("files", nargs="+", metavar="FILE")
    command.add_argument("--tolerance", type=float, default=1e-4, help="largest allowed error (default %(default)s)")
    command.set_defaults(command=_parity)

    command = commands.add_parser(
        "check",
        help="check a pipeline plugin against the contract",
        description="Run the conformance suite on a pipeline's tiny model, and print what is right, missing and wrong.",
        epilog="exit status: 0 nothing failed and nothing is missing, 1 otherwise, 2 wrong input",
    )
    command.add_argument("name", help="an installed pipeline, or reference for the suite's own")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the pipeline to check it with")
    command.add_argument("--json", metavar="FILE", help="write the results as JSON, too")
    command.add_argument("--html", metavar="FILE", help="write the table as a page, too")
    command.add_argument("--layout", help="check this layout, on a live model")
    command.add_argument("--live", metavar="MODULE:FUNCTION", help="makes the live model of the tiny pipeline's parts")
    command.set_defaults(command=_check)

    command = commands.add_parser(
        "new-plugin",
        help="write the skeleton of a pipeline plugin",
        description="Write an installable plugin with its tests; vace-adapt check NAME then says what is missing.",
    )
    command.add_argument("name", help="the word in pipeline=NAME")
    command.add_argument("--folder", default=".", help="where the plugin's folder is made (default: here)")
    command.set_defaults(command=_new_plugin)
    return parser
