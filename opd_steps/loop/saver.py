"""Who writes the checkpoints of a training: the loop itself, which waits for the disk, or a thread beside the steps that follow."""

from __future__ import annotations

import threading
from pathlib import Path

from opd_steps.errors import UserError
from opd_steps.loop import checkpoint, shards
from opd_steps.process import ranks


class Saver:
    """`beside`: a checkpoint is copied to the CPU's memory, and a thread writes the copy; the loop gives it its name (`settle`).

    Threads of several ranks never speak to each other: each writes its own part, and the ranks ask after all of them between steps. So
    the guarantees are those of a checkpoint that is written at once: the bytes are those of its step, until all parts are on the
    disk the one before is there, and there is never a second one on its way.
    """

    def __init__(self, work: Path, beside: bool):
        self.work, self.beside, self.pending = work, beside, None

    def save(self, step: int, trained: checkpoint.Trained, state: dict) -> None:
        self.settle(wait=True)
        if not self.beside:
            checkpoint.save(self.work, step, trained, state)
            return
        plain, parts = checkpoint.collected(self.work, trained, state)
        copies = {name: shards.own(part, copy=True) for name, part in parts.items()}
        self.pending = _Writing(step, plain, checkpoint.begun(self.work), copies)

    def settle(self, wait: bool = False) -> None:
        """Name the checkpoint on its way, if all ranks' parts are on the disk; `wait` for them. Raises UserError for one that could not
        be written: the one before stays."""
        writing = self.pending
        if writing is None or not (wait or all(ranks.gather(not writing.is_alive()))):
            return
        self.pending = None
        writing.join()
        if failed := [text for text in ranks.gather(writing.failed) if text]:
            said = f"the checkpoint after step {writing.step} could not be written: {failed[0]}; the one before stays"
            raise UserError(str(self.work), said)
        checkpoint.finish(self.work, writing.step, writing.plain)


class _Writing(threading.Thread):
    def __init__(self, step: int, plain: dict, folder: Path, parts: dict[str, shards.Own]):
        super().__init__(name="checkpoint")
        self.step, self.plain, self.folder, self.parts, self.failed = step, plain, folder, parts, ""
        self.start()

    def run(self) -> None:
        try:
            for name in list(self.parts):
                shards.write(self.folder, name, self.parts.pop(name))  # its copy goes as soon as it is written
        except Exception as error:  # told by the loop, in one line
            self.failed = (str(error) or repr(error)).splitlines()[0]
