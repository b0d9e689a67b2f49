"""python3 -m tessera_checkpoint FILE [--verify]: lists what a checkpoint holds."""

import argparse
import sys

import tessera_checkpoint

parser = argparse.ArgumentParser(prog="tessera_checkpoint", description="Lists what a checkpoint of Tessera holds.")
parser.add_argument("file")
parser.add_argument("--verify", action="store_true", help="read all data and compare checksums")
arguments = parser.parse_args()
try:
    with tessera_checkpoint.open(arguments.file) as r:
        for key, value in r.values.items():
            print(f"{key} = {value!r}")
        for name, table in r.histories.items():
            print(f"history {name}: {len(table['step'])} rows of {', '.join(table)}")
        for name in r.names():
            print(f"{name}: {r.dtype(name)} {list(r.shape(name))}")
        if arguments.verify:
            r.verify()
            print(f"verified: {len(r.names())} tensors")
except (OSError, ValueError) as error:
    sys.exit(f"tessera_checkpoint: {error}")
