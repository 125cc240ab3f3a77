"""Other Hydra applications in the same environment are not affected by lenet-sweep."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# WITHOUT hides lenet-sweep from the search for plugins, as if it were not installed.
APP = """
import os, pkgutil
if os.environ.get("WITHOUT"):
    listed = pkgutil.iter_modules
    pkgutil.iter_modules = lambda path, prefix: (
        module for module in listed(path, prefix) if "lenet_sweep" not in module.name
    )
elif os.environ.get("USED"):
    import lenet_sweep, lenet_sweep.report.page_files
import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback

class Recorder(Callback):
    def on_multirun_start(self, config, **kwargs):
        print("called", config.hydra.sweeper._target_, flush=True)

@hydra.main("conf", "config", version_base="1.3")
def main(cfg):
    print(cfg, HydraConfig.get().job.num, flush=True)

if __name__ == "__main__":
    main()
"""
FILES = {
    "app.py": APP,
    "conf/config.yaml": "defaults: [_self_, grid: a, loss: mine, optimizer: big]\nlr: 1\n",
    "conf/grid/a.yaml": "x: 1\n",
    "conf/grid/b.yaml": "x: 2\n",
    "conf/loss/mine.yaml": "w: 1\n",
    "conf/loss/nll.yaml": "w: 2\n",
    "conf/optimizer/big.yaml": "lr: 10\n",
    "conf/recipe/nll_adam.yaml": "r: 1\n",
    "conf/study/report.yaml": "s: 1\n",
    "conf/hydra/launcher/lenet_local.yaml": "defaults: [basic]\n",
}


@pytest.fixture
def app(tmp_path: Path):
    """Run another application; returns its status and streams without times and durations."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)

    def run(*arguments: str, **env: str) -> list[object]:
        result = subprocess.run(
            [sys.executable, "app.py", *arguments],
            cwd=tmp_path, env=os.environ | env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        times = r"\[20.*?\]|\d\d-\d\d-\d\d|\d\d:\d\d:\d\d|Profiling information[^=]*"
        return [
            result.returncode,
            re.sub(times, "", result.stdout),
            re.sub(times, "", result.stderr),
        ]

    return run


LINES = [
    ("-m +a=1,2", "'a': 2} 1"),
    ("-m +a=1 hydra/sweeper=lenet_grid", "Could not find 'hydra/sweeper/lenet_grid'"),
    ("-m grid=a,b loss=mine,nll +recipe=nll_adam +study=report", "'w': 2}"),
    ("-m loss=nll hydra/launcher=lenet_local", "'w': 2}"),
    ("-m lr=1,2 +hydra.callbacks.recorder._target_=__main__.Recorder", "BasicSweeper"),
    ("--help", "loss: mine, nll"),
]
MORE_LINES = [
    ("-m +a=1,2 hydra/launcher=joblib hydra.launcher.n_jobs=1", "'a': 2} 1"),
    ("--cfg all", "BasicSweeper"),
    ("--info", "lr: 1"),
    ("--info plugins", "JoblibLauncher"),
    ("--hydra-help", "--multirun"),
    ("-sc query=bash", "hydra/launcher=joblib"),
]


@pytest.mark.parametrize(
    ("line", "expected"),
    [*LINES, *(pytest.param(*each, marks=pytest.mark.slow) for each in MORE_LINES)],
)
def test_other_application_is_unchanged(app, line: str, expected: str) -> None:
    """Flags, groups and plugins of another application work as without lenet-sweep."""
    words = line.split()
    env = {"COMP_LINE": "python app.py hydra/launcher=", "COMP_POINT": "0"}
    result = app(*words, **env)
    assert result == app(*words, **env, WITHOUT="yes")
    assert expected in f"{result[1]}{result[2]}"
    assert "LenetGrid" not in f"{result[1]}{result[2]}"


def test_importing_lenet_sweep_keeps_the_sweeper(app) -> None:
    """Importing lenet_sweep for its Python interface does not change Hydra."""
    assert app("-m", "+a=1,2", USED="yes") == app("-m", "+a=1,2", WITHOUT="yes")
