"""Token files, and the order in which they are read."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shardc.tokens import batches, open_tokens, shuffled, write_tokens

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("dtype, largest", [("u16", 65535), ("u32", 100000)])
def test_what_is_written_is_read(tmp_path, dtype, largest):
    file = tmp_path / "tokens.bin"
    write_tokens(file, [1, 2, largest], dtype)
    assert open_tokens(file).tolist() == open_tokens(file, dtype).tolist() == [1, 2, largest]
    assert file.stat().st_size == 3 * int(dtype[1:]) // 8


def test_wrong_tokens_and_types(tmp_path):
    with pytest.raises(ValueError, match="-1 to 70000 are not all within 0 to 65535, which u16 holds"):
        write_tokens(tmp_path / "tokens.bin", [-1, 70000])
    with pytest.raises(ValueError, match='"f32" is not one of u16, u32'):
        open_tokens(tmp_path / "tokens.bin", "f32")
    with pytest.raises(ValueError, match="a sequence of 8 and its labels need 9, there are 8"):
        next(batches(np.arange(8), 1, 8))


@pytest.mark.parametrize("count", [1, 2, 5, 64, 1000])
def test_an_epoch_has_every_window_once(count):
    orders = {tuple(shuffled(seed, epoch, count, i) for i in range(count)) for seed in (0, 1) for epoch in (0, 1)}
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert count < 64 or len(orders) == 4


def test_batches():
    tokens = np.arange(10 * 4 + 1)
    rows = list(itertools.islice(batches(tokens, sequences=2, length=4), 10))  # two epochs
    for input_ids, labels in rows:
        assert input_ids.shape == labels.shape == (2, 4) and (labels == input_ids + 1).all()
    first = [int(row[0]) for input_ids, _ in rows for row in input_ids]
    assert sorted(first[:10]) == sorted(first[10:]) == list(range(0, 40, 4))
    assert first[:10] != first[10:]


def make_tokens(*arguments):
    script = ROOT / "python" / "tools" / "make_tokens.py"
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)


def test_tokens_of_text(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "b.md").write_text("more")
    (tmp_path / "docs" / "a.txt").write_text("naïve")
    (tmp_path / "docs" / "image.png").write_bytes(b"\0")
    done = make_tokens(tmp_path / "tokens.bin", tmp_path / "docs")
    assert done.stdout == f"{tmp_path / 'tokens.bin'}: 12 tokens, vocabulary 256\n"
    assert bytes(open_tokens(tmp_path / "tokens.bin").tolist()).decode() == "naïve\n\nmore"


def test_tokens_without_text_are_pythons_reference(tmp_path):
    assert make_tokens(tmp_path / "tokens.bin").returncode == 0
    assert b"assignment statement" in bytes(open_tokens(tmp_path / "tokens.bin").tolist()).lower()


def test_tokens_of_a_file_that_is_not_there(tmp_path):
    done = make_tokens(tmp_path / "tokens.bin", tmp_path / "none.txt")
    assert done.returncode == 1 and done.stderr.endswith("none.txt: No such file or directory\n")
