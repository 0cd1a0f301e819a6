"""Reads a subunit stream, writes a line `status<TAB>test<TAB>reason` for each result.

Status is pass, fail or skip. The reason of a failure is the last line of its traceback, that of a skip what the test
said. A class whose set-up fails runs none of its tests: it appears under the name `setUpClass (class)`.
"""

import sys

import subunit
import testtools

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
    # Messages of the HTTP client stand on the line after `Details:`.
    return " ".join(lines[-2:] if lines and lines[-1].startswith("Details:") else lines[-1:])[:400]


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
