"""What is wrong with a body is said in plain words, whichever route it was sent to."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest

from sentinel.api.body import parse
from sentinel.api.problems import ProblemError
from sentinel.api.routes.experiments import ExperimentRequest, ShareRequest
from sentinel.api.routes.features import FeaturesRequest
from sentinel.api.routes.labels import LabelRequest, LabelsRequest
from sentinel.api.routes.payment_bodies import BatchRequest, PredictRequest
from sentinel.api.routes.policy import PolicyRequest
from sentinel.api.routes.voids import VoidsRequest
from sentinel.domain import ConfigurationError, InvalidTransaction
from sentinel.experiments.lineup import Kind
from sentinel.policy.terms_file import read_terms

REQUESTS = (
    *(PredictRequest, BatchRequest, LabelRequest, LabelsRequest, FeaturesRequest),
    *(VoidsRequest, PolicyRequest, ExperimentRequest, ShareRequest),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 1, -1, 0, 1.5, 2**70, 1e300, "", "x", "x" * 2000, [], {}, [1], [[1]], [None]),
    *({"a": 1}, [{"a": [1]}], [{}], [{"verdict": "x"}], [{"amount_minor": -1}]),
)


def said_of(decoder: msgspec.json.Decoder[Any], body: bytes) -> str:
    """What is said of a body; empty if nothing is wrong with it."""
    try:
        parse(decoder, body)
    except InvalidTransaction as error:
        return str(error)
    return ""


@pytest.mark.parametrize("request_type", REQUESTS)
def test_no_route_answers_in_words_of_the_decoder(request_type: Any) -> None:
    decoder = msgspec.json.Decoder(request_type)
    for field in msgspec.structs.fields(request_type):
        for value in VALUES:
            said = said_of(decoder, json.dumps({field.name: value}).encode())
            for raw in ("Expected", "`", "got ", "$", "int ", "str "):
                assert raw not in said, (field.name, value, said)


def test_the_words_that_a_field_takes_are_its_own() -> None:
    with pytest.raises(InvalidTransaction) as refused:
        parse(msgspec.json.Decoder(ExperimentRequest), b'{"kind": "best"}')
    assert refused.value.fields["kind"] == f"is 'best'; allowed: {', '.join(get_args(Kind))}"
    with pytest.raises(InvalidTransaction) as refused:
        parse(msgspec.json.Decoder(LabelsRequest), b'{"labels": [{"verdict": "best"}]}')
    assert refused.value.fields["labels[0].verdict"] == "is 'best'; allowed: fraud, legitimate"


@pytest.mark.parametrize("request_type", REQUESTS)
@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b'{"a":', b'{"a": 1', b'{"a": 1}x', b"[1,", b'{"labels": [{"a"'),
        *(b'{"transactions": [{"a":', b'{"a": "\xff"}', b'{"amount_minor": "x",', b"["),
    ],
)
def test_what_is_cut_off_or_no_json_is_malformed(request_type: Any, body: bytes) -> None:
    """A field that is none, before the place where it ends, was named instead."""
    with pytest.raises(ProblemError) as refused:
        parse(msgspec.json.Decoder(request_type), body)
    assert (refused.value.problem.status, refused.value.problem.code) == (400, "malformed_json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("reviews_per_day = 'many'", "reviews_per_day must be a number"),
        ("costs = 3", "costs must be an object"),
        ("[costs]\nlost_share = 'all'", "costs.lost_share must be a number"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_in_plain_words(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_terms(text, "policy.toml")
    assert said in str(refused.value)
    assert not any(raw in str(refused.value) for raw in ("Expected", "`", "$"))
