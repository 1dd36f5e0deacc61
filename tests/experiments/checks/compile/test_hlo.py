# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501
"""Reading collectives out of a program's text, on texts whose traffic is counted by hand."""

import pytest

from experiments.checks.compile.hlo import by_kind, collectives

LOOP = """
HloModule jit_train, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%body (p: (s32[], f32[64])) -> (s32[], f32[64]) {
  %w = f32[64,8]{1,0} all-gather(%x), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  %both = (f32[16]{0}, bf16[32]{0}) all-reduce(%y, %z), channel_id=2, replica_groups={{0,1},{2,3}}, to_apply=%add
}

%condition (p: (s32[], f32[64])) -> pred[] {
  %limit = s32[]{:T(128)} constant(5)
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %loop = (s32[], f32[64]{0}) while(%start), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %r = f32[10]{0} reduce-scatter(%g), channel_id=3, replica_groups=mesh['a'=2,'b'=4] {'b'}, to_apply=%add
  ROOT %e = (f32[100]{0}, f32[100]{0}) all-to-all(%s, %t), channel_id=4, replica_groups={{0,1,2,3,4}}
}
"""


def test_bytes_of_a_loop_are_those_of_its_body_times_its_trips():
    moved = by_kind(collectives(LOOP))
    assert moved["all-gather"] == 3 * 64 * 8 * 4 * 3 / 4
    assert moved["all-reduce"] == 3 * 2 * (16 * 4 + 32 * 2) * 1 / 2
    assert moved["reduce-scatter"] == 4 * 10 * 4 * 3 / 4
    assert moved["all-to-all"] == 2 * 100 * 4 * 4 / 5


def test_a_loop_that_only_its_condition_bounds_counts_so_often():
    text = LOOP.replace(', backend_config={"known_trip_count":{"n":"3"}}', "")
    assert by_kind(collectives(text))["all-gather"] == 5 * 64 * 8 * 4 * 3 / 4


def test_a_loop_without_a_known_bound_counts_once():
    text = LOOP.replace(', backend_config={"known_trip_count":{"n":"3"}}', "")
    text = text.replace("constant(5)", "parameter(0)")
    assert by_kind(collectives(text))["all-gather"] == 64 * 8 * 4 * 3 / 4


def test_one_channel_is_one_collective_wherever_it_is_written():
    twice = LOOP.replace(
        "  %both =",
        "  %again = f32[64,8]{1,0} all-gather(%x), channel_id=1, replica_groups=[2,4]<=[8]\n  %both =",
    )
    assert by_kind(collectives(twice)) == by_kind(collectives(LOOP))


def test_an_asynchronous_start_counts_its_result_and_its_end_nothing():
    text = """
ENTRY %main (p: f32[8]) -> f32[8] {
  %s = (f32[8]{0}, f32[32]{0}) all-gather-start(%p), channel_id=1, replica_groups={{0,1,2,3}}
  ROOT %d = f32[32]{0} all-gather-done(%s)
}
"""
    assert by_kind(collectives(text)) == {"all-gather": pytest.approx(32 * 4 * 3 / 4)}


def test_a_text_without_collectives_has_none():
    assert (
        collectives("HloModule x\n\nENTRY %main () -> f32[] {\n  ROOT %c = f32[] constant(1)\n}")
        == []
    )
