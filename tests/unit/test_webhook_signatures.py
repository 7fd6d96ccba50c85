"""Signatures of Standard Webhooks, and where they are sent to."""

import base64
import hashlib
import hmac
from ipaddress import ip_address

import httpcore
import pytest

from gateway.webhooks.settings import NANOSECONDS, WebhookSettings
from gateway.webhooks.signatures import (
    SignatureRefused,
    make_secret,
    secret_of,
    secret_text,
    signed,
    verify,
)
from gateway.webhooks.targets import PublicNetwork, TargetRefused, check_address, check_url

NOW = 1_674_087_231
BODY = b'{"type":"move.created"}'


def test_what_is_signed() -> None:
    """Written out from the standard: id, time and body, joined by dots, by HMAC-SHA256, in Base64."""
    secret = make_secret()
    headers = signed("msg_1", NOW, BODY, [secret])
    expected = hmac.new(secret, b"msg_1.1674087231." + BODY, hashlib.sha256).digest()
    assert headers == {
        "webhook-id": "msg_1",
        "webhook-timestamp": "1674087231",
        "webhook-signature": "v1," + base64.b64encode(expected).decode(),
    }
    assert verify(headers, BODY, [make_secret(), secret], NOW + 300) == "msg_1"


def test_secrets_as_text() -> None:
    secret = make_secret()
    text = secret_text(secret)
    assert text.startswith("whsec_")
    assert secret_of(text) == secret
    for wrong in ("whsec_", "whsec_!!!!", "whsec_" + base64.b64encode(b"short").decode()):
        with pytest.raises(ValueError, match="a secret"):
            secret_of(wrong)


def test_any_of_several_signatures_will_do() -> None:
    old, new = make_secret(), make_secret()
    headers = signed("msg_1", NOW, BODY, [new, old])
    assert len(headers["webhook-signature"].split(" ")) == 2
    for key in (old, new):
        assert verify(headers, BODY, [key], NOW) == "msg_1"


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_2"},
        {"webhook-id": ""},
        {"webhook-timestamp": str(NOW + 1)},
        {"webhook-timestamp": "yesterday"},
        {"webhook-timestamp": "9" * 30},
        {"webhook-timestamp": "١٢٣"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "v1a,{good}"},
        {"webhook-signature": "v2,{good}"},
        {"webhook-signature": "{good}"},
        {"webhook-signature": "x " * 16 + "v1,{good}"},
    ],
    ids=str,
)
def test_what_is_not_signed_as_it_must_be(change: dict[str, str]) -> None:
    secret = make_secret()
    headers = signed("msg_1", NOW, BODY, [secret])
    good = headers["webhook-signature"].removeprefix("v1,")
    changed = headers | {name: value.replace("{good}", good) for name, value in change.items()}
    with pytest.raises(SignatureRefused):
        verify(changed, BODY, [secret], NOW)
    with pytest.raises(SignatureRefused):
        verify(headers, BODY + b" ", [secret], NOW)
    with pytest.raises(SignatureRefused):
        verify(headers, BODY, [make_secret()], NOW)


@pytest.mark.parametrize("seconds", [-301, 301, 10**9])
def test_what_is_too_old_or_from_the_future(seconds: int) -> None:
    secret = make_secret()
    with pytest.raises(SignatureRefused, match="too old"):
        verify(signed("msg_1", NOW, BODY, [secret]), BODY, [secret], NOW + seconds)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0"),  # noqa: S104  # refused
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1"),
        *("::1", "::", "fe80::1", "fc00::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
        *("64:ff9b::a00:1", "2002:a00:1::", "2001:0:a00:1::", "::7f00:1"),
    ],
)
def test_addresses_that_are_nobodys_business(address: str) -> None:
    with pytest.raises(TargetRefused):
        check_address(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(TargetRefused):
        check_url(f"https://{host}/hook", private=False)
    check_url(f"http://{host}/hook", private=True)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_of_the_internet(address: str) -> None:
    check_address(ip_address(address))


@pytest.mark.parametrize("url", ["http://example.com/", "https://10.0.0.1/", "https://user@example.com/"])
def test_urls_that_can_be_no_endpoint(url: str) -> None:
    check_url("https://example.com:8443/hook?from=us", private=False)
    with pytest.raises(TargetRefused):
        check_url(url, private=False)


async def test_a_name_is_looked_at_when_it_is_connected_to() -> None:
    """Whatever it stood for before."""
    with pytest.raises(TargetRefused):
        await PublicNetwork(private=False).connect_tcp("localhost", 9)
    with pytest.raises(httpcore.ConnectError):
        await PublicNetwork(private=True).connect_tcp("localhost", 9)


def test_settings_come_from_the_environment() -> None:
    given = {"TESSERA_WEBHOOK_TIMEOUT_S": "3", "TESSERA_WEBHOOK_PRIVATE": "true"}
    settings = WebhookSettings.from_environment(given, private=False)
    assert (settings.timeout_s, settings.private) == (3.0, False)
    assert WebhookSettings.from_environment(given, private=None).private
    for wrong in ("soon", "0", "-1"):
        with pytest.raises(ValueError, match=r"(?i)timeout_s"):
            WebhookSettings.from_environment({"TESSERA_WEBHOOK_TIMEOUT_S": wrong})


def test_pauses_grow_and_differ() -> None:
    settings = WebhookSettings()
    low = [settings.pause_ns(attempt, 0.0, lambda: 0.0) / NANOSECONDS for attempt in range(1, 14)]
    high = [settings.pause_ns(attempt, 0.0, lambda: 1.0) / NANOSECONDS for attempt in range(1, 14)]
    assert low[0] == 2.5
    assert high[0] == 7.5
    assert low == sorted(low)
    assert high[-1] == 1.5 * settings.longest_pause_s
    days = (sum(low) / 86_400, sum(high) / 86_400)
    assert 1 < days[0] < days[1] < 5
    assert settings.pause_ns(1, 3_600.0) == 3_600 * NANOSECONDS
    assert settings.pause_ns(1, 1e9) == settings.longest_pause_s * NANOSECONDS
    probes = [settings.probe_pause_ns(streak, 0.0) / NANOSECONDS for streak in range(6, 20)]
    assert probes[:5] == [0, 0, 1, 2, 4]
    assert probes[-1] == settings.longest_probe_pause_s
