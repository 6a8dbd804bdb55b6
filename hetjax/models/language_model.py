"""A transformer that predicts the next token of a sequence (Radford et al., 2018).

All projections have precisions, those of attention and of the perceptrons; the table of embeddings
is float32 and the last layer pinned at 8 bits.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hetjax.models.transformer import Encoder


class LanguageModel(Encoder, kw_only=True):
  """Blocks whose tokens attend to none that come later, and a prediction for each token.

  Attributes: those of `Encoder`, and
    vocabulary: Number of tokens.
    max_length: Longest sequence.
  """

  vocabulary: int = 256
  max_length: int = 128

  @property
  def input_dtype(self) -> jnp.dtype:
    """Type of the inputs."""
    return jnp.dtype(jnp.int32)

  @nn.compact
  def __call__(
    self,
    x: Int[Array, "b t"],
    *,
    mode: str = "float",
    train: bool = False,
    implementation: str | None = None,
  ) -> Float[Array, "b t vocabulary"]:
    """Logits of the token after each.

    Args:
      x: Tokens from 0 to `vocabulary - 1`.
      mode: Mode of all quantized layers, see `nn.quantized`.
      train: Taken for uniformity: nothing here depends on it.
      implementation: Of the packed ops.
    """
    del train
    self.check()
    if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.integer):
      raise ValueError(f"x must be integers [batch, tokens], got {x.dtype}{list(x.shape)}")
    if x.shape[1] > self.max_length:
      raise ValueError(f"x must have at most {self.max_length} tokens, got {x.shape[1]}")
    common = self.common(mode, implementation)
    x = nn.Embed(self.vocabulary, self.width, name="embed")(x)
    x = self.encode(x, self.max_length, common, causal=True)
    return self.classify(x, self.vocabulary, common)
