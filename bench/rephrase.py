"""How fast one client process keeps a server busy: requests a second, memory, and CPU of the client for each request.

The server is ours (`tests/llm_server.py`) in a process of its own: it answers after `--seconds`, whatever is asked, so
the best that there is is `--most` / `--seconds` requests a second. `--profile` prints where the client's time goes.
"""

import argparse
import cProfile
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import measure

from curate.generate.answers import Answers
from curate.generate.client import Outcome, Progress, Service, fetch
from curate.generate.request import Request, Sampling, request

SERVER = measure.ROOT / "tests" / "llm_server.py"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few requests: does it work at all?")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--most", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--words", type=int, default=200, help="of a passage")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    count, seconds = (2000, 0.1) if options.quick else (options.requests, options.seconds)
    with tempfile.TemporaryDirectory(prefix="bench-rephrase-") as folder:
        command = [sys.executable, str(SERVER), "--seconds", str(seconds)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            service = Service(server.stdout.readline().strip(), model="bench", most=options.most)
            profile = cProfile.Profile()
            if options.profile:
                profile.enable()
            cpu = time.process_time()
            outcome, steady = run(Path(folder), service, passages(count, options.words))
            cpu = time.process_time() - cpu
            profile.disable()
        finally:
            server.kill()
            server.wait()
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
    told(outcome, steady, cpu)
    print(f"best there is {options.most / seconds:.0f} requests a second; httpx {version('httpx')}; {measure.today()}")
    print(measure.machine())
    return 0 if outcome.answered == count else 1


def run(folder: Path, service: Service, requests: Iterator[Request]) -> tuple[Outcome, float]:
    """Totals, and requests a second between the first tenth and the last report."""
    seen: list[tuple[float, int]] = []

    def report(progress: Progress) -> None:
        seen.append((time.monotonic(), progress.done))
        if len(seen) % 30 == 0:
            print(f"{progress.done} done, {progress.busy} of {progress.size} out", file=sys.stderr, flush=True)

    with Answers.open(str(folder / "answers.sqlite")) as answers:
        outcome = fetch(requests, answers, service, report=report)
    first, last = seen[min(len(seen) // 10 + 3, len(seen) - 1)], seen[-2 if len(seen) > 1 else -1]
    return outcome, (last[1] - first[1]) / max(1e-9, last[0] - first[0])


def told(outcome: Outcome, steady: float, cpu: float) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{outcome.answered} answers in {outcome.seconds:.1f} s: {outcome.answered / outcome.seconds:.1f} requests a "
        f"second in all, {steady:.1f} once it had started; {cpu / max(1, outcome.sent) * 1e3:.2f} CPU-ms for each, "
        f"peak of memory {memory:.0f} MiB, at most {outcome.most} out, {sum(outcome.tries.values())} failed tries"
    )


def passages(count: int, words: int) -> Iterator[Request]:
    """Requests whose passages differ."""
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=300)
    filler = " ".join(f"word{number % 97}" for number in range(words))
    for number in range(count):
        messages = [
            {"role": "system", "content": "Rewrite."},
            {"role": "user", "content": f"Passage {number}: {filler}"},
        ]
        yield request(
            messages,
            model="bench",
            revision="1",
            sampling=sampling,
            style="easy",
            prompt_version=1,
            prompt_tokens=words * 2,
        )


if __name__ == "__main__":
    raise SystemExit(main())
