"""The pack that knows AWS: boto3 and botocore are imported nowhere else, and here only inside functions."""
