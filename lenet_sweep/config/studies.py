"""Studies: a fixed list of cells, what someone reported for each, and what they concluded.

A study is data, `study/NAME.yaml`: `title`, `rows` (settings of a cell each, with `reported`),
optionally `common` (settings of all rows) and `claims`. It is no rectangle, but other axes may be
swept over it: `+study=report seed=0,1,2`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from omegaconf import OmegaConf

from lenet_sweep.config.checks import (
    choice,
    finite,
    recipe_conflict,
    reject,
    unknown_key,
    unknown_option,
)
from lenet_sweep.config.keys import is_option, known_keys, missing_options, set_key
from lenet_sweep.config.registry import GROUPS, RECIPES, Raw, cell_from_json, config_folder
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value, one_line, to_str

KEY = "study"
GIVEN = "study_given"  # no setting: what was typed beside a study
PARTS = ("title", "source", "common", "rows", "claims")
REPORTED = ("reported", "reported_on", "reported_by")  # accuracy in percent, device, person
# Options of a whole sweep, which a row cannot have of its own.
OPTIONS = ("workers", "person", "timeout", "retries", "reuse", "dry_run", "max_cells", "report",
           "figures", "rows", "out", "name")  # fmt: skip
# What a claim may be checked by, and what it says of which setting; analysis.claims has the rules.
CHECKS: Mapping[str, tuple[str, ...]] = {
    "larger_is_better": ("key",),
    "matters_little": ("keys",),
    "wants_small_with_large": ("key", "with"),
    "best_recipe": (),
    "best_accuracy": ("accuracy",),
    "learns_faster": (),
}
NUMBERS = ("lr", "batch", "epochs")  # settings with an order, which claims are about


@dataclass(frozen=True)
class Claim:
    """A conclusion that someone drew: `says`, in words; `check`, one of CHECKS; of which recipe.

    keys: the settings that it is about. accuracy: percent.
    """

    says: str
    check: str
    recipe: str = ""
    keys: tuple[str, ...] = ()
    accuracy: float | None = None


@dataclass(frozen=True)
class StudyRow:
    """A row of a study: its number in the file from 1, its cell, and what was reported for it.

    cell: with seed 0 where the seed is free, with the row's own where it is fixed (`seeded`).
    reported: percent.
    """

    number: int
    cell: Cell
    reported: float | None
    device: str
    person: str
    seeded: bool = False


@dataclass(frozen=True)
class Study:
    """A named list of cells. source: where the reported numbers are from, in words.

    version: of the file it was read from, a hash: another one is another study.
    """

    title: str
    source: str
    rows: tuple[StudyRow, ...]
    claims: tuple[Claim, ...]
    version: str = ""

    def to_json(self) -> dict[str, Any]:
        """The study as plain JSON values; `Study.from_json` takes it back."""
        nested: dict[str, Any] = {
            "rows": [vars(row) | {"cell": row.cell.to_json()} for row in self.rows],
            "claims": [asdict(claim) for claim in self.claims],
        }
        return vars(self) | nested

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Study:
        """The study that `to_json` wrote. Raises KeyError or TypeError on anything else."""
        rows = (StudyRow(**row | {"cell": cell_from_json(row["cell"])}) for row in values["rows"])
        claims = (Claim(**c | {"keys": tuple(c["keys"])}) for c in values["claims"])
        return cls(**dict(values) | {"rows": tuple(rows), "claims": tuple(claims)})


@dataclass(frozen=True)
class ParsedRow:
    """A row as it was typed: its settings laid over those of the launch.

    study: without rows yet, they follow once the cells are known; None for a cell of no study.
    """

    raw: Mapping[str, Any]
    study: Study | None = None
    number: int = 0
    seed: bool = False  # whether the row fixes it
    reported: float | None = None
    device: str = ""
    person: str = ""

    @contextmanager
    def named(self) -> Iterator[None]:
        """Say of a setting that is not allowed in which row it stands."""
        try:
            yield
        except UsageError as error:
            if self.study is None:
                raise
            raise UsageError(f"{_where(self.study.title, self.number)}: {error}") from error

    def of(self, cell: Cell) -> StudyRow:
        """The row with its cell."""
        where = cell if self.seed else cell.setting
        return StudyRow(self.number, where, self.reported, self.device, self.person, self.seed)


def reject_duplicates(rows: Iterable[StudyRow], title: str) -> None:
    """Raise the UsageError for two rows of which nothing tells who reported which."""
    seen: dict[object, int] = {}
    for row in rows:
        first = seen.setdefault((row.cell, row.device, row.person, row.seeded), row.number)
        if first != row.number:
            raise UsageError(
                f"{_where(title, row.number)}: the same settings as row {first}; leave one out, "
                "or say in reported_on or reported_by what tells them apart"
            )


def merge_studies(studies: Iterable[Study]) -> tuple[Study, ...]:
    """One study for each version of a title, with the rows of all: a row that came twice is one."""
    latest: dict[tuple[str, str], Study] = {}
    rows: dict[tuple[str, str], dict[StudyRow, None]] = {}
    for study in studies:
        key = study.title, study.version
        latest[key] = study
        rows.setdefault(key, {}).update(dict.fromkeys(study.rows))
    return tuple(
        replace(study, rows=tuple(sorted(rows[key], key=lambda row: row.number)))
        for key, study in latest.items()
    )


def replace_study(known: Iterable[Study], asked: Study) -> tuple[Study, ...]:
    """The studies of a sweep with one that is asked for: it replaces its earlier versions."""
    others = (s for s in known if s.title != asked.title or s.version == asked.version)
    return merge_studies([*others, asked])


def load_study(study: Any) -> Any:
    """The content of conf/study/NAME.yaml by its name; anything else is given back as it is."""
    if not isinstance(study, str):
        return study
    folder = config_folder() / KEY
    choice(KEY, study, sorted(path.stem for path in folder.glob("*.yaml")))
    return OmegaConf.to_container(OmegaConf.load(folder / f"{study}.yaml"))


def parse_rows(raw: Mapping[str, Any]) -> list[ParsedRow]:
    """The rows of the study in a nested dict like conf/config.yaml, each laid over the rest.

    Itself alone where it has none. Its key GIVEN lists what was typed beside the study: what rows
    say of these keys would be a contradiction. Raises UsageError, one line that names the row.
    """
    if KEY not in raw:
        return [ParsedRow(raw)]
    node = raw[KEY]
    if not isinstance(node, Mapping):
        reject(KEY, node, "the name of a study, as in +study=report")
    given = set(raw.get(GIVEN, ()))
    for key in node:
        if key not in PARTS:
            unknown_key(f"{KEY}.{key}", node[key], [f"{KEY}.{part}" for part in PARTS])
    title = _line(f"{KEY}.title", node.get("title"))
    source = _line(f"{KEY}.source", node.get("source", ""))
    rows = node.get("rows")
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        reject(f"{KEY}.rows", rows, "a list of cells, as in - {batch: 64, lr: 0.1, reported: 99.2}")
    common = node.get("common") or {}
    if not isinstance(common, Mapping):
        reject(f"{KEY}.common", common, "the settings that all rows share, key: value")
    version = hashlib.sha256(to_str(node).encode()).hexdigest()[:16]
    study = Study(title, source, (), _claims(node.get("claims") or []), version)
    base = {key: value for key, value in raw.items() if key not in (KEY, GIVEN)}
    found: list[ParsedRow] = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(_typed(number, row, common, base, given, study))
        except UsageError as error:
            raise UsageError(f"{_where(title, number)}: {error}") from error
    return found


def _typed(
    number: int, row: Any, common: Mapping[Any, Any], base: Raw, given: set[str], study: Study
) -> ParsedRow:
    if not isinstance(row, Mapping):
        raise UsageError(f"{format_value(row)}: must be settings, as in {{batch: 64, lr: 0.1}}")
    if twice := set(row) & set(common):
        key = min(map(str, twice))
        raise UsageError(f"{key} stands in common: too; give it once")
    own, row = row, {**common, **row}
    settings = {to_str(key): value for key, value in row.items() if key not in REPORTED}
    if "recipe" in settings and (both := {"loss", "optimizer"} & set(settings)):
        raise UsageError(recipe_conflict(sorted(both)))
    raw = dict(base)
    known = [*known_keys(base), *REPORTED]
    # Groups first: a dotted key changes the optimizer that the same row chooses.
    for key in sorted(settings, key=lambda key: "." in key):
        if key in OPTIONS:
            raise UsageError(f"{key} is one for the whole sweep; give it on the command line")
        if key == KEY:
            raise UsageError("study: a row is a cell, and has no study of its own")
        if key == "grid" or (key not in known and not key.startswith("optimizer.")):
            unknown_key(key, settings[key], known)
        if any(_contradict(key, each) for each in given):
            raise UsageError(f"the rows of the study give {key}; leave it out of the command")
        set_key(raw, key, settings[key])
    if {"recipe", "optimizer"} & set(settings):  # which has taken the typed options away
        for key in filter(is_option, given):
            set_key(raw, key, base["optimizer"][key.removeprefix("optimizer.")])
    for key in missing_options(filter(is_option, own), raw["optimizer"].get("name")):
        unknown_option(key.removeprefix("optimizer."), own[key])
    reported = row.get("reported")
    if reported is not None:
        accuracy = finite(reported)
        if accuracy is None or not 0 <= accuracy <= 100:
            reject("reported", reported, "an accuracy in percent, 0 to 100")
        reported = accuracy
    device, person = (_line(key, row.get(key, "")) for key in REPORTED[1:])
    return ParsedRow(raw, study, number, "seed" in settings, reported, device, person)


def _contradict(row: str, typed: str) -> bool:
    """Whether a key of a row says what a key that was typed beside the study says too."""
    if row == typed or not is_option(typed):
        return row == typed or bool(_fixes(row) & _fixes(typed))
    return False  # an option is laid over the optimizer, and over other options, of a row


def _fixes(key: str) -> set[str]:
    """The config groups that a key chooses or changes."""
    if key == "recipe":
        return {"loss", "optimizer"}
    return {key.partition(".")[0]} & set(GROUPS)


def _claims(node: Any) -> tuple[Claim, ...]:
    if not isinstance(node, Sequence) or isinstance(node, str):
        reject(f"{KEY}.claims", node, "a list of conclusions, each with says: and check:")
    return tuple(_claim(number, each) for number, each in enumerate(node, 1))


def _claim(number: int, node: Any) -> Claim:
    where = f"{KEY}.claims, number {number}"
    check = choice(
        f"{where}: check", node.get("check") if isinstance(node, Mapping) else node, CHECKS
    )
    takes = ("says", "check", "recipe", *CHECKS[check])
    for key in node:
        if key not in takes:
            raise UsageError(f"{where}: {format_value(key)}: {check} takes {', '.join(takes)}")
    recipe = node.get("recipe", "")
    needed = check in ("best_recipe", "learns_faster")
    if needed or recipe != "":
        choice(f"{where}: recipe", recipe or None, RECIPES)
    keys = node.get("keys", [node[k] for k in ("key", "with") if k in node])
    if (
        not isinstance(keys, list)
        or any(key not in NUMBERS for key in keys)
        or (len(keys) > len({*map(to_str, keys)}))
    ):
        reject(f"{where}: keys", keys, f"of {', '.join(NUMBERS)}")
    wanted = {"larger_is_better": (1,), "wants_small_with_large": (2,), "matters_little": (1, 2, 3)}
    if len(keys) not in wanted.get(check, (0,)):
        raise UsageError(f"{where}: {check} needs {' and '.join(CHECKS[check])}")
    accuracy = finite(node.get("accuracy")) if check == "best_accuracy" else None
    if check == "best_accuracy" and (accuracy is None or not 0 <= accuracy <= 100):
        reject(f"{where}: accuracy", node.get("accuracy"), "an accuracy in percent")
    says = _line(f"{where}: says", node.get("says"))
    return Claim(says, check, recipe, tuple(map(str, keys)), accuracy)


def _line(key: str, value: Any) -> str:
    text = one_line(to_str(value))
    plain = isinstance(value, str) or finite(value) is not None
    if not plain or len(text) > 300 or (key.endswith(("title", "says")) and not text):
        reject(key, value, "one line of text, up to 300 characters")
    return text


def _where(title: str, row: int) -> str:
    return f"row {row} of the study '{format_value(title)}'"
