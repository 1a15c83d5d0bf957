"""Chromium by its debugging pipe: pages as a user has them, with real keys. JSON messages, each ended by a NUL."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}
PATIENCE = 300  # seconds, of a busy machine


def installed() -> str:
    """Path of Chromium, installed from the distribution's packages where it is missing."""
    if not shutil.which("chromium"):
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return shutil.which("chromium")


class Chrome:
    """One page. `errors`: what its console said of errors; `asked`: every address that it read."""

    def __init__(self, profile: Path):
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
        command = f'exec {installed()} "$@" 3<&{theirs_in} 4>&{theirs_out}'
        flags = [*FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "--window-size=1300,900"]
        self._process = subprocess.Popen(
            ["bash", "-c", command, "chromium", *flags], pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest, self._number, self._session = b"", 0, None
        self.events: list[dict] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def send(self, method: str, **params: object) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        with os.fdopen(os.dup(self._out), "wb") as pipe:
            pipe.write(json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self) -> dict:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            assert ready, "Chromium says nothing"
            self._rest += os.read(self._in, 1 << 16)
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def open(self, url: str) -> None:
        """Go there, and wait until the page is loaded."""
        self.events.clear()
        self.send("Page.navigate", url=url)
        self.wait("Page.loadEventFired")

    def wait(self, method: str) -> None:
        """Until an event of this name has come."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._read())

    def js(self, expression: str) -> object:
        """The value of an expression on the page, awaited."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, *keys: str) -> None:
        """Keys by name, or characters, as from a keyboard."""
        for key in keys:
            text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
            code = {"windowsVirtualKeyCode": KEYS[key]} if key in KEYS else {}
            self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text, **code)
            self.send("Input.dispatchKeyEvent", type="keyUp", key=key, **code)

    def colours(self, scheme: str) -> None:
        """Be a machine whose user wants light, or dark."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    @property
    def errors(self) -> list[dict]:
        bad = {"Runtime.exceptionThrown", "Log.entryAdded"}
        said = [e for e in self.events if e.get("method") == "Runtime.consoleAPICalled" and e["params"]["type"] == "error"]
        return said + [e for e in self.events if e.get("method") in bad]

    @property
    def asked(self) -> list[str]:
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
