"""Checks bundles on this machine's GPU against what processors computed (pack.py); writes results as JSON.

    python3 check.py [--output results.json] [--only NAME,...] [--seconds N]

Exit status 0: all checks passed, or there is no GPU (which is said); 1: some failed."""

import argparse
import contextlib
import json
import pathlib
import shutil
import subprocess
import sys
import time

import bandwidth
import numpy as np
from gpu_machine import SECONDS, Failed, Machine, NoGpu

HERE = pathlib.Path(__file__).resolve().parent
# Largest difference, relative to the largest magnitude of the output: sums have another order, and 16-bit results may be
# rounded the other way at every layer.
TOLERANCE = {"float32": 2e-5, "float16": 1e-2, "uint16": 5e-2}
LOSS_TOLERANCE = 1e-4
BENCH_RUNS = 20


def load(file):
    """bf16 is stored as raw items of two bytes."""
    array = np.load(file)
    return array.view(np.uint16) if array.dtype.kind == "V" else array


def floats(array):
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def difference(actual, expected):
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise Failed(f"the result is {actual.dtype} {actual.shape}, expected {expected.dtype} {expected.shape}")
    if not np.isfinite(floats(actual)).all():
        raise Failed("the result is not finite")
    scale = max(float(np.abs(floats(expected)).max()), 1e-30)
    return float(np.abs(floats(actual) - floats(expected)).max()) / scale


class Checks:
    def __init__(self, machine, cases):
        self.machine, self.cases, self.results = machine, cases, []

    def attempt(self, name, body):
        began = time.time()
        result = {"name": name}
        try:
            result.update(body() or {}, passed=True)
        except (Failed, subprocess.TimeoutExpired) as error:
            result.update(passed=False, error=str(error))
        except NoGpu as error:
            if not self.results:
                raise
            result.update(passed=False, error=str(error))  # a library that only this check needs
        result["seconds"] = round(time.time() - began, 2)
        self.results.append(result)
        print(f"{'ok  ' if result['passed'] else 'FAIL'} {name} {result.get('error', '')}", flush=True)

    # ---- inference -------------------------------------------------------------------------------------------------
    def run_inference(self, case, *options, **more):
        files = {name: self.machine.work / f"{name}.npy" for name in case["outputs"]}
        arguments = [w for name, file in case["inputs"].items() for w in ("--input", f"{name}={HERE / file}")]
        arguments += [w for name, file in files.items() for w in ("--output", f"{name}={file}")]
        self.machine.shard_run(case["name"], *arguments, *options, **more)
        return {name: load(file) for name, file in files.items()}

    def inference(self, case, *options, **more):
        worst = 0.0
        for name, actual in self.run_inference(case, *options, **more).items():
            expected = load(HERE / case["outputs"][name])
            if not np.issubdtype(expected.dtype, np.floating) and expected.dtype != np.uint16:
                if not np.array_equal(actual, expected):
                    raise Failed(f"output {name} differs")
                continue
            error = difference(actual, expected)
            worst = max(worst, error)
            if error > TOLERANCE.get(str(expected.dtype), 1e-6):
                raise Failed(f"output {name} differs by {error:.3g} of its largest magnitude")
        return {"error": worst}

    def graph_changes_nothing(self, case):
        """Replayed graphs, calls one by one, and poisoned memory: the same bits."""
        plain = self.run_inference(case, "--no-cuda-graph")
        for options in (("--runs", "3"), ("--poison",)):
            for name, value in self.run_inference(case, *options).items():
                if not np.array_equal(value.view(np.uint8), plain[name].view(np.uint8)):
                    raise Failed(f"{' '.join(options)} changes output {name}")

    # ---- training --------------------------------------------------------------------------------------------------
    def training(self, case, *options, **more):
        log = self.machine.work / "log.jsonl"
        log.unlink(missing_ok=True)
        steps = len(case["losses"])
        self.machine.shard_run(
            case["name"], "--data", HERE / case["data"], "--steps", steps, "--log", log, *options, **more
        )
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        losses = np.array([line["loss"] for line in lines if "step" in line])
        error = float(np.abs(losses / np.array(case["losses"]) - 1).max())
        if error > LOSS_TOLERANCE:
            raise Failed(f"losses differ by {error:.3g}: {losses.tolist()}")
        return {"error": error}

    # ---- speed -----------------------------------------------------------------------------------------------------
    def bench(self, case):
        """Time of a step with and without a graph, and the bandwidth of every kernel."""
        bundle, work = HERE / "bundles" / case["name"], self.machine.work
        program = json.loads((bundle / "program.json").read_text())
        weights, trace = work / f"{case['name']}.safetensors", work / "trace.json"
        bandwidth.random_weights(program, weights)
        random, shape = np.random.default_rng(1), (case["batch"], case["length"])
        common = ["--weights", weights]
        if case["training"]:
            tokens = work / "tokens.bin"
            random.integers(0, case["vocabulary"], 64 * (case["length"] + 1)).astype(np.uint16).tofile(tokens)
            common += ["--data", tokens, "--token-dtype", "u16", "--steps", BENCH_RUNS]
            timed, traced, entry = [], [], "step"
        else:
            np.save(work / "ids.npy", random.integers(0, case["vocabulary"], shape))
            common += ["--input", f"input_ids={work / 'ids.npy'}"]
            timed, traced, entry = ["--bench", BENCH_RUNS], ["--runs", 5], "main"
        result = {}
        for name, options in {"graph_ms": [], "no_graph_ms": ["--no-cuda-graph"]}.items():
            result[name] = self.machine.json_of(case["name"], *common, *timed, *options)["median_ms"]
        self.machine.shard_run(case["name"], *common, *traced, "--trace", trace)
        result["kernels"] = bandwidth.kernel_table(program, json.loads(trace.read_text()), entry)
        weights.unlink()
        return result

    def torch(self, case):
        """The same model in PyTorch, where a python3 has it."""
        python = shutil.which("python3")
        probe = [python, "-c", "import torch, transformers; assert torch.cuda.is_available()"]
        if not python or subprocess.run(probe, capture_output=True).returncode:
            return {"left_out": "no python3 on PATH has torch with a GPU, and transformers"}
        sizes = ",".join(f"{name}={size}" for name, size in case["sizes"].items())
        done = subprocess.run([python, HERE / "torch_peer.py", sizes], capture_output=True, text=True, timeout=SECONDS)
        if done.returncode:
            raise Failed(done.stderr.strip()[-2000:])
        return json.loads(done.stdout.splitlines()[-1])

    # ---- all -------------------------------------------------------------------------------------------------------
    def run(self):
        kinds = {"inference": self.inference, "training": self.training, "bench": self.bench, "torch": self.torch}
        alone = [case for case in self.cases if case.get("ranks", 1) == 1]
        for case in alone:
            self.attempt(case["name"], lambda case=case: kinds[case["kind"]](case))
            if case["kind"] == "inference":
                self.attempt(f"{case['name']}, bits", lambda case=case: self.graph_changes_nothing(case))
        if sanitizer := shutil.which("compute-sanitizer"):
            prefix = (sanitizer, "--error-exitcode", "99", "--target-processes", "all")
            for case in [case for case in alone if case["name"] in ("llama-tp1", "llama-train-1")]:
                self.attempt(
                    f"{case['name']}, compute-sanitizer",
                    lambda case=case: kinds[case["kind"]](case, "--no-cuda-graph", prefix=prefix),
                )
        with multi_process_service(self.machine) as shared:
            for case in self.cases:
                if case.get("ranks", 1) > 1:  # as many processes on this GPU: numerics, never speed
                    name = f"{case['name']}, ranks share {'a GPU through MPS' if shared else 'what GPUs there are'}"
                    self.attempt(name, lambda case=case: kinds[case["kind"]](case, "--share-device", "--timeout", "60"))


@contextlib.contextmanager
def multi_process_service(machine):
    """Lets kernels of several processes run at once, where NVIDIA's service is installed and can start."""
    control = shutil.which("nvidia-cuda-mps-control")
    folder = machine.work / "mps"
    folder.mkdir()
    variables = {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder)}
    started = False
    if control:
        started = subprocess.run([control, "-d"], env={**machine.environment, **variables}).returncode == 0
    if started:
        machine.environment.update(variables)
    try:
        yield started
    finally:
        if started:
            subprocess.run([control], input="quit\n", text=True, env=machine.environment)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "results.json")
    parser.add_argument("--only", help="comma-separated beginnings of case names")
    args = parser.parse_args()
    pack = json.loads((HERE / "cases.json").read_text())
    wanted = tuple(args.only.split(",")) if args.only else ("",)
    machine = Machine(HERE)
    checks = Checks(machine, [case for case in pack["cases"] if case["name"].startswith(wanted)])
    try:
        checks.run()
    except NoGpu as reason:
        print(f"skipped: {reason}")
        return 0
    finally:
        shutil.rmtree(machine.work, ignore_errors=True)
    failed = [result["name"] for result in checks.results if not result["passed"]]
    facts = {**machine.facts(), "commit": pack["commit"], "archs": pack["archs"]}
    args.output.write_text(json.dumps({**facts, "failed": failed, "results": checks.results}, indent=1) + "\n")
    print(f"{len(checks.results) - len(failed)} of {len(checks.results)} checks passed; wrote {args.output}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
