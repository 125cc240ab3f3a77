"""The model card of an exported network: what it is, how good it is, and what to be careful about.

A model card (Mitchell et al., 2019, "Model Cards for Model Reporting") goes with the files of a
network. Text from outside, such as class names or a command, stays plain text in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_sweep.analysis import conclusions, loading, statistics
from lenet_sweep.analysis.statistics import Interval
from lenet_sweep.analysis.warning_types import ResultWarning
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_setting, format_value
from lenet_sweep.inference.options import FILES
from lenet_sweep.inference.selection import TrainedRow
from lenet_sweep.report.text_tables import escape_markdown
from lenet_sweep.results.columns import HOLDOUT
from lenet_sweep.results.records import settings_columns
from lenet_sweep.search.sampling import samples

if TYPE_CHECKING:
    from lenet_sweep.inference.load import TrainedModel

CARD = "README.md"
MARK = "<!-- A model card of lenet-sweep; python -m lenet_sweep.export replaces it. -->"
_USE: Mapping[str, str] = {
    "safetensors": "the weights; load them with `safetensors.torch.load_file`",
    "onnx": "the network with the normalization of its input, for ONNX Runtime and other tools",
    "state_dict": "the weights; load them with `torch.load(..., weights_only=True)`",
    "torch_export": "the network with the normalization of its input; see `torch.export.load`",
}
SETTINGS = ("model", "loss", "optimizer", "lr", "batch", "epochs", "seed", "device", "engine")
MAX_CLASSES = 100  # that are listed


def check_card(out: Path) -> None:
    """Raise UsageError if the folder contains a README.md that is not a model card."""
    try:
        with (out / CARD).open(encoding="utf-8", errors="replace") as file:
            if MARK in file.read(1000):
                return
    except (FileNotFoundError, NotADirectoryError):
        return
    raise UsageError(
        f"--out {format_value(out)}: contains a {CARD} that is not a model card; choose another "
        "folder"
    )


def model_card(row: TrainedRow, model: TrainedModel, formats: Sequence[str]) -> str:
    """The card of a network that is exported in these formats, in Markdown."""
    cell = row.cell
    height, width = model.size
    summary = (
        f"This network classifies grayscale images of {width} x {height} pixels into "
        f"{len(model.class_names)} classes."
    )
    parts = [
        MARK,
        f"# {escape_markdown(cell.model.name)} trained on {escape_markdown(cell.data)}",
        summary,
        _table(_results(row)),
        "## Files",
        _table([(FILES[name], _USE[name]) for name in formats], escaped=False),
        _input_and_output(model),
        "## Warnings",
        _list(_warnings(row)) or "None.",
        "## Training",
        _table(_training(row)),
        "## Settings",
        _table(_settings(row)),
    ]
    return "\n\n".join(parts) + "\n"


def _results(row: TrainedRow) -> Iterable[tuple[str, str]]:
    record, cell = row.record, row.cell
    if row.is_stopped:
        yield "stopped", f"by a search, after {row.snapshot.epoch} of {cell.epochs} epochs"
    yield "accuracy", _accuracy(row)
    held_out = row.snapshot.history[-1].holdout_accuracy
    if HOLDOUT in record and held_out is not None:
        yield "accuracy on held-out images", f"{held_out:.2f}%"
    yield "row", f"{row.number} of {len(row.sweep.table)} in its sweep"
    yield "cell", cell.id


def _accuracy(row: TrainedRow) -> str:
    accuracy = f"{row.snapshot.history[-1].accuracy:.2f}% of the test images"
    interval = None if row.is_stopped else _interval(row)
    if interval is None:
        return accuracy
    return f"{accuracy} (95% confidence interval {interval.low:.2f} to {interval.high:.2f}%)"


def _interval(row: TrainedRow) -> Interval | None:
    """The interval of the accuracy; None if the labels of the test images are not available."""
    sweep = row.sweep
    (at,) = sweep.table.index[sweep.table["cell"] == row.cell.id]
    rows = sweep.table.iloc[[at]]
    results = loading.load_results_of(rows, loading.sources(sweep, rows), sweep.test_images)
    return statistics.intervals(results)[0]


def _warnings(row: TrainedRow) -> list[str]:
    """The warnings of the sweep's report that concern this row."""
    sweep = row.sweep
    results = loading.load_compared_results(sweep)
    sampled = any(samples(str(launch.get("search"))) for launch in sweep.manifest.launches)
    warnings = conclusions.analyse(results, sampled=sampled).warnings
    found = [warning for warning in warnings if row.cell in warning.cells]
    return [_warning_text(warning) for warning in found]


def _warning_text(warning: ResultWarning) -> str:
    remedy = f" Remedy: {warning.remedy}" if warning.remedy else ""
    return f"{warning.sentence}{remedy}"


def _training(row: TrainedRow) -> Iterable[tuple[str, str]]:
    dataset = row.cell.dataset
    yield "dataset", row.cell.data
    yield "digest of the dataset", dataset.digest
    yield "epochs trained", str(row.snapshot.epoch)
    for launch in row.sweep.manifest.launches:
        yield "command", str(launch.get("command", ""))
    run = row.sweep.store.run_folder(row.cell.run_id)
    environment = (run.description() or {}).get("environment", {})
    if isinstance(environment, dict):
        for name, value in environment.items():
            if isinstance(value, dict):
                value = ", ".join(f"{key} {text}" for key, text in value.items())  # noqa: PLW2901 - the same value, as text
            if name != "host" and value not in (None, ""):  # cards are published
                yield str(name), str(value)


def _settings(row: TrainedRow) -> Iterable[tuple[str, str]]:
    columns = settings_columns(row.cell)
    del columns["dataset"]  # the card has a section about it
    first = [name for name in SETTINGS if name in columns]
    for name in dict.fromkeys((*first, *columns)):
        if columns[name] is not None:
            yield name, format_setting(columns[name])


def _input_and_output(model: TrainedModel) -> str:
    height, width = model.size
    mean, std = float(model.pixel_mean), float(model.pixel_std)
    shapes = (
        f"Input: `images`, float32 of shape (batch, 1, {height}, {width}), with pixels from 0 to "
        "1; the background of MNIST is 0. Output: `scores`, float32 of shape "
        f"(batch, {len(model.class_names)}), whose softmax gives the probabilities of the classes."
    )
    lines = ["## Input and output", shapes]
    if (mean, std) != (0.0, 1.0):
        lines.append(
            "The weight files do not include the normalization of the input: the network takes "
            f"(pixel - {mean!r}) / {std!r}."
        )
    names = list(model.class_names[:MAX_CLASSES])
    if len(model.class_names) > MAX_CLASSES:
        names.append(f"and {len(model.class_names) - MAX_CLASSES} more")
    lines.append(f"Classes, from 0: {escape_markdown(', '.join(names))}")
    return "\n\n".join(lines)


def _table(rows: Iterable[tuple[str, str]], *, escaped: bool = True) -> str:
    lines = ["| | |", "| --- | --- |"]
    for name, text in rows:
        shown = escape_markdown(text) if escaped else text
        lines.append(f"| {escape_markdown(name)} | {shown} |")
    return "\n".join(lines)


def _list(texts: Iterable[str]) -> str:
    return "\n".join(f"- {escape_markdown(text)}" for text in texts)
