"""What every call goes through: outage, token, validation, the work itself, the lost reply, the event log."""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from yandex.cloud.iam.v1.iam_token_service_pb2 import CreateIamTokenResponse
from yandex.cloud.operation.operation_pb2 import Operation

from emulator.access import Access, Allowed, Need
from emulator.errors import ApiError, Violation, invalid, status_number, to_status
from emulator.events import EventLog
from emulator.faults import FaultKind, Faults
from emulator.iam import ANONYMOUS, Caller, Iam
from emulator.paging import check_page
from emulator.store import Store
from emulator.validation import violations

Method = Callable[[Any, Caller], Message]
Check = Callable[[Any], Iterable[Violation]]
Needs = Callable[[str, Any], Iterable[Need]]

_IDEMPOTENCY_HEADER = "idempotency-key"


def no_needs(_method: str, _request: Any) -> Iterable[Need]:
    """The permissions of a service that any account may call."""
    return ()


@dataclass(frozen=True)
class Service:
    """One API service: its description and the methods that are emulated."""

    descriptor: ServiceDescriptor
    methods: Mapping[str, Method]
    checks: Mapping[str, Check] = field(default_factory=dict)  # by method: rules that its description does not carry
    needs: Needs = no_needs  # permissions that a call needs
    anonymous: bool = False  # called before there is a token


class _Status(grpc.Status):
    """A status with details, in the form that a servicer's context takes."""

    def __init__(self, status: status_pb2.Status) -> None:
        self.code = next(code for code in grpc.StatusCode if status_number(code) == status.code)
        self.details = status.message
        self.trailing_metadata = (("grpc-status-details-bin", status.SerializeToString()),)


@dataclass(frozen=True)
class Gateway:
    """Turns services into gRPC handlers."""

    store: Store
    events: EventLog
    iam: Iam
    faults: Faults
    access: Access
    excuses: Callable[[Violation, Message], bool]  # broken rules that the real API is known not to hold

    def handler(self, service: Service) -> grpc.GenericRpcHandler:
        """Handlers of all methods of a service; those not emulated answer UNIMPLEMENTED to any caller with access."""
        methods = {
            method.name: grpc.unary_unary_rpc_method_handler(
                self._behaviour(service, method),
                request_deserializer=GetMessageClass(method.input_type).FromString,
                response_serializer=GetMessageClass(method.output_type).SerializeToString,
            )
            for method in service.descriptor.methods
        }
        return grpc.method_handlers_generic_handler(service.descriptor.full_name, methods)

    def _behaviour(self, service: Service, method: MethodDescriptor) -> Callable[[Message, Any], Message]:
        def behave(request: Message, context: Any) -> Message:
            started = time.monotonic()
            call = _Call(self, service, method, context)
            try:
                return call.answer(request)
            except ApiError as error:
                call.code = error.code
                context.abort_with_status(_Status(to_status(error, call.request_id)))
                raise  # not reached: abort raises
            finally:
                self.events.write("call", **call.fields(time.monotonic() - started))

        return behave


class _Call:
    """One call on its way through the gateway."""

    def __init__(self, gateway: Gateway, service: Service, method: MethodDescriptor, context: Any) -> None:
        self.code = grpc.StatusCode.INTERNAL  # until shown otherwise
        self.request_id = str(uuid.uuid4())
        self._gateway = gateway
        self._service = service
        self._method = method
        self._metadata = dict(context.invocation_metadata())
        self._caller = ANONYMOUS
        self._found: dict[str, str] = {}
        self._allowed: list[Allowed] = []

    def answer(self, request: Message) -> Message:
        faults = self._gateway.faults
        if fault := faults.take(FaultKind.API_UNAVAILABLE):
            raise ApiError(grpc.StatusCode[fault.status], "The API is unavailable (a fault of the emulator)")
        if not self._service.anonymous:
            self._caller = self._gateway.iam.authenticate(self._metadata.get("authorization"))
        function = self._service.methods.get(self._method.name)
        if function is None:
            raise ApiError(grpc.StatusCode.UNIMPLEMENTED, f"{self._method.full_name} is not emulated")
        if found := self._broken(request):
            raise invalid(found)
        needs = self._service.needs(self._method.name, request)
        self._allowed = self._gateway.access.require(self._caller.id, needs)
        response = self._once(function, request)
        self._note(request, response)
        short_name = f"{self._service.descriptor.name}/{self._method.name}"
        if fault := faults.take(FaultKind.REPLY_LOST, name=getattr(request, "name", ""), method=short_name):
            raise ApiError(grpc.StatusCode[fault.status], "The reply was lost (a fault of the emulator)")
        self.code = grpc.StatusCode.OK
        return response

    def _broken(self, request: Message) -> list[Violation]:
        """Everything that is wrong with a request: by its description, then by the service's own rules.

        The latter say nothing of fields that the description refuses already.
        """
        found = violations(request)
        refused = {violation.field for violation in found}
        for check in (check_page, self._service.checks.get(self._method.name, _nothing)):
            found += [more for more in check(request) if more.field not in refused]
        return [violation for violation in found if not self._gateway.excuses(violation, request)]

    def _once(self, function: Method, request: Message) -> Message:
        """Do the work in one transaction, once for each idempotency key and caller.

        Services refuse before they change anything; a refused call changes only the count of a fault.
        """
        store = self._gateway.store
        key = self._metadata.get(_IDEMPOTENCY_HEADER)
        record_id = f"{self._caller.id}/{self._method.full_name}/{key}"
        with store.transaction():
            if key and (seen := store.get("idempotency", record_id)) and (done := store.get("operation", seen.owner)):
                return done.message(Operation)
            response: Message | None = None
            refusal: ApiError | None = None
            try:
                response = function(request, self._caller)
            except ApiError as error:
                refusal = error
            else:
                if key and isinstance(response, Operation):
                    store.put("idempotency", record_id, owner=response.id)
        if response is None:
            raise refusal or AssertionError("neither a response nor a refusal")
        return response

    def _note(self, request: Message, response: Message) -> None:
        """The ids of the resources that the call names."""
        for name in ("cluster_id", "job_id", "secret_id", "operation_id"):
            if value := getattr(request, name, ""):
                self._found[name] = str(value)
        if isinstance(response, Operation):
            self._found["operation_id"] = response.id
        if isinstance(response, CreateIamTokenResponse):  # whose token it is, not the token
            self._caller = self._gateway.iam.authenticate(f"Bearer {response.iam_token}")

    def fields(self, seconds: float) -> dict[str, object]:
        return {
            "service": self._service.descriptor.full_name,
            "method": self._method.name,
            "caller": self._caller.id or None,
            "caller_name": self._caller.name or None,
            "key_id": self._caller.key_id or None,
            "code": self.code.name,
            "request_id": self.request_id,
            "milliseconds": round(seconds * 1000, 1),
            "allowed": [allowed.fields() for allowed in self._allowed],
            **self._found,
        }


def _nothing(_request: Message) -> Iterable[Violation]:
    """The check of a method without rules of its own."""
    return ()
