"""Trains the fixtures with torch and writes what came out to test/train/references: index.json and FAMILY.npz, which
`reference_data.py` reads. Needs what `make test-torch` installs.

    .venv-torch/bin/python test/train/references.py [--families llama,gpt2]

Model: the Hugging Face class, eager attention, eval mode (no dropout), float32, with exactly the weights of the fixture;
its logits are compared with the fixture's first. Loss: mean cross entropy over the labels that count. Clipping, AdamW,
SGD and Muon are torch's own, in its own order: clip by min(1, clip_norm / (norm + 1e-6)), decay, update. Router auxiliary
losses are off. In a mixture of experts, sequences are drawn again until every token's last chosen expert beats the first
that is not chosen by MARGIN, so that rounding cannot change a route.

index.json, a family: the model and --dim options; `parameters` and their number of values; `sensitivity`: what changing
every weight by about its last place changes, relative; a tolerance below that tests the machine; `runs` as Run has them.
FAMILY.npz: tokens, tokens_accumulation, counted (uint8), routes (uint8), gradient.NAME (float32). Gradients are rounded to
15 bits after the point (an error of 2**-16), which keeps the files small.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "python")]
os.environ["HF_HUB_OFFLINE"] = "1"
# bfloat16 products (Muon's) without AMX: some virtual machines announce it and then do not have it.
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_BF16"

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from reference_data import FIXTURES, FOLDER, IGNORED, cut  # noqa: E402
from shardc import export  # noqa: E402
from torch_training import Model, muon_takes, train  # noqa: E402

STEPS, ACCUMULATION = 20, 4
MARGIN = 1e-3  # of the scores that a router compares
ATTEMPTS = 200  # at a sequence, and at a seed
WORDS = 16
FIRST_TOKEN = 3  # below are padding, begin and end; torch gives the padding's embedding no gradient
MANTISSA_BITS = 15

DYNAMIC = {"model": "dynamic-op23-named.onnx", "dims": {"batch": 4, "seq": 16}, "sequences": 4, "length": 16}
STATIC = {"model": "static-op20.onnx", "dims": {}, "sequences": 2, "length": 16}
FAMILIES = {
    "llama": DYNAMIC, "gpt2": DYNAMIC, "qwen3_moe": DYNAMIC, "gemma2": DYNAMIC, "nemotron_h": DYNAMIC,
    "qwen2": STATIC, "mixtral": STATIC, "mamba2": STATIC, "deepseek_v3": STATIC, "qwen3_5": STATIC,
}  # fmt: skip

CONSTANT = {"name": "constant", "warmup_steps": 0, "decay_steps": 0, "minimum": 0.0}
ADAMW = {"name": "adamw", "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "weight_decay": 0.1, "clip_norm": 1.0,
         "learning_rate": 1e-3, "schedule": CONSTANT}  # fmt: skip
MUON = {**ADAMW, "name": "muon", "momentum": 0.95, "nesterov": True, "newton_schulz_steps": 5}
MUON |= {"adjust_learning_rate": "match_rms_adamw"}  # then one learning rate suits both optimizers
ONLY_LLAMA = {
    "sgd": {"name": "sgd", "momentum": 0.9, "weight_decay": 0.1, "clip_norm": 1.0, "learning_rate": 0.05,
            "schedule": CONSTANT},
    "unclipped": {**ADAMW, "clip_norm": None},
    "cosine": {**ADAMW, "schedule": {"name": "cosine", "warmup_steps": 5, "decay_steps": 12, "minimum": 1e-4}},
    "muon": {**MUON, "newton_schulz_dtype": "bfloat16"},
    "muon_float32": {**MUON, "newton_schulz_dtype": "float32"},
}  # fmt: skip


class TooClose(Exception):
    """No sequence that was drawn has the routing margin."""


class Stream:
    """A flat stream of made-up text, drawn sequence by sequence so that `margin` of each one's inputs is large enough.

    The text has WORDS words, each followed by one of two: three times in four by the first. A model learns that in a few
    steps, so that the losses show what the optimizer does; random tokens would hide a wrong beta in 1e-4. All sequences
    begin with the same word, so that the last label of one is the same whichever comes next in a file."""

    def __init__(self, seed: int, vocabulary: int, length: int, margin):
        self.random = np.random.default_rng(seed)
        self.words = self.random.choice(np.arange(FIRST_TOKEN, vocabulary), WORDS, replace=False)
        self.following = self.random.integers(0, WORDS, (WORDS, 2))
        self.length, self.margin = length, margin
        self.tokens = self.words[:1]

    def _sequence(self) -> np.ndarray:
        for _ in range(ATTEMPTS):
            text = [0]
            while len(text) < self.length:
                text.append(self.following[text[-1], int(self.random.random() < 0.25)])
            if self.margin(self.words[text][None]) >= MARGIN:
                return self.words[text]
        raise TooClose

    def extend(self, sequences: int):
        """Inputs and labels of that many further sequences."""
        first = len(self.tokens) - 1
        for _ in range(sequences):
            self.tokens = np.concatenate([self.tokens[:-1], self._sequence(), self.words[:1]])
        ids, labels = cut(self.tokens[first:], 1, sequences, self.length)
        return ids[0], labels[0]


def check_logits(model: Model, onnx_file: Path) -> float:
    with np.load(onnx_file.with_suffix(".npz")) as arrays, torch.no_grad():
        difference = np.abs(model.logits(arrays["input_ids"]).numpy() - arrays["logits"]).max()
    if not difference < 2e-5:
        raise SystemExit(f"error: {onnx_file}: torch's logits differ by {difference:.1e} from the fixture's")
    return float(difference)


def check_names(model: Model, onnx_file: Path) -> None:
    """Every parameter is in a `-named` file under its name, with its values, and a tied one once."""
    import onnx

    stored = {tensor.name: tensor for tensor in onnx.load(onnx_file).graph.initializer}
    for name, leaf in model.leaves.items():
        if name not in stored or not np.array_equal(onnx.numpy_helper.to_array(stored[name]), leaf.detach().numpy()):
            raise SystemExit(f"error: {onnx_file} does not hold {name} as torch has it")
    canonical = export.canonical_names(model.module)
    twice = [name for name in stored if canonical.get(name, name) != name]
    if twice:
        raise SystemExit(f"error: {onnx_file} holds {', '.join(twice)} under another name too")


def shorten(gradient: torch.Tensor) -> np.ndarray:
    """Rounded to the nearest with MANTISSA_BITS bits after the point."""
    dropped = 23 - MANTISSA_BITS
    bits = gradient.numpy().astype(np.float32).view(np.uint32)
    return ((bits + (1 << (dropped - 1))) >> dropped << dropped).view(np.float32)


def write_arrays(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """As numpy.savez_compressed, a sixth smaller; numpy.load reads it."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_LZMA)


def relative(difference, values) -> float:
    return float(np.abs(np.asarray(difference)).max() / np.abs(np.asarray(values)).max())


def numbers(values) -> list:
    return [float(f"{value:.9g}") for value in values]


def describe(history, optimizer, tokens, accumulation=1, counted=None) -> dict:
    facts = {"optimizer": optimizer, "accumulation": accumulation, "tokens": tokens, "counted": counted}
    facts |= {"losses": numbers(history.losses), "grad_norms": numbers(history.grad_norms)}
    if optimizer["schedule"]["name"] != "constant":
        facts["learning_rates"] = numbers(history.learning_rates)
    return facts


def sensitivity(fresh, ids, labels, base) -> dict:
    model = fresh()
    model.perturb(seed=1)
    other = train(model, ADAMW, 1, STEPS, lambda step: (ids[step], labels[step]))
    worst, name = max((relative(other.gradients[n] - g, g), n) for n, g in base.gradients.items())
    losses = np.max(np.abs(np.subtract(other.losses, base.losses)) / np.abs(base.losses))
    return {"losses": float(f"{losses:.2g}"), "gradients": float(f"{worst:.2g}"), "of": name}


def routing(history) -> dict:
    digest = hashlib.sha256(np.array(history.routes).tobytes()).hexdigest()
    return {"margin": float(f"{history.margin:.4g}"), "routes_sha256": digest}


def ignored_run(fresh, ids, labels) -> tuple[dict, np.ndarray]:
    """Three labels in ten do not count, and none of step 1's first sequence."""
    counted = np.random.default_rng(7).random(labels.shape) >= 0.3
    counted[1, 0] = False
    masked = np.where(counted, labels, IGNORED)
    history = train(fresh(), ADAMW, 1, STEPS, lambda step: (ids[step], masked[step]))
    facts = describe(history, ADAMW, "tokens", counted="counted")
    facts["gradient_norms"] = {name: float(f"{g.norm():.9g}") for name, g in history.gradients.items()}
    return facts, counted.astype(np.uint8)


def make_reference(family: str) -> tuple[dict, dict]:
    """The family's part of the index, and its arrays."""
    settings = FAMILIES[family]
    onnx_file = FIXTURES / family / settings["model"]

    def fresh():
        return Model(family, onnx_file)

    def drawn(seed, sequences, accumulation):
        """A run on data that is drawn for it while it runs."""
        for seed in range(seed, seed + ATTEMPTS):
            model = fresh()
            margin = model.margin if mixture else lambda ids: np.inf
            with contextlib.suppress(TooClose):
                stream = Stream(seed, model.module.config.vocab_size, settings["length"], margin)
                history = train(model, ADAMW, accumulation, STEPS, lambda step: stream.extend(sequences))
                return stream.tokens.astype(np.uint16), history
        raise SystemExit(f"error: {family}: no data has a routing margin of {MARGIN}")

    model = fresh()
    difference = check_logits(model, onnx_file)
    if "-named" in settings["model"]:
        check_names(model, onnx_file)
    mixture = model.margin(np.full((1, settings["length"]), FIRST_TOKEN)) < np.inf

    sequences = settings["sequences"]
    tokens, base = drawn(1000, sequences, 1)
    tokens_accumulation, accumulated = drawn(2000, sequences * ACCUMULATION, ACCUMULATION)
    ids, labels = cut(tokens, STEPS, sequences, settings["length"])
    arrays = {"tokens": tokens, "tokens_accumulation": tokens_accumulation}
    arrays |= {f"gradient.{name}": shorten(gradient) for name, gradient in base.gradients.items()}
    runs = {"adamw": describe(base, ADAMW, "tokens")}
    runs["accumulation4"] = describe(accumulated, ADAMW, "tokens_accumulation", ACCUMULATION)
    if family == "llama":
        for name, optimizer in ONLY_LLAMA.items():
            history = train(fresh(), optimizer, 1, STEPS, lambda step: (ids[step], labels[step]))
            runs[name] = describe(history, optimizer, "tokens")
            if optimizer["name"] == "muon":
                runs[name]["muon"] = [n for n, leaf in model.leaves.items() if muon_takes(n, leaf)]
        runs["ignored"], arrays["counted"] = ignored_run(fresh, ids, labels)
    facts = {**settings, "model": f"{family}/{settings['model']}"}
    facts["parameters"] = {name: leaf.numel() for name, leaf in model.leaves.items()}
    facts["logits_difference"] = float(f"{difference:.2g}")
    if mixture:
        arrays["routes"] = np.array(base.routes)
        facts["routing"] = {"adamw": routing(base), "accumulation4": routing(accumulated)}
    facts["sensitivity"] = sensitivity(fresh, ids, labels, base)
    facts["runs"] = runs
    return facts, arrays


def write_index(families: dict) -> None:
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    ordered = {family: families[family] for family in FAMILIES if family in families}
    text = json.dumps({"versions": versions, "families": ordered}, indent=1)
    # Lists of numbers, five to a line.
    lines = []
    for line in text.split("\n"):
        number = line.strip().rstrip(",").replace(".", "").replace("-", "").replace("+", "").replace("e", "").isdigit()
        if number and lines and lines[-1][1] and lines[-1][1] < 5:
            lines[-1] = (lines[-1][0] + " " + line.strip(), lines[-1][1] + 1)
        else:
            lines.append((line, 1 if number else 0))
    (FOLDER / "index.json").write_text("\n".join(line for line, _ in lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--families", default=",".join(FAMILIES), help="comma-separated; the others are left as they are"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "index.json"
    families = json.loads(file.read_text())["families"] if file.exists() else {}
    for family in args.families.split(","):
        families[family], arrays = make_reference(family)
        write_arrays(FOLDER / f"{family}.npz", arrays)
        runs = families[family]["runs"]
        size = (FOLDER / f"{family}.npz").stat().st_size
        first, last = runs["adamw"]["losses"][0], runs["adamw"]["losses"][-1]
        print(
            f"{family:12} loss {first:.4f} to {last:.4f}; {families[family]['sensitivity']}; {size} bytes", flush=True
        )
        write_index(families)


if __name__ == "__main__":
    main()
