"""Kernels that PyTorch launches for one decoder layer, counted without a GPU: `launches_torch.py FIXTURES FAMILY …` prints JSON.

Needs torch, transformers and triton in the interpreter that runs it (docs/python.md says how to install torch without its GPU libraries; triton is only
imported). Nothing is launched:

* eager: ATen operators that reach a backend, but for views and metadata: each launches a kernel at least.
* compile: AOTAutograd's forward and backward graph (min-cut partitioning, as Inductor's), lowered and fused by Inductor's scheduler for a CUDA device
  of a made-up H100's properties: what is left of its nodes are the kernels that it would launch, generated ones and calls of libraries. Its attention is
  one node, as the operator that a GPU would use.
"""

import collections
import copy
import json
import pathlib
import sys

import torch
from torch._dynamo import device_interface
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._inductor import config, scheduler
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.fx_passes.post_grad import post_grad_passes
from torch._inductor.graph import GraphLowering
from torch._inductor.virtualized import V
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

NO_KERNEL = {"view", "_unsafe_view", "transpose", "t", "slice", "unsqueeze", "squeeze", "expand", "permute", "detach", "alias", "as_strided", "select", "split"}
NO_KERNEL |= {"_reshape_alias", "split_with_sizes", "unbind", "device", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


class Properties:
    name, major, minor, multi_processor_count, warp_size = "NVIDIA H100", 9, 0, 132, 32
    max_threads_per_multi_processor, regs_per_multiprocessor, max_threads_per_block = 2048, 65536, 1024
    shared_memory_per_block_optin, shared_memory_per_block, L2_cache_size, total_memory = 232448, 49152, 50 << 20, 80 << 30
    gcnArchName, is_integrated, pci_bus_id, uuid = "", False, 0, "none"


def pretend_there_is_a_gpu():
    cuda, interface = torch.cuda, device_interface.CudaInterface
    cuda.get_device_properties = cuda._get_device_properties = lambda *_, **__: Properties
    cuda.get_device_capability = lambda *_, **__: (9, 0)
    cuda.current_device, cuda.device_count, cuda.is_available, cuda._lazy_init = lambda: 0, lambda: 1, lambda: True, lambda: None
    interface.Worker.get_device_properties = staticmethod(lambda *_, **__: Properties)
    interface.Worker.current_device = interface.current_device = staticmethod(lambda: 0)
    interface.is_available = staticmethod(lambda: True)
    interface.get_compute_capability = staticmethod(lambda *_, **__: 90)
    scheduler.has_triton = lambda *_, **__: True
    config.compile_threads = 1


class Operators(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = collections.Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name not in NO_KERNEL:
            self.count[name] += 1
        return function(*args, **(kwargs or {}))


def on_cuda(value, mode):
    if not isinstance(value, torch.Tensor):
        return value
    with mode:
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cuda:0")


def kernels_of(graph, inputs):
    """What Inductor's scheduler makes of a graph."""
    mode = FakeTensorMode()
    for node in graph.graph.nodes:
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": torch.device("cuda", 0)}
        if "val" in node.meta:
            node.meta["val"] = torch.utils._pytree.tree_map(lambda value: on_cuda(value, mode), node.meta["val"])
    inputs = [on_cuda(value, mode) for value in inputs]
    with V.set_fake_mode(mode), V.set_debug_handler(DebugContext()):
        post_grad_passes(graph, is_inference=False)
        lowering = GraphLowering(graph, example_inputs=inputs, shape_env=None, is_inference=False)
        with V.set_graph_handler(lowering):
            lowering.run(*inputs)
            nodes = scheduler.Scheduler(lowering.operations).nodes
    # A result of a node with several is no kernel.
    return collections.Counter(type(node).__name__ for node in nodes if type(getattr(node, "node", None)).__name__ != "MultiOutput")


def first_layer_call(model, tokens):
    """The first decoder layer and what the model calls it with."""
    found = {}
    layers = next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    layers[0].register_forward_pre_hook(lambda module, args, kwargs: found.setdefault("call", (args, kwargs)), with_kwargs=True)
    with torch.no_grad():
        model(tokens, use_cache=False)
    args, kwargs = found["call"]
    layers[0]._forward_pre_hooks.clear()
    layers[0]._forward_pre_hooks_with_kwargs.clear()
    return layers[0], args, kwargs


def count(folder):
    settings = AutoConfig.from_pretrained(folder)
    settings._attn_implementation = "sdpa"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(settings).float().eval()  # no dropout, as our exports
    layer, (x, *rest), kwargs = first_layer_call(model, torch.arange(32).reshape(2, 16))
    x = x.detach().requires_grad_()
    kwargs = {name: value for name, value in kwargs.items() if name not in ("past_key_values", "cache_position", "use_cache")}

    def run(value):
        result = layer(value, *rest, **kwargs)
        return result if isinstance(result, torch.Tensor) else result[0]

    result = {}
    with Operators() as operators:
        y = run(x)
    result["eager"] = {"forward": sum(operators.count.values())}
    with Operators() as operators:
        y.backward(torch.ones_like(y))
    # The gradient's accumulation into .grad is none of the layer's.
    result["eager"]["backward"] = sum(operators.count.values())
    graphs = []

    def capture(graph, inputs):
        graphs.append((copy.deepcopy(graph), inputs))
        return graph

    backend = aot_autograd(
        fw_compiler=capture, bw_compiler=capture, decompositions=select_decomp_table(), partition_fn=min_cut_rematerialization_partition
    )
    torch._dynamo.reset()
    torch.compile(run, backend=backend)(x).backward(torch.ones_like(y))
    result["graphs"] = graphs
    return result


def main():
    fixtures, families = pathlib.Path(sys.argv[1]), sys.argv[2:]
    results = {family: count(fixtures / family) for family in families}
    pretend_there_is_a_gpu()
    for result in results.values():
        forward, backward = (kernels_of(*graph) for graph in result.pop("graphs"))
        result["compile"] = {"forward": sum(forward.values()), "backward": sum(backward.values())}
    print(json.dumps({"torch": torch.__version__, "families": results}))


if __name__ == "__main__":
    main()
