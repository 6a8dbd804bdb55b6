"""Engines that hetjax is compared with, one file each, behind one protocol."""

from hetjax.bench.peers.base import Candidate, Missing, Peer, Problem
from hetjax.bench.peers.ggml import Ggml
from hetjax.bench.peers.litert import LiteRt
from hetjax.bench.peers.onednn import OneDnn
from hetjax.bench.peers.openvino import OpenVino
from hetjax.bench.peers.ort import OnnxRuntime
from hetjax.bench.peers.pytorch import PyTorch
from hetjax.bench.peers.xla import Xla

__all__ = ["PEERS", "Candidate", "Missing", "Peer", "Problem"]

PEERS: tuple[Peer, ...] = (
  Xla(),
  OnnxRuntime(32),
  OpenVino(32),
  LiteRt(32),
  PyTorch(32),
  OneDnn("direct"),
  OneDnn("Winograd"),
  OnnxRuntime(8),
  OpenVino(8),
  LiteRt(8),
  PyTorch(8),
  OnnxRuntime(4),
  OpenVino(4),
  LiteRt(4),
  Ggml(8),
  Ggml(4),
  Ggml(2),
)
