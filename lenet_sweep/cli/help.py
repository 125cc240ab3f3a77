"""The text of --help: the groups, the options and the keys, with the comments in conf/."""

from __future__ import annotations

import textwrap

from lenet_sweep.config.files import config_folder
from lenet_sweep.config.registry import GROUPS, RECIPES
from lenet_sweep.core.text import format_setting
from lenet_sweep.executors.options import describe_options
from lenet_sweep.executors.registry import EXECUTORS

WIDTH = 120  # characters of a line of --help

HELP = """\
lenet-sweep: LeNet5 hyperparameter sweeps on MNIST. List values and get a ranked table.

  python -m lenet_sweep                                    one cell (a row of the table)
  python -m lenet_sweep -m lr=1e-1,1e-2 batch=32,64,128    a grid of 6 cells
  python -m lenet_sweep -m recipe=ce_sgd,nll_adam          two pairs of loss and optimizer
  python -m lenet_sweep -m grid/lr=report grid/batch=report epochs=100,200
  python -m lenet_sweep -m +study=report seed=0,1,2        reproduce the tables of the report

Groups, selected by name:
{groups}
  recipe      {recipes}: pairs of a loss and an optimizer
  dataset     {datasets}; dataset.root=FOLDER is the folder with the files
              (default: a cache folder), dataset.limit=N trains on the first N images,
              dataset.size=N scales the images of an image_folder to N x N pixels (default: 28)
  --models FILE.py   adds the models that a Python file registers (docs/extending.md)
  grid/KEY=report   the values of KEY (lr, batch or epochs) in the tables of the report
  +study=report   every row of the tables of the report, with a verdict; you can also sweep keys
              that the rows leave unset
  "The report" is the student report that lenet-sweep grew out of (docs/reproducing-a-report.md).

Options, with their defaults. An option applies only to the choice above it:
{options}

Keys, with their defaults (conf/config.yaml):
{keys}

The launcher determines where runs are trained (docs/scaling-out.md). Set its options with
hydra.launcher.KEY=VALUE:
{launchers}
  hydra/launcher=basic, joblib, submitit_slurm, ...   Hydra's own launchers; each cell is a job

Exit status: 0 every cell succeeded; 1 some cells failed (the table is still written), the disk is
full, the output cannot be written, or the images cannot be downloaded; 2 the command is wrong; 141
the reader of the output exited, as in `| head` (the files are still written). --hydra-help lists
Hydra's own flags.
"""


def help_text() -> str:
    """The text of --help. The comments of conf/config.yaml document the keys."""
    config = (config_folder() / "config.yaml").read_text(encoding="utf-8")
    keys = config[config.index("# What is trained") : config.index("\nhydra:")]
    options = []
    for group in (name for name, group in GROUPS.items() if group.has_options):
        for choice, spec in GROUPS[group].choices.items():
            if not spec.is_loaded or not spec.options:
                continue
            options.append(f"  {group}={choice}")
            for name, option in spec.options.items():
                setting = f"{group}.{name}={format_setting(option.default)}"
                options.append(f"    {setting:<40} {option.help}; {option.allowed}")
    groups = {name: ", ".join(group.choices) for name, group in GROUPS.items()}
    datasets = groups.pop("dataset")
    return HELP.format(
        groups="\n".join(
            textwrap.fill(f"  {name:<11} {choices}", WIDTH, subsequent_indent=" " * 14)
            for name, choices in groups.items()
        ),
        datasets=datasets,
        recipes=", ".join(RECIPES),
        options="\n".join(options),
        keys="\n".join("  " + line for line in keys.strip().splitlines()),
        launchers="\n".join(map(_launcher_help, EXECUTORS.names())),
    )


def _launcher_help(name: str) -> str:
    """An executor's description and its options with their help."""
    options = EXECUTORS.find(name).options
    description = (options.__doc__ or "").partition("\n")[0]
    first = f"  hydra/launcher=lenet_{name:<6} {description}"
    return "\n".join([first, *(f"      .{line}" for line in describe_options(options))])
