#!/usr/bin/env python3
"""Prints the slowest tests of a run of nextest and, last, the flaky ones with the end of their output.

  scripts/lib/test_summary.py JUNIT-XML [MAX-FLAKY]

Exit code 1 if more tests are flaky than allowed, or if the file is missing or damaged.
"""

import sys
import xml.etree.ElementTree as ElementTree

SLOWEST = 50
# Lines of the output of a flaky test, and characters of each.
LINES, WIDTH = 12, 400


def cases(root):
    """Seconds, name and element of each test that ran."""
    for suite in root:
        for case in suite.iter("testcase"):
            yield float(case.get("time", 0)), f"{suite.get('name')} {case.get('name')}", case


def has(case, *names):
    return any(case.find(name) is not None for name in names)


def cause(case):
    """Lines of a failed try: those from the panic on, or else the last ones."""
    failed = next(child for child in case if child.tag in ("flakyFailure", "flakyError"))
    texts = [failed.findtext("system-err") or "", failed.findtext("system-out") or "", failed.text or ""]
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    panics = [number for number, line in enumerate(lines) if " panicked at " in line]
    return lines[panics[0] :][:LINES] if panics else lines[-LINES:]


def summary(root, max_flaky):
    run = sorted(cases(root), key=lambda entry: -entry[0])
    print(f"{len(run)} tests took {float(root.get('time', 0)):.0f} seconds. The {min(SLOWEST, len(run))} slowest, in seconds:")
    for seconds, name, _ in run[:SLOWEST]:
        print(f"{seconds:8.1f}  {name}")

    failed = sum(has(case, "failure", "error") for _, _, case in run)
    flaky = [(name, case) for _, name, case in run if has(case, "flakyFailure", "flakyError")]
    for name, case in flaky:
        print(f"FLAKY: passed on a second try only: {name}")
        for line in cause(case):
            print(f"    {line[:WIDTH]}")
    status = 0
    if max_flaky is not None and len(flaky) > max_flaky:
        print(f"{len(flaky)} tests are flaky, more than the {max_flaky} allowed")
        status = 1
    print(f"{len(run) - failed} passed, {failed} failed")
    return status


def main():
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    path = sys.argv[1]
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        print(f"no summary: cannot read {path}: {error.strerror}; nextest ended before it wrote its report", file=sys.stderr)
        return 1
    except ElementTree.ParseError as error:
        print(f"no summary: {path} is not complete XML: {error}", file=sys.stderr)
        return 1
    return summary(root, int(sys.argv[2]) if len(sys.argv) == 3 else None)


if __name__ == "__main__":
    sys.exit(main())
