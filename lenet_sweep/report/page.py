"""From a report to the page: what the template is given, and the one HTML text it makes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import pandas as pd
from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape

from lenet_sweep.analysis import reproduction
from lenet_sweep.core.text import one_line, pluralize
from lenet_sweep.report import collect, comparisons, error_atlas, page_table
from lenet_sweep.report.collect import Report
from lenet_sweep.report.compared_items import ComparedItem, compared_items

TRACEBACKS = 50  # failed runs whose traceback is shown
SEVERITY = {"serious": "Serious", "caution": "Caution", "note": "Note"}


@cache
def asset(name: str) -> str:
    """A file of the templates folder."""
    return (files("lenet_sweep.report") / "templates" / name).read_text()


def digest(table: pd.DataFrame, launches: object, *more: object) -> str:
    """What tells whether a page would show anything else than one that was written before."""
    found = hashlib.sha256(table.to_csv(index=False).encode())
    for name in ("page.html.jinja", "style.css", "page.js"):
        found.update(asset(name).encode())
    found.update(json.dumps([launches, *more, version("lenet-sweep")], default=str).encode())
    return found.hexdigest()


def digest_of(html: str) -> str:
    """The digest that a page was written with, '' where it has none."""
    found = re.search(r'<meta name="lenet-sweep-digest" content="([0-9a-f]{64})">', html[:4000])
    return found[1] if found else ""


def evidence_of(html: str) -> dict[str, str] | None:
    """The evidence that a page was written with, by cell id; None where it does not say."""
    found = re.search(r'<meta name="lenet-sweep-evidence" content="([\w: -]*)">', html)
    if not found:
        return None
    return dict(each.split(":") for each in found[1].split())


def page(report: Report, stamp: str, *, folder: str, pictures: bool = True) -> str:
    """The page as HTML. stamp: its digest. pictures: False leaves out whatever has to be drawn.

    folder: where it will lie, as it is typed in a shell.
    """
    full = report.statistics is not None
    compared = compared_items(report)
    by_recipe = comparisons.by_recipe(compared)
    maps, maps_total = comparisons.heatmaps(report.rows) if full else ([], 0)
    script = asset("page.js")
    found = error_atlas.atlas(report, pictures=pictures) if full else None
    content = {
        "report": report,
        "full": full,
        "pictures": pictures and full,
        "title": title(report),
        "stamp": stamp,
        "evidence": " ".join(
            f"{name}:{what if full else collect.NUMBERS}" for name, what in report.evidence.items()
        ),
        "style": asset("style.css"),
        "script": script,
        "script_hash": _hash(script),
        "table": page_table.page_table(report),
        "recipes": comparisons.recipes(by_recipe) if len(by_recipe) > 1 else [],
        "maps": maps,
        "maps_total": maps_total,
        "varied": comparisons.what_varies([row.cell for row in report.rows]),
        "fixed": comparisons.fixed([row.cell for row in report.rows]),
        "failures": _failures(report),
        "studies": [(each, *reproduction.text_tables(each)[0]) for each in report.reproductions],
        "best": error_atlas.best(report, pictures=pictures),
        "atlas": found,
        "best_name": report.best.cell.description if report.best else "",
        "charts": _charts(report, compared, found) if pictures and full else None,
        "severity": SEVERITY,
        "version": version("lenet-sweep"),
        "folder": folder,
    }
    return _environment().get_template("page.html.jinja").render(content)


def title(report: Report) -> str:
    """'24 cells: lr, batch, epochs'."""
    swept = [name for name, _ in comparisons.what_varies([row.cell for row in report.rows])]
    over = f" over {', '.join(swept)}" if swept else ""
    return f"{pluralize(report.planned, 'cell')}{over}"


def _charts(
    report: Report, compared: Sequence[ComparedItem], found: error_atlas.Atlas | None
) -> Mapping[str, Any]:
    from lenet_sweep.report import charts  # noqa: PLC0415 - matplotlib takes most of a second

    return {
        "curves": charts.curves(report),
        "parallel": charts.parallel(compared),
        "recipes": charts.recipes(comparisons.by_recipe(compared)),
        "front": charts.front(compared),
        "missed": charts.missed(found.counts) if found else None,
        "reproduced": [
            charts.reproduced(each, f"study-{n}") for n, each in enumerate(report.reproductions)
        ],
    }


def _failures(report: Report) -> Mapping[str, Any]:
    """Failed rows by run: read-outs of one run share its failure."""
    runs: dict[str, dict[str, Any]] = {}
    for row in report.rows:
        if row.record["status"] == "ok":
            continue
        key = f"{row.cell.run_id} {row.record['person']}"
        run = runs.setdefault(
            key,
            {
                "name": row.cell.description,
                "status": row.record["status"],
                "reason": row.record["error"],
                "failure": asdict(row.failure) if row.failure else None,
                "command": page_table.command_for([row]),
                "cells": 0,
            },
        )
        run["cells"] += 1
    found = list(runs.values())
    return {"shown": found[:TRACEBACKS], "total": len(found)}


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FunctionLoader(asset),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["inert"] = lambda value: one_line(str(value))
    made.filters["lines"] = _readable
    return made


def _readable(text: str) -> str:
    """Text of several lines without what would not be seen: control and direction characters."""
    return "\n".join(inert_line(line) for line in text.splitlines())


def inert_line(line: str) -> str:
    """One line with its spaces as they are, control characters spelled out."""
    return "".join(
        c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line
    )
