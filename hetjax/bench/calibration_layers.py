"""Layers that a target's costs are fitted to, and others that it must predict."""

from __future__ import annotations

from hetjax.bench.workloads import ConvSpec


def _conv(size: int, channels: int, outputs: int, *, kernel: int = 1, strides: int = 1) -> ConvSpec:
  stride = f" stride {strides}" * (strides > 1)
  name = f"{kernel}x{kernel}{stride} {size}x{size}x{channels} to {outputs}"
  return ConvSpec(name, size, channels, outputs, kernel=kernel, strides=strides)


def _depthwise(size: int, channels: int, strides: int = 1) -> ConvSpec:
  stride = f" stride {strides}" * (strides > 1)
  name = f"depthwise 3x3{stride} {size}x{size}x{channels}"
  return ConvSpec(name, size, channels, channels, strides=strides, groups=channels)


# Every cost must be most of some layer: large layers for products, few input channels for outputs,
# few outputs for positions and the output granule, one position for bytes, small ones for the rest.
FITTED = (
  _conv(24, 128, 128, kernel=3),
  _conv(12, 256, 256, kernel=3),
  _conv(8, 512, 512, kernel=3),
  _conv(40, 64, 96, kernel=3, strides=2),
  _conv(32, 64, 128, kernel=3, strides=2),
  _conv(48, 32, 32, kernel=3),
  _conv(96, 16, 32, kernel=3),
  _conv(20, 96, 16, kernel=3),
  _conv(16, 48, 168, kernel=3),
  _conv(10, 32, 72, kernel=3),
  _conv(4, 64, 64, kernel=3),
  _conv(15, 512, 512),
  _conv(64, 16, 72),
  _conv(80, 64, 32),
  _conv(32, 256, 20),
  _conv(16, 64, 512),
  _conv(8, 1024, 128),
  _conv(8, 320, 1024),
  _conv(1, 2048, 512),
  _conv(1, 512, 2048),
  _depthwise(96, 16),
  _depthwise(48, 96),
  _depthwise(48, 96, 2),
  _depthwise(24, 192, 2),
  _depthwise(16, 512),
  _depthwise(8, 768),
  _depthwise(10, 64),
)
# Each level of the mixed ones is most of one mix; pinned layers have 8 bits.
FITTED_MIXES = {
  "80/10/10": {1: 0.8, 2: 0.1, 4: 0.1},
  "10/80/10": {1: 0.1, 2: 0.8, 4: 0.1},
  "10/10/80": {1: 0.1, 2: 0.1, 4: 0.8},
  "8-bit": {8: 1.0},
}

RESNET_18 = (
  _conv(56, 64, 64, kernel=3),
  _conv(56, 64, 128, kernel=3, strides=2),
  _conv(28, 128, 128, kernel=3),
  _conv(28, 128, 256, kernel=3, strides=2),
  _conv(14, 256, 256, kernel=3),
  _conv(14, 256, 512, kernel=3, strides=2),
  _conv(7, 512, 512, kernel=3),
  _conv(56, 64, 128, strides=2),
  _conv(28, 128, 256, strides=2),
  _conv(14, 256, 512, strides=2),
)
MOBILENET_V2 = (
  _depthwise(112, 32),
  _conv(112, 32, 16),
  _conv(112, 16, 96),
  _depthwise(112, 96, 2),
  _conv(56, 96, 24),
  _conv(56, 24, 144),
  _depthwise(56, 144),
  _conv(56, 144, 24),
  _depthwise(56, 144, 2),
  _conv(28, 144, 32),
  _conv(28, 32, 192),
  _depthwise(28, 192),
  _conv(28, 192, 32),
  _depthwise(28, 192, 2),
  _conv(14, 192, 64),
  _conv(14, 64, 384),
  _depthwise(14, 384),
  _conv(14, 384, 64),
  _conv(14, 384, 96),
  _conv(14, 96, 576),
  _depthwise(14, 576),
  _conv(14, 576, 96),
  _depthwise(14, 576, 2),
  _conv(7, 576, 160),
  _conv(7, 160, 960),
  _depthwise(7, 960),
  _conv(7, 960, 160),
  _conv(7, 960, 320),
  _conv(7, 320, 1280),
)
OTHERS = (
  _conv(112, 8, 16, kernel=3),
  _conv(56, 16, 32, kernel=3),
  _conv(28, 16, 16, kernel=3),
  _conv(28, 64, 48, kernel=3),
  _conv(28, 64, 96, kernel=3),
  _conv(14, 64, 64, kernel=3),
  _conv(14, 512, 16, kernel=3),
  _conv(14, 32, 512, kernel=3),
  _conv(9, 40, 80, kernel=3),
  _conv(7, 64, 64, kernel=3),
  _conv(56, 256, 64),
  _conv(56, 64, 256),
  _conv(28, 512, 128),
  _conv(20, 72, 200),
  _conv(14, 1024, 256),
  _conv(7, 2048, 512),
  _conv(7, 512, 2048),
  _conv(1, 512, 1000),
  _conv(1, 1280, 1000),
  _depthwise(28, 16),
  _depthwise(7, 64),
)
JUDGED = (*RESNET_18, *MOBILENET_V2, *OTHERS)

# Kernels give what the reference does at all levels, or nothing is measured.
CHECKED = (
  (_conv(7, 40, 72, kernel=3), {1: 0.4, 2: 0.3, 4: 0.3}),
  (_conv(7, 40, 72, kernel=3), {8: 1.0}),
  (_depthwise(7, 40), {1: 0.4, 2: 0.3, 4: 0.3}),
)

# Input channels at which granules are looked for: few, where a step of a few is much of the time,
# and beside multiples of coarse granules.
_FEW = (32, 33, 34, 35, 36, 37, 38, 40, 41, 44, 48, 49, 56)
COUNTS = (*_FEW, 64, 65, 66, 72, 80, 96, 97, 104, 112, 128, 129, 144)
