"""Runs snippets of Python and says what came of it.

A request is one line of JSON: {"kind", "snippet", "values"}; the answer is {"value"} or {"error": a traceback}. Kinds:
"ask" answers with what the snippet returns, "later" answers first and runs it then.
"""

import ast
import contextlib
import json
import linecache
import traceback


class Runner:
    """Runs them; `keep` is a dict that lasts from one to the next."""

    def __init__(self):
        self._keep = {}
        self._count = 0

    def answer(self, told, scope):
        """What a test is told: the value, which must be JSON, or a traceback."""
        try:
            value = self.run(told, scope)
            json.dumps(value)
        except BaseException:
            return {"error": traceback.format_exc()}
        return {"value": value}

    def run(self, told, scope):
        self._count += 1
        name = f"<snippet {self._count}>"
        snippet = told["snippet"]
        # For tracebacks, which show the lines.
        linecache.cache[name] = (len(snippet), None, snippet.splitlines(keepends=True), name)
        scope = {**scope, "keep": self._keep, **told["values"]}
        exec(compile(as_function(snippet), name, "exec"), scope)
        return scope["snippet"]()


def as_function(snippet):
    """The snippet as the body of a function named snippet; an expression alone is what it returns."""
    body = ast.parse(snippet).body
    if len(body) == 1 and isinstance(body[0], ast.Expr):
        body = [ast.copy_location(ast.Return(body[0].value), body[0])]
    module = ast.parse("def snippet(): pass")
    if body:
        module.body[0].body = body
    return module


def send(connection, answer):
    """Answer; a test that gave up waiting has said so."""
    with contextlib.suppress(ConnectionError):
        connection.sendall(json.dumps(answer).encode() + b"\n")
