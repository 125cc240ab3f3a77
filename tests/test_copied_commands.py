"""Commands to copy from the page can be pasted into a shell, and Hydra reads them as intended."""

import os
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from lenet_sweep.analysis.commands import with_folders

pytestmark = pytest.mark.skipif(os.name == "nt", reason="quotes of POSIX shells")
NAMES = st.text(st.characters(exclude_characters="/\0$", exclude_categories=["Cs"]), min_size=1)


@given(NAMES)
@example("jürgen")
@example("run (1)")
@example("a,b")
@example("it's")
@example("ends with \\")
@example("\\'")
@example("#=[]{}")
def test_folders_are_read_as_they_are(name: str) -> None:
    path = Path("/data") / name
    text = with_folders("python -m lenet_sweep lr=0.1 dataset.root=FOLDER", path, path)
    words = shlex.split(text)
    assert words[:4] == ["python", "-m", "lenet_sweep", "lr=0.1"]
    for word, key in zip(words[4:], ("dataset.root", "out"), strict=True):
        override = OverridesParser.create().parse_override(word)
        assert (override.key_or_group, override.value()) == (key, str(path))
