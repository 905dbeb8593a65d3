"""What the OpenAPI says of `POST /`."""

from __future__ import annotations

from typing import Any

from memindex.server.infini_gram_answers import MAXIMA, METHODS, REQUIRED

JSON = "application/json"

#: What a request must and may say.
DESCRIPTION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "required": ["index", "query_type"],
                    "properties": {
                        "index": {"type": "string", "description": "Its name; older clients send `corpus`."},
                        "query_type": {"type": "string", "enum": list(METHODS)},
                        "query": {"type": "string", "description": "A text; with ` AND ` and ` OR ` a CNF query."},
                        "query_ids": {
                            "type": "array",
                            "items": {},
                            "description": "Token ids instead of a text; of a CNF query, clauses of lists of ids.",
                        },
                        **{name: {"type": "integer", "minimum": 1, "maximum": most} for name, most in MAXIMA.items()},
                        **{name: {"type": "integer", "minimum": 0} for name in REQUIRED},
                    },
                }
            }
        },
    }
}

RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": what, "content": {JSON: {"schema": {"type": "object"}}}}
    for status, what in {
        200: "The answer, or `error`.",
        400: "`error`: no such index or query type, or a field is missing.",
        401: "`error`: no API key, or a wrong one.",
        408: "`error`: the body did not arrive in time.",
        413: "`error`: the body is too large.",
        415: "`error`: the body is no JSON.",
        421: "`error`: the server is not asked under the name in Host.",
        500: "`error`: an argument that the query type does not have, or something went wrong.",
        503: "`error`: too many requests wait, the index's files are gone, or the server is stopping.",
        504: "`error`: no answer in time.",
    }.items()
}
