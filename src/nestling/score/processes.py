"""Peers in processes of their own: timed there, started cold, pinned to one core where the system can.

A program is Python code that leaves `encode`, a function of a list of texts.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from nestling.errors import ModelFileError

# Libraries may print as they load; so the answers go to a copy of stdout, and stdout to stderr.
HEAD = "import os\nanswers = os.fdopen(os.dup(1), 'w')\nos.dup2(2, 1)\n"
SERVE = "\nfrom nestling.score.processes import serve\nserve(encode, answers)\n"
FIRST_VECTOR = "\nencode(['a cat sat on the mat'])\n"
# ru_maxrss would also count the parent before exec; VmHWM is the child's alone.
COLD = """
import time
facts = [time.monotonic(), time.process_time(), None]
if os.path.exists("/proc/self/status"):
    facts[2] = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024 / 1e6
import json
print(json.dumps(facts), file=answers)
"""
AT_ONCE = 10_000  # texts of a call: more would measure how the system hands out fresh memory for what comes back
Times = list[tuple[float, float]]  # wall and CPU seconds


class Worker:
    """A peer in a process of its own, so that threads, memory and what it remembers are its own too."""

    def __init__(self, name: str, program: str, threads: int) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", program + SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(threads),
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def run(self, calls: Sequence[Sequence[str]]) -> Times:
        """Wall and CPU seconds of each call, taken by the peer's own process."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(calls) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            raise _died(self.name, self._errors.read().decode("utf-8", "replace"))
        return [(wall, cpu) for wall, cpu in json.loads(answer)]


def serve(encode: Callable[[list[str]], Any], answers: TextIO) -> None:
    """The worker's side: a line of calls in, a line of their times out, until the end of input."""
    for line in sys.stdin:
        times = []
        for texts in json.loads(line):
            cpu, wall = time.process_time(), time.perf_counter()  # asking for the first takes a microsecond
            found = sum(len(encode(texts[start : start + AT_ONCE])) for start in range(0, len(texts), AT_ONCE))
            wall = time.perf_counter() - wall
            times.append((wall, time.process_time() - cpu))
            assert found == len(texts), f"{found} rows for {len(texts)} texts"
        print(json.dumps(times), file=answers, flush=True)


def cold_start(program: str, name: str) -> tuple[float, float, float | None]:
    """Wall seconds from the call to the end of the program, CPU seconds and peak MB of its process."""
    start = time.monotonic()
    end, cpu, peak = json.loads(run(program + COLD, name, None))
    return end - start, cpu, peak


def run(program: str, name: str, threads: int | None) -> str:
    """What a program prints in a fresh interpreter. name: of the peer, for errors."""
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(threads))
    if done.returncode:
        raise _died(name, done.stderr)
    return done.stdout


def _died(name: str, stderr: str) -> ModelFileError:
    last = stderr.strip().rpartition("\n")[2] or "it ended without a word"
    return ModelFileError(
        f"{name} does not run: {last}.", "A model that its library can load was expected.", "Check its files."
    )


def _environment(threads: int | None) -> dict[str, str]:
    """Tells every library how many threads to use, and none to look at the hub."""
    told = {"HF_HUB_OFFLINE": "1"}
    if threads is not None:
        told["TOKENIZERS_PARALLELISM"] = "false" if threads == 1 else "true"
        pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
        told |= dict.fromkeys(pools, str(threads))
    return {**os.environ, **told}


def can_pin() -> bool:
    return hasattr(os, "sched_setaffinity")


def cores() -> set[int]:
    """The cores that this process may use."""
    return os.sched_getaffinity(0) if can_pin() else set(range(os.cpu_count() or 1))
