"""All outputs agree with statistics.csv on how rows and settings compare with the best."""

import io
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from hypothesis import event, given, settings
from hypothesis import strategies as st
from made_results import base, failed, make_result, product, scored, with_holdout
from screens import printed, terminal, without_styles

from lenet_sweep.analysis import loading, ties
from lenet_sweep.analysis.conclusions import analyse
from lenet_sweep.analysis.loading import Source
from lenet_sweep.analysis.significance import OUTCOMES
from lenet_sweep.analysis.statistics import Result
from lenet_sweep.data.test_images import ImageCache
from lenet_sweep.report import collect, page, statistics_csv
from lenet_sweep.report.text_tables import text_tables, to_latex, to_markdown
from lenet_sweep.results.columns import COLUMNS, HOLDOUT
from lenet_sweep.results.ranking import MARKS, rank_records
from lenet_sweep.storage.store import Store
from lenet_sweep.ui.tables import print_tables

IMAGES = 400
MARK = {mark: outcome for outcome, mark in MARKS.items()}
KMNIST = replace(base().dataset, name="kmnist", digest="another")


class Sweep(list[Result]):
    """A list of results with a short repr, for readable failures of hypothesis."""

    def __repr__(self) -> str:
        return "\n".join(
            f"{r.cell.dataset.name} lr {r.cell.lr:g} seed {r.cell.seed} {r.status} {r.accuracy} "
            f"{r.holdout_accuracy} {'' if r.correct is None else 'images'}"
            for r in self
        )


def random_sweep(seed: int) -> Sweep:
    """Random settings, some with failures, fewer seeds or other test images."""
    random = np.random.default_rng(seed)
    seeds, scatter = random.choice([1, 1, 2, 3, 5, 5, 5]), random.choice([0, 0.003, 0.003, 0.05])
    results = []
    for n in range(random.integers(1, 6)):
        level = random.choice([0.1, 0.8, 0.95, 0.97, 0.97])
        dataset = KMNIST if random.random() < 0.15 else base().dataset
        cell = replace(base(), lr=0.1 * (n + 1), dataset=dataset)
        own = seeds if random.random() < 0.8 else random.integers(1, seeds + 1)
        for number in range(own):
            one = replace(cell, seed=number)
            if random.random() < 0.1:
                results.append(failed(one, str(random.choice(["diverged", "failed"]))))
                continue
            share = np.clip(level + scatter * random.standard_normal(), 0, 1)
            results.append(make_result(one, random.random(IMAGES) < share))
    if random.random() < 0.15:  # the test images are not available
        results = [replace(r, correct=None, predictions=None) for r in results]
    if random.random() < 0.3:  # held-out images rank the rows in another order
        ranked = [None if r.accuracy is None else float(random.uniform(50, 60)) for r in results]
        results = with_holdout(results, ranked)
    return Sweep(results)


def table_of(results: list[Result]) -> tuple[pd.DataFrame, list[Result]]:
    """The ranked table of these results, and the results in the order of the table."""
    records = [
        dict.fromkeys(COLUMNS[1:])
        | {
            "batch": r.cell.batch, "lr": r.cell.lr, "epochs": r.cell.epochs, "person": "ada",
            "device": "cpu", "loss": r.cell.loss.name, "optimizer": str(r.cell.optimizer),
            "activation": r.cell.activation, "seed": r.cell.seed, "engine": "native",
            "dataset": r.cell.data, "cell": r.cell.id, "status": r.status,
            "accuracy": r.accuracy, "error": "" if r.status == "ok" else "no reason",
            "seconds": 1.0, "seconds_per_epoch": 1.0, "train_loss": 0.1,
            HOLDOUT: r.holdout_accuracy,
        }
        for r in results
    ]  # fmt: skip
    frame, order = rank_records(records)
    return frame, [results[at] for at in order]


class NoImages(ImageCache):
    """A cache without test images."""

    def get(self, dataset, data_root):
        return None


class Text(HTMLParser):
    """Collects the text inside the elements with this tag and these attributes."""

    def __init__(self, html: str, tag: str, **attributes: str) -> None:
        super().__init__()
        self.wanted, self.words, self.depth = (tag, attributes), [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if self.depth:
            self.depth += tag == self.wanted[0]
        elif tag == self.wanted[0] and self.wanted[1].items() <= dict(attrs).items():
            self.depth = 1

    def handle_endtag(self, tag):
        self.depth -= bool(self.depth) and tag == self.wanted[0]

    def handle_data(self, data):
        if self.depth:
            self.words.append(data)


def text_of(html: str, tag: str, **attributes: str) -> str:
    return " ".join(" ".join(Text(html, tag, **attributes).words).split())


def counted_in(text: str) -> Counter:
    """The counts in a text such as '1 tied (=), 2 are worse; 3 inconclusive'."""
    names = "|".join(OUTCOMES)
    results = re.findall(rf"(\d+) (?:is |are )?({names})\b(?! than 2)", text)
    return Counter({outcome: int(number) for number, outcome in results})


def marked(ranks: list[str]) -> Counter:
    """The outcomes marked in ranks such as 'best 1', '= 2', '3'."""
    return Counter(MARK[re.sub(r" ?[\d\u2013-]*$", "", rank.strip())] for rank in ranks)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1).map(random_sweep))
def test_all_outputs_agree_with_statistics_csv(results: list[Result]) -> None:
    """Counts and marks on the terminal, in Markdown, in LaTeX and on the page equal the CSV."""
    frame, outcomes = table_of(results)
    sources = [Source(r.cell, Store(Path("nowhere")), None) for r in outcomes]
    with patch.object(loading, "load_results_of", return_value=tuple(outcomes)):
        report = collect._build_report(
            frame, sources, NoImages(), [], [], [r.cell for r in outcomes], [], ""
        )
    csv = pd.read_csv(io.StringIO(statistics_csv.statistics_table(report).to_csv(index=False)))
    assert report.statistics is not None
    by_seed = report.statistics.by_seed
    setting_cells = [r.cell.setting for r in outcomes]
    compared_rows = csv[~pd.Series(setting_cells).duplicated()] if by_seed else csv
    for _, same in csv.groupby(setting_cells if by_seed else csv["cell"].tolist(), sort=False):
        assert len(set(same["outcome"])) == 1
    expected = Counter(compared_rows["outcome"])
    for name in sorted(expected):
        event(f"{'settings' if by_seed else 'rows'}: {name}")

    # statistics.md
    _, _, readable = statistics_csv.summary_table(report)
    assert Counter(readable["outcome"]) == expected

    # The printed tables.
    compared_count = int(compared_rows[compared_rows["outcome"] != "not compared"].shape[0])
    rows = ties.rows_over_seeds([r.cell for r in outcomes], frame)
    assert bool(rows) == by_seed
    marks = replace(ties.tie_marks(outcomes, range(len(outcomes)), len(outcomes)), settings=rows)
    console = terminal(200)
    print_tables(console, frame, marks)
    screen = without_styles(printed(console))
    tables = text_tables(frame, marks)
    markdown, latex = to_markdown(tables), to_latex(tables)
    latex = latex.split("(part 2 of", maxsplit=1)[0]  # part 2 repeats the ranks of a wide table
    compared = sum(c.difference is not None for c in report.statistics.comparisons)
    if compared > 1:
        others = expected - Counter(best=expected["best"])
        for text in (screen, markdown, latex):
            assert counted_in(" ".join(text.split())) == others
        ranks = [str(rank) for _, _, rows in tables for rank in rows["rank"]]
        assert marked(ranks) == expected
        for text, pattern in (
            (
                screen,
                r"^ *((?:best|better|=|\?|n/a)? ?[\d\u2013]*)  +(?:\d+\.\d\d|diverged|failed)",
            ),
            (markdown, r"^\| ([^|]*?) \| (?:\d+\.\d\d|(?= \|))"),
            (latex, r"^([^&\n]*?) & (?:\d+\.\d\d|(?=&| ))"),
        ):
            read = [r for r in re.findall(pattern, text, re.MULTILINE) if r.strip() != "rank"]
            assert marked(read) == marked(ranks), text
    else:
        assert not marks.outcomes

    # The page.
    html = page.page(report, "", folder="it", pictures=False)
    if compared_count and len(compared_rows) > 1:
        tile = text_of(html, "div", **{"class": "outcomes"})
        number, total, rest = re.fullmatch(
            r"Tied with the best (\d+) of (\d+) other (?:row|setting)s?(?:; (.*))?", tile
        ).groups()
        assert int(total) == len(compared_rows) - expected["best"]
        assert Counter(tied=int(number)) + counted_in(rest or "") == expected - Counter(
            best=expected["best"]
        )
    page_outcomes = re.findall(r'<tbody data-outcome="([a-z ]+)">', html)
    assert Counter(page_outcomes) == expected

    # The conclusions, in Python and on the page.
    if compared_count:
        counted = Counter()
        for sentence in report.statistics.conclusions:
            counted["best"] += sentence.startswith("Best")
            one = re.match(rf"The only other \w+(?: on .*?)? is ({'|'.join(OUTCOMES)})", sentence)
            if one:
                counted[one[1]] += 1
            elif re.match(r"Of the \d+ other (?:rows|settings)", sentence):
                counted += counted_in(sentence)
        digests = {r.cell.dataset.digest for r, o in zip(outcomes, csv["outcome"], strict=True)
                   if o == "best"}  # fmt: skip
        without_best = Counter(
            outcome
            for r, outcome in zip(
                [outcomes[at] for at in compared_rows.index], compared_rows["outcome"], strict=True
            )
            if r.cell.dataset.digest not in digests
        )  # on test sets without an accuracy
        assert counted + Counter() == expected - without_best
        words = text_of(html, "ul", **{"class": "conclusions"})
        assert all(" ".join(s.split()) in words for s in report.statistics.conclusions)


def test_an_inconclusive_comparison_is_not_reported_as_worse() -> None:
    """A setting with three seeds and p = 0.24 is inconclusive in every output."""
    cells = product(lr=[0.001, 0.1, 0.5], seed=[0, 1, 2])
    rows = [98.39, 98.35, 98.12, 98.16, 98.07, 98.04, 10.3, 10.29, 10.28]
    frame, ordered = table_of(scored(cells, rows))
    marks = ties.tie_marks(ordered, range(len(ordered)), len(ordered))
    assert marks.caption.endswith(
        "0 tied (=, no significant difference), 1 inconclusive (?, not settled by the t test), "
        "1 worse."
    )
    assert dict(zip(frame["lr"], marks.outcomes.values(), strict=True)) == {
        0.001: "best", 0.1: "inconclusive", 0.5: "worse",
    }  # fmt: skip
    lines = analyse(ordered).conclusions
    assert "Of the 2 other settings, 1 is inconclusive and 1 is worse" in lines[1]
    assert lines[2].startswith("Inconclusive: lr 0.1. Reason: the test images show a difference")
