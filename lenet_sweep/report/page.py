"""Renders a report as one self-contained HTML page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from lenet_sweep.analysis import reproduction_tables
from lenet_sweep.config.studies import Study
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.names import short_names
from lenet_sweep.core.text import pluralize
from lenet_sweep.report import collect, comparisons, error_atlas, page_data, page_table
from lenet_sweep.report.assets import asset
from lenet_sweep.report.collect import Launch, Report, Row
from lenet_sweep.report.compared_items import ComparedItem, compared_items
from lenet_sweep.results.columns import ACCURACY_AT, EPOCHS_TRAINED, STOPPED

MAX_STOPS = 200  # settings stopped by a search that the page lists
MAX_FAILURES = 50  # failed runs with a traceback on the page
PACKAGE = Path(__file__).parent.parent
# The parts of the page's script, which share one scope, in order.
SCRIPTS = (
    "messages.js", "tooltip.js", "chart_values.js", "save_charts.js", "table.js", "filters.js",
    "parallel.js", "copy_table.js", "compare_chart.js", "compare.js",
)  # fmt: skip
SOURCES = (".py", ".jinja", ".css", ".js")  # files of the package whose changes give a new page
SEVERITY = {"serious": "Serious", "caution": "Caution", "note": "Note"}


def compute_digest(
    table: pd.DataFrame,
    launches: Sequence[Launch],
    studies: Sequence[Study],
    planned: int,
    *,
    pictures: bool = True,
    interrupted: str = "",
) -> str:
    """A digest of everything that a page depends on: results, the package's files, its version."""
    digest = hashlib.sha256(table.to_csv(index=False, lineterminator="\n").encode())
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in SOURCES:
            digest.update(path.read_bytes())
    values = [
        [astuple(launch) for launch in launches],
        [study.to_json() for study in studies],
        planned,
        pictures,
        interrupted,
        version("lenet-sweep"),
    ]
    digest.update(json.dumps(values, default=str).encode())
    return digest.hexdigest()


def digest_of(html: str) -> str:
    """The digest that a page was written with, or ''."""
    match = re.search(r'<meta name="lenet-sweep-digest" content="([0-9a-f]{64})">', html[:4000])
    return match[1] if match else ""


def evidence_of(html: str) -> dict[str, str]:
    """`Report.evidence` of the report that a page was written from; {} if it is not recorded."""
    match = re.search(r'<meta name="lenet-sweep-evidence" content="([\w: -]*)">', html)
    return dict(entry.split(":") for entry in match[1].split()) if match else {}


def page(
    report: Report, digest: str, *, folder: str, name: str = "sweep", pictures: bool = True
) -> str:
    """The page as HTML.

    digest: see `compute_digest`. folder: where the page will be, quoted for a shell. name: of the
    sweep, for the names of files that a reader saves. pictures: False leaves out charts and images.
    """
    full = report.statistics is not None
    compared = compared_items(report)
    by_recipe = comparisons.by_recipe(compared)
    maps, maps_total = comparisons.heatmaps(report.rows) if full else ([], 0)
    script = '"use strict";\n' + "\n".join(map(asset, SCRIPTS))
    atlas = error_atlas.atlas(report, pictures=pictures) if full else None
    content = {
        "report": report,
        "full": full,
        "title": title(report),
        "digest": digest,
        "evidence": " ".join(
            f"{cell}:{kinds if full else collect.NUMBERS}"
            for cell, kinds in report.evidence.items()
        ),
        "style": asset("style.css"),
        "script": script,
        "script_hash": _sha256(script),
        "data": page_data.page_data(report, name, pictures=pictures),
        "table": page_table.page_table(report),
        "recipes": comparisons.recipes(by_recipe) if len(by_recipe) > 1 else [],
        "maps": maps,
        "maps_total": maps_total,
        "varied": comparisons.varied_settings([row.cell for row in report.rows]),
        "fixed": comparisons.fixed_settings([row.cell for row in report.rows]),
        "failures": _failures(report),
        "stops": _stops(report),
        "studies": [
            (reproduction, *reproduction_tables.verdict_tables(reproduction)[0])
            for reproduction in report.reproductions
        ],
        "best": error_atlas.best(report, pictures=pictures),
        "atlas": atlas,
        "best_name": report.best.cell.description if report.best else "",
        "charts": _charts(report, compared, atlas) if pictures and full else None,
        "severity": SEVERITY,
        "claims_rule": reproduction_tables.CLAIMS_RULE,
        "version": version("lenet-sweep"),
        "folder": folder,
    }
    from lenet_sweep.report import page_template  # noqa: PLC0415 - slow; an unchanged page needs none

    return page_template.TEMPLATE.render(content)


def title(report: Report) -> str:
    """The heading of the page: '24 cells over lr, batch, epochs'."""
    swept = [name for name, _ in comparisons.varied_settings([row.cell for row in report.rows])]
    over = f" over {', '.join(swept)}" if swept else ""
    if len(swept) > 5:  # the values of each follow below the heading
        over = f" over {len(swept)} hyperparameters"
    return f"{pluralize(report.planned, 'cell')}{over}"


def _charts(
    report: Report, compared: Sequence[ComparedItem], atlas: error_atlas.Atlas | None
) -> Mapping[str, Any]:
    # Importing matplotlib takes 0.5 to 1 s.
    from lenet_sweep.report import charts, curve_charts, search_charts  # noqa: PLC0415

    drawn = [(section, section.draw(report)) for section in charts.SECTIONS]
    return {
        "search": search_charts.search_chart(report.search),
        "curves": curve_charts.curves(report),
        "sections": [
            {
                "name": section.name,
                "heading": section.heading,
                "svg": section.to_svg(chart),
                "caption": chart.caption,
            }
            for section, chart in drawn
            if chart
        ],
        "recipes": charts.recipes(comparisons.by_recipe(compared)),
        "front": charts.front(compared),
        "missed": charts.missed(atlas.counts) if atlas else None,
        "reproduced": [
            charts.reproduced(reproduction, f"study-{n}")
            for n, reproduction in enumerate(report.reproductions)
        ],
    }


def _stops(report: Report) -> Mapping[str, Any]:
    """The settings that a search stopped, those that it trained longest first."""
    cells = [row.cell for row in report.rows]
    names = short_names([replace(cell, seed=0) for cell in cells])
    settings: dict[Cell, dict[str, Any]] = {}
    rows: dict[Cell, list[Row]] = {}
    for row in report.rows:
        if row.record["status"] == STOPPED:
            setting = settings.setdefault(
                row.cell.setting,
                {
                    "name": names[row.cell.setting],
                    "epochs": row.record[EPOCHS_TRAINED],
                    "epochs_requested": row.cell.epochs,
                    "accuracies": [],
                    "reason": row.record["error"],
                },
            )
            setting["accuracies"].append(row.record.get(ACCURACY_AT))
        rows.setdefault(row.cell.setting, []).append(row)
    for cell, setting in settings.items():
        finished = (row for row in rows[cell] if row.record["status"] == "ok")
        setting["finished"] = len({row.cell.seed for row in finished})
        setting["seeds"] = len({row.cell.seed for row in rows[cell]})
        known = [value for value in setting["accuracies"] if not pd.isna(value)]
        setting["accuracy"] = fmean(known) if known else None
    stopped = sorted(settings.values(), key=lambda s: (-s["epochs"], -(s["accuracy"] or 0)))
    return {
        "shown": stopped[:MAX_STOPS],
        "total": len(stopped),
        "trained": any(setting["epochs"] for setting in stopped),
    }


def _failures(report: Report) -> Mapping[str, Any]:
    """Failed rows grouped by run, since all cells of a run fail together."""
    runs: dict[tuple[str, str], list[Row]] = {}
    for row in report.rows:
        if row.record["status"] not in ("ok", STOPPED):
            runs.setdefault((row.cell.run_id, row.record["person"]), []).append(row)
    shown = [
        {
            "name": rows[0].cell.description,
            "status": rows[0].record["status"],
            "reason": rows[0].record["error"],
            "failure": asdict(rows[0].failure) if rows[0].failure else None,
            "command": page_table.command_for(rows),
            "cells": len(rows),
        }
        for rows in islice(runs.values(), MAX_FAILURES)
    ]
    return {"shown": shown, "total": len(runs)}


def _sha256(script: str) -> str:
    """The hash of a script, as a content security policy has it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
