"""Training a fixture with torch: the parameters of its ONNX file, the loss of docs/contracts.md §5.1, torch's optimizers."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from reference_data import IGNORED
from shardc import export
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# An exporter that folds constants writes a function of a parameter instead of it: the bundle then has that as its
# parameter, under a name that the importer gives (value as a function of torch's parameter, and back), or, where it wrote
# a head's scalar broadcast, no parameter at all.
SAME = (lambda p: p, lambda f: f)
PLUS_ONE = (lambda p: 1 + p, lambda f: f - 1)
MINUS_EXP = (lambda p: -torch.exp(p), lambda f: torch.log(-f))
EXPERTS = [(r"experts\.gate_up_proj$", "experts.folded", SAME), (r"experts\.down_proj$", "experts.folded_1", SAME)]
FOLDED = {
    "mixtral": EXPERTS,
    "deepseek_v3": EXPERTS,
    "mamba2": [(r"mixer\.A_log$", "mixer.folded", MINUS_EXP), (r"mixer\.D$", "", None)],
    "qwen3_5": [
        (r"(layernorm|[qk]_norm|^model\.norm)\.weight$", r"\1.folded", PLUS_ONE),
        (r"linear_attn\.conv1d\.weight$", "linear_attn.folded", SAME),
        (r"linear_attn\.A_log$", "linear_attn.folded_1", MINUS_EXP),
    ],
}


class Routes(TorchFunctionMode):
    """Records every top-k selection: the indices, and by how much the last selected beats the first that is not."""

    def __init__(self):
        super().__init__()
        self._selections, self.margin = [], math.inf

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if function in (torch.topk, torch.Tensor.topk):
            scores, k = args[0], kwargs["k"] if "k" in kwargs else args[1]
            with torch._C.DisableTorchFunction():
                if k < scores.shape[-1]:
                    ordered = scores.detach().sort(dim=-1, descending=True).values
                    self.margin = min(self.margin, (ordered[..., k - 1] - ordered[..., k]).min().item())
                indices = result.indices.reshape(-1, k).sort(dim=-1).values.numpy().astype(np.uint8)
                self._selections.append((scores.shape[-1], indices))
        return result

    @property
    def chosen(self) -> np.ndarray:
        """[routers, tokens, experts]; without the selections among groups of experts, which some routers make first."""
        widest = max((among for among, _ in self._selections), default=0)
        return np.array([indices for among, indices in self._selections if among == widest])


class Model:
    """A fixture's torch model; `leaves` are the parameters of its ONNX file, under their names in a bundle."""

    def __init__(self, family: str, onnx_file: Path):
        self.module = export.random_model(None, onnx_file.parent / "config.json")
        export.prepare(self.module)
        self.module.set_attn_implementation("eager")
        folds = FOLDED.get(family, []) if onnx_file.stem == "static-op20" else []
        self.leaves, self._sources = {}, {}
        for name, parameter in self.module.named_parameters():
            renamed, functions = name, SAME
            for pattern, replacement, own in folds:
                if re.search(pattern, name):
                    renamed, functions = re.sub(pattern, replacement, name), own
            if functions:
                fold, unfold = functions
                self.leaves[renamed] = fold(parameter.detach().clone()).requires_grad_()
                self._sources[name] = (renamed, unfold)

    def perturb(self, seed: int) -> None:
        """Every value up or down by about its last place."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for leaf in self.leaves.values():
                leaf.mul_(1 + 2.0**-23 * torch.randint(-1, 2, leaf.shape, generator=generator))

    def logits(self, ids: np.ndarray) -> torch.Tensor:
        parameters = {name: unfold(self.leaves[leaf]) for name, (leaf, unfold) in self._sources.items()}
        output = torch.func.functional_call(self.module, parameters, kwargs={"input_ids": torch.from_numpy(ids)})
        return output.logits.float()

    def loss_sum(self, ids: np.ndarray, labels: np.ndarray) -> torch.Tensor:
        """Sum over the positions that count."""
        logits = self.logits(ids).flatten(0, 1)
        return F.cross_entropy(logits, torch.from_numpy(labels).flatten(), ignore_index=IGNORED, reduction="sum")

    def margin(self, ids: np.ndarray) -> float:
        with torch.no_grad(), Routes() as routes:
            self.logits(ids)
        return routes.margin


# ---- recipes -------------------------------------------------------------------------------------------------------
def learning_rate(optimizer: dict, step: int) -> float:
    """Of step 1, 2, …: warm-up in `warmup_steps` equal rises, the last of which is the full rate; then half a cosine, which
    is at `minimum` `decay_steps` steps later."""
    rate, schedule = optimizer["learning_rate"], optimizer["schedule"]
    warmup = schedule["warmup_steps"]
    if step <= warmup:
        return rate * step / warmup
    if schedule["name"] == "constant":
        return rate
    assert schedule["name"] == "cosine"
    progress = min(1.0, (step - warmup) / schedule["decay_steps"])
    return schedule["minimum"] + (rate - schedule["minimum"]) * (1 + math.cos(math.pi * progress)) / 2


def muon_takes(name: str, leaf: torch.Tensor) -> bool:
    """Muon is for the matrices inside layers; AdamW has the embedding, the head and what is not a matrix."""
    return leaf.ndim == 2 and ".layers." in name


def make_optimizers(leaves: dict[str, torch.Tensor], o: dict) -> list[torch.optim.Optimizer]:
    def adamw(parameters):
        betas = (o["beta1"], o["beta2"])
        options = dict(lr=0.0, betas=betas, eps=o["epsilon"], weight_decay=o["weight_decay"], foreach=False)
        return torch.optim.AdamW(parameters, **options)

    if o["name"] == "adamw":
        return [adamw(leaves.values())]
    if o["name"] == "sgd":
        options = dict(momentum=o["momentum"], weight_decay=o["weight_decay"], foreach=False)
        return [torch.optim.SGD(leaves.values(), lr=0.0, **options)]
    assert o["name"] == "muon"
    muon = torch.optim.Muon(
        [leaf for name, leaf in leaves.items() if muon_takes(name, leaf)],
        lr=0.0,
        weight_decay=o["weight_decay"],
        momentum=o["momentum"],
        nesterov=o["nesterov"],
        ns_steps=o["newton_schulz_steps"],
        adjust_lr_fn=o["adjust_learning_rate"],
    )
    return [muon, adamw([leaf for name, leaf in leaves.items() if not muon_takes(name, leaf)])]


def orthogonalize(matrix, coefficients, steps, epsilon, dtype=torch.float32):
    """What torch.optim.Muon does in bfloat16: X <- a X + (b G + c G G) X with G = X X^T, on the wide orientation of
    matrix / |matrix|."""
    a, b, c = coefficients
    x = matrix.to(dtype)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=epsilon)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


@contextlib.contextmanager
def muon_arithmetic(dtype: str):
    """float32: torch's Muon with `orthogonalize`; bfloat16: as it is."""
    import torch.optim._muon as module

    original = module._zeropower_via_newtonschulz
    if dtype == "float32":
        module._zeropower_via_newtonschulz = orthogonalize
    try:
        yield
    finally:
        module._zeropower_via_newtonschulz = original


# ---- training ------------------------------------------------------------------------------------------------------
@dataclass
class History:
    losses: list = field(default_factory=list)
    grad_norms: list = field(default_factory=list)
    learning_rates: list = field(default_factory=list)
    routes: list = field(default_factory=list)  # of every step, of all its micro-batches
    margin: float = math.inf
    gradients: dict = field(default_factory=dict)  # of the first step


def train(model: Model, optimizer: dict, accumulation: int, steps: int, batch: Callable) -> History:
    """`batch(step)` gives input ids and labels, [sequences of the step, length] each, and is asked once the step before
    is done."""
    history, leaves = History(), list(model.leaves.values())
    optimizers = make_optimizers(model.leaves, optimizer)
    clip = math.inf if optimizer["clip_norm"] is None else optimizer["clip_norm"]
    with muon_arithmetic(optimizer.get("newton_schulz_dtype", "bfloat16")):
        for step in range(steps):
            ids, labels = batch(step)
            counted, total = int((labels != IGNORED).sum()), 0.0
            for leaf in leaves:
                leaf.grad = None
            with Routes() as routes:
                for part in np.split(np.arange(len(ids)), accumulation):
                    loss = model.loss_sum(ids[part], labels[part]) / counted
                    loss.backward()
                    total += loss.item()
            if step == 0:
                history.gradients = {name: leaf.grad.clone() for name, leaf in model.leaves.items()}
            norm = torch.nn.utils.clip_grad_norm_(leaves, clip, foreach=False)
            rate = learning_rate(optimizer, step + 1)
            for each in optimizers:
                for group in each.param_groups:
                    group["lr"] = rate
                each.step()
            history.losses.append(total)
            history.grad_norms.append(norm.item())
            history.learning_rates.append(rate)
            history.routes.append(routes.chosen)
            history.margin = min(history.margin, routes.margin)
    return history
