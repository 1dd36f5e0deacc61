# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random moments of a real grid with two runners: nothing lost, doubled or changed."""

import contextlib
import os
import random
import signal
import time

import pytest

OFTEN = ("--checkpoint-seconds", "0", "--max-attempts", "1000", "--workers", "1")


class Chaos:
    """Two runners on one folder, and a hand that kills them and their workers.

    Attributes:
      n_kills: signals sent to a living worker, to a runner alone, or to a runner with its worker.
      after_checkpoint: (job, attempt) of the workers that were killed when they had saved.
    """

    def __init__(self, grid, seed, patiently):
        self.grid, self.rng, self.patiently = grid, random.Random(seed), patiently
        self.runners = [grid.run(*OFTEN) for _ in range(2)]
        self.n_kills, self.after_checkpoint = 0, set()

    def strike(self, *, after_checkpoint):
        """One kill; False if the grid came to its end before."""
        if after_checkpoint:
            self.patiently(lambda: self._saved() or self._is_over(), "a checkpoint", 600.0)
            time.sleep(self.rng.uniform(0.0, 0.2))
        else:
            time.sleep(self.rng.uniform(0.0, 3.0))
        if self._is_over():
            return False
        working = self._saved() if after_checkpoint else self.grid.working()
        victim = self.rng.choice(working) if working else None
        how = self.rng.choice(("worker", "worker", "group", "runner"))
        if victim is not None and (how == "worker" or after_checkpoint):
            self._kill(victim, is_group=how != "worker")
        else:
            self._kill_runner(is_group=how != "runner")
        for i, runner in enumerate(self.runners):
            if runner.poll() not in (None, 0):
                assert runner.returncode == -signal.SIGKILL, self.grid.said(runner)
                self.runners[i] = self.grid.run(*OFTEN)
        return True

    def _saved(self):
        return [attempt for attempt in self.grid.working() if attempt.has_checkpoint]

    def _is_over(self):
        return any(runner.poll() == 0 for runner in self.runners)

    def _kill(self, victim, *, is_group):
        """A worker, alone or with its runner; others that had saved and die with it count too."""
        with contextlib.suppress(ProcessLookupError):
            group = os.getpgid(victim.pid)
            is_group = is_group and group in [runner.pid for runner in self.runners]
            dying = [w for w in self._saved() if is_group and os.getpgid(w.pid) == group]
            if is_group:
                os.killpg(group, signal.SIGKILL)
                next(r for r in self.runners if r.pid == group).wait()
            else:
                os.kill(victim.pid, signal.SIGKILL)
            self.n_kills += 1
            self._count(dying or [victim])

    def _count(self, killed):
        """Of these the ones that had saved and whose job was not finished at that moment."""
        self.after_checkpoint |= {
            (victim.job, victim.number)
            for victim in killed
            if victim.has_checkpoint and not self.grid.ledger.has_result(victim.job)
        }

    def _kill_runner(self, *, is_group):
        runner = self.rng.choice(self.runners)
        if is_group:
            os.killpg(runner.pid, signal.SIGKILL)
        else:
            runner.kill()
        runner.wait()
        self.n_kills += 1

    def finish(self):
        for runner in self.runners:
            self.grid.finish(runner, 0)


SHORT = (6, 2, ())
LONG = (50, 20, ("budgets=4e9,8e9", "seeds=0,1,2"))


@pytest.mark.parametrize(
    ("n_kills", "n_after", "overrides"),
    [
        pytest.param(*SHORT, marks=pytest.mark.slow(reason="40 s; test_end_to_end.py kills one")),
        pytest.param(*LONG, marks=pytest.mark.chaos),
    ],
    ids=["in_short", "at_length"],
)
def test_a_grid_killed_again_and_again_has_the_results_of_an_undisturbed_one(
    make_grid, calm_grid, patiently, record_property, n_kills, n_after, overrides
):
    calm = calm_grid
    if overrides:
        calm = make_grid("calm", *overrides)
        calm.finish(calm.run("--workers", "1"), 0)
    killed = make_grid("killed", *overrides)
    chaos = Chaos(killed, n_kills, patiently)
    while chaos.n_kills < n_kills or len(chaos.after_checkpoint) < n_after:
        is_behind = len(chaos.after_checkpoint) * n_kills <= chaos.n_kills * n_after
        assert chaos.strike(after_checkpoint=is_behind), "the grid ended before the kills did"
    chaos.finish()

    assert chaos.n_kills >= n_kills
    assert len(chaos.after_checkpoint) >= n_after
    points = killed.ledger.read_plan()
    results = killed.results()
    assert len(results) == len(points) == len(killed.tables()[0].splitlines()) - 1
    assert results == calm.results()
    assert killed.tables() == calm.tables()
    records = {p.id: killed.ledger.read_result(p.id) for p in points}
    resumed = {name: r.provenance.resumed_at_steps for name, r in records.items()}
    for job, _ in chaos.after_checkpoint:
        assert resumed[job][-1] > 0, "what was saved was used"
    record_property("points", len(points))
    record_property("kills", chaos.n_kills)
    record_property("kills_after_a_checkpoint", len(chaos.after_checkpoint))
    record_property("resumes", sum(step > 0 for steps in resumed.values() for step in steps))
    record_property("lost", len(points) - len(results))
