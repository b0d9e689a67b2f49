"""Reads Tessera's checkpoints: load(), to_torch(), open() for parts and streams. The format is checkpoint.proto."""

import builtins
import os
import pathlib
import typing
import zlib

import numpy
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

__all__ = ["Checkpoint", "Reader", "load", "open", "to_torch"]

VERSION = 1
RECORD_MAX = 64 << 20


def _messages():
    """The classes of checkpoint.proto, by its descriptor: no generated code, which fits few versions of protobuf."""
    files = descriptor_pb2.FileDescriptorSet.FromString(
        pathlib.Path(__file__).with_name("checkpoint.desc").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    found = [pool.FindMessageTypeByName("tessera.checkpoint." + name) for name in ("Record", "Entry")]
    if hasattr(message_factory, "GetMessageClass"):
        return [message_factory.GetMessageClass(d) for d in found]
    factory = message_factory.MessageFactory(pool)
    return [factory.GetPrototype(d) for d in found]


Record, Entry = _messages()

# By the numbers of the enum DType: NumPy's type of what is in the file, and PyTorch's name.
DTYPES = {
    1: ("<f4", "float32"),
    2: ("<f8", "float64"),
    3: ("<u2", "bfloat16"),  # the upper half of a float32
    4: ("<i4", "int32"),
    5: ("<i8", "int64"),
    6: ("u1", "uint8"),
    7: ("?", "bool"),
}
BF16 = 3


class Checkpoint(typing.NamedTuple):
    tensors: dict  # name -> array
    values: dict  # key -> int, float, bool, str or bytes
    histories: dict  # name -> {"step": array, column: array, ...}


class _Tensor(typing.NamedTuple):
    number: int  # of its record
    dtype: int
    shape: tuple
    bytes: int
    chunk_bytes: int
    chunks: list  # the first byte of each chunk's record in the file


def _widen(array):
    return (array.astype("<u4") << 16).view("<f4")


class Reader:
    """An open checkpoint. Opening reads values, histories and what tensors there are, and skips their data."""

    def __init__(self, path):
        self.path = os.fspath(path)
        self.values, self.histories, self._tensors = {}, {}, {}
        self._file = builtins.open(self.path, "rb")
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self._read_index()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._file.close()

    # ---- records ----

    def _fail(self, what):
        raise ValueError(f"{self.path}: {what}")

    def _length(self, number):
        """The length of the record at the file's position."""
        length = shift = 0
        while True:
            byte = self._file.read(1)
            if not byte:
                self._fail(f"truncated: record {number} is missing or cut off")
            length |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                break
            if shift > 28:
                self._fail(f"record {number} has no length: damaged, or not a Tessera checkpoint")
        if length > RECORD_MAX:
            self._fail(f"record {number} is larger than 64 MiB: damaged, or not a Tessera checkpoint")
        if length > self._size - self._file.tell():
            self._fail(f"truncated: record {number} is cut off")
        return length

    def _entry(self, number):
        data = self._file.read(self._length(number))
        try:
            record = Record.FromString(data)
            if zlib.crc32(record.entry) != record.crc32:
                self._fail(f"checksum mismatch in record {number}")
            return Entry.FromString(record.entry)
        except message.DecodeError:
            self._fail(f"record {number} is damaged, or this is not a Tessera checkpoint")

    def _read_index(self):
        entry = self._entry(0)
        if entry.WhichOneof("kind") != "header" or entry.header.magic != "tessera checkpoint":
            self._fail("not a Tessera checkpoint")
        if entry.header.version > VERSION:
            self._fail(f"format version {entry.header.version}, this reader knows up to {VERSION}")
        number, rows, tensor_bytes = 1, 0, 0
        while True:
            entry = self._entry(number)
            kind = entry.WhichOneof("kind")
            if kind == "end":
                break
            number += 1
            if kind == "value":
                self._add_value(entry.value)
            elif kind == "history":
                rows += len(entry.history.steps)
                self._add_history(entry.history)
            elif kind == "tensor":
                number = self._add_tensor(entry.tensor, number)
                tensor_bytes += entry.tensor.bytes
            elif kind is not None:  # what a later version added may be skipped
                self._fail(f"record {number - 1} is a {kind} where none may be")
        end = entry.end
        if self._file.tell() != self._size:
            self._fail("there is something behind its end")
        totals = (end.records, end.values, end.rows, end.tensors, end.tensor_bytes)
        if totals != (number, len(self.values), rows, len(self._tensors), tensor_bytes):
            self._fail("its totals are not those of its content")

    def _add_value(self, value):
        which = value.WhichOneof("value")
        if value.key in self.values:
            self._fail(f"two values are named {value.key!r}")
        self.values[value.key] = getattr(value, which) if which is not None else None

    def _add_history(self, h):
        if len(h.values) != len(h.steps) * len(h.columns):
            self._fail(f"history {h.name!r} has {len(h.values)} numbers in {len(h.steps)} rows")
        table = numpy.array(h.values, "<f8").reshape(len(h.steps), len(h.columns))
        rows = {"step": numpy.array(h.steps, "<i8"), **dict(zip(h.columns, table.T))}
        before = self.histories.get(h.name)
        if before is not None:
            if list(before) != list(rows):
                self._fail(f"history {h.name!r} changes its columns")
            rows = {k: numpy.concatenate([before[k], rows[k]]) for k in rows}
        self.histories[h.name] = rows

    def _add_tensor(self, t, number):
        """Its chunks are skipped. Returns the number of the record behind them."""
        numel = 1
        for size in t.shape:
            numel *= size
        dtype = DTYPES.get(t.dtype)
        if dtype is None:
            self._fail(f"tensor {t.name!r} has type {t.dtype}, which this reader does not know")
        if t.bytes != numel * numpy.dtype(dtype[0]).itemsize or (t.bytes > 0 and t.chunk_bytes == 0):
            self._fail(f"tensor {t.name!r} has {t.bytes} bytes, which is not what its shape and type say")
        if t.name in self._tensors:
            self._fail(f"two tensors are named {t.name!r}")
        if t.bytes > self._size:
            self._fail(f"truncated: tensor {t.name!r} is larger than the file")
        chunks = []
        for _ in range(-(-t.bytes // t.chunk_bytes) if t.bytes > 0 else 0):
            chunks.append(self._file.tell())
            self._file.seek(self._length(number + len(chunks) - 1), os.SEEK_CUR)
        self._tensors[t.name] = _Tensor(number, t.dtype, tuple(t.shape), t.bytes, t.chunk_bytes, chunks)
        return number + len(chunks)

    # ---- tensors ----

    def names(self, prefix=""):
        """Of tensors, in the file's order."""
        return [name for name in self._tensors if name.startswith(prefix)]

    def _find(self, name):
        if name not in self._tensors:
            raise KeyError(f"{self.path} has no tensor {name!r}")
        return self._tensors[name]

    def shape(self, name):
        return self._find(name).shape

    def dtype(self, name):
        """PyTorch's name of its type: "float32", "bfloat16", ..."""
        return DTYPES[self._find(name).dtype][1]

    def _bytes(self, name, begin, end):
        """Bytes begin .. end of a tensor's data; only the chunks that they lie in are read, and these are checked."""
        t = self._find(name)
        parts, at = [], begin
        while at < end:
            index = at // t.chunk_bytes
            first = index * t.chunk_bytes
            self._file.seek(t.chunks[index])
            entry = self._entry(t.number + index)
            size = min(t.chunk_bytes, t.bytes - first)
            if entry.WhichOneof("kind") != "chunk" or entry.chunk.offset != first or len(entry.chunk.data) != size:
                self._fail(f"record {t.number + index} is not the part of {name!r} that belongs there")
            stop = min(end, first + size)
            parts.append(entry.chunk.data[at - first:stop - first])
            at = stop
        return b"".join(parts)

    def _array(self, name, begin, end, shape):
        """As in the file: bf16 by its bits. It may be written to."""
        t = self._find(name)
        array = numpy.frombuffer(bytearray(self._bytes(name, begin, end)), DTYPES[t.dtype][0])
        return array.reshape(shape)

    def tensor(self, name):
        """A tensor as an array; bf16 as float32."""
        t = self._find(name)
        array = self._array(name, 0, t.bytes, t.shape)
        return _widen(array) if t.dtype == BF16 else array

    def rows(self, name, start, stop):
        """tensor(name)[start:stop] along the first dimension, reading no more than these rows' chunks."""
        t = self._find(name)
        if not t.shape:
            raise ValueError(f"tensor {name!r} is a scalar, which has no rows")
        start, stop, _ = slice(start, stop).indices(t.shape[0])
        stop = max(start, stop)
        row = t.bytes // t.shape[0] if t.shape[0] > 0 else 0
        array = self._array(name, start * row, stop * row, (stop - start, *t.shape[1:]))
        return _widen(array) if t.dtype == BF16 else array

    def stream(self, prefix=""):
        """Yields (name, array), one tensor after another."""
        for name in self.names(prefix):
            yield name, self.tensor(name)

    def verify(self):
        """Reads and checks all data, a chunk at a time."""
        for name, t in self._tensors.items():
            for begin in range(0, t.bytes, t.chunk_bytes):
                self._bytes(name, begin, min(t.bytes, begin + t.chunk_bytes))

    def torch(self, name):
        """A tensor of PyTorch, of the type in the file."""
        import torch
        t = self._find(name)
        array = self._array(name, 0, t.bytes, t.shape)
        if t.dtype == BF16:
            return torch.from_numpy(array.view("<i2")).view(torch.bfloat16)
        return torch.from_numpy(array)


def open(path):
    """A Reader, for parts of a file; use it in a with statement."""
    return Reader(path)


def load(path, prefix=""):
    """Everything in the file; of the tensors those whose names begin with prefix."""
    with Reader(path) as r:
        return Checkpoint(dict(r.stream(prefix)), r.values, r.histories)


def to_torch(path, prefix=""):
    """A state_dict: the tensors whose names begin with prefix, without it."""
    with Reader(path) as r:
        return {name[len(prefix):]: r.torch(name) for name in r.names(prefix)}
