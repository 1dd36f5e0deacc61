# SPDX-License-Identifier: Apache-2.0
"""When jobs end on several equal workers: list scheduling, as a queue of workers does it."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping


def end_times(
    seconds: Mapping[str, float], after: Mapping[str, str], n_workers: int
) -> dict[str, float]:
    """Seconds from the start at which each job ends.

    Whenever a worker is free it takes the job with the longest chain of jobs from it to the end,
    among those that may begin; without ``after`` that is the longest job first. The last end is
    within (2 - 1/m) of the best possible on m workers: Graham 1969, SIAM J. Appl. Math. 17, 416.

    Args:
      seconds: of each job, >= 0.
      after: job -> the job that must have ended before it begins.
      n_workers: >= 1; one job at a time each.

    Raises:
      ValueError: if a job waits for one that is not there, or for itself.
    """
    chain = _chains(seconds, after)
    followers = defaultdict(list)
    for name, parent in after.items():
        followers[parent].append(name)
    # Ties by name: the plan decides, not the order of arrival.
    ready = [(-chain[name], name) for name in seconds if name not in after]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    ends: dict[str, float] = {}
    now = 0.0
    while ready or running:
        while ready and len(running) < n_workers:
            _, name = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[name], name))
        now, name = heapq.heappop(running)
        ends[name] = now
        for follower in followers[name]:
            heapq.heappush(ready, (-chain[follower], follower))
    return ends


def _chains(seconds: Mapping[str, float], after: Mapping[str, str]) -> dict[str, float]:
    """Seconds of each job and of the longest chain of those that wait for it."""
    if strange := sorted({*after, *after.values()} - set(seconds)):
        raise ValueError(f"job {strange[0]} is waited for, or waits, and is not among the jobs.")
    chain = dict(seconds)
    n_waiting = Counter(after.values())
    leaves = [name for name in seconds if not n_waiting[name]]
    n_seen = 0
    while leaves:
        name = leaves.pop()
        n_seen += 1
        if (parent := after.get(name)) is not None:
            chain[parent] = max(chain[parent], seconds[parent] + chain[name])
            n_waiting[parent] -= 1
            if not n_waiting[parent]:
                leaves.append(parent)
    if n_seen < len(seconds):
        raise ValueError("jobs wait for each other in a circle.")
    return chain
