"""The config groups and their choices, such as the optimizers, read from conf/.

GROUPS has an entry for each group. A file of conf/<group> defines a choice: its class in torch, if
it has one, its options and their defaults. The comment behind an option is its help and states its
limits. This module does not import torch: classes are given by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from lenet_sweep.config.choice_options import ChoiceOption, parse_options
from lenet_sweep.config.files import ConfigFile, config_folder, read_file, read_user_file
from lenet_sweep.config.torch_classes import (
    TorchSource,
    try_initializer,
    try_pooling,
    try_scheduler,
)
from lenet_sweep.core.cells import (
    OPTIONAL_COLUMNS,
    OPTIONAL_FIELDS,
    Cell,
    Choice,
    OptionValue,
    dataset_from_json,
)
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.plans import Run
from lenet_sweep.data.catalog import added_datasets

Raw = dict[str, Any]


@dataclass(frozen=True)
class ChoiceSpec:
    """A choice of a config group, as its file defines it.

    torch_class: the name of a class or function in torch; "" if there is none. shipped: whether it
    comes with this package.
    """

    file: ConfigFile
    torch_class: str
    options: Mapping[str, ChoiceOption]
    shipped: bool

    @property
    def help(self) -> str:
        """What it is, in a sentence."""
        return self.file.help

    @property
    def is_loaded(self) -> bool:
        """Whether its options are known without importing a module."""
        return True

    def to_node(self) -> Raw:
        """A copy of the file's content, as Hydra composes it."""
        return {k: list(v) if isinstance(v, list) else v for k, v in self.file.values.items()}


@dataclass(frozen=True)
class Group:
    """A config group: the key that selects one of its choices, and the folder of their files.

    torch: where the classes of its choices are in torch; None if it has none. A --config-dir can
        add to a group with classes.
    has_options: whether its choices have options, which are keys such as 'optimizer.momentum'.
    of_model: whether the file of the model names the default.
    per_sweep: whether it applies to the whole sweep, and is not a setting of a cell.
    file_checks: the keys, besides name and class, that only a file sets, and the check of each.
    file_defaults: the values of those of these keys that a file may leave out.
    recorded: those of these keys that change the results of a choice.
    first: the choices that come first in lists; the others follow by name.
    choices: by name.
    """

    name: str
    torch: TorchSource | None = None
    has_options: bool = False
    of_model: bool = False
    per_sweep: bool = False
    file_checks: Mapping[str, Callable[[ConfigFile], None]] = field(default_factory=dict)
    file_defaults: Mapping[str, str] = field(default_factory=dict)
    recorded: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    choices: dict[str, ChoiceSpec] = field(default_factory=dict)

    @property
    def file_keys(self) -> tuple[str, ...]:
        """The keys that only a file sets."""
        return ("name", *(["class"] if self.torch else []), *self.file_checks)

    def read_choices(self) -> None:
        """Read the choices that come with this package."""
        for path in _files(self.name, self.first):
            self.choices[path.stem] = self._choice(read_file(path), shipped=True)

    def add(self, file: ConfigFile) -> None:
        """Add a choice from a file of a user, or replace it.

        A file without a class adds nothing: it only sets options of an existing choice. Raises
        UsageError for an invalid file, and for one with the name of a choice of this package.
        """
        path, name = file.path, file.path.stem
        if "class" not in file.values:
            return
        if name in self.choices and self.choices[name].shipped:
            raise UsageError(
                f"{path}: {self.name}={name} already exists in lenet-sweep; rename the file"
            )
        if _text(file, "name") != name:
            raise file.error("name", f"must be {name}, the name of the file")
        choice = self.choices[name] = self._choice(file, shipped=False)
        for option, spec in choice.options.items():
            OPTION_DEFAULTS.setdefault(f"{self.name}.{option}", spec.default)

    def _choice(self, file: ConfigFile, *, shipped: bool) -> ChoiceSpec:
        for check in self.file_checks.values():
            check(file)
        torch_class = _text(file, "class") if "class" in file.values else ""
        names = [key for key in file.values if key not in self.file_keys]
        if self.has_options:
            return ChoiceSpec(file, torch_class, parse_options(file, names), shipped)
        if torch_class and names:
            raise UsageError(
                f"{file.path}: {min(names)}: {self.name} files cannot have options; remove it"
            )
        return ChoiceSpec(file, torch_class, {}, shipped)

    def check_class(self, choice: ChoiceSpec) -> None:
        """Check that the class of a choice exists in torch and takes its options.

        Raises UsageError otherwise.
        """
        assert self.torch is not None
        defaults = {name: option.default for name, option in choice.options.items()}
        self.torch.check(choice.file, choice.torch_class, defaults)


_EXAMPLES = {
    "name": "name: my_rmsprop",
    "class": "class: RMSprop",
    "input": "input: logits",
    "activation": "activation: relu",
    "pool": "pool: max",
}


def _text(file: ConfigFile, key: str) -> str:
    """The value of a key of a file. Raises UsageError if it is not text."""
    value = file.values.get(key)
    if not isinstance(value, str):
        raise file.error(key, f"must be text, such as {_EXAMPLES[key]}")
    return value


def _check_default_lr(file: ConfigFile) -> None:
    lr = file.values.get("default_lr")
    if isinstance(lr, bool) or not isinstance(lr, (int, float)) or lr <= 0:
        raise file.error("default_lr", "must be a number above 0")


def _check_input(file: ConfigFile) -> None:
    if _text(file, "input") not in ("logits", "log_probabilities"):
        raise file.error("input", "must be one of logits, log_probabilities")


def _check_target(file: ConfigFile) -> None:
    if file.values.get("target", "classes") not in ("classes", "one_hot"):
        raise file.error("target", "must be one of classes, one_hot")


def _check_horizon(file: ConfigFile) -> None:
    horizon = file.values.get("horizon", False)
    if "class" not in file.values:
        if not isinstance(horizon, bool):
            raise file.error("horizon", "must be true or false")
    elif horizon is not False and not isinstance(horizon, str):
        raise file.error(
            "horizon",
            "must be false, or the name of the argument that takes the number of epochs or steps",
        )


def _check_interval(file: ConfigFile) -> None:
    if file.values.get("interval", "epoch") not in ("epoch", "step"):
        raise file.error("interval", "must be one of epoch, step")


def _check_default(file: ConfigFile, group: str) -> None:
    if (name := _text(file, group)) not in GROUPS[group].choices:
        raise file.error(group, f"must be one of {', '.join(GROUPS[group].choices)}, not {name}")


def _files(group: str, first: tuple[str, ...] = ()) -> list[Path]:
    """The files of a config group in conf/, in the order of lists."""

    def rank(path: Path) -> tuple[int, str]:
        return (first.index(path.stem) if path.stem in first else len(first)), path.stem

    return sorted((config_folder() / group).glob("*.yaml"), key=rank)


# The report's script gives log-probabilities to CrossEntropyLoss, which applies log-softmax again.
# Apart from rounding, this is the identity. Here CrossEntropyLoss gets the logits, which makes the
# two losses equal to the last bit and saves two passes.
GROUPS: Mapping[str, Group] = {
    group.name: group
    for group in (
        Group(
            "loss",
            torch=TorchSource("nn", "Module", passed=("reduction",)),
            has_options=True,
            file_checks={"input": _check_input, "target": _check_target},
            file_defaults={"target": "classes"},
            recorded=("input", "target"),
            first=("cross_entropy", "nll", "multi_margin", "mse", "huber", "binary_cross_entropy"),
        ),
        Group(
            "optimizer",
            torch=TorchSource("optim", "Optimizer", passed=("params", "lr")),
            has_options=True,
            file_checks={"default_lr": _check_default_lr},
            first=("sgd", "adam"),
        ),
        Group(
            "activation",
            torch=TorchSource("nn", "Module"),
            of_model=True,
            first=("relu", "tanh", "sigmoid", "leaky_relu", "elu", "gelu", "silu"),
        ),
        Group(
            "model",
            has_options=True,
            file_checks={
                "activation": partial(_check_default, group="activation"),
                "pool": partial(_check_default, group="pool"),
            },
        ),
        Group(
            "pool",
            torch=TorchSource("nn", "Module", passed=("kernel_size",), trial=try_pooling),
            has_options=True,
            of_model=True,
            first=("max", "avg"),
        ),
        Group(
            "init",
            torch=TorchSource("nn.init", passed=("tensor",), trial=try_initializer),
            has_options=True,
            first=("torch", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"),
        ),
        Group("augment", has_options=True, first=("none", "shift", "affine", "elastic", "erase")),
        Group(
            "schedule",
            torch=TorchSource(
                "optim.lr_scheduler",
                "LRScheduler",
                passed=("optimizer",),
                passed_keys=("horizon",),
                trial=try_scheduler,
            ),
            has_options=True,
            file_checks={"horizon": _check_horizon, "interval": _check_interval},
            file_defaults={"horizon": "false", "interval": "epoch"},
            recorded=("horizon", "interval"),
            first=("constant", "step", "multistep", "exponential", "cosine"),
        ),
        Group("dataset", first=("mnist", "fashion_mnist", "kmnist", "image_folder", "folder")),
        Group("search", has_options=True, per_sweep=True, first=("grid",)),
    )
}
for _group in sorted(GROUPS.values(), key=lambda group: group.name == "model"):
    _group.read_choices()
OPTION_GROUPS = tuple(g.name for g in GROUPS.values() if g.has_options and not g.per_sweep)
MODEL_GROUPS = tuple(group.name for group in GROUPS.values() if group.of_model)
CLASS_GROUPS = tuple(group.name for group in GROUPS.values() if group.torch)

# Every option of every choice, also of stored cells, by key, such as 'optimizer.momentum', with its
# default in the first choice that has it. `option_default` is the default in another choice.
OPTION_DEFAULTS: dict[str, OptionValue] = {}
for _group in GROUPS.values():
    for _choice in _group.choices.values():
        for _name, _option in _choice.options.items():
            OPTION_DEFAULTS.setdefault(f"{_group.name}.{_name}", _option.default)


def option_default(key: str, choice: str) -> OptionValue | None:
    """The default of an option, such as 'optimizer.momentum', in one of the choices of its group.

    For a choice that is not on this machine, or does not have the option, it is the default in the
    first choice that has it; None if there is none.
    """
    group, _, option = key.partition(".")
    spec = GROUPS[group].choices.get(choice)
    if spec and option in spec.options:
        return spec.options[option].default
    return OPTION_DEFAULTS.get(key)


def option_limits(key: str, choice: str) -> tuple[float | None, float | None]:
    """The smallest and the largest value of an option in a choice; None without a limit."""
    group, _, option = key.partition(".")
    spec = GROUPS[group].choices.get(choice)
    if not spec or option not in spec.options:
        return None, None
    return spec.options[option].min, spec.options[option].max


def _recipe(path: Path) -> tuple[str, str]:
    selected: dict[str, str] = {}
    for entry in read_file(path).values["defaults"]:
        selected |= {key.removeprefix("override /"): name for key, name in entry.items()}
    return selected["loss"], selected["optimizer"]


# The pairs of loss and optimizer that the report compares.
RECIPES: Mapping[str, tuple[str, str]] = {path.stem: _recipe(path) for path in _files("recipe")}


def add_folder(folder: Path) -> None:
    """Add the choices in the files of a folder (--config-dir).

    Raises UsageError for an invalid file, and for a file with the name of one in conf/. The class
    is checked only when a cell uses it, since torch takes seconds to import.
    """
    for name in CLASS_GROUPS:
        for path in sorted((folder / name).glob("*.yaml")):
            GROUPS[name].add(read_user_file(path))


def add_datasets() -> None:
    """Add the datasets of other packages to the config group `dataset`."""
    choices = GROUPS["dataset"].choices
    template = choices["mnist"]
    for name in added_datasets():
        file = replace(template.file, values=template.file.values | {"name": name})
        choices.setdefault(name, replace(template, file=file, shipped=False))


def all_choices() -> dict[str, set[str]]:
    """The names of all choices of each group with options."""
    return {name: {*GROUPS[name].choices} for name in OPTION_GROUPS}


def classes_of(names: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The torch classes of the choices that do not come with this package, for `Cell.classes`.

    names: the choice of each group. Raises UsageError for a class that does not exist in torch or
    does not take the options.
    """
    classes = []
    for group, name in names:
        choice = GROUPS[group].choices[name]
        if choice.torch_class and not choice.shipped:
            GROUPS[group].check_class(choice)
            classes.append((group, choice.torch_class))
            # Defaults are not recorded, so that a key added later does not change existing ids.
            defaults = GROUPS[group].file_defaults
            for key in GROUPS[group].recorded:
                value = _to_text(choice.file.values.get(key, defaults.get(key)))
                if value != defaults.get(key):
                    classes.append((f"{group}.{key}", value))
    return tuple(classes)


def _to_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def torch_class(cell: Cell, group: str) -> str:
    """The class of a cell's choice in a group, such as the optimizer: its name in torch.

    "" if it has none, such as the schedules of this package.
    """
    stored = dict(cell.classes).get(group)
    return stored or GROUPS[group].choices[choice_name(getattr(cell, group))].torch_class


def choice_name(value: str | Choice) -> str:
    """The name of a choice that a cell holds, with or without options."""
    return value if isinstance(value, str) else value.name


def takes_logits(cell: Cell) -> bool:
    """Whether a cell's loss takes logits instead of log-probabilities."""
    return file_setting(cell, "loss", "input") == "logits"


def takes_one_hot(cell: Cell) -> bool:
    """Whether a cell's loss compares with one-hot vectors instead of class indices."""
    return file_setting(cell, "loss", "target") == "one_hot"


def file_setting(cell: Cell, group: str, key: str) -> str | None:
    """What the file of a cell's choice says about one of the keys that only a file sets."""
    classes = dict(cell.classes)
    if group in classes:  # its file may not be on this machine
        return classes.get(f"{group}.{key}", GROUPS[group].file_defaults.get(key))
    name = choice_name(getattr(cell, group))
    return _to_text(GROUPS[group].choices[name].file.values[key])


def default_of_model(model: Choice, group: str) -> str:
    """The choice of a group that a model has unless another one is selected."""
    return str(GROUPS["model"].choices[model.name].file.values[group])


def has_horizon(schedule: Choice) -> bool:
    """Whether a schedule depends on the total number of epochs."""
    return bool(GROUPS["schedule"].choices[schedule.name].file.values.get("horizon"))


def default_lr(optimizer: Choice) -> float | None:
    """The default learning rate of an optimizer; None if its file is not on this machine."""
    choice = GROUPS["optimizer"].choices.get(optimizer.name)
    return float(choice.file.values["default_lr"]) if choice else None


def make_choice(
    group: str,
    name: str,
    options: Mapping[str, OptionValue] | Iterable[tuple[str, OptionValue]] = (),
) -> Choice:
    """A choice of a group with options, for a cell. Options not given have their defaults.

    Raises UsageError for an unknown name or option.
    """
    choices = GROUPS[group].choices
    if name not in choices:
        raise UsageError(f"{group}={name}: must be one of {', '.join(choices)}")
    specs = choices[name].options
    given = dict(options)
    for option, value in given.items():
        if option not in specs:
            raise UsageError(
                f"{group}.{option}={value}: {name} has no such option; it takes {', '.join(specs)}"
            )
    defaults = tuple((option, spec.default) for option, spec in specs.items())
    values = tuple((option, given.get(option, default)) for option, default in defaults)
    return Choice(name, values, defaults)


def cell_from_json(values: Mapping[str, Any]) -> Cell:
    """The cell that `Cell.to_json` wrote. Raises KeyError, TypeError or UsageError otherwise."""
    values = {**OPTIONAL_FIELDS, **OPTIONAL_COLUMNS, **values}
    classes = tuple((group, name) for group, name in values["classes"])
    choices: dict[str, Any] = {}
    for group in OPTION_GROUPS:
        stored = values[group]
        if isinstance(stored, str):  # without changed options
            stored = {"name": stored, "options": (), "defaults": ()}
        options = _option_values(stored["options"])
        # Its file may not be on this machine.
        if group in dict(classes) or (group == "model" and values["model_source"]):
            defaults = _option_values(stored["defaults"])
            choices[group] = Choice(stored["name"], options, defaults)
            for option, default in defaults:
                OPTION_DEFAULTS.setdefault(f"{group}.{option}", default)
        else:
            choices[group] = make_choice(group, stored["name"], options)
    return Cell(
        **{f.name: values[f.name] for f in fields(Cell) if f.name not in _NESTED},
        **choices,
        dataset=dataset_from_json(values["dataset"]),
        classes=classes,
    )


_NESTED = (*OPTION_GROUPS, "dataset", "classes")


def run_from_json(values: Mapping[str, Any]) -> Run:
    """The run that `Run.to_json` wrote. Raises what `cell_from_json` raises."""
    return Run(cell_from_json(values["cell"]), tuple(values["snapshot_epochs"]))


def _option_values(pairs: Iterable[tuple[str, Any]]) -> tuple[tuple[str, OptionValue], ...]:
    return tuple((k, tuple(value) if isinstance(value, list) else value) for k, value in pairs)
