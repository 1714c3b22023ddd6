"""The committed reference logits are torch's: computed again from the configuration and the seed, or, with --update,
written. Fixtures that came about in another way are left alone: those with more inputs than input_ids (a cache,
labels), and those whose weights were not drawn from the seed."""

import re

import numpy as np
import pytest
import torch
from shardc import export

OTHER_WEIGHTS = ("torchscript", "anonymous")
DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def test_logits(request, fixture_npz):
    with np.load(fixture_npz) as arrays:
        values = dict(arrays)
    others = {re.sub(r"__\d+$", "", name) for name in values} - {"input_ids", "logits"}
    if others:
        pytest.skip(f"has {min(others)} and {len(others) - 1} more")
    variant = fixture_npz.stem.split("-")
    if set(OTHER_WEIGHTS) & set(variant):
        pytest.skip("its weights are not drawn from the seed")
    dtype = next((name for part, name in DTYPES.items() if part in variant), "float32")
    model = export.random_model(None, fixture_npz.parent / "config.json").to(getattr(torch, dtype))
    export.prepare(model)
    computed = {
        name: export.run_model(model, {"input_ids": torch.from_numpy(values[name.replace("logits", "input_ids")])})
        for name in values
        if name.startswith("logits")
    }
    if request.config.getoption("--update"):
        np.savez(fixture_npz, **{**values, **computed})
        return
    for name, logits in computed.items():
        np.testing.assert_allclose(logits, values[name], atol=2e-5 if dtype == "float32" else 0.05, err_msg=name)
