"""Exports a Hugging Face model to ONNX so that every parameter keeps its own name.

    python -m shardc.export --model llama --config config.json --out llama
    python -m shardc.export --model LlamaForCausalLM --set num_hidden_layers=2 --dynamic --out llama
    python -m shardc.export --pretrained CHECKPOINT --out llama                 # a folder, or a name on the hub
    python -m shardc.export --pretrained CHECKPOINT --no-weights --out llama    # of any size: no weight is read

    from shardc.export import export_hf
    export_hf(model, "llama/model.onnx")

Beside the model: config.json, plans.json (the family's own tensor, expert, pipeline and FSDP plans, which
`shardc compile --plan` reads) and, unless there are no weights, the model's name with .npz: inputs and the logits that
torch computed for them.

torch's exporter optimises with constants folded: Transpose(weight), 1 + weight and the like become new initializers
called val_110, and equal ones are merged, so that a plan or a checkpoint finds few of its names. Here the exporter's
own optimiser runs while the parameters are graph inputs, without values; afterwards they are initializers again, as
they were. Tied parameters are kept once, under the name that comes first in the model, which is the one in checkpoints.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .models import build_model, random_model

# torch's exporter needs 18; above 25 its version converter writes files that contradict their opset, without an error.
OLDEST_OPSET, NEWEST_OPSET = 18, 25
# A protobuf ends at 2 GiB; larger weights go to a file beside the model.
LARGEST_INLINE_BYTES = 1_500_000_000
# The first few ids are usually padding, begin and end of text, which some models treat apart.
FIRST_ORDINARY_ID = 3
# Shapes of the reference values of a dynamic model, beside the export's own; both differ from it and from each other.
OTHER_SHAPES = [(3, 24), (1, 32)]
PLANS = ("base_model_tp_plan", "base_model_pp_plan", "base_model_ep_plan", "base_model_fsdp_plan")
# Quotations of Python in every node, most of a small file. The module paths (name_scopes) stay.
QUOTATIONS = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node")


# The external data of a model without weights; nobody writes it: `shardc compile --weights`.
NO_WEIGHTS = "weights-by-name"


@dataclass(frozen=True)
class Exported:
    """Files of an export, and the names of the parameters in the model."""

    model: Path
    config: Path
    plans: Path
    reference: Path | None  # without weights there is none
    parameters: tuple[str, ...]


# ---- inputs and references -----------------------------------------------------------------------------------------
def _example_inputs(model, batch: int, seq: int) -> dict[str, Any]:
    import torch

    if model.main_input_name != "input_ids":
        raise ValueError(
            f"inputs: {type(model).__name__} takes {model.main_input_name}; only input_ids are made up here"
        )
    generator = torch.Generator().manual_seed(1000 * batch + seq)
    vocabulary = model.get_input_embeddings().num_embeddings
    return {"input_ids": torch.randint(FIRST_ORDINARY_ID, vocabulary, (batch, seq), generator=generator)}


def _output_name(model) -> str:
    return "logits" if model.get_output_embeddings() is not None else "output"


def run_model(model, inputs):
    """Logits, or the first output, as float32."""
    import torch

    with torch.no_grad():
        outputs = model(**inputs)
    first = outputs.logits if getattr(outputs, "logits", None) is not None else outputs[0]
    return first.float().numpy()


def _samples(model, inputs, batch: int, seq: int, dynamic) -> list[dict[str, Any]]:
    """Inputs of the export, and further ones of other shapes for a dynamic model."""
    if inputs is not None:
        return [dict(inputs)]
    shapes = [(batch, seq)] + (OTHER_SHAPES if dynamic else [])
    return [_example_inputs(model, *shape) for shape in shapes]


def _reference(model, samples) -> dict[str, Any]:
    """Arrays of the .npz: inputs and torch's output, the second sample's as NAME__2 and so on."""
    arrays = {}
    for i, sample in enumerate(samples):
        suffix = f"__{i + 1}" if i else ""
        arrays.update({name + suffix: tensor.numpy() for name, tensor in sample.items()})
        arrays[_output_name(model) + suffix] = run_model(model, sample)
    return arrays


# ---- ONNX ----------------------------------------------------------------------------------------------------------
def canonical_names(model) -> dict[str, str]:
    """Every name of what a checkpoint holds, to the name that it keeps: tied parameters have several. Buffers that are
    computed (rotary frequencies) are not in it, so that what is computed from them folds."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(value), name) for name, value in model.state_dict(keep_vars=True).items()}


def _with_cache(model, sample):
    """The model as one step with a key/value cache, on tensors: (input_ids, past_key_values) to (logits, key, value, …). Its
    modules keep their names, and it computes with the cache that it is given. Also sample inputs of it."""
    import copy

    import torch
    import transformers

    base = type(model)
    refusal = ValueError(f"cache: {base.__name__} keeps more between steps than keys and values of attention")
    if getattr(model, "_is_stateful", False):  # states of Mamba, linear attention
        raise refusal

    def forward(self, input_ids, past_key_values):
        cache = transformers.DynamicCache([tuple(layer) for layer in past_key_values])
        outputs = base.forward(self, input_ids=input_ids, past_key_values=cache, use_cache=True)
        present = [tensor for layer in outputs.past_key_values.layers for tensor in (layer.keys, layer.values)]
        return (outputs.logits, *present)

    cache = transformers.DynamicCache()
    with torch.no_grad():
        base.forward(model, input_ids=sample["input_ids"], past_key_values=cache, use_cache=True)
    if any(not getattr(layer, "is_initialized", True) or layer.keys.ndim != 4 for layer in cache.layers):
        raise refusal
    step = copy.copy(model)
    step.__class__ = type(base.__name__, (base,), {"forward": forward})
    # another length than the past's, so that the two are not taken for one dimension
    ids = sample["input_ids"][:, : max(2, sample["input_ids"].shape[1] // 2 - 1)]
    return step, {"input_ids": ids, "past_key_values": [[layer.keys, layer.values] for layer in cache.layers]}


def _cache_names(layers: int, prefix: str) -> list[str]:
    return [f"{prefix}.{layer}.{what}" for layer in range(layers) for what in ("key", "value")]


def _optimize_keeping(program, names: Mapping[str, str], weights: bool) -> None:
    """The exporter's optimiser on `program` without a look at the parameters; without `weights`, these are then external
    data that is not there."""
    import onnx_ir
    import onnx_ir.passes.common as passes
    import onnxscript.optimizer
    from onnxscript.rewriter.rules.fusion import _rms_normalization

    graph = program.model.graph
    hidden = []
    for name in [name for name in graph.initializers if name in names]:
        value = graph.initializers.pop(name)
        hidden.append((value, value.const_value))
        value.const_value = None
        graph.inputs.append(value)
    # optimize_ir without its rewriting, whose time is quadratic in the nodes: 10 minutes and more for 80 layers
    onnx_ir.passes.Sequential(passes.InlinePass())(program.model)
    onnxscript.optimizer.fold_constants_ir(program.model)
    onnx_ir.passes.Sequential(
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    )(program.model)
    if program.model.opset_imports[""] >= 23:
        _rms_normalization.fuse_rms_normalization(program.model)
        passes.RemoveUnusedNodesPass()(program.model)
    offset = 0
    for value, tensor in hidden:
        graph.inputs.remove(value)
        value.name = names[value.name]
        if not weights:
            size = tensor.nbytes
            tensor = onnx_ir.ExternalTensor(NO_WEIGHTS, offset, size, tensor.dtype, shape=tensor.shape, name=value.name)
            offset += size
        tensor.name = value.name
        value.const_value = tensor
        graph.initializers[value.name] = value


def _drop_quotations(program) -> None:
    for node in program.model.graph.all_nodes():
        for key in QUOTATIONS:
            node.metadata_props.pop(key, None)


def _dynamic_shapes(inputs, dynamic):
    """The exporter's description of dynamic dimensions; True names the first two of every input batch and seq."""
    if not dynamic:
        return None
    if dynamic is True:
        return {name: dict(enumerate(("batch", "seq")[: tensor.ndim])) for name, tensor in inputs.items()}
    unknown = set(dynamic) - set(inputs)
    if unknown:
        raise ValueError(f"dynamic: {', '.join(sorted(unknown))} is not an input; the inputs are {', '.join(inputs)}")
    return {name: dynamic.get(name, {}) for name in inputs}


def prepare(model, experts: str = "batched_mm") -> None:
    """Settings without which a graph is not exported, or exports with unnamed dimensions."""
    model.config.use_cache = False
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation(experts)


def _save(program, path: Path, model, weights: bool) -> None:
    if not weights:
        import onnx_ir

        onnx_ir.save(program.model, str(path))
        return
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    program.save(str(path), external_data=size > LARGEST_INLINE_BYTES)


def _write_json(path: Path, value) -> Path:
    path.write_text(json.dumps(value, indent=1, default=str) + "\n")
    return path


def family_plans(model) -> dict[str, Any]:
    """Hugging Face's own plans of the model's family, under the keys that `shardc compile --plan` reads."""
    plans = {key: getattr(model.config, key, None) for key in PLANS}
    plans["model._tp_plan"] = getattr(model, "_tp_plan", None)
    plans["model._no_split_modules"] = sorted(getattr(model, "_no_split_modules", None) or [])
    return plans


def export_hf(
    model: Any,
    path: str | Path,
    *,
    config: Any = None,
    overrides: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    pretrained: str | Path | None = None,
    weights: bool = True,
    inputs: Mapping[str, Any] | None = None,
    opset: int = 20,
    dynamic: bool | Mapping[str, Mapping[int, str]] = False,
    batch: int = 2,
    seq: int = 16,
    keep_names: bool = True,
    seed: int = 0,
    experts: str = "batched_mm",
    strip: bool = True,
    cache: bool = False,
) -> Exported:
    """Exports `model` (see `build_model`) to the ONNX file `path` and writes config.json, plans.json and the .npz.

    dtype, pretrained: as there. Neither a module nor pretrained: random weights.
    weights: False exports the graph with its parameters' names and shapes alone, however large the model is, for
    `shardc compile --weights CHECKPOINT`; nothing is computed, so that there is no .npz.
    inputs: example tensors by name, instead of seeded input_ids of [batch, seq].
    dynamic: True, or {input: {dimension: name}}; the .npz of a dynamic model has further shapes as NAME__2, NAME__3.
    keep_names: False leaves the exporter's own optimisation, which renames most parameters.
    seed: of the weights of a model that is built here; one that is passed in keeps its own.
    experts: transformers' implementation of mixtures of experts; "batched_mm" is the one that plain export takes.
    A model that is passed in is left with that implementation and with use_cache=False.
    strip: leave out the exporter's quotations of Python source.
    cache: a step with a key/value cache, past_key_values.N.key and .value, to which it appends: `shardc compile --cache past=1024`
    keeps it in place. Dimensions batch, seq and past are open; the .npz has a whole prompt and its logits."""
    import numpy
    import torch

    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ValueError(
            f"opset: {opset} is not between {OLDEST_OPSET} and {NEWEST_OPSET}, which torch exports rightly"
        )
    if cache and (inputs is not None or (dynamic and dynamic is not True)):
        raise ValueError("cache: its inputs are input_ids and the cache, with dimensions batch, seq and past")
    if not weights and not keep_names:
        raise ValueError("weights: the exporter's own optimisation needs them; keep the names")
    path = Path(path)
    if isinstance(model, torch.nn.Module) or pretrained or not weights:
        model = build_model(
            model, config, overrides=overrides, dtype=dtype, pretrained=pretrained, weights=weights
        )
    else:
        model = random_model(model, config, seed=seed, overrides=overrides, dtype=dtype)
    prepare(model, experts)
    samples = _samples(model, inputs, batch, seq, dynamic and not cache)
    reference = _reference(model, samples) if weights else None
    exported, sample, shapes = model, samples[0], _dynamic_shapes(samples[0], dynamic)
    input_names, output_names = None, [_output_name(model)]
    if cache:
        exported, sample = _with_cache(model, sample)
        layers = len(sample["past_key_values"])
        entry = {0: "batch", 2: "past"}
        shapes = {"input_ids": {0: "batch", 1: "seq"}, "past_key_values": [[entry, entry]] * layers}
        input_names = ["input_ids", *_cache_names(layers, "past_key_values")]
        output_names += _cache_names(layers, "present")
    program = torch.onnx.export(
        exported,
        (),
        kwargs=dict(sample),
        dynamo=True,
        opset_version=opset,
        dynamic_shapes=shapes,
        input_names=input_names,
        output_names=output_names,
        optimize=not keep_names,
        verbose=False,
    )
    names = canonical_names(model)
    if keep_names:
        _optimize_keeping(program, names, weights)
    if strip:
        _drop_quotations(program)
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(program, path, model, weights)
    if reference is not None:
        numpy.savez(path.with_suffix(".npz"), **reference)
    return Exported(
        model=path,
        config=_write_json(path.parent / "config.json", model.config.to_dict()),
        plans=_write_json(path.parent / "plans.json", family_plans(model)),
        reference=None if reference is None else path.with_suffix(".npz"),
        parameters=tuple(name for name in program.model.graph.initializers if name in names),
    )


# ---- command line --------------------------------------------------------------------------------------------------
def _override(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f'"{text}" is not NAME=VALUE')
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m shardc.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="model type (llama) or class (LlamaForCausalLM); default: config's model_type")
    parser.add_argument("--pretrained", metavar="CHECKPOINT",
                        help="folder of a checkpoint, or its name on the hub: its configuration and weights")  # fmt: skip
    parser.add_argument("--no-weights", action="store_true",
                        help="the graph alone, of any size; then: shardc compile --weights CHECKPOINT")  # fmt: skip
    parser.add_argument("--config", help="config.json; default: the family's defaults")
    parser.add_argument("--set", type=_override, action="append", default=[], metavar="NAME=VALUE", dest="overrides",
                        help="change a field of the configuration (repeatable)")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--name", default="model", help="name of the .onnx and .npz (default: model)")
    parser.add_argument("--opset", type=int, default=20)
    parser.add_argument("--dynamic", action="store_true", help="leave batch and seq open")
    parser.add_argument("--cache", action="store_true", help="a step that appends to a key/value cache")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seq", type=int, default=16)
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"],
                        help="default: the checkpoint's, or float32")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of random weights")
    args = parser.parse_args(arguments)
    if not args.model and not args.config and not args.pretrained:
        parser.error("give --model, --config or --pretrained")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # that torchvision is absent is no news
    try:
        exported = export_hf(
            args.model,
            args.out / f"{args.name}.onnx",
            config=args.config,
            overrides=dict(args.overrides),
            opset=args.opset,
            dynamic=args.dynamic,
            batch=args.batch,
            seq=args.seq,
            dtype=args.dtype,
            pretrained=args.pretrained,
            weights=not args.no_weights,
            seed=args.seed,
            cache=args.cache,
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{exported.model}: {len(exported.parameters)} parameters, {exported.model.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
