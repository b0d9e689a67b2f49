"""Counts what the given meson-logs/testlog.json files hold, and prints `N passed, N failed` as the last line.

A CMocka program counts as its test functions, a TAP program as its checks, another program as one. A program that died or
ran out of time counts as what it had passed, and one failure. Exit status 1 when anything failed or nothing passed.
"""
import json
import re
import sys

passed = failed = 0
for path in sys.argv[1:]:
    with open(path, encoding='utf-8') as log:
        for run in map(json.loads, log):
            if run['result'] == 'SKIP':
                print(f"skipped: {run['name']}")
                continue
            text = run.get('stdout', '') + '\n' + run.get('stderr', '')
            # CMocka ends each group with these two lines, TAP and programs that died do not.
            good = sum(map(int, re.findall(r'^\[  PASSED  \] (\d+) test', text, re.M)))
            bad = sum(map(int, re.findall(r'^\[  FAILED  \] (\d+) test', text, re.M)))
            if good + bad == 0:
                good = len(re.findall(r'^(?:\[       OK \]|ok\b)', text, re.M))
                bad = len(re.findall(r'^(?:\[  FAILED  \] \S|not ok\b)', text, re.M))
            if run['result'] in ('OK', 'EXPECTEDFAIL'):
                good = max(good, 1)
            else:
                bad = max(bad, 1)
                print(f"failed: {run['name']} ({run['result']})")
            passed += good
            failed += bad
print(f'{passed} passed, {failed} failed')
sys.exit(failed != 0 or passed == 0)
