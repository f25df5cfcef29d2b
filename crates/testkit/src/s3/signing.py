"""An S3 server that checks signatures: moto, with one user who has one key and may do everything.

Prints its port, the key and its secret on one line, and serves until it is killed.
"""

import json
import os
import sys
import threading

# So many requests, those below, need no signature.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "4"

import boto3
from moto.server import ThreadedMotoServer

bucket = sys.argv[1]
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()


def client(service):
    return boto3.client(
        service,
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
    )


everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
iam = client("iam")
iam.create_user(UserName="carrel")
iam.put_user_policy(UserName="carrel", PolicyName="everything", PolicyDocument=policy)
key = iam.create_access_key(UserName="carrel")["AccessKey"]
client("s3").create_bucket(Bucket=bucket)
print(port, key["AccessKeyId"], key["SecretAccessKey"], flush=True)
threading.Event().wait()
