"""The models of users: classes as choices of the config group `model`.

A class is added by `sweep(model=MyNet)`; by `register_model` in a file given as --models or in the
environment variable LENET_SWEEP_MODELS; or by an entry point of another package in the group
"lenet_sweep.models", whose name is that of the model and whose value is the module that registers
it. Such a module is imported when its model is used. The arguments of the class are the options of
the choice.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from lenet_sweep.config.choice_options import ChoiceOption
from lenet_sweep.config.files import ConfigFile
from lenet_sweep.config.model_import import MOVE, SCRIPT, first_sweep_line, import_module, script
from lenet_sweep.config.model_source import ModelLocation, locate
from lenet_sweep.config.registry import (
    GROUPS,
    MODEL_GROUPS,
    OPTION_DEFAULTS,
    ChoiceSpec,
    Raw,
    choice_name,
)
from lenet_sweep.core.cells import NETWORK_SETTINGS, Cell
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value
from lenet_sweep.machine.installed import installed_entry_points

ENTRY_POINTS = "lenet_sweep.models"
VARIABLE = "LENET_SWEEP_MODELS"  # files, separated like the folders of PATH
C = TypeVar("C", bound=type)

_registered: dict[str, type] = {}  # by `register_model`
_files: set[Path] = set()  # that were imported by `_add_file`
_locations: dict[str, ModelLocation] = {}  # of the models of cells, by digest


def register_model(name: str) -> Callable[[C], C]:
    """Decorator that makes a subclass of torch.nn.Module available as model=NAME.

    name: letters, digits, '_' and '-'. Raises UsageError for any other name, and for the name of a
    model that comes with this package.
    """
    _check_name(name)

    def register(cls: C) -> C:
        _registered[name] = cls
        return cls

    return register


def _check_name(name: str) -> None:
    """Raise UsageError for a name that a model of a user cannot have."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,59}", name):
        raise UsageError(
            f"model={format_value(name)}: the name of a model must be up to 60 letters, digits, "
            "'_' or '-', starting with a letter or '_'"
        )
    spec = GROUPS["model"].choices.get(name)
    if spec and spec.shipped:
        raise UsageError(f"model={name} already exists in lenet-sweep; choose another name")


@dataclass(frozen=True)
class ModelSpec(ChoiceSpec):
    """A model of a user as a choice. cls: None before its module is imported."""

    cls: type | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether its options are known without importing a module."""
        return self.cls is not None

    def to_node(self) -> Raw:
        """The name, and the options with their defaults."""
        name: Raw = {"name": self.file.values["name"]}
        return name | {option: spec.default for option, spec in self.options.items()}


class _OptionsOfModule(Mapping[str, ChoiceOption]):
    """The options of a model whose module is imported when they are first needed."""

    def __init__(self, name: str, module: str) -> None:
        self.name, self.module = name, module

    def _load(self) -> Mapping[str, ChoiceOption]:
        if self.name not in _registered:
            import_module(self.module, f"model={self.name}: the module {self.module}")
        if self.name not in _registered:
            raise UsageError(
                f"model={self.name}: the module {self.module} does not register it; put "
                f'@register_model("{self.name}") above its class'
            )
        return _add(self.name, _registered[self.name]).options

    def __getitem__(self, option: str) -> ChoiceOption:
        return self._load()[option]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())


# ---------------------------------------------------------------- choices


def add_models() -> None:
    """Add the registered models, those of other packages, and those of files in VARIABLE.

    Raises UsageError for a file that cannot be imported or registers no model.
    """
    for path in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        _add_file(Path(path))
    for name, cls in list(_registered.items()):
        _add(name, cls)
    choices = GROUPS["model"].choices
    for name, module in _modules_of_packages().items():
        if name not in choices:
            file = ConfigFile(Path(), "", _values(name), {}, "")
            choices[name] = ModelSpec(file, "", _OptionsOfModule(name, module), shipped=False)


@cache
def _modules_of_packages() -> dict[str, str]:
    """The module of each model that another package adds, by name."""
    return {entry.name: entry.value for entry in installed_entry_points(ENTRY_POINTS)}


def _add_file(path: Path) -> None:
    """Import a file, which must register a model. Raises UsageError, one line."""
    path = path.expanduser().absolute()
    if path in _files:
        return
    shown = f"--models {format_value(path)}"
    if not path.is_file():
        raise UsageError(f"{shown}: there is no such file")
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise UsageError(f"{shown}: must be a Python file with a name such as my_model.py")
    if path.stem in {*sys.modules, *sys.stdlib_module_names, "torch", "torchvision"}:
        raise UsageError(f"{shown}: a module named {path.stem} already exists; rename the file")
    before = dict(_registered)
    sys.path.append(str(path.parent))
    import_module(path.stem, shown, path)
    if _registered == before:
        raise UsageError(
            f'{shown}: registers no model; put @register_model("NAME") above the class, and '
            "import it with: from lenet_sweep import register_model"
        )
    _files.add(path)


def names_of_classes(model: Any) -> Any:
    """The value of the keyword `model`, with classes replaced by their names.

    Each class becomes a choice. Raises UsageError for a value that is not a name or a class, for a
    class that workers cannot import, and for two classes with the same name.
    """
    if not isinstance(model, (list, tuple)):
        return _name_of(model)
    names = [_name_of(value) for value in model]
    classes: dict[Any, Any] = {}
    for name, value in zip(names, model, strict=True):
        if isinstance(value, type) and classes.setdefault(name, value) is not value:
            raise UsageError(f"model={name}: two classes have this name; rename one of them")
    return names


def _name_of(value: Any) -> Any:
    if isinstance(value, Mapping):  # the class with its arguments
        return dict(value) | {"name": _name_of(value.get("name"))}
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    torch = sys.modules.get("torch")
    base = torch.nn.Module if torch else ()
    shown = format_value(getattr(value, "__name__", type(value).__name__))
    if isinstance(value, base):
        raise UsageError(
            f"model={shown}(...): give the class, as in model={shown}; its arguments are keys, "
            "such as model.NAME=VALUE"
        )
    if not (isinstance(value, type) and issubclass(value, base)):
        raise UsageError(
            f"model={shown}: must be the name of a model, or a subclass of torch.nn.Module; its "
            "arguments are keys, such as model.NAME=VALUE"
        )
    name = name_of_class(value)
    _check_name(name)
    _file_of(value)
    _add(name, value)
    return name


def name_of_class(cls: type) -> str:
    """The name that selects the class of a model: the registered one, or else that of the class."""
    return next((name for name, other in _registered.items() if other is cls), cls.__name__)


def _add(name: str, cls: type) -> ModelSpec:
    """Make a class a choice, with its arguments as options. Raises UsageError."""
    spec = GROUPS["model"].choices.get(name)
    if not isinstance(spec, ModelSpec) or spec.cls is not cls:
        text = (cls.__doc__ or "").strip().partition("\n")[0]
        options = _options_of(name, cls)
        file = ConfigFile(Path(), "", _values(name), {}, text)
        spec = ModelSpec(file, "", options, shipped=False, cls=cls)
        GROUPS["model"].choices[name] = spec
        OPTION_DEFAULTS.update({f"model.{key}": option.default for key, option in options.items()})
    return spec


def _values(name: str) -> dict[str, Any]:
    """The keys that a file in conf/model sets."""
    return {"name": name, **{key: choice_name(NETWORK_SETTINGS[key]) for key in MODEL_GROUPS}}


def _options_of(name: str, cls: type) -> dict[str, ChoiceOption]:
    """The arguments of a class as options: those with a default that is a bool, int, float or str.

    The annotation `float` makes an argument with a whole number as its default one for any number.
    Raises UsageError for an argument without a default, and for one that is called `name`.
    """
    options: dict[str, ChoiceOption] = {}
    for argument in inspect.signature(cls).parameters.values():
        default, key = argument.default, f"model.{argument.name}"
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            continue
        if default is argument.empty:
            raise UsageError(
                f"model={name}: the argument {argument.name} of {cls.__name__} needs a default, "
                f"such as {argument.name}=64"
            )
        if argument.kind == argument.POSITIONAL_ONLY or type(default) not in (
            bool,
            int,
            float,
            str,
        ):
            continue
        if argument.name == "name":
            raise UsageError(
                f"model={name}: the argument 'name' of {cls.__name__} conflicts with the key "
                "model.name; rename it"
            )
        if type(default) is int and argument.annotation in (float, "float"):
            default = float(default)
        option = ChoiceOption(default, f"argument of {cls.__name__}")
        options[argument.name] = ChoiceOption(option.check(key, default), option.help)
    return options


# ---------------------------------------------------------------- locations


def source_digest(name: str) -> str:
    """The digest of the source of a model, for `Cell.model_source`; "" for one of this package.

    Raises UsageError if workers cannot import its class.
    """
    spec = GROUPS["model"].choices[name]
    if not isinstance(spec, ModelSpec):
        return ""
    if isinstance(spec.options, _OptionsOfModule):
        len(spec.options)  # imports its module
        return source_digest(name)
    assert spec.cls is not None
    location = _locate(spec.cls)
    _locations[location.digest] = location
    return location.digest


def digest_of_class(cls: type) -> str:
    """The digest of the source of a class, as in `Cell.model_source`.

    Raises UsageError if workers cannot import the class.
    """
    return _locate(cls).digest


def class_of(name: str) -> type | None:
    """The class of a user's model; None if its module was not imported."""
    spec = GROUPS["model"].choices.get(name)
    return spec.cls if isinstance(spec, ModelSpec) else None


def find_class(name: str, files: Iterable[str]) -> type:
    """The class that is registered as a model of this name, in these files, in those of VARIABLE,
    or by a package.

    Raises UsageError if there is none.
    """
    add_models()
    for file in files:
        _add_file(Path(file))
    add_models()
    if name in _modules_of_packages() and class_of(name) is None:
        len(GROUPS["model"].choices[name].options)  # imports its module
    cls = class_of(name)
    if cls is None:
        raise UsageError(
            f"model={format_value(name)}: add --models FILE.py with the file that registers it"
        )
    return cls


def _locate(cls: type) -> ModelLocation:
    path = _file_of(cls)
    is_script = _is_in_script(cls)
    line = first_sweep_line() if is_script else None
    try:
        if line is not None and inspect.getsourcelines(cls)[1] > line:
            raise UsageError(
                f"model={cls.__name__}: the script calls sweep() before it defines the class, so "
                f"workers cannot import it; {MOVE}"
            )
        return locate(
            SCRIPT if is_script else cls.__module__,
            cls.__qualname__,
            path,
            by_file=is_script or path in _files,
            before_line=line,
        )
    except (OSError, SyntaxError) as error:
        raise UsageError(f"model={cls.__name__}: cannot read {path}: {error}") from error


def _is_in_script(cls: type) -> bool:
    """Whether a class is in the script of this process, or of one that multiprocessing started."""
    return cls.__module__ in ("__main__", SCRIPT)


def _file_of(cls: type) -> Path:
    """The file that defines a class. Raises UsageError if workers cannot import the class."""
    module = sys.modules.get(cls.__module__)
    path = script() if _is_in_script(cls) else getattr(module, "__file__", None)
    value: Any = module
    for part in cls.__qualname__.split("."):
        value = getattr(value, part, None)
    problem = ""
    if "<locals>" in cls.__qualname__:
        problem = "it is defined inside a function"
    elif path is None or Path(path).suffix != ".py" or not Path(path).is_file():
        problem = "it is not defined in a Python file"
    elif value is not cls:
        problem = f"{cls.__module__}.{cls.__qualname__} now names another object"
    if problem:
        raise UsageError(
            f"model={cls.__name__}: workers cannot import the class, because {problem}; {MOVE}"
        )
    return Path(path or "").absolute()


def locations_of(cells: Iterable[Cell]) -> dict[str, ModelLocation]:
    """Where workers import the models of these cells from, by digest."""
    digests = {cell.model_source for cell in cells} - {""}
    return {digest: _locations[digest] for digest in digests if digest in _locations}


def location_of(cell: Cell) -> ModelLocation | None:
    """Where to import the model of a cell from; None if this process does not know."""
    return _locations.get(cell.model_source)


def add_locations(locations: Mapping[str, ModelLocation]) -> None:
    """Add the locations that a worker gets from the process of the sweep."""
    _locations.update(locations)
