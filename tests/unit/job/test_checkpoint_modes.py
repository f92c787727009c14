"""Which settings of checkpoint modes go together, and in which mode a checkpoint begins."""

import pytest

from streamcore import Checkpointing
from streamcore.errors import UsageError
from streamcore.runtime.elements import Mode


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ({}, Mode.ALIGNED),
        ({"mode": "exactly-once"}, Mode.ALIGNED),
        ({"mode": "at-least-once"}, Mode.AT_LEAST_ONCE),
        ({"unaligned": True}, Mode.UNALIGNED),
        ({"unaligned": True, "aligned_timeout": 5}, Mode.ALIGNED),
        ({"aligned_timeout": 5}, Mode.ALIGNED),
        ({"aligned_timeout": 0}, Mode.UNALIGNED),
    ],
)
def test_the_mode_in_which_a_checkpoint_begins(settings, mode):
    assert Checkpointing("somewhere", **settings).begins is mode


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "exactly once"}, "there is no checkpoint mode 'exactly once'"),
        ({"mode": "at-least-once", "unaligned": True}, "unaligned doesn't go with at-least-once"),
        ({"mode": "at-least-once", "aligned_timeout": 1}, "aligned_timeout doesn't go with at-least-once"),
        (
            {"aligned_timeout": -1},
            "aligned_timeout is -1 s: it must be from 0 to below the checkpoint's timeout, 600 s",
        ),
        ({"aligned_timeout": 20, "timeout": 20}, "aligned_timeout is 20 s"),
    ],
)
def test_what_does_not_go_together_is_refused(settings, message):
    with pytest.raises(UsageError) as refused:
        Checkpointing("somewhere", **settings)
    assert message in str(refused.value)
    assert refused.value.hint
