"""Your own questions about images or videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from opd_steps.errors import UserError
from opd_steps.store.files import write_jsonl
from opd_steps.store.jsonl import read_jsonl
from opd_steps.tasks.seen import asked
from opd_steps.tasks.worlds import World

if TYPE_CHECKING:
    from opd_steps.models.vl_policy import VLPolicy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.seen_pool import SeenPool

TEXTS = ("prompt", "answer")


@dataclass(frozen=True)
class Gallery(World):
    """A JSONL file of rows with `prompt`, `answer`, and files beside it: `image`, with the `box` of the part that tells the answer (left,
    top, right, bottom in its pixels) where a crop is looked at, or `frames`, a folder of a video's frames. `solution`, a whole right
    completion, is the answer where a row has none.

    test, ood   the file's last `test` rows, and as many before them
    """

    READS: ClassVar[tuple[str, ...]] = ("verifier",)
    CODE: ClassVar[tuple[str, ...]] = ("tasks/seen_pool.py", "tasks/seen_files.py")

    path: str
    test: Annotated[int, "at least 1"] = 128
    rate: Annotated[float, "above 0"] = 2.0  # frames of a second
    most: Annotated[int, "at least 2"] = 768  # frames of a video

    def write(self, job: Job) -> dict:
        rows = read_jsonl(Path(self.path).expanduser())
        for i, row in enumerate(rows):
            self._check(row, f"{self.path}:{i + 1}")
        if len(rows) <= 2 * self.test:
            raise UserError(
                self.path, f"{len(rows)} rows, of which test and ood take {2 * self.test}: none is left to train on"
            )
        cut = len(rows) - 2 * self.test
        parts = {"train": rows[:cut], "ood": rows[cut : cut + self.test], "test": rows[cut + self.test :]}
        for split, part in parts.items():
            told = ({"solution": row["answer"], "corpus": row.get("solution", row["answer"]), **row} for row in part)
            write_jsonl(job.stage / f"{split}.jsonl", [{"id": f"{split}/{i}", **row} for i, row in enumerate(told)])
        return {"splits": {split: len(part) for split, part in parts.items()}, **asked(job)}

    def _check(self, row: dict, where: str) -> None:
        if not all(isinstance(row.get(name), str) for name in TEXTS) or len(row.keys() & {"image", "frames"}) != 1:
            raise UserError(where, "expected a prompt, an answer, and either image or frames")
        box = row.get("box", [0, 0, 1, 1])
        if "frames" in row and "box" in row:
            raise UserError(where, "a box is a part of an image, and this row names frames")
        if not (isinstance(box, list) and len(box) == 4 and all(type(x) is int for x in box)):
            raise UserError(where, f"box: expected left, top, right, bottom in pixels, found {box!r}")
        if not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
            raise UserError(where, f"box: expected left before right and top before bottom, found {box!r}")

    def pool(self, folder: Path, split: str, policy: VLPolicy, limit: int = 0) -> SeenPool:
        from opd_steps.tasks.seen_files import image, image_shape, video, video_shape
        from opd_steps.tasks.seen_pool import SeenPool

        near = Path(self.path).expanduser().parent
        scene = lambda row: video(near / row["frames"], self.most) if "frames" in row else image(near / row["image"])

        def box(row: dict) -> list[int]:
            if "box" not in row:
                raise UserError(str(folder), f"{row['id']} names no box: its crop is not known")
            return row["box"]

        def shape(row: dict, view: str) -> tuple[int, ...]:
            if "frames" in row and view != "crop":
                return video_shape(near / row["frames"], self.most)
            return image_shape(near / row.get("image", ""), box(row) if view == "crop" else None)

        crop = lambda row: image(near / row.get("image", ""), box(row))
        how = {"scene": scene, "crop": crop, "shape": shape, "rate": self.rate}
        return SeenPool.load(folder, split, policy.tokenizer, limit, **how)
