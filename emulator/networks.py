"""What networks do beyond keeping their fields: a default security group, and ids of security groups' rules."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from yandex.cloud.operation.operation_pb2 import Operation
from yandex.cloud.vpc.v1.security_group_pb2 import SecurityGroup

from emulator.carry import carry
from emulator.cloud import Cloud
from emulator.gateway import Method
from emulator.iam import Caller
from emulator.ids import NETWORK, new_id
from emulator.kinds import Kind
from emulator.resources import Behaviour, Resources


class Networks(Behaviour):
    """NetworkService: a network comes with a security group for machines that have none."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def created(self, _request: Any, resource: Any) -> None:
        group = SecurityGroup(
            id=new_id(NETWORK),
            folder_id=resource.folder_id,
            network_id=resource.id,
            name=f"default-sg-{resource.id}",
            status=SecurityGroup.ACTIVE,
            default_for_network=True,
        )
        group.created_at.GetCurrentTime()
        self._cloud.store.put("security-group", group.id, group, owner=group.folder_id, name=group.name)
        resource.default_security_group_id = group.id

    def deleted(self, resource: Any) -> None:
        self._cloud.store.delete("security-group", resource.default_security_group_id)


class SecurityGroups(Behaviour):
    """SecurityGroupService: each rule has an id, by which UpdateRules removes it."""

    def __init__(self, cloud: Cloud, resources: Resources, kind: Kind) -> None:
        self._cloud = cloud
        self._resources = resources
        self._kind = kind

    def methods(self) -> Mapping[str, Method]:
        return {"UpdateRules": self._update_rules}

    def created(self, request: Any, resource: Any) -> None:  # noqa: ARG002  # a rule has an id of the service
        for rule in resource.rules:
            rule.id = rule.id or new_id(NETWORK)

    def updated(self, request: Any, resource: Any) -> None:
        self.created(request, resource)

    def _update_rules(self, request: Any, caller: Caller) -> Operation:
        record = self._cloud.store.require(self._kind.name, request.security_group_id)
        group = record.message(SecurityGroup)
        kept = [rule for rule in group.rules if rule.id not in request.deletion_rule_ids]
        del group.rules[:]
        group.rules.extend(kept)
        for spec in request.addition_rule_specs:
            _add_rule(spec, group)
        self._cloud.store.save(record, group)
        operation = self._resources.operation(self._kind, "UpdateRules", request, caller, group.id)
        return self._cloud.operations.succeed(operation.id, group)


def _add_rule(spec: Message, group: SecurityGroup) -> None:
    rule = group.rules.add(id=new_id(NETWORK))
    carry(spec, rule)
