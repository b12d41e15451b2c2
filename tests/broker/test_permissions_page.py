"""The permissions of a publish in docs/deliveries.md: they suffice, and each does what the page says."""

import json

import pytest
from support.pages import table, text
from support.streams import stored

from crypto_trigger.commands.server import Server

ROWS = table(text("docs/deliveries.md").partition("\n### jetstream\n")[2].partition("\n### ")[0])
STREAM, SUBJECT = "crypto-stats", "crypto.update"


@pytest.fixture
def publish(run, tmp_path):
    """Publish as a user that has all permissions of the page but one; the result, and how many messages are stored."""

    def call(left_out):
        rows = {subject: to for subject, (to, _) in ROWS.items() if subject != left_out}
        permitted = {
            verb: json.dumps([subject for subject, to in rows.items() if to.startswith(verb)] or ["nothing"])
            for verb in ("publish", "subscribe")
        }
        config = tmp_path / "server.conf"
        config.write_text(
            "accounts { A { jetstream: enabled, users: [ { user: all, password: all }\n"
            f"{{ user: some, password: pw, permissions: {{ publish: {permitted['publish']}, "
            f"subscribe: {permitted['subscribe']} }} }}\n] }} }}"
        )
        with Server(arguments=("-c", str(config))) as server:
            admin, user = (server.url.replace("://", f"://{name}@") for name in ("all:all", "some:pw"))
            assert run("setup", "-s", admin).status == 0
            result = run("publish", "-v", "--json", "-s", user, "--give-up-after", "5s")
            return result, len(stored(admin, STREAM))

    return call


def test_the_permissions_of_the_page_suffice(publish):
    result, held = publish(None)
    assert held == 1
    assert (result.status, json.loads(result.out)["guard"]) == (0, "compare-and-set")
    assert "permission" not in result.err


@pytest.mark.parametrize("left_out", ROWS)
def test_without_one_of_them_it_is_as_the_page_says(left_out, publish):
    result, held = publish(left_out)
    effect = ROWS[left_out][1]
    if effect == "77":
        assert (held, result.status) == (0, 77)
        return
    assert (held, result.status) == (1, 0)
    guard = json.loads(result.out)["guard"]
    assert (guard == "msg-id") == effect.startswith("the msg id alone guards the slot")
    assert ("clock of this host decides" in result.err) == effect.startswith("this host's clock decides the slot")
