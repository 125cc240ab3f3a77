"""`python -m lenet_sweep.clean [OUT]`: list what a store takes on disk, and delete parts of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from lenet_sweep.clean import removal
from lenet_sweep.clean.inventory import (
    Inventory,
    StoredFile,
    StoredFolder,
    take_inventory,
    total_size,
)
from lenet_sweep.core.command import Parser, report_error, say
from lenet_sweep.core.errors import StoreError, UsageError
from lenet_sweep.core.text import (
    format_setting,
    format_value,
    pluralize,
    replace_unprintable,
)
from lenet_sweep.storage.files import lock_file
from lenet_sweep.storage.launches import is_running
from lenet_sweep.storage.store import RunFolder

MAX_LINES = 20  # unused runs that are listed one by one
SHOWN_SETTINGS = ("loss", "optimizer", "lr", "batch", "seed")


def _parser() -> Parser:
    parser = Parser(
        prog="python -m lenet_sweep.clean",
        description="List the disk usage of the runs and sweeps in OUT. With options, delete some "
        "of them after confirmation. Runs and sweeps that are in use are kept.",
    )
    add = parser.add_argument
    add("out", nargs="?", default="outputs", metavar="OUT", type=Path,
        help="the folder of the store and of all sweeps (default: outputs)")  # fmt: skip
    add("--unused", action="store_true", help="delete the runs that no sweep needs")
    add("--sweep", action="append", default=[], metavar="NAME",
        help="delete the folder of this sweep, but not its runs; may be repeated")  # fmt: skip
    add("--checkpoints", action="store_true",
        help="delete the states that unfinished runs resume from")  # fmt: skip
    add("--damaged", action="store_true",
        help="delete the damaged files that were kept for inspection")  # fmt: skip
    add("--temporary", action="store_true", help="delete what killed processes left behind")
    add("--dry-run", action="store_true", help="print what would be deleted, and delete nothing")
    add("--yes", action="store_true", help="do not ask for confirmation")
    return parser


@dataclass(frozen=True)
class _Part:
    """Things of one kind to delete. delete: returns False if a thing is kept."""

    kind: str
    items: Sequence[StoredFolder | StoredFile]
    delete: Callable[[Path], bool]

    def __str__(self) -> str:
        return f"{pluralize(len(self.items), self.kind)} ({format_size(total_size(self.items))})"


def main(arguments: Sequence[str] | None = None) -> int:
    """List the store or delete parts of it; returns the exit status.

    After an error, the status is 1 or 2 and standard error has one line.
    """
    try:
        return _run(_parser().parse_args(arguments))
    except (UsageError, StoreError, OSError) as error:
        return report_error(error)
    except KeyboardInterrupt:
        print("\nInterrupted. The store is still usable; to complete the deletion, run this "
              "command with --temporary.", file=sys.stderr)  # fmt: skip
        return 130


def _run(options: argparse.Namespace) -> int:
    out: Path = options.out
    if not any((out / name).is_dir() for name in ("runs", "sweeps")):
        raise UsageError(f"{format_value(out)}: contains neither runs nor sweeps; give the output "
                         "folder of your sweeps (out), such as outputs")  # fmt: skip
    inventory = take_inventory(out)
    parts = _parts(options, inventory)
    if not parts:
        _print_lines(_table(inventory))
        return 0
    parts = [part for part in parts if part.items]
    if not parts:
        _print_lines(["There is nothing to delete."])
        return 0
    for part in parts:
        _print_lines([f"{part}:", *(f"  {_describe(item, out)}" for item in part.items)])
    if options.dry_run:
        _print_lines(["Nothing was deleted (--dry-run)."])
        return 0
    if not (options.yes or _confirmed()):
        _print_lines(["Nothing was deleted."])
        return 0
    lock = lock_file(out / ".clean", timeout=0)
    if lock is None:
        raise StoreError(f"another process is deleting from {out}; try again when it has ended")
    try:
        for part in parts:
            _delete(part, out)
    finally:
        lock.release()
    return 0


def _parts(options: argparse.Namespace, inventory: Inventory) -> list[_Part]:
    """What the options select, in the order of deletion: sweeps first, then their runs."""
    out = inventory.out
    by_name = {sweep.path.name: sweep for sweep in inventory.sweeps}
    for name in options.sweep:
        if out / "sweeps" / name in inventory.links:
            raise UsageError(
                f"--sweep {name}: is a symbolic link, which is not followed; delete it yourself"
            )
        if name not in by_name:
            raise UsageError(
                f"--sweep {format_value(name)}: there is no such folder in {out / 'sweeps'}; "
                "to list the sweeps, run this command without options"
            )
        if is_running(by_name[name].path):
            raise StoreError(f"--sweep {name}: is running; stop it first")
    sweeps = [by_name[name] for name in dict.fromkeys(options.sweep)]
    parts, unused = [], []
    if sweeps:
        parts.append(_Part("sweep", sweeps, removal.remove_sweep))
    if options.unused:
        deleted = [sweep.path for sweep in sweeps]
        if unknown := inventory.unknown_sweeps(deleted):
            raise StoreError(f"--unused: the runs of a sweep are unknown: {unknown[0]}")
        unused = inventory.unused_runs(deleted)
        parts.append(_Part("run", unused, partial(removal.remove_run, out)))
    if options.checkpoints:
        deleted_runs = {run.path for run in unused}
        checkpoints = [c for c in inventory.checkpoints if c.path.parent not in deleted_runs]
        parts.append(_Part("checkpoint", checkpoints, removal.remove_checkpoint))
    if options.damaged:
        parts.append(_Part("damaged file", inventory.damaged, removal.remove_damaged))
    if options.temporary:
        delete = partial(removal.remove_temporary, out)
        parts.append(_Part("temporary file", inventory.temporary, delete))
    return parts


def _confirmed() -> bool:
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("cannot ask for confirmation without a terminal; add --yes or --dry-run")
    try:
        return input("Delete? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _delete(part: _Part, out: Path) -> None:
    kept = {item.path for item in part.items if not part.delete(item.path)}
    deleted = _Part(part.kind, [item for item in part.items if item.path not in kept], part.delete)
    _print_lines([f"Deleted {deleted}."] if deleted.items else [])
    _print_lines(f"Kept {_name(path, out)}, which is in use." for path in sorted(kept))


# ---------------------------------------------------------------- text


def _table(inventory: Inventory) -> list[str]:
    """The content of the store as a table, and the runs that no sweep needs."""
    runs, sweeps = inventory.runs, inventory.sweeps
    unused = inventory.unused_runs()
    rows = [
        ("what", "number", "size", "delete with"),
        _row("runs", runs),
        _row("  not needed by any sweep", unused, "--unused"),
        _row("  checkpoints", inventory.checkpoints, "--checkpoints"),
        _row("damaged files", inventory.damaged, "--damaged"),
        _row("temporary files", inventory.temporary, "--temporary"),
        _row("sweeps", sweeps),
    ]
    for sweep in sweeps:
        ids = inventory.needed.get(sweep.path)
        number = "unknown" if ids is None else pluralize(len(ids), "run")
        name = sweep.path.name
        rows.append((f"  {name}", number, format_size(sweep.size), f"--sweep {name}"))
    elsewhere = {path for path in inventory.needed if path.parent != inventory.out / "sweeps"}
    rows += [
        (f"  in {path}", pluralize(len(ids), "run"), "", "")
        for path, ids in inventory.needed.items()
        if path in elsewhere and ids is not None
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{what:{widths[0]}}  {number:>{widths[1]}}  {size:>{widths[2]}}  {option}".rstrip()
        for what, number, size, option in rows
    ]
    if unused:
        lines += ["", "Runs that no sweep needs:"]
        lines += [f"  {_describe(run, inventory.out)}" for run in unused[:MAX_LINES]]
        if len(unused) > MAX_LINES:
            lines.append(f"  and {len(unused) - MAX_LINES} more")
    if unknown := inventory.unknown_sweeps():
        lines += ["", "Sweeps whose runs are unknown:", *(f"  {line}" for line in unknown)]
    if inventory.links:
        lines += ["", "Symbolic links, which are not followed:"]
        lines += [f"  {path}" for path in inventory.links]
    return lines


def _row(
    what: str, items: Sequence[StoredFolder | StoredFile], option: str = ""
) -> tuple[str, str, str, str]:
    size = format_size(total_size(items)) if items else ""
    return what, str(len(items)), size, option if items else ""


def _describe(item: StoredFolder | StoredFile, out: Path) -> str:
    """The path below the output folder, the size, and for a run its settings and its date."""
    text = f"{_name(item.path, out)}  {format_size(item.size)}"
    if item.path.parent != out / "runs" or not isinstance(item, StoredFolder):
        return text
    description = RunFolder(item.path).description()
    settings = description["settings"] if description else {}
    values = ((name, settings.get(name)) for name in SHOWN_SETTINGS)
    names = {"lr": "lr ", "batch": "batch ", "seed": "seed "}
    shown = ", ".join(
        names.get(name, "") + format_setting(value["name"] if isinstance(value, dict) else value)
        for name, value in values
        if value is not None
    )
    day = datetime.fromtimestamp(item.path.stat().st_mtime).astimezone()
    return f"{text}  {day:%Y-%m-%d}  {shown}".rstrip()


def _name(path: Path, out: Path) -> str:
    return str(path.relative_to(out))


def format_size(size: int) -> str:
    """A size in decimal units, such as '1.5 MB'."""
    value, units = size / 1000, ["kB", "MB", "GB", "TB"]
    while value >= 999.95 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.1f} {units[0]}"


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        say(replace_unprintable(line))


if __name__ == "__main__":
    sys.exit(main())
