"""A training bundle: steps, or their pieces for a loop or an optimizer of one's own.

    bundle = shardc.load("llama.train")
    for ids, labels in batches:
        print(bundle.step(input_ids=ids, labels=labels)["loss"])

    for ids, labels in micro_batches:
        bundle.forward_backward(input_ids=ids, labels=labels)
    bundle.finish_grad_sync()
    gradients = bundle.gradients()          # look at them, or change them with load_state_dict
    bundle.optimizer_step()
    bundle.zero_grad()

    bundle.save("checkpoint")               # any mesh loads it: bundle.load("checkpoint")"""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import byref, c_double
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import _runtime
from .arrays import as_array, dtype_name, numpy_dtype
from .bundle import Bundle

_COUNT_STRIDE = 64  # docs/contracts.md §5.3: nonfinite_gradients
_SCALARS = ("learning_rate", "bias_correction1", "bias_correction2")


@dataclass(frozen=True)
class Tensor:
    """A tensor that lives from run to run, whole. role: parameter, exp_avg, exp_avg_sq, momentum, gradient, scalar."""

    name: str
    role: str
    dtype: str
    shape: tuple[int, ...]


class TrainingBundle(Bundle):
    """A bundle with states. `steps` counts the optimizer's steps; what varies with them (learning rate, bias
    corrections) is set by the schedule that the bundle was compiled with, unless it is given."""

    def __init__(self, path: str | Path, **options: Any):
        super().__init__(path, **options)
        if not self.manifest.get("training"):
            raise ValueError(f"{self.path}: holds no training program")
        self.steps = 0
        self.tensors: dict[str, Tensor] = {}
        for fact in self._runtime.tensors(self._handle, self._facts.tensors):
            tensor = Tensor(
                fact.name.decode(), fact.role.decode(), fact.dtype_name(), tuple(fact.shape[: fact.dims])
            )
            self.tensors[tensor.name] = tensor

    # ---- steps -----------------------------------------------------------------------------------------------------
    def step(self, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, np.ndarray]:
        """Forward, loss, backward, reduction and optimizer in one. Returns loss, tokens (the share of the labels that
        counted; the mean loss is their quotient) and grad_norm. Separate entry points are called in order."""
        if "step" in self.entries:
            return self._optimizer_run("step", {**(inputs or {}), **named})
        given = {**(inputs or {}), **named}
        scalars = {name: given.pop(name) for name in _SCALARS if name in given}
        results = self.forward_backward(given)
        self.finish_grad_sync()
        results.update(self.optimizer_step(scalars))
        self.zero_grad()
        return results

    def forward_backward(self, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, np.ndarray]:
        """Adds this micro-batch's gradients to those since `zero_grad`."""
        return self._checked(self.run_entry("forward_backward", inputs, **named))

    def finish_grad_sync(self) -> None:
        """Reduces what was deferred: after this, `gradients` are those of the whole batch."""
        self.run_entry("finish_grad_sync")

    def optimizer_step(self, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, np.ndarray]:
        return self._optimizer_run("optimizer_step", {**(inputs or {}), **named})

    def zero_grad(self) -> None:
        self.run_entry("zero_grad")

    def scalar(self, name: str, step: int) -> float:
        """learning_rate, bias_correction1 or bias_correction2 of a step, the first of which is 1."""
        value = c_double()
        self._runtime.bundle_scalar(self._handle, name.encode(), step, byref(value))
        return value.value

    def _optimizer_run(self, entry: str, given: dict[str, Any]) -> dict[str, np.ndarray]:
        if entry in self.entries:
            for name in _SCALARS:
                if name in self.entries[entry].inputs:
                    given[name] = np.float32(given.get(name, self.scalar(name, self.steps + 1)))
        results = self._checked(self.run_entry(entry, given))
        self.steps += 1
        return results

    def _checked(self, results: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raises if the program checks gradients (--check-for-nan-in-grad) and they are not finite; parameters and
        optimizer states are then what they were."""
        names = self.manifest["training"].get("checked_gradients")
        if not names:
            return results
        counts = results.pop("nonfinite_gradients", np.zeros(0)).reshape(-1, len(names), _COUNT_STRIDE)[:, :, 0]
        for rank, parameter in np.argwhere(counts):
            raise FloatingPointError(
                f'the gradient of "{names[parameter]}" has {int(counts[rank, parameter])} numbers that are not finite '
                f"on rank {rank}, as have {np.count_nonzero(counts) - 1} other gradients of ranks"
            )
        if not np.isfinite(results.get("grad_norm", 0)):
            raise FloatingPointError(f"the gradient norm is {results['grad_norm']}")
        return results

    # ---- states ----------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, np.ndarray]:
        """The parameters as they are now, by the model's own names, whole."""
        return self._get("parameter")

    def optimizer_state_dict(self) -> dict[str, np.ndarray]:
        """The optimizer's states, by names such as optimizer.exp_avg.model.embed_tokens.weight."""
        return self._get("exp_avg", "exp_avg_sq", "momentum", "scalar")

    def gradients(self) -> dict[str, np.ndarray]:
        """By the parameters' names. They are sums over the micro-batches, to be divided by the sum of `tokens`."""
        prefix = len("gradient.")
        return {name[prefix:]: array for name, array in self._get("gradient").items()}

    def load_state_dict(self, tensors: Mapping[str, Any], strict: bool = True) -> None:
        """Sets tensors by name: those of `state_dict`, and any others of `self.tensors`. strict: all parameters must be
        among them."""
        arrays = {}
        for name, value in tensors.items():
            if name not in self.tensors:
                raise ValueError(f'the program has no tensor "{name}"')
            array, expected = as_array(value), self.tensors[name]
            if array.shape != expected.shape:
                raise ValueError(f'tensor "{name}" has shape {list(expected.shape)}, given {list(array.shape)}')
            arrays[name] = (_runtime.DTYPE_CODES[dtype_name(array, expected.dtype)], array)
        missing = [t.name for t in self.tensors.values() if t.role == "parameter" and t.name not in arrays]
        if strict and missing:
            raise ValueError(f"parameters are missing: {', '.join(missing)}")
        self._on_ranks(lambda job: job.set_tensors(arrays))

    def _get(self, *roles: str) -> dict[str, np.ndarray]:
        wanted = [tensor for tensor in self.tensors.values() if tensor.role in roles]
        results = {tensor.name: np.empty(tensor.shape, numpy_dtype(tensor.dtype)) for tensor in wanted}
        self._on_ranks(lambda job: job.get_tensors(results))
        return results

    # ---- checkpoints -----------------------------------------------------------------------------------------------
    def save(self, path: str | Path) -> None:
        """A checkpoint that any mesh, and shard-run, can load. The last one at `path` stays until this one is whole."""
        states = [_runtime.TrainerState(step=self.steps) for _ in range(self.ranks)]
        self._on_ranks(lambda job: job.checkpoint(self._runtime.session_save, str(path), states))

    def load(self, path: str | Path) -> None:
        """Parameters, optimizer states and the number of steps of a checkpoint; nothing changes if it is not right."""
        states = [_runtime.TrainerState() for _ in range(self.ranks)]
        self._on_ranks(lambda job: job.checkpoint(self._runtime.session_load, str(path), states))
        self.steps = states[0].step
