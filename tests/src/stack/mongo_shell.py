"""Commands to members of a replica set: a line of JSON in, `[id, address, command]`, gives a line
of JSON out, `[id, answer]`, where the answer is null if there was no good one in two seconds."""

import json
import sys

import pymongo
from bson import json_util

clients = {}


def ask(address, command):
    if address not in clients:
        clients[address] = pymongo.MongoClient(
            f"mongodb://{address}/?directConnection=true",
            serverSelectionTimeoutMS=1000,
            connectTimeoutMS=1000,
            socketTimeoutMS=2000,
            heartbeatFrequencyMS=1000,
        )
    name = command.pop("$db", "admin")
    try:
        return clients[address][name].command(command)
    except pymongo.errors.PyMongoError as error:
        print(address, command, error, file=sys.stderr, flush=True)
        return None


for line in sys.stdin:
    number, address, command = json_util.loads(line)
    options = json_util.RELAXED_JSON_OPTIONS
    answer = json_util.dumps([number, ask(address, command)], json_options=options)
    print(answer, flush=True)
