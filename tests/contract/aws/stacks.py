"""Stacks of deploy/aws in the emulated account, as they are."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import uuid4

from account import client

from farthing.testing.aws import Ministack

_DEPLOY = Path(__file__).parents[3] / "deploy" / "aws"


def deployed(aws: Ministack, name: str, **given: str) -> dict[str, str]:
    """The outputs of the template `deploy/aws/NAME/template.yaml`."""
    stacks, stack_name = client(aws, "cloudformation"), f"farthing-{name}-{uuid4().hex[:8]}"
    stacks.create_stack(
        StackName=stack_name,
        TemplateBody=(_DEPLOY / name / "template.yaml").read_text(),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    until = time.monotonic() + 60
    while (stack := stacks.describe_stacks(StackName=stack_name)["Stacks"][0])["StackStatus"] != "CREATE_COMPLETE":
        assert "IN_PROGRESS" in stack["StackStatus"], stacks.describe_stack_events(StackName=stack_name)["StackEvents"]
        assert time.monotonic() < until
        time.sleep(0.1)
    return {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
