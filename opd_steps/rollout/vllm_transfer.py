"""How new weights get into a vLLM, over its weight-transfer API: as tensors where it runs in the trainer's own process, else as files.

vLLM's own transfer engines move CUDA handles between processes; within one process there is nothing to move, and a CPU has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from safetensors.torch import load_file
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

NAME = "same_process"


@dataclass
class NoInfo(WeightTransferInitInfo):
    """Nothing to agree on."""


@dataclass
class Tensors(WeightTransferUpdateInfo):
    """Weights by their names in the checkpoint."""

    tensors: dict[str, Any] = field(default_factory=dict)


@dataclass
class File(WeightTransferUpdateInfo):
    """Some of the weights, by their names in the checkpoint: a safetensors file."""

    path: str = ""


class SameProcess(WeightTransferEngine[NoInfo, Tensors]):
    """Loads the tensors like a checkpoint's; layers are repacked when the update is finished."""

    init_info_cls, update_info_cls = NoInfo, Tensors

    def init_transfer_engine(self, init_info: NoInfo) -> None:
        """No rendezvous: there is one process."""

    def start_weight_update(self) -> None:
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: Tensors) -> None:
        self.model.load_weights(iter(update_info.tensors.items()))

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)

    def shutdown(self) -> None:
        """Nothing is held."""


class Files(SameProcess):
    """The same of files, each read by every worker of a server; a layer's weights may be in several."""

    init_info_cls, update_info_cls = NoInfo, File

    def receive_weights(self, update_info: File) -> None:
        self.model.load_weights(iter(load_file(update_info.path).items()))


def register() -> str:
    """The name under which vLLM finds it."""
    if NAME not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(NAME, SameProcess)
    return NAME
