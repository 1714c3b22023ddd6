"""The model of the bench bundles in PyTorch, on the same GPU: milliseconds of a forward pass and of a training step, eager
and through torch.compile, and the memory that they take. Prints JSON.

    python3 torch_peer.py hidden=2048,layers=2,heads=16,kv_heads=4,ffn=5632,vocab=8192,batch=4,sequence=1024
"""

import argparse
import json
import statistics
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def make_model(sizes, device):
    config = LlamaConfig(
        hidden_size=sizes["hidden"],
        intermediate_size=sizes["ffn"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        num_key_value_heads=sizes["kv_heads"],
        vocab_size=sizes["vocab"],
        max_position_embeddings=sizes["sequence"],
        tie_word_embeddings=False,
        use_cache=False,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).to(device)


def median_ms(body, runs, device):
    times = []
    for _ in range(runs + 3):  # three to warm up, or to compile
        begin = time.perf_counter()
        body()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times[3:])


def measure(sizes, training, compiled, runs, device):
    model = make_model(sizes, device)
    ids = torch.randint(sizes["vocab"], (sizes["batch"], sizes["sequence"]), device=device)
    call = torch.compile(model) if compiled else model
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    if training:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=device == "cuda")

        def step():
            call(input_ids=ids, labels=ids).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        result = {"ms": median_ms(step, runs, device)}
    else:
        with torch.no_grad():
            result = {"ms": median_ms(lambda: call(input_ids=ids).logits, runs, device)}
    if device == "cuda":
        result["peak_bytes"] = torch.cuda.max_memory_allocated()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("sizes")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--runs", type=int, default=20)
    args = parser.parse_args()
    sizes = {name: int(size) for name, size in (word.split("=") for word in args.sizes.split(","))}
    result = {"torch": torch.__version__}
    for name, training in {"inference": False, "train": True}.items():
        for how, compiled in {"eager": False, "compile": True}.items():
            result[f"{name}_{how}"] = measure(sizes, training, compiled, args.runs, args.device)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
