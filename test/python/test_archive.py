"""Bundles as one zip file: written, read by Python's zipfile, run in place, and refused when they are damaged."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import shardc

MODEL = Path(__file__).resolve().parents[1] / "fixtures/llama/static-op20-named.onnx"


@pytest.fixture(scope="module")
def made(request, tmp_path_factory):
    """The bundle as a directory and as a file, and numbers to run it with."""
    build = Path(request.config.getoption("--build")).resolve()
    if not (build / "bin/shardc").is_file():
        pytest.skip("no shardc")
    folder = tmp_path_factory.mktemp("archive")
    command = [build / "bin/shardc", "compile", MODEL, "--tp", "2", "--isa", "x86-64-v3", "-o"]
    subprocess.run([*command, folder / "llama.bundle"], check=True)
    subprocess.run([*command, folder / "llama.zip"], check=True)
    arrays = np.load(MODEL.with_suffix(".npz"))
    for name in arrays:
        np.save(folder / f"{name}.npy", arrays[name])
    return folder


@pytest.fixture
def tool(compiler_build):
    def call(name, *args, code=0):
        command = [compiler_build / "bin" / name, *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    return call


def test_packing_is_what_compiling_writes(made, tool):
    tool("shardc", "pack", made / "llama.bundle", "-o", made / "packed.zip")
    assert (made / "packed.zip").read_bytes() == (made / "llama.zip").read_bytes()
    assert not list(made.glob("*partial*"))


def test_zipfile_reads_it(made):
    with zipfile.ZipFile(made / "llama.zip") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names[0] == "manifest.json" and names[-1] == "weights/model.safetensors"
        for info in archive.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            assert archive.read(info) == (made / "llama.bundle" / info.filename).read_bytes()
        files = [path for path in (made / "llama.bundle").rglob("*") if path.is_file()]
        assert len(names) == len(files)


@pytest.mark.parametrize("command", ["explain", "inspect", "plan"])
def test_commands_say_the_same(made, tool, command):
    assert tool("shardc", command, made / "llama.zip") == tool("shardc", command, made / "llama.bundle")


def test_shard_run(made, tool):
    ids, logits = made / "input_ids.npy", made / "logits.npy"
    for extra in ([], ["--in-process"]):
        tool("shard-run", "-n", 2, *extra, made / "llama.zip", "--input", f"input_ids={ids}", "--output", made / "out.npy")
        assert np.abs(np.load(made / "out.npy") - np.load(logits)).max() < 1e-4 * np.abs(np.load(logits)).max()


def test_python(made, compiler_build):
    ids, logits = np.load(made / "input_ids.npy"), np.load(made / "logits.npy")
    with shardc.load(made / "llama.bundle", build=compiler_build) as folder:
        expected = folder.run(input_ids=ids)["logits"]
        weights = {name: array.copy() for name, array in folder.state_dict().items()}
    assert np.abs(expected - logits).max() < 1e-4 * np.abs(logits).max()
    with shardc.load(made / "llama.zip", build=compiler_build) as file:
        np.testing.assert_array_equal(file.run(input_ids=ids)["logits"], expected)
        state = file.state_dict()
        assert state.keys() == weights.keys()
        for name, array in weights.items():
            np.testing.assert_array_equal(state[name], array)
        assert not state[name].flags.writeable and not state[name].flags.owndata


def test_two_files_at_once_keep_their_own_code(made, compiler_build, tmp_path):
    """Their kernels have equal names, and are loaded from descriptors that come and go."""
    ids = np.load(made / "input_ids.npy")
    other = MODEL.parents[1] / "gpt2/static-op20.onnx"
    options = shardc.CompileOptions(isa=("x86-64-v3",))
    shardc.compile(other, options, tmp_path / "gpt2.zip", build=compiler_build).close()
    gpt2_ids, gpt2_logits = (np.load(other.with_suffix(".npz"))[name] for name in ("input_ids", "logits"))
    logits = np.load(made / "logits.npy")
    for _ in range(2):
        with (
            shardc.load(made / "llama.zip", build=compiler_build) as llama,
            shardc.load(tmp_path / "gpt2.zip", build=compiler_build) as gpt2,
        ):
            for _ in range(2):
                assert np.abs(llama.run(input_ids=ids)["logits"] - logits).max() < 1e-4 * np.abs(logits).max()
                difference = np.abs(gpt2.run(input_ids=gpt2_ids)["logits"] - gpt2_logits).max()
                assert difference < 1e-4 * np.abs(gpt2_logits).max()


def test_weights_elsewhere(made, compiler_build, tmp_path):
    """A file without weights takes them as a directory does, and says so when there are none."""
    ids, logits = np.load(made / "input_ids.npy"), np.load(made / "logits.npy")
    folder = shutil.copytree(made / "llama.bundle", tmp_path / "bare.bundle")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = [file for file in manifest["files"] if not file["path"].startswith("weights/")]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(folder / "weights")
    subprocess.run([compiler_build / "bin/shardc", "pack", folder, "-o", tmp_path / "bare.zip"], check=True)
    with shardc.load(tmp_path / "bare.zip", build=compiler_build) as bundle:
        with pytest.raises(shardc.RuntimeFailure, match="bare.zip/weights: no such weight file or directory"):
            bundle.run(input_ids=ids)
    with shardc.load(tmp_path / "bare.zip", weights=made / "llama.bundle/weights", build=compiler_build) as bundle:
        assert np.abs(bundle.run(input_ids=ids)["logits"] - logits).max() < 1e-4 * np.abs(logits).max()


def test_force_replaces_only_bundles(made, tool, tmp_path):
    output = tmp_path / "x.zip"
    shutil.copy(made / "llama.zip", output)
    text = tool("shardc", "pack", made / "llama.bundle", "-o", output, code=2)
    assert f"{output} exists; --force replaces it" in text
    tool("shardc", "pack", made / "llama.bundle", "-o", output, "--force")
    output.write_text("a diary")
    assert "exists and is no bundle" in tool("shardc", "pack", made / "llama.bundle", "-o", output, "--force", code=1)
    text = tool("shardc", "compile", MODEL, "--isa", "x86-64-v3", "-o", output, "--force", code=1)
    assert "exists and is no bundle" in text and output.read_text() == "a diary"
    assert "pack needs an output: -o NAME.zip, not x.bundle" in tool("shardc", "pack", output, "-o", "x.bundle", code=2)
    assert "pack takes a bundle's directory" in tool("shardc", "pack", made / "llama.zip", "-o", tmp_path / "y.zip", code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def _repacked(folder: Path, output: Path, method: int) -> None:
    with zipfile.ZipFile(output, "w", method) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda made, path: path.write_bytes((made / "llama.zip").read_bytes()[:-30]), "it is truncated"),
        (lambda made, path: path.write_bytes(b"x" * 100), "this is no zip file"),
        (lambda made, path: _repacked(made / "llama.bundle", path, zipfile.ZIP_DEFLATED), "is compressed (method 8)"),
        (lambda made, path: _repacked(made / "llama.bundle", path, zipfile.ZIP_STORED), "shardc pack aligns members"),
    ],
    ids=["truncated", "no zip", "compressed", "not aligned"],
)
def test_damaged_files(made, tool, compiler_build, tmp_path, damage, message):
    path = tmp_path / "x.zip"
    damage(made, path)
    assert message in tool("shard-run", path, code=3)
    assert message in tool("shardc", "inspect", path, code=1)
    with pytest.raises(shardc.RuntimeFailure) as error:
        shardc.load(path, build=compiler_build)
    assert message in str(error.value) and error.value.kind == "bad bundle"
