import os
import time

from curate.ledger import leases
from curate.ledger.leases import Leases


def test_the_holder_of_a_lease_is_alive_until_it_gives_it_back(tmp_path):
    holder, other = Leases(tmp_path), Leases(tmp_path)
    holder.hold()

    assert other.is_alive(holder.owner)
    holder.drop()
    assert not other.is_alive(holder.owner)
    assert list(tmp_path.iterdir()) == []


def test_an_owner_nobody_knows_is_dead(tmp_path):
    assert not Leases(tmp_path).is_alive("host:123")


def test_a_lease_left_by_a_killed_process_is_cleared_away(tmp_path):
    (tmp_path / "killed").touch()

    assert not Leases(tmp_path).is_alive("killed")
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_is_silent_for_long_counts_as_dead_whatever_its_clock_says(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "SILENCE_S", 0.2)
    holder, other = Leases(tmp_path), Leases(tmp_path)
    holder.hold()
    tomorrow = time.time() + 86400
    os.utime(tmp_path / holder.owner, (tomorrow, tomorrow))

    assert other.is_alive(holder.owner)
    time.sleep(0.3)
    assert not other.is_alive(holder.owner)
    os.utime(tmp_path / holder.owner)
    assert other.is_alive(holder.owner)
    holder.drop()


def test_a_lease_is_taken_once_and_needs_no_giving_back_if_it_was_never_taken(tmp_path):
    holder = Leases(tmp_path)
    holder.drop()
    holder = Leases(tmp_path)
    holder.hold()
    holder.hold()
    holder.drop()
