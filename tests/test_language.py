"""Phrases to avoid in the documentation and in the texts of the package.

codespell checks single words (.ci/words-to-avoid.txt); this module checks phrases.
"""

import io
import json
import re
import tokenize
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SKIPPED = PYPROJECT["tool"]["codespell"]["skip"]  # generated files
CHECKED = [
    "*.md", ".ci/run", "docs/*.md", "docs/notebooks/*.*", "outputs/README.md", "conf/**/*.yaml",
    "lenet_sweep/**/*.py", "lenet_sweep/report/templates/*", "lenet_sweep/serve/static/*",
]  # fmt: skip

# Phrases to avoid, and what to write instead.
PHRASES = {
    r"(it|that) (can|could)( ?not|n't) be told|cannot be told": "inconclusive, indistinguishable",
    r"(is|are|was|be|been) told( so| that| apart)?": "is reported, is shown",
    r"(it|what) is said|(is|are) said (so|once|to be)": "is reported",
    r"nobody knows|who knows": "is unknown",
    r"(go|goes|going|gone|went) on (from|with|after|at|where|to)|to go on": "resume, continue",
    r"for ever": "forever",
    r"this would tell": "to check, run",
    r"as a slip|a slip in": "a typo",
    r"signs? of life": "progress",
    r"(is|are|be) given up": "is killed",
    r"(is|are|be) refused": "is rejected",
    r"taken for (a|an|one|the)": "mistaken for",
    r"set aside": "moved to .damaged",
    r"made (new|again)": "rebuilt",
    r"runs of before": "earlier runs",
    r"in another order": "a different order",
    r"no learned accuracy": "the network did not learn",
    r"to be had|can be had": "is available",
    r"kept (back|out of training)": "held out",
    r"all the same": "still, anyway",
    r"(machine|disk|processor|core)s? g[ia]ve[sn]?": "the machine was throttled",
    r"one's own": "your own, the user's own",
    r"of one's": "of the user's",
    r"by whom|of whom|to whom|from whom": "name the person or process",
    r"what is (done|there|said|typed|asked|known)": "a noun: the results, the input",
    r"(makes?|made|whatever) of it": "name the result",
}


def paths() -> list[Path]:
    """The files to check: CHECKED without those that codespell skips."""
    found = {path for pattern in CHECKED for path in ROOT.glob(pattern)}

    def is_skipped(path: Path) -> bool:
        names = [f"./{part.as_posix()}" for part in (path, *path.parents)]
        return any(fnmatch(name, pattern) for name in names for pattern in SKIPPED)

    return sorted(path for path in found if not is_skipped(path.relative_to(ROOT)))


def prose(path: Path) -> str:
    """The text of a file on one line; of a Python file, its comments and strings; of a notebook,
    its cells without their outputs.

    A line that codespell ignores (`codespell:ignore`) is left out.
    """
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(content)["cells"]
        content = "\n\n".join("".join(cell["source"]) for cell in cells)
    lines = content.splitlines()
    text = "\n".join("" if "codespell:ignore" in line else line for line in lines)
    if path.suffix == ".py":
        kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None)}
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        text = " ".join(token.string.strip("#\"'") for token in tokens if token.type in kinds)
    return " ".join(text.replace("# ", " ").split())


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_text_has_no_phrase_to_avoid(path: Path) -> None:
    """The text of the file uses the words of the documentation, not those to avoid."""
    text = prose(path)
    found = [
        f"'{text[max(0, match.start() - 30) : match.end() + 30]}': write {better}"
        for phrase, better in PHRASES.items()
        for match in re.finditer(rf"\b({phrase})\b", text, re.IGNORECASE)
    ]
    assert not found, "\n".join(found)
