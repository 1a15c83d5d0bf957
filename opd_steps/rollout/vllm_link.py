"""A `vllm serve` that all ranks of a step ask: one that the first of them starts, and starts again when it dies, or one that runs already.

A rank that gave up while others wait for it would leave them waiting: so what happened to one is told to all, and all do the same.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from opd_steps.errors import UserError
from opd_steps.process import ranks
from opd_steps.process.lifetime import Stopped, until_stopped
from opd_steps.rollout.vllm_process import OwnServer

PATIENCE = 600.0  # seconds without a byte of an answer; then the server counts as gone
RESTARTS = 2  # of a server of our own that ended, in one run
ROUTE = "/v1/completions"
UNREACHABLE = (OSError, http.client.HTTPException)
_STOPPED = "stopped"


class Gone(Exception):
    """The server, or the engine in it, answers no more. `status`: what it said at last, 0: nothing."""

    def __init__(self, why: str, status: int = 0):
        super().__init__(why)
        self.status = status


class Link:
    """`url` answers, and serves the model at `path`; `limit`: tokens of the longest row that it takes, prompt and answer.

    who  as messages name the server; `key`: the option that does

    Raises UserError where none answers in time, or with another model.
    """

    def __init__(self, who: str, key: str, path: str, own: OwnServer | None, url: str = ""):
        self.who, self.key, self.path, self.own, self.restarts = who, key, path, own, 0
        self.url = re.sub(r"/v1$", "", url.rstrip("/"))  # clients of other kinds are given the address with it
        if own:
            self._start()
        where, nobody = self.where, "no vLLM server answers there; expected an address like http://host:8000"
        try:
            self.model = self.post("/v1/models")["data"][0]
            root, self.limit = self.model["root"], int(self.model["max_model_len"]) - 1  # see rollout.lengths
        except urllib.error.HTTPError as error:
            raise UserError(where, f"{nobody} (/v1/models: {error.code} {error.reason})") from None
        except (*UNREACHABLE, LookupError, TypeError, ValueError) as error:
            raise UserError(where, f"{nobody} ({type(error).__name__} {error})") from None
        if root != path:
            raise UserError(where, f"serves {root}, not the {who} {path}")

    @property
    def where(self) -> str:
        return self.key + ("" if self.own else f".url {self.url}")

    def post(self, route: str, body: dict | None = None, patience: float | None = PATIENCE) -> Any:
        """The JSON that a route answers. Raises what urllib does."""
        return json.loads(self.posted(route, body, patience))

    def posted(self, route: str, body: dict | None = None, patience: float | None = PATIENCE) -> bytes:
        """The bytes that a route answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + route, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=patience) as answer:
            return answer.read()

    def asked(self, ask: Callable[[], Any]) -> Any:
        """What `ask` gives. Raises Gone where nobody answers, UserError for what is refused."""
        try:
            return ask()
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise UserError(f"{self.key} {self.url}", f"refuses a request: {why(error)}") from None
            raise Gone(f"{error.code} {why(error)}", error.code) from None
        except UNREACHABLE as error:
            raise Gone(f"{type(error).__name__} {error}") from None

    def tried(self, do: Callable[[], Any]) -> tuple[Any, str]:
        """(what it gives, ""), or (None, why not) for `agreed`."""
        try:
            with until_stopped():
                return do(), ""
        except Stopped:
            return None, _STOPPED
        except Gone as error:
            return None, str(error)

    def agreed(self, trouble: str) -> bool:
        """Whether no rank is in trouble (`tried`). If one is, a server of our own has been started again when this returns.

        Raises lifetime.Stopped on all ranks when one was told to stop; UserError where the server is not ours, or dies too often.
        """
        found = ranks.gather(trouble)
        if _STOPPED in found:
            raise Stopped
        if why := next(filter(None, found), ""):
            self._start_again(why)
        return not why

    def of_first(self, do: Callable[[], Any]) -> Any:
        """What it gives on the first rank, for all. Raises lifetime.Stopped on all where that one was told to stop, and UserError where
        nobody answered."""
        value, trouble = ranks.gather(self.tried(do) if ranks.first() else None)[0]
        if trouble == _STOPPED:
            raise Stopped
        if trouble:
            raise UserError(self.where, trouble)
        return value

    def close(self) -> None:
        if self.own:
            self.own.end()

    def _start(self) -> None:
        self.url = self.of_first(self.own.start)

    def _start_again(self, why: str) -> None:
        if self.own is None:
            raise UserError(f"{self.key}.url {self.url}", f"the server is gone ({why}); with one there, run again to go on")
        if self.restarts == RESTARTS:
            said = (
                f"the {self.who}'s server ended {RESTARTS + 1} times ({why}); its log: {self.own.log}: {self.own.last_error()}"
            )
            raise UserError(self.key, said)
        self.restarts += 1
        if ranks.first():
            print(f"the {self.who}'s server is gone ({why}); starting it again", file=sys.stderr, flush=True)
        self.own.end()
        self._start()


def why(error: urllib.error.HTTPError) -> str:
    """What a refusal says of itself."""
    try:
        return json.load(error)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return str(error)
