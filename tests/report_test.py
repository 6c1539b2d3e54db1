#!/usr/bin/python3 -B
"""The arithmetic of bench/report.py: medians, what is held against what, and what is refused."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench")
sys.path.insert(0, BENCH)

import report  # noqa: E402  (it lies beside what is tested)


def run(case, variant, subject, rate, **load):
    """A run as compare.sh writes it, with what coapgun would say."""
    figures = {"rate": rate, "answered": 1000, "timeouts": 0, "mids_repeated": False,
               "cycles_each": 200.0, "p50_ns": 10000, "p99_ns": 40000, "p999_ns": 90000,
               "registered": 0, "notify_rate": 0.0, "origin_requests": 0}
    return {"case": case, "variant": variant, "subject": subject, "round": 1,
            "load": {**figures, **load}}


class Rows(unittest.TestCase):
    def test_median_of_rounds(self):
        rows = report.rows_of([run("fixed", "1000", "coapgw", rate) for rate in (9.0, 1.0, 2.0)])
        self.assertEqual([(row["rate"], row["rounds"]) for row in rows], [(2.0, 3)])

    def test_share_of_the_ceiling_of_the_same_case(self):
        rows = report.rows_of([run("fixed", "1000", "ceiling", 10.0), run("fixed", "1000", "coapgw", 6.0),
                               run("hit", "1000", "ceiling", 20.0), run("hit", "1000", "coapgw", 5.0),
                               run("proxy", "1000", "coapgw", 5.0)])
        self.assertEqual([row["of_ceiling"] for row in rows], [1.0, 0.6, 1.0, 0.25, None])

    def test_notifications_count_where_there_are_observers(self):
        rows = report.rows_of([run("observe", "10000", "coapgw", 0.0, registered=10000,
                                   notify_rate=4.0, notify_p50_ns=1, notify_p99_ns=2,
                                   notify_p999_ns=3)])
        self.assertEqual((rows[0]["rate"], rows[0]["p99_ns"]), (4.0, 2))

    def test_lost_and_repeated_are_kept(self):
        rows = report.rows_of([run("fixed", "1000", "coapgw", 1.0, timeouts=3),
                               run("fixed", "1000", "coapgw", 1.0, timeouts=4, mids_repeated=True)])
        self.assertEqual((rows[0]["timeouts"], rows[0]["mids_repeated"]), (7, True))


class Ratios(unittest.TestCase):
    def test_only_what_was_measured(self):
        self.assertEqual(report.ratios_of(report.rows_of([run("fixed", "1000", "coapgw", 1.0)])), [])

    def test_against_libcoap(self):
        ratios = report.ratios_of(report.rows_of([run("libcoap", "18000", "libcoap", 2.0),
                                                  run("libcoap", "18000", "coapgw", 1200.0)]))
        self.assertEqual([(ratio["value"], ratio["at_least"]) for ratio in ratios], [(600.0, 500)])

    def test_latency_at_half_the_highest_rate(self):
        ratios = report.ratios_of(report.rows_of([run("latency", "50 %", "coapgw", 1.0)]))
        self.assertEqual([(ratio["value"], ratio["at_most"]) for ratio in ratios], [(40.0, 100)])

    def test_every_target_names_a_case(self):
        listed = subprocess.run([os.path.join(BENCH, "compare.sh"), "--list"], capture_output=True,
                                text=True, check=True).stdout
        cases = {text.split()[0] for text in listed.splitlines()}
        for _, figure, base, _ in report.TARGETS:
            self.assertIn(figure[0], cases)
            self.assertIn(base[0], cases)


class Faults(unittest.TestCase):
    def test_a_hit_must_not_ask_the_origin(self):
        self.assertIsNone(report.fault_of(run("hit", "1000", "coapgw", 1.0, origin_requests=1)))
        self.assertIn("origin", report.fault_of(run("hit", "1000", "coapgw", 1.0,
                                                    origin_requests=900)))

    def test_a_miss_must(self):
        for case in ("miss", "post", "proxy"):
            self.assertIsNone(report.fault_of(run(case, "1000", "coapgw", 1.0, origin_requests=990)))
            self.assertIn("origin", report.fault_of(run(case, "1000", "coapgw", 1.0)))
        self.assertIsNone(report.fault_of(run("miss", "1000", "ceiling", 1.0)))

    def test_status_of_line(self):
        for asked, status in ((1000, 0), (1, 1)):
            text = json.dumps(run("miss", "1000", "coapgw", 1.0, origin_requests=asked))
            done = subprocess.run([os.path.join(BENCH, "report.py"), "line"], input=text,
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, status, done.stderr)


class Whole(unittest.TestCase):
    def test_json_has_everything(self):
        runs = [run("fixed", "1000", "ceiling", 10.0), run("fixed", "1000", "coapgw", 6.0)]
        with tempfile.TemporaryDirectory() as folder:
            names = {name: os.path.join(folder, name) for name in ("runs", "notes", "json")}
            with open(names["runs"], "w") as file:
                file.writelines(json.dumps(each) + "\n" for each in runs)
            with open(names["notes"], "w") as file:
                file.write("something\n")
            done = subprocess.run(
                [os.path.join(BENCH, "report.py"), "all", "--build", folder,
                 *(word for name, path in names.items() for word in (f"--{name}", path))],
                capture_output=True, text=True, check=True)
            with open(names["json"]) as file:
                written = json.load(file)
        self.assertEqual(written["runs"], runs)
        self.assertEqual(written["notes"], ["something"])
        self.assertEqual(len(written["rows"]), 2)
        self.assertEqual(written["ratios"][0]["value"], 0.6)
        self.assertEqual(written["machine"]["kernel"], os.uname().release)
        self.assertIn("| fixed 1000 | coapgw | 6 | 0.60 | 10.0 us | 40.0 us |", done.stdout)
        self.assertIn("note: something", done.stdout)


if __name__ == "__main__":
    unittest.main()
