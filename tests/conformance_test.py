#!/usr/bin/python3
"""That conformance.py finds what it is there to find."""

import contextlib
import io
import tempfile
import unittest
from pathlib import Path

import conformance

CTEST = """Start testing: Nov 21 08:29 UTC
----------------------------------------------------------
1/4 Testing: net_test
1/4 Test: net_test
Command: "/build/tests/unit/net_test"
"net_test" start time: Nov 21 08:29 UTC
Output:
----------------------------------------------------------
[==========] tests: Running 3 test(s).
[ RUN      ] good
[       OK ] good
[ RUN      ] bad
[  ERROR   ] --- 1 != 2
[  FAILED  ] bad
[ RUN      ] left_out
[  SKIPPED ] left_out
<end of output>
Test Failed.
"net_test" end time: Nov 21 08:29 UTC
----------------------------------------------------------

2/4 Testing: other_test
2/4 Test: other_test
Command: "/build/tests/unit/other_test"
"other_test" start time: Nov 21 08:29 UTC
Output:
[ RUN      ] good
[       OK ] good
[ RUN      ] crashed
<end of output>
Test Failed.
"other_test" end time: Nov 21 08:29 UTC

3/4 Testing: sim_seeds
3/4 Test: sim_seeds
Command: "/build/tests/sim/sim" "--seeds" "1-20"
"sim_seeds" start time: Nov 21 08:29 UTC
Output:
20 passed, 0 failed
<end of output>
Test Passed.
"sim_seeds" end time: Nov 21 08:29 UTC

4/4 Testing: sim_cache
4/4 Test: sim_cache
Command: "/build/tests/sim/sim" "--scenario" "cache" "--seeds" "1-20"
"sim_cache" start time: Nov 21 08:29 UTC
Output:
19 passed, 1 failed
<end of output>
Test Failed.
"sim_cache" end time: Nov 21 08:29 UTC
"""

PYTEST = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest">
<testcase classname="tests.e2e.test_x" name="test_one@test_x 1" time="0.1" />
<testcase classname="tests.e2e.test_x" name="test_many[a-4]@test_x" time="0.1" />
<testcase classname="tests.e2e.test_x" name="test_many[b]" time="0.1"><skipped message="no" /></testcase>
<testcase classname="tests.e2e.test_x" name="test_bad[1]" time="0.1" />
<testcase classname="tests.e2e.test_x" name="test_bad[2]" time="0.1"><failure message="no" /></testcase>
<testcase classname="tests.e2e.test_x" name="test_broken" time="0.1"><error message="no" /></testcase>
</testsuite></testsuites>"""

GOOD = ["a.b", "It works.", "RFC 7252 4.2", "unit:net_test:good"]


class Checker(unittest.TestCase):
    def check(self, *rows, header=conformance.HEADER):
        """What is said about a table with these rows: its lines, and the status."""
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            table = folder / "table.tsv"
            table.write_text("# a comment\n" + "".join("\t".join(r) + "\n" for r in (header, *rows)))
            (folder / "ctest").write_text(CTEST)
            (folder / "pytest").write_text(PYTEST)
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                status = conformance.main(["--ctest", str(folder / "ctest"),
                                           "--pytest", str(folder / "pytest")], table)
        return output.getvalue().splitlines(), status

    def passes(self, *rows):
        lines, status = self.check(*rows)
        self.assertEqual((lines, status), ([f"{len(rows)} passed, 0 failed"], False))

    def fails(self, rows, *words, failed=1, header=conformance.HEADER):
        lines, status = self.check(*rows, header=header)
        self.assertTrue(status)
        self.assertTrue(lines[-1].endswith(f" {failed} failed"), lines)
        for word in words:
            self.assertTrue(any(word in line for line in lines[:-1]), (word, lines))

    def with_tests(self, tests):
        return [[*GOOD[:3], tests]]

    def test_good_rows(self):
        self.passes(GOOD, ["a.c", "So does this.", "RFC 7252 4.2, 5, RFC 8974 2.1",
                           "unit:other_test:good e2e:test_x.py::test_one sim:messages"])

    def test_form(self):
        for i in range(3):
            row = list(GOOD)
            row[i] = ""
            self.fails([row], f"{conformance.HEADER[i]} is empty")
        self.fails(self.with_tests(""), "no test")
        self.fails([["A b", *GOOD[1:]]], "small letters")
        self.fails([[GOOD[0], "no capital.", *GOOD[2:]]], "sentence")
        self.fails([[GOOD[0], "No stop", *GOOD[2:]]], "sentence")
        self.fails([[*GOOD[:2], "section 4", GOOD[3]]], "section 4")
        self.fails([GOOD[:3], GOOD], "3 fields")
        self.fails([GOOD], "header", header=["id", "behaviour", "tests", "reference"])
        self.fails([], "no rows")

    def test_repetitions(self):
        self.fails([GOOD, [GOOD[0], "Another.", *GOOD[2:]]], "'a.b' is in line 3 already")
        self.fails([GOOD, ["a.c", *GOOD[1:]]], "'It works.' is in line 3")
        self.fails(self.with_tests(" ".join([GOOD[3]] * 2)), "named 2 times")

    def test_results(self):
        for name, word in (("unit:net_test:bad", "failed in 1 of 1"),
                           ("unit:net_test:left_out", "skipped in 1 of 1"),
                           ("unit:net_test:good unit:net_test:absent", "no result of unit:net_test:absent"),
                           ("unit:third_test:good", "no result"),
                           ("unit:other_test:crashed", "no result"),
                           ("sim:cache", "failed in 1 of 1"),
                           ("sim:observe", "no result"),
                           ("e2e:test_x.py::test_many", "skipped in 1 of 2"),
                           ("e2e:test_x.py::test_bad", "failed in 1 of 2"),
                           ("e2e:test_x.py::test_broken", "failed in 1 of 1"),
                           ("e2e:test_y.py::test_one", "no result"),
                           ("test_one", "no result")):
            self.fails(self.with_tests(name), word)

    def test_malformed_rows(self):
        self.fails(self.with_tests("malformed:ping"), *conformance.MALFORMED)
        self.fails(self.with_tests("malformed:nothing"), "tests/malformed.tsv: nothing")

    def test_no_results(self):
        for absent in ("--ctest", "--pytest"):
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                self.assertTrue(conformance.main([absent, "/nonexistent/results"]))
            self.assertIn("/nonexistent/results", output.getvalue())

    def test_sources(self):
        """This repository's own table names tests that the sources have."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = conformance.main([])
        self.assertFalse(status, output.getvalue())


if __name__ == "__main__":
    unittest.main()
