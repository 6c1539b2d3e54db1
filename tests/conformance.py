#!/usr/bin/python3
"""Checks tests/conformance.tsv, the list of what the gateway does on the wire: that the list is well
formed, and that each of its rows is shown by tests that have passed.

    tests/conformance.py
        that the named tests exist
    tests/conformance.py --ctest build/release/Testing/Temporary/LastTest.log --pytest results.xml
        that they passed in these runs of ctest and pytest (--junitxml)

The last line is the sum: "N passed, N failed"; each row counts as one."""

import argparse
import collections
import re
import sys
import xml.etree.ElementTree
from pathlib import Path

TESTS = Path(__file__).resolve().parent
HEADER = ["id", "behaviour", "reference", "tests"]
REFERENCE = re.compile(r"RFC \d{4} [0-9A-Z.]+(, (RFC \d{4} )?[0-9A-Z.]+)*")
# What goes through all rows of malformed.tsv.
MALFORMED = ["unit:message_damage_test:the_malformed_table",
             "unit:serve_test:malformed_datagrams_get_what_the_rfc_says",
             "e2e:test_malformed.py::test_malformed_datagrams"]

Row = collections.namedtuple("Row", "line id behaviour reference tests")


# ---- the table ----

def read_table(path):
    """All rows, and what is wrong with the form of the table: (line, message)."""
    rows, wrong = [], []
    header = None
    for number, text in enumerate(path.read_text().splitlines(), 1):
        if text.startswith("#"):
            continue
        fields = text.split("\t")
        if header is None:
            header = fields
            if fields != HEADER:
                wrong.append((number, f"the header is not {HEADER}"))
        elif len(fields) != len(HEADER):
            wrong.append((number, f"{len(fields)} fields instead of {len(HEADER)}: {text[:60]}"))
        else:
            rows.append(Row(number, *fields[:3], fields[3].split()))
    if not rows:
        wrong.append((0, "no rows"))
    return rows, wrong


def check_form(row, earlier):
    """What is wrong with one row by itself. `earlier`: {id or behaviour: line} of those before."""
    for name, value in zip(HEADER, row[1:4]):
        if not value.strip():
            yield f"{name} is empty"
    if row.id and not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*", row.id):
        yield "an id is words of small letters with dots between them"
    if row.behaviour and not re.fullmatch(r"[^a-z].*[^ .]\.", row.behaviour):
        yield "a behaviour is a sentence: a capital at its front and one full stop at its end"
    if row.reference and not REFERENCE.fullmatch(row.reference):
        yield f"not an RFC and a section: {row.reference}"
    if not row.tests:
        yield "no test"
    for name, count in collections.Counter(row.tests).items():
        if count > 1:
            yield f"{name} is named {count} times"
    for value in filter(None, (row.id, row.behaviour)):
        if value in earlier:
            yield f"{value!r} is in line {earlier[value]} already"
        earlier[value] = row.line


# ---- what there is ----

def malformed_rows():
    lines = (TESTS / "malformed.tsv").read_text().splitlines()
    return {line.split("\t")[0] for line in lines if not line.startswith("#")} - {"name"}


def declared():
    """The names of all tests that the sources have, each with the result "there"."""
    found = {}
    for path in (TESTS / "unit").glob("*_test.c"):
        for name in re.findall(r"^static void (\w+)\(void \*\*", path.read_text(), re.M):
            found[f"unit:{path.stem}:{name}"] = ["there"]
    for path in (TESTS / "e2e").glob("test_*.py"):
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M):
            found[f"e2e:{path.name}::{name}"] = ["there"]
    for name in re.findall(r'\{"(\w+)", \w+_run\}', (TESTS / "sim" / "sim.c").read_text()):
        found[f"sim:{name}"] = ["there"]
    return found


# ---- what has run ----

def read_ctest(path):
    """Results by name from the log of ctest: of each cmocka test, and of the simulator's scenarios."""
    results = collections.defaultdict(list)
    text = path.read_text(errors="replace")
    for name, output in re.findall(r'^\d+/\d+ Testing: (\S+)$(.*?)^"\1" end time', text, re.M | re.S):
        command = re.findall(r'"([^"]*)"', re.search(r"^Command: (.*)$", output, re.M).group(1))
        good = re.search(r"^Test Passed\.$", output, re.M) is not None
        if Path(command[0]).name == "sim":
            scenario = command[command.index("--scenario") + 1] if "--scenario" in command else "messages"
            counted = re.search(r"^([1-9]\d*) passed, 0 failed$", output, re.M)
            results[f"sim:{scenario}"].append("passed" if good and counted else "failed")
            continue
        for word, case in re.findall(r"\[ +(OK|FAILED|SKIPPED) +\] (\w+)$", output, re.M):
            result = {"OK": "passed", "FAILED": "failed", "SKIPPED": "skipped"}[word]
            results[f"unit:{name}:{case}"].append(result)
    return results


def read_pytest(path):
    """Results by name from pytest's JUnit file; the cases of a parametrised test are under one name.
    pytest -n adds "@GROUP" to the names of those that share something."""
    results = collections.defaultdict(list)
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        module = case.get("classname").split(".")[-1]
        outcome = {child.tag for child in case}
        result = "failed" if outcome & {"failure", "error"} else \
            "skipped" if "skipped" in outcome else "passed"
        name = re.match(r"\w+", case.get("name")).group()
        results[f"e2e:{module}.py::{name}"].append(result)
    return results


def expand(name, malformed):
    """The tests that a name stands for."""
    kind, _, row = name.partition(":")
    if kind != "malformed":
        return [name]
    return MALFORMED if row in malformed else [f"tests/malformed.tsv: {row}"]


def check_tests(row, results, malformed):
    """What is wrong with the tests of a row."""
    for test in dict.fromkeys(t for name in row.tests for t in expand(name, malformed)):
        seen = collections.Counter(results.get(test, ()))
        if not seen:
            yield f"no result of {test}: it does not exist, or did not run"
        for bad in ("failed", "skipped"):
            if seen[bad]:
                yield f"{test}: {bad} in {seen[bad]} of {sum(seen.values())} cases"


def main(arguments=None, table=TESTS / "conformance.tsv"):
    parser = argparse.ArgumentParser(description="Checks tests/conformance.tsv.")
    parser.add_argument("--ctest", type=Path, action="append", default=[], metavar="LOG")
    parser.add_argument("--pytest", type=Path, action="append", default=[], metavar="XML")
    options = parser.parse_args(arguments)

    results = collections.defaultdict(list)
    try:
        for read, paths in ((read_ctest, options.ctest), (read_pytest, options.pytest)):
            for path in paths:
                for name, found in read(path).items():
                    results[name] += found
    except (OSError, xml.etree.ElementTree.ParseError) as error:
        print(f"no results of a run: {error}")
        return True
    if not options.ctest and not options.pytest:
        results = declared()

    rows, wrong = read_table(table)
    for line, message in wrong:
        print(f"{table.name}:{line}: {message}")
    earlier, malformed, failed = {}, malformed_rows(), len(wrong)
    for row in rows:
        messages = [*check_form(row, earlier), *check_tests(row, results, malformed)]
        for message in messages:
            print(f"{table.name}:{row.line}: {row.id}: {message}")
        failed += bool(messages)
    print(f"{len(rows) + len(wrong) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
