# SPDX-License-Identifier: Apache-2.0
"""Collectives of a compiled program, read from its text: what the compiler made of the layout.

Indicative. A compiler may merge collectives, split them, hide them in fusions, or write a
reduce-scatter as an all-reduce and a slice (XLA's CPU does). A loop's body counts as often as the
compiler says that it runs; the loop over steps, whose length is not known to it, counts once. The
TPU's compiler spreads one collective over the fusions that it overlaps with: instructions of one
channel count once.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8}
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^(?:ROOT )?%?[\w.\-]+ = (.+)$")
_COLLECTIVE = re.compile(rf"^(.*?) ({'|'.join(KINDS)})(-start)?\(")
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:body|condition|calls|to_apply|called_computations|branch_computations)=")
_NAMES = re.compile(r"%([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONDITION = re.compile(r" while\(.*condition=%?([\w.\-]+)")
_CONSTANT = re.compile(r"s32\[\]\S* constant\((\d+)\)")
_CHANNEL = re.compile(r"channel_id=\d+")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Collective:
    """One collective of the program.

    Attributes:
      kind: one of KINDS.
      array_bytes: of its result, of a reduce-scatter its operand.
      group_size: devices that take part; 1 where the text does not say.
      count: per execution of the outermost loop's body.
    """

    kind: str
    array_bytes: int
    group_size: int
    count: int

    @property
    def moved(self) -> float:
        """Bytes per device, as in collectives.py."""
        if self.kind == "collective-permute":
            return float(self.count * self.array_bytes)
        share = (self.group_size - 1) / self.group_size
        return (2 if self.kind == "all-reduce" else 1) * self.count * self.array_bytes * share


def collectives(text: str) -> list[Collective]:
    """Every collective of a program in HLO text."""
    bodies = _computations(text)
    counts = _counts(text, bodies)
    by_channel: dict[str, Collective] = {}
    for name, lines in bodies.items():
        for n, line in enumerate(lines):
            found = _collective(line, counts.get(name, 0))
            if found is not None and found.count:
                channel = match[0] if (match := _CHANNEL.search(line)) else f"{name} {n}"
                by_channel.setdefault(channel, found)
    return list(by_channel.values())


def by_kind(found: list[Collective]) -> dict[str, float]:
    """Bytes per device of each kind that occurs."""
    total: dict[str, float] = {}
    for collective in found:
        total[collective.kind] = total.get(collective.kind, 0.0) + collective.moved
    return total


def _computations(text: str) -> dict[str, list[str]]:
    bodies: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            name = match[1]
            bodies[name] = []
        elif name and (match := _INSTRUCTION.match(line.strip())):
            bodies[name].append(match[1])
    return bodies


def _counts(text: str, bodies: dict[str, list[str]]) -> dict[str, int]:
    """How often each computation runs when the program does, unknown loops once."""
    entry = re.search(r"^ENTRY %?([\w.\-]+) ", text, re.MULTILINE)
    counts: dict[str, int] = {}

    def visit(name: str, times: int) -> None:
        counts[name] = counts.get(name, 0) + times
        for line in bodies.get(name, ()):
            for called in _called(line):
                visit(called, times * _trips(line, bodies))

    if entry is not None:
        visit(entry[1], 1)
    return counts


def _trips(line: str, bodies: dict[str, list[str]]) -> int:
    """Of a loop: as noted there, or the one constant that its condition compares with; else 1."""
    if match := _TRIPS.search(line):
        return int(match[1])
    if (match := _CONDITION.search(line)) is None:
        return 1
    condition = bodies.get(match[1], [])
    limits = [match[1] for text in condition if (match := _CONSTANT.match(text))]
    is_counted = any("direction=LT" in text for text in condition)
    return int(limits[0]) if is_counted and len(limits) == 1 else 1


def _called(line: str) -> Iterator[str]:
    for match in _CALLED.finditer(line):
        rest = line[match.end() :]
        listed = rest[: rest.index("}")] if rest.startswith("{") else rest.split(",")[0]
        yield from _NAMES.findall(listed)


def _collective(line: str, count: int) -> Collective | None:
    match = _COLLECTIVE.match(line)
    if match is None:
        return None
    shapes = [_shape_bytes(*shape) for shape in _SHAPE.findall(match[1])]
    kind, n = match[2], _group_size(line)
    # What starts an asynchronous one returns operands and results; of one kind they are equal.
    if match[3] and kind != "all-reduce":
        shapes = [max(shapes)]
    size = sum(shapes) * (n if kind == "reduce-scatter" and not match[3] else 1)
    return Collective(kind=kind, array_bytes=size, group_size=n, count=count)


def _shape_bytes(dtype: str, dimensions: str) -> int:
    lengths = [int(length) for length in dimensions.split(",") if length]
    return _BYTES.get(dtype, 0) * math.prod(lengths)


def _group_size(line: str) -> int:
    """Devices in one group, from any of the three ways to write groups."""
    if match := _MESH.search(line):
        sizes = dict(re.findall(r"'([\w]+)'=(\d+)", match[1]))
        return math.prod(int(sizes[name]) for name in re.findall(r"'([\w]+)'", match[2]))
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]", line):
        return int(match[2])
    if match := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return len(match[1].split(","))
    return 1
