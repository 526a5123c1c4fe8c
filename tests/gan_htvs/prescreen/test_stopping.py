from __future__ import annotations

from gan_htvs.prescreen.prescreen_settings import PrescreenSettings
from gan_htvs.prescreen.stopping import shipped_rule


def test_no_shipped_rule_for_other_settings():
    assert shipped_rule("CHGNet-0.3.0", "FIRE", 0.1) is None
    assert shipped_rule("SevenNet-0+MP2020", "CellAwareBFGS", 0.1) is None
    assert shipped_rule("CHGNet-0.3.0", "CellAwareBFGS", 0.02) is None


def test_recall_of_the_shipped_rule():
    rule = shipped_rule("CHGNet-0.3.0", "CellAwareBFGS", 0.1)
    quantile = rule.quantile_for(PrescreenSettings().recall, 0.2)
    (point,) = [p for p in rule.curves["0.2"] if p.quantile == quantile]
    assert point.recall >= 0.9
    assert point.cost < 1
    assert rule.n_relaxations >= 150
