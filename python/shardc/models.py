"""Hugging Face models for the exporter: built from a configuration with random weights, loaded from a checkpoint, or
built without any weights, at no cost of memory however large they are."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

def build_model(
    model: Any = None,
    config: Any = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    pretrained: str | Path | None = None,
    weights: bool = True,
):
    """A torch module in eval mode: `model` is one already, or a class, a class name ("LlamaForCausalLM"), a model type
    ("llama") or a configuration; `config` is a configuration, a dict, or the path of a config.json.

    pretrained: a folder of a checkpoint (config.json and safetensors) or its name on the hub: its configuration, its
    architecture (if `model` names no class) and its weights.
    dtype: default the checkpoint's, or float32.
    weights: without, parameters have shapes and dtypes but no memory, a checkpoint's are not read, and the module is of
    use for an export only."""
    import torch
    import transformers

    if isinstance(model, torch.nn.Module):
        if config is not None or overrides or pretrained or not weights:
            raise ValueError("config: the model is built already, and has its configuration and weights")
        return model.eval()
    if isinstance(model, transformers.PretrainedConfig):
        if config is not None:
            raise ValueError("config: given twice, as the model and as config")
        model, config = None, model
    elif isinstance(model, str) and hasattr(transformers, model):
        model = getattr(transformers, model)
    model_class = model if isinstance(model, type) else None
    if pretrained is not None:
        if config is not None:
            raise ValueError(f"config: {pretrained} has its own; change its fields by overrides")
        config = transformers.AutoConfig.from_pretrained(str(pretrained), **(overrides or {}))
        architecture = (config.architectures or [None])[0]
        model_class = model_class or getattr(transformers, architecture or "", transformers.AutoModelForCausalLM)
        torch_dtype = getattr(torch, dtype) if dtype else config.dtype or torch.float32
        if weights:
            return model_class.from_pretrained(str(pretrained), config=config, dtype=torch_dtype).eval()
    else:
        config = _configuration(config, model_class.config_class if model_class else model, overrides or {})
        model_class = model_class or transformers.AutoModelForCausalLM
        torch_dtype = getattr(torch, dtype or "float32")
    build = model_class.from_config if hasattr(model_class, "from_config") else model_class._from_config
    with contextlib.nullcontext() if weights else _no_parameter_memory():
        return build(config, dtype=torch_dtype).eval()


@contextlib.contextmanager
def _no_parameter_memory():
    """Parameters of modules that are built inside are fake tensors of the CPU. Buffers are real: what is computed from
    them (rotary frequencies) folds."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    fakes = FakeTensorMode(allow_non_fake_inputs=True)
    register = torch.nn.Module.register_parameter

    def register_fake(self, name, parameter):
        if parameter is not None and not isinstance(parameter, FakeTensor):  # tied ones are, and stay one
            parameter = torch.nn.Parameter(fakes.from_tensor(parameter.data), requires_grad=parameter.requires_grad)
        register(self, name, parameter)

    torch.nn.Module.register_parameter = register_fake
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register


def _configuration(config, kind, overrides):
    """`kind` is a configuration class, a model type, or None."""
    import transformers

    if isinstance(config, (str, Path)):
        config = json.loads(Path(config).read_text())
    if not isinstance(config, transformers.PretrainedConfig):
        values = dict(config or {})
        kind = kind or values.get("model_type")
        values.pop("model_type", None)
        if kind is None:
            raise ValueError("config: has no model_type; name the model")
        if isinstance(kind, str):
            config = transformers.AutoConfig.for_model(kind, **{**values, **overrides})
        else:
            config = kind(**{**values, **overrides})
    else:
        for name, value in overrides.items():
            setattr(config, name, value)
    return config


def random_model(model: Any, config: Any = None, *, seed: int = 0, **options: Any):
    """`build_model` with seeded weights for which every operator shows in the logits: matrices keep the size of what goes
    through them, and norms and biases are neither one nor zero, nor equal to each other."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for what is not drawn again below
        model = build_model(model, config, **options)
    generator = torch.Generator().manual_seed(seed)

    def noise_like(tensor):
        return torch.randn(tensor.shape, generator=generator).to(tensor.dtype)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = noise_like(parameter)
            if parameter.ndim <= 1:
                parameter.add_(0.1 * noise)
            elif "embed" in name or ".wte." in name or ".wpe." in name:
                parameter.copy_(0.5 * noise)
            elif "conv1d" in name:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
            else:
                parameter.copy_(noise * min(parameter.shape[-2:]) ** -0.5)
        for name, buffer in model.named_buffers():
            if "e_score_correction_bias" in name:  # of a router: zero at first
                buffer.add_(0.1 * noise_like(buffer))
    return model


