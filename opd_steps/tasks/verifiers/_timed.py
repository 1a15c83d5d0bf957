"""The process in which a verifier is asked (in_time): a line `[completion, row, seconds]` in, its score or the text of an error out."""

from __future__ import annotations

import json
import pickle
import signal

from opd_steps.tasks.verifiers._worker import served


def main(verifier: bytes) -> None:
    """`verifier`: pickled by the caller."""
    verifier = pickle.loads(verifier)
    for request, answer in served():
        completion, row, seconds = json.loads(request)
        signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF, unhandled, ends this process
        try:
            found = float(verifier.judge([completion], [row])[0])
        except Exception as error:
            found = f"{type(error).__name__}: {error}".splitlines()[0]
        signal.setitimer(signal.ITIMER_PROF, 0)
        answer(json.dumps(found))
