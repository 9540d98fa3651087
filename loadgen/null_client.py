"""One client of a null run, in a process of its own: our sender, as a replay uses it.

Its input is one line with the job (JSON: url, numbers, planned_s) and, after it has printed a line, one with the start
(seconds of the wall clock); its last line is JSON: requests that ended ok, processor seconds between start and end.
"""

import json
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from loadgen.null_run import FIRST_NUMBER
from loadgen.plan import COMPLETIONS_PATH, PlannedRequest, header_lines
from loadgen.schedule import OpenLoop
from loadgen.sender import Sender
from loadgen.target import Target

_DEADLINE_S = 30.0


def null_plan(numbers: Sequence[int], planned_s: Sequence[float]) -> list[PlannedRequest]:
    """Small requests that carry their numbers."""
    return [_request(number, instant_s) for number, instant_s in zip(numbers, planned_s, strict=True)]


def main() -> None:
    """Do one job."""
    job = json.loads(sys.stdin.readline())
    with tempfile.TemporaryDirectory() as folder:
        sender = Sender(Target(job["url"], "null"), Path(folder) / "records.jsonl")
        sender.load(OpenLoop(null_plan(job["numbers"], job["planned_s"])))
        thread = threading.Thread(target=sender.run)
        thread.start()
        sender.wait_ready()
        print("ready", flush=True)
        sender.start(float(sys.stdin.readline()))
        thread.join()
        progress = sender.progress()
        print(json.dumps({"ok": progress.ok, "cpu_s": progress.cpu_s}), flush=True)


def _request(number: int, instant_s: float) -> PlannedRequest:
    body = {"model": "null", "prompt": "null", "max_tokens": FIRST_NUMBER + number, "stream": True}
    body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    content = json.dumps(body).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(content)),
        "x-request-id": f"null-{number}",
    }
    return PlannedRequest(
        request_id=number,
        service="api",
        model="null",
        prompt_tokens=1,
        max_output_tokens=FIRST_NUMBER + number,
        scheduled_s=instant_s,
        deadline_s=_DEADLINE_S,
        path=COMPLETIONS_PATH,
        header_lines=header_lines(headers),
        body=content,
    )


if __name__ == "__main__":
    main()
