"""How much of a run's communication was not hidden, from what `shard-run --trace` wrote.

    python -m shardc.trace trace.json [--skip 2] [--json]

Exposed is the time in which a rank's compute track stands in a collective or waits for one that was started earlier: for
bytes, or for ranks that came later. Busy is the time in which a rank has any collective under way. What is busy and not
exposed ran behind computation."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

COMPUTE, COMMUNICATION, ENTRIES = range(3)  # tracks of a rank
COLLECTIVES = {"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "permute", "broadcast"}


@dataclass(frozen=True)
class Exposure:
    """Of one rank, in microseconds, over the runs of its entries that were looked at."""

    rank: int
    runs: int
    total: float
    exposed: float
    busy: float

    @property
    def share(self) -> float:
        return self.exposed / self.total if self.total else 0.0

    @property
    def hidden(self) -> float:
        """Of the time in which something was under way, the part behind computation."""
        return max(0.0, 1 - self.exposed / self.busy) if self.busy else 0.0


def _union(spans: Iterable[tuple[float, float]]) -> float:
    length, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        length += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return length


def exposure(trace: str | Path, skip: int = 0) -> list[Exposure]:
    """By rank; the first `skip` runs of entries do not count."""
    text = json.loads(Path(trace).read_text())
    events = text["traceEvents"] if isinstance(text, dict) else text
    spans = defaultdict(lambda: {"total": {}, "exposed": [], "busy": []})
    for event in events:
        if event.get("ph") != "X":
            continue
        run = event.get("args", {}).get("run")
        if run is None:
            raise ValueError(f"{trace}: event {event.get('name')!r} names no run: not a trace of shard-run")
        rank, span = spans[event["pid"]], (event["ts"], event["ts"] + event["dur"])
        name = event["name"]
        if event["tid"] == ENTRIES:
            rank["total"][run] = span
        elif event["tid"] == COMMUNICATION:
            rank["busy"].append((run, span))
        elif name == "wait":
            rank["exposed"].append((run, span))
        elif name in COLLECTIVES:
            rank["exposed"].append((run, span))
            rank["busy"].append((run, span))
    if not any(rank["total"] for rank in spans.values()):
        raise ValueError(f"{trace}: no entry was run")
    result = []
    for number, rank in sorted(spans.items()):
        runs = sorted(rank["total"])[skip:]
        if not runs:
            raise ValueError(f"{trace}: rank {number} has {len(rank['total'])} runs, {skip} of them are skipped")
        lengths = {key: _union(span for run, span in rank[key] if run in runs) for key in ("exposed", "busy")}
        total = sum(stop - start for start, stop in (rank["total"][run] for run in runs))
        result.append(Exposure(number, len(runs), total, **lengths))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("trace", type=Path)
    parser.add_argument("--skip", type=int, default=0, help="runs at the start that do not count")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        ranks = exposure(args.trace, args.skip)
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"error: {error}") from error
    if args.json:
        print(json.dumps([{**asdict(rank), "share": rank.share, "hidden": rank.hidden} for rank in ranks], indent=1))
        return
    print("rank   runs   ms a run   exposed ms   share   hidden of what was under way")
    for rank in ranks:
        run, exposed = rank.total / rank.runs / 1e3, rank.exposed / rank.runs / 1e3
        print(f"{rank.rank:4} {rank.runs:6} {run:10.2f} {exposed:12.2f} {rank.share:7.1%} {rank.hidden:12.1%}")


if __name__ == "__main__":
    main()
