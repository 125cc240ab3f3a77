"""How figures are saved, and their fonts, colors and sizes."""

import errno
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import made_sweeps
import matplotlib as mpl
import numpy as np
import pytest
from made_figures import NAN, decay, digits, drawn_texts, sweep
from matplotlib.text import Text
from PIL import Image

from lenet_sweep.core.errors import StoreError
from lenet_sweep.report import figure_set, figures, style
from lenet_sweep.report.figures import cost_figure, overlay_figure
from lenet_sweep.report.histories import Curve
from lenet_sweep.report.sample_figures import correct_samples_figure, misclassified_figures
from lenet_sweep.report.search_charts import search_figure
from lenet_sweep.report.search_history import Rung, SearchedSetting, SearchHistory
from lenet_sweep.report.style import render, save
from lenet_sweep.runner import outputs

MAKERS = {
    "cost": lambda: cost_figure(decay()),
    "overlay": lambda: overlay_figure(sweep(9)),
    "correct": lambda: correct_samples_figure(*digits(99)),
    "misclassified": misclassified_figures(*digits(99), per_page=7)[0],
}


def changed(before):
    # Reading "backend" makes matplotlib choose one.
    return [key for key in before if key != "backend" and mpl.rcParams[key] != before[key]]


@pytest.mark.parametrize("maker", MAKERS)
def test_same_figure_gives_the_same_bytes(maker, tmp_path):
    """The user's matplotlibrc does not matter, and rcParams are restored."""
    user_style = {
        "lines.linewidth": 9,
        "font.size": 20,
        "savefig.transparent": True,
        "axes.grid": False,
    }
    first = save(render(MAKERS[maker]()), tmp_path / "first.png")
    with mpl.rc_context(user_style):
        before = mpl.rcParams.copy()
        second = save(render(MAKERS[maker]()), tmp_path / "second.png")
        assert changed(before) == []
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as picture:
        assert set(picture.info) <= {"dpi"}
        assert min(picture.size) > 100


def test_rc_params_are_restored_between_pages():
    """A program that draws other figures between two pages gets its own style."""
    before = mpl.rcParams.copy()
    pages = misclassified_figures(*digits(99), per_page=7)
    pages[0]()
    assert changed(before) == []


def test_figures_need_no_pyplot(tmp_path):
    """Figures are saved without a display, independently of pyplot."""
    script = (
        "import sys, pathlib; from lenet_sweep.report import figures as f, style\n"
        "pixels = style.render(f.cost_figure(f.Curve('a', [1], [0.5], [90])))\n"
        "style.save(pixels, pathlib.Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    target = tmp_path / "a.png"
    root = Path(figures.__file__).parents[2]
    subprocess.run([sys.executable, "-c", script, str(target)], check=True, cwd=root)
    assert target.stat().st_size > 1000


def fail(*args, **kwargs):
    raise OSError(errno.ENOSPC, "disk full")


def test_no_figure_follows_one_that_cannot_be_written(tmp_path, small_folder):
    """A current figure of correct images thus means that the pages before it are complete."""
    cells, options = made_sweeps.settings(small_folder(), tmp_path / "out", epochs=1)
    made_sweeps.store_all(cells, tmp_path / "out", small_folder(), lambda _: range(5))

    def fail_for_page(pixels, path, dpi):
        return fail() if "misclassified" in path.name else save(pixels, path, dpi)

    with (
        patch.object(figure_set, "save", fail_for_page),
        pytest.raises(StoreError, match=r"misclassified-01\.png: disk full"),
    ):
        outputs.draw_figures(made_sweeps.launched(cells, options), options, lambda _: None)
    assert [path.name[-8:] for path in tmp_path.rglob("*.png")] == ["cost.png"]


@pytest.mark.parametrize("where", ["drawing", "fsync", "replace"])
def test_failed_save_keeps_the_old_file(where, tmp_path, monkeypatch):
    """There is no temporary file left."""
    target = tmp_path / "figure.png"
    target.write_bytes(b"old")
    figure = cost_figure(decay())
    if where == "drawing":
        monkeypatch.setattr(figure.axes[0], "draw", fail)
    else:
        owner = style.atomic.os if where == "fsync" else style.Path
        monkeypatch.setattr(owner, where, fail)
    with pytest.raises(OSError, match="disk full"):
        save(render(figure), target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_save_is_atomic(tmp_path, monkeypatch):
    """A reader sees the complete old file or the complete new file."""
    target = tmp_path / "figure.png"
    target.write_bytes(b"old")
    synced = []
    fsync = style.atomic.os.fsync

    def record(descriptor):
        fsync(descriptor)
        if temporary := set(tmp_path.iterdir()) - {target}:  # none when the folder is synced
            assert target.read_bytes() == b"old"
            synced.append(temporary.pop().read_bytes())

    monkeypatch.setattr(style.atomic.os, "fsync", record)
    figure = cost_figure(decay())
    assert save(render(figure), target) == target
    assert synced == [target.read_bytes()]
    assert target.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [target]
    assert figure.axes == []


def test_saved_figure_has_default_permissions(tmp_path):
    """The umask decides who can read it, as for any other file."""
    plain = tmp_path / "plain"
    plain.touch()
    target = save(render(cost_figure(decay())), tmp_path / "figure.png")
    assert target.stat().st_mode == plain.stat().st_mode


PAPERS = [style.LAYOUTS["single"], style.LAYOUTS["double"]]


def search(rungs, seeds=1):
    """A search over settings with long names: a halving with these rungs, a race without any."""
    settings = []
    for n in range(40 if rungs else 12):
        name = f"cross_entropy + sgd momentum=0.9 nesterov=true, lr 0.{n:03}, batch 64"
        after = [rung for k, rung in enumerate(rungs, 1) if n >= 40 / 2**k] or [0] * (n > 2)
        stopped = after[0] if after and not (rungs and n == 0) else None
        curve = 100 - (1 + n / 10) * (1 + 10 / np.arange(1, 101))[: stopped or 100]
        finals = tuple(99 - n / 10 + np.arange(5 if n > 2 else seeds) / 50)
        curves = (curve, () if stopped else finals, tuple(range(seeds)))
        is_last = stopped is None
        settings.append(SearchedSetting(name, None, *curves, stopped, is_last, True, seeds))
    left = [sum(s.stopped is None or s.stopped > rung for s in settings) for rung in rungs]
    numbers = map(Rung, rungs, left, [len(settings), *left])
    return SearchHistory(tuple(settings), tuple(numbers), 100, True, True, ("It saved epochs.",))


IN_PAPERS = {
    "cost": lambda layout: cost_figure(decay(final=1e-5), layout),
    "diverged": lambda layout: cost_figure(Curve("a", [1, 2], [2, NAN], [10, 9.8]), layout),
    "overlay": lambda layout: overlay_figure(sweep(40, 100), layout),
    "overlay, 1 epoch": lambda layout: overlay_figure(sweep(6, 1), layout),
    "long labels": lambda layout: overlay_figure([decay("some words " * 9)] * 6, layout),
    "search": lambda layout: search_figure(search([11, 33]), layout),
    "many rungs": lambda layout: search_figure(search([1, 3, 6, 12, 25, 50]), layout),
    "race": lambda layout: search_figure(search([], seeds=20), layout),
    "correct": lambda layout: correct_samples_figure(*digits(20_000), layout=layout),
    "none correct": lambda layout: correct_samples_figure(*digits(9, wrong_every=1), layout=layout),
    "misclassified": lambda layout: misclassified_figures(*digits(20_000), layout=layout)[-1](),
    "names": lambda layout: misclassified_figures(
        *digits(99), names=[f"a long name of class {n}" for n in range(10)], layout=layout
    )[0](),
}


@pytest.mark.parametrize("layout", PAPERS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("maker", IN_PAPERS)
def test_paper_figures_fit_their_column(maker, layout, monkeypatch):
    """They have the width of the column, at most the height of a page, and readable texts."""
    figure = IN_PAPERS[maker](layout)
    width, height = figure.get_size_inches()
    assert width == layout.width
    assert height < 9.5
    texts = drawn_texts(figure, monkeypatch)
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()]
    assert min(sizes) >= 6
    inside = figure.bbox.padded(0.5)
    for index, (text, box) in enumerate(texts):
        assert all(inside.contains(*c) for c in ((box.x0, box.y0), (box.x1, box.y1))), text
        for other, other_box in texts[:index]:
            assert not box.padded(-1).overlaps(other_box.padded(-1)), (text, other)


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_vector_graphics_have_texts_and_the_same_bytes(suffix):
    """Texts stay texts, which can be searched and edited; two drawings have equal bytes."""
    for maker in (
        lambda: overlay_figure([decay("searchable label"), decay()], PAPERS[0]),
        lambda: correct_samples_figure(*digits(99), as_raster=False, subject="searchable label"),
    ):
        first = style.vector_graphics(maker(), suffix, PAPERS[0])
        with mpl.rc_context({"svg.fonttype": "path", "pdf.fonttype": 3, "font.size": 20}):
            second = style.vector_graphics(maker(), suffix, PAPERS[0])
        assert first == second
        assert first.endswith(style.ENDS[suffix])
        if suffix == "svg":
            assert b"searchable label" in first
        else:
            assert b"/Subtype /Type0" in first or b"/Subtype /TrueType" in first
            assert b"/Subtype /Type3" not in first
            assert b"CreationDate" not in first


def test_figures_of_a_sweep_in_another_format(tmp_path, small_folder):
    """They are beside the PNG files, which stay, and current ones are not drawn again."""
    cells, options = made_sweeps.settings(small_folder(), tmp_path, lr=[0.1, 0.2])
    made_sweeps.store_all(cells, tmp_path, small_folder(), lambda n: range(n + 50))
    result = made_sweeps.launched(cells, options)
    pngs = outputs.draw_figures(result, options, print)
    before = {path: path.read_bytes() for path in pngs}
    options = replace(options, figure_format="pdf", figure_width="single")
    pdfs = outputs.draw_figures(result, options, print)
    folder = result.sweep.folder / "figures"
    names = {path.name.rpartition("_")[2] for path in pdfs}
    assert names == {
        "all-cells-single.pdf", "cost-single.pdf", "correct-single.pdf",
        "misclassified-single-01.pdf", "misclassified-single-02.pdf",
    }  # fmt: skip
    assert {*folder.iterdir()} == {*pngs, *pdfs}
    assert {path: path.read_bytes() for path in pngs} == before
    cost = next(path for path in pdfs if "cost" in path.name)
    kept = cost.stat().st_ino
    cost.with_name("x").hardlink_to(cost)  # so that its inode is not used again
    assert outputs.draw_figures(result, options, print) == pdfs
    assert cost.stat().st_ino == kept


def test_save_rejects_other_formats(tmp_path):
    """No file is written."""
    with pytest.raises(ValueError, match=re.escape("figure.pdf")):
        save(render(cost_figure(decay())), tmp_path / "figure.pdf")
    assert list(tmp_path.iterdir()) == []
