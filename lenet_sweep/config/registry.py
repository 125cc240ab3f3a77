"""The available optimizers, losses, activations, and recipes, read from conf/.

A file of conf/optimizer, conf/loss, or conf/activation defines a class of torch, its options, and
their defaults. The comment behind an option is its help and states its limits. This module does not
import torch: classes are given by name.
"""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from lenet_sweep.core.cells import Cell, Dataset, Optimizer, OptionValue
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value
from lenet_sweep.data.catalog import added_datasets

Raw = dict[str, Any]
ADDABLE = ("loss", "optimizer", "activation")  # groups that a --config-dir may add to
FILE_KEYS = ("name", "class", "input", "default_lr")  # keys that only a file sets
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {">": operator.gt, "=": operator.eq}
_COMMENT = re.compile(r"(\w+):[ ]*(?:[^#]*?)[ ]+#[ ]*(.+)")
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_LIMIT = re.compile(rf"(min|below) {_NUMBER}")
_REQUIREMENT = re.compile(rf"(\w+) ([>=]) {_NUMBER}")


def config_folder() -> Path:
    """The folder conf/: inside an installed package, or next to the package in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


@dataclass(frozen=True)
class Requirement:
    """A value of another option that an option requires, such as 'momentum > 0'."""

    option: str
    comparison: str  # > or =
    value: float

    def is_met(self, options: Mapping[str, Any]) -> bool:
        """Whether the values of the optimizer's options meet the requirement."""
        return _OPERATORS[self.comparison](options[self.option], self.value)

    def __str__(self) -> str:
        return f"optimizer.{self.option} {self.comparison} {self.value:g}"


@dataclass(frozen=True)
class OptimizerOption:
    """An option of an optimizer.

    default: its type is the type of the option: bool, float, or a tuple of floats of this length.
    min: the smallest number allowed. below: all numbers must be less than this.
    """

    default: OptionValue
    help: str
    min: float | None = None
    below: float | None = None
    requires: tuple[Requirement, ...] = ()

    @property
    def allowed(self) -> str:
        """The allowed values for messages, such as 'a number, at least 0'."""
        if isinstance(self.default, bool):
            return "true or false"
        limits = [f"at least {self.min:g}"] if self.min is not None else []
        limits += [f"less than {self.below:g}"] if self.below is not None else []
        each = "each " if isinstance(self.default, tuple) else ""
        kind = f"{len(self.default)} numbers" if isinstance(self.default, tuple) else "a number"
        if not limits:
            return kind
        return f"{kind}, {each}{' and '.join(limits)}"

    def accepts(self, number: float) -> bool:
        """Whether a number is within the limits."""
        return (self.min is None or number >= self.min) and (
            self.below is None or number < self.below
        )


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer of torch.optim: its default learning rate and its options."""

    torch_class: str
    help: str
    default_lr: float
    options: Mapping[str, OptimizerOption]

    def conflict(self, options: Mapping[str, Any]) -> str | None:
        """Why the values of the options cannot be combined; None if they can."""
        for name, option in self.options.items():
            is_met = all(requirement.is_met(options) for requirement in option.requires)
            if not is_met and options[name] != option.default:
                value = str(options[name]).lower()
                requirements = " and ".join(map(str, option.requires))
                return f"optimizer.{name}={value}: requires {requirements}"
        return None


@dataclass(frozen=True)
class LossSpec:
    """A loss of torch.nn, and whether it takes logits or log-probabilities."""

    torch_class: str
    help: str
    takes_logits: bool


@dataclass(frozen=True)
class ActivationSpec:
    """An activation of torch.nn."""

    torch_class: str
    help: str


@dataclass(frozen=True)
class _File:
    """A file of a config group. comments: the comment behind each key. help: the first comment."""

    path: Path
    values: Raw
    comments: Mapping[str, str]
    help: str

    def get(self, key: str) -> str:
        """The value of a key. Raises UsageError if it is not text."""
        value = self.values.get(key)
        if not isinstance(value, str):
            raise UsageError(
                f"{self.path}: {key}={format_value(value)}: must be text, such as {EXAMPLES[key]}"
            )
        return value


EXAMPLES = {"name": "name: rmsprop", "class": "class: RMSprop", "input": "input: logits"}


def _read(path: Path) -> _File:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C version is faster
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.load(text, Loader=loader)  # noqa: S506 - both loaders are safe
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        problem = format_value(str(error).partition("\n")[0])
        raise UsageError(f"{path}: not valid YAML: {problem}") from error
    lines = text.splitlines()
    comments = {match[1]: match[2] for line in lines if (match := _COMMENT.fullmatch(line))}
    first = (line for line in lines if line.startswith("# ") and "@package" not in line)
    return _File(path, values, comments, next(first, "").removeprefix("# "))


def _option(path: Path, name: str, value: Any, comment: str) -> OptimizerOption:
    """An option from its default and its comment, such as 'L2 penalty; min 0'."""
    numbers = value if isinstance(value, list) and value else [value]
    if not all(isinstance(number, (int, float)) for number in numbers):
        raise UsageError(
            f"{path}: {name}={value}: the default of an option must be a number, a list of "
            "numbers, true, or false"
        )
    text, *rules = comment.split("; ")
    limits: dict[str, float] = {}
    requires: tuple[Requirement, ...] = ()
    for rule in rules:
        if match := _LIMIT.fullmatch(rule):
            limits[match[1]] = float(match[2])
        elif rule.startswith("requires "):
            parts = rule.removeprefix("requires ").split(", ")
            matches = [_REQUIREMENT.fullmatch(part) for part in parts]
            requires = tuple(Requirement(m[1], m[2], float(m[3])) for m in matches if m)
            if len(requires) < len(parts):
                raise UsageError(
                    f"{path}: {name}: cannot parse {rule!r}; write 'requires OPTION > NUMBER' or "
                    "'requires OPTION = NUMBER'"
                )
        else:
            raise UsageError(
                f"{path}: {name}: cannot parse {rule!r}; after a semicolon, a comment can have "
                "'min NUMBER', 'below NUMBER', or 'requires OPTION > NUMBER'"
            )
    default = tuple(map(float, value)) if isinstance(value, list) else value
    if isinstance(default, int) and not isinstance(default, bool):
        default = float(default)
    return OptimizerOption(default, text, limits.get("min"), limits.get("below"), requires)


def _optimizer(file: _File) -> OptimizerSpec:
    options = {
        name: _option(file.path, name, value, file.comments.get(name, ""))
        for name, value in file.values.items()
        if name not in FILE_KEYS
    }
    for name, option in options.items():
        for requirement in option.requires:
            if requirement.option not in options:
                raise UsageError(
                    f"{file.path}: {name}: requires {requirement.option}, which is not an option "
                    f"of this file; its options are {', '.join(options)}"
                )
    lr = file.values.get("default_lr")
    if isinstance(lr, bool) or not isinstance(lr, (int, float)) or lr <= 0:
        raise UsageError(f"{file.path}: default_lr={lr}: must be a number above 0")
    return OptimizerSpec(file.get("class"), file.help, float(lr), options)


def _loss(file: _File) -> LossSpec:
    if file.get("input") not in ("logits", "log_probabilities"):
        raise UsageError(
            f"{file.path}: input={file.get('input')}: must be one of logits, log_probabilities"
        )
    return LossSpec(file.get("class"), file.help, file.get("input") == "logits")


def _activation(file: _File) -> ActivationSpec:
    return ActivationSpec(file.get("class"), file.help)


# The order of names in lists: the report's choices come first.
_ORDER = ("cross_entropy", "nll", "sgd", "adam", "relu", "tanh", "sigmoid", "leaky_relu", "elu",
          "gelu", "silu", "mnist", "fashion_mnist", "kmnist", "folder")  # fmt: skip


def _files(group: str) -> dict[str, Path]:
    """The files of a config group by name, in the order of lists."""
    paths = {path.stem: path for path in (config_folder() / group).glob("*.yaml")}
    return dict(sorted(paths.items(), key=lambda item: _rank(item[0])))


def _rank(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER)), name


_FILES: dict[str, dict[str, _File]] = {
    group: {name: _read(path) for name, path in _files(group).items()}
    for group in ("loss", "optimizer", "activation", "dataset")
}
SHIPPED: Mapping[str, frozenset[str]] = {g: frozenset(files) for g, files in _FILES.items()}
OPTIMIZERS: dict[str, OptimizerSpec] = {
    name: _optimizer(file) for name, file in _FILES["optimizer"].items()
}
# The report's script gives log-probabilities to CrossEntropyLoss, which applies log-softmax again.
# Apart from rounding, this is the identity. Here CrossEntropyLoss gets the logits, which makes the
# two losses equal to the last bit and saves two passes.
LOSSES: dict[str, LossSpec] = {name: _loss(file) for name, file in _FILES["loss"].items()}
ACTIVATIONS: dict[str, ActivationSpec] = {
    name: _activation(file) for name, file in _FILES["activation"].items()
}


def _recipe(path: Path) -> tuple[str, str]:
    selected: dict[str, str] = {}
    for entry in _read(path).values["defaults"]:
        selected |= {key.removeprefix("override /"): name for key, name in entry.items()}
    return selected["loss"], selected["optimizer"]


# The pairs of loss and optimizer that the report compares.
RECIPES: Mapping[str, tuple[str, str]] = {n: _recipe(path) for n, path in _files("recipe").items()}

# The default of every option of every optimizer, by key, such as 'optimizer.momentum'.
OPTION_DEFAULTS: dict[str, OptionValue] = {
    f"optimizer.{name}": option.default
    for spec in OPTIMIZERS.values()
    for name, option in spec.options.items()
}

GROUPS: Mapping[str, Collection[str]] = _FILES  # the names in each group


def group_node(group: str, name: str) -> Raw:
    """A copy of the content of one file of a config group."""
    values = _FILES[group][name].values
    return {key: list(v) if isinstance(v, list) else v for key, v in values.items()}


def add_folder(folder: Path) -> None:
    """Add the losses, optimizers, and activations of a folder (--config-dir).

    Raises UsageError for an invalid file, and for a file with the name of one in conf/. The class
    is checked only when a cell uses it, since torch takes seconds to import.
    """
    for group in ADDABLE:
        for path in sorted((folder / group).glob("*.yaml")):
            add_file(group, path)


def add_file(group: str, path: Path) -> None:
    """Add one file of a config group; see `add_folder`.

    A file without a class adds nothing: it only sets options of an existing optimizer.
    """
    file = _read(path)
    if not isinstance(file.values, dict):
        raise UsageError(f"{path}: must contain lines of the form 'key: value'")
    if "class" not in file.values:
        return
    if path.stem in SHIPPED[group]:
        raise UsageError(
            f"{path}: {group}={path.stem} already exists in lenet-sweep; rename the file"
        )
    if file.get("name") != path.stem:
        raise UsageError(
            f"{path}: name={file.get('name')}: must be {path.stem}, the name of the file"
        )
    if group == "optimizer":
        optimizer = _optimizer(file)
        OPTIMIZERS[path.stem] = optimizer
        for name, option in optimizer.options.items():
            OPTION_DEFAULTS.setdefault(f"optimizer.{name}", option.default)
    else:
        if options := set(file.values) - set(FILE_KEYS):
            raise UsageError(f"{path}: {min(options)}: a {group} has no options; remove it")
        if group == "loss":
            LOSSES[path.stem] = _loss(file)
        else:
            ACTIVATIONS[path.stem] = _activation(file)
    _FILES[group][path.stem] = file


def _check_class(group: str, file: _File) -> None:
    """Check that the class of a file exists in torch.optim or torch.nn and takes the options.

    Raises UsageError otherwise.
    """
    import torch  # noqa: PLC0415 - takes seconds, and is needed only for the user's own classes

    name, module = file.get("class"), "optim" if group == "optimizer" else "nn"
    options = [option for option in file.values if option not in FILE_KEYS]
    base = torch.optim.Optimizer if module == "optim" else torch.nn.Module
    cls = getattr(getattr(torch, module), name, None)
    if not (isinstance(cls, type) and issubclass(cls, base) and cls is not base):
        raise UsageError(
            f"{file.path}: class={name}: must be a subclass of torch.{module}.{base.__name__} "
            f"in torch.{module}"
        )
    parameters = [p for p in inspect.signature(cls).parameters if p not in ("params", "lr")]
    for option in options:
        if option not in parameters:
            raise UsageError(
                f"{file.path}: {option}: {name} has no such option; it takes "
                f"{', '.join(parameters)}"
            )


def add_datasets() -> None:
    """Add the datasets of other packages to the config group `dataset`."""
    for name in added_datasets():
        values = _FILES["dataset"]["mnist"].values | {"name": name}
        _FILES["dataset"].setdefault(name, _File(Path(name), values, {}, ""))


def classes_of(loss: str, optimizer: str, activation: str) -> tuple[tuple[str, str], ...]:
    """The torch classes of the parts that do not come with this package, for `Cell.classes`.

    Raises UsageError for a class that does not exist in torch or does not take the options.
    """
    parts = {"loss": loss, "optimizer": optimizer, "activation": activation}
    classes = []
    for group, name in parts.items():
        if name not in SHIPPED[group]:
            _check_class(group, _FILES[group][name])
            values = _FILES[group][name].values
            classes.append((group, values["class"]))
            if group == "loss":
                classes.append(("loss.input", values["input"]))
    return tuple(classes)


def torch_class(cell: Cell, group: str) -> str:
    """The class of a cell's loss, optimizer, or activation: its name in torch.optim or torch.nn."""
    specs: Mapping[str, Mapping[str, OptimizerSpec | LossSpec | ActivationSpec]] = {
        "loss": LOSSES, "optimizer": OPTIMIZERS, "activation": ACTIVATIONS,
    }  # fmt: skip
    names = {"loss": cell.loss, "optimizer": cell.optimizer.name, "activation": cell.activation}
    return dict(cell.classes).get(group) or specs[group][names[group]].torch_class


def takes_logits(cell: Cell) -> bool:
    """Whether a cell's loss takes logits instead of log-probabilities."""
    loss_input = dict(cell.classes).get("loss.input")
    return LOSSES[cell.loss].takes_logits if loss_input is None else loss_input == "logits"


def default_lr(optimizer: Optimizer) -> float | None:
    """The default learning rate of an optimizer; None if its file is not on this machine."""
    spec = OPTIMIZERS.get(optimizer.name)
    return spec.default_lr if spec else None


def make_optimizer(
    name: str, options: Mapping[str, OptionValue] | Iterable[tuple[str, OptionValue]] = ()
) -> Optimizer:
    """Create an optimizer of the registry. Options that are not given have their defaults.

    Raises UsageError for an unknown name or option.
    """
    if name not in OPTIMIZERS:
        raise UsageError(f"optimizer={name}: must be one of {', '.join(OPTIMIZERS)}")
    specs = OPTIMIZERS[name].options
    given = dict(options)
    for option, value in given.items():
        if option not in specs:
            raise UsageError(
                f"optimizer.{option}={value}: {name} has no such option; "
                f"it takes {', '.join(specs)}"
            )
    defaults = tuple((option, spec.default) for option, spec in specs.items())
    values = tuple((option, given.get(option, default)) for option, default in defaults)
    return Optimizer(name, values, defaults)


def cell_from_json(values: Mapping[str, Any]) -> Cell:
    """The cell that `Cell.to_json` wrote. Raises KeyError, TypeError or UsageError otherwise."""
    nested = ("optimizer", "dataset", "classes")
    classes = tuple((group, name) for group, name in values.get("classes", ()))
    stored = values["optimizer"]
    options = _option_values(stored["options"])
    if "optimizer" in dict(classes):  # its file may not be on this machine
        optimizer = Optimizer(stored["name"], options, _option_values(stored["defaults"]))
    else:
        optimizer = make_optimizer(stored["name"], options)
    return Cell(
        **{f.name: values[f.name] for f in fields(Cell) if f.name not in nested},
        optimizer=optimizer,
        dataset=Dataset(**values["dataset"]),
        classes=classes,
    )


def _option_values(pairs: Iterable[tuple[str, Any]]) -> tuple[tuple[str, OptionValue], ...]:
    return tuple((k, tuple(value) if isinstance(value, list) else value) for k, value in pairs)
