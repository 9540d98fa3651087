"""Run Dynamo's offline replay once; with a Python that has ai-dynamo 1.4.2: dynamo_replay.py REQUEST.json ANSWER.json.

The answer is Dynamo's report, and the CPU and wall seconds of the call that reads the trace, replays it and reports.
"""

import json
import sys
import time
from pathlib import Path

from dynamo.mocker import MockEngineArgs
from dynamo.replay import run_trace_replay


def main(request_path: str, answer_path: str) -> None:
    """Replay what the request asks for; its keys are those of `run_trace_replay`."""
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    engine = MockEngineArgs.from_json(json.dumps(request.pop("engine")))
    trace = request.pop("trace")
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    report = run_trace_replay([trace], extra_engine_args=engine, **request)
    answer = {"cpu_s": time.process_time() - cpu_s, "wall_s": time.perf_counter() - wall_s, "report": report}
    Path(answer_path).write_text(json.dumps(answer), encoding="utf-8")


main(*sys.argv[1:])
