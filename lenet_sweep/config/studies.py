"""Studies: named lists of cells, with the accuracies that someone reported and their conclusions.

A study is a file, `study/NAME.yaml`, with `title`, `rows` (the settings of a cell each, and what
was `reported`), and optionally `source`, `common` (settings of all rows), and `claims`. Its cells
need not form a grid, but other keys can be swept over it: `+study=report seed=0,1,2`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from omegaconf import OmegaConf

from lenet_sweep.config.checks import choice, finite, reject
from lenet_sweep.config.files import config_folder
from lenet_sweep.config.keys import (
    SWEEP_KEYS,
    chosen_names,
    groups_set_by,
    is_option,
    known_keys,
    missing_options,
    recipe_conflict,
    set_key,
    unknown_key,
    unknown_option,
)
from lenet_sweep.config.registry import RECIPES, Raw, cell_from_json
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value, one_line, to_str

KEY = "study"
GIVEN = "study_given"  # not a setting: the keys that were given together with a study
PARTS = ("title", "source", "common", "rows", "claims")
REPORTED = ("reported", "reported_on", "reported_by")  # accuracy in percent, device, person
# The checks of claims, and the keys that each requires. analysis.claim_checks implements them.
CHECKS: Mapping[str, tuple[str, ...]] = {
    "larger_is_better": ("key",),
    "matters_little": ("keys",),
    "smaller_is_better_with_larger": ("key", "with"),
    "best_recipe": (),
    "best_accuracy": ("accuracy",),
    "learns_faster": (),
}
NUMBERS = ("lr", "batch", "epochs")  # the settings that claims can be about


@dataclass(frozen=True)
class Claim:
    """A conclusion of the people who reported a study.

    says: the conclusion in words. check: one of CHECKS. recipe: the recipe that it is about; "" if
    it is about all of them. keys: the settings that it is about. accuracy: in percent.
    """

    says: str
    check: str
    recipe: str = ""
    keys: tuple[str, ...] = ()
    accuracy: float | None = None


@dataclass(frozen=True)
class StudyRow:
    """A row of a study: its cell, and what was reported for it.

    number: the position in the file, from 1. cell: has seed 0 unless the row sets the seed
    (`seeded`). reported: accuracy in percent. device, person: of the report.
    """

    number: int
    cell: Cell
    reported: float | None
    device: str
    person: str
    seeded: bool = False


@dataclass(frozen=True)
class Study:
    """A named list of cells, with what was reported for them.

    source: where the reported numbers are from, in words. version: a hash of the file's content.
    """

    title: str
    source: str
    rows: tuple[StudyRow, ...]
    claims: tuple[Claim, ...]
    version: str = ""

    def to_json(self) -> dict[str, Any]:
        """The study as JSON values; `Study.from_json` is the inverse."""
        nested: dict[str, Any] = {
            "rows": [vars(row) | {"cell": row.cell.to_json()} for row in self.rows],
            "claims": [asdict(claim) for claim in self.claims],
        }
        return vars(self) | nested

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Study:
        """The study that `to_json` wrote. Raises KeyError or TypeError otherwise."""
        rows = (StudyRow(**row | {"cell": cell_from_json(row["cell"])}) for row in values["rows"])
        claims = (Claim(**c | {"keys": tuple(c["keys"])}) for c in values["claims"])
        return cls(**dict(values) | {"rows": tuple(rows), "claims": tuple(claims)})


@dataclass(frozen=True)
class ParsedRow:
    """A row before validation.

    raw: the settings of the sweep, updated with those of the row. study: its study, without rows,
    which are added after validation; None for a cell that belongs to no study. seed: whether the
    row sets the seed. For the other fields, see StudyRow.
    """

    raw: Mapping[str, Any]
    study: Study | None = None
    number: int = 0
    seed: bool = False
    reported: float | None = None
    device: str = ""
    person: str = ""

    @contextmanager
    def errors_name_row(self) -> Iterator[None]:
        """Prefix the message of a UsageError with the number of the row and the study."""
        try:
            yield
        except UsageError as error:
            if self.study is None:
                raise
            raise UsageError(f"{_where(self.study.title, self.number)}: {error}") from error

    def with_cell(self, cell: Cell) -> StudyRow:
        """The row with its validated cell."""
        cell = cell if self.seed else cell.setting
        return StudyRow(self.number, cell, self.reported, self.device, self.person, self.seed)


def reject_duplicates(rows: Iterable[StudyRow], title: str) -> None:
    """Raise UsageError if two rows differ only in the reported accuracy."""
    first_numbers: dict[object, int] = {}
    for row in rows:
        first = first_numbers.setdefault((row.cell, row.device, row.person, row.seeded), row.number)
        if first != row.number:
            raise UsageError(
                f"{_where(title, row.number)}: the same settings as row {first}; remove one, "
                "or distinguish them by reported_on or reported_by"
            )


def merge_studies(studies: Iterable[Study]) -> tuple[Study, ...]:
    """Merge the studies that have the same title and version; equal rows are kept once."""
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


def replace_study(studies: Iterable[Study], study: Study) -> tuple[Study, ...]:
    """Add a study to those of a sweep, replacing its other versions."""
    others = (s for s in studies if s.title != study.title or s.version == study.version)
    return merge_studies([*others, study])


def load_study(study: Any) -> Any:
    """The content of conf/study/NAME.yaml for a name; any other value is returned unchanged."""
    if not isinstance(study, str):
        return study
    folder = config_folder() / KEY
    choice(KEY, study, sorted(path.stem for path in folder.glob("*.yaml")))
    return OmegaConf.to_container(OmegaConf.load(folder / f"{study}.yaml"))


def parse_rows(raw: Mapping[str, Any]) -> list[ParsedRow]:
    """The rows of the study in a nested dict shaped like conf/config.yaml, or the dict as one row.

    The key GIVEN of the dict lists the keys that were given together with the study; a row must not
    set them. Raises UsageError, one line that names the row.
    """
    if KEY not in raw:
        return [ParsedRow(raw)]
    node = raw[KEY]
    if not isinstance(node, Mapping):
        reject(KEY, node, "the name of a study, such as +study=report")
    given = set(raw.get(GIVEN, ()))
    for key in node:
        if key not in PARTS:
            unknown_key(f"{KEY}.{key}", node[key], [f"{KEY}.{part}" for part in PARTS])
    title = _line(f"{KEY}.title", node.get("title"))
    source = _line(f"{KEY}.source", node.get("source", ""))
    rows = node.get("rows")
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        reject(
            f"{KEY}.rows", rows, "a list of cells, such as - {batch: 64, lr: 0.1, reported: 99.2}"
        )
    common = node.get("common") or {}
    if not isinstance(common, Mapping):
        reject(f"{KEY}.common", common, "the settings that all rows share, such as {epochs: 100}")
    version = hashlib.sha256(to_str(node).encode()).hexdigest()[:16]
    study = Study(title, source, (), _claims(node.get("claims") or []), version)
    base = {key: value for key, value in raw.items() if key not in (KEY, GIVEN)}
    parsed: list[ParsedRow] = []
    for number, row in enumerate(rows, 1):
        try:
            parsed.append(_parse_row(number, row, common, base, given, study))
        except UsageError as error:
            raise UsageError(f"{_where(title, number)}: {error}") from error
    return parsed


def _parse_row(
    number: int, row: Any, common: Mapping[Any, Any], base: Raw, given: set[str], study: Study
) -> ParsedRow:
    if not isinstance(row, Mapping):
        raise UsageError(f"{format_value(row)}: must be settings, such as {{batch: 64, lr: 0.1}}")
    if repeated := set(row) & set(common):
        key = min(map(str, repeated))
        raise UsageError(f"{key} is also set in common; set it only once")
    own, row = row, {**common, **row}
    settings = {to_str(key): value for key, value in row.items() if key not in REPORTED}
    if "recipe" in settings and (both := {"loss", "optimizer"} & set(settings)):
        raise UsageError(recipe_conflict(sorted(both)))
    raw = dict(base)
    valid_keys = [*known_keys(base), *REPORTED]
    # Groups first: a dotted key changes the choice that the same row selects.
    for key in sorted(settings, key=lambda key: "." in key):
        if key in SWEEP_KEYS:
            raise UsageError(
                f"{key}={format_value(settings[key])}: a row cannot set {key}, which applies to "
                "the whole sweep; set it on the command line"
            )
        if key == KEY:
            raise UsageError("study: a row cannot contain a study; remove it from the row")
        if key == "grid" or (key not in valid_keys and not is_option(key)):
            unknown_key(key, settings[key], valid_keys)
        if conflicts := sorted(other for other in given if _conflict(key, other)):
            raise UsageError(
                f"{key} is set by the rows of the study; remove {conflicts[0]} from the command"
            )
        set_key(raw, key, settings[key])
    selected = {g for key in settings if "." not in key for g in groups_set_by(key)}
    for key in filter(is_option, given):
        group, _, option = key.partition(".")
        if group in selected:  # selecting a choice resets the given options
            set_key(raw, key, base[group][option])
    for key in missing_options(filter(is_option, own), chosen_names(raw)):
        unknown_option(key, own[key], chosen_names(raw).values())
    reported = row.get("reported")
    if reported is not None:
        accuracy = finite(reported)
        if accuracy is None or not 0 <= accuracy <= 100:
            reject("reported", reported, "an accuracy in percent, 0 to 100")
        reported = accuracy
    device, person = (_line(key, row.get(key, "")) for key in REPORTED[1:])
    return ParsedRow(raw, study, number, "seed" in settings, reported, device, person)


def _conflict(row_key: str, given_key: str) -> bool:
    """Whether a key of a row sets the same as a key that was given together with the study."""
    if row_key == given_key:
        return True
    if is_option(given_key):  # changes only this option of the row's choice
        return False
    return bool(groups_set_by(row_key) & groups_set_by(given_key))


def _claims(node: Any) -> tuple[Claim, ...]:
    if not isinstance(node, Sequence) or isinstance(node, str):
        reject(f"{KEY}.claims", node, "a list of conclusions, each with says and check")
    return tuple(_claim(number, claim) for number, claim in enumerate(node, 1))


def _claim(number: int, node: Any) -> Claim:
    where = f"claim {number} of the study"
    check = choice(
        f"{where}: check", node.get("check") if isinstance(node, Mapping) else node, CHECKS
    )
    allowed = ("says", "check", "recipe", *CHECKS[check])
    for key in node:
        if key not in allowed:
            raise UsageError(
                f"{where}: {format_value(key)}={format_value(node[key])}: {check} takes "
                f"{', '.join(allowed)}"
            )
    recipe = node.get("recipe", "")
    if check in ("best_recipe", "learns_faster") or recipe != "":
        choice(f"{where}: recipe", recipe or None, RECIPES)
    keys = node.get("keys", [node[k] for k in ("key", "with") if k in node])
    if (
        not isinstance(keys, list)
        or any(key not in NUMBERS for key in keys)
        or (len(keys) > len({*map(to_str, keys)}))
    ):
        reject(f"{where}: keys", keys, f"distinct keys from {', '.join(NUMBERS)}")
    key_counts = {
        "larger_is_better": (1,),
        "smaller_is_better_with_larger": (2,),
        "matters_little": (1, 2, 3),
    }
    if len(keys) not in key_counts.get(check, (0,)):
        raise UsageError(f"{where}: {check} requires {' and '.join(CHECKS[check])}")
    accuracy = finite(node.get("accuracy")) if check == "best_accuracy" else None
    if check == "best_accuracy" and (accuracy is None or not 0 <= accuracy <= 100):
        reject(f"{where}: accuracy", node.get("accuracy"), "an accuracy in percent, 0 to 100")
    says = _line(f"{where}: says", node.get("says"))
    return Claim(says, check, recipe, tuple(map(str, keys)), accuracy)


def _line(key: str, value: Any) -> str:
    text = one_line(to_str(value))
    is_text = isinstance(value, str) or finite(value) is not None
    if not is_text or len(text) > 300 or (key.endswith(("title", "says")) and not text):
        reject(key, value, "one line of text, up to 300 characters")
    return text


def _where(title: str, row: int) -> str:
    return f"row {row} of the study '{format_value(title)}'"
