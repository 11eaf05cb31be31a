#!/usr/bin/env python3
"""Prints the slowest tests and, last, the flaky ones of a run of nextest; exit 1 if there are more flaky ones than allowed.

  scripts/lib/test_summary.py JUNIT-XML [MAX-FLAKY]
"""

import sys
import xml.etree.ElementTree as ElementTree

SLOWEST = 50


def cases(path):
    """Seconds, name and element of each test that ran."""
    for suite in ElementTree.parse(path).getroot():
        for case in suite.iter("testcase"):
            yield float(case.get("time")), f"{suite.get('name')} {case.get('name')}", case


def main():
    path = sys.argv[1]
    max_flaky = int(sys.argv[2]) if len(sys.argv) > 2 else None
    run = sorted(cases(path), key=lambda entry: -entry[0])
    wall = float(ElementTree.parse(path).getroot().get("time"))

    print(f"{len(run)} tests took {wall:.0f} seconds. The {min(SLOWEST, len(run))} slowest, in seconds:")
    for seconds, name, _ in run[:SLOWEST]:
        print(f"{seconds:8.1f}  {name}")

    failed = sum(case.find("failure") is not None or case.find("error") is not None for _, _, case in run)
    flaky = [name for _, name, case in run if case.find("flakyFailure") is not None or case.find("flakyError") is not None]
    for name in flaky:
        print(f"FLAKY: passed on a second try only: {name}")
    status = 0
    if max_flaky is not None and len(flaky) > max_flaky:
        print(f"{len(flaky)} tests are flaky, more than the {max_flaky} allowed")
        status = 1
    print(f"{len(run) - failed} passed, {failed} failed")
    return status


if __name__ == "__main__":
    sys.exit(main())
