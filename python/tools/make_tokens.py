"""Makes a token file for training (python/shardc/tokens.py says what that is) from text, byte by byte: a vocabulary of 256.

python python/tools/make_tokens.py text.bin                     Python's language reference, half a megabyte of English
python python/tools/make_tokens.py text.bin README.md docs      files, and all text below folders
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from shardc.tokens import write_tokens  # noqa: E402

SUFFIXES = (".md", ".rst", ".txt")


def language_reference() -> bytes:
    """The chapters that help() quotes; every Python has them."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics)).encode()


def read(path: Path) -> bytes:
    if not path.is_dir():
        return path.read_bytes()
    files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
    return b"\n\n".join(file.read_bytes() for file in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("texts", nargs="*", type=Path, help="files or folders; default: Python's language reference")
    args = parser.parse_args()
    try:
        text = b"\n\n".join(map(read, args.texts)) if args.texts else language_reference()
        write_tokens(args.output, np.frombuffer(text, np.uint8))
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    print(f"{args.output}: {len(text)} tokens, vocabulary 256")


if __name__ == "__main__":
    main()
