"""Records of classes that have changed since they were saved: each field is found by its name, or it is refused."""

from __future__ import annotations

import sys

import msgspec
import pytest

from streamcore.batch import plain, record_forms
from streamcore.batch.record_forms import SavedRecord, formerly
from streamcore.errors import StateCodecError, UsageError
from tests.module_versions import install

OLD = """
@dataclass
class Account:
    owner: str
    balance: int
    tries: int = 0

class Visit(NamedTuple):
    page: str
    seconds: int

class Order(msgspec.Struct):
    item: str
    amount: int

class Color(enum.Enum):
    RED = 1
    BLUE = 2
"""
NEW = """
@dataclass
class Account:
    tries: int
    balance: float
    limit: int = 10
    tags: list = field(default_factory=list)

class Visit(NamedTuple):
    seconds: int
    page: str
    agent: str = "unknown"

class Order(msgspec.Struct, kw_only=True):
    amount: float
    item: str
    express: bool = False

class Color(enum.Enum):
    GREEN = 3
    BLUE = 2
"""


@pytest.fixture
def shop(monkeypatch):
    return install(monkeypatch, OLD)


def account(*fields):
    """The source of another class Account."""
    return "@dataclass\nclass Account:\n" + "".join(f"    {field}\n" for field in fields)


def test_fields_are_found_by_name(monkeypatch, shop):
    records = [shop.Account("ann", 3, 1), shop.Visit("/", 4), shop.Order("tea", 2), shop.Color.BLUE]
    data = plain.encode({"k": [*records, (*records,)]})
    new = install(monkeypatch, NEW)
    wanted = [new.Account(1, 3.0, 10, []), new.Visit(4, "/", "unknown"), new.Order(amount=2.0, item="tea")]
    found: set[str] = set()
    back = plain.decode(data, changes=found)
    assert back == {"k": [*wanted, new.Color.BLUE, (*wanted, new.Color.BLUE)]}
    assert [type(record.balance) for record in back["k"][:1]] == [float]
    assert found == {
        "Account: field limit is new, field tags is new, field owner is dropped, field balance was int and is float",
        "Visit: field agent is new",
        "Order: field express is new, field amount was int and is float",
    }
    again: set[str] = set()
    assert plain.decode(plain.encode(back), changes=again) == back
    assert not again


def test_an_order_of_fields_that_has_changed_is_said_too(monkeypatch, shop):
    data = plain.encode([shop.Account("ann", 3, 1)])
    new = install(monkeypatch, account("tries: int", "owner: str", "balance: int"))
    found: set[str] = set()
    assert plain.decode(data, changes=found) == [new.Account(1, "ann", 3)]
    assert found == {"Account: its fields are in another order"}


def test_defaults_are_not_shared(monkeypatch, shop):
    data = plain.encode([shop.Account("ann", 3), shop.Account("bob", 4)])
    install(monkeypatch, NEW)
    first, second = plain.decode(data)
    first.tags.append("x")
    assert second.tags == []


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (
            account("owner: str", "balance: int", "iban: str"),
            "Account has a field iban without default, which the snapshot does not have (it has owner, balance, tries)",
        ),
        (account("owner: str", "balance: str"), "Account has field balance as str, and in the snapshot it is int"),
        (account("owner: str", "tries: bool"), "Account has field tries as bool, and in the snapshot it is int"),
        ("class Account(dict): ...", "no record class any more"),
        ("class Account(enum.Enum):\n    X = 1", "no record class any more"),
        ("", "class shop.Account, which is not loaded"),
    ],
)
def test_what_does_not_fit_is_refused(monkeypatch, shop, new, message):
    data = plain.encode(shop.Account("ann", 3))
    install(monkeypatch, new)
    with pytest.raises(StateCodecError) as caught:
        plain.decode(data)
    assert message in caught.value.message


def test_a_field_may_become_optional_and_back_where_there_is_a_value(monkeypatch, shop):
    data = plain.encode([shop.Account("ann", 3)])
    optional = install(monkeypatch, account("owner: str | None", "balance: float | None", "tries: Any = 0"))
    assert plain.decode(data) == [optional.Account("ann", 3.0, 0)]
    back, gap = (plain.encode([optional.Account(name, 3.0, 0)]) for name in ("ann", None))
    new = install(monkeypatch, account("owner: str", "balance: float", "tries: int"))
    assert plain.decode(back) == [new.Account("ann", 3.0, 0)]
    with pytest.raises(StateCodecError, match="owner as str, and in the snapshot there is a value None"):
        plain.decode(gap)
    install(monkeypatch, OLD)
    with pytest.raises(StateCodecError, match=r"Account has field balance as int, and in the snapshot it is float\?"):
        plain.decode(back)


def test_an_integer_that_no_float_equals_is_refused(monkeypatch, shop):
    exact, inexact = (plain.encode(shop.Account("ann", 2**60 + more)) for more in (0, 1))
    install(monkeypatch, account("owner: str", "balance: float"))
    assert plain.decode(exact).balance == 2.0**60
    with pytest.raises(StateCodecError, match="there is a value 1152921504606846977"):
        plain.decode(inexact)


def test_a_class_that_has_moved_is_found_by_its_former_name(monkeypatch, shop):
    monkeypatch.setattr(record_forms, "_former", {})
    data = plain.encode([shop.Account("ann", 3), shop.Color.BLUE])
    install(monkeypatch, "")
    new = install(monkeypatch, OLD, "new_home")
    with pytest.raises(StateCodecError, match=r"class shop\.Account, which is not loaded") as caught:
        plain.decode(data)
    assert '@formerly("shop.Account")' in caught.value.hint
    formerly("shop.Account", "older.Account")(new.Account)
    formerly("shop.Color")(new.Color)
    assert plain.decode(data) == [new.Account("ann", 3), new.Color.BLUE]
    again = install(monkeypatch, OLD, "new_home")
    formerly("shop.Account")(again.Account)  # the module was loaded again
    with pytest.raises(UsageError, match="Account has been named so"):
        formerly("shop.Account")(new.Visit)
    with pytest.raises(UsageError, match="it lacks the module"):
        formerly("Account")(new.Account)


def test_a_member_that_is_gone_is_refused_and_left_as_its_name_where_fields_are_wanted(monkeypatch, shop):
    data = plain.encode([shop.Color.RED, shop.Color.BLUE])
    new = install(monkeypatch, NEW)
    with pytest.raises(StateCodecError, match=r"Color\.RED, and the enum has no such member"):
        plain.decode(data)
    assert plain.decode(data, as_fields=True) == ["RED", new.Color.BLUE]
    install(monkeypatch, "")
    assert plain.decode(data, as_fields=True) == ["RED", "BLUE"]


def test_records_as_fields_even_of_classes_that_are_gone(monkeypatch, shop):
    value = {"k": [shop.Account("ann", 3, 1), shop.Visit("/", 2)], (1, shop.Visit("a", 1)): {shop.Visit("b", 2)}}
    data = plain.encode(value)
    fields = plain.decode(data, as_fields=True)
    assert fields["k"] == [{"owner": "ann", "balance": 3, "tries": 1}, {"page": "/", "seconds": 2}]
    assert fields["k"][0].saved_class == "shop.Account"
    assert plain.rebuilt(fields) == value
    install(monkeypatch, "")
    again = plain.decode(data, as_fields=True)
    assert again == fields
    assert isinstance(again["k"][0], SavedRecord)


def test_records_of_snapshots_from_before_fields_had_names_are_read(shop):
    body = msgspec.msgpack.encode(["shop", "Account", ["ann", 3, 1]])
    data = msgspec.msgpack.encode([msgspec.msgpack.Ext(9, body)])
    assert plain.decode(data) == [shop.Account("ann", 3, 1)]
    assert plain.decode(data, as_fields=True) == [{"owner": "ann", "balance": 3, "tries": 1}]


def test_what_many_records_share_is_saved_once(shop):
    one, many = (len(plain.encode([shop.Account("ann", 3)] * count)) for count in (1, 1001))
    assert (many - one) / 1000 < 20


def test_a_class_that_has_itself_inside(monkeypatch):
    shop = install(monkeypatch, "@dataclass\nclass Tree:\n    n: int\n    below: list")
    tree = shop.Tree(1, [shop.Tree(2, []), shop.Tree(3, [shop.Tree(4, [])])])
    data = plain.encode([tree, tree])
    assert plain.decode(data) == [tree, tree]
    new = install(monkeypatch, "@dataclass\nclass Tree:\n    below: list\n    n: int\n    name: str = ''")
    assert plain.decode(data)[0].below[1].below == [new.Tree([], 4)]


def test_nothing_is_imported_to_find_a_class(shop):
    del sys.modules["shop"]
    forged = msgspec.msgpack.Ext(13, msgspec.msgpack.encode([0, "this", "d", "a", "."]))
    data = msgspec.msgpack.encode(msgspec.msgpack.Ext(14, msgspec.msgpack.encode([forged, 1])))
    with pytest.raises(StateCodecError, match=r"this\.d, which is not loaded"):
        plain.decode(data)
    assert "this" not in sys.modules
