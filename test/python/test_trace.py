"""Exposed communication from a trace."""

import json

import pytest
from shardc.trace import exposure


def event(name, track, start, length, run=1, rank=0):
    return {"ph": "X", "name": name, "pid": rank, "tid": track, "ts": start, "dur": length, "args": {"run": run}}


def write(path, events):
    path.write_text(json.dumps({"traceEvents": [{"ph": "M", "name": "process_name", "pid": 0, "tid": 0}, *events]}))
    return path


def test_what_is_behind_computation_is_not_exposed(tmp_path):
    # Under way from 10 to 60 and from 50 to 70; waited for from 40 to 60; and a collective of its own from 80 to 90.
    events = [event("step", 2, 0, 100), event("all_gather", 1, 10, 50), event("reduce_scatter", 1, 50, 20)]
    events += [event("kernel_0_einsum", 0, 0, 40), event("wait", 0, 40, 20), event("all_reduce", 0, 80, 10)]
    (rank,) = exposure(write(tmp_path / "trace.json", events))
    assert (rank.rank, rank.runs, rank.total, rank.exposed, rank.busy) == (0, 1, 100, 30, 70)
    assert rank.share == pytest.approx(0.3)
    assert rank.hidden == pytest.approx(1 - 30 / 70)


def test_runs_at_the_start_do_not_count(tmp_path):
    events = [event("step", 2, 0, 100), event("wait", 0, 0, 90)]
    events += [event("step", 2, 100, 50, run=2), event("wait", 0, 100, 10, run=2), event("all_gather", 0, 0, 5, run=0)]
    events += [event("step", 2, 0, 10, rank=1), event("step", 2, 10, 30, run=2, rank=1)]
    first, second = exposure(write(tmp_path / "trace.json", events), skip=1)
    assert (first.total, first.exposed, first.runs) == (50, 10, 1)
    assert (second.total, second.exposed, second.share, second.hidden) == (30, 0, 0, 0)


@pytest.mark.parametrize(
    "events, skip, message",
    [
        ([], 0, "no entry was run"),
        ([event("step", 2, 0, 1)], 1, "rank 0 has 1 runs, 1 of them are skipped"),
        ([{"ph": "X", "name": "other", "pid": 0, "tid": 0, "ts": 0, "dur": 1}], 0, "'other' names no run"),
    ],
)
def test_other_files_are_refused(tmp_path, events, skip, message):
    with pytest.raises(ValueError, match=message):
        exposure(write(tmp_path / "trace.json", events), skip)
