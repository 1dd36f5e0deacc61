# SPDX-License-Identifier: Apache-2.0
"""The distinct programs of a plan: points that differ in rates, seeds or length share one."""

from dataclasses import dataclass

from experiments.checks.compile.collectives import Step
from experiments.checks.compile.messages import ProgramToCompile
from experiments.plan.jobs import program
from experiments.plan.plan import Plan
from experiments.plan.point import Point
from model.network.execution import Execution
from model.training.objectives.kinds import KINDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """What is compiled once.

    Attributes:
      key: "p0", "p1", ... in the order of the plan.
      points: that it trains.
    """

    key: str
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        model, train = self.points[0].spec.model, self.points[0].spec.train
        return f"d_model {model.d_model}, {model.n_layers} layers, batch {train.batch_size}"

    def to_compile(self) -> ProgramToCompile:
        spec = self.points[0].spec
        return ProgramToCompile(model=spec.model, train=spec.train)

    def step(self, mesh_shape: tuple[int, ...], execution: Execution) -> Step:
        spec = self.points[0].spec
        return Step(
            model=spec.model,
            batch_size=spec.train.batch_size,
            compute_dtype=spec.train.compute_dtype,
            is_causal=KINDS[spec.train.objective].is_causal,
            mesh_shape=mesh_shape,
            execution=execution,
        )


def programs(plan: Plan) -> list[Program]:
    """Every distinct program, first use first."""
    groups: dict[tuple, list[Point]] = {}
    for point in plan.points:
        groups.setdefault(program(point), []).append(point)
    return [Program(key=f"p{n}", points=tuple(points)) for n, points in enumerate(groups.values())]
