"""Certificates: which ones are trusted, and for one that does not verify the true reason and what to do about it."""

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from support.certificates import EXPIRED, TO_COME, Authority
from support.lookups import found_here

from crypto_trigger.commands.server import Server


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """An authority, one that it has authorized, and what that one has issued."""
    folder = tmp_path_factory.mktemp("certificates")
    root, other = Authority(folder, "root"), Authority(folder, "other")
    middle = Authority(folder, "middle", root)
    # Two whose own certificates are out of date, with what they signed.
    late, old = Authority(folder, "late", root, lasts=EXPIRED), Authority(folder, "old", lasts=EXPIRED)
    return SimpleNamespace(
        root=root.path,
        middle=middle.path,
        other=other.path,
        old=old.path,
        alone=middle.issue("alone"),
        chain=middle.issue("chain", with_authority=True),
        expired=root.issue("expired", lasts=EXPIRED),
        to_come=root.issue("to-come", lasts=TO_COME),
        elsewhere=root.issue("elsewhere", ["nats.example", "*.nats.example", "192.0.2.1", "2001:db8::1"]),
        many=root.issue("many", [f"n{number}.example" for number in range(10)]),
        own=root.issue("own", self_signed=True),
        of_late=late.issue("of-late", with_authority=True),
        of_old=old.issue("of-old"),
        with_root=root.issue("with-root", with_authority=True),
        client=root.issue("client-only", for_servers=False),
    )


@contextmanager
def serving(tmp_path, pair):
    """A server that requires TLS and has JetStream; yields its port."""
    config = tmp_path / "server.conf"
    config.write_text(f'tls {{ cert_file: "{pair.cert}", key_file: "{pair.key}", timeout: 5 }}')
    with Server(arguments=("-c", str(config))) as server:
        yield int(server.url.rpartition(":")[2])


@pytest.fixture
def publish(run, place, monkeypatch):
    """Publish to a server on a port of this host; how it ended, and its report."""

    def call(port, ca=None, host="localhost", *, command="publish"):
        monkeypatch.setenv("NATS_URL", f"tls://u:correct-horse-battery@{host}:{port}")
        monkeypatch.setenv("NATS_CLUSTER_ID", place.stream)
        if ca:
            monkeypatch.setenv("NATS_CA", ca)
        ended = run(command, "--json", "--give-up-after", "5s")
        assert "correct-horse" not in ended.out + ended.err
        return ended, json.loads(ended.out)

    return call


@pytest.mark.parametrize("pair", ["alone", "chain"])
@pytest.mark.parametrize("ca", ["middle", "the server's own", "root"])
def test_every_certificate_in_nats_ca_is_trusted(pair, ca, papers, publish, tmp_path):
    pair = getattr(papers, pair)
    with serving(tmp_path, pair) as port:
        path = pair.cert if ca == "the server's own" else getattr(papers, ca)
        ended, report = publish(port, path, command="setup")
        if (ca, pair) == ("root", papers.alone):
            # The server does not send the certificate between the two.
            assert (ended.status, "its issuer 'middle authority' is not trusted" in ended.err) == (76, True)
            return
        assert (ended.status, ended.err) == (0, "")
        ended, report = publish(port, path)
        assert (ended.status, ended.err, report["outcome"]) == (0, "", "published")


def test_a_trusted_certificate_of_the_server_s_own_is_for_its_names_alone(papers, publish, tmp_path):
    with serving(tmp_path, papers.elsewhere) as port:
        ended, _ = publish(port, papers.elsewhere.cert)
    assert ended.status == 76
    assert "not for localhost" in ended.err


@pytest.mark.parametrize("delivery", ["jetstream", "core"])
def test_the_dot_at_the_end_of_a_host_is_not_in_its_certificate(delivery, papers, publish, tmp_path, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_DELIVERY", delivery)
    asked = found_here(monkeypatch, "nats.example.")
    with serving(tmp_path, papers.elsewhere) as port:
        if delivery == "jetstream":
            assert publish(port, papers.root, "nats.example.", command="setup")[0].status == 0
        ended, report = publish(port, papers.root, "nats.example.")
        assert (ended.status, ended.err, report["outcome"]) == (0, "", "published")
        assert set(asked) == {"nats.example."}
        # A certificate for another name is still refused, and the name is told without the dot.
        found_here(monkeypatch, "other.example.")
        ended, _ = publish(port, papers.root, "other.example.")
        assert (ended.status, "not for other.example;" in ended.err) == (76, True)


UNSET = "NATS_CA is not set: set it to a file with"
HINTS = {
    "expired": ("root", "it expired on {yesterday}", "renew it on the server"),
    "to_come": ("root", "it is valid from {tomorrow}", "check the clock of this host"),
    "of_late": ("root", "its issuer 'late authority' expired on {yesterday}", "renew it on the server"),
    "of_old": (
        "old",
        "the authority that issued it has expired",
        "replace that authority's certificate in NATS_CA, or in the system",
    ),
    "elsewhere": (
        "root",
        "it is for nats.example, *.nats.example, 192.0.2.1, 2001:db8::1, not for localhost",
        "check NATS_URL, or give the server a certificate for this name",
    ),
    "many": (
        "root",
        f"it is for {', '.join(f'n{number}.example' for number in range(8))} and 2 more, not for localhost",
        "check NATS_URL, or give the server a certificate for this name",
    ),
    "own": (
        "other",
        "it is self-signed, and not trusted",
        "NATS_CA '{ca}' (from the environment) does not contain this certificate",
    ),
    "alone": (
        "other",
        "its issuer 'middle authority' is not trusted",
        "NATS_CA '{ca}' (from the environment) does not contain that issuer's certificate",
    ),
    "chain": (
        "other",
        "its issuer 'root authority' is not trusted",
        "NATS_CA '{ca}' (from the environment) does not contain that issuer's certificate",
    ),
    "with_root": (
        "other",
        "its issuer 'root authority' is not trusted",
        "NATS_CA '{ca}' (from the environment) does not contain that issuer's certificate",
    ),
    "client": ("root", "unsuitable certificate purpose", "check the server's certificate"),
}


def days(count):
    """A time so many days from now, as far as it is in whole minutes."""
    return (datetime.now(UTC) + timedelta(days=count)).strftime("%Y-%m-%dT%H:")


@pytest.mark.parametrize("pair", HINTS)
def test_a_certificate_that_does_not_verify_is_told_with_its_own_reason(pair, papers, publish, tmp_path):
    ca, says, hint = HINTS[pair]
    ca = getattr(papers, ca)
    with serving(tmp_path, getattr(papers, pair)) as port:
        ended, report = publish(port, ca)
    error = report["error"]
    says = says.format(yesterday=days(-1), tomorrow=days(1))
    assert ended.status == 76
    assert error["message"].startswith(f"tls://localhost:{port}: the server's certificate does not verify: {says}")
    assert error["hint"] == hint.format(ca=ca)
    assert f"; {error['hint']}; " in ended.err


@pytest.mark.parametrize(("pair", "lacks"), [("own", "this certificate"), ("alone", "that issuer's certificate")])
def test_where_nats_ca_is_not_set_the_hint_says_what_it_lacks(pair, lacks, papers, publish, tmp_path):
    with serving(tmp_path, getattr(papers, pair)) as port:
        ended, report = publish(port)
    assert (ended.status, report["error"]["hint"]) == (76, f"{UNSET} {lacks}")


def test_a_wrong_address_is_told_with_the_addresses_of_the_certificate(papers, publish, tmp_path):
    with serving(tmp_path, papers.elsewhere) as port:
        ended, _ = publish(port, papers.root, "127.0.0.1")
    assert ended.status == 76
    assert "192.0.2.1, 2001:db8::1, not for 127.0.0.1;" in ended.err


def test_the_hint_names_the_env_file_that_nats_ca_comes_from(papers, publish, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"NATS_CA={papers.other}\n")
    with serving(tmp_path, papers.chain) as port:
        _, report = publish(port)
    assert (
        report["error"]["hint"]
        == f"NATS_CA '{papers.other}' (from .env line 1) does not contain that issuer's certificate"
    )


def test_check_tells_the_reason_too(run, papers, tmp_path, monkeypatch):
    monkeypatch.setenv("NATS_CA", papers.root)
    with serving(tmp_path, papers.expired) as port:
        ended = run("check", "--server", f"tls://localhost:{port}", "--give-up-after", "5s")
    assert ended.status in (2, 3)
    assert f"it expired on {days(-1)}" in ended.out


def test_without_the_certificate_the_reason_has_no_details(papers, publish, tmp_path, monkeypatch):
    """As on a Python that does not show a certificate which does not verify."""
    monkeypatch.setattr("crypto_trigger.deadline.certificates._decoded", lambda _: 1 / 0)
    for pair, says in {
        "expired": "it has expired",
        "to_come": "it is not valid yet",
        "elsewhere": "it is for another host",
        "alone": "its issuer is not trusted",
    }.items():
        with serving(tmp_path, getattr(papers, pair)) as port:
            ended, report = publish(port, papers.other if pair == "alone" else papers.root)
        assert ended.status == 76
        assert report["error"]["message"].endswith(f"the server's certificate does not verify: {says}")
