"""Reads Tessera's checkpoints. Needs protobuf, numpy, and protoc or a generated checkpoint_pb2.py.

    checkpoint = tessera_checkpoint.load("checkpoint-00000120.tsr", prefix="teacher/")
    checkpoint.tensors["teacher/pos_embed"]  # numpy array; bf16 becomes float32
    checkpoint.values["rng/seed"]            # int, float, bool, str or bytes
    checkpoint.histories["train"]            # {"step": array, "loss": array, ...}

`python3 tessera_checkpoint.py FILE` lists what FILE holds.
"""

import importlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import typing
import zlib

import numpy
from google.protobuf import message


def _generated():
    """The module that protoc makes of checkpoint.proto."""
    try:
        return importlib.import_module("checkpoint_pb2")
    except ModuleNotFoundError:
        pass
    proto = pathlib.Path(__file__).resolve().parent.parent / "checkpoint.proto"
    protoc = shutil.which("protoc")
    if protoc is None:
        raise ImportError("no checkpoint_pb2.py, and no protoc to make it: install protobuf-compiler")
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([protoc, f"--python_out={out}", f"--proto_path={proto.parent}", proto], check=True)
        sys.path.insert(0, out)
        try:
            return importlib.import_module("checkpoint_pb2")
        finally:
            sys.path.remove(out)


pb = _generated()

VERSION = 1
RECORD_MAX = 64 << 20
DTYPES = {
    pb.F32: "<f4",
    pb.F64: "<f8",
    pb.BF16: "<u2",  # widened below
    pb.I32: "<i4",
    pb.I64: "<i8",
    pb.U8: "u1",
    pb.BOOL: "?",
}


class Checkpoint(typing.NamedTuple):
    tensors: dict
    values: dict
    histories: dict


def entries(file):
    """Yields every Entry of an open binary file; ValueError where it is cut or damaged."""
    number = 0
    while True:
        length = shift = 0
        while True:
            byte = file.read(1)
            if not byte and shift == 0:
                raise ValueError(f"truncated: record {number} is missing")
            if not byte or shift > 28:
                raise ValueError(f"damaged: record {number} has no length")
            length |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                break
        data = file.read(length) if length <= RECORD_MAX else b""
        if len(data) != length:
            raise ValueError(f"truncated or damaged in record {number}")
        try:
            record = pb.Record.FromString(data)
            if zlib.crc32(record.entry) != record.crc32:
                raise ValueError(f"checksum mismatch in record {number}")
            entry = pb.Entry.FromString(record.entry)
        except message.DecodeError as error:
            raise ValueError(f"record {number} is damaged, or this is not a Tessera checkpoint") from error
        yield entry
        if entry.WhichOneof("kind") == "end":
            if entry.end.records != number:
                raise ValueError("records are missing")
            return
        number += 1


def _array(tensor, data):
    if len(data) != tensor.bytes:
        raise ValueError(f"tensor {tensor.name!r} has {len(data)} bytes, wanted {tensor.bytes}")
    array = numpy.frombuffer(data, DTYPES[tensor.dtype])
    if tensor.dtype == pb.BF16:
        array = (array.astype("<u4") << 16).view("<f4")
    return array.reshape(tuple(tensor.shape))


def load(path, prefix=""):
    """Everything in the file; of the tensors those whose names begin with prefix."""
    result = Checkpoint({}, {}, {})
    tensor, data = None, bytearray()

    def finish():
        if tensor is not None and tensor.name.startswith(prefix):
            result.tensors[tensor.name] = _array(tensor, data)

    with open(path, "rb") as file:
        for number, entry in enumerate(entries(file)):
            kind = entry.WhichOneof("kind")
            if number == 0 and (kind != "header" or entry.header.magic != "tessera checkpoint"):
                raise ValueError(f"{path} is not a Tessera checkpoint")
            if number == 0 and entry.header.version > VERSION:
                raise ValueError(f"{path} has format version {entry.header.version}, wanted {VERSION} or less")
            if kind == "chunk":
                if tensor.name.startswith(prefix):
                    data += entry.chunk.data
                continue
            finish()
            tensor = None
            if kind == "tensor":
                tensor, data = entry.tensor, bytearray()
            elif kind == "value":
                which = entry.value.WhichOneof("value")
                if which is not None:
                    result.values[entry.value.key] = getattr(entry.value, which)
            elif kind == "history":
                h = entry.history
                rows = numpy.array(h.values).reshape(len(h.steps), len(h.columns))
                table = {"step": numpy.array(h.steps, "<i8"), **dict(zip(h.columns, rows.T))}
                before = result.histories.get(h.name)
                if before is not None:
                    table = {k: numpy.concatenate([before[k], table[k]]) for k in table}
                result.histories[h.name] = table
    return result


if __name__ == "__main__":
    contents = load(sys.argv[1])
    for key, value in contents.values.items():
        print(f"{key} = {value!r}")
    for name, table in contents.histories.items():
        print(f"history {name}: {len(table['step'])} rows of {', '.join(table)}")
    for name, array in contents.tensors.items():
        print(f"{name}: {array.dtype} {list(array.shape)}")
