"""Memory for strangers' bodies: what ends gives it back, and who is evicted where it runs out."""

from receiver.web.body_budget import BodyBudget, Share


def share(budget: BodyBudget, evicted: list[str], name: str) -> Share:
    """Return a share that tells when it is evicted."""
    made = budget.share()
    made.on_eviction = lambda: evicted.append(name)
    return made


def test_bodies_within_the_budget_keep_their_place() -> None:
    evicted: list[str] = []
    budget = BodyBudget(100)
    with share(budget, evicted, "one") as one, share(budget, evicted, "two") as two:
        one.take(50)
        two.take(50)
    assert evicted == []
    with share(budget, evicted, "three") as three:
        three.take(100)
    assert evicted == [], "what ended has given its memory back"


def test_the_body_that_has_been_arriving_for_longest_is_evicted() -> None:
    evicted: list[str] = []
    budget = BodyBudget(100)
    with (
        share(budget, evicted, "first") as first,
        share(budget, evicted, "second") as second,
        share(budget, evicted, "third") as third,
    ):
        first.take(40)
        second.take(40)
        third.take(40)
        assert (evicted, first.is_evicted, second.is_evicted) == (["first"], True, False)
        first.take(1000)
        assert evicted == ["first"], "what was evicted takes no more"


def test_a_complete_body_stays_and_the_newest_is_refused() -> None:
    evicted: list[str] = []
    budget = BodyBudget(100)
    with share(budget, evicted, "stored") as stored:
        stored.take(90)
        stored.complete()
        with share(budget, evicted, "late") as late:
            late.take(20)
        assert evicted == ["late"]
