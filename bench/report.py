#!/usr/bin/python3 -B
"""What bench/compare.sh measured: as a table, as rows for RESULTS.md, as JSON, and as plots.

    report.py line < RUN                      one run as a line; fails where the origin was not
                                              asked as the case has it
    report.py rate < RUN                      its rate
    report.py all --runs FILE --notes FILE --build DIR [--json FILE] [--plots DIR]

A file of runs has one JSON object a line: case, variant, subject, round, and load, which is
coapgun's own report."""

import argparse
import datetime
import json
import math
import os
import re
import statistics
import subprocess
import sys

# What is held against what: title, the figure, what it is divided by, and what it should be at
# least, or None. Figures are (case, variant, subject).
TARGETS = [
    ("fixed response, 1,000 sessions: of the ceiling",
     ("fixed", "1000", "coapgw"), ("fixed", "1000", "ceiling"), 0.6),
    ("fixed response, 1,000,000 sessions: of the ceiling with as many",
     ("sessions", "1000000", "coapgw"), ("sessions", "1000000", "ceiling"), 0.5),
    ("cache hit, 64 bytes, 1,000 sessions: of the ceiling",
     ("hit", "1000", "coapgw"), ("hit", "1000", "ceiling"), 0.5),
    ("cache hit, 64 bytes, 1,000,000 sessions: of the ceiling with as many",
     ("hit", "1000000", "coapgw"), ("hit", "1000000", "ceiling"), 0.5),
    ("proxied miss, 4 packets a request: of the ceiling",
     ("miss", "1000", "coapgw"), ("miss", "1000", "ceiling"), 0.2),
    ("observe fan-out, notifications: of the ceiling",
     ("observe", "10000", "coapgw"), ("observe", "10000", "ceiling"), 0.4),
    ("1,000,000 clients: of the rate with 1,000",
     ("sessions", "1000000", "coapgw"), ("fixed", "1000", "coapgw"), 0.667),
    ("16 clients: times libcoap's server on loopback",
     ("libcoap", "16", "coapgw"), ("libcoap", "16", "libcoap"), 25),
    ("18,000 clients: times libcoap's server on loopback",
     ("libcoap", "18000", "coapgw"), ("libcoap", "18000", "libcoap"), 500),
    ("proxied GET: times libcoap's proxy on loopback",
     ("proxy", "1000", "coapgw"), ("proxy", "1000", "libcoap"), 25),
    ("DTLS, 16 associations: times libcoap's server on loopback",
     ("dtls", "16", "coapgw"), ("dtls", "16", "libcoap_dtls"), None),
    ("DTLS, 1,000 associations: times libcoap's server on loopback",
     ("dtls", "1000", "coapgw"), ("dtls", "1000", "libcoap_dtls"), None),
    ("DTLS on a veth, 16 associations: times libcoap's server there",
     ("dtls", "16 veth", "af_xdp"), ("dtls", "16 veth", "libcoap_dtls"), None),
    ("DTLS on a veth, 1,000 associations: times libcoap's server there",
     ("dtls", "1000 veth", "af_xdp"), ("dtls", "1000 veth", "libcoap_dtls"), None),
]
P99_AT_HALF_US = 100  # at most, at half the highest rate

NAMES = {"swap": "dpdk-testpmd 5tswap", "echo": "recvmmsg echo", "af_xdp": "coapgw, AF_XDP",
         "libcoap_dtls": "libcoap with OpenSSL"}


# ---- figures ----

def rate_of(run):
    """What a run is measured by: notifications where there are observers."""
    load = run["load"]
    return load["notify_rate"] if load.get("registered") else load["rate"]


def latency_of(run):
    """By percentile; notifications count from the new state."""
    prefix = "notify_" if run["load"].get("registered") else ""
    keys = ("p50_ns", "p99_ns", "p999_ns")
    return {key: run["load"][prefix + key] for key in keys if prefix + key in run["load"]}


def fault_of(run):
    """What a run did not do that its case is about; None when all was right. The measured time is
    not the same for requests and the origin, hence a tenth."""
    load, case = run["load"], run["case"]
    if run["subject"] == "ceiling" or not load["answered"]:
        return None
    asked = load.get("origin_requests", 0) / load["answered"]
    if case == "hit" and asked > 0.1:
        return f"cache hits, and yet the origin was asked {asked:.3f} times for each"
    if case in ("miss", "post", "proxy") and asked < 0.9:
        return f"not forwarded: the origin was asked {asked:.3f} times for each request"
    return None


def rows_of(runs):
    """Medians over the rounds, in the order in which they were measured first."""
    groups = {}
    for run in runs:
        groups.setdefault((run["case"], run["variant"], run["subject"]), []).append(run)
    rows = []
    for (case, variant, subject), group in groups.items():
        loads = [run["load"] for run in group]
        row = {"case": case, "variant": variant, "subject": subject, "rounds": len(group),
               "rate": statistics.median(rate_of(run) for run in group),
               "timeouts": sum(load["timeouts"] for load in loads),
               "mids_repeated": any(load["mids_repeated"] for load in loads)}
        figures = [{"cycles_each": run["load"]["cycles_each"], **latency_of(run)} for run in group]
        for key in figures[0]:
            row[key] = statistics.median(figure[key] for figure in figures)
        rows.append(row)
    for row in rows:
        base = find(rows, row["case"], row["variant"], "ceiling")
        row["of_ceiling"] = row["rate"] / base["rate"] if base and base["rate"] else None
    return rows


def find(rows, case, variant, subject):
    for row in rows:
        if (row["case"], row["variant"], row["subject"]) == (case, variant, subject):
            return row
    return None


def ratios_of(rows):
    """What was measured of TARGETS, and the latency at half the highest rate."""
    ratios = []
    for title, figure, base, least in TARGETS:
        a, b = find(rows, *figure), find(rows, *base)
        if a and b and b["rate"]:
            ratios.append({"title": title, "value": a["rate"] / b["rate"], "at_least": least})
    half = find(rows, "latency", "50 %", "coapgw")
    if half:
        ratios.append({"title": "p99 at half the highest rate, us", "value": half["p99_ns"] / 1000,
                       "at_most": P99_AT_HALF_US})
    return ratios


# ---- the machine ----

def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def machine_of(build):
    cpu = re.search(r"model name\s*:\s*(.*)", read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))
    cache = dict(re.findall(r"^(\w+):\w+=(.*)$", read(os.path.join(build, "CMakeCache.txt")), re.M))
    system = re.search(r'PRETTY_NAME="(.*)"', read("/etc/os-release"))
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu.group(1) if cpu else "unknown", "cpus": os.cpu_count(),
        "memory_kib": int(memory.group(1)) if memory else 0,
        "system": system.group(1) if system else "unknown", "kernel": os.uname().release,
        "virtual": output_of("systemd-detect-virt") or "unknown",
        "dpdk": output_of("pkg-config", "--modversion", "libdpdk"),
        "compiler": output_of(cache.get("CMAKE_C_COMPILER", "cc"), "--version").split("\n")[0],
        "build_type": cache.get("CMAKE_BUILD_TYPE", ""), "lto": cache.get("COAPGW_LTO", ""),
        "libcoap": output_of("dpkg-query", "-W", "-f", "${Version}", "libcoap3-bin"),
        "commit": output_of("git", "describe", "--always", "--dirty") or "unknown",
    }


# ---- text ----

def us(row, key):
    return f"{row[key] / 1000:.1f}" if key in row else "-"


def title_of(row):
    name = NAMES.get(row["subject"], row["subject"])
    return f"{row['case']} {row['variant']}".strip(), name


def line(run):
    load = run["load"]
    case, name = title_of(run)
    p99 = latency_of(run)["p99_ns"]
    return (f"{case:<18} {name:<20} {rate_of(run):>12,.0f}/s  p99 {p99 / 1000:,.1f} us"
            + (f"  {load['timeouts']} unanswered" if load["timeouts"] else ""))


def print_table(rows):
    print(f"\n{'medians':<18} {'':<20} {'1/s':>12} {'of ceiling':>10} {'cycles':>8} {'p50 us':>9} "
          f"{'p99 us':>9} {'p99.9 us':>9} {'lost':>7}")
    for row in rows:
        case, name = title_of(row)
        share = f"{row['of_ceiling']:.3f}" if row["of_ceiling"] is not None else "-"
        cycles = f"{row['cycles_each']:.0f}" if "cycles_each" in row else "-"
        print(f"{case:<18} {name:<20} {row['rate']:>12,.0f} {share:>10} {cycles:>8} "
              f"{us(row, 'p50_ns'):>9} {us(row, 'p99_ns'):>9} {us(row, 'p999_ns'):>9} "
              f"{row['timeouts']:>7}{' *' if row['mids_repeated'] else ''}")
    if any(row["mids_repeated"] for row in rows):
        print("* message IDs came again within their lifetime: the server may have taken requests for "
              "repeated ones")


def aim(ratio):
    if "at_most" not in ratio and ratio["at_least"] is None:
        return "-"
    return f"at least {ratio['at_least']}" if "at_least" in ratio else f"at most {ratio['at_most']}"


def print_ratios(ratios):
    if ratios:
        print(f"\n{'ratios':<70} {'':>9} wanted")
    for ratio in ratios:
        print(f"{ratio['title']:<70} {ratio['value']:>9.3f} {aim(ratio)}")


def print_rows(rows, ratios, machine):
    """As bench/RESULTS.md and README.md have them."""
    print(f"\nfor bench/RESULTS.md: {machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, "
          f"DPDK {machine['dpdk']}, {machine['compiler']}, commit {machine['commit']}\n")
    print("| case | server | answers/s | of the ceiling | p50 | p99 |\n|---|---|---|---|---|---|")
    for row in rows:
        case, name = title_of(row)
        share = f"{row['of_ceiling']:.2f}" if row["of_ceiling"] is not None else ""
        print(f"| {case} | {name} | {row['rate']:,.0f} | {share} | {us(row, 'p50_ns')} us "
              f"| {us(row, 'p99_ns')} us |")
    if ratios:
        print("\n| what | measured | wanted |\n|---|---|---|")
    for ratio in ratios:
        print(f"| {ratio['title']} | {ratio['value']:.2f} | {aim(ratio)} |")


# ---- plots ----

def gnuplot(script):
    result = subprocess.run(["gnuplot"], input=script, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"gnuplot: {result.stderr}")


def plot_rates(rows, folder):
    """One horizontal bar for each row, from the top; coapgw's stand out."""
    bars = [row for row in rows if row["case"] != "latency" and row["rate"] > 0]
    if not bars:
        return
    data = "\n".join(f'"{" ".join(title_of(row))}" {row["rate"]} {int("coapgw" in title_of(row)[1])}'
                     for row in reversed(bars))
    low = 10 ** math.floor(math.log10(min(row["rate"] for row in bars)))
    high = 6 * max(row["rate"] for row in bars)
    gnuplot(f"""
set terminal svg size 860,{90 + 20 * len(bars)} dynamic font "sans-serif,12" background rgb "white" noenhanced
set output "{folder}/rates.svg"
set title "Answers (observe: notifications) per second"
set logscale x
set format x "10^%T"
set grid xtics
set tics nomirror scale 0.5
set xrange [{low}:{high}]
set yrange [-0.7:{len(bars) - 0.3}]
set style fill solid noborder
set lmargin 34
set palette maxcolors 2 defined (0 "#aabbcc", 1 "#4477aa")
unset colorbox
$data << END
{data}
END
plot $data using 2:0:({low}):2:($0 - 0.35):($0 + 0.35):3:ytic(1) with boxxyerror \\
         linecolor palette notitle, \\
     $data using 2:0:(sprintf(" %.3g M", $2 / 1e6)) with labels left notitle
""")


def plot_latency(rows, folder):
    points = [row for row in rows if row["case"] == "latency" and row["variant"] != "highest"]
    if len(points) < 2:
        return
    data = "\n".join(f'{row["rate"] / 1e6} {row["p50_ns"] / 1e3} {row["p99_ns"] / 1e3} '
                     f'{row["p999_ns"] / 1e3}'
                     for row in sorted(points, key=lambda row: row["rate"]))
    gnuplot(f"""
set terminal svg size 800,480 dynamic font "sans-serif,12" background rgb "white" noenhanced
set output "{folder}/latency.svg"
set title "Latency against load, from the moment each request was due"
set xlabel "million answers per second"
set ylabel "us"
set xrange [0:*]
set logscale y
set grid
set key top left
$data << END
{data}
END
plot $data using 1:2 with linespoints title "median", \\
     $data using 1:3 with linespoints title "99 %", \\
     $data using 1:4 with linespoints title "99.9 %"
""")


def plot(rows, folder):
    os.makedirs(folder, exist_ok=True)
    plot_rates(rows, folder)
    plot_latency(rows, folder)


# ---- the whole ----

def report(arguments):
    with open(arguments.runs) as file:
        runs = [json.loads(text) for text in file]
    notes = read(arguments.notes).splitlines()
    rows, machine = rows_of(runs), machine_of(arguments.build)
    ratios = ratios_of(rows)
    print_table(rows)
    print_ratios(ratios)
    print_rows(rows, ratios, machine)
    for note in notes:
        print(f"note: {note}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"machine": machine, "notes": notes, "ratios": ratios, "rows": rows,
                       "runs": runs}, file, indent=1)
            file.write("\n")
    if arguments.plots:
        plot(rows, arguments.plots)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["line", "rate", "all"])
    for name in ("runs", "notes", "build", "json", "plots"):
        parser.add_argument(f"--{name}", default="")
    arguments = parser.parse_args()
    if arguments.what == "line":
        run = json.load(sys.stdin)
        print(line(run), flush=True)
        sys.exit(fault_of(run))
    elif arguments.what == "rate":
        print(round(rate_of(json.load(sys.stdin))))
    else:
        report(arguments)


if __name__ == "__main__":
    main()
