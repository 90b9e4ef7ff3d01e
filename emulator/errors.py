"""Errors: the API's own status for a call, one sentence for a failed start."""

from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2


class EmulatorError(Exception):
    """The emulator cannot start or do what was asked; the message says what, found, expected and the next command."""


@dataclass(frozen=True)
class Violation:
    """One broken rule of a request; `field` is its path, such as `config_spec.subclusters_spec[0].role`."""

    field: str
    description: str


class ApiError(Exception):
    """A call that ends with a status other than OK."""

    def __init__(self, code: grpc.StatusCode, message: str, violations: tuple[Violation, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.violations = violations


def not_found(what: str, id_: str) -> ApiError:
    return ApiError(grpc.StatusCode.NOT_FOUND, f"{what} {id_!r} not found")


def failed_precondition(message: str) -> ApiError:
    return ApiError(grpc.StatusCode.FAILED_PRECONDITION, message)


def invalid(violations: list[Violation]) -> ApiError:
    text = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
    return ApiError(grpc.StatusCode.INVALID_ARGUMENT, f"Request validation error: {text}", tuple(violations))


def status_number(code: grpc.StatusCode) -> int:
    return code.value[0]


def to_status(error: ApiError, request_id: str) -> status_pb2.Status:
    """google.rpc.Status with the request's id and, for a broken request, its field violations."""
    details: list[any_pb2.Any] = []
    if error.violations:
        bad = error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.description)
                for violation in error.violations
            ]
        )
        details.append(_pack(bad))
    details.append(_pack(error_details_pb2.RequestInfo(request_id=request_id)))
    return status_pb2.Status(code=status_number(error.code), message=error.message, details=details)


def _pack(message: error_details_pb2.BadRequest | error_details_pb2.RequestInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
