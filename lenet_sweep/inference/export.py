"""Write a trained network in the formats of other tools, with a model card."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value, one_line
from lenet_sweep.inference.load import TrainedModel
from lenet_sweep.inference.model_card import CARD, check_card, model_card
from lenet_sweep.inference.options import FILES
from lenet_sweep.inference.selection import TrainedRow
from lenet_sweep.storage.files import make_folder, write_atomic

ONNX_PACKAGES = ("onnx", "onnxscript")  # that torch's exporter imports


def export_model(
    row: TrainedRow, model: TrainedModel, formats: Sequence[str], out: Path
) -> list[Path]:
    """Write a network in formats of FILES, and its card; returns the files.

    Files with these names are replaced. Raises UsageError if the folder contains a README.md that
    is not a model card, if a package for a format is missing, or if torch cannot export the
    network, and StoreError if the folder cannot be written.
    """
    check_card(out)
    contents = {FILES[name]: _WRITERS[name](model) for name in formats}
    contents[CARD] = model_card(row, model, formats).encode(errors="replace")
    make_folder(out)
    for name, content in contents.items():
        write_atomic(out / name, content)
    return [out / name for name in contents]


def _weights(model: TrainedModel) -> dict[str, Tensor]:
    """The weights and buffers of the network by name, without the normalization of its input."""
    return {  # safetensors refuses tensors that share memory, such as tied weights
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in model.network.state_dict().items()
    }


def _to_safetensors(model: TrainedModel) -> bytes:
    facts = {
        "format": "pt",
        "class_names": json.dumps(model.class_names),
        "pixel_mean": repr(float(model.pixel_mean)),
        "pixel_std": repr(float(model.pixel_std)),
        "settings": json.dumps(model.cell.to_json()),
    }
    return safetensors.torch.save(_weights(model), facts)


def _to_state_dict(model: TrainedModel) -> bytes:
    content = io.BytesIO()
    torch.save(_weights(model), content)
    return content.getvalue()


def _to_torch_export(model: TrainedModel) -> bytes:
    content = io.BytesIO()
    with _explained("torch_export", model):
        program = torch.export.export(model, _example(model), dynamic_shapes=_any_batch())
        torch.export.save(program, content)
    return content.getvalue()


def _to_onnx(model: TrainedModel) -> bytes:
    if missing := [name for name in ONNX_PACKAGES if find_spec(name) is None]:
        raise UsageError(
            f"--format onnx: requires {' and '.join(missing)}; run: "
            "pip install 'lenet-sweep[export]'"
        )
    with _explained("onnx", model):
        program = torch.onnx.export(
            model,
            _example(model),
            dynamo=True,
            dynamic_shapes=_any_batch(),
            input_names=["images"],
            output_names=["scores"],
            verbose=False,
        )
        assert program is not None
        content: bytes = program.model_proto.SerializeToString()
    return content


def _example(model: TrainedModel) -> tuple[Tensor]:
    return (torch.zeros(2, 1, *model.size),)


def _any_batch() -> tuple[dict[int, torch.export.Dim]]:
    return ({0: torch.export.Dim("batch")},)


@contextmanager
def _explained(name: str, model: TrainedModel) -> Iterator[None]:
    """Make any error of torch's exporters a UsageError, and keep their output off the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    printed = io.StringIO()  # they print the graph of a network that they cannot trace
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            redirect_stdout(printed),
            redirect_stderr(printed),
        ):
            yield
    except Exception as error:
        raise UsageError(
            f"--format {name}: torch cannot export model={format_value(model.cell.model.name)}: "
            f"{one_line(str(error))[:200]}"
        ) from error
    finally:
        logging.disable(level)


_WRITERS: Mapping[str, Callable[[TrainedModel], bytes]] = {
    "safetensors": _to_safetensors,
    "onnx": _to_onnx,
    "state_dict": _to_state_dict,
    "torch_export": _to_torch_export,
}
