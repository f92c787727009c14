"""Network connections, in the form of KDD Cup 1999: rules over what is known of each, and its size against the usual.

The rules say what each kind of attack looks like on the wire, in terms of the features that the data comes with (counts
are of the two seconds before a connection, rates are shares of them); they are not fitted to the labels.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from streamcore import DataStream, Expression, Schema, StreamEnvironment, col
from streamcore.apps.conventions import is_topics, messages
from streamcore.connectors.base import Source
from streamcore.connectors.csv_source import CsvSource

SHIPPED = Path(__file__).parent / "data" / "kddcup99_10_percent.csv.gz"

_WORDS = ("protocol", "service", "flag", "label")
_SHARES = (
    *("serror_rate", "srv_serror_rate", "rerror_rate", "srv_rerror_rate", "same_srv_rate", "diff_srv_rate"),
    *("srv_diff_host_rate", "dst_host_same_srv_rate", "dst_host_diff_srv_rate", "dst_host_same_src_port_rate"),
    *("dst_host_srv_diff_host_rate", "dst_host_serror_rate", "dst_host_srv_serror_rate", "dst_host_rerror_rate"),
    "dst_host_srv_rerror_rate",
)
COLUMNS = (
    *("duration", "protocol", "service", "flag", "src_bytes", "dst_bytes", "land", "wrong_fragment", "urgent", "hot"),
    *("num_failed_logins", "logged_in", "num_compromised", "root_shell", "su_attempted", "num_root"),
    *("num_file_creations", "num_shells", "num_access_files", "num_outbound_cmds", "is_host_login", "is_guest_login"),
    *("count", "srv_count", "serror_rate", "srv_serror_rate", "rerror_rate", "srv_rerror_rate", "same_srv_rate"),
    *("diff_srv_rate", "srv_diff_host_rate", "dst_host_count", "dst_host_srv_count", "dst_host_same_srv_rate"),
    *("dst_host_diff_srv_rate", "dst_host_same_src_port_rate", "dst_host_srv_diff_host_rate", "dst_host_serror_rate"),
    *("dst_host_srv_serror_rate", "dst_host_rerror_rate", "dst_host_srv_rerror_rate", "label"),
)
CONNECTION = Schema.of(**{name: str if name in _WORDS else float if name in _SHARES else int for name in COLUMNS})
"""The 41 features of a connection and its label, in the order of the file, which has no header."""

RULES: dict[str, tuple[str, Expression]] = {
    "echo_flood": ("many pings to one service", (col("protocol") == "icmp") & (col("srv_count") >= 50)),
    "ping_sweep": (
        "pings of host after host",
        (col("protocol") == "icmp") & (col("srv_diff_host_rate") >= 0.5) & (col("dst_host_same_src_port_rate") >= 0.9),
    ),
    "half_open": ("connections left half open", (col("serror_rate") >= 0.5) & (col("count") >= 5)),
    "port_scan": (
        "refused at port after port",
        (col("rerror_rate") >= 0.5) & ((col("count") >= 20) | (col("diff_srv_rate") >= 0.5)),
    ),
    "slow_scan": (
        "refused at one port now and then",
        (col("dst_host_diff_srv_rate") >= 0.5) & (col("dst_host_rerror_rate") >= 0.5),
    ),
    "malformed": ("malformed packets", (col("wrong_fragment") > 0) | (col("land") > 0)),
    "guessing": ("failed logins", col("num_failed_logins") > 0),
    "intruder": (
        "signs of a shell that was taken over",
        (col("root_shell") > 0) | (col("num_compromised") > 2) | (col("num_file_creations") > 2) | (col("hot") >= 10),
    ),
}
"""Name of a rule → in words, and as an expression over the columns."""

LEARNING_RATE = 0.01
USUAL_AFTER = 20
LEAST_SPREAD = 1.0
MOST_DEVIATIONS = 6.0


class Service(NamedTuple):
    """What is remembered of a service: connections so far, and EWMA of the logarithm of the bytes sent to it, and of
    how far connections lie from that."""

    seen: int = 0
    usual: float = 0.0
    spread: float = 1.0


class Judged(NamedTuple):
    """A connection and what speaks against it.

    Attributes:
        number: which connection to its service it is, from 1.
        rules: the names of the rules that it breaks, with commas between.
        deviations: by how many times the usual spread the bytes sent (their logarithm) are off the service's usual.
        score: from 0 to 1.
    """

    service: str
    number: int
    src_bytes: int
    rules: str
    deviations: float
    score: float
    label: str


def judge(service: Service, connection: Any) -> tuple[Service, Judged]:
    """The connection judged by the rules and by its service's past, and the service with it in its past."""
    broken = [name for name in RULES if getattr(connection, name)]
    logarithm = math.log1p(max(connection.src_bytes, 0))
    off = logarithm - service.usual if service.seen else 0.0
    deviations = abs(off) / max(service.spread, LEAST_SPREAD) if service.seen >= USUAL_AFTER else 0.0
    usual, spread = service.usual, service.spread
    if not broken:  # a flood must not become the usual
        change = max(min(off, 3 * spread), -3 * spread)
        usual = usual + LEARNING_RATE * change if service.seen else logarithm
        spread += LEARNING_RATE * (abs(change) - spread)
    honest = 0.1 ** len(broken) / (1 + math.exp(min(2 * (deviations - MOST_DEVIATIONS), 50.0)))
    number = service.seen + 1
    judged = Judged(
        connection.service,
        number,
        connection.src_bytes,
        ",".join(broken),
        deviations,
        1 - honest,
        connection.label.rstrip("."),
    )
    return Service(number, usual, spread), judged


def judged_connections(env: StreamEnvironment, path: str) -> tuple[DataStream[Judged], DataStream[Any]]:
    """The connections of a file in the form of KDD Cup 1999 (gzip as it is) or of topics, judged in order for each
    service; and what could not be read."""
    source: Source[Any] = CsvSource(path, CONNECTION, header=False, on_error="side_output")
    if is_topics(path):
        source = messages(path, CONNECTION)
    connections = env.source(source, name="connections")
    features = ("service", "src_bytes", "label")
    checked = connections.select(*features, **{name: rule for name, (_, rule) in RULES.items()})
    checked = checked.parallelism(1)  # dealt out over several subtasks, the connections would lose their order
    judged = checked.key_by("service").scan(Service(), judge, returns=Judged, compiled=False)  # it has words in it
    return judged.uid("judge"), connections.bad_records()


def reasons(judged: Judged) -> list[str]:
    """Why a connection was given its score, in words."""
    found = [RULES[name][0] for name in judged.rules.split(",") if name]
    if judged.deviations > MOST_DEVIATIONS:
        found.append(
            f"size: {judged.src_bytes:,} bytes are {judged.deviations:.1f} spreads off what {judged.service} gets"
        )
    return found or ["several signs, none alone"]
