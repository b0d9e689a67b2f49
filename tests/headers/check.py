"""Headers compile alone, and floors are closed upward; with the build's own commands.

check.py BUILD SOURCE CXX...: reads BUILD/compile_commands.json and reports in TAP. For each floor of the house, its own
command (that of one of its sources) compiles one line, `#include "..."`:
- every header of the floor, as strict C11 with warnings as errors; the public ones as C++ too, where CXX is given;
- the public headers of this floor and of those below must be found, those of the floors above must not.
"""
import json
import pathlib
import re
import shlex
import subprocess
import sys

FLOORS = ['autograd', 'ops', 'models', 'serialization', 'recipes']

build, source, cxx = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]


def floor_command(floor):
    """The compiler and its flags for the sources of the floor's library."""
    for entry in json.loads((build / 'compile_commands.json').read_text()):
        path = (build / entry['file']).resolve()
        if f'libtsr_{floor}.a.p' not in entry['output'] or source.resolve() not in path.parents:
            continue
        words, flags = shlex.split(entry['command']), []
        while words:
            word = words.pop(0)
            if word in ('-o', '-c', '-MQ', '-MF'):
                words.pop(0)
            elif word != '-MD':
                flags.append(word)
        return flags
    raise SystemExit(f'Bail out! no source of {floor} in compile_commands.json')


def compile_include(command, header, *flags):
    return subprocess.run([*command, *flags, '-fsyntax-only', '-'], cwd=build, text=True,
                          input=f'#include "{header}"\n', capture_output=True)


checks = []


def check(name, passed, output=''):
    checks.append(passed)
    print(f"{'ok' if passed else 'not ok'} {len(checks)} - {name}")
    for line in output.splitlines() if not passed else []:
        print('# ' + line)


for level, floor in enumerate(FLOORS):
    command = floor_command(floor)
    for path in sorted((source / floor).rglob('*.h')):
        header = path.relative_to(source).as_posix()
        run = compile_include(command, header, '-std=c11', '-Werror', '-x', 'c')
        check(f'{header} compiles alone as C11', run.returncode == 0, run.stderr)
    public = f'{floor}/{floor}.h'
    if cxx:
        flags = ['-std=c++11', '-Wall', '-Wextra', '-Werror', '-x', 'c++']
        run = compile_include([*cxx, f'-Ifloors/{floor}'], public, *flags)
        check(f'{public} compiles alone as C++', run.returncode == 0, run.stderr)
    for other_level, other in enumerate(FLOORS):
        # As a source in the floor's folder would include it.
        run = compile_include(command, f'{other}/{other}.h', '-iquote', str(source / floor), '-x',
                              'c')
        if other_level <= level:
            check(f'{floor} sees {other}', run.returncode == 0, run.stderr)
        else:
            missing = run.returncode != 0 and f'{other}/{other}.h' in run.stderr
            check(f'{floor} does not see {other}', missing, 'it compiled\n' + run.stderr)
    climbing = [path.relative_to(source).as_posix() for path in sorted((source / floor).rglob('*.[ch]'))
                if re.search(r'^\s*#\s*include\s*["<][^">]*\.\./', path.read_text(), re.M)]
    check(f'no include of {floor} climbs out with ..', not climbing, '\n'.join(climbing))

print(f'1..{len(checks)}')
