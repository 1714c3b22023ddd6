"""Bundles for GPUs: compiled from the fixtures, their calls checked against docs/contracts.md §6."""

import bundle_checks
import kernels
import pytest

PROGRAMS = [("mamba2", ["--tp", "2"]), ("llama", ["--train", "--dp-shard", "2", "--tp", "2"]), ("gpt2", ["--train", "--offload", "parameters"]), ("qwen2", ["--tp", "4"])]


def compile_bundle(tools, folder, family, options, archs="compute_80"):
    bundle = folder / "model.bundle"
    kernels.run(tools / "shardc", "compile", dict(kernels.fixtures())[family], "--target", "cuda", "--arch", archs, "-o", bundle, *options)
    return bundle_checks.Bundle(bundle)


@pytest.mark.parametrize(("family", "options"), PROGRAMS)
def test_calls_stay_inside(tools, tmp_path, family, options):
    bundle = compile_bundle(tools, tmp_path, family, options)
    assert bundle.check() > 24 and bundle.parameters


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda call: call.update(m=call["m"] + 1), "a needs .* bytes, there are"),
        (lambda call: call["d"].update(argument={"scratch": 0}), "d needs .* bytes, there are 0"),
        (lambda call: call["a"].update(row=3, column=5), "a: strides \\[3, 5\\]"),
        (lambda call: call["b"].update(argument=7), "argument 7 of a command with 3 buffers"),
    ],
)
def test_checks_find_what_is_wrong(tools, tmp_path, damage, message):
    bundle = compile_bundle(tools, tmp_path, "mamba2", ["--tp", "1"])
    call = next(call for kernel in bundle.program["kernels"] for call in kernel["calls"] if call["kind"] == "gemm")
    damage(call)
    with pytest.raises(bundle_checks.Wrong, match=message):
        bundle.check()


def test_checks_find_what_is_wrong_in_host_memory(tools, tmp_path):
    bundle = compile_bundle(tools, tmp_path, "llama", ["--train", "--dp-shard", "2", "--offload", "parameters"])
    assert bundle.check() > 24 and bundle.ranges["host"]["bytes"] == bundle.manifest["memory"]["host_bytes"] > 0
    place = next(number for number, buffer in enumerate(bundle.buffers) if bundle.is_on_host(buffer))
    kept = bundle.buffers[place]["kind"]
    bundle.buffers[place]["kind"] = "parameter"
    with pytest.raises(bundle_checks.Wrong, match="no state, and in the machine's memory"):
        bundle.check()
    bundle.buffers[place]["kind"] = kept
    reduction = next(command for command in bundle.commands() if command["op"] == "reduce_scatter")
    reduction["dst"] = place
    with pytest.raises(bundle_checks.Wrong, match="in the machine's memory: dst of"):
        bundle.check()


def test_checks_find_atomics(tools, tmp_path):
    bundle = compile_bundle(tools, tmp_path, "mamba2", ["--tp", "1"])
    bundle.ptx += "\n\t@%p1 red.global.add.f32 [%rd1], %r1;\n"
    with pytest.raises(bundle_checks.Wrong, match="results depend on who comes first: .*red.global.add.f32"):
        bundle.check()


@pytest.mark.skipif(not kernels.find_toolkit(), reason="there is no ptxas")
def test_cubins(tools, tmp_path):
    archs = [*kernels.ARCHS, "compute_80"]
    bundle = compile_bundle(tools, tmp_path, "mamba2", ["--tp", "1", "--toolkit", kernels.find_toolkit()], ",".join(archs))
    assert bundle.check() and [image["arch"] for image in bundle.manifest["kernels"]] == archs
    assert all(image["resources"]["registers"] > 0 for image in bundle.manifest["kernels"][:-1])
