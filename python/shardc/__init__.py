"""shardc from Python: export a model, compile it for a mesh, run the bundle.

    import shardc

    bundle = shardc.compile("llama/model.onnx", shardc.CompileOptions(tp=2))
    logits = bundle.run(input_ids=ids)["logits"]

shardc.export (torch models to ONNX) is imported apart: `from shardc.export import export_hf`."""

from ._runtime import RuntimeFailure
from ._tools import ToolNotFound
from .bundle import Bundle, Entry, Value, load
from .compiler import CompileError, compile, plan
from .config import CompileOptions, TrainOptions
from .training import Tensor, TrainingBundle

__version__ = "0.1.0"
__all__ = [
    "Bundle",
    "CompileError",
    "CompileOptions",
    "Entry",
    "RuntimeFailure",
    "Tensor",
    "TrainOptions",
    "ToolNotFound",
    "TrainingBundle",
    "Value",
    "compile",
    "load",
    "plan",
]
