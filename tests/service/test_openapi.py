"""The core does what its own OpenAPI document says: requests made from it, good and bad, at a real core."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from schemathesis.specs.openapi.schemas import OpenApiSchema
from tests.service.core_process import MODEL, CoreProcess, edit_request
from tests.service.raw_http import bearer, request

from lazydiffusion.client import Edit
from lazydiffusion.service.errors import Refusal

pytestmark = [pytest.mark.integration, pytest.mark.slow]

STOP = "POST /v1/stop"
"""Tested by itself, because it ends the core."""
REQUESTS = {
    "GET /v1/health", "GET /v1/info", "POST /v1/edits", "GET /v1/edits/{id}/events", "GET /v1/edits/{id}/fills/{k}",
    "POST /v1/edits/{id}/keep", "DELETE /v1/edits/{id}", "GET /v1/history", "GET /v1/history/{id}/fills/{k}/thumbnail",
    "DELETE /v1/history/{id}", "DELETE /v1/history", "POST /v1/models/{name}/{what}", "POST /v1/models/{name}/download",
    "DELETE /v1/models/{name}/download", STOP,
}  # fmt: skip
EXAMPLES = 40
"""Right ones, and wrong ones, of each request."""
GENERATED = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def edit(tcp_process: CoreProcess) -> Edit:
    """One that is done, so that there is something to ask for."""
    made = tcp_process.client().submit(edit_request())
    made.wait()
    return made


@pytest.fixture(scope="module")
def document(tcp_process: CoreProcess) -> dict[str, Any]:
    found = request(tcp_process.address(), tcp_process.token(), "GET", "/v1/openapi.json")
    values: dict[str, Any] = json.loads(found.body)
    return values


@pytest.fixture(scope="module")
def described(tcp_process: CoreProcess, document: dict[str, Any]) -> OpenApiSchema:
    """The document without the token, which here comes with every request: else most wrong ones would lack it."""
    described = schemathesis.openapi.from_dict({**document, "security": []})
    described.config.update(base_url=f"http://{tcp_process.address().removeprefix('tcp:')}")
    return described


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("what", sorted(REQUESTS - {STOP}))
def test_every_request_is_answered_as_the_document_says(
    described: OpenApiSchema, tcp_process: CoreProcess, what: str, mode: GenerationMode
) -> None:
    """No status 500 and above, nothing that is not described, and what is described as wrong is not accepted.

    Whether all that is described as right is accepted cannot be asked of edits: that the bytes of the pictures fit
    the sizes in the part before them is more than a document can say.
    """
    method, path = what.split()
    left_out = [positive_data_acceptance] if path == "/v1/edits" else []
    headers = {"Authorization": bearer(tcp_process.token())}

    @GENERATED
    @given(described[path][method].as_strategy(mode))
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=headers, excluded_checks=left_out, timeout=10)

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # where nothing is asked for, nothing can be asked wrongly


@pytest.mark.parametrize(
    "what", sorted(what for what in REQUESTS if what.startswith("GET") and "{id}" in what)
)
def test_what_is_there_is_answered_as_the_document_says(
    described: OpenApiSchema, tcp_process: CoreProcess, edit: Edit, what: str
) -> None:
    """Of ids that are made up none would ever be found."""
    method, path = what.split()
    found = {"id": edit.id, **({"k": 0} if "{k}" in path else {})}
    case = described[path][method].Case(path_parameters=found)
    response = case.call(headers={"Authorization": bearer(tcp_process.token())}, timeout=10)
    assert response.status_code == 200
    case.validate_response(response)


def test_it_describes_what_there_is_and_asks_for_a_token(document: dict[str, Any]) -> None:
    requests = {
        f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods
    }
    assert requests == REQUESTS
    assert document["security"] == [{"token": []}]
    assert document["paths"]["/v1/health"]["get"]["security"] == []


def test_the_documentation_tells_every_status() -> None:
    told = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf8")
    statuses = {kind.status for kind in Refusal.__subclasses__()}
    assert 423 in statuses
    assert [status for status in sorted(statuses) if f" {status} " not in told.replace("\n", " ")] == []


def test_after_all_this_the_core_still_edits(tcp_process: CoreProcess) -> None:
    core = tcp_process.client()
    assert core.info()["queue"] == {"running": False, "waiting": 0, "client": ""}
    assert len(core.submit(edit_request()).wait()) == 1
    assert next(m for m in core.info()["models"] if m["name"] == MODEL)["state"] == "loaded"
    assert "Traceback" not in tcp_process.said()


def test_stopping_is_answered_and_then_done(new_process: Callable[..., CoreProcess]) -> None:
    process = new_process()
    process.start("--tcp", "127.0.0.1:0")
    found = request(process.address(), process.token(), "POST", "/v1/stop")
    assert (found.status, json.loads(found.body)) == (202, {"status": "stopping"})
    assert process.wait(10) == 0
    assert not (process.runtime / "core.json").exists()
