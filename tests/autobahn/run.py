"""Runs sections of the Autobahn test suite, two at a time, and says what came of each. Python 2.7, like the suite."""
from __future__ import print_function

import collections
import json
import os
import subprocess
import sys
import threading
import time

from autobahntestsuite import case

WORKERS = 2  # one process of the suite keeps one core busy
CASE_TIMEOUT = 100  # seconds without a case ending; the suite gives up on the slowest after that long itself

# What a verdict of the suite counts as.
COLUMNS = collections.OrderedDict([
    ("OK", "passed"),
    ("NON-STRICT", "non-strict"),
    ("INFORMATIONAL", "informational"),
    ("UNIMPLEMENTED", "unimplemented"),
    ("FAILED", "failed"),
])


def number(name):
    """Orders cases by their numbers."""
    return [int(part) for part in name.split(".")]


def all_cases():
    names = [cls.__name__ for cls in case.Cases]
    return sorted((name[len("Case"):].replace("_", ".") for name in names), key=number)


def sections(patterns):
    """Cases by section: a section, a part of one or a case, with or without `.*`."""
    chosen = collections.OrderedDict()
    for pattern in patterns.split(","):
        prefix = pattern.strip()
        prefix = prefix[:-2] if prefix.endswith(".*") else prefix
        found = [name for name in all_cases() if (name + ".").startswith(prefix + ".")]
        if not prefix or not found:
            sys.exit("no case is called %r" % pattern)
        for name in found:
            cases = chosen.setdefault(name.split(".")[0], [])
            if name not in cases:
                cases.append(name)
    return chosen


def verdict(name, result):
    """The worse of what the suite says of the messages and of the end."""
    if result is None:
        return "FAILED"
    behavior = result["behavior"]
    if behavior not in COLUMNS or result["behaviorClose"] not in ("OK", "INFORMATIONAL"):
        return "FAILED"
    return behavior


class Run(object):
    def __init__(self, url, chosen, out):
        self.url, self.chosen, self.out = url, chosen, out
        self.waiting = list(chosen)
        self.total = sum(len(cases) for cases in chosen.values())
        self.begun = 0
        self.lock = threading.Lock()
        self.counts = collections.Counter()
        self.bad = []

    def progress(self):
        if sys.stdout.isatty():
            sys.stdout.write("\rcase %d of %d" % (self.begun, self.total))
            sys.stdout.flush()

    def section(self, section):
        """One process of the suite; returns the verdict of each case."""
        directory = os.path.join(self.out, section)
        if not os.path.isdir(directory):
            os.makedirs(directory)
        index = os.path.join(directory, "index.json")
        if os.path.exists(index):
            os.remove(index)
        spec = os.path.join(directory, "spec.json")
        with open(spec, "w") as out:
            json.dump({
                "outdir": directory,
                "servers": [{"agent": "tickcast", "url": self.url}],
                "cases": self.chosen[section],
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }, out)
        wstest = [sys.executable, "-u", os.path.join(os.path.dirname(sys.executable), "wstest")]
        with open(os.path.join(directory, "suite.log"), "w") as log:
            suite = subprocess.Popen(wstest + ["-m", "fuzzingclient", "-s", spec], cwd=directory,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            alarm = None
            for line in iter(suite.stdout.readline, b""):
                log.write(line)
                if line.startswith(b"Running test case"):
                    if alarm:
                        alarm.cancel()
                    alarm = threading.Timer(CASE_TIMEOUT, suite.kill)
                    alarm.daemon = True
                    alarm.start()
                    with self.lock:
                        self.begun += 1
                        self.progress()
            suite.wait()
            if alarm:
                alarm.cancel()
        results = {}
        if os.path.exists(index):
            with open(index) as report:
                results = json.load(report)["tickcast"]
        return [(name, verdict(name, results.get(name))) for name in self.chosen[section]]

    def work(self):
        while True:
            with self.lock:
                if not self.waiting:
                    return
                section = self.waiting.pop(0)
            began = time.time()
            verdicts = self.section(section)
            with self.lock:
                counts = collections.Counter(result for _, result in verdicts)
                self.counts.update(counts)
                self.bad += [pair for pair in verdicts if not acceptable(*pair)]
                print("%ssection %-3s %s  (%.1f s)" % (
                    "\r" if sys.stdout.isatty() else "", section, show(counts), time.time() - began))
                sys.stdout.flush()

    def __call__(self):
        workers = [threading.Thread(target=self.work) for _ in range(WORKERS)]
        for worker in workers:
            worker.daemon = True
            worker.start()
        while any(worker.is_alive() for worker in workers):
            time.sleep(0.1)  # a join would keep Ctrl-C waiting


def acceptable(name, result):
    """UNIMPLEMENTED is an extension that was not negotiated. How soon 6.4 is found out depends on how the kernels cut
    what the suite sends."""
    return result in ("OK", "INFORMATIONAL", "UNIMPLEMENTED") or result == "NON-STRICT" and name.startswith("6.4.")


def show(counts):
    shown = [key for key in COLUMNS if key != "UNIMPLEMENTED" or counts[key]]
    return ", ".join("%3d %s" % (counts[key], COLUMNS[key]) for key in shown)


def write_index(out, chosen):
    with open(os.path.join(out, "index.html"), "w") as page:
        page.write("<!doctype html><title>Autobahn</title><h1>Autobahn</h1><ul>\n")
        for section in sorted(chosen, key=int):
            page.write('<li><a href="%s/index.html">Section %s</a>\n' % (section, section))
        page.write("</ul>\n")


def main():
    url, patterns, out = sys.argv[1:]
    out = os.path.abspath(out)
    run = Run(url, sections(patterns), out)
    began = time.time()
    run()
    write_index(out, run.chosen)
    for name, result in sorted(run.bad, key=lambda pair: number(pair[0])):
        report = os.path.join(out, name.split(".")[0], "tickcast_case_%s.html" % name.replace(".", "_"))
        print("case %s: %s, see %s" % (name, result.lower(), report))
    print("%d cases: %s; %.0f s; %s" % (
        run.total, show(run.counts).replace("  ", ""), time.time() - began, os.path.join(out, "index.html")))
    sys.exit(1 if run.bad else 0)


main()
