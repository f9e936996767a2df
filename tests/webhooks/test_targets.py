"""Where webhooks may go."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from workflow_engine.kernel.webhooks.targets import BadTarget, Target, TargetRules, check_address, target_of

STRICT = TargetRules()
REFUSED_ADDRESSES = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.254", "127.0.0.1", "127.255.255.254",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1",
    "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
    "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1",
    "2001:10::1", "2001:20::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "4000::1", "5f00::1", "fc00::1",
    "fd12:3456::1", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "ff02::1", "ff0e::1", "::ffff:0:127.0.0.1",
]  # fmt: skip
PUBLIC_ADDRESSES = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.0.0.1", "128.0.0.1",
    "172.15.0.1", "172.32.0.1", "192.0.1.1", "192.167.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.254",
    "2606:4700:4700::1111", "2a00:1450:4001::1", "2003::1",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(BadTarget, match="must not be at"):
        check_address(ip_address(address), STRICT)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_public_addresses_are_fine(address: str) -> None:
    check_address(ip_address(address), STRICT)


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_a_project_may_allow_all_addresses(address: str) -> None:
    check_address(ip_address(address), TargetRules(allow_private=True))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "1 to 2000 characters"),
        ("https://example.com/" + "x" * 2000, "1 to 2000 characters"),
        ("http://example.com/", "begin with https"),
        ("ftp://example.com/", "begin with https"),
        ("file:///etc/passwd", "begin with https"),
        ("gopher://example.com/", "begin with https"),
        ("javascript:alert(1)", "begin with https"),
        ("//example.com/", "begin with https"),
        ("example.com", "begin with https"),
        ("https://user@example.com/", "no user name"),
        ("https://user:pass@example.com/", "no user name"),
        ("https://@example.com/", "no user name"),
        ("https://example.com@127.0.0.1/", "no user name"),
        ("https://example.com\\@127.0.0.1/", "backslash"),
        ("https://example.com/a b", "printable ASCII"),
        ("https://example.com/\r\nHost: other", "printable ASCII"),
        ("https://exämple.com/", "printable ASCII"),
        ("https://example.com/ä", "printable ASCII"),
        ("https://example.com/#part", "no fragment"),
        ("https://", "name a host"),
        ("https:///path", "name a host"),
        ("https://:443/", "name a host"),
        ("https://-x.example.com/", "name a host"),
        ("https://a..b/", "name a host"),
        ("https://%6cocalhost/", "name a host"),
        ("https://[::1", "no URL"),
        ("https://[::1]/", "must not be at"),
        ("https://[::ffff:10.0.0.1]/", "must not be at"),
        ("https://[fe80::1%25eth0]/", "must not be at|name a host"),
        ("https://127.0.0.1/", "must not be at"),
        ("https://169.254.169.254/latest/meta-data/", "must not be at"),
        ("https://10.1.2.3/", "must not be at"),
        ("https://127.1/", "an address in full"),
        ("https://2130706433/", "an address in full"),
        ("https://0x7f000001/", "an address in full"),
        ("https://0177.0.0.1/", "an address in full"),
        ("https://127.0.0.1./", "an address in full"),
        ("https://localhost/", "this computer"),
        ("https://LOCALHOST./", "this computer"),
        ("https://api.localhost/", "this computer"),
        ("https://example.com:22/", "must have a port"),
        ("https://example.com:80/", "must have a port"),
        ("https://example.com:0/", "must have a port"),
        ("https://example.com:99999/", "no URL"),
        ("https://example.com:x/", "no URL"),
    ],
)
def test_a_url_that_nothing_is_sent_to_is_told_why(url: str, problem: str) -> None:
    with pytest.raises(BadTarget, match=problem):
        target_of(url, STRICT)


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        ("https://example.com", Target("https", "example.com", 443, "/"), "example.com"),
        ("HTTPS://Example.COM/In?a=1&b=2", Target("https", "example.com", 443, "/In?a=1&b=2"), "example.com"),
        ("https://example.com:443/x", Target("https", "example.com", 443, "/x"), "example.com"),
        ("https://xn--bcher-kva.example:8443/", Target("https", "xn--bcher-kva.example", 8443, "/"), None),
        ("https://1.1.1.1/", Target("https", "1.1.1.1", 443, "/"), "1.1.1.1"),
        (
            "https://[2606:4700:4700::1111]/",
            Target("https", "2606:4700:4700::1111", 443, "/"),
            "[2606:4700:4700::1111]",
        ),
    ],
)
def test_a_url_is_taken_apart(url: str, target: Target, authority: str | None) -> None:
    found = target_of(url, STRICT)

    assert found == target
    assert found.authority == (authority or f"{target.host}:{target.port}")


def test_what_the_settings_allow_is_allowed() -> None:
    http = TargetRules(allow_http=True)
    local = TargetRules(allow_http=True, allow_private=True, ports=())

    assert target_of("http://example.com/", http).port == 80
    assert target_of("http://localhost:8000/", local).authority == "localhost:8000"
    assert target_of("http://127.0.0.1:1/", local).port == 1
    with pytest.raises(BadTarget):
        target_of("http://127.0.0.1/", http)


def test_a_url_is_shown_without_its_query() -> None:
    assert target_of("https://example.com/a?token=hush", STRICT).shown == "https://example.com/a"
