"""Recorded learning curves: what is collected from a sweep, and the files that keep it."""

import sys
from pathlib import Path

import numpy as np
import pytest
from made_sweeps import launched, settings, store_all

from lenet_sweep.results.manifest import read_manifest
from lenet_sweep.storage.store import Store

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import record_curves
from benchmarks.curves import CURVES, FOLDER, equal, load_curves, save_curves


@pytest.fixture
def sweep(tmp_path, small_folder):
    """A finished sweep of 2 settings, 2 seeds and 3 epochs, with 100 images held out."""
    cells, options = settings(
        small_folder(), tmp_path / "out", lr=[0.1, 0.01], seed=[0, 1], epochs=[1, 3], holdout=100
    )
    store_all(cells, tmp_path / "out", small_folder(), lambda n: range(n + 1), holdout=97.0)
    return launched(cells, options).sweep.folder


def test_the_curves_are_those_of_the_store(sweep):
    """Each setting, seed and epoch is in its place, and the predictions are those of the store."""
    manifest = read_manifest(sweep)
    curves, unfinished = record_curves.collect(manifest)
    assert (len(curves.settings), curves.seeds, unfinished) == (2, (0, 1), 0)
    assert curves.readouts.tolist() == [1, 3]
    assert all(getattr(curves, name).shape == (2, 2, 3) for name in CURVES)
    assert curves.predictions.shape == (2, 2, 2, 300)
    cell = next(c for c in manifest.cells if (c.lr, c.seed, c.epochs) == (0.01, 1, 3))
    snapshot = Store(manifest.store.out).run_folder(cell.run_id).result(cell)
    place = [setting["lr"] for setting in curves.settings].index(0.01)
    assert curves.test_accuracy[place, 1].tolist() == [e.accuracy for e in snapshot.history]
    assert curves.predictions[place, 1, 1].tolist() == snapshot.predictions.tolist()
    wrong = (curves.predictions[place, 1, 1] != curves.labels)[: curves.test_images]
    assert 100 * (1 - wrong.mean()) == pytest.approx(curves.test_accuracy[place, 1, -1])
    assert curves.correct(place, 1, 1).shape == (100,)
    assert not {"host", "person"} & curves.source["environment"].keys()


def test_a_setting_with_an_unfinished_run_is_left_out(sweep):
    """The sweep may still be running."""
    manifest = read_manifest(sweep)
    cell = next(c for c in manifest.cells if (c.lr, c.seed, c.epochs) == (0.1, 1, 3))
    manifest.store.run_folder(cell.run_id).snapshot_path(3).unlink()
    curves, unfinished = record_curves.collect(manifest)
    assert [setting["lr"] for setting in curves.settings] == [0.01]
    assert unfinished == 1


def test_files_keep_every_bit(sweep, tmp_path, capsys):
    """What was written is read back, also missing values, and equal curves give equal files."""
    curves, _ = record_curves.collect(read_manifest(sweep))
    curves.train_loss[0, 0, 0] = np.nextafter(1.0, 2.0)
    curves.holdout_loss[0, 0, 0] = np.nan
    save_curves(curves, tmp_path / "one")
    assert equal(load_curves(tmp_path / "one"), curves)
    save_curves(load_curves(tmp_path / "one"), tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    curves.train_loss[0, 0, 0] = 1.0
    assert not equal(load_curves(tmp_path / "one"), curves)
    assert record_curves.main([str(sweep), "--out", str(tmp_path / "three")]) == 0
    assert "2 settings, 2 seeds, 3 epochs" in capsys.readouterr().out


def test_a_folder_without_a_sweep_is_an_error(tmp_path, capsys):
    """The message names the folder."""
    assert record_curves.main([str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.skipif(not (FOLDER / "curves.npz").exists(), reason="the curves are not recorded")
def test_the_recorded_curves_agree_with_their_predictions():
    """The recorded accuracies are those of the recorded predictions, on both sets of images."""
    curves = load_curves()
    correct = curves.predictions == curves.labels
    for images, accuracy in (
        (slice(None, curves.test_images), curves.test_accuracy),
        (slice(curves.test_images, None), curves.holdout_accuracy),
    ):
        shares = 100 * correct[..., images].mean(axis=-1)
        np.testing.assert_allclose(shares, accuracy[..., curves.readouts - 1])
