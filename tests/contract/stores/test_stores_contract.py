from farthing.testing.budgets import BudgetStoreContract
from farthing.testing.stores import AnswerStoreContract, ChangesContract, KeyStoreContract, LedgerStoreContract


class TestKeys(KeyStoreContract):
    pass


class TestLedger(LedgerStoreContract):
    pass


class TestAnswers(AnswerStoreContract):
    pass


class TestChanges(ChangesContract):
    pass


class TestBudgets(BudgetStoreContract):
    pass
