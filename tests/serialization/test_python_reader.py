"""Reads with serialization/python what the library wrote. Arguments: that folder (or "" where the package is installed), the
program that writes, checkpoint.proto. Exit status 77 (skipped) where Python lacks what the reader needs."""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import zlib

sys.dont_write_bytecode = True
if sys.argv[1]:
    sys.path.insert(0, sys.argv[1])
try:
    import numpy
    from google.protobuf import descriptor_pb2
    import tessera_checkpoint
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)
try:
    import torch
except ImportError:
    torch = None


def refused(path, data, words=""):
    path.write_bytes(data)
    try:
        with tessera_checkpoint.open(path) as r:
            r.verify()
    except ValueError as error:
        return words in str(error) and "\n" not in str(error)
    return False


def raises(kind, call):
    try:
        call()
    except kind:
        return True
    return False


def record(entry):
    data = entry.SerializeToString()
    body = tessera_checkpoint.Record(crc32=zlib.crc32(data), entry=data).SerializeToString()
    assert len(body) < 128
    return bytes([len(body)]) + body


def made(*entries):
    """A file of a header and these entries; its end has totals of nothing."""
    header = tessera_checkpoint.Entry(header=dict(magic="tessera checkpoint", version=1))
    end = tessera_checkpoint.Entry(end=dict(records=1 + len(entries)))
    return b"".join(map(record, [header, *entries, end]))


def check_content(path):
    c = tessera_checkpoint.load(path)
    assert c.values == {
        "int": -5, "uint": 2**64 - 1, "double": 0.1, "bool": True, "string": "\u20ac", "bytes": b"\0\xff",
    }, c.values
    wanted = {
        "student/f32": numpy.array([[0, 1, 2], [3, 4, 5.5]], "f4"),
        "student/f64": numpy.array(0.1, "f8"),
        "student/bf16": numpy.array([-1.5, -0.5, 0.5], "f4"),
        "student/i64": numpy.array([-7], "i8"),
        "student/u8": numpy.array([200, 200], "u1"),
        "student/bool": numpy.array([False, True]),
        "student/empty": numpy.zeros((2, 0), "f4"),
        "teacher/large": numpy.arange(3 << 20, dtype="i4"),
    }
    assert list(c.tensors) == list(wanted), list(c.tensors)
    for name, array in wanted.items():
        got = c.tensors[name]
        assert got.dtype == array.dtype and got.shape == array.shape, (name, got.dtype, got.shape)
        assert numpy.array_equal(got, array), name
    train = c.histories["train"]
    assert list(train) == ["step", "loss", "lr"]
    assert numpy.array_equal(train["step"], 10 * numpy.arange(5000))
    assert numpy.array_equal(train["loss"], numpy.arange(5000) + 0.25)
    assert numpy.isnan(train["lr"][1::2]).all() and train["lr"][4998] == -4998
    assert list(tessera_checkpoint.load(path, prefix="teacher/").tensors) == ["teacher/large"]
    return wanted


def check_parts(path, wanted):
    with tessera_checkpoint.open(path) as r:
        assert r.names() == list(wanted) and r.names("teacher/") == ["teacher/large"]
        assert r.shape("student/f32") == (2, 3) and r.dtype("student/bf16") == "bfloat16"
        assert [name for name, _ in r.stream("student/")] == r.names("student/")
        for start, stop in ((0, 10), ((1 << 18) - 3, (1 << 18) + 3), (5, 3), (-2, None), (0, 3 << 20)):
            assert numpy.array_equal(r.rows("teacher/large", start, stop), wanted["teacher/large"][start:stop])
        assert numpy.array_equal(r.rows("student/f32", 1, 2), wanted["student/f32"][1:2])
        assert numpy.array_equal(r.rows("student/bf16", 1, 3), wanted["student/bf16"][1:3])
        assert r.rows("student/empty", 0, 1).shape == (1, 0)
        assert raises(ValueError, lambda: r.rows("student/f64", 0, 1))
        assert raises(KeyError, lambda: r.tensor("student/none"))
        r.verify()
    if torch is not None:
        state = tessera_checkpoint.to_torch(path, prefix="student/")
        assert "f32" in state and state["bf16"].dtype == torch.bfloat16 and state["bool"].dtype == torch.bool
        assert torch.equal(state["f32"], torch.tensor([[0, 1, 2], [3, 4, 5.5]]))
        assert torch.equal(state["bf16"].float(), torch.tensor([-1.5, -0.5, 0.5]))


def check_damage(path):
    data = path.read_bytes()
    assert refused(path, data[:-1], "truncated")
    assert refused(path, data[:200], "truncated")
    assert refused(path, data + b"\0", "behind its end")
    assert refused(path, b"PK\3\4" + data, "not a Tessera checkpoint")
    assert refused(path, b"", "truncated")
    middle = len(data) // 2 # in the data of a tensor, which is checked when it is read
    damaged = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:]
    assert refused(path, damaged, "checksum mismatch in record ")
    path.write_bytes(damaged)
    with tessera_checkpoint.open(path) as r: # the rest of it is whole
        assert len(r.rows("teacher/large", 0, 100)) == 100
        assert r.tensor("student/f64") == 0.1
        assert raises(ValueError, lambda: r.tensor("teacher/large"))


def check_hostile(path):
    entry = tessera_checkpoint.Entry
    assert not refused(path, made())
    assert refused(path, made(entry(value=dict(key="a", integer=1))), "its totals")
    huge = [1 << 40, 1 << 40]
    cases = [
        (dict(name="x", dtype=1, shape=huge, bytes=4, chunk_bytes=4), "not what its shape and type say"),
        (dict(name="x", dtype=1, shape=huge, bytes=(1 << 64) - 4, chunk_bytes=4), "not what its shape and type say"),
        (dict(name="x", dtype=1, shape=[1 << 50], bytes=1 << 52, chunk_bytes=1 << 30), "larger than the file"),
        (dict(name="x", dtype=1, shape=[1], bytes=4, chunk_bytes=0), "not what its shape and type say"),
        (dict(name="x", dtype=99, shape=[1], bytes=4, chunk_bytes=4), "type 99"),
    ]
    for tensor, words in cases:
        assert refused(path, made(entry(tensor=tensor)), words), tensor
    tensor = entry(tensor=dict(name="x", dtype=1, shape=[2], bytes=8, chunk_bytes=8))
    for chunk in (dict(offset=4, data=b"\0" * 8), dict(offset=0, data=b"\0" * 7)):
        end = entry(end=dict(records=3, tensors=1, tensor_bytes=8))
        header = made()[:-len(record(entry(end=dict(records=1))))]
        data = header + record(tensor) + record(entry(chunk=chunk)) + record(end)
        assert refused(path, data, "is not the part of 'x'"), chunk
    assert refused(path, made(entry(chunk=dict(offset=0, data=b""))), "is a chunk where none may be")
    newer = record(entry(header=dict(magic="tessera checkpoint", version=2)))
    assert refused(path, newer, "format version 2")


def check_descriptor(proto):
    """checkpoint.desc is what protoc makes of checkpoint.proto."""
    protoc = shutil.which("protoc")
    if protoc is None:
        return
    proto = pathlib.Path(proto)
    with tempfile.TemporaryDirectory() as out:
        made = pathlib.Path(out) / "made"
        subprocess.run([protoc, f"--descriptor_set_out={made}", f"--proto_path={proto.parent}", proto], check=True)
        made = descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes())
    ours = pathlib.Path(tessera_checkpoint.__file__).with_name("checkpoint.desc").read_bytes()
    assert descriptor_pb2.FileDescriptorSet.FromString(ours) == made, "make checkpoint.desc again"


with tempfile.TemporaryDirectory() as directory:
    path = pathlib.Path(directory) / "x.tsr"
    subprocess.run([sys.argv[2], path], check=True)
    check_parts(path, check_content(path))
    environment = {"PYTHONPATH": sys.argv[1], "PYTHONDONTWRITEBYTECODE": "1"} if sys.argv[1] else None
    listed = subprocess.run([sys.executable, "-m", "tessera_checkpoint", path, "--verify"], check=True, text=True,
                            capture_output=True, env=environment).stdout
    assert "teacher/large: int32 [3145728]\n" in listed and "verified: 8 tensors\n" in listed
    check_damage(path)
    check_hostile(path)
    check_descriptor(sys.argv[3])
print("ok: read by protobuf, numpy", numpy.__version__, "and torch" if torch is not None else "without torch")
