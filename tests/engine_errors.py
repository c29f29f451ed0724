"""Errors as engines and services word them."""

import json

from curate.models.reply_body import read_error


def error(status, body):
    return read_error(status, body.encode() if isinstance(body, str) else json.dumps(body).encode(), "")


def openai(message, **more):
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}}


def vllm(message):
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}


def google(message, status="INVALID_ARGUMENT", code=400):
    return [{"error": {"code": code, "message": message, "status": status}}]
