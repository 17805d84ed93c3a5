from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from server.embedding.folder import describe
from shared.errors import BadInput, Unavailable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    (made / "modules.json").write_text(json.dumps(modules))
    (made / "sentence_bert_config.json").write_text('{"max_seq_length": 128}')
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def code(folder: Path) -> str:
    with pytest.raises(BadInput) as caught:
        describe(folder)
    return caught.value.code


def test_a_model_is_described_by_what_it_loads(folder: Path) -> None:
    found = describe(folder)
    assert len(found.id) == 64
    assert found.positions == 128
    (folder / "README.md").write_text("not loaded")
    (folder / ".gitattributes").write_text("neither")
    assert describe(folder) == found


@pytest.mark.parametrize("name", ["model.safetensors", "sentence_bert_config.json"])
def test_a_changed_file_is_another_model(folder: Path, name: str) -> None:
    before = describe(folder).id
    (folder / name).write_bytes(b'{"max_seq_length": 64}')
    assert describe(folder).id != before


def test_the_same_files_elsewhere_are_the_same_model(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert describe(tmp_path / "copy") == describe(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "custom.py", "1_Pooling/x.pkl"])
def test_what_could_run_code_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    assert code(folder) == "embedder.unsafe"


def test_a_module_of_another_package_is_refused(folder: Path) -> None:
    (folder / "modules.json").write_text('[{"type": "os.system"}]')
    assert code(folder) == "embedder.unsafe"


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "more.json").symlink_to("/etc/hostname")
    assert code(folder) == "embedder.unsafe"


@pytest.mark.parametrize("name", ["modules.json", "model.safetensors"])
def test_a_folder_without_its_parts_is_no_model(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert code(folder) == "embedder.folder"


def test_broken_json_is_bad_input(folder: Path) -> None:
    (folder / "modules.json").write_text("[")
    assert code(folder) == "embedder.folder"


def test_no_folder_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        describe(tmp_path / "none")
    assert caught.value.code == "embedder.none"
    assert "outrider hub embedder add" in caught.value.advice
