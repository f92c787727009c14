"""The example of docs/databases.md that needs a server: what it says of the tables is so."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "databases.md"


def test_the_example_on_postgresql_does_what_the_page_says(database, tmp_path):
    (code,) = re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tables,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    database.run(tables)
    columns = "(id bigint NOT NULL, item text NOT NULL, changed_at timestamp NOT NULL)"
    database.run(f"CREATE TABLE orders {columns}")
    database.run(f"CREATE TABLE archive {columns}")
    database.run("CREATE TABLE counts (item text PRIMARY KEY, count bigint)")
    database.run("INSERT INTO orders SELECT i, 'item ' || i % 3, now() FROM generate_series(1, 100) AS i")
    for given, ours in (
        ("postgresql://user:password@localhost/shop", database.dsn),
        ("/tmp/shop-checkpoints", tmp_path),
    ):
        assert given in code
        code = code.replace(given, str(ours))
    exec(compile(code, str(PAGE), "exec"), {})
    assert database.run("SELECT * FROM archive ORDER BY id") == database.run("SELECT * FROM orders ORDER BY id")
    assert sorted(database.run("SELECT * FROM counts")) == [("item 0", 33), ("item 1", 34), ("item 2", 33)]
