"""What soak.sh samples and how it judges: samples.csv, and the table of what held and what did not.

    soak.py sample DIRECTORY ADDRESS PID    a row a second, until it is terminated
    soak.py settle DIRECTORY                waits until everybody is gone, half a minute at most
    soak.py judge DIRECTORY MINUTES STATUS  prints tables and charts; exit status 1 if something does not hold
"""

import csv
import glob
import http.client
import json
import os
import statistics
import sys
import time

# Resident memory may grow this much in a minute over the second half of an attack, KiB. The allocator's
# own ups and downs, some MiB over a rotation, come to a third of it in ten minutes; a hundred bytes
# lost with each of the 200 clients that come and go a second all along would be 1,170.
MAX_SLOPE = 1024
# Over shorter runs the slope says more about the allocator than about the server.
MIN_MINUTES_FOR_SLOPE = 10
# Correct but useless: healthy clients that are this far behind, in milliseconds.
MAX_P99 = 10_000
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
TOTALS = ("connections", "connections_total", "disconnects_total", "open_connections", "handshakes", "frames_pushed_total",
          "frames_sent_total", "frames_dropped_total", "frames_discarded_total", "frames_queued", "refused_total",
          "messages_published_total")
COLUMNS = ("time", "phase", "rss_kib", "descriptors", "threads", "cpu_seconds") + TOTALS


def totals(text):
    """Each metric, all labels added up."""
    found = dict.fromkeys(TOTALS, 0)
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        name = name.split("{")[0].removeprefix("tickcast_")
        if name in found and not line.startswith("#"):
            found[name] += int(value)
    return found


def sample(directory, address, pid):
    with open(f"{directory}/samples.csv", "w", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS)
        rows.writeheader()
        # One connection for all samples: it is the one that is open when everybody is gone.
        connection = http.client.HTTPConnection(address, timeout=10)
        due = time.time()
        while True:
            try:
                connection.request("GET", "/metrics")
                figures = totals(connection.getresponse().read().decode())
            except (OSError, http.client.HTTPException) as error:
                print(f"soak.py: no metrics: {error!r}", file=sys.stderr)
                connection.close()
                figures = None
            if figures:
                with open(f"/proc/{pid}/stat") as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
                with open(f"{directory}/phase") as phase:
                    figures["phase"] = phase.read().strip()
                figures["time"] = round(time.time(), 3)
                figures["cpu_seconds"] = (int(fields[11]) + int(fields[12])) / TICKS
                figures["threads"] = int(fields[17])
                figures["rss_kib"] = int(fields[21]) * PAGE_KIB
                figures["descriptors"] = len(os.listdir(f"/proc/{pid}/fd"))
                rows.writerow(figures)
                file.flush()
            due = max(due + 1, time.time() - 1)
            time.sleep(max(0, due - time.time()))


def read_samples(directory):
    with open(f"{directory}/samples.csv", newline="") as file:
        whole = [row for row in csv.DictReader(file) if all(row.get(column) for column in COLUMNS)]
    return [{key: value if key == "phase" else float(value) for key, value in row.items()} for row in whole]


def is_settled(row, start):
    return (row["open_connections"] <= 1 and row["connections"] == 0 and row["handshakes"] == 0
            and row["frames_queued"] == 0 and row["descriptors"] <= start["descriptors"])


def settle(directory):
    end = time.time() + 30
    while time.time() < end:
        rows = read_samples(directory)
        after = [row for row in rows if row["phase"] == "after"]
        if after and is_settled(after[-1], first_state(rows)):
            return
        time.sleep(0.5)


def first_state(rows):
    """The server alone, the connection of the samples open."""
    return [row for row in rows if row["phase"] == "start"][-1]


def slope(rows):
    """KiB a minute, by least squares."""
    times, sizes = [row["time"] / 60 for row in rows], [row["rss_kib"] for row in rows]
    if len(set(times)) < 2:
        return 0.0
    return statistics.linear_regression(times, sizes).slope


def sparkline(values, width=64):
    """A line of bars, each the highest of its share of the values."""
    width = min(width, len(values))
    bars = [max(values[n * len(values) // width:(n + 1) * len(values) // width]) for n in range(width)]
    low, high = min(values), max(values)
    scale = (high - low) or 1
    return "".join("▁▂▃▄▅▆▇█"[int((bar - low) / scale * 7)] for bar in bars)


def print_phases(rows, reports):
    """A line for each phase: what it cost the server, and the healthy clients."""
    timeline = [(report["started_ms"] / 1000 + second["t"], second) for report in reports for second in report["timeline"]]
    phases = {}
    for before, row in zip(rows, rows[1:]):
        phase = phases.setdefault(row["phase"], {"rows": [], "cpu": 0.0, "seconds": 0.0, "p99": []})
        phase["rows"].append(row)
        phase["cpu"] += row["cpu_seconds"] - before["cpu_seconds"]
        phase["seconds"] += row["time"] - before["time"]
        phase["p99"] += [second["p99_us"] / 1000 for at, second in timeline
                         if before["time"] < at <= row["time"] and second["measured"] and second["p99_us"] is not None]
    print(f"\n{'phase':<15} {'seconds':>8} {'CPU cores':>10} {'RSS MiB, most':>14} {'at the end':>11} {'descriptors':>12}"
          f" {'threads':>8} {'p99 ms, median':>15} {'worst':>9}")
    for name, phase in phases.items():
        most = {column: max(row[column] for row in phase["rows"]) for column in ("rss_kib", "descriptors", "threads")}
        p99 = [f"{value:.1f}" for value in (statistics.median(phase["p99"]), max(phase["p99"]))] if phase["p99"] else ["", ""]
        print(f"{name:<15} {phase['seconds']:>8.0f} {phase['cpu'] / max(phase['seconds'], 0.1):>10.2f}"
              f" {most['rss_kib'] / 1024:>14.1f} {phase['rows'][-1]['rss_kib'] / 1024:>11.1f} {most['descriptors']:>12.0f}"
              f" {most['threads']:>8.0f} {p99[0]:>15} {p99[1]:>9}")


def check_server(rows, minutes, status, log):
    """What must hold of the server: lines of what, found, expected, whether it holds (None: only told)."""
    start, end = first_state(rows), rows[-1]
    attacked = [row for row in rows if row["phase"] not in ("start", "alone", "arrival", "after")]
    creep = slope(attacked[len(attacked) // 2:])
    judged = minutes >= MIN_MINUTES_FOR_SLOPE
    settled = sum(end[f"frames_{what}"] for what in ("sent_total", "dropped_total", "discarded_total", "queued"))
    panics = sum("panicked" in line for line in log)
    number = "{:,.0f}".format
    return [
        ("descriptors, after everybody left", number(end["descriptors"]), f"<= {start['descriptors']:.0f}",
         end["descriptors"] <= start["descriptors"]),
        ("open connections (the one that samples)", number(end["open_connections"]), "1", end["open_connections"] == 1),
        ("handshakes under way", number(end["handshakes"]), "0", end["handshakes"] == 0),
        ("sessions", number(end["connections"]), "0", end["connections"] == 0),
        ("sessions ended, of all that began", number(end["disconnects_total"]), number(end["connections_total"]),
         end["disconnects_total"] == end["connections_total"] > 0),
        ("frames queued", number(end["frames_queued"]), "0", end["frames_queued"] == 0),
        ("frames sent + dropped + discarded, of pushed", number(settled), number(end["frames_pushed_total"]),
         settled == end["frames_pushed_total"] > 0),
        ("panics in the log", number(panics), "0", panics == 0),
        ("exit status after SIGTERM", number(status), "0", status == 0),
        ("RSS, second half of the attack, KiB/min", f"{creep:+,.0f}", f"<= {MAX_SLOPE:,}" if judged else "told only",
         creep <= MAX_SLOPE if judged else None),
        ("RSS, from alone to the end, MiB", f"{(end['rss_kib'] - start['rss_kib']) / 1024:+.1f}", "told only", None),
    ]


def check_clients(alone, attacked, hostile):
    lines = []
    for name, report in (("alone", alone), ("attacked", attacked)):
        sequence, connections = report["sequence"] or {}, report["connections"]
        for what in ("holes", "repeats", "disorder", "silent_clients"):
            # A harness that did not get the processor loses what a slow client loses.
            excused = report["verdict"] == "invalid" and what == "holes"
            found = sequence.get(what, 0)
            lines.append((f"healthy, {name}: {what.replace('_', ' ')}", f"{found:,}", "told only" if excused else "0",
                          None if excused else found == 0))
        lost = connections["disconnects"] + connections["connect_errors"]
        lines.append((f"healthy, {name}: lost or refused", f"{lost:,}", "0", lost == 0))
    before, during = (report["latency"]["delivery_us"]["p99"] / 1000 for report in (alone, attacked))
    lines.append(("healthy: p99 during the attack, ms", f"{during:.1f}", f"< {MAX_P99:,}", during < MAX_P99))
    lines.append(("healthy: p99 during the attack, over alone", f"{during / before:.2f}x", "told only", None))
    kinds = len({kind["kind"] for report in hostile for kind in report["kinds"] if kind["connections"]})
    lines.append(("kinds of hostile clients that came", str(kinds), "11", kinds == 11))
    forbidden = sum(finding["count"] for report in hostile for finding in report["forbidden"])
    lines.append(("forbidden answers to hostile clients", f"{forbidden:,}", "0", forbidden == 0))
    return lines


def read_hostile(directory):
    """Reports of hostile clients; one that was terminated in between left none."""
    reports = []
    for path in sorted(glob.glob(f"{directory}/hostile-*.json")):
        with open(path) as file:
            text = file.read()
        if text:
            reports.append(json.loads(text))
        elif "all-along" not in path:
            raise SystemExit(f"soak.py: the hostile clients of {path} failed: see their log")
    return reports


def judge(directory, minutes, status):
    rows, hostile = read_samples(directory), read_hostile(directory)
    with open(f"{directory}/alone.json") as one, open(f"{directory}/attacked.json") as other:
        alone, attacked = json.load(one)["runs"][0], json.load(other)["runs"][0]
    with open(f"{directory}/server.log", errors="replace") as log:
        lines = check_server(rows, int(minutes), int(status), log) + check_clients(alone, attacked, hostile)
    print_phases(rows, (alone, attacked))
    print()
    for title, column, scale in (("RSS, MiB", "rss_kib", 1024), ("descriptors", "descriptors", 1)):
        values = [row[column] / scale for row in rows]
        print(f"{title:<12} {sparkline(values)} {min(values):.0f} to {max(values):.0f}")
    seen = {}
    for report in hostile:
        for kind in report["kinds"]:
            seen[kind["kind"]] = seen.get(kind["kind"], 0) + kind["connections"]
    print(f"hostile      {', '.join(f'{kind} {count:,}' for kind, count in sorted(seen.items()))}")
    print(f"\n{'check':<46} {'found':>14} {'expected':>14}")
    for what, found, expected, holds in lines:
        verdict = {True: "ok", False: "FAILED", None: ""}[holds]
        print(f"{what:<46} {found:>14} {expected:>14}  {verdict}".rstrip())
    for report in hostile:
        for finding in report["forbidden"]:
            print(f"FORBIDDEN {finding['kind']}: {finding['what']} ({finding['count']} times)")
    print(f"\n{directory}")
    return 1 if any(holds is False for *_, holds in lines) else 0


if __name__ == "__main__":
    commands = {"sample": sample, "settle": settle, "judge": judge}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    sys.exit(commands[sys.argv[1]](*sys.argv[2:]))
