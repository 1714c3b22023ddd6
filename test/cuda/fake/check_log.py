"""Checks the call log of the fake CUDA libraries (FAKE_CUDA_LOG): `check_log.py LOG [--bundle BUNDLE --entry NAME]`.

* Every operation ran behind all that its stream, events and graphs put before it.
* All ranks of a communicator made the same calls in the same order.
* Where buffers were registered with a communicator, its collectives used no others.
* With a bundle: the entry's launches, multiplications and collectives were enqueued exactly as its program lists them, at least once; between
  the first and the last of them nothing was allocated, loaded or freed and the host waited for nothing.
"""

import argparse
import collections
import json
import math
import pathlib
import sys

WORK = {"launch", "matmul", "nccl"}
FORBIDDEN = {"allocate", "free", "synchronize", "module", "communicator", "register"}


class Wrong(Exception):
    """What the log shows."""


def expect(condition, message):
    if not condition:
        raise Wrong(message)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def by_device(log):
    devices = collections.defaultdict(list)
    for line in log:
        devices[line["pid"], line["device"]].append(line)
    return devices


def check_order(lines):
    """Every operation is done once, behind what it depends on and what lies before it in its lane."""
    operations, lanes, done = {}, collections.defaultdict(list), set()
    for line in lines:
        if line["call"] == "enqueue":
            operations[line["op"]] = line
            lanes[line["lane"]].append(line["op"])
        elif line["call"] == "done":
            operation = operations[line["op"]]
            what = f"{operation['kind']} {operation['name']}"
            expect(line["op"] not in done, f"{what} is done twice")
            late = [other for other in operation["behind"] if other not in done]
            expect(not late, f"{what} ran before {[operations[other]['name'] for other in late]}, which it waits for")
            expect(lanes[operation["lane"]].pop(0) == line["op"], f"{what} ran before what lies before it in its stream")
            done.add(line["op"])
    return len(done)


def check_communicators(log):
    """The calls of each communicator, by rank; they must be the same, but for who sends to whom."""
    calls, sizes = collections.defaultdict(lambda: collections.defaultdict(list)), {}
    for line in log:
        if line["call"] == "communicator":
            sizes[line["comm"]] = line["ranks"]
            calls[line["comm"]][line["rank"]]  # It is there, even if it calls nothing.
        elif line["call"] == "collective" and not line["what"].startswith(("send", "receive")):
            calls[line["comm"]][line["rank"]].append(line["what"])
    for comm, ranks in calls.items():
        expect(len(ranks) == sizes[comm], f"{len(ranks)} of the {sizes[comm]} ranks of a communicator joined")
        first = ranks[min(ranks)]
        for rank, mine in ranks.items():
            for number, (one, other) in enumerate(zip(first, mine)):
                expect(one == other, f"collective {number}: rank {min(ranks)} calls {one}, rank {rank} {other}")
            expect(len(first) == len(mine), f"rank {min(ranks)} makes {len(first)} calls, rank {rank} {len(mine)}")
    return sum(len(ranks[min(ranks)]) for ranks in calls.values())


def check_registration(lines):
    registered, checked = collections.defaultdict(list), 0
    for line in lines:
        if line["call"] == "register":
            registered[line["comm"]].append((line["address"], line["address"] + line["bytes"]))
        elif line["call"] == "collective" and registered[line["comm"]]:
            for side in ("source", "target"):
                begin, end = line[side], line[side] + line[f"{side}_bytes"]
                inside = begin == end or any(low <= begin and end <= high for low, high in registered[line["comm"]])
                expect(inside, f"{line['what']}: its {side} is not registered")
            checked += 1
    return checked


def expected_work(program, commands):
    """What commands enqueue, as (kind, name or None); several multiplications or exchanges that follow each other count as one."""
    sizes = [math.prod(axis["size"] for axis in group["axes"]) for group in program["groups"]]
    work = []
    for command in commands:
        if command["op"] == "launch":
            for call in program["kernels"][command["kernel"]]["calls"]:
                if call["kind"] == "launch":
                    work.append(("launch", call["symbol"]))
                elif call["kind"] == "gemm":
                    work.append(("matmul", None))
        elif "group" in command and command["op"] != "slice" and sizes[command["group"]] > 1:
            work.append(("nccl", None))
    return [one for number, one in enumerate(work) if one[1] is not None or number == 0 or work[number - 1] != one]


def match(work, start, wanted):
    """The end of the wanted work from `start` on, or None."""
    at = start
    for number, item in enumerate(wanted):
        if at == len(work) or work[at] != item:
            return None
        at += 1
        while item[1] is None and at < len(work) and work[at] == item and number + 1 < len(wanted):
            at += 1
    return at


def check_steps(lines, program, entry):
    """How often the entry ran: what was enqueued must be runs of entries, one after another."""
    items = [
        (number, (line["kind"], line["name"] if line["kind"] == "launch" else None))
        for number, line in enumerate(lines)
        if line["call"] == "enqueue" and line["kind"] in WORK
    ]
    work = [item for _, item in items]
    entries = {"init": expected_work(program, program.get("init", []))}
    for one in program.get("entries", [{"name": "main", "commands": program.get("commands", [])}]):
        entries[one["name"]] = expected_work(program, one["commands"])
    expect(entries.get(entry), f"entry {entry} launches nothing")
    at, runs = 0, 0
    while at < len(work):
        ends = {name: match(work, at, wanted) for name, wanted in entries.items() if wanted}
        found = max((end, name) for name, end in ends.items() if end) if any(ends.values()) else None
        expect(found, f"{work[at : at + 3]}, number {at} of what is enqueued, begins no run of {list(ends)}")
        for line in lines[items[at][0] : items[found[0] - 1][0]]:
            expect(line["call"] not in FORBIDDEN, f"entry {found[1]}: {line} between its operations")
        at = found[0]
        runs += found[1] == entry
    expect(runs, f"entry {entry} never ran")
    return runs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=pathlib.Path)
    parser.add_argument("--bundle", type=pathlib.Path)
    parser.add_argument("--entry", default="main")
    arguments = parser.parse_args()
    print(json.dumps(check(read(arguments.log), arguments.bundle, arguments.entry)))


def check(log, bundle=None, entry="main"):
    """Counts of what was checked; raises Wrong."""
    errors = [line["message"] for line in log if line["call"] == "error"]
    expect(not errors, f"the libraries complained: {errors[:3]}")
    found = {"calls": check_communicators(log), "operations": 0, "registered": 0, "runs": 0}
    program = json.loads((bundle / "program.json").read_text()) if bundle else None
    for lines in by_device(log).values():
        found["operations"] += check_order(lines)
        found["registered"] += check_registration(lines)
        if program:
            found["runs"] += check_steps(lines, program, entry)
    return found


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"check_log: {wrong}")
