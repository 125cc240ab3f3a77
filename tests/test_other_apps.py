"""Other Hydra applications of the same environment, with lenet-sweep installed and without."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Without: the search for plugins does not see it, as where it is not installed.
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

class Told(Callback):
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
    """Run another application; its status, output and errors, without what differs by chance."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)

    def run(*arguments: str, **env: str) -> list[object]:
        done = subprocess.run(
            [sys.executable, "app.py", *arguments],
            cwd=tmp_path, env=os.environ | env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        times = r"\[20.*?\]|\d\d-\d\d-\d\d|\d\d:\d\d:\d\d|Profiling information[^=]*"
        return [done.returncode, re.sub(times, "", done.stdout), re.sub(times, "", done.stderr)]

    return run


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-m +a=1,2", "'a': 2} 1"),
        ("-m +a=1,2 hydra/launcher=joblib hydra.launcher.n_jobs=1", "'a': 2} 1"),
        ("-m +a=1 hydra/sweeper=lenet_grid", "Could not find 'hydra/sweeper/lenet_grid'"),
        ("-m grid=a,b loss=mine,nll +recipe=nll_adam +study=report", "'w': 2}"),
        ("-m loss=nll hydra/launcher=lenet_local", "'w': 2}"),
        ("-m lr=1,2 +hydra.callbacks.told._target_=__main__.Told", "BasicSweeper"),
        ("--cfg all", "BasicSweeper"),
        ("--info", "lr: 1"),
        ("--info plugins", "JoblibLauncher"),
        ("--hydra-help", "--multirun"),
        ("--help", "loss: mine, nll"),
        ("-sc query=bash", "hydra/launcher=joblib"),
    ],
)
def test_another_application_does_not_notice_lenet_sweep(app, line: str, said: str) -> None:
    """Every flag, group and plugin of another application is what it is without lenet-sweep."""
    words = line.split()
    env = {"COMP_LINE": "python app.py hydra/launcher=", "COMP_POINT": "0"}
    found = app(*words, **env)
    assert found == app(*words, **env, WITHOUT="yes")
    assert said in f"{found[1]}{found[2]}"
    assert "LenetGrid" not in f"{found[1]}{found[2]}"


def test_an_application_that_calls_sweep_keeps_its_own_sweeper(app) -> None:
    """Importing lenet_sweep, for its Python interface, changes nothing of Hydra either."""
    assert app("-m", "+a=1,2", USED="yes") == app("-m", "+a=1,2", WITHOUT="yes")
