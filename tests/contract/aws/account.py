"""The account that the emulated AWS has."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3
import msgspec

from farthing.aws.credentials import Keys
from farthing.testing.aws import Ministack

REGION = "us-east-1"


@cache
def client(aws: Ministack, service: str) -> Any:
    """As the root of the account. Making one takes a tenth of a second."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client(service, endpoint_url=aws.url, region_name=REGION, **keys)


def someone(aws: Ministack, allowed: str) -> Keys:
    """A new user who may do what matches a pattern, such as `bedrock:*`."""
    iam = client(aws, "iam")
    name = f"user-{allowed.partition(':')[0]}"
    iam.create_user(UserName=name)
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": allowed, "Resource": "*"}]}
    iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=msgspec.json.encode(policy).decode())
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return Keys(access_key_id=made["AccessKeyId"], secret_access_key=made["SecretAccessKey"])
