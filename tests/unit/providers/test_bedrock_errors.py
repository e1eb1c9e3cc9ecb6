from __future__ import annotations

import msgspec
import pytest
from botocore.loaders import Loader

from farthing.errors import UpstreamError, UpstreamRateLimited, UpstreamRefusedUs, UpstreamRejected, UpstreamTimeout, UpstreamUnavailable
from farthing.providers.bedrock_errors import NAMED, CredentialsExpired, error_inside, error_of

SERVICE = Loader().load_service_model("bedrock-runtime", "service-2")
CALLED = ("Converse", "ConverseStream", "InvokeModel")
LISTED = sorted({one["shape"] for name in CALLED for one in SERVICE["operations"][name]["errors"]})
IN_STREAMS = sorted(
    name for name, one in SERVICE["shapes"]["ConverseStreamOutput"]["members"].items() if SERVICE["shapes"][one["shape"]].get("exception")
)


def said(name: str, status: int = 400, text: str = "so it is") -> UpstreamError:
    return error_of("up", status, {"x-amzn-errortype": name}, msgspec.json.encode({"message": text}))


@pytest.mark.parametrize("name", LISTED)
def test_every_error_that_aws_lists_is_in_the_table(name: str) -> None:
    assert name in NAMED
    status = SERVICE["shapes"][name]["error"]["httpStatusCode"]
    assert type(said(name, status)) is NAMED[name]


@pytest.mark.parametrize("name", IN_STREAMS)
def test_every_exception_that_can_come_in_a_stream_is_in_the_table(name: str) -> None:
    assert len(IN_STREAMS) == 5
    error = error_inside("up", {":exception-type": name}, b'{"message": "so it is"}')
    assert type(error) is NAMED[name[:1].upper() + name[1:]]
    assert error.message == "so it is"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ThrottlingException", UpstreamRateLimited),
        ("ServiceQuotaExceededException", UpstreamRateLimited),
        ("ModelTimeoutException", UpstreamTimeout),
        ("ModelErrorException", UpstreamUnavailable),
        ("ModelNotReadyException", UpstreamUnavailable),
        ("ValidationException", UpstreamRejected),
        ("AccessDeniedException", UpstreamRefusedUs),
        ("ExpiredTokenException", CredentialsExpired),
        ("SignatureDoesNotMatch", UpstreamRefusedUs),
    ],
)
def test_the_name_goes_before_the_status(name: str, kind: type[UpstreamError]) -> None:
    assert type(said(name, 400)) is kind


@pytest.mark.parametrize(
    "spelt", ["ThrottlingException", "ThrottlingException:http://internal/coral/", "com.amazon.coral#ThrottlingException"]
)
@pytest.mark.parametrize("place", ["header", "body"])
def test_a_name_is_found_however_it_is_spelt(spelt: str, place: str) -> None:
    headers = {"x-amzn-errortype": spelt} if place == "header" else {}
    error = error_of("up", 400, headers, msgspec.json.encode({"Message": "slow", **({"__type": spelt} if place == "body" else {})}))
    assert (type(error), error.message, error.upstream_code) == (UpstreamRateLimited, "slow", "ThrottlingException")


def test_an_error_of_something_on_the_way_goes_by_its_status() -> None:
    kinds = {424: UpstreamUnavailable, 418: UpstreamRejected, 429: UpstreamRateLimited, 502: UpstreamUnavailable, 504: UpstreamTimeout}
    for status, kind in kinds.items():
        assert type(error_of("up", status, {}, b"<html>")) is kind


def test_what_aws_says_of_accounts_and_signatures_is_kept_from_the_caller() -> None:
    told = "User: arn:aws:iam::123456789012:user/ops is not authorized to perform: bedrock:InvokeModel"
    for name in ("AccessDeniedException", "InvalidSignatureException", "ExpiredTokenException"):
        error = said(name, 403, told)
        assert "123456789012" not in repr(vars(error))
        assert name in error.message
        assert "providers.up" in error.message
        assert error.wire()[1]["code"] == "upstream_credentials"


def test_an_error_message_of_a_stream_may_be_in_its_headers() -> None:
    error = error_inside("up", {":message-type": "error", ":error-code": "ServiceUnavailable", ":error-message": "later"}, b"")
    assert (type(error), error.message) == (UpstreamUnavailable, "later")


@pytest.mark.parametrize("payload", [b"", b"[]", b"\xff", b"{", b'{"message": 7}'])
def test_an_exception_that_cannot_be_read_is_still_one(payload: bytes) -> None:
    error = error_inside("up", {":exception-type": "brandNewException"}, payload)
    assert type(error) is UpstreamUnavailable
    assert error.message
