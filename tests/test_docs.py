"""The documentation: its commands, code, tables and test names are checked."""

import csv
import json
import re
from collections import Counter
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest
from examples import assert_planned, code_blocks, commands, run_python
from PIL import Image

from lenet_sweep.config import keys, registry
from lenet_sweep.core.text import format_setting

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
BLOCKS = {page: code_blocks(text) for page, text in PAGES.items()}
ALL_BLOCKS = [block for blocks in BLOCKS.values() for block in blocks]
ELSEWHERE = ("lenet_sweep.", "hydra/sweeper=optuna")  # in commands that other files test
COMMANDS = [c for c in commands(ALL_BLOCKS) if not any(text in c for text in ELSEWHERE)]


def test_the_pages_have_commands() -> None:
    """The tests below find the commands of the pages."""
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_short(page: str) -> None:
    """A page has at most 1,000 words, not counting its code and tables."""
    text = re.sub(
        r"^```.*?^```|<!--.*?-->|^\|.*?$", "", PAGES[page], flags=re.DOTALL | re.MULTILINE
    )
    assert len(text.split()) <= 1000


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_accepted(command: str, tmp_path: Path) -> None:
    """Every command on a page plans its cells, given the configuration files shown there."""
    for _, block in ALL_BLOCKS:
        if name := re.search(r"^# (my-configs/\S+|my_model.py)$", block, re.MULTILINE):
            (tmp_path / name[1]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name[1]).write_text(block)
    for part, animal in product(("train", "test"), ("cat", "dog")):  # the image folder of a command
        (tmp_path / "animals" / part / animal).mkdir(parents=True)
        Image.new("L", (28, 28)).save(tmp_path / "animals" / part / animal / "0.png")
    assert_planned(command, tmp_path)


def test_python_example_runs(tmp_path: Path, small_folder) -> None:
    """The Python example on the page about sweeping returns a table."""
    (code,) = (block for language, block in BLOCKS["sweeping.md"] if language == "python")
    run_python(code, tmp_path, small_folder())


@pytest.mark.slow
def test_model_example_runs(tmp_path: Path, small_folder) -> None:
    """The class on the page about extending is swept with lenet5."""
    blocks = [block for language, block in BLOCKS["extending.md"] if language == "python"]
    (module,) = (block for block in blocks if block.startswith("# my_model.py"))
    (code,) = (block for block in blocks if "import MLP" in block)
    (tmp_path / "my_model.py").write_text(module)
    run_python(code, tmp_path, small_folder())


def test_table_matches_example() -> None:
    """The table on the start page is that of outputs/example."""
    table = (ROOT / "outputs" / "example" / "results.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert "\n".join(rows) in PAGES["index.md"]


def test_every_key_is_documented() -> None:
    """The page about sweeping lists every key with its default."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:`(.*?)`)? \|", PAGES["sweeping.md"], re.MULTILINE))
    for key, value in keys.defaults().items():
        default = value["name"] if isinstance(value, dict) else value
        assert rows[key] == (default if isinstance(default, str) else json.dumps(default)), key


def test_modules_on_the_page_about_the_architecture_exist() -> None:
    """Its paths are those of modules and folders, and its names are defined in these modules."""
    text = PAGES["architecture.md"]
    paths = re.findall(r"`((?:[a-z]+/)*\w+\.(?:py|yaml)|conf(?:/\w+)?)`", text)
    assert len(paths) > 25
    for path in paths:
        assert (ROOT / "lenet_sweep" / path).exists() or (ROOT / path).exists(), path
    text = re.sub(r"`[\w/]+\.(py|yaml|csv)`", "", text)
    names = re.findall(r"`((?:[a-z_]+\.)+)(\w+)`", text)
    assert len(names) > 7
    for module, name in names:
        assert hasattr(import_module(f"lenet_sweep.{module[:-1]}"), name), module + name
    sources = "".join(path.read_text() for path in (ROOT / "lenet_sweep").rglob("*.py"))
    for name in re.findall(r"`(?:[A-Z]\w+\.)?(\w+)`", text):
        is_folder = (ROOT / "lenet_sweep" / name).is_dir() or (ROOT / name).is_dir()
        assert (
            is_folder
            or name in ("class", "lenet_sweep")
            or re.search(rf"^\s*(?:def|class) {name}\b", sources, re.MULTILINE)
        ), name


def test_every_choice_is_documented() -> None:
    """The page about sweeping lists the choices of each group, in the order of --help."""
    for group in registry.GROUPS:
        (row,) = re.findall(rf"^\| `{group}` \|.*", PAGES["sweeping.md"], re.MULTILINE)
        choices = [f"`{name}`" for name in registry.GROUPS[group].choices]
        assert ", ".join(choices) in row, group


@pytest.mark.parametrize("group", [*registry.OPTION_GROUPS, "search"])
def test_options_match_files(group: str) -> None:
    """The tables of options on the pages are those of the files in conf/."""
    rows = []
    for key in registry.OPTION_DEFAULTS:
        if not key.startswith(f"{group}."):
            continue
        option = key.removeprefix(f"{group}.")
        names: dict[tuple[str, str], list[str]] = {}  # by default and meaning
        for name in keys.owners(key):
            spec = registry.GROUPS[group].choices[name].options[option]
            needs = [f"`{r.option} {r.comparison} {r.value:g}`" for r in spec.requires]
            meaning = spec.help + (f"; requires {' and '.join(needs)}" if needs else "")
            names.setdefault((format_setting(spec.default), meaning), []).append(name)
        for (default, meaning), owners in names.items():
            rows.append(f"| `{option}` | {', '.join(owners)} | {default} | {meaning} |")
    page = PAGES["search.md" if group == "search" else "settings.md"]
    assert "\n" + "\n".join(rows) + "\n" in page


def test_named_tests_exist() -> None:
    """Every test that a page names exists."""
    names = {
        name for text in PAGES.values() for name in re.findall(r"\btest_\w+\.py(?:::\w+)?", text)
    }
    assert names
    for name in names:
        file, _, function = name.partition("::")
        assert f"def {function}" in (ROOT / "tests" / file).read_text(), name


def test_measured_searches_match_file() -> None:
    """The table of replayed searches has the numbers of the benchmark."""
    table = PAGES["search.md"].partition("## Measurements")[2].partition("##")[0]
    rows = re.findall(r"^\| (?!search |---)(.*) \|$", table, re.MULTILINE)
    methods = json.loads((ROOT / "benchmarks" / "results" / "search.json").read_text())["methods"]
    assert len(rows) > 5
    for row in rows:
        name, *numbers = row.split(" | ")
        found = methods[name.strip("`")]["2"]
        keys = ("epochs", "regret_0.05", "regret_0.10", "recall")
        assert numbers == [f"{100 * found[key]:.0f}%" for key in keys], name


def test_lenet5_results_match_files() -> None:
    """The page says that all rows of the study of LeNet-5 are reproduced, with their numbers."""
    text = PAGES["reproducing-a-report.md"].partition("## Results for LeNet-5")[2]
    with (ROOT / "outputs" / "lenet5-study" / "reproduction.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["verdict"] for row in rows} == {"reproduced"}
    assert f"All {len(rows)} rows are reproduced" in text
    for row in rows:
        mean, reported = float(row["mean"]), float(row["reported"])
        margin = (float(row["high"]) - float(row["low"])) / 2
        numbers = f"| {reported:.2f} | {mean:.2f} ±{margin:.2f} |"
        assert f"| {row['reported_by']} |" in text
        assert numbers in text


def test_study_results_match_files() -> None:
    """The rows, verdicts and decimal numbers on the page about the report are in its files."""
    text = PAGES["reproducing-a-report.md"]
    text = text[text.index("## Results for the report") : text.index("## Results for LeNet-5")]
    folder = ROOT / "outputs" / "report-study"
    files = [(folder / name).read_text() for name in ("results.md", "time.json", "collapse.json")]
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    for row in rows:
        assert row in files[0], row
    with (folder / "reproduction.csv").open(newline="") as file:
        verdicts = Counter(row["verdict"] for row in csv.DictReader(file))
    reproduced, failed = verdicts.pop("reproduced"), verdicts.pop("not reproduced")
    (inconclusive,) = verdicts.values()
    assert len(rows) == failed + inconclusive
    assert (
        f"**{reproduced} of {reproduced + failed + inconclusive} rows are reproduced, {failed} are "
        f"not, and {inconclusive} are inconclusive.**"
    ) in text
    measured = set(re.findall(r"\d+\.\d+", "\n".join(files)))
    for number in re.findall(r"\d+\.\d+", text):
        assert number in measured, number
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6_000_000
