"""OpenAI's own client reads what the server answers on OpenAI's addresses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pybase64
import pytest
from serving_process import ServerProcess, picture

from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.serving import openai_schemas
from mobile_multimodal.serving.chat_intent import intent_of

MODEL = "mobile-mm-llm-int2"


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none needed", max_retries=0) as opened:
        yield opened


def address(root: Path, name: str = "cat.jpg") -> str:
    kind = "png" if name.endswith(".png") else "jpeg"
    return f"data:image/{kind};base64,{pybase64.b64encode_as_string(picture(root, name))}"


def messages(text: str, url: str) -> list[dict[str, object]]:
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("", "describe"),
        ("  \n", "describe"),
        ("Describe this picture.", "describe"),
        ("Please write a caption.", "describe"),
        ("What's in this image?", "describe"),
        ("What is in the picture?", "describe"),
        ("What does this photo show?", "describe"),
        ("Read the text.", "read"),
        ("OCR", "read"),
        ("Please transcribe this page", "read"),
        ("Extract all the text from the receipt", "read"),
        ("What does it say?", "read"),
        ("Is there an animal?", "answer"),
        ("What colour is the book that the boy reads?", "answer"),
        ("What is the man doing?", "answer"),
        ("Is she ready?", "answer"),
    ],
)
def test_words_say_what_to_do(text: str, intent: str) -> None:
    assert intent_of(text) == intent


def test_a_chat_describes(client: openai.OpenAI, root: Path, shipped_model: MobileMultiModalLLM) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=messages("What's in this image?", address(root)))  # type: ignore[call-overload]
    openai_schemas.ChatResponse.model_validate(answer.to_dict(), strict=True)
    caption = shipped_model.generate_caption(picture(root))
    assert answer.choices[0].message.content == caption.text
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == len(caption.tokens)


def test_a_chat_reads(client: openai.OpenAI, root: Path, shipped_model: MobileMultiModalLLM) -> None:
    asked = messages("Read the text", address(root, "invoice.png"))
    answer = client.chat.completions.create(model=MODEL, messages=asked)  # type: ignore[call-overload]
    assert answer.choices[0].message.content == shipped_model.extract_text(picture(root, "invoice.png")).text


def test_a_chat_answers_the_last_question_about_the_picture(
    client: openai.OpenAI, root: Path, shipped_model: MobileMultiModalLLM
) -> None:
    asked = [
        *messages("Is there an animal?", address(root)),
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "Is it a dog?"},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=asked)  # type: ignore[call-overload]
    expected = shipped_model.answer_question(picture(root), "Is it a dog?")
    assert answer.choices[0].message.content == expected.text


def test_a_chat_keeps_to_max_tokens(client: openai.OpenAI, root: Path) -> None:
    short = client.chat.completions.create(model=MODEL, messages=messages("", address(root)), max_tokens=2)  # type: ignore[call-overload]
    assert short.choices[0].finish_reason == "length"
    assert short.usage.completion_tokens == 2
    long = client.chat.completions.create(model=MODEL, messages=messages("", address(root)), max_tokens=4096)  # type: ignore[call-overload]
    assert long.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("text", ["Describe it", "Is there an animal?"])
def test_a_chat_is_streamed(client: openai.OpenAI, root: Path, text: str) -> None:
    asked = messages(text, address(root, "boats.jpg"))
    chunks = list(
        client.chat.completions.create(  # type: ignore[call-overload]
            model=MODEL, messages=asked, stream=True, stream_options={"include_usage": True}
        )
    )
    whole = client.chat.completions.create(model=MODEL, messages=asked, temperature=0, seed=1)  # type: ignore[call-overload]
    words = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage is not None
    assert chunks[-2].choices[0].finish_reason == "stop"
    if text == "Describe it":
        assert len([word for word in words if word]) > 3
        assert "".join(words).strip()
    else:
        assert "".join(words) == whole.choices[0].message.content


@pytest.mark.parametrize("asked", ["a cat", ["a cat", "a boat", "image"]])
@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_embeddings(
    client: openai.OpenAI,
    root: Path,
    shipped_model: MobileMultiModalLLM,
    asked: str | list[str],
    encoding: str | None,
) -> None:
    inputs = [address(root) if entry == "image" else entry for entry in ([asked] if isinstance(asked, str) else asked)]
    options = {} if encoding is None else {"encoding_format": encoding}
    answer = client.embeddings.create(  # type: ignore[call-overload]
        model=MODEL, input=inputs[0] if isinstance(asked, str) else inputs, **options
    )
    expected = [shipped_model.embed_text(entry) for entry in inputs[:2]]
    if len(inputs) > 2:
        expected.append(shipped_model.embed_image(picture(root)))
    for item, vector in zip(answer.data, expected, strict=True):
        if encoding == "base64":
            assert pybase64.b64decode(item.embedding) == vector.astype("<f4").tobytes()
        else:
            assert item.embedding == pytest.approx(vector.tolist(), abs=1e-6)


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "mobile-multimodal"
    with pytest.raises(openai.NotFoundError, match="model 'gpt-5' is not served here"):
        client.models.retrieve("gpt-5")


def test_what_is_not_there_fails_as_openai_s_users_expect(client: openai.OpenAI, root: Path) -> None:
    url = address(root)
    with pytest.raises(openai.NotFoundError, match="model 'gpt-5' is not served here"):
        client.chat.completions.create(model="gpt-5", messages=messages("", url))  # type: ignore[call-overload]
    with pytest.raises(openai.BadRequestError, match="unknown field 'tools'"):
        client.chat.completions.create(model=MODEL, messages=messages("", url), tools=[])  # type: ignore[call-overload]
    with pytest.raises(openai.BadRequestError, match="the messages have 0 pictures, expected one"):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
    both = messages("", url) + messages("", url)
    with pytest.raises(openai.BadRequestError, match="the messages have 2 pictures, expected one"):
        client.chat.completions.create(model=MODEL, messages=both)  # type: ignore[call-overload]
    with pytest.raises(openai.BadRequestError, match="image is a URL, and this server fetches none"):
        client.chat.completions.create(model=MODEL, messages=messages("", "https://example.org/a.jpg"))  # type: ignore[call-overload]
    with pytest.raises(openai.BadRequestError, match="dimensions is 3, expected"):
        client.embeddings.create(model=MODEL, input="a cat", dimensions=3)
