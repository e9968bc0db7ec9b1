"""NOTICE and the models' card: whose networks, photographs and paintings impasto is made from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import impasto
from impasto.samples import PHOTOGRAPHS, STYLES
from impasto.training.recipes import read_toml

ROOT = Path(__file__).parent.parent
MODELS = Path(impasto.__file__).parent / "models"
CREDITED = (
    *("Simonyan", "Zisserman", "CC BY 4.0", "Collaborative Distillation"),
    *("Stefan van der Walt", "Rachel Michetti", "NASA", "SpaceX", "models/CARD.md"),
)
COUNT = re.compile(r"(?<![\w-])\d[\d,]*(?![\w-])")


@pytest.mark.skipif(not (ROOT / "NOTICE").exists(), reason="needs the repository")
def test_the_notice_is_distributed_and_credits_every_source():
    project = read_toml(ROOT / "pyproject.toml")["project"]
    assert {"LICENSE", "NOTICE"} <= set(project["license-files"])
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert not [name for name in (*CREDITED, *PHOTOGRAPHS, *STYLES) if name not in notice]


def test_the_card_says_whose_pictures_each_file_of_weights_learnt_from():
    card = (MODELS / "CARD.md").read_text(encoding="utf-8")
    sources = card[card.index("## Whose pictures the weights learnt from") :]
    table = sources.split("\n\n")[2]
    listed = {name for row in table.splitlines() for name in re.split(r"[|,] *", row)}
    listed = {name.strip() for name in listed}
    assert not [path.stem for path in MODELS.glob("*.safetensors") if path.stem not in listed]


def test_the_counts_of_a_set_add_up():
    card = (MODELS / "CARD.md").read_text(encoding="utf-8")
    for title, tables in (("A", ["pictures"]), ("B", ["photographs", "paintings"])):
        section = card[card.index(f"**Set {title}**") :]
        totals = re.match(r"\S+ \S+ ([\d,]+) photographs and ([\d,]+) paintings", section).groups()
        rows = ""
        for head in tables:
            rows += section[section.index(f"| {head} | ") :].split("\n\n")[0]
        first_cells = re.findall(r"^\| ([^|]+) \|", rows, re.MULTILINE)
        counts = [int(n.replace(",", "")) for cell in first_cells for n in COUNT.findall(cell)]
        assert sum(counts) == sum(int(total.replace(",", "")) for total in totals)
