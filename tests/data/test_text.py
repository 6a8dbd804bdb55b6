"""Text as tokens: encoding, parts, windows, batches, and the dictionary's file."""

import gzip

import numpy as np
import pytest

from hetjax.data import TextDataset, load_dataset, training_batches
from hetjax.data.text import VOCABULARY, create_text_dataset, decode, encode


def test_encoding_keeps_ascii_and_newlines():
  text = "".join(map(chr, range(32, 127))) + "\n"
  tokens = encode(text.encode())
  assert decode(tokens) == text and sorted(set(tokens.tolist())) == list(range(VOCABULARY))
  assert decode(encode("a\tb\r\nc\x00\u00e9".encode())) == "a b\nc???"


def test_parts_are_disjoint_blocks_from_all_over():
  tokens = (np.arange(10_000) // 10 % 96).astype(np.uint8)  # a block of ten is told by its place
  data = create_text_dataset("t", tokens, 4, block=10)
  assert len(data.valid) == len(data.test) == 500 and len(data.train) == 9000
  blocks = {p: data.split(p).reshape(-1, 10)[:, 0] for p in ("train", "valid", "test")}
  place = np.arange(1000)
  np.testing.assert_array_equal(blocks["valid"], place[place % 20 == 6] % 96)
  np.testing.assert_array_equal(blocks["test"], place[place % 20 == 13] % 96)


def test_labels_are_the_next_characters():
  data = load_dataset("synthetic_text")
  inputs, labels = data.inputs("valid"), data.labels("valid")
  assert inputs.shape == labels.shape == ((len(data.valid) - 1) // 16, 16)
  assert inputs.dtype == labels.dtype == np.int32
  np.testing.assert_array_equal(inputs.reshape(-1), data.valid[: inputs.size])
  np.testing.assert_array_equal(labels.reshape(-1), data.valid[1 : inputs.size + 1])


def test_batches_are_windows_of_the_training_text_ruled_by_seed_and_step():
  data = load_dataset("synthetic_text")
  batches = training_batches(data, 8, 3)
  batch = batches.batch(5)
  text = data.train.tobytes()
  for x, y in zip(batch["input"], batch["label"], strict=True):
    np.testing.assert_array_equal(x[1:], y[:-1])
    assert np.append(x, y[-1]).astype(np.uint8).tobytes() in text
  again = training_batches(data, 8, 3).batch(5)
  np.testing.assert_array_equal(batch["input"], again["input"])
  for other in (training_batches(data, 8, 4).batch(5), batches.batch(6)):
    assert not np.array_equal(batch["input"], other["input"])
  assert batches.steps_per_epoch == len(data.train) // (8 * 16)
  with batches.prefetch(4, 6) as ahead:
    np.testing.assert_array_equal(list(ahead)[1]["label"], batch["label"])


def test_every_place_of_the_text_can_be_drawn():
  data = TextDataset("t", *[np.arange(6, dtype=np.uint8)] * 3, context=4)
  starts = {int(x[0]) for i in range(20) for x in training_batches(data, 4, 0).batch(i)["input"]}
  assert starts == {0, 1}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"context": 0}, "context must be at least 1"),
    ({"test": np.zeros(4, np.uint8)}, "test must hold more than 4 characters.*got 4"),
    ({"valid": np.zeros(9, np.int32)}, "valid must be uint8"),
    ({"train": np.full(9, 96, np.uint8)}, "train tokens must be below 96, got 96"),
  ],
)
def test_bad_text_is_refused(change, message):
  fields = {"train": np.zeros(9, np.uint8), "valid": np.zeros(9, np.uint8)}
  fields |= {"test": np.zeros(9, np.uint8), "context": 4} | change
  with pytest.raises(ValueError, match=message):
    TextDataset("t", **fields)
  good = load_dataset("synthetic_text")
  with pytest.raises(ValueError, match="batch_size must be at least 1"):
    training_batches(good, 0, 0)
  with pytest.raises(ValueError, match="step must be at least 0"):
    training_batches(good, 1, 0).batch(-1)
  with pytest.raises(ValueError, match="split must be one of"):
    good.split("dev")


def test_the_dictionary_is_read_from_its_file(tmp_path, monkeypatch):
  text = b"a definition of words\n" * 30_000
  (tmp_path / "foldoc.dict.dz").write_bytes(gzip.compress(text))
  data = load_dataset("foldoc", data_dir=tmp_path, context=32)
  assert data.name.startswith("foldoc-") and data.input_shape == (32,)
  assert decode(data.train[:22]) == text[:22].decode()
  monkeypatch.setenv("HETJAX_DATA_DIR", str(tmp_path))
  assert load_dataset("foldoc").name == data.name
  (tmp_path / "foldoc.dict.dz").write_bytes(gzip.compress(text)[:-50])
  with pytest.raises(ValueError, match="must be a complete gzip file"):
    load_dataset("foldoc", data_dir=tmp_path)
  with pytest.raises(FileNotFoundError, match="dict-foldoc"):
    load_dataset("foldoc", data_dir=tmp_path / "empty")


def test_a_made_up_text_has_as_many_followers_as_it_says():
  text = load_dataset("synthetic_text", size=40_000, followers=3, seed=1).train
  seen = [set() for _ in range(VOCABULARY)]
  for a, b in zip(text[:400], text[1:401], strict=True):
    seen[a].add(int(b))
  assert max(map(len, seen)) == 3
  for options in ({"followers": 0}, {"followers": 97}, {"size": 0}):
    with pytest.raises(ValueError, match="size must be positive and followers 1 to 96"):
      load_dataset("synthetic_text", **options)
