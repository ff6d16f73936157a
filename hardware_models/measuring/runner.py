"""Times ONNX models with onnxruntime on the machine it runs on; a board needs this file and no other of the project.

Run as a script it answers requests on its standard input until that ends. It first says what it runs on. A request is a
line of JSON, then the bytes of the model, then those of each input; an answer is a line of JSON.
It must run on Python 3.8, with numpy and onnxruntime.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

MARK = "espalier-runner"  # begins each of its lines: what else a login prints is passed over
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime 1.32 else reports to its makers once it is imported

try:
    import numpy as np
    import onnxruntime
except ImportError as error:
    if __name__ != "__main__":
        raise
    missing = {"missing": str(error), "python": sys.executable, "version": platform.python_version()}
    sys.stdout.write(MARK + " " + json.dumps(missing) + "\n")
    sys.exit(0)

_REST_OF_NETWORK_BYTES = (
    16 * 2**20
)  # touched between runs: weights and maps of the rest of a network push an operation out of cache
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def run(
    model: bytes, *, threads: int, warmup: int, repeats: int, feed: Mapping[str, Any] | None = None
) -> tuple[list[float], list[Any]]:
    """Milliseconds of each run after the warm-up, and the outputs. Random inputs unless `feed` gives them by name."""
    session = open_session(model, threads)
    given = dict(feed or random_feed(session))
    return run_times_ms(lambda: session.run(None, given), warmup, repeats), session.run(None, given)


def run_kernels(model: bytes, *, threads: int, warmup: int, repeats: int) -> list[float]:
    """Milliseconds of the kernels between the marks of a model, in each run after the warm-up, on random inputs."""
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(model, threads, profile=os.path.join(folder, "profile"))
        feed, rest_of_network = random_feed(session), np.zeros(_REST_OF_NETWORK_BYTES, dtype=np.uint8)
        for _ in range(warmup + repeats):
            rest_of_network += 1
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    return list(kernel_ms(events))[warmup:]


def open_session(model: bytes, threads: int, *, profile: str | None = None) -> onnxruntime.InferenceSession:
    """A session on the CPU, profiled into a file named after `profile` if given."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # Idle threads of one session would otherwise spin on the cores while the next session is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def random_feed(session: onnxruntime.InferenceSession) -> dict[str, Any]:
    """Random values for the inputs of a session."""
    generator = np.random.default_rng(0)
    return {x.name: generator.standard_normal(x.shape, dtype=np.float32) for x in session.get_inputs()}


def run_times_ms(call: Callable[[], object], warmup: int, repeats: int) -> list[float]:
    """Milliseconds of each of `repeats` calls, after `warmup` calls that are not timed."""
    for _ in range(warmup):
        call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times


def kernel_ms(events: list[dict[str, Any]]) -> Iterator[float]:
    """Time of the kernels between the marks, run by run; the profiler closes each run with an event of its own."""
    total_us, is_after = 0.0, False
    for event in events:
        if event["name"] == "model_run":
            yield total_us / 1e3
            total_us, is_after = 0.0, False
        elif event["name"].endswith("_kernel_time"):
            is_after = is_after or event["name"].startswith("after")
            if event["name"].startswith("before"):
                total_us = 0.0
            elif not is_after:
                total_us += event["dur"]


def governor() -> str:
    """The clock governor of the first core, empty where the system does not say."""
    try:
        return _GOVERNOR.read_text().strip()
    except OSError:
        return ""


def load() -> float:
    """Share of the cores that were at work over the last minute, 0 where the system does not say."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:
        return 0.0


def machine_description() -> str:
    """CPU, cores, clock governor where the system says it, and operating system, in one line."""
    clock = "governor " + governor() if governor() else "governor not readable"
    return f"{cpu_model()}, {os.cpu_count()} cores, {clock}, {platform.system()} {platform.machine()}"


def machine_identity() -> str:
    """What tells this machine from all others: its name in the network, processor, cores and operating system."""
    return f"{platform.node()}: {cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def versions() -> dict[str, str]:
    """Versions of what runs a model."""
    return {"python": platform.python_version(), "onnxruntime": onnxruntime.__version__}


def cpu_model() -> str:
    """The processor's name; ARM boards have the board's name instead."""
    for path, separator in (("/proc/cpuinfo", ":"), ("/proc/device-tree/model", "")):
        try:
            lines = Path(path).read_text(errors="replace").splitlines()
        except OSError:
            continue
        names = [line.split(":", 1)[1] for line in lines if line.startswith("model name")] if separator else lines
        if names:
            return names[0].strip(" \t\0")
    return platform.processor() or "unknown CPU"


def serve(requests: BinaryIO, answer: Callable[[dict[str, Any]], None]) -> None:
    """Answers each request of a stream; a request that fails is answered with its error."""
    answer(
        {
            "machine": machine_description(),
            "identity": machine_identity(),
            "governor": governor(),
            "load": load(),
            "versions": versions(),
        }
    )
    for line in iter(requests.readline, b""):
        request = json.loads(line)
        model = _read(requests, request["model_bytes"])
        feed = {
            name: np.frombuffer(_read(requests, np.dtype(kind).itemsize * int(np.prod(shape))), kind).reshape(shape)
            for name, (kind, shape) in request["inputs"].items()
        }
        signal.alarm(request["limit_s"])  # ends this program, whatever it is at: nobody waits for the answer any more
        settings = {key: request[key] for key in ("threads", "warmup", "repeats")}
        try:
            if request["kernels"]:
                answer({"times_ms": run_kernels(model, **settings)})
            else:
                times_ms, outputs = run(model, feed=feed or None, **settings)
                answer({"times_ms": times_ms, "outputs": [output.tolist() for output in outputs] if feed else []})
        except Exception as failure:
            answer({"error": f"{type(failure).__name__}: {failure}"})
        signal.alarm(0)


def _read(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        sys.exit("the request ended early")
    return content


def main() -> None:
    """Serves standard input. What libraries print goes to standard error, out of the way of the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content: dict[str, Any]) -> None:
        answers.write(MARK + " " + json.dumps(content) + "\n")
        answers.flush()

    serve(sys.stdin.buffer, answer)


if __name__ == "__main__":
    main()
