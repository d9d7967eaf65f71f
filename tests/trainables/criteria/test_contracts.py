"""Every criterion of the table keeps to the contract."""

from tests.contracts import CriterionContract
from trainables.criteria import (
    BNM,
    CRITERIA,
    DEV,
    DEVN,
    SND,
    ClassAMI,
    ClassConfusion,
    Entropy,
    InformationMaximization,
    MixVal,
    Oracle,
    SourceValidation,
    TransferScore,
)


class TestBNM(CriterionContract):
    criterion = BNM


class TestClassAMI(CriterionContract):
    criterion = ClassAMI


class TestClassConfusion(CriterionContract):
    criterion = ClassConfusion


class TestDEV(CriterionContract):
    criterion = DEV


class TestDEVN(CriterionContract):
    criterion = DEVN


class TestEntropy(CriterionContract):
    criterion = Entropy


class TestInformationMaximization(CriterionContract):
    criterion = InformationMaximization


class TestMixVal(CriterionContract):
    criterion = MixVal


class TestOracle(CriterionContract):
    criterion = Oracle


class TestSND(CriterionContract):
    criterion = SND
    prefers_right_predictions = False  # all images alike: every one has all others as neighbours


class TestSourceValidation(CriterionContract):
    criterion = SourceValidation


class TestTransferScore(CriterionContract):
    criterion = TransferScore


def test_every_criterion_has_a_contract() -> None:
    tested = {v.criterion for name, v in globals().items() if name.startswith("Test")}
    missing = [name for name, criterion in CRITERIA.items() if criterion not in tested]
    assert not missing, f"write a subclass of CriterionContract here for {missing}"
