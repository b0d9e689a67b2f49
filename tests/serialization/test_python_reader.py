"""Reads with serialization/python/tessera_checkpoint.py what the library wrote. Arguments: the reader's directory, the
program that writes. Exit status 77 (skipped) where Python lacks what the reader needs."""

import pathlib
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
try:
    import numpy
    import tessera_checkpoint
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)


def refused(path, data):
    path.write_bytes(data)
    try:
        tessera_checkpoint.load(path)
    except ValueError:
        return True
    return False


with tempfile.TemporaryDirectory() as directory:
    path = pathlib.Path(directory) / "x.tsr"
    subprocess.run([sys.argv[2], path], check=True)
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

    data = path.read_bytes()
    assert refused(path, data[:-1])
    assert refused(path, data[:200])
    assert refused(path, data[: len(data) // 2] + b"\x55" + data[len(data) // 2 + 1 :])
    assert refused(path, b"PK\3\4" + data)
print("read by protobuf, numpy", numpy.__version__)
