"""The committed training references are torch's: the same data trained again. test/train/references.py writes them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
import reference_data
import references
import torch
from shardc.safetensors import open_safetensors
from torch_training import Model, orthogonalize, train

FAMILIES = reference_data.families()
RUNS = [(family, name) for family in FAMILIES for name in reference_data.load(family).runs]


@pytest.mark.parametrize("family, name", RUNS, ids=["-".join(run) for run in RUNS])
def test_run(family, name):
    reference = reference_data.load(family)
    run = reference.runs[name]
    model = Model(family, reference.model)
    history = train(
        model, run.optimizer, run.accumulation, len(run.losses), lambda step: (run.input_ids[step], run.labels[step])
    )
    tolerance = 1e-5  # other processors add in other orders
    np.testing.assert_allclose(history.losses, run.losses, rtol=tolerance)
    np.testing.assert_allclose(history.grad_norms, run.grad_norms, rtol=10 * tolerance)
    np.testing.assert_allclose(history.learning_rates, run.learning_rates, rtol=1e-8)
    if name in reference.facts.get("routing", {}):
        assert references.routing(history)["routes_sha256"] == reference.facts["routing"][name]["routes_sha256"]
        assert history.margin == pytest.approx(reference.facts["routing"][name]["margin"], abs=1e-5)
    if name == "adamw":
        assert set(history.gradients) == set(reference.gradients) == set(reference.facts["parameters"])
        for parameter, gradient in history.gradients.items():
            difference = np.abs(gradient.numpy() - reference.gradients[parameter]).max()
            assert difference <= 5e-5 * gradient.abs().max(), parameter
        if reference.routes is not None:
            np.testing.assert_array_equal(np.array(history.routes), reference.routes)
    if name == "ignored":
        norms = {parameter: float(gradient.norm()) for parameter, gradient in history.gradients.items()}
        assert norms == pytest.approx(reference.facts["runs"][name]["gradient_norms"], rel=10 * tolerance)


def test_muon_in_float32_does_what_torchs_does_in_bfloat16():
    from torch.optim._muon import _zeropower_via_newtonschulz

    for shape in ((64, 64), (128, 64), (32, 64)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        arguments = ((3.4445, -4.775, 2.0315), 5, 1e-7)
        expected = _zeropower_via_newtonschulz(matrix, *arguments).float()
        torch.testing.assert_close(orthogonalize(matrix, *arguments), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bundle_has_these_parameters(family, compiler_build, tmp_path):
    """Names and values, also of what the exporter folded; a bundle may have buffers beside them, which are not trained."""
    reference = reference_data.load(family)
    dims = [word for name, size in reference.dims.items() for word in ("--dim", f"{name}={size}")]
    bundle = tmp_path / "bundle"
    subprocess.run([compiler_build / "bin/shardc", "compile", reference.model, *dims, "-o", bundle], check=True)
    leaves = Model(family, reference.model).leaves
    names = {parameter["tensor"] for parameter in json.loads((bundle / "program.json").read_text())["parameters"]}
    assert names - set(leaves) <= {name for name in names if name.endswith("e_score_correction_bias")}
    assert set(leaves) <= names
    weights = open_safetensors(bundle / "weights")
    for name, leaf in leaves.items():
        np.testing.assert_allclose(weights[name], leaf.detach().numpy(), rtol=1e-6, err_msg=name)
