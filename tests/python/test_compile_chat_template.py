"""Templates that put strings around messages become those strings; others are refused with a reason."""

from __future__ import annotations

import jinja2
import pytest
from small_llama import CHATML

from mobile_multimodal.compile.chat_template import ChatStrings, derive_chat_strings

NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
# A begin token in front of the first message whoever speaks, and line breaks that a renderer must take away.
BEGUN = (
    "{{ bos_token }}{% for message in messages %}<role>{{ message['role'] }}</role>\n\n{{ message['content'] }}<eot>"
    "{% endfor %}{% if add_generation_prompt %}<role>assistant</role>\n\n{% endif %}"
)
BY_ROLE = """{% for message in messages %}
{% if message['role'] == 'assistant' %}
[model] {{ message['content'] + eos_token }}
{% else %}
[{{ message['role'] }}] {{ message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
[model]
{% endif %}
{% endfor %}"""


@pytest.mark.parametrize("template", [CHATML, BEGUN, BY_ROLE])
def test_strings_say_what_the_template_says(template: str) -> None:
    strings = derive_chat_strings(template, NAMES)
    assert isinstance(strings, ChatStrings)
    compiled = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(template)
    talk = [("system", "Be brief."), ("user", "How are you?"), ("assistant", "Well."), ("user", "Good.")]
    for messages in (talk, talk[1:], talk[1:2], talk[:2]):
        content = [{"role": role, "content": text} for role, text in messages]
        expected = compiled.render(messages=content, add_generation_prompt=True, **NAMES)
        assert strings.render(messages, asks_reply=True) == expected


def test_the_parts_of_chatml() -> None:
    strings = derive_chat_strings(CHATML, NAMES)
    assert isinstance(strings, ChatStrings)
    assert strings.opening == "<|im_start|>system\nBe kind.<|im_end|>\n"
    assert strings.around["user"] == ("<|im_start|>user\n", "<|im_end|>\n")
    assert strings.reply == "<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for m in messages %}[{{ m['content'] | trim }}]{% endfor %}", "more than to put strings"),
        ("{% for m in messages %}[{{ m['content'] | upper }}]{% endfor %}", "every message once"),
        ("{% for m in messages %}[{{ m['content'] | e }}]{% endfor %}", "more than to put strings"),
        ("{% for m in messages %}{{ loop.index }}:{{ m['content'] }};{% endfor %}", "depends on"),
        ("{{ messages[-1]['content'] }}", "every message once"),
        ("{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{% endfor %}", "every message once"),
        ("no messages at all", "every message once"),
        ("{{ raise_exception('no system message') }}", "no system message"),
        ("{% for m in messages %}", "fails"),
        ("{{ strftime_now('%d') }}", "fails"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "fails"),
        ("{{ messages.append(1) }}", "fails"),
        ("x" * (1 << 17), "65536 bytes"),
    ],
)
def test_other_templates_are_refused_with_a_reason(template: str, reason: str) -> None:
    found = derive_chat_strings(template, NAMES)
    assert isinstance(found, str)
    assert reason in found


def test_a_template_cannot_run_for_ever() -> None:
    """The sandbox bounds ranges: a loop of 10^9 rounds is an error, not a hang."""
    found = derive_chat_strings("{% for i in range(10 ** 9) %}x{% endfor %}", NAMES)
    assert isinstance(found, str)
    assert "fails" in found
