"""Each notebook runs from the first cell to the last, and what it exports answers."""

from __future__ import annotations

import json
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

import finetuning.notebooks
from lambda_inference.serving.host import ModelHost
from lambda_inference.serving.service import HttpRequest, Service
from lambda_inference.settings import ModelSettings, ServerSettings

FOLDER = Path(finetuning.notebooks.__file__).parent
MADE = {
    "rwkv4_topical_chat": ("friend-topical-chat/friend/friend-430m.Q8_0.gguf", ""),
    "rwkv7_lora": ("friend-lora/run/friend-0.4b.Q8_0.gguf", ""),
    "own_voice": ("friend-voice/base/small.gguf", "friend-voice/run/mine.safetensors"),
}
"""The model file and the learnt state that a notebook ends with, in the folder it runs in."""

SECONDS = 240  # for one cell, on a machine that has much else to do


def answer(model: Path, state: Path | None) -> str:
    settings = ModelSettings(file=str(model), state=str(state or ""), threads=1)
    service = Service(ServerSettings(), ModelHost(settings, state_cache_bytes=0))
    asked = {"messages": [{"role": "user", "content": "hi"}], "seed": 1, "max_tokens": 20}
    response = service.handle(
        HttpRequest("POST", "/v1/chat/completions", {}, json.dumps(asked).encode())
    )
    assert isinstance(response.body, bytes)
    assert response.status == 200, response.body
    return str(json.loads(response.body)["choices"][0]["message"]["content"])


@pytest.mark.slow
@pytest.mark.timeout(2 * SECONDS)
@pytest.mark.parametrize("name", MADE)
def test_it_runs_on_made_up_data(
    name: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FRIEND_NOTEBOOK_SMALL", "1")
    # On models this small a second thread only waits.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("FRIEND_MODEL_THREADS", "1")
    # Else each would look through all fonts of this machine.
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp() / "matplotlib"))
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        startup_timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "Best held-out loss: " in said
    assert said.count("friend: ") == 6, "three replies before, three after"
    assert [one for one in outputs if "image/png" in one.get("data", ())], "the curve is shown"
    model, state = MADE[name]
    untuned, tuned = (
        answer(tmp_path / model, place) for place in (None, tmp_path / state if state else None)
    )
    assert tuned
    assert (tuned != untuned) is bool(state)


def test_all_of_them_are_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(MADE)


@pytest.mark.parametrize("name", MADE)
def test_both_forms_are_in_step_and_hold_no_output(name: str) -> None:
    script = jupytext.read(FOLDER / f"{name}.py")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in script.cells
    ], "run: jupytext --sync finetuning/notebooks/*.ipynb"
    assert notebook.metadata == {
        key: value for key, value in script.metadata.items() if key in ("accelerator", "kernelspec")
    } | {"jupytext": {key: script.metadata.jupytext[key] for key in notebook.metadata.jupytext}}
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert set(cell.metadata) <= {"lines_to_next_cell"}
    text = (FOLDER / f"{name}.py").read_text()
    assert str(FOLDER.parents[1]) not in text
