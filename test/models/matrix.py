#!/usr/bin/env python3
"""Every exported model, sharded every way, against what torch computed.

A case is a model (family/variant), a number of tensor-parallel ranks and sequence parallelism on or off. It is compiled
with `shardc compile` and run with `shard-run` on real ranks; the inputs and the expected outputs lie in the .npz beside
the model. Dynamic models run with every shape that their .npz holds (NAME, NAME__2, ...), one compilation each.

    python test/models/matrix.py                                   the models in test/fixtures
    python test/models/matrix.py --fixtures DIR --filter llama     a larger set, a part of it
    python test/models/matrix.py --docs docs/models.md             also write the table as a document
    python test/models/matrix.py --interpret                       stage by stage in the interpreter (shardc verify)
    python test/models/matrix.py --interpreted-tp 2                both: one more column, of the interpreter with 2 devices
    python test/models/matrix.py --results FILE                    keep outcomes there, and go on where a run was stopped

A case passes if the largest difference is at most the tolerance times the largest magnitude expected. It is refused if
the compiler said that the plan does not fit the number of ranks; anything else fails, and so does the exit status.
Needs numpy only.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent

# Relative to the largest magnitude expected. float32: sums in another order. The 16-bit types round every intermediate
# result, at other places than torch does: eight of their units (2**-8, 2**-11) cover two layers.
TOLERANCES = {"bf16": 8 * 2.0**-8, "fp16": 8 * 2.0**-11}
FLOAT32_TOLERANCE = 1e-4

# Models whose weights have no names of their own, or of a family without a plan: the base plan finds their roles.
NO_PLAN = re.compile(r"^mamba2/|-torchscript$|-anonymous$")

# What the compiler says when a plan cannot be applied to so many ranks; by design, not a failure.
REFUSALS = re.compile(r"does not divide|not divisible|cannot be cut into|fewer than")

DEGREES = (1, 2, 4, 8)
CASE_TIMEOUT = 300  # seconds


# ---------------------------------------------------------------------------------------------------------------------
# Models
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    path: Path

    @property
    def family(self) -> str:
        return self.path.parent.name

    @property
    def variant(self) -> str:
        return self.path.stem

    @property
    def name(self) -> str:
        return f"{self.family}/{self.variant}"

    @property
    def tolerance(self) -> float:
        return TOLERANCES.get(self.variant.rsplit("-", 1)[-1], FLOAT32_TOLERANCE)

    @property
    def plan(self) -> list:
        return [] if NO_PLAN.search(self.name) else ["--plan", self.family]


def find_models(folder: Path, pattern: str = "") -> list:
    """Models below `folder` that have an .npz beside them and whose name matches."""
    models = [Model(p) for p in sorted(folder.glob("*/*.onnx")) if p.with_suffix(".npz").exists()]
    return [m for m in models if m.family != "fullsize" and re.search(pattern, m.name)]


def wire_fields(data: bytes):
    """(number, value) of each field of a protobuf message; value is an int or bytes."""

    def varint(at):
        value = shift = 0
        while True:
            byte = data[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value, at

    at = 0
    while at < len(data):
        key, at = varint(at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(at)
        else:
            size, at = (8, at) if kind == 1 else (4, at) if kind == 5 else varint(at)
            value, at = data[at : at + size], at + size
        yield number, value


def submessages(data: bytes, *numbers: int) -> list:
    """The messages at the end of a path of field numbers."""
    level = [data]
    for number in numbers:
        level = [v for message in level for n, v in wire_fields(message) if n == number]
    return level


def onnx_inputs(path: Path) -> dict:
    """Dimensions of each graph input: a number, or the name of a dynamic one."""
    inputs = {}
    for value in submessages(path.read_bytes(), 7, 11):  # ModelProto.graph.input
        dims = []
        for dim in submessages(value, 2, 1, 2, 1):  # type.tensor_type.shape.dim
            dims.append(next((v.decode() if n == 2 else v for n, v in wire_fields(dim)), None))
        inputs[submessages(value, 1)[0].decode()] = dims
    return inputs


def shapes_of(model: Model):
    """(inputs, expected outputs, --dim options) for each shape that the .npz holds."""
    arrays = dict(np.load(model.path.with_suffix(".npz")))
    declared = onnx_inputs(model.path)
    suffixes = sorted({m.group(0) for m in (re.search(r"__\d+$", k) for k in arrays) if m})
    for suffix in ["", *suffixes]:
        # An exporter spells past_key_values.0 as `input.past_key_values.0` beside the output of that name.
        inputs = {}
        for name in declared:
            for key in (name + suffix, f"input.{name}{suffix}"):
                if key in arrays:
                    inputs[name] = arrays[key]
                    break
        outputs = {name: arrays[name + suffix] for name in ("logits", "loss") if name + suffix in arrays}
        dims = {}
        for name, array in inputs.items():
            dims.update({d: n for d, n in zip(declared[name], array.shape) if isinstance(d, str)})
        yield inputs, outputs, [f"--dim={d}={n}" for d, n in dims.items()]


# ---------------------------------------------------------------------------------------------------------------------
# Cases
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    model: Model
    tp: int
    sequence_parallel: bool = False
    interpreted: bool = False

    @property
    def column(self) -> str:
        return f"tp {self.tp}" + (" sp" if self.sequence_parallel else "") + (" interpreted" if self.interpreted else "")

    def __str__(self) -> str:
        return f"{self.model.name} {self.column}"


@dataclass
class Outcome:
    case: Case
    status: str  # passed, failed, refused
    difference: float = 0.0  # largest, relative to the largest magnitude expected
    reason: str = ""
    stats: dict = field(default_factory=dict)  # share: the part of the weights that a rank holds
    seconds: float = 0.0

    @property
    def cell(self) -> str:
        return f"{self.difference:.1e}" if self.status == "passed" else self.status


class StepError(Exception):
    """A program ended with an error; holds what it said."""


@dataclass(frozen=True)
class Tools:
    folder: Path
    isa: str = ""
    in_process: bool = False

    def call(self, name: str, *args) -> str:
        command = [str(self.folder / name), *map(str, args)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=CASE_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise StepError(f"{name} took more than {CASE_TIMEOUT} s") from None
        if done.returncode:
            raise StepError(first_error(done.stderr) or f"{name} ended with status {done.returncode}")
        return done.stdout


def first_error(text: str) -> str:
    """The first error of a program's messages, without the file it is in."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = next((line for line in lines if "error:" in line), lines[0] if lines else "")
    return re.sub(r'loc\("[^"]*/([^"/]*)"[:\d]*\)', r"\1", line).strip()


def relative_difference(got: np.ndarray, expected: np.ndarray) -> float:
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    if got.shape != expected.shape:
        raise StepError(f"output has shape {got.shape}, expected {expected.shape}")
    if not np.isfinite(got).all():
        raise StepError(f"output has {np.count_nonzero(~np.isfinite(got))} values that are not finite")
    return float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-30))


def read_output(path: Path, declared: str) -> np.ndarray:
    array = np.load(path)
    if declared == "bf16":  # raw halves of float32
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array


def model_options(case: Case, dims) -> list:
    return [f"--tp={case.tp}", *case.model.plan, *dims, *(["--sequence-parallel"] if case.sequence_parallel else [])]


def save_inputs(inputs: dict, folder: Path) -> list:
    options = []
    for index, (name, array) in enumerate(inputs.items()):
        np.save(folder / f"in{index}.npy", array)
        options += ["--input", f"{name}={folder / f'in{index}.npy'}"]
    return options


def weight_share(bundle: Path, rank_bytes: int) -> float:
    """The part of all weights that one rank holds."""
    size = {"f64": 8, "i64": 8, "f32": 4, "i32": 4, "bf16": 2, "f16": 2, "i8": 1, "u8": 1, "bool": 1}
    parameters = json.loads((bundle / "program.json").read_text())["parameters"]
    return rank_bytes / sum(size[p["dtype"]] * int(np.prod(p["shape"])) for p in parameters)


def run_compiled(case: Case, tools: Tools, folder: Path) -> tuple:
    """Compiles and runs all shapes; the largest difference and the first bundle's facts."""
    worst, stats = 0.0, {}
    for index, (inputs, expected, dims) in enumerate(shapes_of(case.model)):
        bundle = folder / f"{index}.bundle"
        isa = ["--isa", tools.isa] if tools.isa else []
        tools.call("shardc", "compile", case.model.path, *model_options(case, dims), *isa, "-o", bundle)
        manifest = json.loads((bundle / "manifest.json").read_text())
        stats = stats or {"share": weight_share(bundle, manifest["memory"]["parameter_bytes"])}
        dtypes = {o["name"]: o["dtype"] for o in manifest["outputs"]}
        # A loss may come first among unnamed outputs of an export.
        names = {n: n if n in dtypes else next(iter(dtypes)) for n in expected}
        outputs = {n: folder / f"out-{n}.npy" for n in expected}
        options = save_inputs(inputs, folder) + ["--threads", "1", "--timeout", "60"]
        for name, path in outputs.items():
            options += ["--output", f"{names[name]}={path}"]
        if tools.in_process:
            options.append("--in-process")
        tools.call("shard-run", "-n", case.tp, bundle, *options)
        for name, path in outputs.items():
            worst = max(worst, relative_difference(read_output(path, dtypes[names[name]]), expected[name]))
    return worst, stats


def run_interpreted(case: Case, tools: Tools, folder: Path) -> tuple:
    """Interprets after every stage; the largest difference from the imported program."""
    worst = 0.0
    for inputs, _, dims in shapes_of(case.model):
        options = [*save_inputs(inputs, folder), "--no-compiled", f"--tolerance={case.model.tolerance}"]
        text = tools.call("shardc", "verify", case.model.path, *model_options(case, dims), *options, "--json")
        worst = max([worst, *(stage["relative"] for stage in json.loads(text)["stages"])])
    return worst, {}


def run_case(case: Case, tools: Tools, interpret: bool = False) -> Outcome:
    start = time.time()
    outcome = Outcome(case, "failed")
    with tempfile.TemporaryDirectory(prefix="shardc-matrix-") as folder:
        try:
            run = run_interpreted if interpret or case.interpreted else run_compiled
            outcome.difference, outcome.stats = run(case, tools, Path(folder))
            if outcome.difference <= case.model.tolerance:
                outcome.status = "passed"
            else:
                outcome.reason = f"difference {outcome.difference:.1e}, tolerance {case.model.tolerance:.1e}"
        except StepError as error:
            outcome.reason = str(error)
            outcome.status = "refused" if REFUSALS.search(outcome.reason) else "failed"
    outcome.seconds = time.time() - start
    return outcome


def make_cases(models, degrees, interpreted=()) -> list:
    ways = [(tp, sp, False) for tp in degrees for sp in ((False, True) if tp > 1 else (False,))]
    return [Case(m, *way) for m in models for way in [*ways, *((tp, False, True) for tp in interpreted)]]


def load_outcomes(path: Path, cases) -> dict:
    """What an earlier run has found of these cases."""
    by_name = {str(case): case for case in cases}
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {line["case"]: Outcome(**{**line, "case": by_name[line["case"]]}) for line in lines if line["case"] in by_name}


def save_outcome(path: Path, outcome: Outcome) -> None:
    fields = {name: getattr(outcome, name) for name in ("status", "difference", "reason", "stats", "seconds")}
    with path.open("a") as file:
        file.write(json.dumps({"case": str(outcome.case), **fields}) + "\n")


# ---------------------------------------------------------------------------------------------------------------------
# Reports
# ---------------------------------------------------------------------------------------------------------------------


def count(outcomes, status: str) -> int:
    return sum(o.status == status for o in outcomes)


def summary_rows(outcomes) -> list:
    """A row for each family: models, cases that passed, failed, were refused, worst difference, share of the weights."""
    rows = []
    for family in sorted({o.case.model.family for o in outcomes}):
        own = [o for o in outcomes if o.case.model.family == family]
        shares = [o.stats["share"] for o in own if o.case.tp == 2 and "share" in o.stats]
        passed = [o.difference for o in own if o.status == "passed" and o.case.model.tolerance == FLOAT32_TOLERANCE]
        rows.append(
            [
                family,
                len({o.case.model.name for o in own}),
                count(own, "passed"),
                count(own, "failed"),
                count(own, "refused"),
                f"{max(passed):.1e}" if passed else "",
                f"{100 * min(shares):.0f} to {100 * max(shares):.0f} %" if shares else "",
            ]
        )
    return rows


def markdown_table(header, rows) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def columns_of(outcomes) -> list:
    cases = {o.case for o in outcomes}
    ordered = sorted(cases, key=lambda c: (c.interpreted, c.tp, c.sequence_parallel))
    return list(dict.fromkeys(c.column for c in ordered))


def case_rows(outcomes, columns) -> list:
    cells = {(o.case.model.name, o.case.column): o.cell for o in outcomes}
    names = sorted({o.case.model.name for o in outcomes})
    shares = {o.case.model.name: f"{100 * o.stats['share']:.0f} %" for o in outcomes if o.case.tp == 2 and "share" in o.stats}
    return [[name, shares.get(name, ""), *(cells.get((name, column), "") for column in columns)] for name in names]


def reason_lines(outcomes, status: str) -> str:
    """Each reason once, with the cases it stands for."""
    by_reason = {}
    for o in outcomes:
        if o.status == status:
            by_reason.setdefault(o.reason, {}).setdefault(o.case.model.name, []).append(o.case.column)
    lines = ""
    for reason, models in by_reason.items():
        where = "; ".join(f"{name} ({', '.join(columns)})" for name, columns in models.items())
        lines += f"* {where}: `{reason}`\n"
    return lines


DOCUMENT = """# Models

Written by `test/models/matrix.py`; do not edit. Every exported model was compiled, run on real ranks ({ranks}
that share memory, one compute thread each{isa}) and compared with what torch computed from the same weights. The fixtures are the
architectures of Hugging Face transformers with small sizes (2 to 4 layers, hidden size 64, 8 heads) and random weights.

A number is the largest difference of an output, relative to its largest magnitude; dynamic models are compiled and run
with each of their shapes. An empty cell was not run. Tolerances: {float32:.0e} for float32; {bf16:.1e} for bf16 and {fp16:.1e} for fp16, eight units in
the last place of these types. `refused`: the plan does not fit that number of ranks, and the compiler said so.
`sp`: sequence parallel. `interpreted`: the largest difference of any stage of the compiler, in the interpreter on simulated devices, from the program
as it was imported.

## Summary

{passed} of {total} cases pass, {failed} fail, {refused} are refused.

{summary}
"Weights a rank" is the share of all weights that one of two ranks holds: 50 % is everything cut, 100 % nothing. Where it
is large, the family's plan says nothing about some weights, or the export took their names away.

## Cases

{cases}"""


def document(outcomes, tools: Tools) -> str:
    columns = columns_of(outcomes)
    text = DOCUMENT.format(
        ranks="threads of one process" if tools.in_process else "processes",
        isa=f", kernels of {tools.isa}" if tools.isa else "",
        float32=FLOAT32_TOLERANCE,
        **TOLERANCES,
        total=len(outcomes),
        **{s: count(outcomes, s) for s in ("passed", "failed", "refused")},
        summary=markdown_table(
            ["family", "models", "passed", "failed", "refused", "largest difference (f32)", "weights a rank, tp 2"],
            summary_rows(outcomes),
        ),
        cases=markdown_table(["model", "weights a rank, tp 2", *columns], case_rows(outcomes, columns)),
    )
    for status, title in (("failed", "Failures"), ("refused", "Refusals")):
        if count(outcomes, status):
            text += f"\n## {title}\n\n" + reason_lines(outcomes, status)
    return text


# ---------------------------------------------------------------------------------------------------------------------


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("SHARDC_FIXTURES", ROOT / "test" / "fixtures")
    parser.add_argument("--fixtures", type=Path, default=default, help="folder of FAMILY/VARIANT.onnx and .npz")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="build folder")
    parser.add_argument("--filter", default="", help="regular expression on FAMILY/VARIANT")
    parser.add_argument("--tp", type=int, nargs="+", default=list(DEGREES), help="numbers of ranks")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time")
    parser.add_argument("--isa", default="", help="processor levels to compile for (default: shardc's)")
    parser.add_argument("--in-process", action="store_true", help="ranks are threads of one process")
    parser.add_argument("--interpret", action="store_true", help="the interpreter after every stage, not the compiled program")
    parser.add_argument("--interpreted-tp", type=int, nargs="*", default=[], help="numbers of devices of further columns, interpreted")
    parser.add_argument("--results", type=Path, help="outcomes, one a line; cases that are there are not run")
    parser.add_argument("--docs", type=Path, help="write the table there")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    cases = make_cases(find_models(args.fixtures, args.filter), args.tp, args.interpreted_tp)
    if not cases:
        sys.exit(f"no model below {args.fixtures} matches \"{args.filter}\"")
    tools = Tools(args.build / "bin", args.isa, args.in_process)
    known = load_outcomes(args.results, cases) if args.results else {}
    outcomes = list(known.values())
    rest = [case for case in cases if str(case) not in known]
    with ThreadPoolExecutor(args.jobs) as pool:
        for outcome in pool.map(lambda case: run_case(case, tools, args.interpret), rest):
            outcomes.append(outcome)
            if args.results:
                save_outcome(args.results, outcome)
            print(f"{str(outcome.case):48} {outcome.cell:8} {outcome.seconds:6.1f} s  {outcome.reason}", flush=True)
    print(f"\n{count(outcomes, 'passed')} passed, {count(outcomes, 'failed')} failed, {count(outcomes, 'refused')} refused")
    print(reason_lines(outcomes, "failed"), end="")
    if args.docs:
        args.docs.write_text(document(outcomes, tools))
    return 1 if count(outcomes, "failed") else 0


if __name__ == "__main__":
    sys.exit(main())
