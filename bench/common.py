"""What the benchmark scripts share: running tools, the machine's facts, tables, results and their place in the docs."""

import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "benchmarks.md"


def fail(message):
    sys.exit(f"error: {message}")


def run(command, **options):
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        fail(f"{' '.join(map(str, command))} exited with {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def machine():
    model = "unknown processor"
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "date": datetime.datetime.now().isoformat(timespec="seconds"),
        "cpu": model,
        "processors": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
    }


def describe(facts):
    return f"{facts['date'][:10]}, {facts['cpu']}, {facts['processors']} processors, load {facts['load']} before the run"


def bfloat16_environment() -> dict:
    """Some virtual machines announce AMX and then do not have it: bfloat16 products must not use it there."""
    probe = "import torch; a = torch.ones(64, 64, dtype=torch.bfloat16); a @ a"
    if subprocess.run([sys.executable, "-c", probe], capture_output=True).returncode == -signal.SIGILL:
        return {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}
    return {}


def table(header, rows):
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def save(name, facts, results):
    path = ROOT / "bench" / "results" / f"{name}-{facts['date'][:10]}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**facts, "results": results}, indent=1) + "\n")
    print(f"wrote {path.relative_to(ROOT)}")


def write_docs(section, text):
    """Replaces what stands between the section's two markers."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    page = DOCS.read_text()
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    if not pattern.search(page):
        fail(f"{DOCS.relative_to(ROOT)} has no \"{begin}\"")
    DOCS.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page))
    print(f"wrote {DOCS.relative_to(ROOT)}, {section}")
