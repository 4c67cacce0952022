"""What one of several processes finds out before it has met the others."""

from __future__ import annotations

import pytest

from fcn_train import processes
from fcn_train.errors import UsageError
from fcn_train.launcher import Place
from fcn_train.processes import Processes, joined


def test_attempt_of_nobody_knows_which_run_is_refused() -> None:
    here = Processes(Place(attempt=3))
    message = r"does not say which run .*\(TORCHELASTIC_RESTART_COUNT is 3\); .* --resume RUN"
    with pytest.raises(UsageError, match=message):
        here.run_before()
    assert here.run_before(resumes=True) is None
    assert Processes(Place()).run_before() is None


def test_address_where_nobody_can_be_met_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "70000"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    message = r"process 1 of 2 cannot meet the others by 127\.0\.0\.1:70000 \(port must .* 65535"
    with pytest.raises(UsageError, match=message):
        joined()
    assert processes._joined is None
