"""A transformer encoder with a classifier, over tokens or over vectors.

Blocks are pre-norm (Xiong et al., 2020, arXiv 2002.04745). All projections have precisions; norms,
softmax and the two products of attention are float32, like embeddings and positions. The
projections read a layer norm's output or attention's, so their activations are signed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hetjax import nn as hnn
from hetjax.core import Palette

ACTIVATIONS = {"gelu": nn.gelu, "relu": nn.relu}


class Attention(nn.Module):
  """Multi-head self-attention; query, key and value have precisions of their own."""

  heads: int
  dense: Callable
  causal: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
    b, t, d = x.shape
    query, key, value = (
      self.dense(d, name=name)(x).reshape(b, t, self.heads, d // self.heads)
      for name in ("query", "key", "value")
    )
    y = jax.nn.dot_product_attention(query, key, value, is_causal=self.causal)
    return self.dense(d, name="output")(y.reshape(b, t, d))


class EncoderBlock(nn.Module):
  """Attention and a perceptron of one hidden layer, each normed before and added after."""

  heads: int
  hidden: int
  activation: str
  dense: Callable
  causal: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
    y = nn.LayerNorm(name="attention_norm")(x)
    x = x + Attention(self.heads, self.dense, self.causal, name="attention")(y)
    y = self.dense(self.hidden, name="mlp_in")(nn.LayerNorm(name="mlp_norm")(x))
    y = ACTIVATIONS[self.activation](y)
    # Only after a ReLU are there no negative values.
    y = self.dense(x.shape[-1], signed=self.activation != "relu", name="mlp_out")(y)
    return x + y


class Encoder(nn.Module, kw_only=True):
  """What the transformers share: blocks, and how their last layer is made.

  Attributes:
    width: Channels of a token.
    depth: Blocks.
    heads: Attention heads; they divide the width.
    mlp_ratio: Hidden units of a block's perceptron per channel.
    activation: "gelu" or "relu", of the perceptrons.
    palette: Levels of the layers that are not pinned.
    pinned_bits: Level of the last layer, and of the first unless that is a table lookup.
  """

  width: int = 128
  depth: int = 4
  heads: int = 4
  mlp_ratio: int = 4
  activation: str = "gelu"
  palette: Palette = Palette()
  pinned_bits: int = 8

  @property
  def blocks(self) -> int:
    """Blocks that a call runs."""
    return self.depth

  def check(self) -> None:
    """Refuses sizes that do not fit together."""
    for field in ("width", "depth", "heads", "mlp_ratio"):
      if getattr(self, field) < 1:
        raise ValueError(f"{field} must be positive, got {getattr(self, field)}")
    if self.width % self.heads:
      raise ValueError(f"heads must divide width {self.width}, got {self.heads}")
    if self.activation not in ACTIVATIONS:
      raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, got {self.activation!r}")

  def common(self, mode: str, implementation: str | None) -> dict:
    """Arguments of every quantized layer."""
    return {
      "palette": self.palette,
      "mode": mode,
      "implementation": implementation,
      "signed": True,
    }

  def encode(
    self, x: Float[Array, "b t d"], length: int, common: dict, causal: bool = False
  ) -> Float[Array, "b t d"]:
    """Positions, blocks and norm; called inside the subclass's `nn.compact`.

    Args:
      x: Embedded tokens.
      length: Positions that are learned, `t` or more.
      common: Arguments of every quantized layer.
      causal: Whether a token attends to none that come later.
    """
    positions = self.param("positions", nn.initializers.normal(0.02), (length, self.width))
    x = x + positions[: x.shape[1]]
    hidden, dense = self.mlp_ratio * self.width, functools.partial(hnn.Dense, **common)
    for index in range(self.depth):
      x = EncoderBlock(self.heads, hidden, self.activation, dense, causal, name=f"block{index}")(x)
    return nn.LayerNorm(name="norm")(x)

  def classify(self, x: Float[Array, "... d"], outputs: int, common: dict) -> Array:
    """The last layer, [..., outputs]; called inside the subclass's `nn.compact`."""
    return hnn.Dense(outputs, name="head", **common | {"pinned_bits": self.pinned_bits})(x)


class Transformer(Encoder, kw_only=True):
  """An encoder of sequences: tokens if it has a vocabulary, else vectors.

  Attributes: those of `Encoder`, and
    classes: Outputs.
    vocabulary: Number of tokens, embedded in float32; None if the inputs are vectors, which a dense
      layer embeds.
    max_length: Longest sequence.
  """

  classes: int = 10
  vocabulary: int | None = None
  max_length: int = 128

  @property
  def input_dtype(self) -> jnp.dtype:
    """Type of the inputs: int32 tokens or float32 vectors."""
    return jnp.dtype(jnp.float32 if self.vocabulary is None else jnp.int32)

  @nn.compact
  def __call__(
    self,
    x: Int[Array, "b t"] | Float[Array, "b t c"],
    *,
    mode: str = "float",
    train: bool = False,
    implementation: str | None = None,
  ) -> Float[Array, "b classes"]:
    """Logits.

    Args:
      x: Tokens from 0 to `vocabulary - 1`, or vectors.
      mode: Mode of all quantized layers, see `nn.quantized`.
      train: Taken for uniformity: nothing here depends on it.
      implementation: Of the packed ops.
    """
    del train
    self.check()
    tokens = self.vocabulary is not None
    kind = jnp.integer if tokens else jnp.floating
    if x.ndim != (2 if tokens else 3) or not jnp.issubdtype(x.dtype, kind):
      want = "integers [batch, tokens]" if tokens else "floats [batch, tokens, channels]"
      raise ValueError(
        f"x must be {want} with vocabulary={self.vocabulary}, got {x.dtype}{list(x.shape)}"
      )
    if x.shape[1] > self.max_length:
      raise ValueError(f"x must have at most {self.max_length} tokens, got {x.shape[1]}")
    common = self.common(mode, implementation)
    if tokens:
      x = nn.Embed(self.vocabulary, self.width, name="embed")(x)
    else:
      x = hnn.Dense(self.width, name="embed", **common | {"pinned_bits": self.pinned_bits})(x)
    x = self.encode(x, self.max_length, common)
    return self.classify(jnp.mean(x, axis=1), self.classes, common)


transformer_small = functools.partial(Transformer, width=384, depth=12, heads=6)
