"""Trains the waves of a search that samples settings: ask, train, tell, and ask again.

The store is the only state. A search that is launched again asks the same waves, finds those that
are complete in the store, and continues with the first one that is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lenet_sweep.config.own_models import locations_of
from lenet_sweep.config.search_space import Params, SearchSpace
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.events import Event, Failed, SearchRound, Stopped
from lenet_sweep.core.plans import Plan, Run, join_plans, runs_of
from lenet_sweep.core.text import pluralize, to_str
from lenet_sweep.executors import Executor, RunContext
from lenet_sweep.runner.results_table import ResultsTable
from lenet_sweep.runner.search_rounds import SearchRounds, SearchState
from lenet_sweep.search import Decision, RunResult, is_complete
from lenet_sweep.search.sampling import WORST, Sampling, Trial, outcome


@dataclass(frozen=True)
class Wave:
    """Trials that are proposed together.

    cells: of each trial; none if its settings are not allowed together. plan: of the cells that no
    earlier wave has. invalid: why the trials without cells are invalid, in lines. notes: on how the
    cells are trained.
    """

    params: Sequence[Params]
    cells: Sequence[tuple[Cell, ...]]
    plan: Plan
    invalid: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class SamplingRounds:
    """A search that samples settings, from its first wave to the last one.

    plan: the cells of all waves so far, and the runs that their unfinished ones need. It starts
        with the waves that are complete in the store and the first one that is not.
    first: the cells of the first trial that is valid. trials: those that have ended. decision: the
    runs that were stopped.

    Raises UsageError for a space whose values are not allowed, and if Optuna is missing.
    """

    def __init__(self, sampling: Sampling, space: SearchSpace, table: ResultsTable) -> None:
        self.plan = Plan((), 0, 0, ())
        self.trials: list[Trial] = []
        self.decision = Decision({})
        self._sampling = sampling
        self._space = space
        self._table = table
        self._start = time.monotonic()
        self._is_training = False
        self._known: dict[tuple[Cell, ...], Trial] = {}  # by the cells of a trial
        self._repeated = 0  # trials with the cells of an earlier one
        self._messages: list[str] = []
        self._skipped: list[Event] = []  # of runs in waves that were complete
        self.first: tuple[Cell, ...] = ()
        self._trial_cells: tuple[Cell, ...] = ()  # of one trial
        self._wave: Wave | None = None
        self._advance()

    def train(
        self,
        executor: Executor,
        context: RunContext,
        on_wave: Callable[[Plan], None],
        on_round: Callable[[SearchRound], None],
    ) -> Iterator[Event]:
        """Train wave after wave, yielding the events.

        on_wave: called with `plan` when it has grown, before the events of the new runs. on_round:
        called at the start of each round of a wave.
        """
        with executor.session():
            yield from self._train(executor, context, on_wave, on_round)

    def _train(
        self,
        executor: Executor,
        context: RunContext,
        on_wave: Callable[[Plan], None],
        on_round: Callable[[SearchRound], None],
    ) -> Iterator[Event]:
        self._is_training = True
        notes = set[str]()
        while True:
            yield from self._skipped
            self._skipped.clear()
            for message in (*self._messages, *self._describe()):
                context.on_message(f"search: {message}")
            self._messages.clear()
            for note in dict.fromkeys(self.notes):
                if note not in notes:
                    context.on_message(note)
                    notes.add(note)
            if self._wave is None:
                return
            wave, models = self._wave, locations_of(run.cell for run in self._wave.plan.runs)
            rounds = SearchRounds(
                self._sampling.search,
                wave.plan,
                self._table.records,
                replace(context, models=models),
            )
            yield from rounds.train(executor, lambda r: on_round(self._in_search(r)))
            self._add_stops(rounds.decision)
            if context.stop.is_set() or not is_complete(rounds.decision, rounds.results):
                return
            self._tell(wave, rounds.results, rounds.decision)
            before = self.plan
            self._advance()
            if self.plan is not before:
                on_wave(self.plan)

    def lines(self) -> list[str]:
        """What the search samples and how far it has come, for a dry run."""
        sampling, runs = self._sampling, runs_of(self._trial_cells)
        waves = pluralize(sampling.waves, "wave")
        if sampling.waves > 1:
            last_is_smaller = sampling.trials % sampling.wave > 0
            waves += f" of {'up to ' if last_is_smaller else ''}{sampling.wave}"
        length = max((run.cell.epochs for run in runs), default=0)
        total = sampling.trials * sum(run.cell.epochs for run in runs)
        if sampling.epochs:
            total = min(total, sampling.epochs)
        limit = f" No wave starts after {sampling.minutes:g} min." if sampling.minutes else ""
        first = (
            f"search={sampling.name}: {pluralize(sampling.trials, 'trial')} in {waves}; each trial "
            f"has {pluralize(len(runs), 'run')} of {pluralize(length, 'epoch')} (at most "
            f"{pluralize(total, 'epoch')} in all).{limit} Settings are sampled from:"
        )
        number = len(self.trials) // sampling.wave + 1
        if self._wave is None and len(self.trials) < sampling.trials:
            last = f"the {pluralize(len(self.trials), 'trial')} so far:"
        elif self._wave is None:
            last = f"all {len(self.trials)} trials have ended:"
        elif number == 1:
            last = "the first wave:"
        else:
            last = f"the first {number} waves:"
        return [first, *self._space.lines(), *self._messages, last]

    def _advance(self) -> None:
        """Ask for the next wave, and pass over those that are complete in the store."""
        self._wave = None
        while wave := self._ask():
            state = self._state(wave)
            is_done = not state.missing_runs()
            if not is_done and self._is_training and self._is_late():
                for cell in wave.plan.cells:  # which are not cells of the sweep
                    self._table.records.pop(cell, None)
                return
            self.plan = join_plans(self.plan, wave.plan)
            self.first = self.first or next(filter(None, wave.cells), ())
            self._messages += wave.invalid
            if not is_done:
                self._wave = wave
                return
            self._skipped += [
                Stopped(run_id, stop.epoch, stop.reason)
                for run_id, stop in state.decision.stops.items()
                if run_id in self.plan.by_id
            ]
            self._skipped += [Failed(*divergence) for divergence in state.divergences().items()]
            self._add_stops(state.decision)
            self._tell(wave, state.results, state.decision)
        if self._repeated:
            repeats = "repeats an earlier one" if self._repeated == 1 else "repeat earlier ones"
            self._messages.append(
                f"{self._repeated} of {pluralize(len(self.trials), 'trial')} {repeats}"
            )

    def _ask(self) -> Wave | None:
        proposed = self._sampling.ask(self._space, self.trials)
        if not proposed:
            return None
        points = [self._space.point(params) for params in proposed]
        if not self.trials:
            self._space.check(points)
        cells: list[tuple[Cell, ...]] = []
        notes: list[str] = []
        invalid: list[str] = []
        last_error: UsageError | None = None
        for number, point in enumerate(points, len(self.trials) + 1):
            try:
                point_cells, point_notes = self._space.compose(point)
            except UsageError as error:
                last_error = error
                cells.append(())
                invalid.append(f"trial {number} is invalid and counts as {WORST:g}%: {error}")
            else:
                cells.append(tuple(dict.fromkeys(point_cells)))
                notes += point_notes
        if last_error and not self.trials and not any(cells):
            raise last_error
        new = dict.fromkeys(c for group in cells if group not in self._known for c in group)
        self._trial_cells = max(cells, key=len)
        if not self._fits(runs_of(list(new)), len(cells)):
            return None
        plan = self._table.plan(list(new), reuse=True, searching=True)
        return Wave(proposed, cells, plan, tuple(invalid), tuple(notes))

    def _fits(self, runs: Sequence[Run], trials: int) -> bool:
        """Whether a wave of so many trials with these runs fits into search.epochs."""
        limit = self._sampling.epochs
        needed = sum(self.decision.epochs.values()) + self._sampling.most_epochs(runs)
        if not limit or needed <= limit:
            return True
        if not self.trials:
            raise UsageError(
                f"search.epochs={limit}: the first wave of {pluralize(trials, 'trial')} "
                f"needs {needed} epochs; raise search.epochs, or lower search.wave"
            )
        self._messages.append(
            f"ended after {len(self.trials)} of {self._sampling.trials} trials, because the next "
            f"wave could exceed search.epochs={limit}"
        )
        return False

    def _is_late(self) -> bool:
        """Whether search.minutes have passed."""
        minutes = self._sampling.minutes
        if not minutes or time.monotonic() < self._start + 60 * minutes:
            return False
        self._messages.append(
            f"ended after {len(self.trials)} of {self._sampling.trials} trials, because "
            f"search.minutes={minutes:g} was reached; the same command continues the search"
        )
        return True

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on how the next wave is trained; none if the search has ended."""
        return self._wave.notes if self._wave else ()

    @property
    def left(self) -> Plan:
        """`plan` with only the runs that the next round trains; none if the search has ended."""
        runs = self._state(self._wave).missing_runs() if self._wave else ()
        return replace(self.plan, runs=tuple(runs))

    def _state(self, wave: Wave) -> SearchState:
        table = self._table
        return SearchState(self._sampling.search, wave.plan, table.records, table.store, None)

    def _in_search(self, search_round: SearchRound) -> SearchRound:
        """The round of a wave as a round of the search, with the later waves."""
        assert self._wave
        number = len(self.trials) // self._sampling.wave + 1
        later = self._sampling.trials - len(self.trials) - len(self._wave.cells)
        runs = runs_of(self._trial_cells)
        return replace(
            search_round,
            stage=f"wave {number} of {self._sampling.waves}: {search_round.stage}",
            later=(*search_round.later, *((later, run.cell.epochs) for run in runs if later > 0)),
            at_most=search_round.at_most or later > 0,
        )

    def _add_stops(self, decision: Decision) -> None:
        self.decision = Decision(
            {**self.decision.epochs, **decision.epochs}, {**self.decision.stops, **decision.stops}
        )

    def _tell(self, wave: Wave, results: Mapping[str, RunResult], decision: Decision) -> None:
        """Add the trials of a wave that has ended."""
        of_setting: dict[tuple[Cell, ...], Trial] = {}
        for params, cells in zip(wave.params, wave.cells, strict=True):
            earlier = self._known.get(cells) or of_setting.get(cells)
            if earlier and cells:
                self._repeated += 1
                trial = replace(earlier, params=params)
            else:
                trial = of_setting[cells] = outcome(params, runs_of(cells), results, decision)
            self.trials.append(trial)
        self._known |= of_setting

    def _describe(self) -> Iterator[str]:
        """The next wave, and the best trial so far, in a line."""
        if self._wave:
            first, number = len(self.trials) + 1, len(self._wave.cells)
            wave = f"wave {len(self.trials) // self._sampling.wave + 1} of {self._sampling.waves}"
            trials = f"trials {first} to {first + number - 1}" if number > 1 else f"trial {first}"
            best = max(self.trials, key=lambda t: (not t.stopped, t.value), default=None)
            so_far = ""
            if best and best.value > WORST:
                point = self._space.point(best.params)
                setting = " ".join(f"{key.lstrip('+')}={to_str(v)}" for key, v in point.items())
                so_far = f"; best so far: {best.value:.2f}% with {setting}"
            yield f"{wave}, {trials}{so_far}"
