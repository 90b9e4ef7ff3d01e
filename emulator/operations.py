"""Long-running operations: started by a call, ended by the clock or a job."""

from collections.abc import Callable

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from yandex.cloud.operation import operation_pb2, operation_service_pb2

from emulator.errors import failed_precondition, status_number
from emulator.events import EventLog
from emulator.iam import Caller
from emulator.ids import new_id
from emulator.store import Store


class Operations:
    """OperationService, and the start and end of operations."""

    def __init__(self, store: Store, events: EventLog) -> None:
        self._store = store
        self._events = events
        # By action: what ends such an operation early. Those left out cannot be cancelled.
        self.cancellers: dict[str, Callable[[str], None]] = {}

    def start(
        self, prefix: str, caller: Caller, action: str, target: str, description: str, metadata: Message
    ) -> operation_pb2.Operation:
        """A new operation on the resource `target`, not done yet."""
        operation = operation_pb2.Operation(
            id=new_id(prefix), description=description, created_by=caller.id, metadata=packed(metadata)
        )
        operation.created_at.GetCurrentTime()
        operation.modified_at.GetCurrentTime()
        self._store.put("operation", operation.id, operation, owner=target, name=action)
        self._log(operation, action, target, "STARTED")
        return operation

    def succeed(self, operation_id: str, response: Message) -> operation_pb2.Operation:
        return self._end(operation_id, response=response)

    def fail(self, operation_id: str, code: grpc.StatusCode, message: str) -> operation_pb2.Operation:
        return self._end(operation_id, error=status_pb2.Status(code=status_number(code), message=message))

    def running(self, target: str) -> str | None:
        """The id of the operation that still runs on a resource."""
        for record in self._store.find("operation", owner=target):
            if not record.message(operation_pb2.Operation).done:
                return record.id
        return None

    def of(self, target: str) -> list[operation_pb2.Operation]:
        """All operations of a resource, newest first."""
        return [record.message(operation_pb2.Operation) for record in reversed(self._store.find("operation", target))]

    def get(self, request: operation_service_pb2.GetOperationRequest, _caller: Caller) -> operation_pb2.Operation:
        record = self._store.require("operation", request.operation_id)
        return record.message(operation_pb2.Operation)

    def cancel(self, request: operation_service_pb2.CancelOperationRequest, caller: Caller) -> operation_pb2.Operation:
        record = self._store.require("operation", request.operation_id)
        canceller = self.cancellers.get(record.name)
        if record.message(operation_pb2.Operation).done or canceller is None:
            raise failed_precondition(f"Operation {record.id} ({record.name}) is done or cannot be cancelled")
        canceller(record.owner)
        return self.get(operation_service_pb2.GetOperationRequest(operation_id=record.id), caller)

    def _end(
        self, operation_id: str, response: Message | None = None, error: status_pb2.Status | None = None
    ) -> operation_pb2.Operation:
        record = self._store.require("operation", operation_id)
        operation = record.message(operation_pb2.Operation)
        operation.done = True
        operation.modified_at.GetCurrentTime()
        if error is not None:
            operation.error.CopyFrom(error)
        elif response is not None:
            operation.response.CopyFrom(packed(response))
        self._store.save(record, operation)
        self._log(operation, record.name, record.owner, "FAILED" if error is not None else "DONE")
        return operation

    def _log(self, operation: operation_pb2.Operation, action: str, target: str, state: str) -> None:
        code = operation.error.code if state == "FAILED" else None
        self._events.write(
            "operation", operation_id=operation.id, action=action, target=target, state=state, error_code=code
        )


def packed(message: Message) -> any_pb2.Any:
    result = any_pb2.Any()
    result.Pack(message)
    return result
