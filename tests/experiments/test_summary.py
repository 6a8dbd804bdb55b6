"""Seeds of a comparison together, and the table of a page that the command rewrites."""

import json

import pytest

from experiments import seeds


def _row(method, seed, score, size, limit=2.0, label="", **more):
  row = {"name": f"{method}{label}{limit}-{seed}", "method": method, "seed": seed, "label": label,
         "accuracy": {"test": score}, "loss": {"test": 0.2 + seed / 100},
         "file_bytes": size, "epochs": 20.0, **more}  # fmt: skip
  if method == "float32":
    return row
  budget = {"quantity": "mean_bits_params", "limit": limit, "machine": None}
  return row | {"budget": budget, "mean_bits": 2.0, "mean_bits_macs": 3.0,
                "compression": 1600 / size}  # fmt: skip


ROWS = [
  _row("float32", 0, 94.0, 1600), _row("float32", 1, 95.0, 1600),
  _row("heterogeneous", 0, 93.5, 100), _row("heterogeneous", 1, 94.7, 104),
  _row("heterogeneous", 0, 90.0, 60, limit=1.0, label="kd"), _row("uniform", 2, 91.0, 101),
  _row("float32", 0, 94.5, 1600, label="decay"),
]  # fmt: skip


def _scored(row):
  return row | {"score": row["accuracy"]["test"], "cross_entropy": row["loss"]["test"]}


@pytest.fixture
def folder(tmp_path):
  where = tmp_path / "shirts"
  where.mkdir()
  for row in ROWS:
    (where / f"{row['name']}.json").write_text(json.dumps({"rows": [row]}))
  return where


def test_losses_are_against_the_float_network_of_the_same_seed():
  told = {(r["name"], r["budget"]): r for r in seeds.summary([_scored(r) for r in ROWS])}
  two = told["heterogeneous", "mean_bits_params 2"]
  assert two["seeds"] == 2
  assert two["score"] == pytest.approx(94.1) and two["spread"] == pytest.approx(0.6)
  assert two["behind"] == pytest.approx(0.4) and two["behind_spread"] == pytest.approx(0.1)
  assert two["cross_entropy"] == pytest.approx(0.205)
  assert two["cross_entropy_spread"] == pytest.approx(0.005)
  assert two["file_bytes"] == 104 and two["compression"] == pytest.approx(1600 / 104)
  one = told["heterogeneous-kd", "mean_bits_params 1"]
  assert one["behind"] == pytest.approx(4.0) and one["spread"] is None
  assert "behind" not in told["uniform", "mean_bits_params 2"]  # seed 2 has no float network
  assert "behind" not in told["float32", None] and told["float32", None]["score"] == 94.5
  assert told["float32-decay", None]["behind"] == pytest.approx(-0.5)  # and is no baseline


def test_perplexity_is_behind_in_per_cent():
  rows = [
    {**_scored(_row("float32", 0, 0, 1600)), "perplexity": {"test": 4.0}, "score": 4.0},
    {**_scored(_row("heterogeneous", 0, 0, 100)), "perplexity": {"test": 4.1}, "score": 4.1},
  ]
  assert seeds.summary(rows)[1]["behind"] == pytest.approx(2.5)


def test_the_page_gets_the_table(folder, tmp_path):
  page = tmp_path / "page.md"
  page.write_text("before\n<!-- shirts -->\nold\n<!-- /shirts -->\nafter\n")
  table = seeds.table(folder, "test", str(page))
  text = page.read_text()
  assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
  assert table in text
  (line,) = (line for line in table.splitlines() if line.startswith("heterogeneous "))
  assert "94.10  0.60           0.40  0.10" in line
  page.write_text("no marks")
  with pytest.raises(ValueError, match="must have the marks <!-- shirts -->"):
    seeds.table(folder, "test", str(page))
  assert page.read_text() == "no marks"
