"""The files of a bundle, which is a directory, or a zip file of one whose members are stored as they are."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, then the lengths of name and extra field


def read_file(bundle: Path, name: str) -> bytes:
    """Raises OSError or KeyError where there is none, zipfile.BadZipFile for a file that is no zip."""
    if bundle.is_dir():
        return (bundle / name).read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        return archive.read(name)


def stored_members(bundle: Path, prefix: str) -> dict[str, tuple[int, int]]:
    """Where the data of a zip file's members lies whose names begin with `prefix`: offset and bytes in the file."""
    places = {}
    with zipfile.ZipFile(bundle) as archive, bundle.open("rb") as stream:
        for info in archive.infolist():
            if not info.filename.startswith(prefix):
                continue
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{bundle}: {info.filename} is compressed")
            stream.seek(info.header_offset)
            signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
            if signature != b"PK\3\4":
                raise ValueError(f"{bundle}: {info.filename} is not where the zip file's directory says")
            begin = info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
            places[info.filename] = (begin, info.file_size)
    return places
