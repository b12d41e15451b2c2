"""What is shown of a text that may hold a secret."""

import base64
import os

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from crypto_trigger.errors import ConfigError
from crypto_trigger.settings.load import load
from crypto_trigger.settings.masking import keep, mask_url, masked, secrets_in, shown

KEYS = {
    "EC": ec.generate_private_key(ec.SECP256R1()),
    "EC P-384": ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "RSA": rsa.generate_private_key(65537, 1024),
}
FORMATS = {
    "PKCS8": serialization.PrivateFormat.PKCS8,
    "own": serialization.PrivateFormat.TraditionalOpenSSL,
    "OpenSSH": serialization.PrivateFormat.OpenSSH,
}
PAIRS = [(kind, form) for kind in KEYS for form in FORMATS if (kind, form) != ("Ed25519", "own")]
FILES = ["NATS_CA", "NATS_CERT", "NATS_KEY", "NATS_CREDS", "NATS_NKEY", "NATS_PASSWORD_FILE", "NATS_CONTEXT"]


def pem(kind, form):
    written = KEYS[kind].private_bytes(serialization.Encoding.PEM, FORMATS[form], serialization.NoEncryption())
    return written.decode().strip()


def without_frame(text):
    return "\n".join(line for line in text.splitlines() if "-----" not in line)


@pytest.mark.parametrize(
    "shape", ["whole", "without its frame", "on one line", "body on one line", "escaped", "in quotes"]
)
@pytest.mark.parametrize(("kind", "form"), [pair for pair in PAIRS if pair[1] != "OpenSSH"], ids=" ".join)
def test_a_private_key_given_in_the_place_of_its_file_is_not_shown(kind, form, shape):
    whole = pem(kind, form)
    body = without_frame(whole)
    text = {
        "whole": whole,
        "without its frame": body,
        "on one line": whole.replace("\n", " "),
        "body on one line": body.replace("\n", ""),
        "escaped": body.replace("\n", "\\n"),
        "in quotes": f'"{body}"',
    }[shape]
    hidden = body.splitlines()[-2 if len(body.splitlines()) > 1 else 0][:20]
    assert hidden in text
    for variable in FILES:
        with pytest.raises(ConfigError) as caught:
            load({}, os.devnull, {variable: text})
        assert hidden not in str(caught.value)
        assert "***" in str(caught.value)
    for argument in (
        {"env_files": text, "environ": {}},
        {"env_files": os.devnull, "environ": {"NATS_CONTEXT": f"{text}.json"}},
    ):
        with pytest.raises(ConfigError) as caught:
            load({}, **argument)
        assert hidden not in str(caught.value)


@pytest.mark.parametrize("kind", KEYS)
def test_an_openssh_key_with_its_frame_is_not_shown(kind):
    text = pem(kind, "OpenSSH")
    with pytest.raises(ConfigError) as caught:
        load({}, os.devnull, {"NATS_KEY": text})
    assert text.splitlines()[1] not in str(caught.value)


def test_a_jwt_given_in_the_place_of_its_file_is_not_shown():
    token = ".".join(
        base64.urlsafe_b64encode(part).decode().strip("=") for part in (b'{"typ":"JWT"}', b"{}" * 20, b"sig" * 20)
    )
    with pytest.raises(ConfigError) as caught:
        load({}, os.devnull, {"NATS_CREDS": token})
    assert token[:20] not in str(caught.value)


@pytest.mark.parametrize("kind", ["RSA", "EC"])
def test_a_line_from_the_middle_of_a_private_key_is_not_shown(kind):
    line = pem(kind, "PKCS8").splitlines()[2]
    assert len(line) == 64
    with pytest.raises(ConfigError) as caught:
        load({}, os.devnull, {"NATS_KEY": line})
    assert line[:20] not in str(caught.value)


def test_a_seed_in_small_letters_and_a_key_in_base64url_are_not_shown():
    key = KEYS["Ed25519"].private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for text in (f"su{'abcdefg2' * 7}", base64.urlsafe_b64encode(key[:-1] + b"\xff").decode(), f"SU{'A' * 56}"):
        with pytest.raises(ConfigError) as caught:
            load({}, os.devnull, {"NATS_NKEY": text})
        assert text[10:30] not in str(caught.value)


@pytest.mark.parametrize("path", ["/MAIN/certificates/of/the/company/in/production/ca", "certs/ca.pem", "~/nats.creds"])
def test_a_path_is_shown(path):
    with pytest.raises(ConfigError, match=f"NATS_CA '{path}' "):
        load({}, os.devnull, {"NATS_CA": path})


URLS = {
    "nats://u:PW@h1:4222,nats://u:PW": "nats://***@h1:4222,nats://u:***",
    "nats://h1:4222,nats://u:PW": "nats://h1:4222,nats://u:***",
    "nats://u:PW,nats://h:1": "nats://u:***",
    "nats://u:PW,PW,nats://h:1": "nats://u:***",
    "u:PW": "u:***",
    "nats://u:PW@PW:PW": "nats://***",
    "nats://u:1234567": "nats://u:***",
    "nats//u:PW": "nats***",
    "nats://h:65536": "nats://h:65536",
    "nats://a,,nats://b": "nats://a,,nats://b",
    "nats://${HOST}:4222": "nats://${HOST}:4222",
    "nats://[fe80::1%25eth0.5]:4222,[fe80::1%lo]": "nats://[fe80::1%25eth0.5]:4222,[fe80::1%lo]",
}


@pytest.mark.parametrize(("raw", "shown"), URLS.items())
def test_of_a_url_is_shown_what_is_no_credential(raw, shown):
    assert mask_url(raw) == shown


def test_an_address_with_a_zone_is_no_secret():
    assert list(secrets_in("nats://[fe80::1%25eth0]:4222,[fe80::1%lo]", is_address=True)) == []


def test_a_secret_is_masked_in_every_form_in_which_it_is_written():
    keep(["p@ss wörd/\\x"])
    forms = ["p@ss wörd/\\x", "p%40ss%20w%C3%B6rd%2F%5Cx", "p@ss wörd/\\\\x", "p@ss w\\xf6rd/\\x"]
    assert [masked(f"a {form} b") for form in forms] == ["a *** b"] * len(forms)


def test_a_secret_of_several_lines_is_masked_as_a_whole_and_line_by_line():
    keep(["first line\nsecond line\n"])
    assert masked("first line\nsecond line\n") == masked("first line") == masked("second line") == "***"


def test_a_long_text_is_cut_after_its_secrets_are_masked():
    secret = "s" * 100
    keep([secret])
    assert shown(f"x{secret}") == "x***"


@pytest.mark.parametrize(
    ("text", "is_address", "secrets"),
    [
        ("nats://worker:topsecret@h", True, ["topsecret"]),
        ("topsecret@h", True, ["topsecret"]),
        ("nats://a,nats://worker:topsecret@b", True, ["topsecret"]),
        ("nats://worker:topsecret", True, ["topsecret"]),
        ("nats://worker:topsecret@h", False, ["topsecret"]),
        ("nats://nats.example.org:4222", True, []),
        ("team@example.org", False, []),
        ("/etc/nats/ca.pem", False, []),
    ],
)
def test_of_an_address_the_password_is_the_secret_and_not_the_user_or_the_host(text, is_address, secrets):
    keep(secrets_in(text, is_address=is_address))
    assert [
        word for word in ("topsecret", "worker", "nats.example.org", "example.org") if masked(word) != word
    ] == secrets
