"""Renders chat-templates.json and jinja.json anew: python3 chat-templates.py. Needs Jinja2 3.1; the environment is the one that transformers makes."""
import datetime
import json
import pathlib

from jinja2 import ext, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent


class Raised(Exception):
    pass


class Generation(ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise Raised(message)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols])
    made.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = datetime.datetime(2025, 7, 4, 15, 5, 9).strftime
    return made


ENVIRONMENT = environment()


def render(template, tokens, messages, prompt):
    """("text", what is rendered), ("raises", the template's own message), or ("fails", None) where Jinja itself refuses."""
    try:
        given = dict(messages=messages, tools=None, documents=None, add_generation_prompt=prompt, **tokens)
        return "text", ENVIRONMENT.from_string(template).render(**given)
    except Raised as error:
        return "raises", str(error)
    except Exception:
        return "fails", None


def main():
    path = HERE / "chat-templates.json"
    file = json.loads(path.read_text())
    for model in file["models"]:
        model["renderings"] = []
        for i, messages in enumerate(file["conversations"]):
            for prompt in (False, True):
                kind, text = render(model["template"], model["tokens"], messages, prompt)
                model["renderings"].append({"conversation": i, "prompt": prompt, kind: text})
    path.write_text(json.dumps(file, ensure_ascii=False, indent=1) + "\n")
    path = HERE / "jinja.json"
    file = json.loads(path.read_text())
    for case in file["cases"]:
        kind, text = render(case["template"], {"bos_token": "<s>"}, file["messages"][:case["count"]], case["prompt"])
        assert kind == "text", case
        case["text"] = text
    path.write_text(json.dumps(file, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
