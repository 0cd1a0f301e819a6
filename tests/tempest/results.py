"""Reads a subunit stream, writes a line `status<TAB>test<TAB>reason` for each result.

Status is pass, fail or skip. The reason of a failure is the last line of its traceback, that of a skip what the test
said. A class whose set-up fails runs none of its tests: it appears under the name `setUpClass (class)`.
"""

import re
import sys

import subunit
import testtools

RAISED = re.compile(r"[a-z_]+(\.\w+)*\.[A-Z]\w+(:|$)")
STATUSES = {"success": "pass", "xfail": "pass", "skip": "skip"}


def text(detail):
    try:
        return detail.as_text()
    except (UnicodeDecodeError, ValueError):
        return ""


def reason(test):
    details = test["details"]
    if test["status"] == "skip":
        said = text(details["reason"]) if "reason" in details else ""
    else:
        traces = [text(detail) for name, detail in sorted(details.items()) if name.startswith("traceback")]
        # Tempest adds what a clean-up raised behind the failure itself.
        said = traces[0] if traces else ""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    # The exception's own line, and the HTTP client's message where one stands below it; what it prints of the reply's
    # body in lines of its own is left out.
    raised = [number for number, line in enumerate(lines) if RAISED.match(line)]
    start = raised[-1] if raised else len(lines) - 1
    wanted = lines[start : start + 1] + [line for line in lines[start + 1 : start + 2] if line.startswith("Details:")]
    return " ".join(wanted)[:400]


def main():
    def emit(test):
        if test["status"] in ("exists", "inprogress") or not test["id"]:
            return
        status = STATUSES.get(test["status"], "fail")
        said = reason(test) if status != "pass" else ""
        print(status, test["id"].split("[")[0].strip(), said.replace("\t", " "), sep="\t")

    result = testtools.StreamToDict(emit)
    result.startTestRun()
    subunit.ByteStreamToStreamResult(sys.stdin.buffer, non_subunit_name="stdout").run(result)
    result.stopTestRun()


main()
