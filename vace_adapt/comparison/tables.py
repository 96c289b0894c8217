"""The parts of the page that tell numbers and settings: tables, plots, configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import yaml

from vace_adapt.comparison.differences import ABSENT, Difference, differences
from vace_adapt.comparison.plots import plot, short
from vace_adapt.experiments.finished import FinishedRun
from vace_adapt.experiments.measure import Measures
from vace_adapt.metrics.named import METRICS, Metric

GROUPS = ("control", "keeping", "looks", "motion", "time and memory")

NOT_CHECKED = "conformance not checked"

ODD = ' class="odd"'


@dataclass(frozen=True)
class Shown:
    """A run on the page.

    Attributes:
        run: from its folder.
        measures: of it.
        name: short, and no other run's.
    """

    run: FinishedRun
    measures: Measures
    name: str


def table(group: str, shown: Sequence[Shown]) -> str:
    chosen = {
        name: metric
        for name, metric in METRICS.items()
        if metric.group == group and any(name in one.measures.values for one in shown)
    }
    if not chosen:
        return ""
    heads = "".join(
        f'<th scope="col"><button title="{escape(metric.means)}">{escape(metric.title)}'
        f"<small>{escape(_unit(metric))}</small></button></th>"
        for metric in chosen.values()
    )
    rows = []
    for i, one in enumerate(shown):
        cells = "".join(_cell(name, metric, one, shown) for name, metric in chosen.items())
        head = (
            f'<th scope="row" data-value="{escape(one.name)}"><span class="key run{i}"></span>{escape(one.name)}</th>'
        )
        rows.append(f"<tr>{head}{cells}</tr>")
    return (
        f"<h3>{escape(group.capitalize())}</h3>{_scrolled(group)}"
        '<table class="sortable"><thead><tr><th scope="col"><button>run</button></th>'
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _unit(metric: Metric) -> str:
    arrow = {"higher": "more is better", "lower": "less is better", None: ""}[metric.better]
    return ", ".join(filter(None, (metric.unit, arrow)))


def _cell(name: str, metric: Metric, one: Shown, shown: Sequence[Shown]) -> str:
    value = one.measures.values.get(name)
    if value is None:
        return '<td data-value="">–</td>'
    mark = _mark(value, [other.measures.values[name] for other in shown if name in other.measures.values], metric)
    return f'<td data-value="{value!r}"{mark}>{short(value)}</td>'


def _mark(value: float, values: Sequence[float], metric: Metric) -> str:
    """Best and worst, as they are written; nothing where most look the same, or where neither end is better."""
    texts = [short(other) for other in values]
    if metric.better is None or (len(texts) > 2 and texts.count(short(value)) > len(texts) / 2) or len(set(texts)) < 2:
        return ""
    best, worst = (max(values), min(values)) if metric.better == "higher" else (min(values), max(values))
    if short(value) == short(best):
        return ' class="best"'
    return ' class="worst"' if short(value) == short(worst) else ""


def notes(shown: Sequence[Shown]) -> str:
    told = list(dict.fromkeys(note for one in shown for note in one.measures.notes))
    return "".join(f'<p class="note">Not measured: {escape(note)}</p>' for note in told)


def plots(shown: Sequence[Shown]) -> str:
    made = []
    for name, metric in METRICS.items():
        series = [(one.name, one.measures.chunks.get(name, [])) for one in shown]
        if max(len(line) for _, line in series) > 1:
            unit = f" <small>{escape(metric.unit)}</small>" if metric.unit else ""
            drawn = plot(metric.title, metric.unit, series)
            made.append(f"<figure><figcaption>{escape(metric.title)}{unit}</figcaption>{drawn}</figure>")
    if not made:
        return ""
    keys = "".join(f'<li><span class="key run{i}"></span>{escape(one.name)}</li>' for i, one in enumerate(shown))
    return f'<h2>Chunk by chunk</h2><ul class="facts">{keys}</ul><div class="plots">{"".join(made)}</div>'


def settings_table(shown: Sequence[Shown]) -> str:
    """In which keys the runs differ; those that some of their pipelines do not have are folded."""
    if len(shown) < 2:
        return ""
    found = differences([one.run.config for one in shown])
    if not found:
        return "<h2>Settings</h2><p>All runs have the same configuration.</p>"
    common = [one for one in found if ABSENT not in one.values]
    partial = [one for one in found if ABSENT in one.values]
    told = "Every key in which the runs differ; marked is what most of them do not have."
    made = f"<h2>What is not the same</h2><p>{told}</p>{_keys(common, shown)}" if common else ""
    if partial:
        made += f"<details><summary>{len(partial)} keys that not all have</summary>{_keys(partial, shown)}</details>"
    return made


def _keys(found: Sequence[Difference], shown: Sequence[Shown]) -> str:
    heads = "".join(f'<th scope="col">{escape(one.name)}</th>' for one in shown)
    rows = []
    for one in found:
        cells = (f"<td{ODD if i in one.odd else ''}>{escape(value)}</td>" for i, value in enumerate(one.values))
        rows.append(f'<tr><th scope="row">{escape(one.key)}</th>{"".join(cells)}</tr>')
    return (
        f'{_scrolled("Differences")}<table class="text"><thead><tr><th scope="col">key</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def pipelines(shown: Sequence[Shown], conformance: Mapping[str, str]) -> str:
    """What each pipeline declares it can and cannot do, and whether that was checked."""
    records = {one.run.config["pipeline"]["name"]: one.run.record for one in shown}
    capabilities = list(dict.fromkeys(name for record in records.values() for name in record.capabilities))
    heads = "".join(
        f'<th scope="col">{escape(name)}<br><small>{escape(conformance.get(name, NOT_CHECKED))}</small></th>'
        for name in records
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(capability)}</th>'
        + "".join(f"<td>{escape(record.capabilities.get(capability, '–'))}</td>" for record in records.values())
        + "</tr>"
        for capability in capabilities
    )
    return (
        "<h2>Pipelines</h2><p>What each declares of itself.</p>"
        f'{_scrolled("Capabilities")}<table class="text"><thead><tr>'
        f'<th scope="col">capability</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def configurations(shown: Sequence[Shown]) -> str:
    made = ["<h2>How to make them again</h2>"]
    for one in shown:
        record = one.run.record
        code = "installed package" if record.git is None else f"commit {record.git.commit[:12]}"
        code += ", with uncommitted changes" if record.git is not None and record.git.changes else ""
        versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
        plain = yaml.safe_dump(one.run.config, sort_keys=False)
        command = escape(f"vace-adapt rerun {one.run.folder}")
        made.append(
            f"<details><summary>{escape(one.name)}</summary><p><code>{command}</code></p>"
            f"<p>{escape(f'{code}; {versions}; {record.machine.system}')}</p><pre>{escape(plain)}</pre></details>"
        )
    return "".join(made)


def _scrolled(name: str) -> str:
    """Around a table that may be wider than the screen."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">'
