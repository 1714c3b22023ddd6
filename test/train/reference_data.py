"""What torch computed while it trained the fixtures, read with numpy alone. `references.py` writes it and says how.

    reference = load("llama")
    reference.model                    test/fixtures/llama/dynamic-op23-named.onnx
    reference.dims                     {"batch": 4, "seq": 16}: what `shardc compile --dim` must be given
    reference.runs["adamw"].losses     of 20 steps
    reference.gradients                of the first step's loss, by parameter

A run's tokens are one flat stream: sequence i is tokens[i*S : i*S+S], the label of a position is the token that follows
it, and step s takes the sequences from s*N on, N being those of all its micro-batches. All sequences begin with the same
token, so that a file may hold them in any order and every label stays what it is (`token_file`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"
FOLDER = HERE / "references"
IGNORED = -100


@dataclass(frozen=True)
class Run:
    """One training run. `optimizer` has the keys of a bundle's manifest (docs/contracts.md §5.3)."""

    optimizer: dict
    accumulation: int
    losses: np.ndarray  # mean cross entropy over the counted labels of a step
    grad_norms: np.ndarray  # of all gradients together, before clipping
    learning_rates: np.ndarray
    input_ids: np.ndarray  # [steps, sequences, length]
    labels: np.ndarray  # the same, IGNORED where a position does not count

    def token_file(self, places) -> np.ndarray:
        """The flat file whose places[i]-th sequence is the run's i-th; only for a run in which every label counts."""
        assert not (self.labels == IGNORED).any()
        sequences = self.input_ids.reshape(-1, self.input_ids.shape[-1])
        file = np.empty_like(sequences)
        file[np.asarray(places)] = sequences
        return np.append(file.reshape(-1), sequences[0, 0])


@dataclass(frozen=True)
class Reference:
    family: str
    facts: dict

    @property
    def model(self) -> Path:
        return FIXTURES / self.facts["model"]

    @property
    def dims(self) -> dict:
        return self.facts["dims"]

    @property
    def sequences(self) -> int:
        """Of a micro-batch, over all ranks."""
        return self.facts["sequences"]

    @property
    def length(self) -> int:
        return self.facts["length"]

    @cached_property
    def arrays(self) -> dict:
        with np.load(FOLDER / f"{self.family}.npz") as file:
            return dict(file)

    @cached_property
    def gradients(self) -> dict:
        prefix = "gradient."
        return {name[len(prefix) :]: array for name, array in self.arrays.items() if name.startswith(prefix)}

    @property
    def routes(self) -> np.ndarray | None:
        """Experts of every token, in ascending order, in run "adamw": [steps, routers, tokens, experts]."""
        return self.arrays.get("routes")

    @cached_property
    def runs(self) -> dict[str, Run]:
        return {name: self._run(facts) for name, facts in self.facts["runs"].items()}

    def _run(self, facts: dict) -> Run:
        steps = len(facts["losses"])
        sequences = self.sequences * facts["accumulation"]
        input_ids, labels = cut(self.arrays[facts["tokens"]], steps, sequences, self.length)
        if facts["counted"]:
            labels = np.where(self.arrays[facts["counted"]].reshape(labels.shape), labels, IGNORED)
        rates = facts.get("learning_rates", [facts["optimizer"]["learning_rate"]] * steps)
        return Run(
            optimizer=facts["optimizer"],
            accumulation=facts["accumulation"],
            losses=np.array(facts["losses"]),
            grad_norms=np.array(facts["grad_norms"]),
            learning_rates=np.array(rates),
            input_ids=input_ids,
            labels=labels,
        )


def cut(stream: np.ndarray, steps: int, sequences: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels, [steps, sequences, length] each, of a flat stream of tokens."""
    shape, count = (steps, sequences, length), steps * sequences * length
    if len(stream) < count + 1:
        raise ValueError(
            f"{steps} steps of {sequences} sequences of {length} need {count + 1} tokens, got {len(stream)}"
        )
    stream = stream.astype(np.int64)
    return stream[:count].reshape(shape), stream[1 : count + 1].reshape(shape)


def index() -> dict:
    return json.loads((FOLDER / "index.json").read_text())


def families() -> list[str]:
    return list(index()["families"])


def load(family: str) -> Reference:
    return Reference(family, index()["families"][family])
