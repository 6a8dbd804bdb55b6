"""Engines that hetjax is compared with, one file each, behind one protocol."""

from hetjax.bench.peers.base import Candidate, Missing, Peer, Problem
from hetjax.bench.peers.openvino import OpenVino
from hetjax.bench.peers.ort import OnnxRuntime
from hetjax.bench.peers.xla import Xla

__all__ = ["PEERS", "Candidate", "Missing", "Peer", "Problem"]

PEERS: tuple[Peer, ...] = (Xla(), OnnxRuntime(32), OnnxRuntime(8), OpenVino(32), OpenVino(8))
