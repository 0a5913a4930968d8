"""One case of the benchmark: train it, diagnose it, try its remedies; and the list of all cases."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.faults import BASES, FAULTS, VERDICTS, Base, Fault
from experiments.faults.bases import available
from experiments.faults.fault import Severity
from experiments.faults.healthy import Healthy, healthy_runs
from experiments.faults.posts import POSTS, Post
from experiments.faults.scoring import HEALTHY, REFUSED, Case, Finding, finding
from fnnet.cost import Cost
from fnnet.diagnosis import Report, Setup, Watch, diagnose, preflight, remedies
from fnnet.diagnosis.changes import Change, apply
from fnnet.diagnosis.remedies import PROBE
from fnnet.diagnosis.watched import bounds_of
from fnnet.inspect import normalized_loss
from fnnet.inspect.baselines import example_losses
from fnnet.training.chunk import train_epoch
from fnnet.training.state import TrainState

BUDGET = 20.0  # shares of the run: these runs are so short that a tenth of one is a few steps
SEEDS = 5  # runs of a fault and of its healthy twin, whose results are compared
NO_HARM_D, NO_HARM_P = 0.5, 0.05


class Entry(NamedTuple):
    """A case, how its setup is made, and how that of its healthy twin is made for any seed, if it has one."""

    case: Case
    make: Callable[[], Setup]
    faulty: Callable[[int], Setup] | None = None
    twin: Callable[[int], Setup] | None = None
    certain: bool = True
    certified: bool = True


class Examined(NamedTuple):
    """What a run did and what is said about it. ``error`` is the message with which it was refused."""

    report: Report
    setup: Setup | None = None
    states: tuple[TrainState, ...] = ()
    history: dict[str, list[float]] | None = None
    error: str = ""


def examine(make: Callable[[], Setup], *, budget: float = BUDGET) -> Examined:
    """Train a run with everything that looks at it. A run that fnnet refuses with an error has an empty report."""
    states: list[TrainState] = []
    try:
        setup = make()
        before = preflight(
            setup.cost,
            setup.params,
            setup.data,
            validation=setup.validation,
            optimizer=setup.optimizer,
            key=setup.key,
            shuffle=setup.shuffle,
        )
        watch = Watch()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "fit: ")
            result = setup.fit(callbacks=[watch, lambda state, record: states.append(state)])
        after = diagnose(
            result,
            setup.cost,
            watch=watch,
            optimizer=setup.optimizer,
            data=setup.data,
            validation=setup.validation,
        )
    except (TypeError, ValueError) as error:
        return Examined(Report(()), error=f"{type(error).__name__}: {error}")
    report = remedies(before + after, setup, states=states, watch=watch, budget=budget)
    return Examined(report, setup, tuple(states), result.history)


# The outcome of whole runs.


def outcomes(setups: Sequence[Setup]) -> np.ndarray[Any, Any]:
    """Return the final validation ``λ`` of runs that differ in nothing but their parameters and keys, ``(R,)``.

    All of them are one program. NaN and infinity count as 100.
    """
    setup = setups[0]
    x, y = (jnp.asarray(part) for part in setup.data)
    probe: Any = tuple(jnp.asarray(part[:PROBE]) for part in setup.validation or setup.data)
    epoch = train_epoch(
        setup.cost, setup.optimizer, batch_size=setup.batch_size, shuffle=setup.shuffle, augment=setup.augment
    )
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[each.start() for each in setups])

    def whole(state: TrainState) -> Any:
        state, _ = jax.lax.scan(lambda state, _: (epoch(state, (x, y))[0], None), state, length=setup.epochs)
        return example_losses(setup.cost, state.params, probe).mean()

    losses = jax.jit(jax.vmap(whole))(states)
    values = np.asarray(normalized_loss(losses, *bounds_of(setup.cost, setup.params, probe)), np.float64)
    return np.where(np.isfinite(values), np.minimum(values, 100.0), 100.0)


def is_worse(faulty: np.ndarray[Any, Any], healthy: np.ndarray[Any, Any]) -> bool:
    """Return whether runs are worse: ``p < 0.05`` in Welch's test and Cohen's ``d ≥ 0.5``, as DeepCrime has it."""
    from scipy.stats import ttest_ind

    spread = np.sqrt((faulty.var(ddof=1) + healthy.var(ddof=1)) / 2)
    gap = faulty.mean() - healthy.mean()
    if spread == 0:
        return bool(gap > 0)
    return bool(gap / spread >= NO_HARM_D and ttest_ind(faulty, healthy, equal_var=False).pvalue < NO_HARM_P)


def harm(entry: Entry) -> bool | None:
    """Return whether a fault does harm, None where it counts as a fault anyway or has no twin."""
    if entry.certain or entry.faulty is None or entry.twin is None:
        return None
    faulty, twin = ([make(seed) for seed in range(SEEDS)] for make in (entry.faulty, entry.twin))
    return is_worse(outcomes(faulty), outcomes(twin))


def mends(entry: Entry, examined: Examined) -> bool | None:
    """Return whether a confirmed remedy brings three whole runs with new seeds to the healthy ``λ``, within a tenth.

    None where there is no confirmed remedy, or no twin.
    """
    confirmed = [row for row in examined.report.rows if row.certainty == "confirmed"]
    changes = [row.remedy for row in confirmed if isinstance(row.remedy, Change)]
    if not changes or entry.faulty is None or entry.twin is None:
        return None
    seeds = range(100, 103)
    repaired = outcomes([apply(changes[0], entry.faulty(seed)) for seed in seeds])
    healthy = outcomes([entry.twin(seed) for seed in seeds])
    error = 2 * healthy.std(ddof=1) / np.sqrt(len(healthy))
    return bool(repaired.mean() <= healthy.mean() + max(0.1 * healthy.mean(), error))


# All cases.


def fault_entries(
    faults: Sequence[Fault], severities: Sequence[Severity], *, held_out: bool = False
) -> Iterator[Entry]:
    """Yield the cases of the faults; of the held-out half, those on its data sets or of its kinds."""
    first = 1000 if held_out else 0
    for fault in faults:
        for name in fault.bases if not held_out else held_out_bases(fault):
            base = BASES[name]
            if not available(base) or held_out != (base.held_out or fault.held_out):
                continue
            for severity in severities:
                yield fault_entry(fault, base, severity, first)


def held_out_bases(fault: Fault) -> tuple[str, ...]:
    """Return the bases on which a fault is tried in the held-out half: those of its families, seen and unseen."""
    kinds = {(BASES[name].family, BASES[name].loss) for name in fault.bases}
    unseen = [base.name for base in BASES.values() if base.held_out and (base.family, base.loss) in kinds]
    return (*fault.bases, *unseen) if fault.held_out else tuple(unseen)


def fault_entry(fault: Fault, base: Base, severity: Severity, seed: int = 0) -> Entry:
    accepted = frozenset(VERDICTS[number] for number in fault.accepted)
    case = Case(
        f"{fault.name}, {severity}, in {base.name}", fault.name, base.name, base.family, severity, accepted,
        fault.layer, fault.refused,
    )  # fmt: skip
    faulty = lambda s: fault.applied(base.setup(s), severity)  # noqa: E731
    return Entry(case, lambda: faulty(seed), faulty, base.setup, fault.certain)


def healthy_entry(run: Healthy) -> Entry:
    case = Case(run.name, HEALTHY, run.base, run.family, "", frozenset())
    return Entry(case, run.make, certified=run.certified)


def post_entry(post: Post) -> Entry:
    accepted = frozenset(VERDICTS[number] for number in post.expected)
    fault = f"{post.name}: {post.story}" if post.expected else HEALTHY
    return Entry(Case(post.name, fault, post.name, "dense", "", accepted, refused=True), post.setup)


def all_entries(*, held_out: bool = False, draws: int = 8, seeds: int = 3) -> list[Entry]:
    """Return all cases of the development half, or of the held-out half."""
    severities: tuple[Severity, ...] = ("between",) if held_out else ("strong", "mild")
    faults = list(fault_entries(FAULTS, severities, held_out=held_out))
    healthy = [healthy_entry(run) for run in healthy_runs(draws, seeds, held_out=held_out)]
    return [*faults, *healthy, *([] if held_out else map(post_entry, POSTS))]


def final_excess(examined: Examined, base: Base) -> tuple[float, float]:
    """Return the validation ``λ`` at the end of a run in the loss of its base, and the standard error of the mean."""
    assert examined.setup is not None
    setup = examined.setup
    probe: Any = tuple(jnp.asarray(part) for part in setup.validation or setup.data)
    cost, params = Cost(setup.cost.model, base.loss), examined.states[-1].params
    limits = bounds_of(cost, params, probe)
    each = np.asarray(normalized_loss(example_losses(cost, params, probe), *limits), np.float64)
    return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))


def is_certified(value: float, error: float, best: float) -> bool:
    """Return whether a run is healthy by its outcome: two standard errors, or a tenth, from the best of its data."""
    return value <= best + max(2 * error, 0.1 * abs(best))


def judge(entry: Entry, *, budget: float = BUDGET, outcome: bool = True) -> tuple[Finding, Examined]:
    """Return what was found in a case."""
    start = time.perf_counter()
    examined = examine(entry.make, budget=budget)
    seconds = time.perf_counter() - start
    if examined.error:
        return Finding(entry.case, (REFUSED,), layers=(None,), seconds=seconds), examined
    harmful = harm(entry) if outcome else None
    mended = mends(entry, examined) if outcome and harmful is not False else None
    return finding(entry.case, examined.report, harm=harmful, mended=mended, seconds=seconds), examined
